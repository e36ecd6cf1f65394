//! Graphs that run inside a node of another.

#![allow(clippy::unwrap_used)]

mod common;

use common::{graph_with, run, run_with, thread};
use runloom_document::Registry;
use runloom_engine::{
    Command, RunConfig,
    stream::{Mode, Modes},
    value,
};

/// Counts how often it ran, and doubles.
const INNER: &str = r#"
hidden: true
state: { x: {}, runs: { reducer: add }, log: { reducer: append } }
nodes: { double: { update: { x: 'state.x * 2', runs: '1', log: '["x is " + string(state.x)]' } } }
edges: [ { from: START, to: double } ]
"#;

fn outer(node: &str, channels: &str) -> runloom_engine::Graph {
    let text = format!("state: {{ {channels} }}\nnodes:\n  one: {node}\nedges: [ {{ from: START, to: one }} ]");
    graph_with(&text, &[("inner", INNER)], &Registry::new())
}

#[tokio::test]
async fn without_a_mapping_the_two_share_channels_by_name() {
    let g = outer("{ subgraph: inner }", "x: {}, log: { reducer: append }, other: {}");
    let ran = run(&g, value!({"x": 4, "log": ["mine"], "other": 1}), Mode::Updates).await;
    assert_eq!(ran.values().get("x"), Some(&value!(8)));
    assert_eq!(ran.values().get("other"), Some(&value!(1)));
}

#[tokio::test]
async fn input_and_output_may_be_mapped_field_by_field_or_by_one_expression() {
    for (input, output) in [
        ("{ x: 'state.n + by' }", "{ doubled: 'result.x - by' }"),
        ("'{\"x\": state.n + by}'", "'{\"doubled\": result.x - by}'"),
    ] {
        let node = format!(
            "{{ steps: [ {{ interrupt: {{ value: '1', as: by }} }}, {{ subgraph: {{ graph: inner, input: {input}, output: {output} }} }} ] }}"
        );
        let g = outer(&node, "n: {}, doubled: {}");
        let config = RunConfig::thread(thread()).modes(Modes::NONE);
        run_with(&g, value!({"n": 5}), config.clone()).await.values();
        let ran = run_with(&g, Command::resume(10), config).await;
        assert_eq!(ran.values(), value!({"n": 5, "doubled": 20}), "{input}");
    }
}

#[tokio::test]
async fn one_that_keeps_its_own_state_goes_on_from_run_to_run() {
    for (checkpointer, runs) in [("checkpointer: true", 3), ("checkpointer: false", 1)] {
        let node = format!(
            "{{ subgraph: {{ graph: inner, input: {{ x: '1' }}, output: {{ runs: 'result.runs' }}, {checkpointer} }} }}"
        );
        let g = outer(&node, "runs: {}");
        let config = RunConfig::thread(thread()).modes(Modes::NONE);
        for _ in 0..2 {
            run_with(&g, value!({}), config.clone()).await.values();
        }
        let ran = run_with(&g, value!({}), config).await;
        assert_eq!(ran.values(), value!({"runs": runs}), "{checkpointer}");
    }
}

#[tokio::test]
async fn an_output_that_is_no_object_fails_the_node() {
    let g = outer("{ subgraph: { graph: inner, input: { x: '1' }, output: 'result.x' } }", "x: {}");
    let failure = run(&g, value!({}), Modes::NONE).await.failure();
    assert!(failure.message.contains("`output` has to make an object by channel, not an integer"), "{failure}");
}

#[tokio::test]
async fn a_command_for_the_parent_comes_out_of_the_steps_of_its_node() {
    let leave = "hidden: true\nstate: { log: { reducer: append } }\nnodes: { go: { command: { update: { log: '[\"inner\"]' }, goto: '\"last\"', parent: true } } }\nedges: [ { from: START, to: go } ]";
    let text = "state: { log: { reducer: append } }\nnodes:\n  one: { steps: [ { update: { log: '[\"outer\"]' } }, { subgraph: leave } ] }\n  last: { update: { log: '[\"last\"]' } }\nedges: [ { from: START, to: one } ]";
    let g = graph_with(text, &[("leave", leave)], &Registry::new());
    let ran = run(&g, value!({"log": []}), Modes::NONE).await;
    assert_eq!(ran.values(), value!({"log": ["outer", "inner", "last"]}));
}

#[tokio::test]
async fn the_drawing_knows_the_graph_inside() {
    let g = outer("{ steps: [ { emit: '1' }, { subgraph: inner } ] }", "x: {}");
    assert_eq!(g.subgraphs_of("one").len(), 1);
    let drawn = g.draw(0);
    assert_eq!(drawn.nodes.iter().find(|n| &*n.id == "one").unwrap().subgraph.as_deref(), Some("inner"));
}
