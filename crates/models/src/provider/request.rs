//! A request in LangChain's messages, as the provider's library takes it.

use std::collections::HashMap;

use genai::chat::{
    ChatMessage, ChatRequest as Wire, ChatRole, ContentPart, CustomPart, MessageContent, Tool, ToolCall, ToolResponse,
};
use runloom_engine::{
    Value,
    model::{ChatRequest, ToolSpec},
    trace,
};
use serde_json::json;

use super::{ProviderKind, content};

/// Under this key of an answer's metadata stand the blocks of Anthropic's thinking, which go back with the answer.
pub(crate) const THINKING: &str = "thinking_blocks";
/// Under this one the signatures of Gemini's calls, by the call's id: LangChain's name for them.
pub(crate) const SIGNATURES: &str = "__gemini_function_call_thought_signatures__";

/// The conversation. The error names the message that cannot be sent.
pub(crate) fn conversation(kind: ProviderKind, request: &ChatRequest) -> Result<Wire, String> {
    let mut messages: Vec<ChatMessage> = Vec::new();
    // The name of each call so far, which Gemini wants with the result.
    let mut names: HashMap<String, String> = HashMap::new();
    for (i, message) in request.messages.iter().enumerate() {
        let wrong = |why: String| format!("message {} of the prompt: {why}", i + 1);
        match message.get_str("type").or_else(|| message.get_str("role")) {
            Some("human" | "user") => {
                let parts = content::parts(kind, message.get("content")).map_err(wrong)?;
                messages.push(ChatMessage::user(MessageContent::from_parts(joined(parts))));
            }
            Some("system" | "developer") => messages.push(ChatMessage::system(content::text(message.get("content")))),
            Some("ai" | "assistant") => {
                let said = said(kind, message);
                for call in said.iter().filter_map(ContentPart::as_tool_call) {
                    names.insert(call.call_id.clone(), call.fn_name.clone());
                }
                messages.push(ChatMessage::assistant(MessageContent::from_parts(said)));
            }
            Some("tool") => {
                let result = result(kind, message, &names).map_err(wrong)?;
                match messages.last_mut() {
                    // Anthropic and Gemini want the results of one message's calls together.
                    Some(last) if last.role == ChatRole::Tool && kind != ProviderKind::Ollama => {
                        last.content.push(result)
                    }
                    _ => messages.push(ChatMessage::tool(MessageContent::from_parts(vec![result]))),
                }
            }
            Some(other) => return Err(wrong(format!("a message of type `{other}` cannot be sent"))),
            None => return Err(wrong("it has no type".to_owned())),
        }
    }
    let tools: Vec<Tool> = request.tools.iter().map(tool).collect();
    Ok(Wire {
        system: request.system.clone(),
        messages,
        tools: (!tools.is_empty()).then_some(tools),
        ..Wire::default()
    })
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

/// Texts that follow each other as one, since the library puts empty lines between them.
fn joined(parts: Vec<ContentPart>) -> Vec<ContentPart> {
    if !parts.iter().all(|part| matches!(part, ContentPart::Text(_))) {
        return parts;
    }
    vec![ContentPart::Text(parts.iter().filter_map(ContentPart::as_text).collect())]
}

/// What the model said before: thinking, text, calls.
fn said(kind: ProviderKind, message: &Value) -> Vec<ContentPart> {
    let kept = |key: &str| {
        let metadata = message.get("response_metadata")?;
        (metadata.get_str("model_provider") == Some(kind.name())).then(|| metadata.get(key)).flatten()
    };
    let mut parts = Vec::new();
    if let Some(Value::List(blocks)) = kept(THINKING) {
        let custom = |block: &Value| ContentPart::Custom(CustomPart { model_iden: None, data: block.to_json() });
        parts.extend(blocks.iter().map(custom));
    }
    let text = content::text(message.get("content"));
    if !text.is_empty() {
        parts.push(ContentPart::Text(text));
    }
    let signatures = kept(SIGNATURES);
    for call in message.get("tool_calls").and_then(Value::as_list).into_iter().flat_map(|calls| calls.iter()) {
        let id = call.get_str("id").unwrap_or_default();
        let signature = signatures.and_then(|all| all.get_str(id)).map(|s| vec![s.to_owned()]);
        parts.push(ContentPart::ToolCall(ToolCall {
            call_id: id.to_owned(),
            fn_name: call.get_str("name").unwrap_or_default().to_owned(),
            fn_arguments: call.get("args").map_or_else(|| json!({}), Value::to_json),
            thought_signatures: signature,
        }));
    }
    if parts.is_empty() {
        parts.push(ContentPart::Text(String::new()));
    }
    parts
}

/// The result of a call.
fn result(kind: ProviderKind, message: &Value, names: &HashMap<String, String>) -> Result<ContentPart, String> {
    let id = message.get_str("tool_call_id").ok_or("a tool message needs a `tool_call_id`")?;
    let text = content::text(message.get("content"));
    if kind == ProviderKind::Anthropic && message.get_str("status") == Some("error") {
        // The library has no way to say that it is an error.
        let data = json!({"type": "tool_result", "tool_use_id": id, "content": text, "is_error": true});
        return Ok(ContentPart::Custom(CustomPart { model_iden: None, data }));
    }
    let mut result = ToolResponse::new(id, text);
    result.fn_name = names.get(id).cloned().or_else(|| message.get_str("name").map(str::to_owned));
    Ok(ContentPart::ToolResponse(result))
}

fn tool(spec: &ToolSpec) -> Tool {
    let schema = match spec.parameters.to_json() {
        serde_json::Value::Object(schema) if !schema.is_empty() => schema.into(),
        _ => json!({"type": "object", "properties": {}}),
    };
    let tool = Tool::new(&*spec.name).with_schema(schema);
    if spec.description.is_empty() { tool } else { tool.with_description(&*spec.description) }
}
