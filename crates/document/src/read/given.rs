//! A place that takes an expression: a text in CEL, or any other JSON value, which stands for itself.

use std::{collections::BTreeMap, sync::Arc};

use runloom_engine::{ChannelSpec, Graph, NodeError, Reducer, Value, model::ChatModel};

use super::{Reader, tools::Tool};
use crate::{
    expr::{Env, Expr, Fault, Names, Root},
    tree::{At, Tree},
};

/// What such a place was given.
#[derive(Debug)]
pub(crate) enum Given {
    Value(Value),
    Expr(Expr),
}

impl Given {
    pub fn eval(&self, env: &Env<'_>) -> Result<Value, NodeError> {
        match self {
            Self::Value(value) => Ok(value.clone()),
            Self::Expr(expr) => expr.eval(env),
        }
    }

    /// The texts that it may come to, as far as they are written down; whether it may come to others too.
    pub fn outcomes(&self) -> (Vec<Arc<str>>, bool) {
        match self {
            Self::Value(Value::String(text)) => (vec![text.clone()], false),
            Self::Value(Value::List(items)) => {
                let texts: Vec<Arc<str>> = items.iter().filter_map(|i| i.as_str().map(Arc::from)).collect();
                let open = texts.len() < items.len();
                (texts, open)
            }
            Self::Value(_) => (Vec::new(), true),
            Self::Expr(expr) => expr.outcomes(),
        }
    }
}

/// What a document declares, for what refers to it.
pub(crate) struct Scope<'a> {
    pub channels: Vec<ChannelSpec>,
    pub nodes: Vec<Arc<str>>,
    pub models: BTreeMap<Arc<str>, Arc<dyn ChatModel>>,
    pub tools: BTreeMap<Arc<str>, Arc<Tool>>,
    pub graphs: &'a BTreeMap<Arc<str>, Graph>,
}

impl Scope<'_> {
    pub fn channel(&self, name: &str) -> Option<&ChannelSpec> {
        self.channels.iter().find(|c| &*c.name == name)
    }

    /// Whether a channel holds messages, normalised by its reducer.
    pub fn holds_messages(&self, name: &str) -> bool {
        self.channel(name).is_some_and(|c| matches!(c.reducer, Reducer::Messages))
    }

    /// How what has such a name is written in an expression.
    fn hint(&self, name: &str) -> Option<String> {
        if self.nodes.iter().any(|n| &**n == name) || ["START", "END"].contains(&name) {
            return Some(format!("; to name the node, write it as a text within the expression: '\"{name}\"'"));
        }
        self.channel(name).map(|_| format!("; did you mean `state.{name}`?"))
    }
}

/// What an expression of some place may name.
#[derive(Clone, Copy)]
pub(crate) struct Sees<'a> {
    pub roots: &'static [Root],
    pub bound: &'a [Arc<str>],
}

impl<'a> Sees<'a> {
    /// A step of a node.
    pub fn step(bound: &'a [Arc<str>]) -> Self {
        Self { roots: &Root::COMMON, bound }
    }

    /// A route.
    pub fn route() -> Self {
        Self { roots: &Root::COMMON, bound: &[] }
    }

    /// A tool.
    pub fn tool() -> Self {
        Self { roots: &[Root::Args, Root::State, Root::Context, Root::Config, Root::Attempt], bound: &[] }
    }

    /// The output of a mapped subgraph.
    pub fn result(bound: &'a [Arc<str>]) -> Self {
        Self { roots: &[Root::Result, Root::State, Root::Context, Root::Config, Root::Attempt], bound }
    }
}

impl Reader<'_> {
    /// Reads a place that takes an expression.
    pub fn given(&mut self, tree: &Tree, scope: &Scope<'_>, sees: Sees<'_>) -> Given {
        let Some(source) = tree.as_text() else { return Given::Value(tree.to_value()) };
        let hint = |name: &str| scope.hint(name);
        match Expr::compile(source, &Names { roots: sees.roots, bound: sees.bound, hint: &hint }) {
            Ok(expr) => {
                for field in expr.state_fields() {
                    if scope.channel(&field).is_none() {
                        let note = self.note(tree.at, String::new());
                        self.strangers.push((field, note));
                    }
                }
                Given::Expr(expr)
            }
            Err(fault) => {
                self.expression_fault(tree.at, source, fault);
                Given::Value(Value::Null)
            }
        }
    }

    fn expression_fault(&mut self, at: At, source: &str, fault: Fault) {
        let line = source.lines().next().unwrap_or_default();
        // Where the text stands as it is written, its own columns are the document's.
        let written = usize::try_from(at.line).ok().and_then(|n| self.text.lines().nth(n.checked_sub(1)?));
        let rest = written.map(|w| w.chars().skip(usize::try_from(at.column).unwrap_or(1).saturating_sub(1)));
        let rest: String = rest.map(Iterator::collect).unwrap_or_default();
        let quotes = if rest.starts_with(['\'', '"']) { 1 } else { 0 };
        let is_plain = fault.line == 1 && !line.is_empty() && rest.get(quotes..).is_some_and(|r| r.starts_with(line));
        let shown = if line.chars().count() > 120 || source.lines().nth(1).is_some() {
            format!("{}…", line.chars().take(120).collect::<String>())
        } else {
            line.to_owned()
        };
        if is_plain {
            let column = at.column + quotes as u64 + fault.column as u64 - 1;
            self.fault(At { line: at.line, column }, format!("in the expression `{shown}`: {}", fault.message));
        } else {
            let (l, c) = (fault.line, fault.column);
            self.fault(at, format!("in the expression `{shown}`, line {l}, column {c}: {}", fault.message));
        }
    }
}
