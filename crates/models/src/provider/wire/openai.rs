//! OpenAI's chat completions.

use runloom_engine::{
    Value,
    model::{ToolCallDelta, Usage},
};
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::{closed, function, object};
use crate::provider::{
    answer::{Answer, new_call_id, parse},
    content::{Part, Source},
    fault::Fault,
    options::{ChatOptions, Effort, Format, ToolChoice},
    request::{Conversation, Turn},
};

/// The body of a request.
pub(crate) fn body(model: &str, options: &ChatOptions, conversation: Conversation) -> Json {
    let has_tools = !conversation.tools.is_empty();
    let tools = has_tools.then(|| conversation.tools.iter().map(function).collect());
    let messages: Vec<Json> = conversation.turns.into_iter().flat_map(messages).collect();
    let effort = options.effort.as_ref().and_then(|effort| match effort {
        Effort::Tokens(_) => None,
        Effort::Level(level) => Some(json!(level)),
    });
    let format = options.format.as_ref().map(|format| match format {
        Format::Json => json!({"type": "json_object"}),
        Format::Schema { name, schema } => {
            json!({"type": "json_schema", "json_schema": {"name": name, "strict": true, "schema": closed(schema, true)}})
        }
    });
    let choice = options.tool_choice.as_ref().filter(|_| has_tools).map(|choice| match choice {
        ToolChoice::Auto => json!("auto"),
        ToolChoice::None => json!("none"),
        ToolChoice::Any => json!("required"),
        ToolChoice::Tool(name) => json!({"type": "function", "function": {"name": name}}),
    });
    // Reasoning models do not know the older name; other servers do not know the newer.
    let is_reasoning = ["gpt-5", "gpt-6", "o1", "o3", "o4"].iter().any(|prefix| model.starts_with(prefix));
    let limit = if is_reasoning { "max_completion_tokens" } else { "max_tokens" };
    Json::Object(object([
        ("model", Some(json!(model))),
        ("stream", Some(json!(true))),
        ("stream_options", Some(json!({"include_usage": true}))),
        ("reasoning_effort", effort),
        ("tools", tools),
        ("tool_choice", choice),
        ("messages", Some(json!(messages))),
        ("response_format", format),
        ("temperature", options.temperature.map(|n| json!(n))),
        ("stop", (!options.stop.is_empty()).then(|| json!(options.stop))),
        (limit, options.max_tokens.map(|n| json!(n))),
        ("top_p", options.top_p.map(|n| json!(n))),
        ("seed", options.seed.map(|n| json!(n))),
    ]))
}

fn messages(turn: Turn) -> Vec<Json> {
    match turn {
        Turn::System(text) => vec![json!({"role": "system", "content": text})],
        Turn::User(parts) => vec![json!({"role": "user", "content": content(parts)})],
        Turn::Assistant(said) => {
            let mut message = json!({"role": "assistant", "content": said.text});
            if !said.calls.is_empty() {
                let calls = said.calls.into_iter().map(|call| {
                    let arguments = call.args.to_string();
                    json!({"type": "function", "id": call.id, "function": {"name": call.name, "arguments": arguments}})
                });
                message["tool_calls"] = calls.collect();
            }
            vec![message]
        }
        Turn::Results(results) => results
            .into_iter()
            .map(|result| json!({"role": "tool", "content": result.text, "tool_call_id": result.id}))
            .collect(),
    }
}

fn content(parts: Vec<Part>) -> Json {
    if parts.iter().all(|part| matches!(part, Part::Text(_))) {
        let text: String = parts.into_iter().filter_map(Part::into_text).collect();
        return json!(text);
    }
    let parts = parts.into_iter().map(|part| match part {
        Part::Text(text) => json!({"type": "text", "text": text}),
        Part::Media(media) if media.is("audio/") => {
            let format = media.mime.rsplit('/').next().unwrap_or_default().to_owned();
            let format = if format == "mpeg" { "mp3".to_owned() } else { format };
            let data = match media.source {
                Source::Url(text) | Source::Base64(text) => text,
            };
            json!({"type": "input_audio", "input_audio": {"data": data, "format": format}})
        }
        Part::Media(media) if media.is("image/") => json!({"type": "image_url", "image_url": {"url": media.url()}}),
        Part::Media(media) if media.is("video/") => json!({"type": "video_url", "video_url": {"url": media.url()}}),
        Part::Media(media) => {
            json!({"type": "file", "file": {"filename": media.name, "file_data": media.url()}})
        }
    });
    parts.collect()
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    system_fingerprint: Option<String>,
    #[serde(default)]
    choices: Option<Vec<Choice>>,
    #[serde(default)]
    usage: Option<Counts>,
    #[serde(default)]
    error: Option<Json>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    delta: Option<Piece>,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Piece {
    #[serde(default)]
    content: Text,
    #[serde(default)]
    reasoning_content: Option<String>,
    #[serde(default)]
    reasoning: Option<String>,
    #[serde(default)]
    refusal: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<CallPiece>>,
    #[serde(default)]
    images: Option<Vec<Json>>,
}

#[derive(Deserialize)]
struct CallPiece {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    index: Option<u64>,
    #[serde(default)]
    function: Option<FunctionPiece>,
}

#[derive(Deserialize)]
struct FunctionPiece {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    arguments: Option<String>,
}

#[derive(Deserialize)]
struct Counts {
    #[serde(default)]
    prompt_tokens: Option<u64>,
    #[serde(default)]
    completion_tokens: Option<u64>,
    #[serde(default)]
    prompt_tokens_details: Option<PromptCounts>,
    #[serde(default)]
    completion_tokens_details: Option<CompletionCounts>,
}

#[derive(Deserialize)]
struct PromptCounts {
    #[serde(default)]
    cached_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct CompletionCounts {
    #[serde(default)]
    reasoning_tokens: Option<u64>,
}

/// A text; or, from servers that send one, a list of parts: text, and thinking with text in it.
#[derive(Default)]
struct Text {
    text: String,
    thinking: String,
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> serde::de::Visitor<'de> for TextVisitor {
    type Value = Text;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a text or a list of parts")
    }

    fn visit_unit<E>(self) -> Result<Text, E> {
        Ok(Text::default())
    }

    fn visit_str<E>(self, text: &str) -> Result<Text, E> {
        Ok(Text { text: text.to_owned(), ..Text::default() })
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut parts: A) -> Result<Text, A::Error> {
        let mut all = Text::default();
        while let Some(part) = parts.next_element::<Json>()? {
            all.text.push_str(part.get("text").and_then(Json::as_str).unwrap_or_default());
            match part.get("thinking") {
                Some(Json::String(text)) => all.thinking.push_str(text),
                Some(Json::Array(inner)) => {
                    inner.iter().filter_map(|part| part.get("text")?.as_str()).for_each(|t| all.thinking.push_str(t));
                }
                _ => {}
            }
        }
        Ok(all)
    }
}

/// Reads a frame.
pub(crate) fn read(answer: &mut Answer, frame: &[u8]) -> Result<(), Fault> {
    if frame.trim_ascii() == b"[DONE]" {
        (answer.is_complete, answer.is_over) = (true, true);
        return Ok(());
    }
    let chunk: Chunk = parse(frame)?;
    if let Some(error) = chunk.error {
        return Err(Fault::of_event(&json!({"error": error})));
    }
    if answer.model.is_none() {
        answer.model = chunk.model.filter(|name| !name.is_empty());
    }
    answer.id = answer.id.take().or(chunk.id);
    answer.fingerprint = answer.fingerprint.take().or(chunk.system_fingerprint);
    if let Some(usage) = chunk.usage {
        answer.usage = Some(Usage {
            input_tokens: usage.prompt_tokens.unwrap_or_default(),
            output_tokens: usage.completion_tokens.unwrap_or_default(),
            cached_tokens: usage.prompt_tokens_details.and_then(|d| d.cached_tokens).unwrap_or_default(),
            reasoning_tokens: usage.completion_tokens_details.and_then(|d| d.reasoning_tokens).unwrap_or_default(),
        });
    }
    let Some(choice) = chunk.choices.into_iter().flatten().next() else { return Ok(()) };
    if choice.finish_reason.is_some() {
        answer.finish_reason = choice.finish_reason;
        // Some servers leave the end mark out.
        answer.is_complete = true;
    }
    let Some(piece) = choice.delta else { return Ok(()) };
    let delta = &mut answer.delta;
    delta.text = piece.content.text;
    delta.reasoning = piece.content.thinking;
    if let Some(reasoning) = piece.reasoning_content.or(piece.reasoning) {
        delta.reasoning.push_str(&reasoning);
    }
    delta.blocks.extend(piece.images.into_iter().flatten().map(Value::from));
    answer.refusal.push_str(&piece.refusal.unwrap_or_default());
    for call in piece.tool_calls.into_iter().flatten() {
        call_piece(answer, call);
    }
    Ok(())
}

fn call_piece(answer: &mut Answer, call: CallPiece) {
    let id = call.id.filter(|id| !id.is_empty());
    // Servers that send each call whole leave its number out.
    let key = match (call.index, &id) {
        (Some(number), _) => number.to_string(),
        (None, Some(id)) => id.clone(),
        (None, None) => answer.last_call().cloned().unwrap_or_default(),
    };
    let (index, is_new) = answer.call_index(key);
    let id = id.or_else(|| is_new.then(new_call_id)).map(Into::into);
    let (name, args) = call.function.map(|function| (function.name, function.arguments)).unwrap_or_default();
    let name = name.filter(|name| !name.is_empty()).map(Into::into);
    answer.delta.tool_calls.push(ToolCallDelta { index, id, name, args: args.unwrap_or_default() });
}
