//! What the actions of nodes do, one by one and as steps.

#![allow(clippy::unwrap_used)]

mod common;

use common::{graph, run, run_with, thread};
use runloom_engine::{
    Command, Error, RunConfig, Value,
    stream::{EventKind, Mode, Modes},
    value,
};

/// A graph of one node over these channels.
fn node(state: &str, node: &str) -> runloom_engine::Graph {
    graph(&format!("state: {state}\nnodes:\n  one: {node}\nedges: [ {{ from: START, to: one }} ]"))
}

#[tokio::test]
async fn an_update_takes_expressions_and_values_that_stand_for_themselves() {
    let g = node(
        "{ a: {}, b: {}, c: {}, d: {}, log: { reducer: append }, gone: { reducer: append } }",
        "{ update: { a: '1 + 1', b: 7, c: [x, { y: null }], d: { expr: '[attempt]' }, log: ['state.a'], gone: { expr: '[\"new\"]', overwrite: true } } }",
    );
    let ran = run(&g, value!({"log": ["first"], "gone": ["old"]}), Mode::Updates).await;
    assert_eq!(
        ran.values(),
        value!({"a": 2, "b": 7, "c": ["x", {"y": null}], "d": [1], "log": ["first", "state.a"], "gone": ["new"]})
    );
}

#[tokio::test]
async fn the_steps_of_a_node_write_once_and_the_later_write_wins() {
    let g = node(
        "{ a: {}, b: {}, log: { reducer: append } }",
        "{ steps: [ { update: { a: '1', b: '1', log: '[1]' } }, { update: { a: 'state.b', log: '[2]' } } ] }",
    );
    let ran = run(&g, value!({"b": 0}), Mode::Updates).await;
    assert_eq!(ran.updates(), [r#"{"one":{"a":0,"b":1,"log":[2]}}"#], "steps see the state as it was before the node");
}

#[tokio::test]
async fn what_is_emitted_comes_at_once_even_from_a_node_that_fails() {
    let g = node(
        "{ a: {} }",
        "{ steps: [ { emit: ['{\"n\": 1}', '2', { plain: x }] }, { emit: 'state.a' }, { fail: '\"no\"' } ] }",
    );
    let ran = run(&g, value!({"a": "now"}), Mode::Custom).await;
    assert_eq!(Value::from(ran.custom()), value!([{"n": 1}, 2, {"plain": "x"}, "now"]));
    let failure = ran.failure();
    assert_eq!((&*failure.kind, &*failure.message), ("ValueError", "no"));
}

#[tokio::test]
async fn an_event_goes_by_its_name_under_its_node() {
    let g = node(
        "{ a: {} }",
        "{ tags: [mine], metadata: { team: red }, event: { name: progress, data: '{\"at\": state.a}' } }",
    );
    let ran = run(&g, value!({"a": 5}), Mode::Events).await;
    let event = ran.events().find(|e| e.kind == EventKind::Custom).unwrap();
    assert_eq!((&*event.name, &event.data.custom), ("progress", &Some(value!({"at": 5}))));
    assert!(event.tags.iter().any(|t| &**t == "mine"), "{:?}", event.tags);
    assert_eq!(event.meta.metadata.get("team"), Some(&value!("red")));
    assert_eq!(ran.updates().len(), 0);
}

#[tokio::test]
async fn answers_are_bound_to_names_that_later_steps_see() {
    let g = node(
        "{ a: {} }",
        "{ steps: [ { interrupt: { value: '\"first?\"' } }, { interrupt: { value: '\"second, after \" + answer', as: other } }, { update: { a: '[answer, other]' } } ] }",
    );
    let id = thread();
    let config = || RunConfig::thread(id).modes(Modes::NONE);
    let ran = run_with(&g, value!({}), config()).await;
    assert_eq!(ran.questions, [value!("first?")]);
    let ran = run_with(&g, Command::resume("one"), config()).await;
    assert_eq!(ran.questions, [value!("second, after one")]);
    let ran = run_with(&g, Command::resume("two"), config()).await;
    assert_eq!(ran.values(), value!({"a": ["one", "two"]}));
}

/// Two nodes that a command of the first may go to.
fn commanded(command: &str) -> runloom_engine::Graph {
    graph(&format!(
        "state: {{ a: {{}}, log: {{ reducer: append }} }}\nnodes:\n  one: {command}\n  \
         two: {{ update: {{ log: '[\"two\"]' }} }}\n  \
         three: {{ update: {{ log: '[has(state.item) ? state.item : \"three\"]' }} }}\nedges: [ {{ from: START, to: one }} ]"
    ))
}

#[tokio::test]
async fn a_command_updates_and_goes() {
    for (goto, log) in [
        ("'\"two\"'", value!(["one", "two"])),
        ("[two, three]", value!(["one", "three", "two"])),
        ("'[\"two\", {\"node\": \"three\", \"input\": {\"item\": 5}}]'", value!(["one", 5, "two"])),
        ("{ node: three, input: { item: 6 } }", value!(["one", 6])),
        ("'state.a ? \"END\" : \"two\"'", value!(["one"])),
        ("'null'", value!(["one"])),
    ] {
        let g = commanded(&format!("{{ command: {{ update: {{ log: '[\"one\"]' }}, goto: {goto} }} }}"));
        let values = run(&g, value!({"a": true}), Modes::NONE).await.values();
        let mut got: Vec<String> =
            values.get("log").unwrap().as_list().unwrap().iter().map(ToString::to_string).collect();
        let mut want: Vec<String> = log.as_list().unwrap().iter().map(ToString::to_string).collect();
        got.sort();
        want.sort();
        assert_eq!(got, want, "{goto}");
    }
}

#[tokio::test]
async fn where_a_step_is_a_command_the_node_returns_the_list() {
    let g = commanded(
        "{ steps: [ { update: { log: '[1]' } }, { command: { update: { log: '[2]' }, goto: '\"two\"' } }, { update: { a: '3' } }, { command: { goto: '\"three\"' } } ] }",
    );
    let ran = run(&g, value!({}), Mode::Updates).await;
    assert_eq!(ran.updates()[0], r#"{"one":[{"log":[1]},{"a":3},{"log":[2]}]}"#);
    assert_eq!(ran.values().get("log"), Some(&value!([1, 2, "three", "two"])));
}

#[tokio::test]
async fn a_command_that_goes_nowhere_known_fails_its_node() {
    let missing = commanded("{ command: { goto: 'state.a' } }");
    let failure = |a: Value| {
        let g = missing.clone();
        async move { run(&g, value!({"a": a}), Modes::NONE).await.failure().message.to_string() }
    };
    assert!(failure(value!("twoo")).await.contains("did you mean `two`?"));
    assert!(
        failure(value!(5))
            .await
            .contains("`goto`: expected a node's name, a Send {node, input}, or a list of these, not an integer")
    );
    assert!(failure(value!({"input": 1})).await.contains("a Send needs the name of a `node`"));
    assert!(failure(value!({"node": "two", "inptu": 1})).await.contains("it has no `inptu`"));
}

#[tokio::test]
async fn an_expression_that_fails_fails_its_node_with_its_text() {
    let ran = run(&node("{ a: {} }", "{ update: { a: '1 + state.a' } }"), value!({"a": "x"}), Modes::NONE).await;
    let failure = ran.failure();
    assert_eq!(&*failure.kind, "ExpressionError");
    assert_eq!(&*failure.message, "the expression `1 + state.a` fails: `+` does not take an integer and a string");
}

#[tokio::test]
async fn a_failure_is_a_text_that_is_not_empty() {
    for (fail, says) in
        [("'\"\"'", None), ("'null'", None), ("'state.a'", Some("broken")), ("'5'", Some("`fail` needs a text"))]
    {
        let ran = run(&node("{ a: {} }", &format!("{{ fail: {fail} }}")), value!({"a": "broken"}), Modes::NONE).await;
        match says {
            None => drop(ran.values()),
            Some(says) => assert!(ran.failure().message.contains(says), "{fail}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_sleep_takes_its_time_and_is_cancelled_with_the_run() {
    let start = tokio::time::Instant::now();
    run(&node("{ a: {} }", "{ sleep_ms: 'state.a * 2' }"), value!({"a": 250}), Modes::NONE).await.values();
    assert_eq!(start.elapsed().as_millis(), 500);
    for nothing in [-5, 0] {
        run(&node("{ a: {} }", "{ sleep_ms: state.a }"), value!({"a": nothing}), Modes::NONE).await.values();
    }
    assert_eq!(start.elapsed().as_millis(), 500);
    let ran = run(&node("{ a: {} }", "{ sleep_ms: '\"x\"' }"), value!({}), Modes::NONE).await;
    assert!(ran.failure().message.contains("milliseconds"));

    let config = RunConfig::thread(thread()).modes(Modes::NONE);
    let cancel = config.cancel.clone();
    let g = node("{ a: {} }", "{ sleep_ms: 1e9 }");
    let running = tokio::spawn(async move { run_with(&g, value!({}), config).await });
    tokio::time::advance(std::time::Duration::from_secs(1)).await;
    cancel.cancel();
    let ran = running.await.unwrap();
    assert!(matches!(ran.result, Err(Error::Cancelled { .. })), "{:?}", ran.result);
    assert!(start.elapsed().as_secs() < 5, "the sleep was dropped");
}

#[tokio::test(start_paused = true)]
async fn policies_are_those_of_the_engine() {
    let retried = node(
        "{ log: { reducer: append } }",
        "{ retry: { max_attempts: 4, initial_ms: 100, backoff: 3, max_ms: 500, jitter: false }, steps: [ { emit: attempt }, { fail: 'attempt < 4 ? \"not yet\" : \"\"' }, { update: { log: '[attempt]' } } ] }",
    );
    let start = tokio::time::Instant::now();
    let ran = run(&retried, value!({}), Mode::Custom).await;
    assert_eq!(ran.values(), value!({"log": [4]}));
    assert_eq!(Value::from(ran.custom()), value!([1, 2, 3, 4]));
    assert_eq!(start.elapsed().as_millis(), 100 + 300 + 500);

    let late = node("{ a: {} }", "{ timeout_ms: 50, sleep_ms: 100 }");
    assert_eq!(&*run(&late, value!({}), Modes::NONE).await.failure().kind, "NodeTimeoutError");
}

#[tokio::test]
async fn a_route_may_only_lead_where_it_says() {
    let routed = |route: &str| {
        graph(&format!(
            "state: {{ a: {{}}, log: {{ reducer: append }} }}\nnodes:\n  one: {{ emit: '1' }}\n  two: {{ update: {{ log: '[\"two\"]' }} }}\n  three: {{ update: {{ log: '[\"three\"]' }} }}\nedges:\n  - {{ from: START, to: one }}\n  - {{ from: one, route: {route}, to: [two, END], name: way }}\n  - {{ from: two, to: three }}"
        ))
    };
    let g = routed("'state.a'");
    let go = |a: Value| {
        let g = g.clone();
        async move { run(&g, value!({"a": a}), Modes::NONE).await }
    };
    assert_eq!(go(value!("two")).await.values().get("log"), Some(&value!(["two", "three"])));
    assert_eq!(go(value!("END")).await.values().get("log"), Some(&value!([])));
    assert_eq!(go(value!("__end__")).await.values().get("log"), Some(&value!([])));
    assert_eq!(go(value!(["two", "END"])).await.values().get("log"), Some(&value!(["two", "three"])));
    for (a, says) in [
        (value!("three"), "route `way` of `one`: it leads to `three`, which is not in its `to`"),
        (value!("tow"), "did you mean `two`?"),
        (value!({"node": "three", "input": {}}), "it leads to `three`, which is not in its `to`"),
        (value!(null), "route `way` of `one`: expected a node's name"),
        (value!([1]), "expected a node's name"),
    ] {
        let failure = go(a.clone()).await.failure();
        assert!(failure.message.contains(says), "{a}: {failure}");
    }
}
