//! What an expression is evaluated over.

use std::sync::Arc;

use runloom_engine::{Object, StateView, Value};

use super::node::Root;

/// What an expression is evaluated over.
#[derive(Clone, Copy)]
pub struct Env<'a> {
    /// What the node was given.
    pub state: &'a StateView,
    /// The run's context.
    pub context: &'a Value,
    /// The run's `configurable`.
    pub config: &'a Object,
    /// Which try of the node this is.
    pub attempt: u32,
    /// The arguments of a tool's call.
    pub args: Option<&'a Value>,
    /// What a mapped subgraph gave.
    pub result: Option<&'a Value>,
    /// Names bound by earlier steps.
    pub bound: &'a [(Arc<str>, Value)],
}

impl Env<'_> {
    pub(super) fn root(&self, root: Root) -> Value {
        match root {
            Root::State => self.state.to_value(),
            Root::Context if self.context.is_null() => Value::object(),
            Root::Context => self.context.clone(),
            Root::Config => {
                let scalars = self.config.iter().filter(|(_, v)| v.depth() == 0);
                Value::Object(scalars.map(|(k, v)| (k.clone(), v.clone())).collect())
            }
            Root::Attempt => Value::Int(self.attempt.into()),
            Root::Args => self.args.cloned().unwrap_or_default(),
            Root::Result => self.result.cloned().unwrap_or_default(),
        }
    }

    pub(super) fn field(&self, root: Root, name: &str) -> Option<Value> {
        match root {
            Root::State => self.state.get(name).cloned(),
            Root::Context => self.context.get(name).cloned(),
            Root::Config => self.config.get(name).filter(|v| v.depth() == 0).cloned(),
            Root::Attempt => None,
            Root::Args => self.args?.get(name).cloned(),
            Root::Result => self.result?.get(name).cloned(),
        }
    }
}
