//! What an error of a run says: which node, which channel, which limit.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt;
use runloom_engine::{
    channel::ChannelSpec,
    stream::{EventKind, Mode, Payload},
    *,
};

fn builder(name: &str) -> GraphBuilder {
    let mut b = GraphBuilder::new(name);
    b.add_channel(ChannelSpec::new("x")).add_channel(ChannelSpec::new("n").reducer(Reducer::Add));
    b
}

fn writes(channel: &'static str, value: &'static str) -> NodeSpec {
    node(move |_: StateView, _| async move { Ok(Update::new().set(channel, value)) })
}

async fn error(b: GraphBuilder) -> Error {
    b.compile().unwrap().invoke(value!({}), RunConfig::default()).await.unwrap_err()
}

#[tokio::test(start_paused = true)]
async fn a_write_to_a_channel_that_is_not_there_is_an_invalid_update_and_not_tried_again() {
    let calls: Arc<AtomicUsize> = Arc::default();
    let counted = calls.clone();
    let spec = node(move |_: StateView, _| {
        counted.fetch_add(1, Ordering::SeqCst);
        async { Ok(Update::new().set("xx", 1)) }
    });
    let mut b = builder("g");
    b.add_node("a", spec.retry(RetryPolicy::default())).add_edge(START, "a");
    let graph = b.compile().unwrap();
    let mut stream = graph.stream(value!({}), RunConfig::default().modes([Mode::Events, Mode::Tasks]));
    let (mut errors, mut ends) = (Vec::new(), Vec::new());
    while let Some(part) = stream.next().await {
        match part.payload {
            Payload::Event(e) if e.kind == EventKind::ChainError => errors.push(e.name.to_string()),
            Payload::TaskEnd(end) => ends.extend(end.error.map(|e| e.kind.to_string())),
            _ => {}
        }
    }
    let error = stream.finished().unwrap().unwrap_err();
    let Error::InvalidUpdate { graph, channel, nodes, .. } = &error else { panic!("{error:?}") };
    assert_eq!((&**graph, &**channel, &nodes[..]), ("g", "xx", &["a".to_owned()][..]));
    assert_eq!(
        error.to_string(),
        "graph `g`: channel `xx`, written by node `a`: the graph has no such channel; did you mean `x`?"
    );
    assert_eq!(error.kind(), "InvalidUpdateError");
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    assert_eq!((errors, ends), (vec!["a".to_owned(), "g".to_owned()], vec!["InvalidUpdateError".to_owned()]));
}

#[tokio::test]
async fn an_invalid_update_names_all_that_wrote_the_channel() {
    let mut b = builder("g");
    for name in ["a", "b", "c"] {
        b.add_node(name, writes(if name == "b" { "n" } else { "x" }, "v")).add_edge(START, name);
    }
    let two = error(b).await;
    assert!(matches!(&two, Error::InvalidUpdate { channel, .. } if channel == "x"), "{two:?}");
    assert!(two.to_string().starts_with("graph `g`: channel `x`, written by nodes `a`, `c`: "), "{two}");

    let mut inner = builder("inner");
    inner.add_node("b", writes("n", "v")).add_edge(START, "b");
    let mut b = builder("g");
    b.add_node("a", subgraph(inner.compile().unwrap())).add_edge(START, "a");
    let one = error(b).await;
    assert!(one.to_string().starts_with("graph `inner`: channel `n`, written by node `b`: "), "{one}");

    let mut b = builder("g");
    b.add_node("a", writes("n", "v")).add_edge(START, "a");
    b.add_route("a", "on", Arc::new(|_: &StateView, _: &Context| Ok(vec![])), None);
    let routed = error(b).await;
    assert!(routed.to_string().starts_with("graph `g`: channel `n`, written by node `a`: "), "{routed}");
}

#[tokio::test(start_paused = true)]
async fn a_timeout_says_what_was_allowed() {
    let slow = || {
        node(|_: StateView, _| async {
            tokio::time::sleep(Duration::from_secs(60)).await;
            Ok(())
        })
    };
    for spec in [slow().timeout(Duration::from_secs(5)), slow().idle_timeout(Duration::from_secs(5))] {
        let mut b = builder("g");
        b.add_node("a", spec).add_edge(START, "a");
        let Error::Node { error, .. } = error(b).await else { panic!() };
        assert_eq!(error.timeout, Some(Duration::from_secs(5)));
        let kept: NodeFailure = serde_json::from_value(serde_json::to_value(&error).unwrap()).unwrap();
        assert_eq!(kept, error);
    }
    let mut b = builder("g");
    b.add_node("a", slow()).add_edge(START, "a");
    let (timeout, elapsed) = (Some(Duration::from_secs(9)), Duration::from_secs(7));
    let began = tokio::time::Instant::now();
    let config = RunConfig { timeout, elapsed, ..RunConfig::default() };
    let error = b.compile().unwrap().invoke(value!({}), config).await.unwrap_err();
    assert_eq!(began.elapsed().as_secs(), 2);
    assert_eq!(error.to_string(), "graph `g`: the run timed out after 9s; `run_timeout` sets the limit");
}
