//! Reading `state`, `input`, `output` and `context`.

use std::sync::Arc;

use runloom_engine::{ChannelSpec, Object, Reducer, Value};

use super::Reader;
use crate::{
    schema::Schema,
    suggest::or_known,
    tree::{At, Tree},
};

/// The reducers by the names of documents.
const REDUCERS: [(&str, Reducer); 9] = [
    ("replace", Reducer::Replace),
    ("append", Reducer::Append),
    ("add", Reducer::Add),
    ("max", Reducer::Max),
    ("min", Reducer::Min),
    ("merge", Reducer::Merge),
    ("messages", Reducer::Messages),
    ("ephemeral", Reducer::Ephemeral),
    ("untracked", Reducer::Untracked),
];

impl Reader<'_> {
    /// The channels.
    pub fn state(&mut self, tree: &Tree) -> Vec<ChannelSpec> {
        let entries = self.entries(tree);
        entries
            .iter()
            .map(|(key, channel)| {
                self.within(format!("state `{}`", key.name), |r| {
                    if key.name.is_empty() || key.name.starts_with("__") {
                        r.fault(key.at, "a channel's name may not be empty or begin with `__`");
                    }
                    r.channel(&key.name, channel)
                })
            })
            .collect()
    }

    fn channel(&mut self, name: &Arc<str>, tree: &Tree) -> ChannelSpec {
        let mut spec = ChannelSpec::new(name.clone());
        if tree.is_null() {
            return spec;
        }
        let fields = self.fields(tree, &["reducer", "schema", "default"]);
        if let Some(reducer) = fields.get("reducer").filter(|reducer| reducer.get("worker").is_some()) {
            self.fault(
                reducer.at,
                "reducers cannot run in workers: writes are combined where the graph runs. Use a reducer of the server, or let \
                 the nodes of the worker write the combined value with `replace`",
            );
        } else if let Some(reducer) = fields.get("reducer")
            && let Some(text) = self.text(reducer)
        {
            match REDUCERS.iter().find(|(n, _)| *n == &**text) {
                Some((_, found)) => spec.reducer = found.clone(),
                None => {
                    let near = or_known(text, REDUCERS.iter().map(|(n, _)| *n));
                    self.fault(reducer.at, format!("there is no reducer `{text}`{near}"));
                }
            }
        }
        let schema = fields.get("schema").map(|s| (s, self.schema(s)));
        if let Some(default) = fields.raw("default") {
            let value = default.to_value();
            self.default(&spec.reducer, &value, default.at);
            if let Some((_, Some(schema))) = &schema
                && !matches!(spec.reducer, Reducer::Messages)
                && let Err(message) = schema.check(&value)
            {
                self.fault(default.at, format!("the default does not fit the schema: {message}"));
            }
            spec.default = Some(value);
        }
        spec.schema = schema.map(|(tree, _)| tree.to_value());
        if let (Reducer::Max | Reducer::Min, Some(Value::Object(schema))) = (&spec.reducer, &spec.schema)
            && !allows_numbers(schema)
        {
            let name = spec.reducer.name();
            self.fault(
                fields.place("schema"),
                format!("the reducer `{name}` compares numbers, beginning with 0, and the schema has none"),
            );
        }
        spec
    }

    /// A default has to be of the kind that its reducer works on.
    fn default(&mut self, reducer: &Reducer, value: &Value, at: At) {
        let wanted = match reducer {
            Reducer::Append | Reducer::Messages if value.as_list().is_none() => "a list",
            Reducer::Add | Reducer::Max | Reducer::Min if value.as_f64().is_none() => "a number",
            Reducer::Merge if value.as_object().is_none() => "a map",
            _ => return,
        };
        self.fault(at, format!("with the reducer `{}` a default is {wanted}, not {}", reducer.name(), value.kind()));
    }

    /// A JSON Schema.
    pub fn schema(&mut self, tree: &Tree) -> Option<Schema> {
        match Schema::compile(&tree.to_value()) {
            Ok(schema) => Some(schema),
            Err(message) => {
                self.fault(tree.at, format!("the schema is not valid: {message}"));
                None
            }
        }
    }

    /// The names of channels, each of them declared.
    pub fn channel_names(&mut self, tree: &Tree, channels: &[ChannelSpec]) -> Vec<Arc<str>> {
        let names = self.names(tree);
        let known = channels.iter().map(|c| &c.name);
        names.into_iter().filter(|(name, at)| self.known("channel", name, *at, known.clone())).map(|(n, _)| n).collect()
    }

    /// `context: {schema}`.
    pub fn context(&mut self, tree: &Tree) -> Option<Value> {
        let fields = self.fields(tree, &["schema"]);
        match fields.get("schema") {
            Some(schema) => {
                self.schema(schema);
                Some(schema.to_value())
            }
            None => {
                self.fault(tree.at, "`context` needs a `schema`");
                None
            }
        }
    }
}

/// Whether a schema's `type`, where it says one, may be a number.
fn allows_numbers(schema: &Object) -> bool {
    let is_number = |kind: &Value| matches!(kind.as_str(), Some("number" | "integer"));
    match schema.get("type") {
        None => true,
        Some(Value::List(kinds)) => kinds.iter().any(is_number),
        Some(kind) => is_number(kind),
    }
}
