//! The numbered events of a thread: counted as they are read, and the same whatever becomes of the runs.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{path::Path, sync::Arc, time::Duration};

use runloom_core::{
    Caller, Core, CoreOptions, Recording, RunRequest, RunSpec, Session, Start, Target,
    store::{CancelAction, Store, TenantId},
};
use runloom_engine::{
    RunId, ThreadId, Value,
    stream::{Mode, Modes},
    value,
};
use runloom_store_memory::MemoryStore;

const GRAPH: &str = "
runloom: v1
name: walk
state: { n: { schema: { type: integer } } }
nodes: { one: { steps: [ { emit: state.n }, { sleep_ms: state.n }, { update: { n: 'state.n + 1' } } ] } }
edges: [ { from: START, to: one } ]
";

async fn start(store: &Arc<dyn Store>, documents: Vec<(String, String)>) -> Core {
    let drain_timeout = Duration::from_millis(10);
    Core::start(CoreOptions { documents, drain_timeout, ..CoreOptions::new(store.clone()) }).await.unwrap()
}

fn walk() -> Vec<(String, String)> {
    vec![("walk.yaml".to_owned(), GRAPH.to_owned())]
}

async fn create(session: &Session, thread: ThreadId, graph: &str, input: Value) -> RunId {
    let modes: Modes = Mode::ALL.into_iter().filter(|mode| *mode != Mode::Debug).collect();
    let recording = Recording { modes: modes.bits(), subgraphs: true, ..Recording::default() };
    let request = RunRequest {
        target: Target::Graph(graph.to_owned()),
        thread_id: Some(thread),
        create_thread: true,
        spec: RunSpec { recording, ..RunSpec::new(Start::Input(input)) },
        ..RunRequest::default()
    };
    session.create_run(request).await.unwrap().0.id
}

/// The number and the kind of each event after `since`, up to `last`.
async fn read(session: &Session, thread: ThreadId, since: u64, last: u64) -> Vec<(u64, String)> {
    let mut reader = session.read_events(thread, since).await.unwrap();
    let mut events = Vec::new();
    while reader.seq() < last {
        let next = tokio::time::timeout(Duration::from_secs(10), reader.next()).await.unwrap().unwrap().unwrap();
        for (event, seq) in next.events.iter().zip(next.before + 1..) {
            let kind = format!("{} {:?} {:?}", next.record.run_id, event.namespace, event.body);
            events.extend((seq > since).then_some((seq, kind)));
        }
    }
    events
}

async fn count(store: &Arc<dyn Store>, thread: ThreadId) -> u64 {
    store.get_thread(&TenantId::default(), thread).await.unwrap().events.unwrap()
}

#[tokio::test]
async fn numbers_stay_when_runs_are_deleted_rolled_back_or_expire() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let core = start(&store, walk()).await;
    let session = core.session(Caller::default());
    let thread = ThreadId(uuid::Uuid::new_v4());
    let mut runs = Vec::new();
    for n in 0..4 {
        runs.push(create(&session, thread, "walk", value!({"n": n})).await);
        session.wait_run(runs[n]).await.unwrap();
    }
    let last = count(&store, thread).await;
    let whole = read(&session, thread, 0, last).await;
    assert_eq!(whole.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), (1..=last).collect::<Vec<_>>());
    // Seen in its middle, and then rolled back.
    let doomed = create(&session, thread, "walk", value!({"n": 60_000})).await;
    let seen = read(&session, thread, last, last + 3).await.last().unwrap().0;
    session.cancel_run(doomed, CancelAction::Rollback, "a test".into(), true).await.unwrap();
    assert!(session.get_run(doomed).await.is_err());
    session.delete_run(runs[1]).await.unwrap();
    store.trim_log(&TenantId::default(), runs[2], u64::from(u32::MAX)).await.unwrap();
    core.drain().await;

    let core = start(&store, walk()).await;
    let session = core.session(Caller::default());
    let newest = create(&session, thread, "walk", value!({"n": 0})).await;
    session.wait_run(newest).await.unwrap();
    let end = count(&store, thread).await;
    let after = read(&session, thread, 0, end).await;
    let gone = [runs[1], runs[2]].map(|run| run.to_string());
    let is_left = |(_, kind): &&(u64, String)| !gone.iter().any(|run| kind.starts_with(&**run));
    let left: Vec<_> = whole.iter().filter(is_left).cloned().collect();
    assert_eq!(after[..left.len()], left[..], "what is left has its numbers");
    assert!(after[left.len()].0 > seen, "{} was given to an event that was rolled back", after[left.len()].0);
    for since in 0..end {
        let rest: Vec<_> = after.iter().filter(|(seq, _)| *seq > since).cloned().collect();
        assert_eq!(read(&session, thread, since, end).await, rest, "since {since}");
    }
    core.drain().await;
}

#[tokio::test]
async fn events_are_counted_as_they_are_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/conformance/protocol/graphs");
    let documents = std::fs::read_dir(folder).unwrap().map(|file| {
        let path = file.unwrap().path();
        (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read_to_string(path).unwrap())
    });
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let core = start(&store, documents.collect()).await;
    let session = core.session(Caller::default());
    let inputs = [
        ("agent", value!({"messages": [{"role": "user", "content": "hi"}]})),
        ("ask", value!({"topic": "tea"})),
        ("fails", value!({"log": []})),
        ("fan_sub", value!({"words": ["a", "b"]})),
        ("nested", value!({"messages": [], "log": []})),
        ("outer_ask", value!({})),
        ("tool_fails", value!({"messages": [{"role": "user", "content": "hi"}]})),
        ("two_questions", value!({})),
    ];
    for (graph, input) in inputs {
        let thread = ThreadId(uuid::Uuid::new_v4());
        let run = create(&session, thread, graph, input).await;
        session.wait_run(run).await.unwrap();
        let counted = count(&store, thread).await;
        let read = read(&session, thread, 0, counted).await;
        assert!(counted > 5, "{graph}: {counted}");
        let run = session.get_run(run).await.unwrap();
        let mut stored = 0;
        session.stored_events(&run, |_| stored += 1).await.unwrap();
        assert_eq!((read.len() as u64, stored), (counted, counted), "{graph}");
    }
    core.drain().await;
}
