//! Messages inside states and updates as the protocol writes them: without the fields that say nothing.

use runloom_engine::{List, Object, Value};

const TYPES: [&str; 7] = ["human", "ai", "system", "tool", "function", "chat", "AIMessageChunk"];

/// A state with its messages in the protocol's form.
pub(super) fn compact(value: &Value) -> Value {
    match value {
        Value::Object(fields) if is_message(fields) => message(fields),
        Value::Object(fields) => {
            let fields: Object = fields.iter().map(|(key, value)| (key.clone(), compact(value))).collect();
            fields.into()
        }
        Value::List(items) => items.iter().map(compact).collect::<List>().into(),
        other => other.clone(),
    }
}

fn is_message(fields: &Object) -> bool {
    fields.contains_key("content")
        && fields.contains_key("additional_kwargs")
        && fields.get_str("type").is_some_and(|kind| TYPES.contains(&kind))
}

fn message(fields: &Object) -> Value {
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::List(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    };
    let mut out = Object::default();
    for key in ["type", "content"] {
        if let Some(value) = fields.get(key) {
            out.insert(key, value.clone());
        }
    }
    for (key, value) in
        fields.iter().filter(|(key, value)| !is_empty(value) && !out.contains_key(key)).collect::<Vec<_>>()
    {
        out.insert(key.clone(), value.clone());
    }
    if fields.get_str("type") == Some("tool") {
        out.insert("artifact", fields.get("artifact").cloned().unwrap_or_default());
    }
    out.into()
}
