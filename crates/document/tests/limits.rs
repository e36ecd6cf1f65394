//! What bounds a graph: tasks of a step, bytes of a state, and cancels while it computes.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use common::{graph, graph_with, run, run_with, thread};
use runloom_document::Registry;
use runloom_engine::{
    Context, Error, Goto, GraphBuilder, Limits, RunConfig, START, StateView, Update, Value, command::Send, node,
    stream::Modes, value,
};

/// So many tasks for node `a`.
fn sends(count: usize) -> Vec<Goto> {
    (0..count).map(|_| Goto::Send(Send { node: "a".into(), input: Value::object() })).collect()
}

const FAN: &str = r#"
state: { x: { reducer: append } }
nodes: { a: { update: { x: [1] } } }
edges:
  - { from: START, to: a }
  - { from: a, route: '[1,2,3,4,5,6,7,8,9,10].map(i, {"node": "a", "input": {"x": []}})', to: [a] }
"#;

#[tokio::test]
async fn a_graph_whose_sends_multiply_fails_at_the_limit_of_tasks() {
    let error = run(&graph(FAN), value!({"x": [1]}), Modes::NONE).await.result.unwrap_err();
    assert_eq!(error.kind(), "GraphLimitError");
    let text = error.to_string();
    for part in ["graph `own`, node `a`", "raise the limit `step_tasks`, which is 10000", "send fewer at a time"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let limits = Limits { step_tasks: 99, ..Limits::default() };
    let config = RunConfig { limits, ..RunConfig::thread(thread()) };
    let error = run_with(&graph(FAN), value!({"x": [1]}), config).await.result.unwrap_err();
    assert!(matches!(error, Error::LimitReached { name: "step_tasks", limit: 99, .. }), "{error}");
}

#[tokio::test]
async fn the_limit_counts_in_graphs_inside_too() {
    let inner = format!("hidden: true\n{FAN}");
    let outer = "state: { x: {} }\nnodes: { one: { subgraph: inner } }\nedges: [ { from: START, to: one } ]";
    let g = graph_with(outer, &[("inner", &inner)], &Registry::new());
    let error = run(&g, value!({"x": [1]}), Modes::NONE).await.result.unwrap_err();
    assert!(matches!(&error, Error::LimitReached { graph, .. } if graph == "inner"), "{error}");
}

#[tokio::test]
async fn a_state_that_grows_past_the_limit_of_bytes_fails_with_its_channel_and_the_node_that_wrote_it() {
    let g = graph(
        r#"
state: { text: { default: 'abcdefgh' }, small: { reducer: append } }
nodes: { grow: { update: { text: 'state.text + state.text', small: [1] } } }
edges: [ { from: START, to: grow }, { from: grow, to: grow } ]
"#,
    );
    let limits = Limits { state_bytes: 10_000, ..Limits::default() };
    let config = RunConfig { limits, ..RunConfig::thread(thread()) };
    let error = run_with(&g, value!({}), config).await.result.unwrap_err();
    assert!(matches!(error, Error::LimitReached { name: "state_bytes", limit: 10_000, .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("graph `own`, node `grow`"), "{text}");
}

#[tokio::test]
async fn a_step_whose_writes_are_too_large_fails_before_all_its_tasks_have_run() {
    let ran = Arc::new(AtomicUsize::new(0));
    let count = ran.clone();
    let mut b = GraphBuilder::new("wide");
    b.add_channel(runloom_engine::ChannelSpec::new("x").reducer(runloom_engine::Reducer::Append));
    b.add_node(
        "a",
        node(move |_: StateView, _: Context| {
            count.fetch_add(1, Ordering::Relaxed);
            async { Ok(Update::new().set("x", vec!["x".repeat(1000)])) }
        }),
    );
    b.add_route(START, "fan", Arc::new(|_: &StateView, _: &Context| Ok(sends(1000))), None);
    let limits = Limits { state_bytes: 100_000, ..Limits::default() };
    let config = RunConfig { limits, max_concurrency: Some(10), ..RunConfig::default() };
    let error = b.compile().unwrap().invoke(value!({}), config).await.unwrap_err();
    assert!(matches!(error, Error::LimitReached { name: "state_bytes", .. }), "{error}");
    assert!(ran.load(Ordering::Relaxed) < 200, "{ran:?}");
}

/// The runtime has one thread: a step that computes without a pause would end before anybody could cancel its run.
#[tokio::test(flavor = "current_thread")]
async fn a_cancel_reaches_a_step_that_only_computes() {
    let ran = Arc::new(AtomicUsize::new(0));
    let count = ran.clone();
    let mut b = GraphBuilder::new("busy");
    b.add_channel(runloom_engine::ChannelSpec::new("x"));
    b.add_node(
        "a",
        node(move |_: StateView, _: Context| {
            count.fetch_add(1, Ordering::Relaxed);
            let began = Instant::now();
            while began.elapsed() < Duration::from_micros(200) {
                std::hint::spin_loop();
            }
            async { Ok(()) }
        }),
    );
    b.add_route(START, "fan", Arc::new(|_: &StateView, _: &Context| Ok(sends(5000))), None);
    let config = RunConfig::default();
    let cancel = config.cancel.clone();
    let graph = b.compile().unwrap();
    let run = tokio::spawn(async move { graph.invoke(value!({}), config).await });
    // Until the step is under way.
    while ran.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    cancel.cancel();
    assert!(matches!(run.await.unwrap(), Err(Error::Cancelled { .. })));
    assert!(ran.load(Ordering::Relaxed) < 500, "{ran:?} of 5000 tasks ran");
}
