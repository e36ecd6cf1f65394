//! What a model is asked with, beside the conversation.

use std::sync::Arc;

use runloom_engine::{Object, Value};

use super::ProviderKind;

/// Options of a call. Those that are left out are the provider's own.
#[derive(Clone, Debug, Default)]
pub struct ChatOptions {
    pub(crate) temperature: Option<f64>,
    pub(crate) max_tokens: Option<u32>,
    pub(crate) top_p: Option<f64>,
    pub(crate) stop: Vec<String>,
    pub(crate) seed: Option<u64>,
    pub(crate) effort: Option<Effort>,
    pub(crate) format: Option<Format>,
    pub(crate) tool_choice: Option<ToolChoice>,
    pub(crate) extra_body: Option<Arc<serde_json::Value>>,
}

/// How much a model reasons.
#[derive(Clone, Debug)]
pub(crate) enum Effort {
    /// One of [`LEVELS`].
    Level(&'static str),
    /// At most so many tokens.
    Tokens(u32),
}

const LEVELS: [&str; 7] = ["none", "minimal", "low", "medium", "high", "xhigh", "max"];

/// The form of an answer.
#[derive(Clone, Debug)]
pub(crate) enum Format {
    /// Some JSON.
    Json,
    /// JSON that satisfies a schema.
    Schema { name: String, schema: serde_json::Value },
}

/// Which tools a model is to call.
#[derive(Clone, Debug)]
pub(crate) enum ToolChoice {
    Auto,
    None,
    Any,
    Tool(String),
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
                    Value::String(word) => LEVELS.into_iter().find(|level| **level == **word).map(Effort::Level),
                    other => other.as_u64().and_then(|n| u32::try_from(n).ok()).map(Effort::Tokens),
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
                    Some("any" | "required") => ToolChoice::Any,
                    Some(name) if !name.is_empty() => ToolChoice::Tool(name.to_owned()),
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
}

/// A format of answers: `json`, or OpenAI's way to write them.
fn format(value: &Value) -> Result<Format, String> {
    let json_mode = |word: Option<&str>| matches!(word, Some("json" | "json_object"));
    if json_mode(value.as_str()) || json_mode(value.get_str("type")) {
        return Ok(Format::Json);
    }
    let named = value.get("json_schema").filter(|_| value.get_str("type") == Some("json_schema"));
    let schema = named.and_then(|named| named.get("schema")).filter(|schema| schema.as_object().is_some());
    match schema {
        Some(schema) => {
            let name = named.and_then(|named| named.get_str("name")).unwrap_or("answer");
            Ok(Format::Schema { name: name.to_owned(), schema: schema.to_json() })
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
