//! Several servers on one store: each is a core in a thread of its own, which can be paused and killed as a process can.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::{
    collections::BTreeSet,
    sync::{Arc, mpsc},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use futures_util::StreamExt;
use parking_lot::Mutex;
use runloom_core::{
    Body, Caller, Core, CoreOptions, CronRequest, Error, Posted, ReadOptions, RunRequest, RunSpec, Session, Start,
    StateQuery, Target, Webhooks,
};
use runloom_engine::{stream::Payload, *};
use runloom_store::{CancelAction, Delivery, NewThread, PageRequest, Run, RunFilter, RunStatus, Store};
use runloom_store_memory::MemoryStore;
use runloom_store_sqlite::{OpenOptions, SqliteStore};
use tokio::sync::oneshot;

/// A server's lease in these tests.
const TTL: Duration = Duration::from_millis(600);

/// What nodes wait for, shared by the servers as the world outside is.
#[derive(Clone, Default)]
struct World {
    begun: Arc<Mutex<Vec<String>>>,
    open: Arc<Mutex<BTreeSet<String>>>,
    posted: Arc<Mutex<Vec<RunId>>>,
    news: Arc<tokio::sync::Notify>,
}

impl World {
    fn open(&self, gate: &str) {
        self.open.lock().insert(gate.to_owned());
        self.news.notify_waiters();
    }

    async fn until(&self, what: impl Fn(&Self) -> bool) {
        let waiting = async {
            loop {
                let news = self.news.notified();
                let mut news = std::pin::pin!(news);
                news.as_mut().enable();
                if what(self) {
                    return;
                }
                news.await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("it does not happen");
    }

    /// How often a node began, by any server.
    fn count(&self, what: &str) -> usize {
        self.begun.lock().iter().filter(|begun| *begun == what).count()
    }

    /// `one` notes that it ran; `two` waits for the gate that the input names.
    fn graph(&self) -> Graph {
        let (first, second) = (self.clone(), self.clone());
        StateGraph::<Steps>::new("steps")
            .add_node(
                "one",
                node(move |s: Steps, cx: Context| {
                    let world = first.clone();
                    async move {
                        world.note(format!("one:{}", s.gate));
                        cx.emit(format!("one {}", s.gate));
                        Ok(Steps::update().log(vec!["one".to_owned()]))
                    }
                }),
            )
            .add_node(
                "two",
                node(move |s: Steps, _| {
                    let world = second.clone();
                    async move {
                        world.note(format!("two:{}", s.gate));
                        world.until(|world| world.open.lock().contains(&s.gate)).await;
                        Ok(Steps::update().log(vec!["two".to_owned()]))
                    }
                }),
            )
            .add_edge(START, "one")
            .add_edge("one", "two")
            .compile()
            .unwrap()
    }

    fn note(&self, what: String) {
        self.begun.lock().push(what);
        self.news.notify_waiters();
    }
}

#[derive(State, serde::Serialize, serde::Deserialize)]
struct Steps {
    gate: String,
    #[state(append)]
    log: Vec<String>,
}

#[async_trait]
impl Webhooks for World {
    fn check(&self, _: &str) -> Result<(), String> {
        Ok(())
    }

    fn body(&self, _: &Run, _: Option<&Value>, _: Option<&Error>) -> String {
        "{}".to_owned()
    }

    async fn post(&self, delivery: &Delivery) -> Posted {
        self.posted.lock().push(delivery.run);
        self.news.notify_waiters();
        Posted::Taken
    }
}

/// A server in a thread of its own. Nothing of it goes on while it is paused, nor once it is killed.
struct Machine {
    session: Session,
    tasks: tokio::runtime::Handle,
    /// Dropped, it lets a paused machine go on; one that was killed never does.
    paused: Option<mpsc::Sender<()>>,
}

impl Machine {
    async fn start(store: &Arc<dyn Store>, world: &World) -> Self {
        let options = CoreOptions {
            graphs: vec![("steps".to_owned(), world.graph())],
            webhooks: Some(Arc::new(world.clone())),
            lease_ttl: TTL,
            ..CoreOptions::new(store.clone())
        };
        let (ready, is_ready) = oneshot::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let core = Core::start(options).await.unwrap();
                let handle = tokio::runtime::Handle::current();
                drop(ready.send((core.session(Caller::default()), handle)));
                std::future::pending::<()>().await;
            });
        });
        let (session, tasks) = is_ready.await.unwrap();
        Self { session, tasks, paused: None }
    }

    /// Stops the machine's only thread.
    async fn pause(&mut self) {
        let (go_on, wait) = mpsc::channel::<()>();
        let (stopped, is_stopped) = oneshot::channel();
        self.tasks.spawn(async move {
            let _ = stopped.send(());
            let _ = wait.recv();
        });
        is_stopped.await.unwrap();
        self.paused = Some(go_on);
    }

    fn resume(&mut self) {
        self.paused = None;
    }

    async fn kill(mut self) {
        self.pause().await;
        std::mem::forget(self.paused.take());
    }

    async fn create(&self, thread: ThreadId, gate: &str) -> RunId {
        self.session.create_run(request(thread, gate)).await.unwrap().0.id
    }
}

fn request(thread: ThreadId, gate: &str) -> RunRequest {
    RunRequest {
        thread_id: Some(thread),
        target: Target::Graph("steps".to_owned()),
        spec: RunSpec::new(Start::Input(value!({"gate": gate}))),
        ..RunRequest::default()
    }
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what).await.expect("it does not happen")
}

async fn thread(machine: &Machine) -> ThreadId {
    machine.session.create_thread(NewThread::default()).await.unwrap().id
}

async fn log_of(machine: &Machine, thread: ThreadId) -> Value {
    let state = machine.session.get_state(StateQuery::latest(thread)).await.unwrap();
    state.values.to_object().get("log").cloned().unwrap_or_default()
}

async fn a_server_that_starts_leaves_the_runs_of_another_alone(store: Arc<dyn Store>) {
    let world = World::default();
    let a = Machine::start(&store, &world).await;
    let thread = thread(&a).await;
    let run = a.create(thread, "g").await;
    world.until(|world| world.count("two:g") == 1).await;
    let b = Machine::start(&store, &world).await;
    let other = Machine::start(&store, &world).await;
    // Two leases go by, in which each of them looks for work more than once.
    tokio::time::sleep(TTL * 2).await;
    world.open("g");
    let end = soon(b.session.wait_run(run)).await.unwrap();
    assert_eq!((end.end.status, end.run.attempt), (RunStatus::Succeeded, 1));
    assert_eq!((world.count("one:g"), world.count("two:g")), (1, 1));
    assert_eq!(log_of(&other, thread).await, value!(["one", "two"]));
}

async fn the_runs_of_a_killed_server_go_on_from_their_last_checkpoint(store: Arc<dyn Store>) {
    let world = World::default();
    let a = Machine::start(&store, &world).await;
    let b = Machine::start(&store, &world).await;
    let thread = thread(&a).await;
    let run = a.create(thread, "g").await;
    world.until(|world| world.count("two:g") == 1).await;
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

async fn what_a_server_writes_past_its_lease_is_refused(store: Arc<dyn Store>) {
    let world = World::default();
    let mut a = Machine::start(&store, &world).await;
    let b = Machine::start(&store, &world).await;
    let thread = thread(&a).await;
    let run = a.create(thread, "g").await;
    world.until(|world| world.count("two:g") == 1).await;
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

async fn a_run_is_cancelled_from_any_server(store: Arc<dyn Store>) {
    let world = World::default();
    let a = Machine::start(&store, &world).await;
    let b = Machine::start(&store, &world).await;
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

async fn a_run_is_read_live_from_any_server(store: Arc<dyn Store>) {
    let world = World::default();
    let a = Machine::start(&store, &world).await;
    let b = Machine::start(&store, &world).await;
    let thread = thread(&a).await;
    let mut follow = b.session.read_thread(thread, None, ReadOptions::default(), false).await.unwrap();
    let run = a.create(thread, "g").await;
    world.until(|world| world.count("two:g") == 1).await;
    let mut reader = b.session.read_run(run, ReadOptions::default()).await.unwrap();
    // What `one` did is read while `two` still waits.
    let is_values = |record: &runloom_core::Record| match &record.body {
        Body::Part(Payload::Values(values)) => values.snapshot.get("log") == Some(&value!(["one"])),
        _ => false,
    };
    while !is_values(&soon(reader.next()).await.unwrap().unwrap()) {}
    world.open("g");
    let rest: Vec<_> = soon(reader.collect::<Vec<_>>()).await;
    assert!(matches!(rest.last().unwrap().as_ref().unwrap().body, Body::End(_)));
    loop {
        let (part, _) = soon(follow.next()).await.unwrap().unwrap();
        if let runloom_core::ThreadPart::Record(record) = part
            && matches!(record.body, Body::End(_))
        {
            assert_eq!(record.run_id, run);
            break;
        }
    }
}

async fn a_graph_registered_on_one_server_runs_on_another(store: Arc<dyn Store>) {
    let world = World::default();
    let a = Machine::start(&store, &world).await;
    let b = Machine::start(&store, &world).await;
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

async fn a_cron_fires_once_and_a_webhook_is_posted_once(store: Arc<dyn Store>) {
    let world = World::default();
    world.open("g");
    let a = Machine::start(&store, &world).await;
    let b = Machine::start(&store, &world).await;
    let third = Machine::start(&store, &world).await;
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

async fn a_server_without_room_leaves_runs_to_others(store: Arc<dyn Store>) {
    let world = World::default();
    let a = Machine::start(&store, &world).await;
    let b = Machine::start(&store, &world).await;
    let mut threads = Vec::new();
    for _ in 0..6 {
        threads.push(thread(&a).await);
    }
    // A machine that is paused takes no runs: those that wait are begun by another, before any lease is over.
    let mut a = a;
    a.pause().await;
    for (at, thread) in threads.iter().enumerate() {
        let new = request(*thread, &format!("g{at}"));
        b.session.create_run(new).await.unwrap();
    }
    world.until(|world| (0..6).all(|at| world.count(&format!("two:g{at}")) == 1)).await;
    a.resume();
}

/// The suite, for a store.
macro_rules! suite {
    ($module:ident, $store:expr, [$($name:ident),* $(,)?]) => {
        mod $module {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    let (_folder, store) = $store;
                    super::$name(store).await;
                }
            )*
        }
    };
}

macro_rules! on_every_store {
    ($($name:ident),* $(,)?) => {
        suite!(memory, {
            let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
            ((), store)
        }, [$($name),*]);
        suite!(sqlite, {
            let folder = tempfile::tempdir().unwrap();
            let store: Arc<dyn Store> = Arc::new(SqliteStore::open(OpenOptions::new(folder.path())).unwrap());
            (folder, store)
        }, [$($name),*]);
    };
}

on_every_store!(
    a_server_that_starts_leaves_the_runs_of_another_alone,
    the_runs_of_a_killed_server_go_on_from_their_last_checkpoint,
    what_a_server_writes_past_its_lease_is_refused,
    a_run_is_cancelled_from_any_server,
    a_run_is_read_live_from_any_server,
    a_graph_registered_on_one_server_runs_on_another,
    a_cron_fires_once_and_a_webhook_is_posted_once,
    a_server_without_room_leaves_runs_to_others,
);
