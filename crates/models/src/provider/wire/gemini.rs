//! Google's Gemini.

use runloom_engine::{model::Usage, value};
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::object;
use crate::provider::{
    answer::{Answer, parse},
    content::{Part, Source},
    fault::Fault,
    options::{ChatOptions, Effort, Format, ToolChoice},
    request::{Conversation, Said, ToolResult, Turn},
};

/// Stands for the signature of a call that has none: Gemini 3 wants one on the first call of a turn.
const NO_SIGNATURE: &str = "skip_thought_signature_validator";

/// The body of a request.
pub(crate) fn body(model: &str, options: &ChatOptions, conversation: Conversation) -> Json {
    let has_tools = !conversation.tools.is_empty();
    let functions = conversation.tools.iter().map(
        |tool| json!({"name": tool.name, "description": tool.description, "parametersJsonSchema": tool.parameters}),
    );
    let tools = has_tools.then(|| json!([{"functionDeclarations": Json::from_iter(functions)}]));
    let choice = options.tool_choice.as_ref().filter(|_| has_tools).map(|choice| {
        let calling = match choice {
            ToolChoice::Auto => json!({"mode": "AUTO"}),
            ToolChoice::None => json!({"mode": "NONE"}),
            ToolChoice::Any => json!({"mode": "ANY"}),
            ToolChoice::Tool(name) => json!({"mode": "ANY", "allowedFunctionNames": [name]}),
        };
        json!({"functionCallingConfig": calling})
    });
    let mut systems: Vec<String> = Vec::new();
    let mut contents: Vec<Json> = Vec::new();
    for turn in conversation.turns {
        match turn {
            Turn::System(text) => systems.push(text),
            Turn::User(parts) => contents.push(json!({"role": "user", "parts": user(parts)})),
            Turn::Assistant(said) => contents.push(json!({"role": "model", "parts": assistant(model, said)})),
            Turn::Results(results) => {
                let parts: Vec<Json> = results.into_iter().map(result).collect();
                contents.push(json!({"role": "user", "parts": parts}));
            }
        }
    }
    let schema = match &options.format {
        Some(Format::Schema { schema, .. }) => Some(schema.clone()),
        _ => None,
    };
    let generation = object([
        ("thinkingConfig", options.effort.as_ref().map(|effort| thinking(model, effort))),
        ("responseMimeType", options.format.as_ref().map(|_| json!("application/json"))),
        ("responseJsonSchema", schema),
        ("temperature", options.temperature.map(|n| json!(n))),
        ("stopSequences", (!options.stop.is_empty()).then(|| json!(options.stop))),
        ("maxOutputTokens", options.max_tokens.map(|n| json!(n))),
        ("topP", options.top_p.map(|n| json!(n))),
        ("seed", options.seed.map(|n| json!(n))),
    ]);
    Json::Object(object([
        ("systemInstruction", (!systems.is_empty()).then(|| json!({"parts": [{"text": systems.join("\n\n")}]}))),
        ("tools", tools),
        ("toolConfig", choice),
        ("contents", Some(json!(contents))),
        ("generationConfig", (!generation.is_empty()).then_some(Json::Object(generation))),
    ]))
}

fn user(parts: Vec<Part>) -> Json {
    let parts = parts.into_iter().map(|part| match part {
        Part::Text(text) => json!({"text": text}),
        Part::Media(media) => match media.source {
            Source::Url(url) => json!({"file_data": {"mime_type": media.mime, "file_uri": url}}),
            Source::Base64(data) => json!({"inline_data": {"mime_type": media.mime, "data": data}}),
        },
    });
    parts.collect()
}

fn assistant(model: &str, said: Said) -> Json {
    let wants_signature = model.contains("gemini-3");
    let mut parts: Vec<Json> = Vec::new();
    if !said.text.is_empty() || said.calls.is_empty() {
        parts.push(json!({"text": said.text}));
    }
    for (at, call) in said.calls.into_iter().enumerate() {
        let mut function = json!({"name": call.name, "args": call.args});
        if !call.id.is_empty() {
            function["id"] = json!(call.id);
        }
        let mut part = json!({"functionCall": function});
        let placeholder = || (wants_signature && at == 0).then(|| NO_SIGNATURE.to_owned());
        if let Some(signature) = call.signature.or_else(placeholder) {
            part["thoughtSignature"] = json!(signature);
        }
        parts.push(part);
    }
    Json::Array(parts)
}

fn result(result: ToolResult) -> Json {
    let mut response = json!({"response": {"content": result.text}});
    // The result of a call that the conversation has is matched by its id, else by its name.
    match result.name {
        Some(name) => {
            response["name"] = json!(name);
            response["response"]["name"] = json!(name);
            response["id"] = json!(result.id);
        }
        None => response["name"] = json!(result.id),
    }
    json!({"functionResponse": response})
}

fn thinking(model: &str, effort: &Effort) -> Json {
    let by_level = ["gemini-3", "gemma-4"].iter().any(|name| model.contains(name));
    let mut config = json!({"includeThoughts": true});
    match effort {
        Effort::Tokens(tokens) if !by_level => config["thinkingBudget"] = json!(tokens),
        Effort::Tokens(_) | Effort::Level("none") => {}
        Effort::Level(level) if by_level => {
            let level = if matches!(*level, "xhigh" | "max") { "high" } else { level };
            config["thinkingLevel"] = json!(level.to_uppercase());
        }
        Effort::Level(level) => {
            config["thinkingBudget"] = json!(match *level {
                "minimal" | "low" => 1000,
                "medium" => 8000,
                _ => 24_000,
            });
        }
    }
    config
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Frame {
    #[serde(default)]
    candidates: Option<Vec<Candidate>>,
    #[serde(default)]
    prompt_feedback: Option<Feedback>,
    #[serde(default)]
    usage_metadata: Option<Counts>,
    #[serde(default)]
    model_version: Option<String>,
    #[serde(default)]
    response_id: Option<String>,
    #[serde(default)]
    error: Option<Json>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Candidate {
    #[serde(default)]
    content: Option<Content>,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Content {
    #[serde(default)]
    parts: Option<Vec<Piece>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Piece {
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    thought: Option<bool>,
    #[serde(default)]
    thought_signature: Option<String>,
    #[serde(default)]
    function_call: Option<FunctionCall>,
    #[serde(default)]
    inline_data: Option<InlineData>,
}

#[derive(Deserialize)]
struct FunctionCall {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    args: Option<Json>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InlineData {
    #[serde(default)]
    mime_type: String,
    #[serde(default)]
    data: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Feedback {
    #[serde(default)]
    block_reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Counts {
    prompt_token_count: u64,
    tool_use_prompt_token_count: u64,
    candidates_token_count: u64,
    thoughts_token_count: u64,
    cached_content_token_count: u64,
}

/// Reads a frame.
pub(crate) fn read(answer: &mut Answer, frame: &[u8]) -> Result<(), Fault> {
    let frame: Frame = parse(frame)?;
    if let Some(error) = frame.error {
        return Err(Fault::of_event(&json!({"error": error})));
    }
    answer.model = frame.model_version.or(answer.model.take());
    answer.id = frame.response_id.or(answer.id.take());
    if let Some(counts) = frame.usage_metadata {
        answer.usage = Some(Usage {
            input_tokens: counts.prompt_token_count + counts.tool_use_prompt_token_count,
            output_tokens: counts.candidates_token_count + counts.thoughts_token_count,
            cached_tokens: counts.cached_content_token_count,
            reasoning_tokens: counts.thoughts_token_count,
        });
    }
    let candidate = frame.candidates.into_iter().flatten().next();
    let (content, finish) = candidate.map(|c| (c.content, c.finish_reason)).unwrap_or_default();
    // A refused prompt has no candidates.
    if let Some(reason) = finish.or_else(|| frame.prompt_feedback?.block_reason) {
        answer.finish_reason = Some(reason);
        answer.is_complete = true;
    }
    for piece in content.and_then(|content| content.parts).into_iter().flatten() {
        if let Some(call) = piece.function_call {
            let id = answer.whole_call(call.id, call.name, call.args.as_ref());
            if let Some(signature) = piece.thought_signature {
                answer.signatures.insert(id.as_str(), signature);
            }
        } else if let Some(text) = piece.text {
            let so_far = if piece.thought == Some(true) { &mut answer.delta.reasoning } else { &mut answer.delta.text };
            so_far.push_str(&text);
        } else if let Some(InlineData { mime_type, data }) = piece.inline_data {
            let known = ["image", "audio", "video"].into_iter().find(|kind| mime_type.starts_with(kind));
            let kind = known.unwrap_or("file");
            answer.delta.blocks.push(value!({"type": kind, "base64": data, "mime_type": mime_type}));
        }
    }
    Ok(())
}
