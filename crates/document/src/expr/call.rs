//! What the functions of expressions do.

use std::cmp::Ordering;

use regex::Regex;
use runloom_engine::{List, Value};

use super::{
    eval::{Budget, Fault},
    functions::{self, Function},
    node::Op,
    ops, text,
};

type Result<T> = std::result::Result<T, Fault>;

/// Calls a function; `args` begin with what stood on its left, if it was called as a method.
pub(super) fn call(function: Function, args: &[Value], budget: &mut Budget) -> Result<Value> {
    use Value::{List as L, Object as O, String as S};
    Ok(match (function, args) {
        (Function::Size, [L(items)]) => items.len().into(),
        (Function::Size, [O(fields)]) => fields.len().into(),
        (Function::Size, [S(text)]) => {
            budget.spend_bytes(text.len())?;
            text.chars().count().into()
        }
        (Function::Matches, [text, S(pattern)]) => {
            budget.spend(2000)?;
            let regex = functions::pattern(pattern).map_err(Fault::new)?;
            return matches(text, &regex, budget);
        }
        (Function::String, [v]) => match v {
            S(_) => v.clone(),
            Value::Bool(_) | Value::Int(_) | Value::UInt(_) => Value::from(v.to_string()),
            Value::Float(f) => Value::from(f.to_string()),
            other => return Err(refused(function, other)),
        },
        (Function::Int, [v]) => int(v)?,
        (Function::UInt, [v]) => {
            let made = int(v)?;
            if made.as_u64().is_none() {
                return Err(Fault::new(format!("`uint` does not take {made}")));
            }
            made
        }
        (Function::Double, [v]) => double(v)?,
        (Function::Bool, [v]) => match v {
            Value::Bool(_) => v.clone(),
            S(text) => match &**text {
                "1" | "t" | "true" | "T" | "TRUE" | "True" => Value::Bool(true),
                "0" | "f" | "false" | "F" | "FALSE" | "False" => Value::Bool(false),
                other => return Err(Fault::new(format!("`bool` does not take the text {other:?}"))),
            },
            other => return Err(refused(function, other)),
        },
        (Function::Type, [v]) => Value::string(match v {
            Value::Null => "null_type",
            Value::Bool(_) => "bool",
            Value::Int(_) | Value::UInt(_) => "int",
            Value::Float(_) => "double",
            S(_) => "string",
            L(_) => "list",
            O(_) => "map",
        }),
        (Function::Dyn, [v]) => v.clone(),
        (Function::Min | Function::Max, [L(items)]) => extreme(function, items.iter(), budget)?,
        (Function::Min | Function::Max, args) => extreme(function, args.iter(), budget)?,
        (Function::Reverse, [L(items)]) => {
            budget.spend(items.len())?;
            L(items.iter().rev().cloned().collect())
        }
        (Function::Flatten, [L(items)]) => flatten(items, budget)?,
        (Function::Distinct, [L(items)]) => distinct(items, budget)?,
        (Function::Sort, [L(items)]) => sort(items, budget)?,
        (Function::Slice, [L(items), from, to]) => {
            let (from, to) = text::range(from, to, items.len())?;
            budget.spend(to - from)?;
            L(items.iter_from(from).take(to - from).cloned().collect())
        }
        (Function::Join, [L(items), rest @ ..]) => text::join(items, rest, budget)?,
        (_, [S(text), rest @ ..]) => return text::call(function, text, rest, budget),
        (_, [first, ..]) => return Err(refused(function, first)),
        (_, []) => return Err(Fault::new(format!("`{}` needs something to work on", function.name()))),
    })
}

/// The error of a function that was given something it does not take.
pub(super) fn refused(function: Function, given: &Value) -> Fault {
    Fault::new(format!("`{}` does not take {}", function.name(), given.kind()))
}

/// Whether a pattern is found in a text.
pub(super) fn matches(text: &Value, regex: &Regex, budget: &mut Budget) -> Result<Value> {
    let Some(text) = text.as_str() else { return Err(refused(Function::Matches, text)) };
    budget.spend(text.len() / 4 + 10)?;
    Ok(Value::Bool(regex.is_match(text)))
}

fn int(v: &Value) -> Result<Value> {
    match v {
        Value::Int(_) | Value::UInt(_) => Ok(v.clone()),
        Value::Float(f) if f.abs() < 1.8e19 => {
            ops::fit(f.trunc() as i128, false).ok_or_else(|| Fault::new(format!("{f} does not fit 64 bits")))
        }
        Value::Float(f) => Err(Fault::new(format!("{f} does not fit 64 bits"))),
        Value::String(text) if text.len() <= 40 => text
            .parse::<i128>()
            .ok()
            .and_then(|i| ops::fit(i, false))
            .ok_or_else(|| Fault::new(format!("the text {text:?} is no integer of 64 bits"))),
        other => Err(refused(Function::Int, other)),
    }
}

fn double(v: &Value) -> Result<Value> {
    match v {
        Value::String(text) if text.len() <= 400 => text
            .parse::<f64>()
            .ok()
            .and_then(ops::finite)
            .ok_or_else(|| Fault::new(format!("the text {text:?} is no number that JSON can hold"))),
        other => other.as_f64().map(Value::Float).ok_or_else(|| refused(Function::Double, other)),
    }
}

fn extreme<'v>(function: Function, items: impl Iterator<Item = &'v Value>, budget: &mut Budget) -> Result<Value> {
    let (op, wanted) = match function {
        Function::Min => (Op::Less, Ordering::Less),
        _ => (Op::Greater, Ordering::Greater),
    };
    let mut best: Option<&Value> = None;
    for item in items {
        budget.spend(1)?;
        best = match best {
            Some(b) if ops::compare(op, item, b, budget)? != wanted => Some(b),
            _ => Some(item),
        };
    }
    best.cloned().ok_or_else(|| Fault::new(format!("`{}` of an empty list", function.name())))
}

fn flatten(items: &List, budget: &mut Budget) -> Result<Value> {
    let mut all = List::default();
    for item in items.iter() {
        budget.spend(1)?;
        match item {
            Value::List(inner) => {
                budget.spend(inner.len())?;
                all.append(inner);
            }
            other => all.push(other.clone()),
        }
    }
    Ok(Value::List(all))
}

fn distinct(items: &List, budget: &mut Budget) -> Result<Value> {
    let mut seen: Vec<Value> = Vec::new();
    'items: for item in items.iter() {
        for other in &seen {
            if ops::equal(item, other, budget)? {
                continue 'items;
            }
        }
        seen.push(item.clone());
    }
    Ok(Value::List(List::from(seen)))
}

/// Sorts by merging, so that each comparison may fail and is counted.
fn sort(items: &List, budget: &mut Budget) -> Result<Value> {
    let mut sorted: Vec<Value> = items.iter().cloned().collect();
    budget.spend(sorted.len())?;
    if let Some(first) = sorted.first() {
        ops::compare(Op::Less, first, first, budget)?;
    }
    let mut width = 1;
    while width < sorted.len() {
        let mut merged = Vec::with_capacity(sorted.len());
        for pair in sorted.chunks(width * 2) {
            let (mut a, mut b) = pair.split_at(width.min(pair.len()));
            while let ([x, rest_a @ ..], [y, rest_b @ ..]) = (a, b) {
                budget.spend(1)?;
                if ops::compare(Op::Less, y, x, budget)? == Ordering::Less {
                    merged.push(y.clone());
                    b = rest_b;
                } else {
                    merged.push(x.clone());
                    a = rest_a;
                }
            }
            merged.extend(a.iter().chain(b).cloned());
        }
        sorted = merged;
        width *= 2;
    }
    Ok(Value::List(List::from(sorted)))
}
