//! Operators on values: arithmetic that never loses a digit, comparison over kinds of numbers, equality that is counted.

use std::cmp::Ordering;

use runloom_engine::Value;

use super::{
    eval::{Budget, Fault},
    node::Op,
};

type Result<T> = std::result::Result<T, Fault>;

/// Applies a binary operator.
pub(super) fn apply(op: Op, left: Value, right: Value, budget: &mut Budget) -> Result<Value> {
    Ok(match op {
        Op::Equals => Value::Bool(equal(&left, &right, budget)?),
        Op::NotEquals => Value::Bool(!equal(&left, &right, budget)?),
        Op::Less => Value::Bool(compare(op, &left, &right, budget)? == Ordering::Less),
        Op::LessEquals => Value::Bool(compare(op, &left, &right, budget)? != Ordering::Greater),
        Op::Greater => Value::Bool(compare(op, &left, &right, budget)? == Ordering::Greater),
        Op::GreaterEquals => Value::Bool(compare(op, &left, &right, budget)? != Ordering::Less),
        Op::In => Value::Bool(contains(&left, &right, budget)?),
        Op::Add => return add(left, right, budget),
        _ => return arithmetic(op, &left, &right),
    })
}

fn add(left: Value, right: Value, budget: &mut Budget) -> Result<Value> {
    match (left, right) {
        (Value::String(a), Value::String(b)) => {
            budget.spend_bytes(a.len() + b.len())?;
            Ok(match (a.is_empty(), b.is_empty()) {
                (true, _) => Value::String(b),
                (_, true) => Value::String(a),
                _ => Value::string([&*a, &*b].concat()),
            })
        }
        (Value::List(mut a), Value::List(b)) => {
            budget.spend(b.len())?;
            a.append(&b);
            Ok(Value::List(a))
        }
        (a, b) => arithmetic(Op::Add, &a, &b),
    }
}

/// An integer of either sign, wide enough that nothing overflows on the way.
pub(super) fn integer(v: &Value) -> Option<i128> {
    match v {
        Value::Int(i) => Some((*i).into()),
        Value::UInt(u) => Some((*u).into()),
        _ => None,
    }
}

fn arithmetic(op: Op, left: &Value, right: &Value) -> Result<Value> {
    if let (Some(a), Some(b)) = (integer(left), integer(right)) {
        if b == 0 && matches!(op, Op::Divide | Op::Modulo) {
            return Err(Fault::new("division by zero"));
        }
        let result = match op {
            Op::Add => a.checked_add(b),
            Op::Subtract => a.checked_sub(b),
            Op::Multiply => a.checked_mul(b),
            Op::Divide => a.checked_div(b),
            Op::Modulo => a.checked_rem(b),
            _ => None,
        };
        let signed = matches!((left, right), (Value::Int(_), Value::Int(_)));
        return result
            .and_then(|r| fit(r, signed))
            .ok_or_else(|| Fault::new(format!("`{left} {} {right}` does not fit 64 bits", op.symbol())));
    }
    if let (Value::Float(a), Value::Float(b)) = (left, right)
        && op != Op::Modulo
    {
        let result = match op {
            Op::Add => a + b,
            Op::Subtract => a - b,
            Op::Multiply => a * b,
            _ => a / b,
        };
        if op == Op::Divide && *b == 0.0 {
            return Err(Fault::new("division by zero"));
        }
        return finite(result).ok_or_else(|| Fault::new(format!("`{left} {} {right}` is too large", op.symbol())));
    }
    let symbol = op.symbol();
    Err(Fault::new(match (left, right) {
        (Value::Float(_), r) | (r, Value::Float(_)) if integer(r).is_some() && op != Op::Modulo => format!(
            "`{symbol}` takes two integers or two numbers with a fraction, not one of each; make them alike with \
             double(…) or int(…)"
        ),
        _ => format!("`{symbol}` does not take {} and {}", left.kind(), right.kind()),
    }))
}

/// An integer as a value, where it fits: 64 bits with a sign, or without where one operand needed that already.
pub(super) fn fit(i: i128, signed: bool) -> Option<Value> {
    match (i64::try_from(i), u64::try_from(i)) {
        (Ok(i), _) => Some(Value::Int(i)),
        (_, Ok(u)) if !signed => Some(Value::UInt(u)),
        _ => None,
    }
}

/// A number that JSON can hold.
pub(super) fn finite(f: f64) -> Option<Value> {
    f.is_finite().then_some(Value::Float(f))
}

/// How two numbers of any kind stand to each other, exactly.
fn numbers(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Float(x), Value::Float(y)) => x.partial_cmp(y),
        (Value::Float(x), _) => against(*x, integer(b)?),
        (_, Value::Float(y)) => against(*y, integer(a)?).map(Ordering::reverse),
        _ => Some(integer(a)?.cmp(&integer(b)?)),
    }
}

/// A float against an integer, without rounding the integer.
fn against(f: f64, i: i128) -> Option<Ordering> {
    if f.abs() >= 1e30 {
        return f.partial_cmp(&0.0);
    }
    let whole = f.trunc();
    Some((whole as i128).cmp(&i).then(f.partial_cmp(&whole)?))
}

pub(super) fn compare(op: Op, a: &Value, b: &Value, budget: &mut Budget) -> Result<Ordering> {
    let order = match (a, b) {
        (Value::String(x), Value::String(y)) => {
            budget.spend_bytes(x.len().min(y.len()))?;
            Some(x.cmp(y))
        }
        (Value::Bool(x), Value::Bool(y)) => Some(x.cmp(y)),
        _ => numbers(a, b),
    };
    order.ok_or_else(|| Fault::new(format!("`{}` does not compare {} with {}", op.symbol(), a.kind(), b.kind())))
}

/// Equality: numbers by what they are, whatever their kind; values of different kinds are not equal.
pub(super) fn equal(a: &Value, b: &Value, budget: &mut Budget) -> Result<bool> {
    budget.spend(1)?;
    if a.same(b) {
        return Ok(true);
    }
    match (a, b) {
        (Value::Null, Value::Null) => Ok(true),
        (Value::Bool(x), Value::Bool(y)) => Ok(x == y),
        (Value::String(x), Value::String(y)) => {
            if x.len() != y.len() {
                return Ok(false);
            }
            budget.spend_bytes(x.len())?;
            Ok(x == y)
        }
        (Value::List(x), Value::List(y)) => {
            if x.len() != y.len() {
                return Ok(false);
            }
            for (x, y) in x.iter().zip(y.iter()) {
                if !equal(x, y, budget)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        (Value::Object(x), Value::Object(y)) => {
            if x.len() != y.len() {
                return Ok(false);
            }
            for (key, x) in x.iter() {
                match y.get(key) {
                    Some(y) if equal(x, y, budget)? => {}
                    _ => return Ok(false),
                }
            }
            Ok(true)
        }
        _ => Ok(numbers(a, b) == Some(Ordering::Equal)),
    }
}

/// `item in list` and `key in map`.
fn contains(item: &Value, within: &Value, budget: &mut Budget) -> Result<bool> {
    match within {
        Value::List(items) => {
            for other in items.iter() {
                if equal(item, other, budget)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        Value::Object(fields) => match item {
            Value::String(key) => Ok(fields.contains_key(key)),
            Value::Bool(_) | Value::Int(_) | Value::UInt(_) | Value::Float(_) => Ok(false),
            other => Err(Fault::new(format!("the keys of an object are texts; `in` was given {}", other.kind()))),
        },
        other => Err(Fault::new(format!("`in` looks into a list or an object, not into {}", other.kind()))),
    }
}
