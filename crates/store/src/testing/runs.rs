//! Runs, on every store.

use std::time::Duration;

use crate::{
    AssistantId, BegunAt, CancelAction, Canceller, Direction, Error, Multitask, NewRun, NewThread, PageRequest,
    RequestKey, RunEnd, RunFilter, RunStatus, RunThread, Swept, TenantId, What,
};
use runloom_engine::{Clock, RunId, ThreadId, value};
use uuid::Uuid;

use super::{Fixture, Line, new_run, object, record};

fn key(id: &str, hash: &[u8]) -> Option<RequestKey> {
    Some(RequestKey { id: id.into(), hash: hash.into() })
}

pub async fn a_run_keeps_all_that_it_was_made_with(f: Fixture) {
    let thread = f.thread().await;
    let new = NewRun {
        id: Some(RunId(Uuid::from_u128(5))),
        assistant: Some(AssistantId(Uuid::from_u128(6))),
        multitask: Multitask::Rollback,
        start_at: Some(f.clock.now() + Duration::from_secs(5)),
        request: value!({"input": {"n": 18446744073709551615u64, "f": 1.0}, "modes": ["values"]}),
        request_key: key("r", b"h"),
        stateless: true,
        ..new_run(thread)
    };
    let created = f.store.create_run(&TenantId::default(), new.clone()).await.unwrap();
    let run = created.run;
    assert!(created.new);
    assert_eq!(
        (run.id, run.thread, run.status, run.attempt),
        (RunId(Uuid::from_u128(5)), thread, RunStatus::Pending, 0)
    );
    assert_eq!((&run.tenant, run.assistant, run.multitask), (&TenantId::default(), new.assistant, new.multitask));
    assert_eq!((&*run.graph, &*run.revision), ("graph", "r1"));
    assert_eq!((run.start_at, &run.request, &run.request_key), (new.start_at, &new.request, &new.request_key));
    assert_eq!((run.created_at, run.stateless), (f.clock.now(), true));
    assert_eq!(f.store.get_run(&TenantId::default(), run.id).await.unwrap(), run);
    let taken = f.store.create_run(&TenantId::default(), NewRun { request_key: None, ..new }).await.unwrap_err();
    assert!(matches!(taken, Error::AlreadyExists { what: What::Run, .. }), "{taken}");
}

pub async fn a_run_makes_its_thread_or_asks_for_it(f: Fixture) {
    let nowhere = ThreadId(Uuid::from_u128(1));
    let missing = f.store.create_run(&TenantId::default(), new_run(nowhere)).await.unwrap_err();
    assert!(matches!(missing, Error::NotFound { what: What::Thread, .. }), "{missing}");

    let thread = NewThread { id: Some(nowhere), metadata: object(value!({"a": 1})), ..Default::default() };
    let new = NewRun { thread: RunThread::Create(thread), ..new_run(nowhere) };
    let first = f.store.create_run(&TenantId::default(), new.clone()).await.unwrap().run;
    assert_eq!(first.thread, nowhere);
    assert_eq!(f.store.get_thread(&TenantId::default(), nowhere).await.unwrap().metadata, object(value!({"a": 1})));
    let second = f.store.create_run(&TenantId::default(), new).await.unwrap().run;
    assert_eq!(second.thread, nowhere, "a thread that is there is used");

    let anywhere = NewRun { thread: RunThread::Create(NewThread::default()), ..new_run(nowhere) };
    let made = f.store.create_run(&TenantId::default(), anywhere).await.unwrap().run.thread;
    assert!(f.store.get_thread(&TenantId::default(), made).await.is_ok());
}

// G21
pub async fn the_same_request_is_the_same_run(f: Fixture) {
    let thread = f.thread().await;
    let ask = |id, hash| NewRun { request_key: key(id, hash), ..new_run(thread) };
    let first = f.store.create_run(&TenantId::default(), ask("r", b"one")).await.unwrap();
    let again = f.store.create_run(&TenantId::default(), ask("r", b"one")).await.unwrap();
    assert!(first.new && !again.new);
    assert_eq!(first.run, again.run);
    let other = f.store.create_run(&TenantId::default(), ask("r", b"two")).await.unwrap_err();
    assert_eq!(other, Error::RequestReused { request_id: "r".into(), run: first.run.id });
    assert!(f.store.create_run(&TenantId::default(), new_run(thread)).await.unwrap().new, "no id, no repetition");

    let find = async |id| f.store.find_request(&TenantId::default(), id).await.unwrap().map(|run| run.id);
    assert_eq!(find("r").await, Some(first.run.id));
    assert_eq!(find("s").await, None);

    f.finish(first.run.current(), RunStatus::Cancelled).await;
    assert!(
        !f.store.create_run(&TenantId::default(), ask("r", b"one")).await.unwrap().new,
        "a run that is over counts too"
    );
    f.store.delete_run(&TenantId::default(), first.run.id).await.unwrap();
    assert!(
        f.store.create_run(&TenantId::default(), ask("r", b"two")).await.unwrap().new,
        "one that is deleted does not"
    );
}

pub async fn reject_is_decided_where_the_run_is_made(f: Fixture) {
    let thread = f.thread().await;
    let reject = NewRun { multitask: Multitask::Reject, ..new_run(thread) };
    let later = NewRun { start_at: Some(f.clock.now() + Duration::from_secs(9)), ..new_run(thread) };
    f.store.create_run(&TenantId::default(), later).await.unwrap();
    let first =
        f.store.create_run(&TenantId::default(), reject.clone()).await.expect("a run for later is not in the way").run;
    let busy = Error::Busy { thread, run: first.id };
    assert_eq!(
        f.store.create_run(&TenantId::default(), reject.clone()).await.unwrap_err(),
        busy,
        "a pending run is in the way"
    );
    let begun = f.begin(first.current()).await;
    assert_eq!(
        f.store.create_run(&TenantId::default(), reject.clone()).await.unwrap_err(),
        busy,
        "a running run is in the way"
    );
    f.finish(begun.attempt, RunStatus::Failed).await;
    f.store.create_run(&TenantId::default(), reject).await.unwrap();
}

pub async fn cancelling_is_asked_once_and_only_grows(f: Fixture) {
    let run = f.run(f.thread().await).await;
    let first =
        f.store.request_cancel(&TenantId::default(), run.id, CancelAction::Interrupt, "ada".into()).await.unwrap();
    let at = f.clock.now();
    f.clock.advance(Duration::from_secs(1));
    let asked = first.cancel.unwrap();
    assert_eq!((asked.action, &asked.by, asked.at), (CancelAction::Interrupt, &"ada".into(), at));
    let second = f
        .store
        .request_cancel(&TenantId::default(), run.id, CancelAction::Rollback, "bob".into())
        .await
        .unwrap()
        .cancel
        .unwrap();
    assert_eq!((second.action, &second.by, second.at), (CancelAction::Rollback, &"ada".into(), at));
    let third = f
        .store
        .request_cancel(&TenantId::default(), run.id, CancelAction::Interrupt, "bob".into())
        .await
        .unwrap()
        .cancel
        .unwrap();
    assert_eq!(third, second);
    assert_eq!(f.store.get_run(&TenantId::default(), run.id).await.unwrap().cancel, Some(third));
    let ended = f.finish(run.current(), RunStatus::Cancelled).await;
    assert!(ended.cancel.is_some());
    let other = f.run(f.thread().await).await;
    f.finish(other.current(), RunStatus::Failed).await;
    let late =
        f.store.request_cancel(&TenantId::default(), other.id, CancelAction::Rollback, "ada".into()).await.unwrap();
    assert_eq!((late.cancel, late.status), (None, RunStatus::Failed));
    for by in [Canceller::Readers, Canceller::NewerRun(other.id), Canceller::ThreadDeleted, "a caller".into()] {
        let run = f.run(f.thread().await).await;
        f.store.request_cancel(&TenantId::default(), run.id, CancelAction::Interrupt, by.clone()).await.unwrap();
        assert_eq!(f.store.get_run(&TenantId::default(), run.id).await.unwrap().cancel.unwrap().by, by);
    }
}

// G22
pub async fn pending_runs_come_in_the_order_of_making_when_their_time_has_come(f: Fixture) {
    let thread = f.thread().await;
    let now = f.clock.now();
    let at = |seconds| NewRun { start_at: Some(now + Duration::from_secs(seconds)), ..new_run(thread) };
    let late = f.store.create_run(&TenantId::default(), at(20)).await.unwrap().run;
    let soon = f.store.create_run(&TenantId::default(), at(10)).await.unwrap().run;
    let first = f.run(thread).await;
    let second = f.run(thread).await;
    let next = async || f.store.next_pending(&TenantId::default(), thread).await.unwrap().map(|run| run.id);
    let scheduled =
        async || -> Vec<RunId> { f.store.scheduled_runs(10).await.unwrap().into_iter().map(|run| run.id).collect() };
    assert_eq!(next().await, Some(first.id));
    assert_eq!(scheduled().await, [soon.id, late.id]);
    assert_eq!(f.store.scheduled_runs(1).await.unwrap(), std::slice::from_ref(&soon));
    let begun = f.begin(first.current()).await;
    assert_eq!(next().await, Some(second.id));
    f.clock.advance(Duration::from_secs(10));
    assert_eq!(next().await, Some(soon.id), "its time has come, and it was made before");
    f.clock.advance(Duration::from_secs(10));
    assert_eq!(next().await, Some(late.id));
    for run in [&second, &soon] {
        f.finish(run.current(), RunStatus::Cancelled).await;
    }
    assert_eq!((scheduled().await, next().await), (vec![late.id], Some(late.id)));
    f.finish(late.current(), RunStatus::Cancelled).await;
    assert_eq!(next().await, None);
    f.finish(begun.attempt, RunStatus::Succeeded).await;
    assert_eq!(f.store.next_pending(&TenantId::default(), f.thread().await).await.unwrap(), None);
}

pub async fn begun_runs_are_read_from_a_place_on(f: Fixture) {
    let tenant = TenantId::default();
    let thread = f.thread().await;
    let mut ids = Vec::new();
    let waiting: Vec<_> = [f.run(thread).await, f.run(thread).await, f.run(thread).await].into();
    // Begun in another order than they were made, and one that ends without having begun.
    for at in [1, 0] {
        f.clock.advance(Duration::from_secs(1));
        let attempt = f.begin(waiting[at].current()).await.attempt;
        ids.push(attempt.run);
        f.finish(attempt, RunStatus::Succeeded).await;
    }
    f.clock.advance(Duration::from_secs(1));
    f.finish(waiting[2].current(), RunStatus::Cancelled).await;
    ids.push(waiting[2].id);
    let last = f.run(thread).await;
    let read = async |from, order, limit| {
        let runs = f.store.begun_runs(&tenant, thread, from, order, limit).await.unwrap();
        runs.iter().map(|run| (run.id, BegunAt::of(run))).collect::<Vec<_>>()
    };
    let all = read(None, Direction::Ascending, 10).await;
    assert_eq!(all.iter().map(|(id, _)| *id).collect::<Vec<_>>(), ids, "a run that waits is not among them");
    assert_eq!(read(all[0].1, Direction::Ascending, 1).await, all[1..2]);
    assert_eq!(read(all[2].1, Direction::Ascending, 9).await, []);
    assert_eq!(read(all[2].1, Direction::Descending, 1).await, all[1..2], "the one before");
    f.clock.advance(Duration::from_secs(1));
    f.begin(last.current()).await;
    assert_eq!(read(all[2].1, Direction::Ascending, 9).await[0].0, last.id);
}

pub async fn runs_are_listed_by_filter_and_page(f: Fixture) {
    let (a, b) = (f.thread().await, f.thread().await);
    let assistant = AssistantId(Uuid::from_u128(9));
    let mut runs = Vec::new();
    for i in 0..7 {
        let new = NewRun {
            assistant: (i % 2 == 0).then_some(assistant),
            graph: if i < 5 { "g" } else { "h" }.into(),
            ..new_run(if i < 4 { a } else { b })
        };
        runs.push(f.store.create_run(&TenantId::default(), new).await.unwrap().run);
    }
    f.begin(runs[0].current()).await;
    f.finish(runs[1].current(), RunStatus::Failed).await;
    let which = async |filter: RunFilter| -> Vec<usize> {
        let count = f.store.count_runs(&TenantId::default(), filter.clone()).await.unwrap();
        let page = f
            .store
            .list_runs(&TenantId::default(), filter, Direction::Ascending, PageRequest::default())
            .await
            .unwrap();
        assert_eq!((count, page.next), (page.items.len() as u64, None));
        page.items.iter().map(|run| runs.iter().position(|known| known.id == run.id).unwrap()).collect()
    };
    let all = RunFilter::default;
    assert_eq!(which(all()).await, [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(which(RunFilter { thread: Some(b), ..all() }).await, [4, 5, 6]);
    assert_eq!(which(RunFilter { status: RunStatus::UNFINISHED.into(), ..all() }).await, [0, 2, 3, 4, 5, 6]);
    assert_eq!(which(RunFilter { status: vec![RunStatus::Failed, RunStatus::Running], ..all() }).await, [0, 1]);
    assert_eq!(which(RunFilter { assistant: Some(assistant), graph: Some("h".into()), ..all() }).await, [6]);
    assert_eq!(which(RunFilter { thread: Some(ThreadId(Uuid::nil())), ..all() }).await, [0; 0]);

    for (order, expected) in [(Direction::Ascending, [0, 1, 2, 3]), (Direction::Descending, [3, 2, 1, 0])] {
        let list = async |page| {
            f.store.list_runs(&TenantId::default(), RunFilter { thread: Some(a), ..all() }, order, page).await.unwrap()
        };
        let first = list(PageRequest::first(3)).await;
        let second = list(PageRequest::after(3, first.next.unwrap())).await;
        assert_eq!(second.next, None);
        let ids: Vec<_> = first.items.iter().chain(&second.items).map(|run| run.id).collect();
        assert_eq!(ids, expected.map(|i| runs[i].id));
        let skipped = list(PageRequest { size: 2, skip: 1, token: None }).await;
        assert_eq!(skipped.items[0].id, runs[expected[1]].id);
    }
}

pub async fn a_sweep_takes_what_has_expired(f: Fixture) {
    let now = f.clock.now();
    let stateless = |stateless| NewRun {
        thread: RunThread::Create(NewThread { stateless, ..Default::default() }),
        stateless,
        ..new_run(ThreadId(Uuid::nil()))
    };
    let mut runs = Vec::new();
    for (i, kept) in [false, false, false, true].into_iter().enumerate() {
        let run = f.store.create_run(&TenantId::default(), stateless(!kept)).await.unwrap().run;
        let attempt = f.begin(run.current()).await.attempt;
        f.put(&Line::new(&f, run.thread, "").set("x", value!(1)), Some(attempt)).await;
        let end = RunEnd {
            status: RunStatus::Succeeded,
            expires_at: Some(now + Duration::from_secs(i as u64)),
            records: vec![record(1, "end")],
            ..Default::default()
        };
        f.store.finish_run(attempt, end).await.unwrap();
        runs.push(run);
    }
    let unfinished = f.store.create_run(&TenantId::default(), stateless(true)).await.unwrap().run;
    let there = async || {
        let mut there = Vec::new();
        for (i, run) in runs.iter().enumerate() {
            let run_there = f.store.get_run(&TenantId::default(), run.id).await.is_ok();
            assert_eq!(f.store.get_thread(&TenantId::default(), run.thread).await.is_ok(), run_there);
            there.extend(run_there.then_some(i));
        }
        there
    };
    let later = now + Duration::from_secs(1);
    assert_eq!(f.store.sweep(later, 1).await.unwrap(), Swept { runs: 1, cached: 0 });
    assert_eq!(there().await, [1, 2, 3], "the first to expire goes first");
    assert_eq!(f.store.sweep(later, 10).await.unwrap(), Swept { runs: 1, cached: 0 });
    assert_eq!(f.store.sweep(later, 10).await.unwrap(), Swept::default());
    assert_eq!(there().await, [2, 3]);
    f.store.sweep(now + Duration::from_secs(99), 10).await.unwrap();
    assert_eq!(there().await, [3], "what is not stateless stays");
    assert!(f.store.get_run(&TenantId::default(), unfinished.id).await.is_ok());
}

pub async fn a_run_is_deleted_with_its_log(f: Fixture) {
    let thread = f.thread().await;
    let attempt = f.running(thread).await.attempt;
    let line = Line::new(&f, thread, "").set("x", value!(1));
    f.put(&line, Some(attempt)).await;
    f.store.append_log(attempt, vec![record(1, "a")]).await.unwrap();
    assert!(
        matches!(f.store.delete_run(&TenantId::default(), attempt.run).await, Err(Error::RunState { .. })),
        "it is running"
    );
    f.finish(attempt, RunStatus::Succeeded).await;
    f.store.delete_run(&TenantId::default(), attempt.run).await.unwrap();
    let gone = Error::NotFound { what: What::Run, id: attempt.run.to_string() };
    assert_eq!(f.store.get_run(&TenantId::default(), attempt.run).await.unwrap_err(), gone);
    assert_eq!(f.store.read_log(&TenantId::default(), attempt.run, 1, Default::default()).await.unwrap_err(), gone);
    assert_eq!(f.store.log_bounds(&TenantId::default(), attempt.run).await.unwrap_err(), gone);
    assert_eq!(f.store.delete_run(&TenantId::default(), attempt.run).await.unwrap_err(), gone);
    let saved = f.get(thread, "", line.id).await.unwrap();
    assert_eq!(saved.checkpoint.run_id, Some(attempt.run), "its checkpoints stay, and say whose they are");
    let next = f.run(thread).await;
    assert_eq!(f.begin(next.current()).await.first_seq, 1);
}

pub async fn the_events_of_a_thread_are_counted_whatever_becomes_of_its_runs(f: Fixture) {
    let thread = f.thread().await;
    let count = async || f.store.get_thread(&TenantId::default(), thread).await.unwrap().events;
    let end = |status, events| RunEnd { status, events, ..RunEnd::default() };
    assert_eq!(count().await, Some(0));
    let first = f.running(thread).await;
    assert_eq!((first.run.events_before, count().await), (Some(0), Some(0)));
    let ended = f.store.finish_run(first.attempt, end(RunStatus::Succeeded, 7)).await.unwrap();
    assert_eq!((ended.events_before, count().await), (Some(0), Some(7)));
    f.store.delete_run(&TenantId::default(), first.run.id).await.unwrap();
    let pending = f.run(thread).await;
    assert_eq!(pending.events_before, None);
    f.store.finish_run(pending.current(), end(RunStatus::Cancelled, 5)).await.unwrap();
    assert_eq!(count().await, Some(7), "a run that has not begun has none");
    let second = f.running(thread).await;
    assert_eq!(second.run.events_before, Some(7));
    f.store.release_run(second.attempt, None).await.unwrap();
    let again = f.begin(f.store.get_run(&TenantId::default(), second.run.id).await.unwrap().current()).await;
    assert_eq!(again.run.events_before, Some(7), "later attempts do not change it");
    f.store.finish_run(again.attempt, end(RunStatus::Failed, 3)).await.unwrap();
    assert_eq!(count().await, Some(10));
    let stored = f.store.get_run(&TenantId::default(), second.run.id).await.unwrap();
    assert_eq!(stored.events_before, Some(7));
    let copy = f.store.copy_thread(&TenantId::default(), thread, None).await.unwrap();
    assert_eq!(copy.events, Some(0), "a copy has no runs");
}
