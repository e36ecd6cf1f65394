//! JSON Schemas: compiled without fetching anything, and what a graph's input, output, state and context look like.

use std::{collections::HashMap, fmt, sync::Arc};

use runloom_engine::{ChannelSpec, Graph, Object, Reducer, Value, command::OVERWRITE, value};

use crate::{Error, SchemaCost, suggest::or_known};

/// A compiled JSON Schema.
pub(crate) struct Schema {
    schema: runloom_schema::Schema,
    cost: SchemaCost,
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Schema")
    }
}

/// The types of JSON Schema.
const TYPES: [&str; 7] = ["string", "integer", "number", "boolean", "array", "object", "null"];

impl Schema {
    /// Compiles a schema. What it refers to outside itself is refused.
    pub fn compile(schema: &Value) -> Result<Self, String> {
        let json = schema.to_json();
        if !json.is_object() && !json.is_boolean() {
            return Err(format!("a JSON Schema is a map, not {}", schema.kind()));
        }
        let cost = SchemaCost::of(schema);
        let schema = runloom_schema::Schema::compile(&json).map_err(|error| {
            let path = error.path;
            match error.text {
                Some(found) if path.ends_with("/type") => {
                    format!("there is no JSON type `{found}`{} (at {path})", or_known(&found, TYPES))
                }
                _ if path.is_empty() => error.message,
                _ => format!("{} (at {path})", error.message),
            }
        })?;
        Ok(Self { schema, cost: cost? })
    }

    /// What does not fit, and where; the first three of it.
    pub fn check(&self, value: &Value) -> Result<(), String> {
        if value.depth() > MAX_DEPTH {
            return Err(format!("it nests deeper than {MAX_DEPTH}"));
        }
        self.cost.check(value)?;
        let json = value.to_json();
        let violations = self.schema.violations(&json, 3).into_iter();
        let faults: Vec<String> = violations
            .map(|violation| match violation.path.trim_start_matches('/').replace('/', ".") {
                path if path.is_empty() => violation.message,
                path => format!("{path}: {}", violation.message),
            })
            .collect();
        if faults.is_empty() { Ok(()) } else { Err(faults.join("; ")) }
    }
}

const MAX_DEPTH: usize = 128;

/// The JSON Schemas of a graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Schemas {
    /// Of what a run takes.
    pub input: Value,
    /// Of what it gives.
    pub output: Value,
    /// Of its whole state.
    pub state: Value,
    /// Of a run's context, where it has one.
    pub context: Option<Value>,
}

impl Schemas {
    /// The schemas of a graph, from those of its channels.
    pub fn of(graph: &Graph) -> Self {
        let title = |what: &str| format!("{}_{what}", graph.name());
        Self {
            input: object(&title("input"), graph.input_channels()),
            output: object(&title("output"), graph.output_channels()),
            state: object(&title("state"), graph.channels().iter()),
            context: graph.context_schema().cloned(),
        }
    }
}

fn object<'c>(title: &str, channels: impl Iterator<Item = &'c ChannelSpec>) -> Value {
    let properties: Object = channels.map(|c| (c.name.clone(), channel_schema(c))).collect();
    value!({"title": title, "type": "object"}).as_object().cloned().map_or(Value::Null, |mut o| {
        o.insert("properties", Value::Object(properties));
        Value::Object(o)
    })
}

/// The schema of a channel: its own, or what its reducer says of it.
fn channel_schema(channel: &ChannelSpec) -> Value {
    let mut schema = match (&channel.schema, &channel.reducer) {
        (Some(schema), _) => schema.clone(),
        (None, Reducer::Append) => value!({"type": "array"}),
        (None, Reducer::Messages) => value!({"type": "array", "items": {"type": "object"}}),
        (None, Reducer::Add | Reducer::Max | Reducer::Min) => value!({"type": "number"}),
        (None, Reducer::Merge) => value!({"type": "object"}),
        (None, _) => value!({}),
    };
    if let (Value::Object(o), Some(default)) = (&mut schema, &channel.default)
        && !o.contains_key("default")
    {
        o.insert("default", default.clone());
    }
    schema
}

/// Checks what a run is given against a graph's schemas. Made once per graph.
#[derive(Clone, Debug)]
pub struct Checks {
    graph: Arc<str>,
    channels: Arc<HashMap<Arc<str>, Schema>>,
    context: Option<Arc<Schema>>,
}

impl Checks {
    /// The checks of a graph.
    pub fn of(graph: &Graph) -> Result<Self, Error> {
        let unfit = |what: String, message| Error::Unfit { graph: graph.name().to_string(), what, message };
        let mut channels = HashMap::new();
        for channel in graph.input_channels() {
            // Messages are taken in many forms; their reducer says what is none.
            if let (Some(schema), false) = (&channel.schema, matches!(channel.reducer, Reducer::Messages)) {
                let schema = Schema::compile(schema).map_err(|e| unfit(format!("schema of `{}`", channel.name), e))?;
                channels.insert(channel.name.clone(), schema);
            }
        }
        let context = match graph.context_schema() {
            Some(schema) => {
                Some(Arc::new(Schema::compile(schema).map_err(|e| unfit("schema of the context".to_owned(), e))?))
            }
            None => None,
        };
        Ok(Self { graph: graph.name().clone(), channels: Arc::new(channels), context })
    }

    fn unfit(&self, what: String, message: String) -> Error {
        Error::Unfit { graph: self.graph.to_string(), what, message }
    }

    /// Whether a run's input fits its channels. What the graph takes no notice of is not looked at.
    pub fn input(&self, input: &Value) -> Result<(), Error> {
        let Value::Object(fields) = input else { return Ok(()) };
        for (name, schema) in self.channels.iter() {
            let Some(given) = fields.get(name) else { continue };
            let given = given.get(OVERWRITE).unwrap_or(given);
            schema.check(given).map_err(|message| self.unfit(format!("input `{name}`"), message))?;
        }
        Ok(())
    }

    /// Whether a run's context fits. None is as good as an empty one.
    pub fn context(&self, context: &Value) -> Result<(), Error> {
        let Some(schema) = &self.context else { return Ok(()) };
        let empty = Value::object();
        let context = if context.is_null() { &empty } else { context };
        schema.check(context).map_err(|message| self.unfit("context".to_owned(), message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_that_refers_to_itself_at_the_same_place_is_refused() {
        for schema in [
            value!({"$ref": "#"}),
            value!({"allOf": [{"$ref": "#"}, {"$ref": "#"}]}),
            value!({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}),
            value!({"anyOf": [{"$ref": "#"}, {"type": "string"}]}),
            value!({"not": {"$ref": "#"}}),
            value!({"$dynamicRef": "#x", "$dynamicAnchor": "x"}),
            value!({"if": {"$ref": "#"}, "then": {"$ref": "#"}, "else": {"$ref": "#"}}),
        ] {
            assert!(Schema::compile(&schema).is_err(), "{schema}");
        }
    }

    #[test]
    fn a_value_as_deep_as_a_state_may_be_is_checked() {
        let schema =
            Schema::compile(&value!({"items": {"allOf": [{"$ref": "#"}]}, "type": ["array", "null"]})).unwrap();
        let deep = (0..MAX_DEPTH).fold(Value::Null, |v, _| Value::from(vec![v]));
        assert_eq!(schema.check(&deep), Ok(()));
        assert!(schema.check(&Value::from(vec![deep])).unwrap_err().contains("deeper"));
    }
}
