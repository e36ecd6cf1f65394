//! A graph drawn: every edge ends at a node that is there, however many levels are drawn out.
#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;

use futures_util::future::BoxFuture;
use runloom_engine::{
    channel::ChannelSpec,
    graph::{Drawing, DrawnEdge},
    *,
};

fn builder(name: &str, nodes: &[&str]) -> GraphBuilder {
    let mut b = GraphBuilder::new(name);
    b.add_channel(ChannelSpec::new("x"));
    for name in nodes {
        b.add_node(*name, node(|_: StateView, _| async { Ok(()) }));
    }
    b
}

/// `one`, then `two`.
fn line(name: &str) -> Graph {
    let mut b = builder(name, &["one", "two"]);
    b.add_edge(START, "one").add_edge("one", "two").add_edge("two", END);
    b.compile().unwrap()
}

/// Begins at two nodes, ends by a route.
fn fork(name: &str) -> Graph {
    let mut b = builder(name, &["left", "right"]);
    b.add_edge(START, "left").add_edge(START, "right").add_edge("left", "right");
    b.add_route(
        "right",
        "more",
        Arc::new(|_: &StateView, _: &Context| Ok(vec![])),
        Some(vec!["left".into(), END.into()]),
    );
    b.compile().unwrap()
}

/// Never ends.
fn round(name: &str) -> Graph {
    let mut b = builder(name, &["tick", "tock"]);
    b.add_edge(START, "tick").add_edge("tick", "tock").add_edge("tock", "tick");
    b.compile().unwrap()
}

/// Runs two graphs, one after the other.
struct Both(Graph, Graph);

impl Node for Both {
    fn call(&self, _: StateView, _: Context) -> BoxFuture<'static, Result<Output, NodeError>> {
        Box::pin(async { Ok(Output::Nothing) })
    }
    fn subgraphs(&self) -> Vec<Graph> {
        vec![self.0.clone(), self.1.clone()]
    }
}

fn around(name: &str, inner: NodeSpec) -> Graph {
    let mut b = builder(name, &["pre", "post"]);
    b.add_node("in", inner).add_edge(START, "pre").add_edge("pre", "in").add_edge("in", "post");
    b.compile().unwrap()
}

#[track_caller]
fn holds_together(drawing: &Drawing) {
    let ids: Vec<&str> = drawing.nodes.iter().map(|n| &*n.id).collect();
    for (i, id) in ids.iter().enumerate() {
        assert!(!ids[i + 1..].contains(id), "`{id}` twice in {ids:?}");
    }
    for DrawnEdge { source, target, .. } in &drawing.edges {
        assert!(ids.contains(&&**source) && ids.contains(&&**target), "{source} -> {target} among {ids:?}");
    }
    for id in ids {
        let is_met = |e: &DrawnEdge| &*e.source == id || &*e.target == id;
        assert!(drawing.edges.iter().any(is_met), "`{id}` stands alone");
    }
}

fn edges(drawing: &Drawing) -> Vec<String> {
    drawing
        .edges
        .iter()
        .map(|e| format!("{} {} {}", e.source, if e.conditional { "~>" } else { "->" }, e.target))
        .collect()
}

#[test]
fn every_edge_ends_at_a_node_that_is_there() {
    let inner: [fn() -> NodeSpec; 5] = [
        || subgraph(line("line")),
        || subgraph(fork("fork")),
        || subgraph(round("round")),
        || subgraph(around("middle", subgraph(fork("fork")))),
        || NodeSpec::new(Both(line("line"), around("middle", subgraph(round("round"))))),
    ];
    for inner in inner {
        for depth in 0..4 {
            holds_together(&around("outer", inner()).draw(depth));
        }
    }
}

#[test]
fn a_graph_drawn_within_another_is_entered_and_left_at_its_own_nodes() {
    let drawn = around("outer", subgraph(line("line"))).draw(1);
    let mut all = edges(&drawn);
    all.sort();
    assert_eq!(
        all,
        ["__start__ -> pre", "in:one -> in:two", "in:two -> post", "post -> __end__", "pre -> in:one"]
            .map(String::from)
    );
    assert_eq!(
        drawn.nodes.iter().map(|n| &*n.id).collect::<Vec<_>>(),
        ["__start__", "pre", "post", "__end__", "in:one", "in:two"]
    );
    let drawn = edges(&around("outer", subgraph(fork("fork"))).draw(1));
    for edge in [
        "pre -> in:__start__",
        "in:__start__ -> in:left",
        "in:__start__ -> in:right",
        "in:right ~> in:__end__",
        "in:__end__ -> post",
    ] {
        assert!(drawn.contains(&edge.to_owned()), "{edge}: {drawn:?}");
    }
    let both = NodeSpec::new(Both(line("line"), line("line")));
    let drawn = edges(&around("outer", both).draw(1));
    for edge in ["pre -> in:one", "in:two -> in:1:one", "in:1:two -> post"] {
        assert!(drawn.contains(&edge.to_owned()), "{edge}: {drawn:?}");
    }
}

#[test]
fn a_drawing_is_bounded_and_its_text_names_each_node_once() {
    let mut graph = line("g0");
    for level in 1..=12 {
        let mut b = builder(&format!("g{level}"), &[]);
        for name in ["a", "b", "c", "d"] {
            b.add_node(name, subgraph(graph.clone())).add_edge(START, name);
        }
        graph = b.compile().unwrap();
    }
    let drawn = graph.draw(12);
    assert!(drawn.nodes.len() > 1000 && drawn.nodes.len() < 20_000, "{}", drawn.nodes.len());

    let mut b = builder("alike", &["a_b", "a-b", "a b"]);
    for name in ["a_b", "a-b", "a b"] {
        b.add_edge(START, name);
    }
    let text = b.compile().unwrap().draw(0).mermaid();
    for line in ["\ta_b[a_b]", "\ta-b[a-b]", "\ta\\20b[a b]", "\t__start__ --> a-b;", "\ta\\20b --> __end__;"] {
        assert_eq!(text.lines().filter(|l| *l == line).count(), 1, "{line}\n{text}");
    }
}
