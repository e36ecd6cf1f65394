//! Ollama's chat.

use runloom_engine::model::Usage;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::{function, object};
use crate::provider::{
    answer::{Answer, parse},
    content::{Part, Source},
    fault::Fault,
    options::{ChatOptions, Effort, Format},
    request::{Conversation, Turn},
};

/// The body of a request.
pub(crate) fn body(model: &str, options: &ChatOptions, conversation: Conversation) -> Json {
    let tools = (!conversation.tools.is_empty()).then(|| Json::from_iter(conversation.tools.iter().map(function)));
    let messages: Vec<Json> = conversation.turns.into_iter().flat_map(messages).collect();
    let settings = object([
        ("temperature", options.temperature.map(|n| json!(n))),
        ("top_p", options.top_p.map(|n| json!(n))),
        ("num_predict", options.max_tokens.map(|n| json!(n))),
        ("seed", options.seed.map(|n| json!(n))),
        ("stop", (!options.stop.is_empty()).then(|| json!(options.stop))),
    ]);
    let format = options.format.as_ref().map(|format| match format {
        Format::Json => json!("json"),
        Format::Schema { schema, .. } => schema.clone(),
    });
    let think = options.effort.as_ref().map(|effort| match effort {
        Effort::Level("none") => json!(false),
        Effort::Level("minimal") => json!("low"),
        Effort::Level("xhigh") => json!("max"),
        Effort::Level(level) => json!(level),
        // There is no limit of tokens.
        Effort::Tokens(_) => json!(true),
    });
    Json::Object(object([
        ("model", Some(json!(model))),
        ("stream", Some(json!(true))),
        ("options", (!settings.is_empty()).then_some(Json::Object(settings))),
        ("tools", tools),
        ("messages", Some(json!(messages))),
        ("format", format),
        ("think", think),
    ]))
}

fn messages(turn: Turn) -> Vec<Json> {
    match turn {
        Turn::System(text) => vec![json!({"role": "system", "content": text})],
        Turn::User(parts) => {
            let (mut content, mut images) = (String::new(), Vec::new());
            for part in parts {
                match part {
                    Part::Text(text) => content.push_str(&text),
                    Part::Media(media) => match media.source {
                        Source::Base64(data) | Source::Url(data) => images.push(data),
                    },
                }
            }
            let mut message = json!({"role": "user", "content": content});
            if !images.is_empty() {
                message["images"] = json!(images);
            }
            vec![message]
        }
        Turn::Assistant(said) => {
            let mut message = json!({"role": "assistant", "content": said.text});
            if !said.calls.is_empty() {
                let calls = said.calls.into_iter();
                message["tool_calls"] =
                    calls.map(|call| json!({"function": {"name": call.name, "arguments": call.args}})).collect();
            }
            vec![message]
        }
        Turn::Results(results) => results
            .into_iter()
            .map(|result| {
                let mut message = json!({"role": "tool", "content": result.text});
                if let Some(name) = result.name {
                    message["tool_name"] = json!(name);
                }
                message
            })
            .collect(),
    }
}

#[derive(Deserialize)]
struct Frame {
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    message: Option<Piece>,
    #[serde(default)]
    done: Option<bool>,
    #[serde(default)]
    done_reason: Option<String>,
    #[serde(default)]
    prompt_eval_count: Option<u64>,
    #[serde(default)]
    prompt_eval_cached_count: Option<u64>,
    #[serde(default)]
    eval_count: Option<u64>,
    #[serde(default)]
    error: Option<Json>,
}

#[derive(Deserialize)]
struct Piece {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    thinking: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<Call>>,
}

#[derive(Deserialize)]
struct Call {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    function: Option<Function>,
}

#[derive(Deserialize)]
struct Function {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    arguments: Option<Json>,
}

/// Reads a frame.
pub(crate) fn read(answer: &mut Answer, frame: &[u8]) -> Result<(), Fault> {
    let frame: Frame = parse(frame)?;
    if let Some(error) = frame.error {
        return Err(Fault::of_event(&json!({"error": error})));
    }
    answer.model = answer.model.take().or(frame.model);
    if let Some(piece) = frame.message {
        answer.delta.text = piece.content.unwrap_or_default();
        answer.delta.reasoning = piece.thinking.unwrap_or_default();
        for call in piece.tool_calls.into_iter().flatten() {
            let (name, args) = call.function.map(|function| (function.name, function.arguments)).unwrap_or_default();
            answer.whole_call(call.id, name, args.as_ref());
        }
    }
    if frame.done == Some(true) {
        (answer.is_complete, answer.is_over) = (true, true);
        answer.finish_reason = frame.done_reason;
        answer.usage = Some(Usage {
            input_tokens: frame.prompt_eval_count.unwrap_or_default(),
            output_tokens: frame.eval_count.unwrap_or_default(),
            cached_tokens: frame.prompt_eval_cached_count.unwrap_or_default(),
            reasoning_tokens: 0,
        });
    }
    Ok(())
}
