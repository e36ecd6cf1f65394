//! The providers' wires: the bodies of requests, and the frames of answers.

pub(crate) mod anthropic;
pub(crate) mod gemini;
pub(crate) mod ollama;
pub(crate) mod openai;

use serde_json::{Map, Value as Json, json};

use super::{ProviderKind, config::ProviderConfig, options::ChatOptions, request::Conversation};

/// The path under the address, and the body, of a request for a streamed answer.
pub(crate) fn request(config: &ProviderConfig, options: &ChatOptions, conversation: Conversation) -> (String, Json) {
    let model = &*config.model;
    let (path, mut body) = match config.kind {
        ProviderKind::OpenAi => ("chat/completions".to_owned(), openai::body(model, options, conversation)),
        ProviderKind::Anthropic => ("messages".to_owned(), anthropic::body(model, options, conversation)),
        ProviderKind::Gemini => {
            (format!("models/{model}:streamGenerateContent?alt=sse"), gemini::body(model, options, conversation))
        }
        ProviderKind::Ollama => ("api/chat".to_owned(), ollama::body(model, options, conversation)),
    };
    if let Some(extra) = options.extra_body.as_deref() {
        merge(&mut body, extra);
    }
    (path, body)
}

/// Puts the fields of one object into another, objects within objects too.
fn merge(into: &mut Json, from: &Json) {
    match (into, from) {
        (Json::Object(into), Json::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key.clone()).or_insert(Json::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

/// The fields that have a value.
fn object<const N: usize>(fields: [(&str, Option<Json>); N]) -> Map<String, Json> {
    fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

/// A tool as OpenAI and Ollama take it.
fn function(tool: &super::request::Tool) -> Json {
    let mut function = json!({"name": tool.name, "parameters": tool.parameters});
    if !tool.description.is_empty() {
        function["description"] = json!(tool.description);
    }
    json!({"type": "function", "function": function})
}

/// A schema whose objects allow no properties but those they name, as structured output wants it. With `require_all`, they
/// require all of them too.
fn closed(schema: &Json, require_all: bool) -> Json {
    match schema {
        Json::Array(items) => items.iter().map(|item| closed(item, require_all)).collect(),
        Json::Object(fields) => {
            let mut new: Map<String, Json> = fields
                .iter()
                .map(|(key, value)| {
                    // What follows these is data, not a schema.
                    let is_data = matches!(key.as_str(), "default" | "const" | "enum" | "examples" | "required");
                    (key.clone(), if is_data { value.clone() } else { closed(value, require_all) })
                })
                .collect();
            if fields.get("type").and_then(Json::as_str) == Some("object") {
                new.insert("additionalProperties".to_owned(), json!(false));
                if let Some(properties) = fields.get("properties").and_then(Json::as_object).filter(|_| require_all) {
                    new.insert("required".to_owned(), properties.keys().cloned().collect());
                }
            }
            Json::Object(new)
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_is_closed_at_every_depth_and_data_is_left_alone() {
        let schema = json!({
            "type": "object", "default": {"type": "object"},
            "properties": {"a": {"type": "array", "items": {"type": "object", "properties": {"b": {}}}}},
        });
        assert_eq!(
            closed(&schema, true),
            json!({
                "type": "object", "default": {"type": "object"}, "additionalProperties": false, "required": ["a"],
                "properties": {"a": {"type": "array", "items": {
                    "type": "object", "properties": {"b": {}}, "additionalProperties": false, "required": ["b"],
                }}},
            })
        );
    }

    #[test]
    fn objects_are_merged_and_other_values_replaced() {
        let mut body = json!({"options": {"a": 1, "b": [1]}, "model": "m"});
        merge(&mut body, &json!({"options": {"b": [2]}, "user": "u"}));
        assert_eq!(body, json!({"options": {"a": 1, "b": [2]}, "model": "m", "user": "u"}));
    }
}
