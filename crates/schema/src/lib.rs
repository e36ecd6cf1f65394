//! JSON Schema validation.
//!
//! The validator is generic over the JSON value, so every crate that calls it compiles it again: 1 MB of machine code each
//! time. This crate is the only one that does.

use jsonschema::{PatternOptions, Retrieve, Uri, ValidationError, error::ValidationErrorKind};
use serde_json::Value;

/// A compiled JSON Schema.
///
/// Nothing is fetched while a schema is compiled, and patterns match in time linear in the text: schemas and the values
/// they are applied to come from outside.
pub struct Schema(jsonschema::Validator);

/// A place where a value does not satisfy its schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The place in the value, as a JSON pointer. Empty for the value itself.
    pub path: String,
    /// What is wrong. Long values are left out.
    pub message: String,
    /// True if something is missing (a property, an item), rather than wrong.
    pub is_missing: bool,
}

/// A JSON value that is not a usable schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidSchema {
    /// The place in the schema, as a JSON pointer. Empty for the schema itself.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// The value at `path`, if it is a text.
    pub text: Option<String>,
}

impl Schema {
    /// Compiles a schema. References to anything outside the schema are an error.
    pub fn compile(schema: &Value) -> Result<Self, InvalidSchema> {
        let validator = jsonschema::options()
            .with_retriever(Offline)
            .with_pattern_options(PatternOptions::regex())
            .build(schema)
            .map_err(|error| {
                let message = message(&error);
                InvalidSchema {
                    path: error.instance_path().to_string(),
                    message: message.rsplit_once("retrieving it failed: ").map_or(&*message, |(_, own)| own).to_owned(),
                    text: error.instance().as_str().map(str::to_owned),
                }
            })?;
        Ok(Self(validator))
    }

    /// The violations of a value, at most `limit` of them.
    pub fn violations(&self, value: &Value, limit: usize) -> Vec<Violation> {
        let errors = self.0.iter_errors(value).take(limit);
        let violation = |error: ValidationError<'_>| Violation {
            path: error.instance_path().to_string(),
            message: message(&error),
            is_missing: matches!(
                error.kind(),
                ValidationErrorKind::Required { .. }
                    | ValidationErrorKind::MinItems { .. }
                    | ValidationErrorKind::MinProperties { .. }
            ),
        };
        errors.map(violation).collect()
    }
}

impl std::fmt::Debug for Schema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Schema")
    }
}

/// Refuses to fetch a schema.
struct Offline;

impl Retrieve for Offline {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        Err(format!("`{uri}` is not fetched; write the schema out, or refer to a part of it by `#/$defs/…`").into())
    }
}

/// Texts over this many bytes are left out of a message.
const MAX_SHOWN_TEXT: usize = 80;
/// The most characters of a message.
const MAX_MESSAGE: usize = 400;

fn message(error: &ValidationError<'_>) -> String {
    let is_short = match &**error.instance() {
        Value::String(text) => text.len() <= MAX_SHOWN_TEXT,
        Value::Array(_) | Value::Object(_) => false,
        _ => true,
    };
    let text = if is_short { error.to_string() } else { error.masked_with("the value").to_string() };
    match text.char_indices().nth(MAX_MESSAGE) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn violations_have_a_place_and_are_limited() {
        let schema = Schema::compile(&json!({
            "type": "object", "required": ["n"], "properties": {"a": {"items": {"type": "string"}}},
        }))
        .unwrap();
        assert_eq!(schema.violations(&json!({"n": 1, "a": ["x"]}), 9), []);
        let all = schema.violations(&json!({"a": ["x", 2]}), 9);
        let found: Vec<_> = all.iter().map(|v| (v.path.as_str(), v.is_missing)).collect();
        assert_eq!(found, [("", true), ("/a/1", false)]);
        assert_eq!(schema.violations(&json!({"a": [1, 2, 3]}), 2).len(), 2);
    }

    #[test]
    fn long_values_are_left_out_of_messages() {
        let schema = Schema::compile(&json!({"type": "integer"})).unwrap();
        let message = |value| schema.violations(&value, 1)[0].message.clone();
        assert_eq!(message(json!("short")), r#""short" is not of type "integer""#);
        assert_eq!(message(json!("x".repeat(81))), r#"the value is not of type "integer""#);
        assert_eq!(message(json!({"secret": 1})), r#"the value is not of type "integer""#);
    }

    #[test]
    fn nothing_is_fetched() {
        let error = Schema::compile(&json!({"$ref": "http://127.0.0.1:9/schema.json"})).unwrap_err();
        assert!(error.message.starts_with("`http://127.0.0.1:9/schema.json` is not fetched"), "{}", error.message);
    }
}
