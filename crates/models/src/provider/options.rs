//! What a model is asked with, beside the conversation.

use std::{str::FromStr, sync::Arc};

use genai::chat::{ChatOptions as Wire, ChatResponseFormat, JsonSpec, ReasoningEffort, ToolChoice};
use runloom_engine::{Object, Value};

use super::ProviderKind;

/// Options of a call. Those that are left out are the provider's own.
#[derive(Clone, Debug, Default)]
pub struct ChatOptions {
    temperature: Option<f64>,
    max_tokens: Option<u32>,
    top_p: Option<f64>,
    stop: Vec<String>,
    seed: Option<u64>,
    effort: Option<ReasoningEffort>,
    format: Option<ChatResponseFormat>,
    tool_choice: Option<ToolChoice>,
    extra_body: Option<Arc<serde_json::Value>>,
}

impl ChatOptions {
    /// The names of all options.
    pub const NAMES: [&str; 9] = [
        "temperature",
        "max_tokens",
        "top_p",
        "stop",
        "seed",
        "reasoning_effort",
        "response_format",
        "tool_choice",
        "extra_body",
    ];

    /// Sets an option by its name. The error says what was expected.
    pub fn set(&mut self, kind: ProviderKind, name: &str, value: &Value) -> Result<(), String> {
        let number = |least: f64, most: f64| {
            let found = value.as_f64().filter(|n| (least..=most).contains(n));
            found.ok_or_else(|| format!("expected a number from {least} to {most}, found {}", shown(value)))
        };
        match name {
            "temperature" => self.temperature = Some(number(0.0, 2.0)?),
            "top_p" => self.top_p = Some(number(0.0, 1.0)?),
            "max_tokens" => {
                let tokens = value.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
                self.max_tokens =
                    Some(tokens.ok_or_else(|| format!("expected a count of tokens, found {}", shown(value)))?);
            }
            "seed" => {
                if kind == ProviderKind::Anthropic {
                    return Err("anthropic takes no seed".to_owned());
                }
                self.seed = Some(
                    value.as_u64().ok_or_else(|| format!("expected an integer from 0 on, found {}", shown(value)))?,
                );
            }
            "stop" => {
                let texts: Option<Vec<String>> = match value {
                    Value::String(one) => Some(vec![one.to_string()]),
                    Value::List(many) => many.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
                    _ => None,
                };
                self.stop =
                    texts.ok_or_else(|| format!("expected a text or a list of texts, found {}", shown(value)))?;
            }
            "reasoning_effort" => {
                let found = match value {
                    Value::String(word) => ReasoningEffort::from_str(word).ok(),
                    other => other.as_u64().and_then(|n| u32::try_from(n).ok()).map(ReasoningEffort::Budget),
                };
                self.effort = Some(found.ok_or_else(|| {
                    let words = "none, minimal, low, medium, high, xhigh or max";
                    format!("expected {words}, or a count of tokens, found {}", shown(value))
                })?);
            }
            "response_format" => self.format = Some(format(value)?),
            "tool_choice" => {
                self.tool_choice = Some(match value.as_str() {
                    Some("auto") => ToolChoice::Auto,
                    Some("none") => ToolChoice::None,
                    Some("any" | "required") => ToolChoice::Required,
                    Some(name) if !name.is_empty() => ToolChoice::tool(name),
                    _ => return Err(format!("expected auto, none, any or a tool's name, found {}", shown(value))),
                });
            }
            "extra_body" => {
                let body = value.as_object().ok_or_else(|| format!("expected a map, found {}", shown(value)))?;
                // The call depends on these: it reads a stream of one answer.
                if let Some(taken) = ["stream", "messages", "n", "contents"].iter().find(|k| body.contains_key(k)) {
                    return Err(format!("`{taken}` cannot be set here"));
                }
                self.extra_body = Some(Arc::new(value.to_json()));
            }
            other => return Err(format!("there is no option `{other}`")),
        }
        Ok(())
    }

    /// With what a single call says otherwise.
    pub(crate) fn with(&self, kind: ProviderKind, own: &Object) -> Result<Self, String> {
        let mut options = self.clone();
        for (name, value) in own.iter().filter(|(_, value)| !value.is_null()) {
            options.set(kind, name, value).map_err(|why| format!("option `{name}`: {why}"))?;
        }
        Ok(options)
    }

    /// As the library takes them.
    pub(crate) fn wire(&self, kind: ProviderKind, model: &str, has_tools: bool) -> Wire {
        let mut wire = Wire::default()
            .with_capture_usage(true)
            .with_capture_content(false)
            .with_capture_tool_calls(false)
            // With it, reasoning models say what they think.
            .with_capture_reasoning_content(self.effort.is_some());
        wire.temperature = self.temperature;
        wire.max_tokens = self.max_tokens;
        wire.top_p = self.top_p;
        wire.seed = self.seed;
        wire.stop_sequences = self.stop.clone();
        wire.reasoning_effort = self.effort.clone();
        wire.response_format = self.format.clone();
        wire.tool_choice = self.tool_choice.clone().filter(|_| has_tools);
        let mut body = self.extra_body.as_deref().cloned();
        if kind == ProviderKind::OpenAi {
            // The library takes a word like `-high` off a model's name; here a name is a name.
            let fields = body.get_or_insert_with(|| serde_json::json!({}));
            if let Some(fields) = fields.as_object_mut() {
                fields.entry("model").or_insert_with(|| model.into());
            }
        }
        wire.extra_body = body;
        wire
    }
}

/// A format of answers: `json`, or OpenAI's way to write them.
fn format(value: &Value) -> Result<ChatResponseFormat, String> {
    let json_mode = |word: Option<&str>| matches!(word, Some("json" | "json_object"));
    if json_mode(value.as_str()) || json_mode(value.get_str("type")) {
        return Ok(ChatResponseFormat::JsonMode);
    }
    let named = value.get("json_schema").filter(|_| value.get_str("type") == Some("json_schema"));
    let schema = named.and_then(|named| named.get("schema")).filter(|schema| schema.as_object().is_some());
    match schema {
        Some(schema) => {
            let name = named.and_then(|named| named.get_str("name")).unwrap_or("answer");
            Ok(JsonSpec::new(name, schema.to_json()).into())
        }
        None => Err(format!(
            "expected json, or {{ type: json_schema, json_schema: {{ name: …, schema: {{…}} }} }}, found {}",
            shown(value)
        )),
    }
}

/// A value in an error: short ones as they are.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    if text.len() <= 40 { format!("`{text}`") } else { value.kind().to_owned() }
}
