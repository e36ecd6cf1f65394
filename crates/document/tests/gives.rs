//! What a loaded document gives: schemas, checks, a revision, its place in a program.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use common::{document, graph_with, run_with, thread};
use runloom_document::{Checks, Document, Registry, Schemas, load};
use runloom_engine::{RunConfig, Value, stream::Modes, value};

const TEXT: &str = r#"
description: Says something.
state:
  topic: { schema: { type: string, minLength: 2 } }
  n: { reducer: add, schema: { type: integer } }
  log: { reducer: append }
  messages: { reducer: messages, schema: { type: array } }
  secret: { default: 5 }
input: [topic, n, messages]
output: [log]
context:
  schema: { type: object, properties: { user: { type: string }, limit: { type: integer } }, required: [user] }
nodes:
  one: { update: { log: '[context.user + config.session + state.topic]' } }
edges: [ { from: START, to: one } ]
"#;

fn loaded(text: &str) -> Document {
    load(&document("a", text), "a.yaml", &Registry::new()).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn its_schemas_are_those_of_its_channels() {
    let schemas = loaded(TEXT).schemas();
    assert_eq!(
        schemas.input,
        value!({
            "title": "a_input", "type": "object", "properties": {
                "topic": {"type": "string", "minLength": 2}, "n": {"type": "integer"}, "messages": {"type": "array"}
            }
        })
    );
    assert_eq!(schemas.output.get("properties"), Some(&value!({"log": {"type": "array"}})));
    assert_eq!(schemas.state.get("properties").unwrap().get("secret"), Some(&value!({"default": 5})));
    assert_eq!(schemas.context.unwrap().get("required"), Some(&value!(["user"])));
    assert_eq!(schemas.state, Schemas::of(loaded(TEXT).graph()).state);
}

#[test]
fn an_input_that_does_not_fit_is_refused_by_the_channels_name() {
    let a = loaded(TEXT);
    for fine in [
        value!({"topic": "ice", "n": 3, "messages": "hello", "secret": [1]}),
        value!({"n": {"__overwrite__": 4}}),
        value!({"n": 3.0}),
        value!({}),
        value!(null),
    ] {
        assert_eq!(a.check_input(&fine), Ok(()), "{fine}");
    }
    for (wrong, says) in [
        (value!({"topic": 5}), "graph `a`: input `topic`: 5 is not of type \"string\""),
        (value!({"topic": "x"}), "graph `a`: input `topic`: \"x\" is shorter than 2 characters"),
        (value!({"n": 1.5}), "graph `a`: input `n`: 1.5 is not of type \"integer\""),
        (value!({"n": {"__overwrite__": "x"}}), "graph `a`: input `n`: \"x\" is not of type \"integer\""),
    ] {
        assert_eq!(a.check_input(&wrong).unwrap_err().to_string(), says);
    }
}

#[test]
fn a_context_that_does_not_fit_is_refused() {
    let a = loaded(TEXT);
    assert_eq!(a.check_context(&value!({"user": "ada", "limit": 3, "more": 1})), Ok(()));
    let says = |context: Value| a.check_context(&context).unwrap_err().to_string();
    assert_eq!(says(value!({})), "graph `a`: context: \"user\" is a required property");
    assert_eq!(says(value!(null)), "graph `a`: context: \"user\" is a required property");
    assert_eq!(
        says(value!({"user": "a", "limit": "x"})),
        "graph `a`: context: limit: \"x\" is not of type \"integer\""
    );
    let without = loaded("state: { x: {} }\nnodes: { one: { emit: '1' } }\nedges: [ { from: START, to: one } ]");
    assert_eq!(without.check_context(&value!({"anything": 1})), Ok(()));
    assert!(Checks::of(without.graph()).unwrap().context(&Value::Null).is_ok());
}

#[test]
fn a_schema_fetches_nothing() {
    let text = TEXT.replace("{ type: string, minLength: 2 }", "{ $ref: 'http://127.0.0.1:9/schema.json' }");
    let error = load(&document("a", &text), "a.yaml", &Registry::new()).unwrap_err().to_string();
    assert!(
        error.starts_with(
            "a.yaml:6:20: state `topic`: the schema is not valid: `http://127.0.0.1:9/schema.json` is not fetched"
        ),
        "{error}"
    );
    let file = text.replace("http://127.0.0.1:9/schema.json", "file:///etc/hostname");
    assert!(
        load(&document("a", &file), "a.yaml", &Registry::new()).unwrap_err().to_string().contains("is not fetched")
    );
    let within =
        TEXT.replace("{ type: string, minLength: 2 }", "{ $ref: '#/$defs/t', $defs: { t: { type: string } } }");
    assert!(loaded(&within).check_input(&value!({"topic": 5})).is_err());
}

#[test]
fn a_pattern_of_a_schema_cannot_run_away() {
    let text = TEXT.replace("{ type: string, minLength: 2 }", "{ type: string, pattern: '^(a+)+$' }");
    let a = loaded(&text);
    assert!(a.check_input(&value!({"topic": "a".repeat(5000) + "!"})).is_err());
    assert!(a.check_input(&value!({"topic": "a".repeat(5000)})).is_ok());
}

#[tokio::test]
async fn context_and_settings_reach_the_expressions() {
    let graph = graph_with(TEXT, &[], &Registry::new());
    let config = RunConfig {
        context: value!({"user": "ada"}),
        configurable: [("session", value!("-7-"))].into_iter().collect(),
        ..RunConfig::thread(thread()).modes(Modes::NONE)
    };
    let ran = run_with(&graph, value!({"topic": "tea"}), config).await;
    assert_eq!(ran.values(), value!({"log": ["ada-7-tea"]}));
}

#[test]
fn a_revision_is_what_the_graph_is() {
    let first = loaded(TEXT);
    let laid_out =
        TEXT.replace("Says something.", "Says something else.").replace("one: { update", "one:   { # note\n    update");
    assert_eq!(first.revision(), loaded(&laid_out).revision(), "neither layout, comments nor description count");
    for (from, to) in
        [("state.topic]", "state.topic + '!']"), ("minLength: 2", "minLength: 3"), ("output: [log]", "output: [n]")]
    {
        let other = TEXT.replace(from, &to.replace('\'', "\""));
        assert_ne!(other, TEXT);
        assert_ne!(first.revision(), loaded(&other).revision(), "{from}");
    }
    let outer = "state: { x: {} }\nnodes: { one: { subgraph: inner } }\nedges: [ { from: START, to: one } ]";
    let inner = "state: { x: {} }\nnodes: { in: { update: { x: '1' } } }\nedges: [ { from: START, to: in } ]";
    let of = |inner: &str| graph_with(outer, &[("inner", inner)], &Registry::new()).revision().clone();
    assert_eq!(of(inner), of(inner));
    assert_ne!(of(inner), of(&inner.replace("'1'", "'2'")), "the subgraphs count too");
}

#[tokio::test]
async fn documents_use_what_the_program_brings() {
    use runloom_engine::{START, StateGraph, StateView, Update, node};
    #[derive(runloom_engine::State, serde::Serialize, serde::Deserialize)]
    struct Doubled {
        x: i64,
    }
    let doubled = StateGraph::<Doubled>::new("doubled")
        .add_node(
            "double",
            node(|state: StateView, _| async move {
                Ok(Update::new().set("x", state.get("x").and_then(Value::as_i64).unwrap_or_default() * 2))
            }),
        )
        .add_edge(START, "double")
        .compile()
        .unwrap();
    let model = runloom_models::Scripted::new([runloom_models::Response::text("from the program")]).unwrap();
    let registry = Registry::new().graph(doubled).model("brought", Arc::new(model));
    let text = r#"
state: { x: {}, said: {} }
nodes:
  run: { subgraph: doubled }
  say:
    steps:
      - chat_model: { model: brought, messages: '["hi"]', write: "" }
      - update: { said: reply.content }
edges: [ { from: START, to: run }, { from: run, to: say } ]
"#;
    let graph = graph_with(text, &[], &registry);
    let ran = run_with(&graph, value!({"x": 21}), RunConfig::thread(thread()).modes(Modes::NONE)).await;
    assert_eq!(ran.values(), value!({"x": 42, "said": "from the program"}));
}
