//! Graphs in nodes that are tried again: they begin anew, but for those that were answered.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use runloom_engine::{channel::ChannelSpec, checkpoint::MemoryCheckpointer, *};

fn builder(name: &str) -> GraphBuilder {
    let mut b = GraphBuilder::new(name);
    b.add_channel(ChannelSpec::new("log").reducer(Reducer::Append));
    b
}

fn log(text: &str) -> Update {
    Update::new().set("log", vec![text])
}

fn thread() -> RunConfig {
    RunConfig::thread(ThreadId(uuid::Uuid::now_v7()))
}

/// A graph in a node that is tried again: `s2` fails as long as it is told to.
fn tried_again(fails: u32, question: &'static str) -> (Graph, Arc<AtomicU32>, Arc<AtomicU32>) {
    let (first, second) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let mut inner = builder("inner");
    let count = first.clone();
    inner.add_node(
        "s1",
        node(move |_: StateView, cx: Context| {
            count.fetch_add(1, Ordering::Relaxed);
            async move {
                if question == "first" {
                    cx.interrupt("go on?")?;
                }
                Ok(log("s1"))
            }
        }),
    );
    let count = second.clone();
    inner.add_node(
        "s2",
        node(move |_: StateView, cx: Context| {
            let n = count.fetch_add(1, Ordering::Relaxed);
            async move {
                if n < fails {
                    return Err(NodeError::msg("not yet"));
                }
                if question == "last" {
                    cx.interrupt("go on?")?;
                }
                Ok(log("s2"))
            }
        }),
    );
    inner.add_edge(START, "s1").add_edge("s1", "s2");
    let mut b = builder("outer");
    let retry = RetryPolicy { initial_interval: Duration::from_millis(1), jitter: false, ..RetryPolicy::default() };
    b.add_node("child", subgraph(inner.compile().unwrap()).retry(RetryPolicy { max_attempts: 2, ..retry }));
    b.add_edge(START, "child");
    (b.compile().unwrap().with_checkpointer(Arc::new(MemoryCheckpointer::default())), first, second)
}

#[tokio::test]
async fn a_subgraph_tried_again_begins_anew_and_its_question_finds_it_again() {
    let (graph, first, second) = tried_again(1, "last");
    let config = thread();
    let asked = graph.invoke(value!({}), config.clone()).await.unwrap();
    assert_eq!((first.load(Ordering::Relaxed), second.load(Ordering::Relaxed)), (2, 2), "both tries began with s1");
    let view = graph.get_state(config.thread_id.unwrap(), None, true).await.unwrap();
    let within = view.tasks[0].state.as_ref().unwrap();
    assert!(within.config.as_ref().unwrap().ns.ends_with("|1"), "{:?}", within.config);
    assert_eq!(within.interrupts().map(|q| q.id.clone()).collect::<Vec<_>>(), [asked.interrupts[0].id.clone()]);
    let by_id = Answer::ById(vec![(asked.interrupts[0].id.clone(), "yes".into())]);
    let command = Command { resume: Some(by_id), ..Command::default() };
    let out = graph.invoke(command, RunConfig { strict: true, ..config }).await.unwrap();
    assert_eq!(out.values.get("log"), Some(&value!(["s1", "s2"])));
    assert_eq!(first.load(Ordering::Relaxed), 2, "what had asked goes on where it stopped");
}

#[tokio::test]
async fn a_subgraph_that_was_answered_is_tried_again_where_it_failed_and_asks_nobody_twice() {
    let (graph, first, second) = tried_again(1, "first");
    let config = thread();
    let asked = graph.invoke(value!({}), config.clone()).await.unwrap();
    assert_eq!(asked.interrupts.len(), 1);
    let out = graph.invoke(Command::resume("yes"), config).await.unwrap();
    assert_eq!(out.values.get("log"), Some(&value!(["s1", "s2"])));
    assert_eq!((first.load(Ordering::Relaxed), second.load(Ordering::Relaxed)), (2, 2), "s1 asked and went on");
}
