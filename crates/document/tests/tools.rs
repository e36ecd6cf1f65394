//! The step that runs tools, as LangGraph's `ToolNode` runs them.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Ran, graph, run};
use runloom_engine::{
    List, Value,
    stream::{EventKind, Mode, Modes},
    value,
};

const TOOLS: &str = r#"
state: { messages: { reducer: messages }, unit: { default: C } }
tools:
  weather:
    description: Of a city.
    parameters: { type: object, properties: { city: { type: string }, days: { type: integer } }, required: [city] }
    emit: [ '{"asking": args.city}', '"again"' ]
    fail: 'args.city == "Atlantis" ? "there is no Atlantis, it''s gone" : ""'
    result: '{"city": args.city, "unit": state.unit}'
  echo: { emit: args.what, result: args.what }
  broken: { result: '1 / args.zero' }
"#;

/// A graph whose one node runs tools.
fn tools(step: &str) -> runloom_engine::Graph {
    graph(&format!("{TOOLS}nodes: {{ run: {{ tools: {step} }} }}\nedges: [ {{ from: START, to: run }} ]"))
}

fn call(name: &str, args: Value, id: &str) -> Value {
    value!({"name": name, "args": args.to_json(), "id": id, "type": "tool_call"})
}

async fn calls(step: &str, calls: Vec<Value>, modes: impl Into<Modes>) -> Ran {
    let ai = Value::Object(
        [("type", value!("ai")), ("content", value!("")), ("tool_calls", Value::from(calls))].into_iter().collect(),
    );
    let messages = Value::from(vec![value!({"role": "user", "content": "?"}), ai]);
    run(&tools(step), Value::Object([("messages", messages)].into_iter().collect()), modes).await
}

/// The tool messages that a run wrote, without their ids.
fn answers(ran: &Ran) -> Vec<Value> {
    let values = ran.values();
    let messages = values.get("messages").and_then(Value::as_list).cloned().unwrap_or_else(List::default);
    let strip = |m: &Value| {
        let mut o = m.as_object().unwrap().clone();
        let id = o.remove("id").unwrap();
        assert_eq!(id.as_str().unwrap().len(), 36, "an id of its own");
        Value::Object(o)
    };
    messages.iter().filter(|m| m.get_str("type") == Some("tool")).map(strip).collect()
}

#[tokio::test]
async fn a_tool_message_is_langchains() {
    let ran = calls("{}", vec![call("weather", value!({"city": "SF"}), "c1")], Modes::NONE).await;
    assert_eq!(
        answers(&ran),
        [value!({
            "content": "{\"city\": \"SF\", \"unit\": \"C\"}", "additional_kwargs": {}, "response_metadata": {}, "type": "tool",
            "name": "weather", "tool_call_id": "c1", "artifact": null, "status": "success"
        })]
    );
}

#[tokio::test]
async fn calls_are_answered_in_their_order_whatever_becomes_of_each() {
    let all = vec![
        call("echo", value!({"what": "one"}), "c1"),
        call("nope", value!({}), "c2"),
        call("weather", value!({"city": 5}), "c3"),
        call("weather", value!({"city": "Atlantis"}), "c4"),
        call("broken", value!({"zero": 0}), "c5"),
        call("echo", value!({"what": ["é", null]}), "c6"),
    ];
    let ran = calls("{}", all, Modes::NONE).await;
    let told: Vec<(String, String, String)> = answers(&ran)
        .iter()
        .map(|m| ["tool_call_id", "status", "content"].map(|k| m.get_str(k).unwrap().to_owned()).into())
        .collect();
    let told: Vec<(&str, &str, &str)> = told.iter().map(|(a, b, c)| (a.as_str(), b.as_str(), c.as_str())).collect();
    assert_eq!(
        told,
        [
            ("c1", "success", "one"),
            ("c2", "error", "Error: nope is not a valid tool, try one of [broken, echo, weather]."),
            (
                "c3",
                "error",
                "Error invoking tool 'weather' with kwargs {\"city\": 5} with error:\n city: 5 is not of type \
                 \"string\"\n Please fix the error and try again."
            ),
            ("c4", "error", "Error: ValueError(\"there is no Atlantis, it's gone\")\n Please fix your mistakes."),
            (
                "c5",
                "error",
                "Error: ExpressionError('the expression `1 / args.zero` fails: division by zero')\n Please fix your mistakes."
            ),
            ("c6", "success", "[\"é\", null]"),
        ]
    );
}

#[tokio::test]
async fn without_handling_an_error_fails_the_node() {
    let fails = |call: Value| async move { calls("{ handle_errors: false }", vec![call], Modes::NONE).await.failure() };
    let failure = fails(call("weather", value!({"city": "Atlantis"}), "c")).await;
    assert_eq!((&*failure.kind, &*failure.message), ("ValueError", "there is no Atlantis, it's gone"));
    let failure = fails(call("weather", value!({}), "c")).await;
    assert_eq!(&*failure.kind, "ToolInvocationError");
    assert!(failure.message.contains("\"city\" is a required property"), "{failure}");
    let ran = calls("{ handle_errors: false }", vec![call("nope", value!({}), "c")], Modes::NONE).await;
    assert_eq!(
        answers(&ran)[0].get_str("status"),
        Some("error"),
        "a tool that is not there is always told to the model"
    );
}

#[tokio::test]
async fn only_the_named_tools_are_run() {
    let ran = calls("{ tools: [echo] }", vec![call("weather", value!({"city": "SF"}), "c")], Modes::NONE).await;
    assert_eq!(answers(&ran)[0].get_str("content"), Some("Error: weather is not a valid tool, try one of [echo]."));
}

#[tokio::test]
async fn what_a_tool_emits_and_its_events_are_told() {
    let all = vec![call("weather", value!({"city": "SF"}), "c1"), call("weather", value!({"city": "Atlantis"}), "c2")];
    let ran = calls("{}", all, Modes::from(Mode::Custom).with(Mode::Events)).await;
    assert_eq!(
        Value::from(ran.custom()),
        value!([{"asking": "SF"}, "again", {"asking": "Atlantis"}, "again"]),
        "told before it fails too"
    );
    let events: Vec<_> = ran.events().filter(|e| &*e.name == "weather").collect();
    let kinds: Vec<EventKind> = events.iter().map(|e| e.kind).collect();
    assert_eq!(kinds, [EventKind::ToolStart, EventKind::ToolEnd, EventKind::ToolStart, EventKind::ToolError]);
    assert_eq!(events[0].data.input, Some(value!({"city": "SF"})));
    let output = events[1].data.output.as_ref().unwrap();
    assert_eq!((output.get_str("type"), output.get_str("tool_call_id")), (Some("tool"), Some("c1")));
    let values = ran.values();
    let written = values.get("messages").unwrap().as_list().unwrap().get(2).unwrap();
    assert_eq!(output.get("id"), written.get("id"), "the event shows the very message that is written");
}

#[tokio::test]
async fn the_calls_are_those_of_the_last_ai_message() {
    let g = tools("{}");
    let ai = |id: &str| {
        Value::Object(
            [
                ("role", value!("assistant")),
                ("content", value!("")),
                ("tool_calls", Value::from(vec![call("echo", value!({"what": id}), id)])),
            ]
            .into_iter()
            .collect(),
        )
    };
    let run_on = |messages: Vec<Value>| {
        let g = g.clone();
        async move {
            run(&g, Value::Object([("messages", Value::from(messages))].into_iter().collect()), Mode::Updates).await
        }
    };
    let ran = run_on(vec![ai("old"), ai("new"), value!({"role": "user", "content": "well?"})]).await;
    assert_eq!(answers(&ran).len(), 1);
    assert_eq!(answers(&ran)[0].get_str("content"), Some("new"));
    let ran = run_on(vec![ai("old"), value!({"role": "ai", "content": "done"})]).await;
    assert_eq!(ran.updates(), [r#"{"run":{"messages":[]}}"#], "no calls, no answers");
    let ran = run_on(vec![value!("hello")]).await;
    assert!(ran.failure().message.contains("no AI message in `messages`"));
}

#[tokio::test]
async fn another_channel_may_hold_the_messages() {
    let text = TOOLS.replace("messages: { reducer: messages }", "talk: { reducer: messages }");
    let g = graph(&format!(
        "{text}nodes: {{ run: {{ tools: {{ messages: talk }} }} }}\nedges: [ {{ from: START, to: run }} ]"
    ));
    let ai = value!({"role": "ai", "content": "", "tool_calls": [{"name": "echo", "args": {"what": "x"}, "id": "c"}]});
    let ran = run(&g, Value::Object([("talk", Value::from(vec![ai]))].into_iter().collect()), Modes::NONE).await;
    assert_eq!(ran.values().get("talk").unwrap().as_list().unwrap().len(), 2);
}

#[tokio::test]
async fn a_node_that_is_sent_messages_runs_their_calls() {
    let g = graph(&format!(
        "{TOOLS}nodes: {{ run: {{ tools: {{}} }}, go: {{ emit: '1' }} }}\nedges:\n  - {{ from: START, to: go }}\n  \
         - {{ from: go, route: '{{\"node\": \"run\", \"input\": {{\"messages\": state.messages, \"unit\": \"F\"}}}}', to: run }}"
    ));
    let ai =
        value!({"role": "ai", "content": "", "tool_calls": [{"name": "weather", "args": {"city": "SF"}, "id": "c"}]});
    let ran = run(&g, Value::Object([("messages", Value::from(vec![ai]))].into_iter().collect()), Modes::NONE).await;
    assert_eq!(answers(&ran)[0].get_str("content"), Some("{\"city\": \"SF\", \"unit\": \"F\"}"));
}
