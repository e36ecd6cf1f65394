//! Runs on a thread: their order, their end, what their readers see, what is left after the core is gone.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{StreamExt, stream::BoxStream};
use runloom_core::{
    Body, Caller, Cancellation, CommandSpec, Core, CoreOptions, ReadOptions, Reason, Record, Recording, RunOptions,
    RunRequest, RunSpec, Session, Start, Target, ThreadPart,
};
use runloom_engine::{
    model::{ChatModel, ChatRequest, Delta, ModelError, ModelInfo, Usage},
    stream::{Mode, Modes, Payload},
    *,
};
use runloom_store::{
    CancelAction, Canceller, Multitask, NewThread, PageRequest, RunFilter, RunStatus, Store, TenantId, ThreadStatus,
};
use runloom_store_memory::MemoryStore;
use runloom_store_sqlite::SqliteStore;
use tokio::sync::{Notify, Semaphore};

/// Gates that nodes wait at, by the text they are given; and who has come to one.
#[derive(Default)]
struct Gates {
    open: Mutex<HashMap<String, Arc<Semaphore>>>,
    came: Notify,
    seen: Mutex<Vec<String>>,
}

impl Gates {
    fn gate(&self, name: &str) -> Arc<Semaphore> {
        self.open.lock().unwrap().entry(name.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(0))).clone()
    }

    async fn pass(&self, name: &str) {
        self.seen.lock().unwrap().push(name.to_owned());
        self.came.notify_waiters();
        self.gate(name).acquire().await.unwrap().forget();
    }

    /// Waits until a node has come to a gate.
    async fn arrived(&self, name: &str) {
        loop {
            let came = self.came.notified();
            if self.seen.lock().unwrap().iter().any(|s| s == name) {
                return;
            }
            came.await;
        }
    }

    fn let_through(&self, name: &str) {
        self.gate(name).add_permits(1);
    }
}

#[derive(State, serde::Serialize, serde::Deserialize)]
struct Work {
    at: String,
    #[state(append)]
    log: Vec<String>,
}

/// `first` notes its input; `wait` waits at the gate of that name; `last` notes the end.
fn graph(gates: &Arc<Gates>) -> Graph {
    let gates = gates.clone();
    StateGraph::<Work>::new("work")
        .add_node(
            "first",
            node(|s: Work, cx: Context| async move {
                cx.emit(format!("begin {}", s.at));
                Ok(Work::update().log(vec![format!("first {}", s.at)]))
            }),
        )
        .add_node(
            "wait",
            node(move |s: Work, _| {
                let gates = gates.clone();
                async move {
                    gates.pass(&s.at).await;
                    Ok(Work::update().log(vec![format!("done {}", s.at)]))
                }
            }),
        )
        .add_edge(START, "first")
        .add_edge("first", "wait")
        .compile()
        .unwrap()
}

async fn core_on(store: Arc<dyn Store>, gates: &Arc<Gates>, change: impl FnOnce(&mut CoreOptions)) -> Session {
    let mut options = CoreOptions { graphs: vec![("work".to_owned(), graph(gates))], ..CoreOptions::new(store) };
    change(&mut options);
    Core::start(options).await.unwrap().session(Caller::default())
}

async fn start() -> (Session, Arc<Gates>, ThreadId) {
    let gates = Arc::default();
    let core = core_on(Arc::new(MemoryStore::new()), &gates, |_| {}).await;
    let thread = core.core().store().create_thread(&TenantId::default(), NewThread::default()).await.unwrap().id;
    (core, gates, thread)
}

fn request(thread: ThreadId, at: &str) -> RunRequest {
    RunRequest {
        thread_id: Some(thread),
        target: Target::Graph("work".to_owned()),
        spec: RunSpec {
            recording: Recording {
                modes: Modes::from([Mode::Values, Mode::Updates, Mode::Custom]).bits(),
                ..Recording::default()
            },
            ..RunSpec::new(Start::Input(value!({"at": at})))
        },
        ..RunRequest::default()
    }
}

async fn begin(core: &Session, thread: ThreadId, at: &str) -> RunId {
    core.create_run(request(thread, at)).await.unwrap().0.id
}

async fn log_of(core: &Session, thread: ThreadId) -> Value {
    let state = core.get_state(runloom_core::StateQuery::latest(thread)).await.unwrap();
    state.values_object().get("log").cloned().unwrap_or_default()
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what).await.expect("it takes too long")
}

/// Waits for a run's end without being a reader of it.
async fn over(core: &Session, run: RunId) -> runloom_store::Run {
    soon(async {
        loop {
            let run = core.get_run(run).await.unwrap();
            if run.status.is_end() {
                return run;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

async fn all(core: &Session, run: RunId, after: u64) -> Vec<Arc<Record>> {
    let options = ReadOptions { after, ..ReadOptions::default() };
    soon(core.read_run(run, options).await.unwrap().map(Result::unwrap).collect()).await
}

// G22
#[tokio::test]
async fn runs_of_a_thread_go_one_after_the_other() {
    let (core, gates, thread) = start().await;
    let a = begin(&core, thread, "a").await;
    let b = begin(&core, thread, "b").await;
    soon(gates.arrived("a")).await;
    let waiting = core.get_run(b).await.unwrap();
    assert_eq!((waiting.status, waiting.attempt), (RunStatus::Pending, 0));
    let mut reader = core.read_run(b, ReadOptions { opening: true, ..ReadOptions::default() }).await.unwrap();
    let opening = soon(reader.next()).await.unwrap().unwrap();
    assert!(matches!(&opening.body, Body::Opening(o) if o.status == RunStatus::Pending && opening.seq == 0));
    gates.let_through("a");
    soon(gates.arrived("b")).await;
    assert_eq!(core.get_run(a).await.unwrap().status, RunStatus::Succeeded);
    gates.let_through("b");
    assert_eq!(soon(core.wait_run(b)).await.unwrap().end.status, RunStatus::Succeeded);
    assert_eq!(log_of(&core, thread).await, value!(["first a", "done a", "first b", "done b"]));
}

#[tokio::test]
async fn a_second_run_is_refused_or_takes_the_place_of_the_first() {
    let (core, gates, thread) = start().await;
    let a = begin(&core, thread, "a").await;
    soon(gates.arrived("a")).await;
    let reject = RunRequest { multitask: Multitask::Reject, ..request(thread, "b") };
    assert_eq!(core.create_run(reject).await.unwrap_err().reason, Reason::ThreadBusy);

    let interrupt = RunRequest { multitask: Multitask::Interrupt, ..request(thread, "c") };
    let c = core.create_run(interrupt).await.unwrap().0.id;
    soon(gates.arrived("c")).await;
    let ended = soon(core.wait_run(a)).await.unwrap();
    assert_eq!(ended.end.status, RunStatus::Cancelled);
    let by = Cancellation { action: CancelAction::Interrupt, by: Canceller::NewerRun(c) };
    assert_eq!(ended.end.cancellation, Some(by));

    let rollback = RunRequest { multitask: Multitask::Rollback, ..request(thread, "d") };
    let mut follower = core.read_run(c, ReadOptions::default()).await.unwrap();
    let d = core.create_run(rollback).await.unwrap().0.id;
    soon(gates.arrived("d")).await;
    gates.let_through("d");
    soon(core.wait_run(d)).await.unwrap();
    // Its followers see its end, and whoever comes later sees nothing.
    let mut last = None;
    while let Some(record) = soon(follower.next()).await {
        last = Some(record.unwrap());
    }
    let by = Cancellation { action: CancelAction::Rollback, by: Canceller::NewerRun(d) };
    assert!(matches!(&last.unwrap().body, Body::End(e) if e.cancellation.as_ref() == Some(&by)));
    assert_eq!(core.get_run(c).await.unwrap_err().reason, Reason::RunNotFound);
    assert_eq!(log_of(&core, thread).await, value!(["first a", "first d", "done d"]));
}

// G23
#[tokio::test]
async fn a_thread_is_still_of_its_graph_when_its_first_run_gave_way_to_another() {
    let (core, gates, thread) = start().await;
    begin(&core, thread, "a").await;
    soon(gates.arrived("a")).await;
    let second = RunRequest { multitask: Multitask::Rollback, ..request(thread, "b") };
    let b = core.create_run(second).await.unwrap().0.id;
    gates.let_through("b");
    assert_eq!(soon(core.wait_run(b)).await.unwrap().end.status, RunStatus::Succeeded);
    let metadata = core.get_thread(thread).await.unwrap().metadata;
    assert_eq!(metadata.get_str("graph_id"), Some("work"), "{metadata:?}");
}

#[tokio::test]
async fn a_cancel_ends_what_runs_and_what_waits_and_twice_is_once() {
    let (core, gates, thread) = start().await;
    let a = begin(&core, thread, "a").await;
    let b = begin(&core, thread, "b").await;
    soon(gates.arrived("a")).await;
    let ended = core.cancel_run(b, CancelAction::Interrupt, "me".into(), false).await.unwrap();
    assert_eq!(ended.status, RunStatus::Cancelled);
    let ended = soon(core.cancel_run(a, CancelAction::Interrupt, "me".into(), true)).await.unwrap();
    assert_eq!(ended.status, RunStatus::Cancelled);
    let again = core.cancel_run(a, CancelAction::Interrupt, "you".into(), true).await.unwrap();
    assert_eq!(again.cancel.unwrap().by, "me".into());
    for run in [a, b] {
        let records = all(&core, run, 0).await;
        let Body::End(end) = &records.last().unwrap().body else { panic!() };
        let by = Cancellation { action: CancelAction::Interrupt, by: "me".into() };
        assert_eq!(end.cancellation, Some(by));
    }
    let thread = core.get_thread(thread).await.unwrap();
    assert_eq!(thread.status, ThreadStatus::Interrupted, "what the run had begun is still to do");
}

// G24
#[tokio::test]
async fn a_rollback_leaves_the_thread_as_it_was() {
    let gates: Arc<Gates> = Arc::default();
    let fails = StateGraph::<Work>::new("fails")
        .add_node("wait", node(|_: Work, _| async { Err::<(), _>(NodeError::msg("no")) }))
        .add_edge(START, "wait")
        .compile()
        .unwrap();
    let core = core_on(Arc::new(MemoryStore::new()), &gates, |o| o.graphs.push(("fails".into(), fails))).await;
    let metadata: Object = [("mine", Value::Int(1))].into_iter().collect();
    let fresh = core.create_thread(NewThread { metadata, ..NewThread::default() }).await.unwrap();
    let thread = fresh.id;
    let times = |thread: &runloom_core::store::Thread| runloom_core::store::Thread {
        updated_at: fresh.updated_at,
        state_updated_at: None,
        // The numbers of its events are not used again.
        events: fresh.events,
        ..thread.clone()
    };
    let roll_back = async |at: &str| {
        let mut asked = request(thread, at);
        asked.spec.options.tags = vec!["tagged".to_owned()];
        let run = core.create_run(asked).await.unwrap().0.id;
        soon(gates.arrived(at)).await;
        soon(core.cancel_run(run, CancelAction::Rollback, "me".into(), true)).await.unwrap();
        assert_eq!(core.get_run(run).await.unwrap_err().reason, Reason::RunNotFound);
    };
    roll_back("a").await;
    assert_eq!(times(&core.get_thread(thread).await.unwrap()), fresh);

    let asked = RunRequest { target: Target::Graph("fails".into()), ..request(thread, "") };
    let run = core.create_run(asked).await.unwrap().0.id;
    soon(core.wait_run(run)).await.unwrap();
    let failed = core.get_thread(thread).await.unwrap();
    assert_eq!((failed.status, failed.graph.as_deref()), (ThreadStatus::Error, Some("fails")));
    roll_back("b").await;
    assert_eq!(times(&core.get_thread(thread).await.unwrap()), times(&failed));
}

#[tokio::test]
async fn a_thread_that_stopped_at_conflicting_writes_is_told_as_it_was_before_them() {
    let mut b = GraphBuilder::new("both");
    b.add_channel(runloom_engine::ChannelSpec::new("x"));
    for (name, x) in [("first", 1), ("a", 2), ("b", 3)] {
        b.add_node(name, node(move |_: StateView, _| async move { Ok(Update::new().set("x", x)) }));
    }
    b.add_edge(START, "first").add_edge("first", "a").add_edge("first", "b");
    let (core, run, end) = run_one(b.compile().unwrap(), value!({})).await;
    assert_eq!(end.error.unwrap().reason, Reason::InvalidUpdate);
    let thread = core.get_run(run).await.unwrap().thread;
    let view = core.get_state(runloom_core::StateQuery::latest(thread)).await.unwrap();
    assert_eq!(Value::from(view.values_object()), value!({"x": 1}));
    assert_eq!(view.next.iter().map(|n| &**n).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(end.checkpoint_id, view.config.unwrap().id);
}

// G21
#[tokio::test]
async fn the_same_request_is_the_same_run() {
    let (core, gates, thread) = start().await;
    let asked = RunRequest { request_id: Some("once".into()), ..request(thread, "a") };
    let (first, new) = core.create_run(asked.clone()).await.unwrap();
    let (again, newer) = core.create_run(asked).await.unwrap();
    assert_eq!((first.id, new, newer), (again.id, true, false));
    let other = RunRequest { request_id: Some("once".into()), ..request(thread, "b") };
    assert_eq!(core.create_run(other).await.unwrap_err().reason, Reason::RequestIdReused);
    gates.let_through("a");
    soon(core.wait_run(first.id)).await.unwrap();
}

// G4, G9
#[tokio::test]
async fn readers_see_the_same_parts_live_late_and_from_any_cursor() {
    let (core, gates, thread) = start().await;
    let a = begin(&core, thread, "a").await;
    let live = tokio::spawn({
        let core = core.clone();
        async move { all(&core, a, 0).await }
    });
    soon(gates.arrived("a")).await;
    gates.let_through("a");
    let live = live.await.unwrap();
    let show = |records: &[Arc<Record>]| {
        records.iter().map(|r| format!("{} {:?} {:?}", r.seq, r.namespace, r.body)).collect::<Vec<_>>()
    };
    assert!(live.windows(2).all(|w| w[1].seq == w[0].seq + 1), "no gap within an attempt");
    for cursor in 0..live.len() {
        let late = all(&core, a, live[cursor].seq.saturating_sub(1)).await;
        assert_eq!(late.len(), live.len() - cursor);
        for (l, r) in live[cursor..].iter().zip(&late) {
            assert_eq!((l.seq, l.attempt, l.step, &l.task), (r.seq, r.attempt, r.step, &r.task));
            match (&l.body, &r.body) {
                (Body::Part(Payload::Values(a)), Body::Part(Payload::Values(b))) => {
                    assert_eq!(a.to_object(), b.to_object());
                }
                _ => assert_eq!(show(std::slice::from_ref(l)), show(std::slice::from_ref(r))),
            }
        }
    }
    let more = ReadOptions { modes: Some(Mode::Events.into()), ..ReadOptions::default() };
    assert_eq!(core.read_run(a, more).await.err().unwrap().reason, Reason::ModesNotRecorded);
}

// G25
#[tokio::test]
async fn a_run_whose_readers_leave_is_cancelled_after_the_grace_unless_one_comes_back() {
    let (core, gates, thread) = start().await;
    let leaving = |at: &str, grace: u64| {
        let mut r = request(thread, at);
        r.spec.delivery.cancel_on_disconnect = true;
        r.spec.delivery.disconnect_grace_ms = grace;
        r
    };
    // A reader comes back in time.
    let run = core.create_run(leaving("a", 10_000)).await.unwrap().0.id;
    let mut reader = core.read_run(run, ReadOptions::default()).await.unwrap();
    soon(reader.next()).await.unwrap().unwrap();
    soon(gates.arrived("a")).await;
    drop(reader);
    let back = core.read_run(run, ReadOptions::default()).await.unwrap();
    gates.let_through("a");
    drop(back);
    assert_eq!(soon(core.wait_run(run)).await.unwrap().end.status, RunStatus::Succeeded);
    // Nobody does.
    let run = core.create_run(leaving("b", 20)).await.unwrap().0.id;
    let mut reader = core.read_run(run, ReadOptions::default()).await.unwrap();
    soon(reader.next()).await.unwrap().unwrap();
    soon(gates.arrived("b")).await;
    drop(reader);
    let ended = over(&core, run).await;
    assert_eq!(ended.status, RunStatus::Cancelled);
    assert_eq!(ended.cancel.unwrap().by, Canceller::Readers);
}

// G25
#[tokio::test]
async fn a_reader_that_leaves_while_its_run_is_made_has_left() {
    let (core, gates, thread) = start().await;
    let mut asked = request(thread, "a");
    asked.spec.delivery.cancel_on_disconnect = true;
    asked.spec.delivery.disconnect_grace_ms = 20;
    // The call is cut off where the run is made and its reader is not there yet.
    drop(core.create_run_to_read(asked.clone()).await.unwrap());
    let run = core.list_runs(RunFilter::default(), PageRequest::first(1)).await.unwrap().items.remove(0);
    let ended = over(&core, run.id).await;
    assert_eq!((ended.status, ended.cancel.unwrap().by), (RunStatus::Cancelled, Canceller::Readers));
    // And before its caller was told of it.
    let made = core.create_run_to_read(RunRequest { request_id: Some("r".into()), ..asked.clone() });
    assert!(futures_util::FutureExt::now_or_never(made).is_none(), "it is being made");
    let run = core.create_run(RunRequest { request_id: Some("r".into()), ..asked.clone() }).await.unwrap().0;
    assert_eq!(over(&core, run.id).await.status, RunStatus::Cancelled);
    // Who only makes a run need not read it.
    let run = core.create_run(RunRequest {
        spec: RunSpec {
            options: RunOptions { start: Start::Input(value!({"at": "b"})), ..asked.spec.options.clone() },
            ..asked.spec.clone()
        },
        ..asked
    });
    let run = run.await.unwrap().0;
    soon(gates.arrived("b")).await;
    gates.let_through("b");
    assert_eq!(soon(core.wait_run(run.id)).await.unwrap().end.status, RunStatus::Succeeded);
}

#[tokio::test]
async fn an_interrupting_run_ends_all_before_it_however_many_wait() {
    let (core, gates, thread) = start().await;
    let first = begin(&core, thread, "a").await;
    soon(gates.arrived("a")).await;
    let mut last = first;
    for _ in 0..1001 {
        last = begin(&core, thread, "b").await;
    }
    let newest = RunRequest { multitask: Multitask::Interrupt, ..request(thread, "c") };
    let newest = core.create_run(newest).await.unwrap().0.id;
    soon(gates.arrived("c")).await;
    for run in [first, last] {
        let cancelled = core.get_run(run).await.unwrap();
        assert_eq!(cancelled.cancel.unwrap().by, Canceller::NewerRun(newest));
        assert_eq!(cancelled.status, RunStatus::Cancelled);
    }
}

// G13
/// Ends the lease of a server, as if it had been killed.
async fn lose(server: &Session) {
    let core = server.core();
    core.store().release_server(core.server()).await.unwrap();
}

#[tokio::test]
async fn a_drain_does_not_use_up_an_attempt() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let thread = store.create_thread(&TenantId::default(), NewThread::default()).await.unwrap().id;
    let start = async |run: Option<RunId>| {
        let gates: Arc<Gates> = Arc::default();
        let core = core_on(store.clone(), &gates, |o| (o.max_attempts, o.drain_timeout) = (2, Duration::ZERO)).await;
        let run = match run {
            Some(run) => run,
            None => begin(&core, thread, "a").await,
        };
        soon(gates.arrived("a")).await;
        (core, gates, run)
    };
    let mut known = None;
    for _ in 0..3 {
        let (core, _gates, run) = start(known).await;
        soon(core.core().drain()).await;
        known = Some(run);
    }
    // Twice a server takes the run up that another one has lost: the second time is one too many.
    let (first, _gates, run) = start(known).await;
    lose(&first).await;
    let (core, _gates, _) = start(known).await;
    assert_eq!(core.get_run(run).await.unwrap().attempt, 5);
    lose(&core).await;
    let last = core_on(store.clone(), &Arc::default(), |o| o.max_attempts = 2).await;
    let outcome = soon(last.wait_run(run)).await.unwrap();
    assert_eq!(outcome.run.attempt, 5, "an attempt that is not made is not counted");
    let end = outcome.end;
    let error = end.error.unwrap();
    assert_eq!((error.reason, &*error.metadata["attempts"]), (Reason::AttemptsExhausted, "2"));
}

/// A model that says nothing, and counts seven tokens of input and three of output.
struct Counts;

impl ChatModel for Counts {
    fn name(&self) -> &str {
        "Counts"
    }
    fn info(&self) -> ModelInfo {
        ModelInfo { provider: "test".into(), model: "counts".into() }
    }
    fn stream(&self, _: ChatRequest) -> BoxStream<'static, Result<Delta, ModelError>> {
        let usage = Some(Usage { input_tokens: 7, output_tokens: 3, ..Usage::default() });
        futures_util::stream::iter([Ok(Delta { usage, last: true, ..Delta::default() })]).boxed()
    }
}

// G13
#[tokio::test]
async fn what_a_run_used_counts_through_crashes_and_drains() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let thread = store.create_thread(&TenantId::default(), NewThread::default()).await.unwrap().id;
    let start = async || {
        let gates: Arc<Gates> = Arc::default();
        let at = gates.clone();
        let graph = StateGraph::<Work>::new("talk")
            .add_node(
                "talk",
                node(|_: Work, cx: Context| async move {
                    cx.chat(&Counts, ChatRequest::default(), &[]).await?;
                    Ok(Work::update().log(vec!["talked".to_owned()]))
                }),
            )
            .add_node(
                "wait",
                node(move |_: Work, _| {
                    let at = at.clone();
                    async move {
                        at.pass("wait").await;
                        Ok(())
                    }
                }),
            )
            .add_edge(START, "talk")
            .add_edge("talk", "wait")
            .compile()
            .unwrap();
        let core = core_on(store.clone(), &gates, |o| {
            o.graphs.push(("talk".into(), graph));
            o.drain_timeout = Duration::ZERO;
        })
        .await;
        (core, gates)
    };
    let (lost, gates) = start().await;
    let asked = RunRequest { target: Target::Graph("talk".into()), ..request(thread, "") };
    let run = lost.create_run(asked).await.unwrap().0.id;
    soon(gates.arrived("wait")).await;
    lose(&lost).await;
    let (drained, gates) = start().await;
    soon(gates.arrived("wait")).await;
    soon(drained.core().drain()).await;
    assert_eq!(
        store.get_run(&TenantId::default(), run).await.unwrap().usage.unwrap().get("input_tokens"),
        Some(&Value::Int(7))
    );
    let (core, gates) = start().await;
    gates.let_through("wait");
    let end = soon(core.wait_run(run)).await.unwrap().end;
    assert_eq!((end.status, end.usage.input_tokens, end.usage.output_tokens), (RunStatus::Succeeded, 7, 3));
    assert_eq!(log_of(&core, thread).await, value!(["talked"]), "it talked once");
}

// G2
#[tokio::test]
async fn a_run_that_takes_too_long_is_timed_out_and_says_so() {
    let (core, _gates, thread) = start().await;
    let mut slow = request(thread, "a");
    slow.spec.options.run_timeout_ms = 30;
    let run = core.create_run(slow).await.unwrap().0.id;
    let ended = soon(core.wait_run(run)).await.unwrap();
    assert_eq!(ended.end.status, RunStatus::TimedOut);
    assert_eq!(ended.end.error.unwrap().reason, Reason::RunTimeout);
}

// G13
#[tokio::test]
async fn a_drained_core_gives_its_runs_back_and_the_next_one_ends_them() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Arc::new(SqliteStore::open(runloom_store_sqlite::OpenOptions::new(folder.path())).unwrap());
    let gates = Arc::default();
    let core = core_on(open(), &gates, |o| o.drain_timeout = Duration::ZERO).await;
    let thread = core.core().store().create_thread(&TenantId::default(), NewThread::default()).await.unwrap().id;
    let run = begin(&core, thread, "a").await;
    let waiting = begin(&core, thread, "b").await;
    soon(gates.arrived("a")).await;
    let mut reader = core.read_run(run, ReadOptions::default()).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 3 {
        seen.push(soon(reader.next()).await.unwrap().unwrap());
    }
    soon(core.core().drain()).await;
    let told = loop {
        match soon(reader.next()).await.unwrap() {
            Ok(record) => seen.push(record),
            Err(error) => break error,
        }
    };
    assert_eq!(told.reason, Reason::ServerDraining);
    assert!(told.retry_after.is_some());
    let refused = core.create_run(request(thread, "c")).await.unwrap_err();
    assert_eq!(refused.reason, Reason::ServerDraining);
    drop(reader);
    drop(core);

    let gates: Arc<Gates> = Arc::default();
    let core = core_on(open(), &gates, |_| {}).await;
    soon(gates.arrived("a")).await;
    gates.let_through("a");
    gates.let_through("b");
    soon(core.wait_run(waiting)).await.unwrap();
    let rest = all(&core, run, seen.last().unwrap().seq).await;
    assert!(matches!(rest[0].body, Body::Opening(_)) && rest[0].attempt == 2, "{:?}", rest[0]);
    assert!(rest.iter().all(|r| r.seq > seen.last().unwrap().seq));
    // The finished node did not run again.
    assert_eq!(log_of(&core, thread).await, value!(["first a", "done a", "first b", "done b"]));
    core.core().drain().await;
}

#[tokio::test]
async fn a_run_on_a_thread_that_stopped_takes_an_answer_only_where_it_stands() {
    let gates: Arc<Gates> = Arc::default();
    let ask = StateGraph::<Work>::new("ask")
        .add_node(
            "ask",
            node(|_: Work, cx: Context| async move {
                let answer = cx.interrupt("sure?")?;
                Ok(Work::update().log(vec![answer.as_str().unwrap_or("?").to_owned()]))
            }),
        )
        .add_edge(START, "ask")
        .compile()
        .unwrap();
    let core = core_on(Arc::new(MemoryStore::new()), &gates, |o| o.graphs.push(("ask".into(), ask))).await;
    let thread = core.core().store().create_thread(&TenantId::default(), NewThread::default()).await.unwrap().id;
    let on = |start: Start, expected: Option<CheckpointId>| RunRequest {
        target: Target::Graph("ask".to_owned()),
        expected_checkpoint_id: expected,
        spec: RunSpec { options: RunOptions { start, strict: true, ..RunOptions::default() }, ..RunSpec::default() },
        ..request(thread, "")
    };
    let run = core.create_run(on(Start::Input(value!({})), None)).await.unwrap().0.id;
    let stopped = soon(core.wait_run(run)).await.unwrap();
    assert_eq!(stopped.end.status, RunStatus::AwaitingInput);
    let record = core.get_thread(thread).await.unwrap();
    assert_eq!(record.status, ThreadStatus::Interrupted);
    assert!(record.interrupts.unwrap().to_string().contains("sure?"));
    let at = core.get_state(runloom_core::StateQuery::latest(thread)).await.unwrap().config.unwrap().id;

    let answer = |text: &str| Start::Command(CommandSpec { resume: Some(text.into()), ..CommandSpec::default() });
    let stale = core.create_run(on(answer("no"), Some(CheckpointId(uuid::Uuid::nil())))).await.unwrap_err();
    assert_eq!(stale.reason, Reason::CheckpointChanged);
    let unknown =
        Start::Command(CommandSpec { resume_by_id: vec![("0".repeat(32), Value::Null)], ..CommandSpec::default() });
    let refused = core.create_run(on(unknown.clone(), None)).await.unwrap_err();
    assert_eq!(refused.reason, Reason::QuestionUnknown);
    assert!(refused.metadata["question_id"].starts_with('0') && !refused.metadata["open_questions"].is_empty());
    let run = core.create_run(on(answer("yes"), at)).await.unwrap().0.id;
    let ended = soon(core.wait_run(run)).await.unwrap();
    assert_eq!(ended.end.values.unwrap().get("log"), Some(&value!(["yes"])));

    // The thread is over: nothing is open, and nothing is left to do.
    let refused = core.create_run(on(Start::Resume, None)).await.unwrap_err();
    assert_eq!(refused.reason, Reason::NothingToResume);
    assert_eq!(refused.metadata["thread_id"], thread.to_string());
    let refused = core.create_run(on(Start::Command(CommandSpec::default()), None)).await.unwrap_err();
    assert_eq!(refused.reason, Reason::NothingToResume);
    assert_eq!(core.create_run(on(answer("yes"), None)).await.unwrap_err().reason, Reason::QuestionUnknown);
    assert_eq!(core.create_run(on(unknown.clone(), None)).await.unwrap_err().reason, Reason::QuestionUnknown);
    let lax = |start| RunRequest { spec: RunSpec::new(start), ..on(Start::Resume, None) };
    for start in [Start::Resume, unknown.clone()] {
        let run = core.create_run(lax(start)).await.unwrap().0.id;
        assert_eq!(soon(core.wait_run(run)).await.unwrap().end.status, RunStatus::Succeeded, "LangGraph's way");
    }
    let fresh =
        RunRequest { thread_id: Some(ThreadId(uuid::Uuid::now_v7())), create_thread: true, ..on(Start::Resume, None) };
    assert_eq!(core.create_run(fresh).await.unwrap_err().reason, Reason::NothingToResume);

    // Behind another run nobody can know: it begins, and its end says so.
    let busy = begin(&core, thread, "busy").await;
    soon(gates.arrived("busy")).await;
    let waiting = core.create_run(on(Start::Resume, None)).await.unwrap().0.id;
    let answering = core.create_run(on(unknown, None)).await.unwrap().0.id;
    gates.let_through("busy");
    soon(core.wait_run(busy)).await.unwrap();
    for (run, reason) in [(waiting, Reason::NothingToResume), (answering, Reason::QuestionUnknown)] {
        let end = soon(core.wait_run(run)).await.unwrap().end;
        assert_eq!((end.status, end.error.unwrap().reason), (RunStatus::Failed, reason));
    }
}

/// A graph of one node on a core of its own, run once.
async fn run_one(graph: Graph, input: Value) -> (Session, RunId, runloom_core::End) {
    let name = graph.name().to_string();
    let core = core_on(Arc::new(MemoryStore::new()), &Arc::default(), |o| o.graphs.push((name.clone(), graph))).await;
    let thread = core.core().store().create_thread(&TenantId::default(), NewThread::default()).await.unwrap().id;
    let asked = RunRequest {
        target: Target::Graph(name),
        spec: RunSpec {
            recording: Recording { modes: Modes::from(Mode::Custom).bits(), ..Recording::default() },
            ..RunSpec::new(Start::Input(input))
        },
        ..request(thread, "")
    };
    let run = core.create_run(asked).await.unwrap().0.id;
    let end = soon(core.wait_run(run)).await.unwrap().end;
    (core, run, end)
}

#[tokio::test]
async fn a_node_that_gives_itself_up_fails_its_run_once() {
    let graph = StateGraph::<Work>::new("gives_up")
        .add_node("n", node(|_: Work, _| async { Err::<(), _>(NodeError::Cancelled) }))
        .add_edge(START, "n")
        .compile()
        .unwrap();
    let (core, run, end) = run_one(graph, value!({})).await;
    assert_eq!(end.status, RunStatus::Failed);
    assert_eq!(core.get_run(run).await.unwrap().attempt, 1);
}

#[tokio::test]
async fn a_reducer_that_panics_fails_the_run_and_not_the_thread() {
    let reducer = Reducer::Custom(Arc::new(|_, _| panic!("no reducer")));
    let graph = StateGraph::<Work>::new("panics")
        .reducer("at", reducer)
        .add_node("n", node(|_: Work, _| async { Ok(Work::update().at("x")) }))
        .add_edge(START, "n")
        .compile()
        .unwrap();
    let (core, run, end) = run_one(graph, value!({})).await;
    assert_eq!((end.status, end.error.unwrap().reason), (RunStatus::Failed, Reason::InvalidUpdate));
    let thread = core.get_run(run).await.unwrap().thread;
    let again = RunRequest { target: Target::Graph("panics".into()), ..request(thread, "x") };
    let run = core.create_run(again).await.unwrap().0.id;
    assert_eq!(soon(core.wait_run(run)).await.unwrap().end.status, RunStatus::Failed);
}

#[tokio::test]
async fn what_is_as_deep_as_it_may_be_is_read_back_from_the_log() {
    let graph = StateGraph::<Work>::new("deep")
        .add_node(
            "n",
            node(|_: Work, cx: Context| async move {
                let deep = (0..runloom_engine::value::MAX_DEPTH).fold(Value::Null, |v, _| Value::from(vec![v]));
                cx.emit(deep);
                Ok(())
            }),
        )
        .add_edge(START, "n")
        .compile()
        .unwrap();
    let (core, run, _) = run_one(graph, value!({})).await;
    let custom = all(&core, run, 0).await.into_iter().find_map(|r| match &r.body {
        Body::Part(Payload::Custom(data)) => Some(data.depth()),
        _ => None,
    });
    assert_eq!(custom, Some(runloom_engine::value::MAX_DEPTH));
}

#[tokio::test]
async fn a_thread_is_followed_in_the_order_in_which_its_runs_begin() {
    let (core, gates, thread) = start().await;
    let mut follower = core.read_thread(thread, None, ReadOptions::default(), false).await.unwrap();
    let later = std::time::SystemTime::now() + Duration::from_secs(3600);
    core.create_run(RunRequest { start_time: Some(later), ..request(thread, "tomorrow") }).await.unwrap();
    let mut told = Vec::new();
    for at in ["a", "b"] {
        let run = begin(&core, thread, at).await;
        gates.let_through(at);
        loop {
            let (ThreadPart::Record(record), cursor) = soon(follower.next()).await.unwrap().unwrap() else { panic!() };
            assert_eq!(record.run_id, run, "the run that waits for its time is not in the way");
            let is_end = matches!(record.body, Body::End(_));
            told.push((record.run_id, record.seq, cursor));
            if is_end {
                break;
            }
        }
    }
    // From any cursor the rest comes, and nothing twice.
    let (run, seq, cursor) = told[told.len() / 3].clone();
    let mut again = core.read_thread(thread, Some(cursor), ReadOptions::default(), false).await.unwrap();
    let at = told.iter().position(|(r, s, _)| (*r, *s) == (run, seq)).unwrap();
    for (run, seq, _) in &told[at + 1..] {
        let (ThreadPart::Record(record), _) = soon(again.next()).await.unwrap().unwrap() else { panic!() };
        assert_eq!((record.run_id, record.seq), (*run, *seq));
    }
}

#[tokio::test]
async fn a_run_whose_stored_usage_cannot_be_read_fails_and_says_so() {
    let (core, _, thread) = start().await;
    let later = std::time::SystemTime::now() + Duration::from_millis(300);
    let waits = RunRequest { start_time: Some(later), ..request(thread, "a") };
    let run = core.create_run(waits).await.unwrap().0;
    // Another server gives it back with something that is no usage.
    let store = core.core().store().clone();
    let server = store.register_server(Duration::from_secs(9)).await.unwrap();
    let begun = store.begin_attempt(run.current(), server, Object::default(), 1).await.unwrap();
    store.release_run(begun.attempt, Some(value!("much"))).await.unwrap();
    let end = soon(core.wait_run(run.id)).await.unwrap().end;
    assert_eq!(end.status, RunStatus::Failed);
    let message = end.error.unwrap().message;
    assert!(message.starts_with(&format!("the stored usage of run {} cannot be read", run.id)), "{message}");
}
