//! The graphs of the recordings in `rich/`: models that report their provider, usage and reasoning.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::BoxStream};
use runloom_core::document::Registry;
use runloom_engine::{
    Value,
    model::{ChatModel, ChatRequest, Delta, ModelError, ModelInfo, ToolCallDelta, Usage},
    value,
};

/// A model that streams the pieces of its turns, one turn for each message of the model before.
struct Rich {
    turns: Vec<Vec<Delta>>,
    /// Breaks after so many pieces.
    breaks_after: Option<usize>,
}

impl ChatModel for Rich {
    fn name(&self) -> &str {
        "Rich"
    }

    fn info(&self) -> ModelInfo {
        ModelInfo { provider: "acme".into(), model: "acme-1".into() }
    }

    fn stream(&self, request: ChatRequest) -> BoxStream<'static, Result<Delta, ModelError>> {
        let before = request.messages.iter().filter(|m| m.get_str("type") == Some("ai")).count();
        let mut pieces: Vec<Result<Delta, ModelError>> =
            self.turns[before % self.turns.len()].iter().cloned().map(Ok).collect();
        if let Some(after) = self.breaks_after {
            pieces.truncate(after);
            pieces.push(Err(ModelError {
                model: "acme-1".to_owned(),
                message: "the provider broke".to_owned(),
                retryable: false,
                retry_after: None,
            }));
        }
        let paced = futures_util::stream::iter(pieces).then(|piece| async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            piece
        });
        paced.boxed()
    }
}

fn usage() -> Option<Usage> {
    Some(Usage { input_tokens: 11, output_tokens: 7, cached_tokens: 3, reasoning_tokens: 2 })
}

fn metadata(of: Value) -> Option<runloom_engine::Object> {
    of.as_object().cloned()
}

fn call(index: u32, id: Option<&str>, name: Option<&str>, args: &str) -> Delta {
    let piece = ToolCallDelta { index, id: id.map(Arc::from), name: name.map(Arc::from), args: args.to_owned() };
    Delta { tool_calls: vec![piece], ..Delta::default() }
}

/// The models by name.
pub fn registry() -> Registry {
    let end = || Delta { last: true, ..Delta::default() };
    let stop = value!({"model_name": "acme-1-2026", "finish_reason": "stop", "model_provider": "acme"});
    let said = vec![
        Delta::text("Hel"),
        Delta::text("lo"),
        Delta::text(" there."),
        Delta { usage: usage(), response_metadata: metadata(stop), ..end() },
    ];
    let reasoning = |text: &str| Delta { reasoning: text.to_owned(), ..Delta::default() };
    let think = vec![
        reasoning("Let me "),
        reasoning("think."),
        Delta::text("The "),
        Delta::text("answer."),
        Delta { usage: usage(), ..end() },
    ];
    let calls = vec![
        Delta::text("Looking"),
        call(0, Some("c1"), Some("weather"), ""),
        call(0, None, None, "{\"ci"),
        call(0, None, None, "ty\": \"Oslo\"}"),
        call(1, Some("c2"), Some("weather"), "{\"city\": \"Rome\"}"),
        Delta { usage: usage(), response_metadata: metadata(value!({"finish_reason": "tool_calls"})), ..end() },
    ];
    let bad = vec![Delta { last: true, ..call(0, Some("c9"), Some("weather"), "{\"city\": ") }];
    let model = |turns: &[&Vec<Delta>], breaks_after| -> Arc<dyn ChatModel> {
        Arc::new(Rich { turns: turns.iter().map(|turn| (*turn).clone()).collect(), breaks_after })
    };
    Registry::default()
        .model("said", model(&[&said], None))
        .model("think", model(&[&think], None))
        .model("breaks", model(&[&said], Some(2)))
        .model("bad_call", model(&[&bad], None))
        .model("agent", model(&[&calls, &said], None))
}

/// The documents.
pub fn documents() -> Vec<(String, String)> {
    let chat = |name: &str, model: &str| {
        format!(
            "runloom: v1\nname: {name}\nstate: {{ messages: {{ reducer: messages }} }}\nnodes: {{ model: {{ chat_model: {{ model: {model} }} }} }}\nedges: [ {{ from: START, to: model }} ]\n"
        )
    };
    let react = r#"
runloom: v1
name: react
state: { messages: { reducer: messages } }
tools:
  weather:
    description: The weather of a city.
    parameters: { type: object, properties: { city: { type: string } }, required: [city] }
    result: '"sunny in " + args.city'
nodes:
  model: { chat_model: { model: agent, tools: [weather] } }
  tools: { tools: {} }
edges:
  - { from: START, to: model }
  - { from: model, route: 'size(state.messages[size(state.messages) - 1].tool_calls) > 0 ? "tools" : "END"', to: [tools, END] }
  - { from: tools, to: model }
"#;
    let bi = "runloom: v1\nname: bi\nstate: { messages: { reducer: messages } }\nnodes: { boom: { steps: [ { fail: '\"inner broke\"' } ] } }\nedges: [ { from: START, to: boom } ]\n";
    let sub_fails = "runloom: v1\nname: sub_fails\nstate: { messages: { reducer: messages } }\nnodes: { child: { subgraph: bi } }\nedges: [ { from: START, to: child } ]\n";
    let values = "runloom: v1\nname: values\nstate: { n: {}, any: {} }\nnodes: { big: { update: { n: '1152921504606846976', any: '{\"x\": [1, 2.5, null, true], \"é\": \"ü\"}' } } }\nedges: [ { from: START, to: big } ]\n";
    let all = [
        ("plain_rich", chat("plain_rich", "said")),
        ("reasoning", chat("reasoning", "think")),
        ("model_breaks", chat("model_breaks", "breaks")),
        ("bad_tool_call", chat("bad_tool_call", "bad_call")),
        ("react", react.to_owned()),
        ("bi", bi.to_owned()),
        ("sub_fails", sub_fails.to_owned()),
        ("values", values.to_owned()),
    ];
    all.into_iter().map(|(name, text)| (format!("{name}.yaml"), text)).collect()
}
