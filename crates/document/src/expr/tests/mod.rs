//! Tests of expressions, and what they share.

mod errors;
mod hostile;
mod peer;
mod sharing;
mod values;

use std::sync::Arc;

use runloom_engine::{Object, StateView, Value, stream::Snapshot};

use super::{Env, Expr, Fault, Names, Root, parse::MAX_NESTING};

/// Every name that a place may give.
const ALL: [Root; 6] = [Root::State, Root::Context, Root::Config, Root::Attempt, Root::Args, Root::Result];

/// Compiles over all names, with these bound.
fn compile_with(source: &str, bound: &[&str]) -> Result<Expr, Fault> {
    let bound: Vec<Arc<str>> = bound.iter().map(|b| Arc::from(*b)).collect();
    Expr::compile(source, &Names { roots: &ALL, bound: &bound, hint: &|_| None })
}

fn compile(source: &str) -> Expr {
    compile_with(source, &[]).unwrap_or_else(|f| panic!("{source}: {f:?}"))
}

fn state(state: Value) -> StateView {
    let fields = state.as_object().cloned().unwrap_or_default();
    StateView::State(Arc::new(Snapshot {
        checkpoint: None,
        names: fields.keys().cloned().collect(),
        values: fields.iter().map(|(_, v)| Some(v.clone())).collect(),
    }))
}

/// Evaluates over a state; gives the value and the steps it took.
fn run(source: &str, over: &StateView) -> Result<(Value, usize), String> {
    run_with(&compile(source), over, &[])
}

fn run_with(expr: &Expr, over: &StateView, bound: &[(Arc<str>, Value)]) -> Result<(Value, usize), String> {
    let (context, config) = (Value::Null, Object::default());
    expr.run(&Env { state: over, context: &context, config: &config, attempt: 1, args: None, result: None, bound })
}

/// Evaluates over nothing.
fn eval(source: &str) -> Result<Value, String> {
    run(source, &state(Value::object())).map(|(value, _)| value)
}
