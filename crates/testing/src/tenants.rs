//! Two tenants of one server. What belongs to one is answered to the other as if it did not exist.
//!
//! Each call is made in two worlds: one in which tenant A has objects, and one in which A has none and everything else is
//! the same. B's answers have to be the same in both, and A's have to differ, or the call does not show anything.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use regex::Regex;
use runloom_core::{Caller, Core, CoreOptions, CronRequest, RunRequest, RunSpec, Session, Start, StateQuery, Target};
use runloom_engine::{CheckpointId, Clock, Object, RunId, SystemClock, ThreadId, Value, value};
use runloom_store::{AssistantId, AssistantUpdate, CronId, NewAssistant, NewThread, Run, TenantId};
use runloom_store_memory::MemoryStore;

const DOCUMENTS: [(&str, &str); 2] = [
    (
        "echo.yaml",
        "runloom: v1\nname: echo\nstate: { q: {}, a: {} }\nnodes: { say: { update: { a: state.q } } }\nedges: [ { from: \
         START, to: say } ]\n",
    ),
    (
        "ask.yaml",
        "runloom: v1\nname: ask\nstate: { q: {} }\nnodes: { ask: { steps: [ { interrupt: { value: '\"?\"', as: told } }, \
         { update: { q: told } } ] } }\nedges: [ { from: START, to: ask } ]\n",
    ),
];
pub const MINE: &str = "runloom: v1\nname: mine\nstate: { n: {} }\nnodes: { a: { update: { n: '1' } } }\nedges: [ { from: START, to: a } ]\n";

/// What tenant A has.
#[derive(Clone)]
pub struct Ids {
    pub thread: ThreadId,
    /// A run of the thread that has ended, as A sees it.
    pub run: Box<Run>,
    pub checkpoint: CheckpointId,
    /// A run that waits for its time, on a thread of its own.
    pub waiting: RunId,
    /// A thread with an open question.
    pub asking: ThreadId,
    pub assistant: AssistantId,
    pub cron: CronId,
}

pub fn request(thread: Option<ThreadId>, graph: &str) -> RunRequest {
    RunRequest {
        thread_id: thread,
        target: Target::Graph(graph.to_owned()),
        spec: RunSpec::new(Start::Input(value!({"q": "secret"}))),
        ..RunRequest::default()
    }
}

pub fn later() -> SystemTime {
    SystemTime::now() + Duration::from_secs(3600)
}

pub fn cron(id: Option<CronId>, run: RunRequest) -> CronRequest {
    CronRequest { id, schedule: "0 0 1 1 *".to_owned(), run, ..CronRequest::default() }
}

pub fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

pub fn object(value: Value) -> Object {
    value.as_object().unwrap().clone()
}

/// Makes what A has.
pub async fn fill(a: &Session) -> Ids {
    let metadata = object(value!({"secret": "a"}));
    let new = || NewThread { metadata: metadata.clone(), ..NewThread::default() };
    let (thread, asking) = (a.create_thread(new()).await.unwrap().id, a.create_thread(new()).await.unwrap().id);
    let assistant = NewAssistant { graph: "echo".into(), name: "A's".into(), metadata, ..NewAssistant::default() };
    let assistant = a.create_assistant(assistant).await.unwrap().id;
    a.update_assistant(assistant, AssistantUpdate { name: Some("A's own".into()), ..AssistantUpdate::default() })
        .await
        .unwrap();
    let first = RunRequest {
        request_id: Some("request".into()),
        target: Target::Assistant(assistant),
        ..request(Some(thread), "echo")
    };
    let run = a.create_run(first).await.unwrap().0.id;
    a.wait_run(run).await.unwrap();
    let asked = a.create_run(request(Some(asking), "ask")).await.unwrap().0.id;
    a.wait_run(asked).await.unwrap();
    let waits =
        RunRequest { start_time: Some(later()), create_thread: true, ..request(Some(ThreadId(fresh())), "echo") };
    let waiting = a.create_run(waits).await.unwrap().0.id;
    let cron = a.create_cron(cron(None, request(Some(thread), "echo"))).await.unwrap().id;
    a.register_graph(MINE, false).await.unwrap();
    a.put_item(&names(&["ns"]), "key", object(value!({"x": "secret"})), None).await.unwrap();
    let state = a.get_state(StateQuery::latest(thread)).await.unwrap();
    let checkpoint = state.config.unwrap().id.unwrap();
    Ids { thread, run: Box::new(a.get_run(run).await.unwrap()), checkpoint, waiting, asking, assistant, cron }
}

fn fresh() -> uuid::Uuid {
    SystemClock.uuid()
}

/// A core, in which A has objects or not.
pub struct World {
    pub a: Session,
    pub b: Session,
}

impl World {
    pub async fn new() -> Self {
        let documents = DOCUMENTS.map(|(file, text)| (file.to_owned(), text.to_owned())).to_vec();
        let core =
            Core::start(CoreOptions { documents, ..CoreOptions::new(Arc::new(MemoryStore::new())) }).await.unwrap();
        let tenant = TenantId::new("b").unwrap();
        Self { a: core.session(Caller::default()), b: core.session(Caller { tenant, ..Caller::default() }) }
    }
}

/// An answer without what differs from call to call: ids that were not given, and times.
pub fn plain(answer: &str, ids: &Ids) -> String {
    let known = [
        (ids.thread.to_string(), "THREAD"),
        (ids.asking.to_string(), "ASKING"),
        (ids.run.id.to_string(), "RUN"),
        (ids.waiting.to_string(), "WAITING"),
        (ids.assistant.to_string(), "ASSISTANT"),
        (ids.cron.to_string(), "CRON"),
        (ids.checkpoint.to_string(), "CHECKPOINT"),
    ];
    let answer = known.iter().fold(answer.to_owned(), |answer, (id, name)| answer.replace(id, name));
    let ids = Regex::new("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").unwrap();
    let times = "tv_sec: [0-9]+, tv_nsec: [0-9]+|seconds: [0-9]+, nanos: [0-9]+|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+(Z|\\+00:00)";
    let times = Regex::new(times).unwrap();
    times.replace_all(&ids.replace_all(&answer, "ID"), "TIME").into_owned()
}
