//! Where to go: what routes and commands come to.

use std::sync::Arc;

use runloom_engine::{Context, Goto, NodeError, Route, StateView, Value, command::Send};

use super::env;
use crate::read::{given::Given, policies::is_end};

/// A name, a Send `{node, input}`, or a list of these.
pub(super) fn gotos(value: &Value, may_be_none: bool) -> Result<Vec<Goto>, String> {
    match value {
        Value::Null if may_be_none => Ok(Vec::new()),
        Value::List(items) => items.iter().map(one).collect(),
        value => Ok(vec![one(value)?]),
    }
}

fn one(value: &Value) -> Result<Goto, String> {
    match value {
        Value::String(name) => Ok(Goto::Node(name.clone())),
        Value::Object(fields) => {
            let Some(Value::String(node)) = fields.get("node") else {
                return Err("a Send needs the name of a `node`: {\"node\": \"…\", \"input\": …}".to_owned());
            };
            if let Some(key) = fields.keys().find(|k| !["node", "input"].contains(&&***k)) {
                return Err(format!("a Send is {{\"node\": …, \"input\": …}}; it has no `{key}`"));
            }
            let input = fields.get("input").cloned().unwrap_or_else(Value::object);
            Ok(Goto::Send(Send { node: node.clone(), input }))
        }
        other => {
            Err(format!("expected a node's name, a Send {{node, input}}, or a list of these, not {}", other.kind()))
        }
    }
}

/// A route of a document.
pub(crate) struct DocRoute {
    pub name: Arc<str>,
    pub from: Arc<str>,
    pub route: Given,
    pub to: Vec<Arc<str>>,
}

impl Route for DocRoute {
    fn call(&self, state: &StateView, cx: &Context) -> Result<Vec<Goto>, NodeError> {
        let fails = |message: String| NodeError::msg(format!("route `{}` of `{}`: {message}", self.name, self.from));
        let to = gotos(&self.route.eval(&env(state, cx, &[]))?, false).map_err(fails)?;
        for goto in &to {
            let name = match goto {
                Goto::Node(name) => name,
                Goto::Send(send) => &send.node,
            };
            let is_known = self.to.iter().any(|t| t == name || (is_end(t) && is_end(name)));
            if !is_known {
                let known = self.to.iter().map(|t| &**t);
                let near = crate::nearest::or_known(name, known);
                return Err(fails(format!("it leads to `{name}`, which is not in its `to`{near}")));
            }
        }
        Ok(to)
    }
}
