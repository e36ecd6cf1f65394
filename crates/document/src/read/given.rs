//! A place that takes an expression: a text in CEL, or any other JSON value, which stands for itself.

use std::{collections::BTreeMap, sync::Arc};

use runloom_engine::{ChannelSpec, Graph, NodeError, Reducer, Value, model::ChatModel};
use runloom_retrievers::Retriever;
use runloom_tools::{HttpClient, McpServers};
use runloom_workers::Workers;

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
    pub retrievers: BTreeMap<Arc<str>, Retriever>,
    pub tools: BTreeMap<Arc<str>, Arc<Tool>>,
    pub http: &'a HttpClient,
    pub mcp: Option<&'a McpServers>,
    pub graphs: &'a BTreeMap<Arc<str>, Graph>,
    pub workers: &'a Workers,
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
        let first = source.lines().next().unwrap_or_default();
        let shown = match (first.char_indices().nth(120), source.lines().nth(1)) {
            (None, None) => first.to_owned(),
            (cut, _) => format!("{}…", &first[..cut.map_or(first.len(), |(end, _)| end)]),
        };
        match self.written_at(at, source, &fault) {
            Some(place) => self.fault(place, format!("in the expression `{shown}`: {}", fault.message)),
            None => {
                let (l, c) = (fault.line, fault.column);
                self.fault(at, format!("in the expression `{shown}`, line {l}, column {c}: {}", fault.message));
            }
        }
    }

    /// The place in the document of a fault in an expression, where its line stands there as it is: the first after a
    /// quote perhaps, all of them in a block.
    fn written_at(&self, at: At, source: &str, fault: &Fault) -> Option<At> {
        let line = source.lines().nth(fault.line.checked_sub(1)?)?;
        let number = at.line + u64::try_from(fault.line).ok()? - 1;
        let written = self.text.lines().nth(usize::try_from(number).ok()?.checked_sub(1)?)?;
        let start = usize::try_from(at.column).ok()?.checked_sub(1)?;
        let rest = &written[written.char_indices().nth(start)?.0..];
        let quotes = u64::from(fault.line == 1 && rest.starts_with(['\'', '"']));
        let is_there = !line.is_empty() && rest.get(usize::try_from(quotes).ok()?..)?.starts_with(line);
        is_there.then_some(At { line: number, column: at.column + quotes + u64::try_from(fault.column).ok()? - 1 })
    }
}
