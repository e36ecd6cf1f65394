//! Threads between runs: written by hand, and what a run without an input can go on with.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use runloom_engine::{channel::ChannelSpec, checkpoint::MemoryCheckpointer, *};
use uuid::Uuid;

/// A clock that stands still: its ids differ in what they are sorted by last.
#[derive(Default)]
struct Still(AtomicU64);

impl Clock for Still {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }

    fn uuid(&self) -> Uuid {
        Uuid::from_u64_pair(0x0198_0000_0000_7fff, 1 << 63 | self.0.fetch_add(1, Ordering::Relaxed))
    }
}

fn graph() -> Graph {
    let mut b = GraphBuilder::new("two");
    b.add_channel(ChannelSpec::new("log").reducer(Reducer::Append));
    for name in ["a", "b"] {
        b.add_node(name, node(move |_: StateView, _| async move { Ok(Update::new().set("log", vec![name])) }));
    }
    b.add_edge(START, "a").add_edge("a", "b");
    b.compile().unwrap().with_runtime(Runtime {
        checkpointer: Some(Arc::new(MemoryCheckpointer::default())),
        clock: Arc::new(Still::default()),
        ..Runtime::default()
    })
}

fn by_hand() -> Vec<StateUpdate> {
    vec![StateUpdate { values: Some(value!({"log": ["hand"]})), as_node: Some("a".to_owned()) }]
}

#[tokio::test]
async fn a_write_by_hand_comes_after_runs_that_were_quicker_than_the_clock() {
    let graph = graph();
    for run in [None, Some(RunId(Uuid::new_v4()))] {
        let thread = ThreadId(Uuid::now_v7());
        let config = RunConfig { run_id: run, ..RunConfig::thread(thread) };
        graph.invoke(value!({}), config.clone()).await.unwrap();
        let first = graph.get_state(thread, None, false).await.unwrap().config.unwrap();
        let made = graph.update_state(thread, None, "", by_hand(), Object::default()).await.unwrap();
        let view = graph.get_state(thread, None, false).await.unwrap();
        assert_eq!(view.config, Some(made));
        assert_eq!((view.next.len(), &*view.next[0]), (1, "b"));
        let fork = graph.update_state(thread, first.id, "", by_hand(), Object::default()).await.unwrap();
        assert_eq!(graph.get_state(thread, None, false).await.unwrap().config, Some(fork));
        let out = graph.invoke(Input::Resume, config).await.unwrap();
        assert_eq!(out.values.get("log"), Some(&value!(["a", "b", "hand", "b"])));
    }
}

async fn commanded(graph: &Graph, thread: ThreadId, command: Command, config: RunConfig) -> Value {
    let out = graph.invoke(Input::Command(command), RunConfig { thread_id: Some(thread), ..config }).await.unwrap();
    let view = graph.get_state(thread, None, false).await.unwrap();
    let log = view.values_object().get("log").unwrap().clone();
    assert_eq!(out.values.get("log"), Some(&log));
    log
}

#[tokio::test]
async fn what_commands_bring_adds_up_in_their_order_and_once_each_over_all_attempts() {
    let graph = graph();
    let thread = ThreadId(Uuid::now_v7());
    graph.invoke(value!({}), RunConfig::thread(thread)).await.unwrap();
    let bring = |text: &str| Command::new().update(Update::new().set("log", vec![text]));
    let new = || RunConfig { run_id: Some(RunId(Uuid::now_v7())), ..RunConfig::default() };
    assert_eq!(commanded(&graph, thread, bring("1"), new()).await, value!(["a", "b", "1"]));
    let again = new();
    assert_eq!(commanded(&graph, thread, bring("2"), again.clone()).await, value!(["a", "b", "1", "2"]));
    // The server went down before the run's end was kept: the same command comes again.
    let again = RunConfig { attempt: 2, ..again };
    assert_eq!(commanded(&graph, thread, bring("2"), again).await, value!(["a", "b", "1", "2"]));
    // What comes after an overwrite is added to it, and a write that cannot be applied is not kept.
    let over = Command::new().update(Update::new().overwrite("log", value!(["new"])));
    assert_eq!(commanded(&graph, thread, over, new()).await, value!(["new"]));
    let wrong = Command::new().update(Update::new().set("log", "no list"));
    graph.invoke(Input::Command(wrong), RunConfig { thread_id: Some(thread), ..new() }).await.unwrap_err();
    assert_eq!(commanded(&graph, thread, bring("3").goto("b"), new()).await, value!(["new", "3", "b"]));
}
