//! Threads, assistants, graphs and state: the operations as faces call them, on every store.
#![allow(missing_docs, clippy::unwrap_used)]

mod assistants;
mod crons;
mod graphs;
mod items;
mod start;
mod state;
mod threads;
mod webhooks;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use runloom_core::{
    Caller, CommandSpec, Core, CoreOptions, Error, GraphSource, Reason, RunRequest, RunSpec, Session, Start,
    StateQuery, StateUpdateRequest, Target, default_assistant_id,
    engine::{
        ChannelSpec, Graph, GraphBuilder, Object, Reducer, START, StateUpdate, StateView, ThreadId, Update, Value,
        checkpoint::CheckpointFilter, node, value,
    },
    store::{
        AssistantFilter, AssistantId, AssistantUpdate, IfExists, NewAssistant, NewThread, PageRequest, Store,
        ThreadStatus,
    },
};
use runloom_store_sqlite::{OpenOptions, SqliteStore};

const ECHO: &str = r#"
runloom: v1
name: echo
description: Says what it was told.
state:
  q: { schema: { type: string } }
  a: { schema: { type: string } }
context: { schema: { type: object, properties: { tone: { type: string }, level: { type: integer } } } }
nodes:
  answer: { update: { a: '("tone" in context ? context.tone : "plain") + ": " + state.q' } }
edges: [ { from: START, to: answer } ]
"#;

const STEPS: &str = r#"
runloom: v1
name: steps
state:
  n: { schema: { type: integer } }
  log: { reducer: append }
nodes:
  one: { update: { n: 'state.n + 1', log: '["one"]' } }
  two: { update: { n: 'state.n * 10', log: '["two"]' } }
edges:
  - { from: START, to: one }
  - { from: one, to: two }
"#;

const ASK: &str = r#"
runloom: v1
name: ask
state: { draft: {}, answer: {} }
nodes:
  draft: { update: { draft: '"v1"' } }
  review: { steps: [ { interrupt: { value: '{"question": "ok?"}', as: answer } }, { update: { answer: answer } } ] }
edges: [ { from: START, to: draft }, { from: draft, to: review } ]
"#;

const CHILD: &str = r#"
runloom: v1
name: child
hidden: true
state: { n: { schema: { type: integer } } }
nodes: { inner: { update: { n: 'state.n + 1' } } }
edges: [ { from: START, to: inner } ]
"#;

const PARENT: &str = r#"
runloom: v1
name: parent
state: { n: { schema: { type: integer } } }
nodes: { sub: { subgraph: child } }
edges: [ { from: START, to: sub } ]
"#;

fn documents(texts: &[(&str, &str)]) -> Vec<(String, String)> {
    texts.iter().map(|(file, text)| (format!("{file}.yaml"), (*text).to_owned())).collect()
}

fn all() -> Vec<(String, String)> {
    documents(&[("ask", ASK), ("child", CHILD), ("echo", ECHO), ("parent", PARENT), ("steps", STEPS)])
}

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("runloom-ops-{}", ThreadId(fresh())));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn open(&self) -> Arc<dyn Store> {
        Arc::new(SqliteStore::open(OpenOptions::new(&self.0)).unwrap())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn fresh() -> uuid::Uuid {
    uuid::Uuid::now_v7()
}

async fn start(store: Arc<dyn Store>, documents: Vec<(String, String)>) -> Session {
    Core::start(CoreOptions { documents, ..CoreOptions::new(store) }).await.unwrap().session(Caller::default())
}

fn object(value: Value) -> Object {
    value.as_object().unwrap().clone()
}

fn request(thread: Option<ThreadId>, graph: &str, start: Start) -> RunRequest {
    RunRequest {
        thread_id: thread,
        create_thread: true,
        target: Target::Graph(graph.to_owned()),
        spec: RunSpec::new(start),
        ..RunRequest::default()
    }
}

async fn run(core: &Session, request: RunRequest) -> Value {
    let run = core.create_run(request).await.unwrap().0;
    let outcome = core.wait_run(run.id).await.unwrap();
    assert_eq!(outcome.end.error, None);
    outcome.end.values.unwrap()
}

async fn thread(core: &Session) -> ThreadId {
    core.create_thread(NewThread::default()).await.unwrap().id
}

fn update(thread: ThreadId, values: Value, as_node: Option<&str>) -> StateUpdateRequest {
    StateUpdateRequest {
        thread,
        checkpoint_id: None,
        namespace: String::new(),
        updates: vec![StateUpdate { values: Some(values), as_node: as_node.map(str::to_owned) }],
        expected_checkpoint_id: None,
        graph: None,
    }
}

/// An error's reason and the fields it names.
fn named(error: &Error) -> (Reason, Vec<&str>) {
    (error.reason, error.fields.iter().map(|(path, _)| &**path).collect())
}

/// Makes of functions over a store a test on each store.
macro_rules! on_every_store {
    ($($name:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test]
            async fn $name() {
                super::$name(std::sync::Arc::new(runloom_store_memory::MemoryStore::new())).await
            })*
        }
        mod sqlite {
            $(#[tokio::test]
            async fn $name() {
                let folder = crate::Folder::new();
                super::$name(folder.open()).await
            })*
        }
    };
}
use on_every_store;
