//! Where to go: what routes and commands come to.

use std::sync::Arc;

use runloom_engine::{Context, Goto, NodeError, NodeFailure, Route, StateView, Value, command::Send};

use super::env;
use crate::read::{
    given::Given,
    policies::{is_end, is_start},
};

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

/// What is said of a node that is not in a command's destinations.
pub(crate) const NO_DESTINATION: &str = "which is not in the node's `destinations`";

/// Where a command goes, which has to be one of its node's destinations, where it has any.
pub(super) fn of_command(value: &Value, to: &[Arc<str>]) -> Result<Vec<Goto>, NodeError> {
    let gotos = gotos(value, true).map_err(|m| NodeError::msg(format!("`goto`: {m}")))?;
    match gotos.iter().map(target).find(|name| !to.is_empty() && !is_among(name, to)) {
        None => Ok(gotos),
        Some(name) => {
            let near = crate::suggest::or_known(name, to.iter().map(|t| &**t));
            Err(NodeError::msg(format!("`goto`: it leads to `{name}`, {NO_DESTINATION}{near}")).permanent())
        }
    }
}

fn target(goto: &Goto) -> &Arc<str> {
    match goto {
        Goto::Node(name) => name,
        Goto::Send(send) => &send.node,
    }
}

fn is_among(name: &str, to: &[Arc<str>]) -> bool {
    to.iter().any(|t| **t == *name || (is_end(t) && is_end(name)))
}

/// A route of a document.
pub(crate) struct DocRoute {
    pub name: Arc<str>,
    pub from: Arc<str>,
    pub route: Given,
    pub to: Vec<Arc<str>>,
}

impl DocRoute {
    /// Where it leaves, as documents write it.
    fn source(&self) -> &str {
        if is_start(&self.from) { "START" } else { &self.from }
    }
}

impl Route for DocRoute {
    fn call(&self, state: &StateView, cx: &Context) -> Result<Vec<Goto>, NodeError> {
        let fails =
            |message: String| NodeError::msg(format!("route `{}` of `{}`: {message}", self.name, self.source()));
        let value = self.route.eval(&env(state, cx, &[])).map_err(|error| match error {
            NodeError::Failed(failure) => {
                let message = format!("route `{}` of `{}`: {failure}", self.name, self.source());
                NodeError::Failed(NodeFailure { message: message.into(), ..failure })
            }
            other => other,
        })?;
        let to = gotos(&value, false).map_err(fails)?;
        if let Some(name) = to.iter().map(target).find(|name| !is_among(name, &self.to)) {
            let near = crate::suggest::or_known(name, self.to.iter().map(|t| &**t));
            return Err(fails(format!("it leads to `{name}`, which is not in its `to`{near}")));
        }
        Ok(to)
    }
}
