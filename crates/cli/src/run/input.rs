//! The input of a run on the command line: text, or a JSON object.

use std::io::Read;

use runloom::{Client, v1::ErrorReason};
use runloom_core::default_assistant_id;
use serde_json::{Value, json};

use crate::{
    backend::quoted,
    failure::{Failure, Result},
};

/// The value of the argument; `-` reads standard input.
pub fn read(argument: &str) -> Result<String> {
    if argument != "-" {
        return Ok(argument.to_owned());
    }
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|error| Failure::usage(format!("cannot read standard input: {error}")))?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

/// Builds the input of a graph: a JSON object unchanged, text as the graph's schema allows.
pub async fn for_graph(client: &Client, graph: &str, text: &str) -> Result<Value> {
    let parsed = serde_json::from_str::<Value>(text);
    if let Ok(object @ Value::Object(_)) = parsed {
        return Ok(object);
    }
    if let (Err(error), true) = (&parsed, text.trim_start().starts_with('{')) {
        return Err(Failure::usage(format!("INPUT starts like a JSON object but is not valid JSON: {error}")));
    }
    let request = default_assistant_id(graph).to_string();
    let schema = match client.get_assistant_schemas(request).await {
        Ok(answer) => answer.schemas.and_then(|s| s.input_schema).and_then(|s| s.decode().ok()),
        // Creating the run fails with a better message, which lists the known graphs.
        Err(error) if error.reason() == Some(ErrorReason::AssistantNotFound) => None,
        Err(error) => return Err(error.into()),
    };
    match schema {
        None => Ok(json!({})),
        Some(schema) => of_text(graph, &schema, text, parsed.ok()),
    }
}

/// Text as input: a message of the user if the schema has `messages`, or the only field if that is a string.
fn of_text(graph: &str, schema: &Value, text: &str, parsed: Option<Value>) -> Result<Value> {
    let fields = schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    if fields.contains_key("messages") {
        return Ok(match parsed {
            Some(messages @ Value::Array(_)) => json!({ "messages": messages }),
            _ => json!({"messages": [{"role": "user", "content": text}]}),
        });
    }
    let mut names = fields.iter();
    match (names.next(), names.next()) {
        (Some((name, field)), None) if field.get("type").is_some_and(|kind| kind == "string") => {
            Ok(json!({ name.as_str(): text }))
        }
        _ => Err(not_text(graph, fields.keys())),
    }
}

fn not_text<'a>(graph: &str, fields: impl Iterator<Item = &'a String>) -> Failure {
    let failure =
        Failure::usage(format!("graph `{graph}` has no `messages` channel, so its input must be a JSON object"));
    let example: Vec<String> = fields.take(3).map(|field| format!("\"{field}\": …")).collect();
    failure.hint(format!("runloom run {graph} {}", quoted(&format!("{{{}}}", example.join(", ")))))
}

/// Parses the JSON object of an option.
pub fn object(option: &str, text: &str) -> Result<Value> {
    match serde_json::from_str::<Value>(text) {
        Ok(object @ Value::Object(_)) => Ok(object),
        Ok(_) => Err(Failure::usage(format!("{option} must be a JSON object"))),
        Err(error) => Err(Failure::usage(format!("{option} must be a JSON object: {error}"))),
    }
}

/// The answer to a question: JSON if it is valid JSON, otherwise text.
pub fn answer(text: &str) -> Value {
    let text = text.trim();
    serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_json_or_text() {
        assert_eq!(answer("yes"), json!("yes"));
        assert_eq!(answer("true\n"), json!(true));
        assert_eq!(answer("\"true\""), json!("true"));
        assert_eq!(answer("{\"ok\": 1}"), json!({"ok": 1}));
        assert_eq!(answer(""), json!(""));
    }

    #[test]
    fn text_becomes_the_input_that_the_schema_allows() {
        let of = |schema: Value, text: &str| of_text("g", &schema, text, serde_json::from_str(text).ok());
        let chat = json!({"properties": {"messages": {}, "order": {}}});
        assert_eq!(of(chat.clone(), "hi").unwrap(), json!({"messages": [{"role": "user", "content": "hi"}]}));
        assert_eq!(of(chat.clone(), "42").unwrap()["messages"][0]["content"], "42");
        assert_eq!(of(chat, r#"[{"role": "user"}]"#).unwrap(), json!({"messages": [{"role": "user"}]}));
        let one = json!({"properties": {"topic": {"type": "string"}}});
        assert_eq!(of(one, "cats").unwrap(), json!({"topic": "cats"}));
        let two = json!({"properties": {"topic": {"type": "string"}, "n": {"type": "integer"}}});
        let refused = of(two, "cats").unwrap_err().to_string();
        assert!(refused.contains(r#"runloom run g '{"topic": …, "n": …}'"#), "{refused}");
    }
}
