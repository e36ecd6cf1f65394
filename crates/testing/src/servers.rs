//! What must hold where several servers share a store.

use std::{collections::BTreeSet, time::SystemTime};

use futures_util::StreamExt;
use runloom_engine::{StateUpdate, ThreadId, Value, stream::Payload, value};
use runloom_store::{CancelAction, Expiry, Job, NewThread, PageRequest, RunFilter, RunStatus, SweepKind};

use crate::machine::{Machine, Shared, TTL, World, log_of, request, soon, thread};
use runloom_core::{
    Body, CronRequest, ReadOptions, Reason, Record, RunRequest, RunSpec, Start, StateUpdateRequest, Target, ThreadPart,
};

// G37
pub async fn a_server_that_starts_leaves_the_runs_of_another_alone(shared: &Shared) {
    let world = World::default();
    let a = Machine::start(shared, &world).await;
    let thread = thread(&a).await;
    let run = a.create(thread, "g").await;
    world.until(|world| world.count("two:g") == 1).await;
    let b = Machine::start(shared, &world).await;
    let other = Machine::start(shared, &world).await;
    // Two leases go by, in which each of them looks for work more than once.
    tokio::time::sleep(TTL * 2).await;
    world.open("g");
    let end = soon(b.session.wait_run(run)).await.unwrap();
    assert_eq!((end.end.status, end.run.attempt), (RunStatus::Succeeded, 1));
    assert_eq!((world.count("one:g"), world.count("two:g")), (1, 1));
    assert_eq!(log_of(&other, thread).await, value!(["one", "two"]));
}

// G13, G37
pub async fn the_runs_of_a_killed_server_go_on_from_their_last_checkpoint(shared: &Shared) {
    let world = World::default();
    let a = Machine::start(shared, &world).await;
    let thread = thread(&a).await;
    let run = a.create(thread, "g").await;
    world.until(|world| world.count("two:g") == 1).await;
    // Started now, so that it is A that has begun the run.
    let b = Machine::start(shared, &world).await;
    a.kill().await;
    let killed = SystemTime::now();
    world.until(|world| world.count("two:g") == 2).await;
    let took = killed.elapsed().unwrap();
    assert!(took < TTL * 2, "it took {took:?}");
    world.open("g");
    let end = soon(b.session.wait_run(run)).await.unwrap();
    assert_eq!((end.end.status, end.run.attempt), (RunStatus::Succeeded, 2));
    assert_eq!(world.count("one:g"), 1, "what was on disk is not run again");
    assert_eq!(log_of(&b, thread).await, value!(["one", "two"]));
}

// G37
pub async fn what_a_server_writes_past_its_lease_is_refused(shared: &Shared) {
    let world = World::default();
    let mut a = Machine::start(shared, &world).await;
    let thread = thread(&a).await;
    let run = a.create(thread, "g").await;
    world.until(|world| world.count("two:g") == 1).await;
    // Started now, so that it is A that has begun the run.
    let b = Machine::start(shared, &world).await;
    a.pause().await;
    world.until(|world| world.count("two:g") == 2).await;
    // Both could end it now. A finds that it lost the run, whatever it does first.
    a.resume();
    world.open("g");
    let end = soon(b.session.wait_run(run)).await.unwrap();
    assert_eq!((end.end.status, end.run.attempt), (RunStatus::Succeeded, 2));
    assert_eq!(log_of(&a, thread).await, value!(["one", "two"]));
    let records: Vec<_> =
        soon(b.session.read_run(run, ReadOptions::default()).await.unwrap().collect::<Vec<_>>()).await;
    let ends = records.iter().filter(|record| matches!(record.as_ref().unwrap().body, Body::End(_))).count();
    assert_eq!(ends, 1);
    // And A is a server like any other again.
    world.open("h");
    let next = a.create(thread, "h").await;
    assert_eq!(soon(b.session.wait_run(next)).await.unwrap().end.status, RunStatus::Succeeded);
}

// G23, G24, G38
pub async fn a_run_is_cancelled_from_any_server(shared: &Shared) {
    let world = World::default();
    let a = Machine::start(shared, &world).await;
    let b = Machine::start(shared, &world).await;
    let thread = thread(&a).await;
    let run = a.create(thread, "g").await;
    world.until(|world| world.count("two:g") == 1).await;
    let ended = soon(b.session.cancel_run(run, CancelAction::Interrupt, "B".into(), true)).await.unwrap();
    assert_eq!((ended.status, ended.attempt), (RunStatus::Cancelled, 1));
    let run = a.create(thread, "h").await;
    world.until(|world| world.count("two:h") == 1).await;
    let ended = soon(b.session.cancel_run(run, CancelAction::Rollback, "B".into(), true)).await.unwrap();
    assert_eq!(ended.status, RunStatus::Cancelled);
    assert_eq!(log_of(&b, thread).await, value!(["one"]), "what the rolled back run did is gone");
}

// G38
pub async fn a_run_is_read_live_from_any_server(shared: &Shared) {
    let world = World::default();
    let a = Machine::start(shared, &world).await;
    let b = Machine::start(shared, &world).await;
    let thread = thread(&a).await;
    let mut follow = b.session.read_thread(thread, None, ReadOptions::default(), false).await.unwrap();
    let run = a.create(thread, "g").await;
    world.until(|world| world.count("two:g") == 1).await;
    let mut reader = b.session.read_run(run, ReadOptions::default()).await.unwrap();
    // What `one` did is read while `two` still waits.
    let is_values = |record: &Record| match &record.body {
        Body::Part(Payload::Values(values)) => values.snapshot.get("log") == Some(&value!(["one"])),
        _ => false,
    };
    while !is_values(&soon(reader.next()).await.unwrap().unwrap()) {}
    world.open("g");
    let rest: Vec<_> = soon(reader.collect::<Vec<_>>()).await;
    assert!(matches!(rest.last().unwrap().as_ref().unwrap().body, Body::End(_)));
    loop {
        let (part, _) = soon(follow.next()).await.unwrap().unwrap();
        if let ThreadPart::Record(record) = part
            && matches!(record.body, Body::End(_))
        {
            assert_eq!(record.run_id, run);
            break;
        }
    }
}

// G38
pub async fn a_graph_registered_on_one_server_runs_on_another(shared: &Shared) {
    let world = World::default();
    let a = Machine::start(shared, &world).await;
    let b = Machine::start(shared, &world).await;
    let document = "runloom: v1\nname: hello\nstate: { n: { reducer: add } }\nnodes:\n  a: { update: { n: 1 } }\nedges:\n  - { from: START, to: a }\n";
    a.session.register_graph(document, false).await.unwrap();
    let request = RunRequest {
        target: Target::Graph("hello".to_owned()),
        spec: RunSpec::new(Start::Input(value!({"n": 1}))),
        ..RunRequest::default()
    };
    let run = b.session.create_run(request.clone()).await.unwrap().0.id;
    let end = soon(a.session.wait_run(run)).await.unwrap().end;
    assert_eq!((end.status, end.values.unwrap().get("n").cloned()), (RunStatus::Succeeded, Some(Value::Int(2))));
    b.session.delete_graph("hello").await.unwrap();
    let refused = async {
        while a.session.get_graph("hello").await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    soon(refused).await;
}

// G31, G32, G38
pub async fn a_cron_fires_once_and_a_webhook_is_posted_once(shared: &Shared) {
    let world = World::default();
    world.open("g");
    let a = Machine::start(shared, &world).await;
    let b = Machine::start(shared, &world).await;
    let third = Machine::start(shared, &world).await;
    let mut run = RunRequest { thread_id: None, ..request(ThreadId(uuid::Uuid::nil()), "g") };
    run.spec.delivery.webhook = Some("https://hook.test".to_owned());
    let cron = CronRequest { schedule: "* * * * * *".to_owned(), run, ..CronRequest::default() };
    let cron = a.session.create_cron(cron).await.unwrap();
    world.until(|world| world.posted.lock().len() >= 3).await;
    third.session.delete_cron(cron.id).await.unwrap();
    let runs = b.session.list_runs(RunFilter::default(), PageRequest::first(100)).await.unwrap().items;
    let made: BTreeSet<_> =
        runs.iter().map(|run| run.created_at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()).collect();
    assert_eq!(made.len(), runs.len(), "a second fired twice");
    world.until(|world| world.posted.lock().len() >= runs.len()).await;
    let posted = world.posted.lock().clone();
    assert_eq!(posted.iter().collect::<BTreeSet<_>>().len(), posted.len(), "a webhook was posted twice");
}

// G38
pub async fn a_full_server_leaves_runs_to_others(shared: &Shared) {
    let world = World::default();
    let a = Machine::start_with(shared, &world, |options| options.max_running = 1).await;
    let mut runs = Vec::new();
    for at in 0..4 {
        runs.push(a.create(thread(&a).await, &format!("g{at}")).await);
    }
    world.until(|world| world.begun.lock().iter().any(|begun| begun.starts_with("two:"))).await;
    let b = Machine::start(shared, &world).await;
    // None of them ends before all have begun.
    world.until(|world| (0..4).all(|at| world.count(&format!("two:g{at}")) == 1)).await;
    (0..4).for_each(|at| world.open(&format!("g{at}")));
    for run in runs {
        let end = soon(b.session.wait_run(run)).await.unwrap();
        assert_eq!((end.end.status, end.run.attempt), (RunStatus::Succeeded, 1));
    }
}

// G22
pub async fn runs_of_a_thread_wait_for_one_another_on_all_servers(shared: &Shared) {
    let world = World::default();
    let a = Machine::start(shared, &world).await;
    let b = Machine::start(shared, &world).await;
    let thread = thread(&a).await;
    let mut runs = Vec::new();
    for (at, machine) in [&a, &b, &a, &b].into_iter().enumerate() {
        runs.push(machine.create(thread, &format!("g{at}")).await);
    }
    for (at, run) in runs.into_iter().enumerate() {
        world.until(|world| world.count(&format!("two:g{at}")) == 1).await;
        assert_eq!(world.count(&format!("one:g{}", at + 1)), 0, "the next one waits");
        world.open(&format!("g{at}"));
        assert_eq!(soon(b.session.wait_run(run)).await.unwrap().end.status, RunStatus::Succeeded);
    }
    assert_eq!(log_of(&a, thread).await, value!(["one", "two", "one", "two", "one", "two", "one", "two"]));
}

// G4, G9
pub async fn a_run_is_read_whole_however_often_its_server_changes(shared: &Shared) {
    let world = World::default();
    let a = Machine::start(shared, &world).await;
    let thread = thread(&a).await;
    let run = a.create(thread, "g").await;
    world.until(|world| world.count("two:g") == 1).await;
    // Started now, so that it is A that has begun the run.
    let b = Machine::start(shared, &world).await;
    let c = Machine::start(shared, &world).await;
    let readers: Vec<_> = (0..10).flat_map(|_| [&b, &c]).map(|machine| machine.session.clone()).collect();
    let readers = readers.into_iter().map(|session| {
        tokio::spawn(async move {
            session.read_run(run, ReadOptions::default()).await.unwrap().map(Result::unwrap).collect::<Vec<_>>().await
        })
    });
    let readers: Vec<_> = readers.collect();
    a.kill().await;
    world.until(|world| world.count("two:g") == 2).await;
    world.open("g");
    let all = |records: Vec<_>| records.into_iter().map(|record: std::sync::Arc<Record>| (record.seq, record.attempt));
    let stored =
        soon(soon(b.session.wait_run(run)).await.map(|_| b.session.read_run(run, ReadOptions::default())).unwrap());
    let stored: Vec<_> = stored.await.unwrap().map(Result::unwrap).collect().await;
    let stored: Vec<_> = all(stored).collect();
    assert!(stored.is_sorted() && stored.last().unwrap().1 == 2, "{stored:?}");
    for reader in readers {
        assert_eq!(all(soon(reader).await.unwrap()).collect::<Vec<_>>(), stored);
    }
}

// G38
pub async fn of_two_updates_that_expect_one_checkpoint_one_is_applied(shared: &Shared) {
    let world = World::default();
    let a = Machine::start(shared, &world).await;
    let b = Machine::start(shared, &world).await;
    let thread = thread(&a).await;
    let update = |expected| StateUpdateRequest {
        thread,
        expected_checkpoint_id: expected,
        graph: Some("steps".to_owned()),
        updates: vec![StateUpdate { values: Some(value!({"log": ["by hand"]})), as_node: Some("one".to_owned()) }],
        checkpoint_id: None,
        namespace: String::new(),
    };
    let mut latest = a.session.update_state(update(None)).await.unwrap().id;
    for round in 2..=20 {
        let (first, second) =
            tokio::join!(a.session.update_state(update(latest)), b.session.update_state(update(latest)));
        let made = match (first, second) {
            (Ok(made), Err(error)) | (Err(error), Ok(made)) => {
                assert_eq!(error.reason, Reason::CheckpointChanged, "{error}");
                made
            }
            both => panic!("one is applied, not {both:?}"),
        };
        latest = made.id;
        assert_eq!(log_of(&b, thread).await.as_list().unwrap().len(), round);
    }
}

pub async fn one_server_sweeps_until_it_goes(shared: &Shared) {
    let world = World::default();
    let expired =
        || NewThread { expiry: Some(Expiry { at: SystemTime::now(), keep_latest: false }), ..NewThread::default() };
    let gone = async |machine: &Machine, thread: ThreadId| {
        let mut hints = machine.session.core().store().watch(runloom_store::Topic::Thread(thread));
        while machine.session.get_thread(thread).await.is_ok() {
            drop(tokio::time::timeout(TTL, hints.changed()).await);
        }
    };
    let a = Machine::start(shared, &world).await;
    let thread = a.session.create_thread(expired()).await.unwrap().id;
    soon(gone(&a, thread)).await;
    let b = Machine::start(shared, &world).await;
    let sweep = Job::Sweep(SweepKind::Threads);
    let (store, server) = (b.session.core().store().clone(), b.session.core().server());
    assert!(!b.on(async move { store.claim(server, sweep).await.unwrap() }).await, "the sweep is A's");
    a.kill().await;
    let thread = b.session.create_thread(expired()).await.unwrap().id;
    soon(gone(&b, thread)).await;
}
