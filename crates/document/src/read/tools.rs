//! Reading `tools`.

use std::{collections::BTreeMap, sync::Arc};

use runloom_engine::{Value, model::ToolSpec, value};

use super::{
    Reader,
    given::{Given, Scope, Sees},
};
use crate::{
    schema::Schema,
    tree::{Data, Tree},
};

/// A tool of a document.
#[derive(Debug)]
pub(crate) struct Tool {
    /// As a model is told of it.
    pub spec: ToolSpec,
    /// What its arguments have to fit.
    pub schema: Option<Schema>,
    /// Custom data told before it does its work.
    pub emit: Vec<Given>,
    /// A text fails it.
    pub fail: Option<Given>,
    /// What it gives.
    pub result: Given,
}

impl Reader<'_> {
    /// The tools, by name.
    pub fn tools(&mut self, tree: &Tree, scope: &Scope<'_>) -> BTreeMap<Arc<str>, Arc<Tool>> {
        let entries = self.entries(tree);
        entries
            .iter()
            .map(|(key, tool)| {
                let tool = self.within(format!("tool `{}`", key.name), |r| r.tool(&key.name, tool, scope));
                (key.name.clone(), Arc::new(tool))
            })
            .collect()
    }

    fn tool(&mut self, name: &Arc<str>, tree: &Tree, scope: &Scope<'_>) -> Tool {
        let later = ["http", "remote", "mcp"];
        let known = ["description", "parameters", "result", "emit", "fail", "http", "remote", "mcp"];
        let fields = self.fields(tree, &known);
        for what in later.iter().filter(|w| fields.raw(w).is_some()) {
            let message = format!("documents cannot call tools by `{what}` yet; use `result: <expression over args>`");
            self.fault(fields.place(what), message);
        }
        let description = self.field(&fields, "description", |r, t| r.text(t)).cloned();
        let parameters = match fields.get("parameters") {
            Some(tree) => tree.to_value(),
            None => value!({"type": "object", "properties": {}}),
        };
        let schema = match fields.get("parameters") {
            Some(tree) => self.within("parameters", |r| r.schema(tree)),
            None => None,
        };
        let given = |r: &mut Self, name: &str, tree: &Tree| r.within(name, |r| r.given(tree, scope, Sees::tool()));
        let emit = match fields.get("emit").map(|e| (e, &e.data)) {
            None => Vec::new(),
            Some((_, Data::List(items))) => items.iter().map(|item| given(self, "emit", item)).collect(),
            Some((one, _)) => vec![given(self, "emit", one)],
        };
        let fail = fields.get("fail").map(|f| given(self, "fail", f));
        let result = match fields.raw("result") {
            Some(tree) => given(self, "result", tree),
            None => {
                if !later.iter().any(|w| fields.raw(w).is_some()) {
                    self.fault(tree.at, "a tool needs a `result`: an expression over `args`");
                }
                Given::Value(Value::Null)
            }
        };
        Tool {
            spec: ToolSpec { name: name.clone(), description: description.unwrap_or_default(), parameters },
            schema,
            emit,
            fail,
            result,
        }
    }
}
