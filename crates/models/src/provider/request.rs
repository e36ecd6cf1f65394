//! A request in LangChain's messages, read into what all providers have in common.

use std::collections::HashMap;

use runloom_engine::{
    Value,
    model::{ChatRequest, ToolSpec},
    trace,
};
use serde_json::{Value as Json, json};

use super::{
    ProviderKind,
    content::{self, Part},
};

/// Under this key of an answer's metadata stand the blocks of Anthropic's thinking, which go back with the answer.
pub(crate) const THINKING: &str = "thinking_blocks";
/// Under this one the signatures of Gemini's calls, by the call's id: LangChain's name for them.
pub(crate) const SIGNATURES: &str = "__gemini_function_call_thought_signatures__";

/// A conversation with a model.
#[derive(Debug)]
pub(crate) struct Conversation {
    pub turns: Vec<Turn>,
    pub tools: Vec<Tool>,
}

/// A message of a conversation, or the results of several tool calls together.
#[derive(Debug)]
pub(crate) enum Turn {
    System(String),
    User(Vec<Part>),
    Assistant(Said),
    Results(Vec<ToolResult>),
}

/// What the model said before.
#[derive(Debug)]
pub(crate) struct Said {
    /// Anthropic's thinking blocks.
    pub thinking: Vec<Json>,
    pub text: String,
    pub calls: Vec<Call>,
}

/// A tool call of the model.
#[derive(Debug)]
pub(crate) struct Call {
    pub id: String,
    pub name: String,
    pub args: Json,
    /// Gemini's signature of it.
    pub signature: Option<String>,
}

/// The result of a tool call.
#[derive(Debug)]
pub(crate) struct ToolResult {
    pub id: String,
    /// The tool's name, if it is known.
    pub name: Option<String>,
    pub text: String,
    pub is_error: bool,
}

/// A tool that the model may call.
#[derive(Debug)]
pub(crate) struct Tool {
    pub name: String,
    pub description: String,
    pub parameters: Json,
}

/// Reads a conversation. The error names the message that cannot be sent.
pub(crate) fn conversation(kind: ProviderKind, request: &ChatRequest) -> Result<Conversation, String> {
    let mut turns: Vec<Turn> = request.system.clone().map(Turn::System).into_iter().collect();
    // The name of each call so far, which Gemini wants with the result.
    let mut names: HashMap<String, String> = HashMap::new();
    for (i, message) in request.messages.iter().enumerate() {
        let wrong = |why: String| format!("message {} of the prompt: {why}", i + 1);
        match message.get_str("type").or_else(|| message.get_str("role")) {
            Some("human" | "user") => {
                turns.push(Turn::User(content::parts(kind, message.get("content")).map_err(wrong)?));
            }
            Some("system" | "developer") => turns.push(Turn::System(content::text(message.get("content")))),
            Some("ai" | "assistant") => {
                let said = said(kind, message);
                names.extend(said.calls.iter().map(|call| (call.id.clone(), call.name.clone())));
                turns.push(Turn::Assistant(said));
            }
            Some("tool") => {
                let result = result(message, &names).map_err(wrong)?;
                match turns.last_mut() {
                    // Anthropic and Gemini want the results of one message's calls together.
                    Some(Turn::Results(results)) => results.push(result),
                    _ => turns.push(Turn::Results(vec![result])),
                }
            }
            Some(other) => return Err(wrong(format!("a message of type `{other}` cannot be sent"))),
            None => return Err(wrong("it has no type".to_owned())),
        }
    }
    Ok(Conversation { turns, tools: request.tools.iter().map(tool).collect() })
}

/// The headers that say to which trace a call belongs.
pub(crate) fn trace_headers(request: &ChatRequest) -> Vec<(String, String)> {
    let context = request.metadata.get("trace_context");
    let plain = |text: &str| !text.is_empty() && text.len() <= 512 && text.bytes().all(|b| (b' '..=b'~').contains(&b));
    trace::HEADERS
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), context?.get_str(name).filter(|text| plain(text))?.to_owned())))
        .collect()
}

fn said(kind: ProviderKind, message: &Value) -> Said {
    // What another provider signed is not sent to this one.
    let own = |key: &str| {
        let metadata = message.get("response_metadata")?;
        (metadata.get_str("model_provider") == Some(kind.name())).then(|| metadata.get(key)).flatten()
    };
    let thinking = own(THINKING).and_then(Value::as_list).map(|blocks| blocks.iter().map(Value::to_json).collect());
    let signatures = own(SIGNATURES);
    let calls = message.get("tool_calls").and_then(Value::as_list).into_iter().flat_map(|calls| calls.iter());
    let call = |call: &Value| {
        let id = call.get_str("id").unwrap_or_default();
        Call {
            id: id.to_owned(),
            name: call.get_str("name").unwrap_or_default().to_owned(),
            args: call.get("args").map_or_else(|| json!({}), Value::to_json),
            signature: signatures.and_then(|all| all.get_str(id)).map(str::to_owned),
        }
    };
    Said {
        thinking: thinking.unwrap_or_default(),
        text: content::text(message.get("content")),
        calls: calls.map(call).collect(),
    }
}

fn result(message: &Value, names: &HashMap<String, String>) -> Result<ToolResult, String> {
    let id = message.get_str("tool_call_id").ok_or("a tool message needs a `tool_call_id`")?;
    Ok(ToolResult {
        id: id.to_owned(),
        name: names.get(id).cloned().or_else(|| message.get_str("name").map(str::to_owned)),
        text: content::text(message.get("content")),
        is_error: message.get_str("status") == Some("error"),
    })
}

fn tool(spec: &ToolSpec) -> Tool {
    let parameters = match spec.parameters.to_json() {
        Json::Object(schema) if !schema.is_empty() => schema.into(),
        _ => json!({"type": "object", "properties": {}}),
    };
    Tool { name: spec.name.to_string(), description: spec.description.to_string(), parameters }
}
