//! What the log of a run keeps of streamed messages: the same for who reads it while it is made and for who reads it from
//! the disk, from any cursor, and little of it.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use runloom_core::{
    Body, Caller, Core, CoreOptions, ReadOptions, Record, Recording, RunReader, RunRequest, RunSpec, Session, Start,
    Target,
};
use runloom_engine::{
    stream::{Mode, Modes, Payload},
    *,
};
use runloom_store::{ReadLimit, Store, TenantId};
use runloom_store_memory::MemoryStore;
use runloom_store_sqlite::{OpenOptions, SqliteStore};

/// Two models that speak side by side, one of which thinks and calls a tool first.
const DOCUMENT: &str = r#"
runloom: v1
name: two
state:
  messages: { reducer: messages }
models:
  first:
    scripted:
      delay_ms: 1
      responses: [ { reasoning: "which one is it", content: "it is this one", tool_calls: [ { name: look, args: { at: this } } ] } ]
  second: { scripted: { delay_ms: 1, responses: [ { content: "one two three four five" } ] } }
nodes:
  a: { chat_model: { model: first } }
  b: { chat_model: { model: second } }
edges:
  - { from: START, to: a }
  - { from: START, to: b }
"#;

async fn core(store: &Arc<dyn Store>, document: &str) -> Session {
    let documents = vec![("two.yaml".to_owned(), document.to_owned())];
    Core::start(CoreOptions { documents, ..CoreOptions::new(store.clone()) }).await.unwrap().session(Caller::default())
}

async fn start(core: &Session) -> (RunId, RunReader) {
    let modes = Modes::from([Mode::Messages, Mode::Events, Mode::Updates]).bits();
    let start = Start::Input(value!({"messages": [{"role": "user", "content": "go"}]}));
    let request = RunRequest {
        target: Target::Graph("two".to_owned()),
        spec: RunSpec { recording: Recording { modes, ..Recording::default() }, ..RunSpec::new(start) },
        ..RunRequest::default()
    };
    let (run, _) = core.create_run(request).await.unwrap();
    let id = run.id;
    let reader = core.read_new_run(run, ReadOptions::default()).await.unwrap();
    (id, reader)
}

async fn run(core: &Session) -> (RunId, Vec<Arc<Record>>) {
    let (id, reader) = start(core).await;
    (id, all(reader).await)
}

/// A graph whose model says a text, word by word, as fast as it can.
fn says(text: &str) -> String {
    format!(
        r#"{{"runloom": "v1", "name": "two", "state": {{"messages": {{"reducer": "messages"}}}},
            "models": {{"bot": {{"scripted": {{"responses": [{{"content": "{text}"}}]}}}}}},
            "nodes": {{"say": {{"chat_model": {{"model": "bot"}}}}}}, "edges": [{{"from": "START", "to": "say"}}]}}"#
    )
}

async fn all(reader: RunReader) -> Vec<Arc<Record>> {
    let records = reader.map(Result::unwrap).collect();
    tokio::time::timeout(Duration::from_secs(20), records).await.expect("it takes too long")
}

/// All that a record says, its time to the microsecond: finer ones are not kept.
fn shown(record: &Record) -> String {
    let time = record.emit_time.duration_since(std::time::UNIX_EPOCH).unwrap().as_micros();
    let Record { seq, run_id, attempt, namespace, step, task, body, .. } = record;
    format!("{seq} {time} {run_id} {attempt} {namespace} {step:?} {task:?} {body:#?}")
}

// G4
#[tokio::test]
async fn pieces_are_the_same_from_the_disk_from_any_cursor() {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(OpenOptions::new(folder.path())).unwrap());
    let core = core(&store, DOCUMENT).await;
    let (id, live) = run(&core).await;
    let count = |is: fn(&Payload) -> bool| {
        live.iter().filter(|r| matches!(&r.body, Body::Part(payload) if is(payload))).count()
    };
    assert!(count(|p| matches!(p, Payload::Message(_))) > 20, "{live:#?}");
    assert!(count(|p| matches!(p, Payload::Event(_))) > 20);
    for after in 0..live.last().unwrap().seq {
        let late = all(core.read_run(id, ReadOptions { after, ..ReadOptions::default() }).await.unwrap()).await;
        let wanted: Vec<_> = live.iter().filter(|r| r.seq > after).map(|r| shown(r)).collect();
        let got: Vec<_> = late.iter().map(|r| shown(r)).collect();
        assert_eq!(got, wanted, "after {after}");
    }
}

#[tokio::test]
async fn a_token_costs_little_more_than_its_text() {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(OpenOptions::new(folder.path())).unwrap());
    let words = vec!["token"; 1000].join(" ");
    let core = core(&store, &says(&words)).await;
    let (id, live) = run(&core).await;
    let (mut bytes, mut after) = (0, 0);
    loop {
        let rows = store.read_log(&TenantId::default(), id, after + 1, ReadLimit::default()).await.unwrap();
        let Some(last) = rows.last() else { break };
        (bytes, after) = (bytes + rows.iter().map(|row| row.bytes.len()).sum::<usize>(), last.seq);
    }
    // Each token is there twice, in a message and in an event; the whole text is, a few times.
    let own = bytes - 6 * words.len();
    assert!(own < live.len() * 50, "{} bytes for {} parts", bytes, live.len());
}

#[tokio::test]
async fn a_run_that_never_waits_does_not_keep_its_reader_waiting() {
    // One thread, and a store that answers at once: nothing but the run itself lets the reader have its turn.
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let core = core(&store, &says(&vec!["token"; 20_000].join(" "))).await;
    let (id, mut reader) = start(&core).await;
    let is_token = |r: &Record| matches!(r.body, Body::Part(Payload::Message(_)));
    while !is_token(&reader.next().await.unwrap().unwrap()) {}
    let run = core.get_run(id).await.unwrap();
    assert!(!run.status.is_end(), "{run:?}");
}
