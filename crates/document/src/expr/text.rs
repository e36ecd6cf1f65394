//! What the functions on texts do. Positions count characters, as CEL counts them.

use runloom_engine::{List, Value};

use super::{
    call::refused,
    eval::{Budget, Fault},
    functions::Function,
    ops,
};

type Result<T> = std::result::Result<T, Fault>;

/// Calls a method of a text.
pub(super) fn call(function: Function, text: &str, rest: &[Value], budget: &mut Budget) -> Result<Value> {
    budget.spend_bytes(text.len())?;
    let word = |i: usize| -> Result<&str> {
        match rest.get(i) {
            Some(Value::String(s)) => Ok(s),
            Some(other) => Err(refused(function, other)),
            None => Ok(""),
        }
    };
    Ok(match function {
        Function::Contains => text.contains(word(0)?).into(),
        Function::StartsWith => text.starts_with(word(0)?).into(),
        Function::EndsWith => text.ends_with(word(0)?).into(),
        Function::LowerAscii => text.to_ascii_lowercase().into(),
        Function::UpperAscii => text.to_ascii_uppercase().into(),
        Function::Trim => text.trim().into(),
        Function::Reverse => text.chars().rev().collect::<String>().into(),
        Function::CharAt => {
            let len = text.chars().count();
            let at = position(&rest[0], len)?;
            text.chars().nth(at).map(String::from).unwrap_or_default().into()
        }
        Function::Substring => {
            let len = text.chars().count();
            let end = rest.get(1).cloned().unwrap_or_else(|| len.into());
            let (from, to) = range(&rest[0], &end, len)?;
            text.chars().skip(from).take(to - from).collect::<String>().into()
        }
        Function::IndexOf => {
            let from = rest.get(1).map_or(Ok(0), |at| position(at, text.chars().count()))?;
            let start = text.char_indices().nth(from).map_or(text.len(), |(at, _)| at);
            let found = text[start..].find(word(0)?);
            found.map_or(Value::Int(-1), |at| (from + text[start..start + at].chars().count()).into())
        }
        Function::LastIndexOf => text.rfind(word(0)?).map_or(Value::Int(-1), |at| text[..at].chars().count().into()),
        Function::Replace => replace(text, word(0)?, word(1)?, limit(rest.get(2))?, budget)?,
        Function::Split => split(text, word(0)?, limit(rest.get(1))?, budget)?,
        _ => return Err(refused(function, &Value::string(text))),
    })
}

/// How many times at most; a negative number is no limit.
fn limit(given: Option<&Value>) -> Result<usize> {
    match given {
        None => Ok(usize::MAX),
        Some(v) => match ops::integer(v) {
            Some(i) if i < 0 => Ok(usize::MAX),
            Some(i) => Ok(usize::try_from(i).unwrap_or(usize::MAX)),
            None => Err(Fault::new(format!("a limit is an integer, not {}", v.kind()))),
        },
    }
}

fn replace(text: &str, from: &str, to: &str, limit: usize, budget: &mut Budget) -> Result<Value> {
    let count = if from.is_empty() { text.chars().count() + 1 } else { text.matches(from).count() };
    let grown = count.min(limit).saturating_mul(to.len());
    budget.spend_bytes(text.len().saturating_add(grown))?;
    Ok(text.replacen(from, to, limit).into())
}

fn split(text: &str, by: &str, limit: usize, budget: &mut Budget) -> Result<Value> {
    let parts: List = match (limit, by) {
        (0, _) => List::default(),
        (_, "") => {
            let mut parts: Vec<Value> = Vec::new();
            for (at, c) in text.char_indices() {
                budget.spend(1)?;
                if parts.len() + 1 == limit {
                    parts.push(text[at..].into());
                    break;
                }
                parts.push(String::from(c).into());
            }
            List::from(parts)
        }
        _ => {
            let mut parts: Vec<Value> = Vec::new();
            for part in text.splitn(limit, by) {
                budget.spend(1)?;
                parts.push(part.into());
            }
            List::from(parts)
        }
    };
    Ok(Value::List(parts))
}

/// Texts in one, with something between them.
pub(super) fn join(items: &List, rest: &[Value], budget: &mut Budget) -> Result<Value> {
    let between = match rest.first() {
        None => "",
        Some(Value::String(s)) => s,
        Some(other) => return Err(refused(Function::Join, other)),
    };
    let mut all = String::new();
    for (i, item) in items.iter().enumerate() {
        let Value::String(text) = item else {
            return Err(Fault::new(format!(
                "`join` joins texts, and the list holds {}; string(…) makes one",
                item.kind()
            )));
        };
        budget.spend_bytes(text.len() + between.len())?;
        if i > 0 {
            all.push_str(between);
        }
        all.push_str(text);
    }
    Ok(all.into())
}

/// A position from 0 to `len`.
fn position(given: &Value, len: usize) -> Result<usize> {
    let at =
        ops::integer(given).ok_or_else(|| Fault::new(format!("a position is an integer, not {}", given.kind())))?;
    match usize::try_from(at) {
        Ok(at) if at <= len => Ok(at),
        _ => Err(Fault::new(format!("there is no position {at} in {len}"))),
    }
}

/// A range from 0 to `len`.
pub(super) fn range(from: &Value, to: &Value, len: usize) -> Result<(usize, usize)> {
    let (from, to) = (position(from, len)?, position(to, len)?);
    if from > to {
        return Err(Fault::new(format!("a range cannot go from {from} back to {to}")));
    }
    Ok((from, to))
}
