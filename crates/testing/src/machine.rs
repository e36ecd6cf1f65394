//! Servers for tests: each is a core in a thread of its own, which can be paused and killed as a process can.

use std::{
    any::Any,
    collections::BTreeSet,
    sync::{Arc, mpsc},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::{FutureExt, future::BoxFuture};
use parking_lot::Mutex;
use runloom_engine::{Context, Graph, RunId, START, State, StateGraph, ThreadId, Value, node, value};
use runloom_store::{Delivery, NewThread, Run, Store};
use tokio::sync::oneshot;

use runloom_core::{
    Caller, Core, CoreOptions, Error, Posted, RunRequest, RunSpec, Session, Start, StateQuery, Target, Webhooks,
};

/// A server's lease in these tests.
pub const TTL: Duration = Duration::from_secs(1);
/// After how long a test gives up.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Opens the store once more, as another server does. Called on the runtime of that server.
pub type Open = Arc<dyn Fn() -> BoxFuture<'static, Arc<dyn Store>> + Send + Sync>;

/// A store that several servers share, empty at first.
pub struct Shared {
    pub open: Open,
    #[allow(dead_code)]
    guard: Box<dyn Any + Send + Sync>,
}

impl Shared {
    /// A store that each server opens for itself. The guard is dropped at the end of the test.
    pub fn new(open: Open, guard: impl Any + Send + Sync) -> Self {
        Self { open, guard: Box::new(guard) }
    }

    /// A store of one process, which all servers have in common.
    pub fn one(store: Arc<dyn Store>, guard: impl Any + Send + Sync) -> Self {
        let open = move || {
            let store = store.clone();
            async move { store }.boxed()
        };
        Self::new(Arc::new(open), guard)
    }
}

/// What nodes wait for, shared by the servers as the world outside is.
#[derive(Clone, Default)]
pub struct World {
    pub(super) begun: Arc<Mutex<Vec<String>>>,
    open: Arc<Mutex<BTreeSet<String>>>,
    pub(super) posted: Arc<Mutex<Vec<RunId>>>,
    news: Arc<tokio::sync::Notify>,
}

impl World {
    pub fn open(&self, gate: &str) {
        self.open.lock().insert(gate.to_owned());
        self.news.notify_waiters();
    }

    pub async fn until(&self, what: impl Fn(&Self) -> bool) {
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
        tokio::time::timeout(TIMEOUT, waiting).await.expect("it does not happen");
    }

    /// How often a node began, by any server.
    pub fn count(&self, what: &str) -> usize {
        self.begun.lock().iter().filter(|begun| *begun == what).count()
    }

    /// `one` records that it ran; `two` waits for the gate that the input names, and records it if it is stopped.
    pub fn graph(&self) -> Graph {
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
                        let stopped = Stopped { world: world.clone(), gate: Some(s.gate.clone()) };
                        world.until(|world| world.open.lock().contains(&s.gate)).await;
                        stopped.disarm();
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

/// Records that a node was stopped when it is dropped before its end.
struct Stopped {
    world: World,
    gate: Option<String>,
}

impl Stopped {
    fn disarm(mut self) {
        self.gate = None;
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        if let Some(gate) = self.gate.take() {
            self.world.note(format!("stopped:{gate}"));
        }
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

/// A server in a thread of its own. Nothing of it goes on while it is paused, nor once it is killed. It stops, without a
/// drain, when this is dropped.
pub struct Machine {
    pub session: Session,
    tasks: tokio::runtime::Handle,
    /// Dropped, it ends the machine's thread.
    _stop: oneshot::Sender<()>,
    /// Dropped, it lets a paused machine go on; one that was killed never does.
    paused: Option<mpsc::Sender<()>>,
}

impl Machine {
    pub async fn start(shared: &Shared, world: &World) -> Self {
        Self::start_with(shared, world, |_| {}).await
    }

    pub async fn start_with(
        shared: &Shared,
        world: &World,
        set: impl FnOnce(&mut CoreOptions) + Send + 'static,
    ) -> Self {
        let (open, world) = (shared.open.clone(), world.clone());
        let (ready, is_ready) = oneshot::channel();
        let (stop, is_stopped) = oneshot::channel::<()>();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let mut options = CoreOptions {
                    graphs: vec![("steps".to_owned(), world.graph())],
                    webhooks: Some(Arc::new(world)),
                    lease_ttl: TTL,
                    ..CoreOptions::new(open().await)
                };
                set(&mut options);
                let core = Core::start(options).await.unwrap();
                let handle = tokio::runtime::Handle::current();
                drop(ready.send((core.session(Caller::default()), handle)));
                drop(is_stopped.await);
            });
        });
        let (session, tasks) = is_ready.await.unwrap();
        Self { session, tasks, _stop: stop, paused: None }
    }

    /// Stops the machine's only thread.
    pub async fn pause(&mut self) {
        let (go_on, wait) = mpsc::channel::<()>();
        let (stopped, is_stopped) = oneshot::channel();
        self.tasks.spawn(async move {
            let _ = stopped.send(());
            let _ = wait.recv();
        });
        is_stopped.await.unwrap();
        self.paused = Some(go_on);
    }

    pub fn resume(&mut self) {
        self.paused = None;
    }

    /// Ends the machine as a crash does: nothing of it runs any more.
    pub async fn kill(mut self) {
        self.pause().await;
        std::mem::forget(self.paused.take());
    }

    /// Does something on the machine's own thread.
    pub async fn on<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        self.tasks.spawn(work).await.unwrap()
    }

    pub async fn create(&self, thread: ThreadId, gate: &str) -> RunId {
        self.session.create_run(request(thread, gate)).await.unwrap().0.id
    }
}

/// A run whose steps are on disk before the next one begins.
pub fn request(thread: ThreadId, gate: &str) -> RunRequest {
    let mut spec = RunSpec::new(Start::Input(value!({"gate": gate})));
    spec.options.durability = "sync".to_owned();
    RunRequest { thread_id: Some(thread), target: Target::Graph("steps".to_owned()), spec, ..RunRequest::default() }
}

pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(TIMEOUT, what).await.expect("it does not happen")
}

pub async fn thread(machine: &Machine) -> ThreadId {
    machine.session.create_thread(NewThread::default()).await.unwrap().id
}

pub async fn log_of(machine: &Machine, thread: ThreadId) -> Value {
    let state = machine.session.get_state(StateQuery::latest(thread)).await.unwrap();
    state.values.to_object().get("log").cloned().unwrap_or_default()
}
