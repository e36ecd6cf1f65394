//! `on_error` of nodes, and idle timeouts.

#![allow(clippy::unwrap_used)]

mod common;

use common::{graph, run};
use runloom_document::{Registry, load};
use runloom_engine::{stream::Mode, value};

#[tokio::test]
async fn on_error_sees_the_error_and_writes_or_routes() {
    let g = graph(
        r#"state: { log: { reducer: append }, n: {} }
nodes:
  work:
    fail: 'state.n > 1 ? "too many" : ""'
    on_error:
      steps:
        - emit: '{"failed": error.node}'
        - command: { update: { log: '[error.type + ": " + error.message]' }, goto: '"after"' }
  next: { update: { log: '["next"]' } }
  after: { update: { log: '["after"]' } }
edges: [ { from: START, to: work }, { from: work, to: next } ]"#,
    );
    let ran = run(&g, value!({"n": 1}), Mode::Custom).await;
    assert_eq!(ran.values(), value!({"log": ["next"], "n": 1}));
    let ran = run(&g, value!({"n": 2}), Mode::Custom).await;
    assert_eq!(ran.values(), value!({"log": ["ValueError: too many", "after"], "n": 2}));
    assert_eq!(runloom_engine::Value::from(ran.custom()), value!([{"failed": "work"}]));
}

#[test]
fn faults_of_on_error_name_their_place() {
    let faults = |node: &str| {
        let text = format!(
            "runloom: v1\nname: g\nstate: {{ a: {{}} }}\nnodes:\n  one: {node}\nedges: [ {{ from: START, to: one }} ]"
        );
        load(&text, "g.yaml", &Registry::new()).unwrap_err().to_string()
    };
    let nothing = faults("{ update: { a: '1' }, on_error: { tags: [x] } }");
    assert!(nothing.contains("node `one`, on_error: an error handler needs an action"), "{nothing}");
    assert!(
        faults("{ update: { a: '1' }, on_error: { update: { a: '1' }, cache: true } }").contains("no `cache` here")
    );
    assert!(faults("{ update: { a: 'error.message' } }").contains("no name `error`"));
    let again = faults("{ update: { a: '1' }, on_error: { interrupt: { value: '1', as: error } } }");
    assert!(again.contains("a name that expressions have already"), "{again}");
    assert!(faults("{ update: { a: '1' }, refresh_on: heartbeat }").contains("needs an `idle_timeout_ms`"));
    assert!(
        faults("{ update: { a: '1' }, idle_timeout_ms: 5, refresh_on: heartbeats }")
            .contains("did you mean `heartbeat`")
    );
}

#[tokio::test(start_paused = true)]
async fn an_idle_timeout_is_refreshed_by_what_it_names() {
    let g = |step: &str| {
        graph(&format!(
            r#"state: {{ a: {{}} }}
nodes:
  one:
    idle_timeout_ms: 1000
    refresh_on: heartbeat
    steps: [ {{ sleep_ms: 700 }}, {step}, {{ sleep_ms: 700 }} ]
    on_error: {{ update: {{ a: error.type }} }}
edges: [ {{ from: START, to: one }} ]"#
        ))
    };
    assert_eq!(run(&g("{ emit: '1' }"), value!({}), Mode::Custom).await.values(), value!({"a": "NodeTimeoutError"}));
    assert_eq!(run(&g("{ heartbeat: true }"), value!({}), Mode::Custom).await.values(), value!({}));
}
