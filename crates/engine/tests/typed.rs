//! A graph of Rust structs and closures, from the outside.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use runloom_engine::{
    checkpoint::{CheckpointFilter, MemoryCheckpointer},
    stream::{Mode, Payload, UpdatePart},
    *,
};
use serde::{Deserialize, Serialize};

#[derive(State, Serialize, Deserialize, Default, Debug, Clone)]
struct Talk {
    topic: String,
    #[state(append)]
    log: Vec<String>,
    #[state(add)]
    count: i64,
}

fn thread() -> RunConfig {
    RunConfig::thread(ThreadId(uuid::Uuid::now_v7()))
}

fn linear() -> Graph {
    StateGraph::<Talk>::new("linear")
        .add_node(
            "plan",
            node(|s: Talk, _| async move { Ok(Talk::update().log(vec![format!("plan {}", s.topic)]).count(1)) }),
        )
        .add_node("write", node(|s: Talk, _| async move { Ok(Talk::update().topic(s.topic + "!").count(2)) }))
        .add_edge(START, "plan")
        .add_edge("plan", "write")
        .add_edge("write", END)
        .compile()
        .unwrap()
}

#[tokio::test]
async fn a_graph_runs_to_its_end() {
    let out = linear().invoke(value!({"topic": "tea"}), RunConfig::default()).await.unwrap();
    assert_eq!(Value::Object(out.values), value!({"topic": "tea!", "log": ["plan tea"], "count": 3}));
}

// G6
#[tokio::test]
async fn updates_come_in_order_and_the_stream_is_pulled() {
    let mut stream = linear().stream(value!({"topic": "tea"}), RunConfig::default());
    let mut seen = Vec::new();
    while let Some(part) = stream.next().await {
        let Payload::Update(UpdatePart::Node { node, value, .. }) = part.payload else { panic!("{part:?}") };
        seen.push((node.to_string(), value));
    }
    assert_eq!(
        seen,
        [
            ("plan".to_owned(), value!({"log": ["plan tea"], "count": 1})),
            ("write".to_owned(), value!({"topic": "tea!", "count": 2})),
        ]
    );
    assert!(!stream.finished().unwrap().unwrap().is_interrupted);
}

#[tokio::test]
async fn a_reader_that_stops_stops_the_graph() {
    let ran = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = ran.clone();
    let graph = StateGraph::<Talk>::new("endless")
        .add_node(
            "again",
            node(move |_: Talk, _| {
                count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                async { Ok(Talk::update().count(1)) }
            }),
        )
        .add_edge(START, "again")
        .add_edge("again", "again")
        .compile()
        .unwrap();
    let mut stream = graph.stream(value!({}), RunConfig::default());
    for _ in 0..3 {
        stream.next().await.unwrap();
    }
    assert_eq!(ran.load(std::sync::atomic::Ordering::Relaxed), 3);
    drop(stream);
    assert_eq!(ran.load(std::sync::atomic::Ordering::Relaxed), 3);
}

#[tokio::test]
async fn a_question_stops_the_run_and_its_answer_goes_on() {
    let graph = StateGraph::<Talk>::new("ask")
        .add_node(
            "ask",
            node(|_: Talk, cx: Context| async move {
                let name = cx.interrupt("name?")?;
                let age = cx.interrupt("age?")?;
                Ok(Talk::update().topic(format!("{name} {age}")))
            }),
        )
        .add_edge(START, "ask")
        .compile()
        .unwrap()
        .with_checkpointer(Arc::new(MemoryCheckpointer::default()));
    let config = thread();
    let first = graph.invoke(value!({}), config.clone()).await.unwrap();
    assert_eq!(first.interrupts[0].value, Value::from("name?"));
    let second = graph.invoke(Command::resume("Ada"), config.clone()).await.unwrap();
    assert_eq!(second.interrupts[0].value, Value::from("age?"));
    assert_ne!(first.interrupts[0].id, second.interrupts[0].id);
    let third = graph.invoke(Command::resume(36), config.clone()).await.unwrap();
    assert!(!third.is_interrupted);
    assert_eq!(third.values.get("topic"), Some(&Value::from("\"Ada\" 36")));
    let history = graph.state_history(config.thread_id.unwrap(), CheckpointFilter::default()).await.unwrap();
    assert_eq!(history.len(), 3);
}

#[tokio::test]
async fn a_panic_is_a_failure_and_a_cancel_is_quick() {
    let graph = StateGraph::<Talk>::new("panics")
        .add_node(
            "boom",
            node(|s: Talk, _| async move {
                assert!(!s.topic.is_empty(), "no topic");
                std::future::pending::<()>().await;
                Ok(())
            }),
        )
        .add_edge(START, "boom")
        .compile()
        .unwrap();
    let error = graph.invoke(value!({}), RunConfig::default()).await.unwrap_err();
    assert!(error.to_string().contains("panicked: no topic"), "{error}");
    let config = RunConfig::default();
    let cancel = config.cancel.clone();
    let run = tokio::spawn(graph.stream(value!({"topic": "x"}), config).finish());
    tokio::task::yield_now().await;
    cancel.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(5), run).await.unwrap().unwrap();
    assert!(matches!(ended, Err(Error::Cancelled { .. })));
}

#[tokio::test]
async fn all_that_is_wrong_with_a_graph_is_said() {
    let error = StateGraph::<Talk>::new("wrong")
        .add_node("plan", node(|_: Talk, _| async { Ok(()) }))
        .add_edge("plam", "write")
        .compile()
        .unwrap_err()
        .to_string();
    for part in ["no edge from START", "`plam`", "did you mean `plan`", "`write`"] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[tokio::test]
async fn a_subgraph_shares_channels_and_asks_through_its_parent() {
    let inner = StateGraph::<Talk>::new("inner")
        .add_node(
            "ask",
            node(|_: Talk, cx: Context| async move {
                let answer = cx.interrupt("ok?")?;
                Ok(Talk::update().log(vec![answer.to_string()]))
            }),
        )
        .add_edge(START, "ask")
        .compile()
        .unwrap();
    let graph = StateGraph::<Talk>::new("outer")
        .add_subgraph("child", inner)
        .add_edge(START, "child")
        .compile()
        .unwrap()
        .with_checkpointer(Arc::new(MemoryCheckpointer::default()));
    let config = RunConfig { subgraphs: true, ..thread() }.modes([Mode::Updates, Mode::Values]);
    let first = graph.invoke(value!({"log": ["in"]}), config.clone()).await.unwrap();
    assert_eq!(first.interrupts.len(), 1);
    let state = graph.get_state(config.thread_id.unwrap(), None, true).await.unwrap();
    assert_eq!(&*state.next[0], "child");
    assert_eq!(&*state.tasks[0].state.as_ref().unwrap().next[0], "ask");
    let done = graph.invoke(Command::resume(true), config).await.unwrap();
    assert_eq!(done.values.get("log"), Some(&value!(["in", "in", "true"])));
}

/// A graph with one that is `levels` deep inside it.
fn nest(levels: usize) -> Result<Graph, Error> {
    let step = node(|_: Talk, _| async { Ok(Talk::update().log(vec!["inmost".into()])) });
    let mut graph = StateGraph::<Talk>::new("g0").add_node("n", step).add_edge(START, "n").compile()?;
    for level in 1..=levels {
        graph = StateGraph::<Talk>::new(format!("g{level}")).add_subgraph("n", graph).add_edge(START, "n").compile()?;
    }
    Ok(graph)
}

#[tokio::test]
async fn graphs_run_inside_each_other_to_a_limit() {
    let deep = nest(graph::MAX_NESTED).unwrap();
    assert_eq!(deep.nested(), graph::MAX_NESTED);
    let ran = deep.invoke(value!({"log": []}), RunConfig::default()).await.unwrap();
    assert_eq!(ran.values.get("log"), Some(&value!(["inmost"])));
    let error = nest(graph::MAX_NESTED + 1).unwrap_err();
    let text = "graph `g17` is not valid: node `n`: graphs run inside each other deeper than 16";
    assert_eq!(error.to_string(), text);
}

#[tokio::test]
async fn a_graph_that_runs_itself_from_within_a_node_is_an_error_and_no_overflow() {
    fn again() -> Graph {
        let step = node(|_: Talk, cx: Context| async move {
            cx.graph(&again(), value!({"log": []})).await?;
            Ok(())
        });
        StateGraph::<Talk>::new("again").add_node("n", step).add_edge(START, "n").compile().unwrap()
    }
    let error = again().invoke(value!({"log": []}), RunConfig::default()).await.unwrap_err();
    assert!(error.to_string().contains("deeper than 16"), "{error}");
    assert!(matches!(&error, Error::Node { error, .. } if !error.retryable), "{error:?}");
}
