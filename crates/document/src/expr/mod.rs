//! Expressions: CEL, parsed by its crate and evaluated over the engine's shared values.
//!
//! The evaluation is our own, because a document's expressions come from outside and run inside a node: they cost what
//! they touch and not what the state holds, give back the very value they name, keep the order of a map's keys, and stop
//! at a budget instead of running away with the process.

mod call;
mod env;
mod eval;
mod functions;
mod gather;
mod lower;
mod node;
mod ops;
mod parse;
mod text;

#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

pub use env::Env;
pub use eval::MAX_STEPS;
pub use node::Root;
pub use parse::Fault;
use runloom_engine::{NodeError, Value};

use crate::tree::on_large_stack;

/// The names that an expression may use, by its place in the document.
pub struct Names<'a> {
    /// The names of the place.
    pub roots: &'a [Root],
    /// Names bound by earlier steps.
    pub bound: &'a [Arc<str>],
    /// What to say of a name that is not there: how a node or a channel of that name is written.
    pub hint: &'a (dyn Fn(&str) -> Option<String> + Sync),
}

/// A compiled expression.
pub struct Expr {
    source: Arc<str>,
    node: node::Node,
    is_path: bool,
}

impl fmt::Debug for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expr({})", self.source)
    }
}

impl Expr {
    /// Compiles an expression.
    pub fn compile(source: &str, names: &Names<'_>) -> Result<Self, Fault> {
        // The parser's tree is as deep as the text is long, so it lives and dies on a large stack; the node is flat.
        let compiled = on_large_stack(|| {
            let (expr, info) = parse::parse(source)?;
            lower::Lower { names, source, info: &info, locals: Vec::new(), depth: 0 }.node(&expr)
        });
        let node = compiled.unwrap_or_else(|| Err(Fault::at(source, 0, "the expression cannot be compiled")))?;
        Ok(Self { is_path: node.is_path(), source: source.into(), node })
    }

    /// The fields of the state that it reads without asking whether they are there.
    pub(crate) fn state_fields(&self) -> Vec<Arc<str>> {
        let (mut fields, mut asked) = (Vec::new(), Vec::new());
        self.node.walk(&mut |node| match node {
            node::Node::RootField(Root::State, field) => fields.push(field.clone()),
            node::Node::RootHas(Root::State, field) => asked.push(field.clone()),
            _ => {}
        });
        fields.retain(|f| !asked.contains(f));
        fields
    }

    /// The texts that it may come to, as far as they are written down, and whether it may come to others too.
    pub(crate) fn outcomes(&self) -> (Vec<Arc<str>>, bool) {
        let (mut texts, mut closed) = (Vec::new(), true);
        self.node.outcomes(&mut texts, &mut closed);
        (texts, !closed)
    }

    /// Evaluates it. What it names is shared with what it was given, never copied.
    pub fn eval(&self, env: &Env<'_>) -> Result<Value, NodeError> {
        self.run(env).map(|(value, _)| value).map_err(|message| {
            NodeError::new("ExpressionError", format!("the expression `{}` fails: {message}", self.shown()))
        })
    }

    /// Evaluates it and says in how many steps.
    fn run(&self, env: &Env<'_>) -> Result<(Value, usize), String> {
        let mut eval = eval::Eval::new(env);
        let value = match eval.node(&self.node) {
            Ok(value) => value,
            Err(eval::Fault::Fails(message)) => return Err(message),
            Err(eval::Fault::Exhausted(why)) => {
                return Err(format!("{why} (over {MAX_STEPS}); do less at once, or spread it over several nodes"));
            }
        };
        if !self.is_path && !fits(&value, &mut MAX_SIZE.clone()) {
            return Err(format!("its value is too large: over {} MiB", (MAX_SIZE * 16) >> 20));
        }
        Ok((value, eval.budget.used()))
    }

    /// The expression as errors show it: one of many lines or of great length is cut.
    fn shown(&self) -> String {
        let line = self.source.trim();
        match line.char_indices().nth(200) {
            None => line.to_owned(),
            Some((end, _)) => format!("{}…", &line[..end]),
        }
    }
}

/// The most that an expression may make, in parts of 16 bytes: a value of shared parts may be small in memory and
/// endless in text.
const MAX_SIZE: usize = 4 << 20;

/// Whether a value is no larger than what is left.
fn fits(value: &Value, left: &mut usize) -> bool {
    let own = match value {
        Value::String(text) => 1 + text.len() / 16,
        _ => 1,
    };
    let Some(rest) = left.checked_sub(own) else { return false };
    *left = rest;
    match value {
        Value::List(items) => items.iter().all(|v| fits(v, left)),
        Value::Object(fields) => fields.iter().all(|(_, v)| fits(v, left)),
        _ => true,
    }
}
