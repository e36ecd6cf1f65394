//! What a graph takes and gives, as JSON Schemas made of its channels.

use std::collections::BTreeMap;

use runloom_engine::{ChannelSpec, Graph, Object, Reducer, Value, value};

/// What a graph takes and gives, as JSON Schemas.
#[derive(Clone, Debug, PartialEq)]
pub struct Schemas {
    /// The graph.
    pub graph: String,
    /// Of a run's input.
    pub input: Value,
    /// Of the values it gives.
    pub output: Value,
    /// Of its whole state.
    pub state: Value,
    /// Of `config.configurable`: as LangGraph's clients expect it, the schema of the context under another name.
    pub config: Value,
    /// Of a run's context; none where the graph takes any.
    pub context: Option<Value>,
}

impl Schemas {
    /// Those of a graph.
    pub(crate) fn of(graph: &Graph) -> Self {
        let name = graph.name();
        let context = graph.context_schema().cloned();
        let none = || value!({"properties": {}, "title": "Configurable", "type": "object"});
        Self {
            graph: name.to_string(),
            input: object(&format!("{name}_input"), graph.input_channels()),
            output: object(&format!("{name}_output"), graph.output_channels()),
            state: object(&format!("{name}_state"), graph.channels().iter()),
            config: context.clone().unwrap_or_else(none),
            context,
        }
    }

    /// Those of the graphs inside a graph, by node; of deeper ones by the nodes' names joined by `|`.
    pub(crate) fn within(graph: &Graph, deep: bool) -> BTreeMap<String, Self> {
        let mut all = BTreeMap::new();
        collect(graph, "", deep, &mut all);
        all
    }
}

fn collect(graph: &Graph, prefix: &str, deep: bool, all: &mut BTreeMap<String, Schemas>) {
    for node in graph.node_names() {
        let Some(inner) = graph.subgraphs_of(node).into_iter().next() else { continue };
        let path = if prefix.is_empty() { node.to_string() } else { format!("{prefix}|{node}") };
        if deep && prefix.matches('|').count() < 64 {
            collect(&inner, &path, deep, all);
        }
        all.insert(path, Schemas::of(&inner));
    }
}

/// The schema of an object with a property for each channel.
fn object<'a>(title: &str, channels: impl Iterator<Item = &'a ChannelSpec>) -> Value {
    let mut defs = Object::default();
    let mut properties = Object::default();
    for channel in channels {
        properties.insert(channel.name.clone(), property(channel, &mut defs));
    }
    let mut schema = Object::default();
    if !defs.is_empty() {
        schema.insert("$defs", defs);
    }
    schema.insert("properties", properties);
    schema.insert("title", title);
    schema.insert("type", "object");
    Value::Object(schema)
}

/// The schema of a channel: its own, or what its reducer says of it.
fn property(channel: &ChannelSpec, defs: &mut Object) -> Value {
    let mut schema = match &channel.schema {
        Some(Value::Object(own)) => lift(own, &channel.name, defs),
        Some(Value::Bool(false)) => return Value::Bool(false),
        _ => of_reducer(&channel.reducer, defs),
    };
    if !schema.contains_key("title") {
        schema.insert("title", titled(&channel.name));
    }
    if let (Some(default), false) = (&channel.default, schema.contains_key("default")) {
        schema.insert("default", default.clone());
    }
    Value::Object(schema)
}

fn of_reducer(reducer: &Reducer, defs: &mut Object) -> Object {
    let schema = match reducer {
        Reducer::Append => value!({"items": {}, "type": "array"}),
        Reducer::Add => value!({"type": "number"}),
        Reducer::Merge => value!({"additionalProperties": true, "type": "object"}),
        Reducer::Messages => {
            let mut items: Vec<Value> = Vec::new();
            for (name, schema) in messages() {
                items.push(value!({"$ref": format!("#/$defs/{name}")}));
                defs.insert(name, schema);
            }
            value!({"items": {"oneOf": items}, "type": "array"})
        }
        _ => Value::object(),
    };
    schema.as_object().cloned().unwrap_or_default()
}

/// A channel's schema as a part of another: its definitions move up, under names of the channel's own, and what refers
/// to them follows.
fn lift(own: &Object, channel: &str, defs: &mut Object) -> Object {
    let mut own = own.clone();
    own.remove("$schema");
    for key in ["$defs", "definitions"] {
        if let Some(Value::Object(inner)) = own.remove(key) {
            for (name, schema) in inner.iter() {
                defs.insert(format!("{channel}.{name}"), redirected(schema, channel));
            }
        }
    }
    redirected(&Value::Object(own), channel).as_object().cloned().unwrap_or_default()
}

/// A schema whose references lead to where the definitions have moved.
fn redirected(schema: &Value, channel: &str) -> Value {
    match schema {
        Value::Object(fields) => {
            let moved = |reference: &str| {
                let within = reference.strip_prefix('#').filter(|rest| rest.is_empty() || rest.starts_with('/'))?;
                Some(match within.strip_prefix("/$defs/").or_else(|| within.strip_prefix("/definitions/")) {
                    Some(name) => format!("#/$defs/{channel}.{name}"),
                    None => format!("#/properties/{channel}{within}"),
                })
            };
            let field = |(key, value): (&std::sync::Arc<str>, &Value)| {
                let reference = if &**key == "$ref" { value.as_str().and_then(moved) } else { None };
                (key.clone(), reference.map_or_else(|| redirected(value, channel), Value::from))
            };
            Value::Object(fields.iter().map(field).collect())
        }
        Value::List(items) => Value::List(items.iter().map(|item| redirected(item, channel)).collect()),
        other => other.clone(),
    }
}

/// `user_name` as people read it: `User Name`.
fn titled(name: &str) -> String {
    let words = name.split(['_', '-']).filter(|w| !w.is_empty()).map(|w| {
        let mut chars = w.chars();
        chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
    });
    words.collect::<Vec<_>>().join(" ")
}

/// The kinds of messages, as LangChain names and shapes them.
fn messages() -> [(&'static str, Value); 4] {
    let message = |name: &str, kind: &str, more: Value, required: Value| {
        let mut properties = value!({
            "content": {
                "anyOf": [
                    {"type": "string"},
                    {"items": {"anyOf": [{"type": "string"}, {"additionalProperties": true, "type": "object"}]}, "type": "array"},
                ],
                "title": "Content",
            },
            "additional_kwargs": {"additionalProperties": true, "title": "Additional Kwargs", "type": "object"},
            "response_metadata": {"additionalProperties": true, "title": "Response Metadata", "type": "object"},
            "type": {"const": kind, "default": kind, "title": "Type", "type": "string"},
            "name": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": null, "title": "Name"},
            "id": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": null, "title": "Id"},
        })
        .as_object()
        .cloned()
        .unwrap_or_default();
        for (key, schema) in more.as_object().into_iter().flat_map(Object::iter) {
            properties.insert(key.clone(), schema.clone());
        }
        let mut schema = Object::default();
        schema.insert("additionalProperties", true);
        schema.insert("properties", properties);
        schema.insert("required", required);
        schema.insert("title", name);
        schema.insert("type", "object");
        Value::Object(schema)
    };
    let content = || value!(["content"]);
    let list = |title: &str| value!({"items": {"type": "object"}, "title": title, "type": "array"});
    [
        (
            "AIMessage",
            message(
                "AIMessage",
                "ai",
                value!({
                    "tool_calls": list("Tool Calls"),
                    "invalid_tool_calls": list("Invalid Tool Calls"),
                    "usage_metadata": {"anyOf": [{"type": "object"}, {"type": "null"}], "default": null},
                }),
                content(),
            ),
        ),
        ("HumanMessage", message("HumanMessage", "human", Value::object(), content())),
        ("SystemMessage", message("SystemMessage", "system", Value::object(), content())),
        (
            "ToolMessage",
            message(
                "ToolMessage",
                "tool",
                value!({
                    "tool_call_id": {"title": "Tool Call Id", "type": "string"},
                    "artifact": {"default": null, "title": "Artifact"},
                    "status": {"default": "success", "enum": ["success", "error"], "title": "Status", "type": "string"},
                }),
                value!(["content", "tool_call_id"]),
            ),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_keeps_its_references_when_it_becomes_a_property() {
        let own = value!({"$defs": {"N": {"type": "integer"}}, "type": "array", "items": {"$ref": "#/$defs/N"}});
        let channel = ChannelSpec::new("user_list").schema(own).default_value(value!([1]));
        let schema = object("s", [&channel].into_iter());
        assert_eq!(
            schema,
            value!({
                "$defs": {"user_list.N": {"type": "integer"}},
                "properties": {"user_list": {
                    "type": "array", "items": {"$ref": "#/$defs/user_list.N"}, "title": "User List", "default": [1],
                }},
                "title": "s",
                "type": "object",
            })
        );
        assert!(is_valid(&schema.to_json(), serde_json::json!({"user_list": [2]})));
        assert!(!is_valid(&schema.to_json(), serde_json::json!({"user_list": ["x"]})));
    }

    fn is_valid(schema: &serde_json::Value, value: serde_json::Value) -> bool {
        runloom_schema::Schema::compile(schema).unwrap().violations(&value, 1).is_empty()
    }

    #[test]
    fn messages_are_as_langchain_shapes_them() {
        let channel = ChannelSpec::new("messages").reducer(Reducer::Messages);
        let schema = object("chat", [&channel].into_iter()).to_json();
        let fits = |messages: serde_json::Value| is_valid(&schema, serde_json::json!({ "messages": messages }));
        assert!(fits(
            serde_json::json!([{"type": "human", "content": "hi"}, {"type": "ai", "content": "", "tool_calls": []}])
        ));
        assert!(!fits(serde_json::json!([{"type": "tool", "content": "no call id"}])));
        assert!(!fits(serde_json::json!("hi")));
    }
}
