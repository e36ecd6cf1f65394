//! Anthropic's messages.

use runloom_engine::model::ToolCallDelta;
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

use super::{closed, object};
use crate::provider::{
    answer::{Answer, parse},
    content::{Part, Source},
    fault::Fault,
    options::{ChatOptions, Effort, Format, ToolChoice},
    request::{Conversation, Said, Turn},
};

/// The version of the API that requests name.
pub(crate) const VERSION: &str = "2023-06-01";

/// The body of a request.
pub(crate) fn body(model: &str, options: &ChatOptions, conversation: Conversation) -> Json {
    let has_tools = !conversation.tools.is_empty();
    let tools = conversation.tools.iter().map(|tool| {
        let mut wire = json!({"name": tool.name, "input_schema": tool.parameters});
        if !tool.description.is_empty() {
            wire["description"] = json!(tool.description);
        }
        wire
    });
    let tools = has_tools.then(|| tools.collect());
    let choice = options.tool_choice.as_ref().filter(|_| has_tools).map(|choice| match choice {
        ToolChoice::Auto => json!({"type": "auto"}),
        ToolChoice::None => json!({"type": "none"}),
        ToolChoice::Any => json!({"type": "any"}),
        ToolChoice::Tool(name) => json!({"type": "tool", "name": name}),
    });
    let mut systems: Vec<String> = Vec::new();
    let mut messages: Vec<Json> = Vec::new();
    for turn in conversation.turns {
        match turn {
            Turn::System(text) => systems.push(text),
            Turn::User(parts) => messages.push(json!({"role": "user", "content": content(parts)})),
            Turn::Assistant(said) => messages.push(json!({"role": "assistant", "content": assistant(said)})),
            Turn::Results(results) => {
                let results = results.into_iter().map(|result| {
                    let mut wire = json!({"type": "tool_result", "tool_use_id": result.id, "content": result.text});
                    if result.is_error {
                        wire["is_error"] = json!(true);
                    }
                    wire
                });
                messages.push(json!({"role": "user", "content": Json::from_iter(results)}));
            }
        }
    }
    let (thinking, mut output) = options.effort.as_ref().map(|effort| reasoning(model, effort)).unwrap_or_default();
    if let Some(Format::Schema { schema, .. }) = &options.format {
        output.insert("format".to_owned(), json!({"type": "json_schema", "schema": closed(schema, false)}));
    }
    Json::Object(object([
        ("model", Some(json!(model))),
        ("stream", Some(json!(true))),
        ("system", (!systems.is_empty()).then(|| json!(systems.join("\n\n")))),
        ("tools", tools),
        ("tool_choice", choice),
        ("messages", Some(json!(messages))),
        ("thinking", thinking),
        ("output_config", (!output.is_empty()).then_some(Json::Object(output))),
        ("temperature", options.temperature.map(|n| json!(n))),
        ("stop_sequences", (!options.stop.is_empty()).then(|| json!(options.stop))),
        ("max_tokens", Some(json!(options.max_tokens.unwrap_or_else(|| default_max_tokens(model))))),
        ("top_p", options.top_p.map(|n| json!(n))),
    ]))
}

fn content(parts: Vec<Part>) -> Json {
    if parts.iter().all(|part| matches!(part, Part::Text(_))) {
        let text: String = parts.into_iter().filter_map(Part::into_text).collect();
        return json!(text);
    }
    let parts = parts.into_iter().map(|part| match part {
        Part::Text(text) => json!({"type": "text", "text": text}),
        Part::Media(media) => {
            let kind = if media.is("image/") { "image" } else { "document" };
            let source = match media.source {
                Source::Url(url) => json!({"type": "url", "url": url}),
                Source::Base64(data) => json!({"type": "base64", "media_type": media.mime, "data": data}),
            };
            json!({"type": kind, "source": source})
        }
    });
    parts.collect()
}

fn assistant(said: Said) -> Json {
    let mut blocks = said.thinking;
    if !said.text.is_empty() || (blocks.is_empty() && said.calls.is_empty()) {
        blocks.push(json!({"type": "text", "text": said.text}));
    }
    blocks.extend(said.calls.into_iter().map(|call| {
        // The API refuses anything but an object.
        let input = if call.args.is_object() { call.args } else { json!({}) };
        json!({"type": "tool_use", "id": call.id, "name": call.name, "input": input})
    }));
    // A message of text alone is written short.
    match blocks.as_slice() {
        [one] if one["type"] == "text" => one["text"].clone(),
        _ => Json::Array(blocks),
    }
}

/// The API wants a limit with each request: the most that a model can write.
fn default_max_tokens(model: &str) -> u32 {
    let has = |names: &[&str]| names.iter().any(|name| model.contains(name));
    match () {
        () if has(&["claude-3-opus", "claude-3-haiku"]) => 4096,
        () if has(&["claude-3-5"]) => 8192,
        () if has(&["claude-opus-4-0", "claude-opus-4-1", "claude-opus-4-2025"]) => 32_000,
        () => 64_000,
    }
}

/// The `thinking` of a request, and what its `output_config` says of the effort.
fn reasoning(model: &str, effort: &Effort) -> (Option<Json>, Map<String, Json>) {
    let version = version(model);
    // Opus 4.5 takes an effort but has no adaptive thinking.
    let takes_effort = version >= (4, 6) || (model.contains("opus") && version == (4, 5));
    let is_adaptive = version >= (4, 6);
    let mut output = Map::new();
    let level = match effort {
        Effort::Level("none") => {
            // On by default from version 5 on.
            let off = (version >= (5, 0)).then(|| json!({"type": "disabled"}));
            return (off, output);
        }
        Effort::Level("minimal") => "low",
        Effort::Level("xhigh" | "max") if !is_adaptive => "high",
        Effort::Level(level) => level,
        Effort::Tokens(tokens) => return (Some(json!({"type": "enabled", "budget_tokens": tokens})), output),
    };
    if takes_effort {
        output.insert("effort".to_owned(), json!(level));
    }
    let thinking = match level {
        _ if is_adaptive => Some(json!({"type": "adaptive", "display": "summarized"})),
        _ if takes_effort => None,
        "low" => Some(json!({"type": "enabled", "budget_tokens": 1024})),
        "medium" => Some(json!({"type": "enabled", "budget_tokens": 8000})),
        _ => Some(json!({"type": "enabled", "budget_tokens": 24_000})),
    };
    (thinking, output)
}

/// The version in a model's name: `claude-opus-4-6` is 4.6, `claude-sonnet-4-20250514` is 4.0.
fn version(model: &str) -> (u32, u32) {
    let mut numbers = model.split(['-', '@', ':']).skip_while(|word| word.parse::<u32>().is_err());
    let small = |word: Option<&str>| word.filter(|word| word.len() <= 2).and_then(|word| word.parse().ok());
    let major = small(numbers.next());
    major.map_or((0, 0), |major| (major, small(numbers.next()).unwrap_or(0)))
}

#[derive(Deserialize)]
struct Frame {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    index: Option<u64>,
    #[serde(default)]
    delta: Option<Piece>,
    #[serde(default)]
    content_block: Option<Map<String, Json>>,
    #[serde(default)]
    message: Option<Start>,
    #[serde(default)]
    usage: Option<Counts>,
    #[serde(default)]
    error: Option<Json>,
}

#[derive(Deserialize, Default)]
struct Piece {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    partial_json: Option<String>,
    #[serde(default)]
    thinking: Option<String>,
    #[serde(default)]
    signature: Option<String>,
    #[serde(default)]
    stop_reason: Option<String>,
}

#[derive(Deserialize)]
struct Start {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    usage: Option<Counts>,
}

#[derive(Deserialize)]
struct Counts {
    #[serde(default)]
    input_tokens: Option<u64>,
    #[serde(default)]
    cache_read_input_tokens: Option<u64>,
    #[serde(default)]
    cache_creation_input_tokens: Option<u64>,
    #[serde(default)]
    output_tokens: Option<u64>,
}

/// Reads a frame.
pub(crate) fn read(answer: &mut Answer, frame: &[u8]) -> Result<(), Fault> {
    let frame: Frame = parse(frame)?;
    match frame.kind.as_str() {
        "content_block_delta" => {
            if let Some(piece) = frame.delta {
                block_piece(answer, frame.index, piece);
            }
        }
        "content_block_start" => {
            if let Some(block) = frame.content_block {
                block_start(answer, frame.index, block);
            }
        }
        "message_start" => {
            if let Some(start) = frame.message {
                (answer.model, answer.id) = (start.model, start.id);
                count(answer, start.usage);
            }
        }
        "message_delta" => {
            answer.finish_reason = frame.delta.and_then(|delta| delta.stop_reason).or(answer.finish_reason.take());
            count(answer, frame.usage);
        }
        "message_stop" => (answer.is_complete, answer.is_over) = (true, true),
        "error" => return Err(Fault::of_event(&json!({"error": frame.error.unwrap_or_default()}))),
        // Pings, ends of blocks, and what will be.
        _ => {}
    }
    Ok(())
}

fn key(index: Option<u64>) -> String {
    index.unwrap_or_default().to_string()
}

fn block_start(answer: &mut Answer, index: Option<u64>, block: Map<String, Json>) {
    let text = |name: &str| block.get(name).and_then(Json::as_str).map(str::to_owned);
    match text("type").as_deref() {
        Some("text") => {
            answer.delta.text = text("text").unwrap_or_default();
            answer.begins_block = true;
        }
        Some("tool_use") => {
            let input = block.get("input").filter(|input| input.as_object().is_some_and(|o| !o.is_empty()));
            let args = input.map(Json::to_string).unwrap_or_default();
            let (index, _) = answer.call_index(key(index));
            let (id, name) = (text("id").map(Into::into), text("name").map(Into::into));
            answer.delta.tool_calls.push(ToolCallDelta { index, id, name, args });
        }
        Some("thinking" | "redacted_thinking") => {
            answer.thinking.push(block);
            answer.begins_block = true;
        }
        _ => {}
    }
}

fn block_piece(answer: &mut Answer, index: Option<u64>, piece: Piece) {
    match piece.kind.as_str() {
        "text_delta" => answer.delta.text = piece.text.unwrap_or_default(),
        "input_json_delta" => {
            if let Some(args) = piece.partial_json.filter(|args| !args.is_empty()) {
                let (index, _) = answer.call_index(key(index));
                answer.delta.tool_calls.push(ToolCallDelta { index, args, ..ToolCallDelta::default() });
            }
        }
        "thinking_delta" => {
            if let Some(thinking) = piece.thinking {
                extend(answer, "thinking", &thinking);
                answer.delta.reasoning = thinking;
            }
        }
        "signature_delta" => extend(answer, "signature", &piece.signature.unwrap_or_default()),
        _ => {}
    }
}

/// Extends a text of the thinking block that began last.
fn extend(answer: &mut Answer, field: &str, more: &str) {
    let Some(block) = answer.thinking.last_mut() else { return };
    match block.get_mut(field) {
        Some(Json::String(text)) => text.push_str(more),
        _ => drop(block.insert(field.to_owned(), more.into())),
    }
}

/// Anthropic counts cached tokens apart, and sends some numbers twice: the later ones count.
fn count(answer: &mut Answer, counts: Option<Counts>) {
    let Some(counts) = counts else { return };
    let usage = answer.usage.get_or_insert_default();
    if let Some(input) = counts.input_tokens {
        let cached = counts.cache_read_input_tokens.unwrap_or(0);
        usage.input_tokens = input + cached + counts.cache_creation_input_tokens.unwrap_or(0);
        usage.cached_tokens = cached;
    }
    usage.output_tokens = counts.output_tokens.unwrap_or(usage.output_tokens);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_names() {
        for (name, expected) in [
            ("claude-opus-4-6", (4, 6)),
            ("claude-sonnet-4-20250514", (4, 0)),
            ("claude-3-7-sonnet-latest", (3, 7)),
            ("claude-sonnet-5", (5, 0)),
            ("claude", (0, 0)),
        ] {
            assert_eq!(version(name), expected, "{name}");
        }
    }

    #[test]
    fn effort_is_said_as_each_generation_takes_it() {
        let said = |model: &str, effort: Effort| {
            let (thinking, output) = reasoning(model, &effort);
            (thinking.unwrap_or_default().to_string(), Json::Object(output).to_string())
        };
        let budget = |tokens: u32| format!(r#"{{"type":"enabled","budget_tokens":{tokens}}}"#);
        assert_eq!(said("claude-3-7-sonnet", Effort::Level("medium")), (budget(8000), "{}".to_owned()));
        assert_eq!(said("claude-sonnet-4-5", Effort::Tokens(2000)), (budget(2000), "{}".to_owned()));
        let adaptive = r#"{"type":"adaptive","display":"summarized"}"#.to_owned();
        assert_eq!(said("claude-opus-4-6", Effort::Level("high")), (adaptive, r#"{"effort":"high"}"#.to_owned()));
        assert_eq!(said("claude-sonnet-5", Effort::Level("none")).0, r#"{"type":"disabled"}"#);
    }
}
