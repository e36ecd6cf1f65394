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

/// Asks, then says what it was told.
const ASKS: &str = "hidden: true\nstate: { x: {}, log: { reducer: append } }\nnodes: { ask: { steps: [ { interrupt: { value: '\"ok?\"' } }, { update: { log: '[answer]' } } ] } }\nedges: [ { from: START, to: ask } ]";

#[tokio::test]
async fn a_stopped_graph_is_seen_from_outside_wherever_it_keeps_its_state() {
    let keeps = "{ subgraph: { graph: asks, checkpointer: true } }";
    for (node, inner) in [
        ("{ subgraph: asks }", "one:"),
        (keeps, "one"),
        ("{ steps: [ { subgraph: inner }, { subgraph: asks } ] }", "one:"),
        ("{ steps: [ { subgraph: inner }, { subgraph: { graph: asks, checkpointer: true } } ] }", "one|1"),
        ("{ steps: [ { subgraph: { graph: asks, checkpointer: true } }, { subgraph: inner } ] }", "one"),
    ] {
        let text = format!(
            "state: {{ x: {{}}, log: {{ reducer: append }} }}\nnodes:\n  one: {node}\nedges: [ {{ from: START, to: one }} ]"
        );
        let g = graph_with(&text, &[("inner", INNER), ("asks", ASKS)], &Registry::new());
        let config = RunConfig::thread(thread()).modes(Modes::NONE);
        let id = config.thread_id.unwrap();
        // A run before leaves what the graph keeps, which is not what the second run asks.
        for said in ["yes", "no"] {
            assert_eq!(run_with(&g, value!({"x": 1}), config.clone()).await.questions, [value!("ok?")], "{node}");
            let seen = g.get_state(id, None, true).await.unwrap();
            let state = seen.tasks[0].state.as_ref().unwrap_or_else(|| panic!("{node}: {:?}", seen.tasks));
            assert_eq!(state.next.iter().map(|n| &**n).collect::<Vec<_>>(), ["ask"], "{node}");
            let at = state.config.as_ref().unwrap();
            assert!(at.ns.starts_with(inner), "{node}: {}", at.ns);
            assert_eq!(state.interrupts().count(), 1);
            // By its own name, and by its task's, which LangGraph's clients ask for.
            let by_task = format!("one:{}", seen.tasks[0].id);
            let asked = [&*at.ns, &by_task];
            for ns in &asked[..if at.ns.contains('|') { 1 } else { 2 }] {
                let own = g.get_subgraph_state(id, ns, None, false).await.unwrap();
                assert_eq!(own.config.as_ref(), Some(at), "{node}, {ns}");
            }
            let plain = g.get_state(id, None, false).await.unwrap();
            if node == keeps {
                assert_eq!(&*plain.tasks[0].checkpoint.as_ref().unwrap().ns, by_task);
            }
            run_with(&g, Command::resume(said), config.clone()).await.values();
        }
    }
}

#[tokio::test]
async fn a_graph_that_keeps_its_own_state_is_seen_two_levels_down() {
    let middle = "hidden: true\nstate: { log: { reducer: append } }\nnodes: { two: { subgraph: { graph: asks, checkpointer: true } } }\nedges: [ { from: START, to: two } ]";
    let text = "state: { log: { reducer: append } }\nnodes: { one: { subgraph: { graph: middle, checkpointer: true } } }\nedges: [ { from: START, to: one } ]";
    let g = graph_with(text, &[("middle", middle), ("asks", ASKS)], &Registry::new());
    let config = RunConfig::thread(thread()).modes(Modes::NONE);
    let ran = run_with(&g, value!({}), config.clone()).await;
    assert_eq!(ran.questions.len(), 1);
    let seen = g.get_state(config.thread_id.unwrap(), None, true).await.unwrap();
    let middle = seen.tasks[0].state.as_ref().unwrap();
    let inmost = middle.tasks[0].state.as_ref().unwrap();
    assert_eq!(&*middle.config.as_ref().unwrap().ns, "one");
    assert_eq!((&*inmost.config.as_ref().unwrap().ns, &*inmost.next[0]), ("one|two", "ask"));
}
