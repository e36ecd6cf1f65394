//! What is written in a document does something, or is refused.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::SystemTime,
};

use common::{document, graph, run};
use runloom_document::{Registry, load};
use runloom_engine::{RunConfig, Runtime, Value, items::NodeCache, stream::Modes, value};

#[track_caller]
fn faults(rest: &str) -> String {
    load(&document("a", rest), "a.yaml", &Registry::new()).expect_err(rest).to_string()
}

/// Two nodes, with these edges.
fn edges(edges: &str) -> String {
    format!(
        "state: {{ x: {{ reducer: append }} }}\nnodes:\n  a: {{ update: {{ x: '[\"a\"]' }} }}\n  b: {{ update: {{ x: '[\"b\"]' }} }}\nedges: [ {edges} ]"
    )
}

#[tokio::test]
async fn a_list_with_start_alone_enters_the_graph() {
    for start in ["[START]", "[__start__]", "START"] {
        let g = graph(&edges(&format!("{{ from: {start}, to: a }}, {{ from: a, to: b }}")));
        assert_eq!(run(&g, value!({}), Modes::NONE).await.values(), value!({"x": ["a", "b"]}), "{start}");
    }
}

#[test]
fn an_edge_from_nowhere_or_to_nowhere_is_refused() {
    for (edge, what) in [
        ("{ from: a, to: [] }", "to"),
        ("{ from: [], to: b }", "from"),
        ("{ from: a, route: 'state.x[0]', to: [] }", "to"),
    ] {
        let got = faults(&edges(&format!("{{ from: START, to: a }}, {edge}")));
        assert!(got.contains(&format!("edge 2: an edge needs at least one name in `{what}`")), "{edge}: {got}");
    }
}

/// A node that goes where this says, to `b` or `c`.
fn goes(destinations: &str, goto: &str) -> String {
    format!(
        "state: {{ x: {{ reducer: append }}, to: {{}} }}\nnodes:\n  a: {{ command: {{ goto: {goto} }}, destinations: {destinations} }}\n  b: {{ update: {{ x: '[\"b\"]' }} }}\n  c: {{ update: {{ x: '[\"c\"]' }} }}\nedges: [ {{ from: START, to: a }} ]"
    )
}

#[tokio::test]
async fn a_command_goes_to_its_destinations_only() {
    for destinations in ["c", "[c]"] {
        let got = faults(&goes(destinations, "'\"b\"'"));
        let says = "the command goes to `b`, which is not in the node's `destinations`";
        assert!(got.contains(says), "{destinations}: {got}");
        let g = graph(&goes(destinations, "state.to"));
        for to in [value!("b"), value!([{"node": "b"}])] {
            let failure = run(&g, value!({"to": to}), Modes::NONE).await.failure();
            assert!(
                failure.message.contains("`goto`: it leads to `b`, which is not in the node's `destinations`"),
                "{failure}"
            );
            assert!(!failure.retryable);
        }
        assert_eq!(run(&g, value!({"to": "c"}), Modes::NONE).await.values().get("x"), Some(&value!(["c"])));
        assert_eq!(run(&g, value!({"to": "END"}), Modes::NONE).await.failure().kind.as_ref(), "ValueError");
    }
    let g = graph(&goes("[c, END]", "state.to"));
    assert_eq!(run(&g, value!({"to": "__end__"}), Modes::NONE).await.values().get("x"), Some(&value!([])));
}

fn usage(usage: &str) -> String {
    format!(
        "state: {{ messages: {{ reducer: messages }} }}\nmodels: {{ m: {{ scripted: {{ responses: [ {{ content: hi, usage: {usage} }} ] }} }} }}\nnodes: {{ a: {{ chat_model: {{ model: m }} }} }}\nedges: [ {{ from: START, to: a }} ]"
    )
}

#[test]
fn a_total_of_tokens_is_the_sum() {
    let got = faults(&usage("{ input_tokens: 1, output_tokens: 1, total_tokens: 50 }"));
    assert!(
        got.contains("`total_tokens` is the sum of `input_tokens` and `output_tokens`, here 2, and not 50"),
        "{got}"
    );
    graph(&usage("{ input_tokens: 1, output_tokens: 1, total_tokens: 2 }"));
    graph(&usage("{ input_tokens: 1 }"));
}

/// Counts what is kept.
#[derive(Default)]
struct Kept(AtomicUsize);

#[async_trait::async_trait]
impl NodeCache for Kept {
    async fn get(&self, _: &str) -> Option<Value> {
        None
    }
    async fn put(&self, _: &str, _: Value, _: Option<SystemTime>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn an_option_without_a_value_is_as_one_that_is_left_out() {
    for (cache, count) in [("", 0), ("null", 0), ("false", 0), ("true", 1), ("{}", 1)] {
        let text = format!(
            "state: {{ n: {{}} }}\nnodes:\n  a:\n    update: {{ n: '1' }}\n    cache: {cache}\n    retry:\nedges: [ {{ from: START, to: a }} ]"
        );
        let kept = Arc::new(Kept::default());
        let g = graph(&text).with_runtime(Runtime { cache: Some(kept.clone()), ..Runtime::default() });
        g.invoke(value!({}), RunConfig::default()).await.unwrap();
        assert_eq!(kept.0.load(Ordering::SeqCst), count, "{cache}");
    }
    let got = faults(
        "state: { messages: { reducer: messages } }\ntools: { t: { result: '1' } }\nnodes:\n  a:\n    tools:\nedges: [ { from: START, to: a } ]",
    );
    assert!(got.contains("`tools` needs a map; `tools: {}` runs them all"), "{got}");
}

#[test]
fn a_channel_that_starts_with_a_number_is_of_numbers() {
    let state = |channel: &str| {
        format!("state: {{ x: {channel} }}\nnodes: {{ a: {{ emit: '1' }} }}\nedges: [ {{ from: START, to: a }} ]")
    };
    for channel in ["{ reducer: max, schema: { type: string } }", "{ reducer: min, schema: { type: [array, 'null'] } }"]
    {
        let got = faults(&state(channel));
        assert!(got.contains("compares numbers, beginning with 0, and the schema has none"), "{got}");
    }
    for channel in [
        "{ reducer: max, schema: { type: integer } }",
        "{ reducer: max, schema: { type: [string, number] } }",
        "{ reducer: min, schema: { minimum: 3 } }",
        "{ schema: { type: string } }",
    ] {
        graph(&state(channel));
    }
}

#[tokio::test]
async fn a_route_that_fails_names_itself_and_where_it_leaves() {
    for (from, edge) in [
        ("START", "{ from: START, route: 'state.x[5]', to: [a, b], name: pick }"),
        ("a", "{ from: START, to: a }, { from: a, route: 'state.x[5]', to: [b], name: pick }"),
    ] {
        let failure = run(&graph(&edges(edge)), value!({}), Modes::NONE).await.failure();
        assert!(failure.message.contains(&format!("route `pick` of `{from}`: ")), "{failure}");
    }
}
