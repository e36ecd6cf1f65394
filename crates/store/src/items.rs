//! What every store of items does alike: which items a filter holds for, which namespaces a query lists, when items go.

use std::{
    cmp::Ordering,
    time::{Duration, SystemTime},
};

use runloom_engine::{Object, Value, items::NamespaceQuery};

use crate::{Error, Result, time::last};

/// The comparisons that a filter may make.
const OPERATORS: [&str; 6] = ["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"];

/// Refuses a filter with a comparison that there is not.
pub fn check_item_filter(filter: &Object) -> Result<()> {
    for (field, wanted) in filter.iter() {
        let Value::Object(within) = wanted else { continue };
        match operators(within) {
            None => check_item_filter(within)?,
            Some(operators) => {
                if let Some(unknown) = operators.keys().find(|key| !OPERATORS.contains(&&***key)) {
                    let known = OPERATORS.join(", ");
                    return Err(Error::Invalid(format!("filter.{field}: there is no `{unknown}`; there are {known}")));
                }
            }
        }
    }
    Ok(())
}

/// An object of comparisons: it has a key that begins with `$`.
fn operators(object: &Object) -> Option<&Object> {
    object.keys().any(|key| key.starts_with('$')).then_some(object)
}

/// True where a value has what a filter asks for. A field that is not there is as good as null.
pub fn matches(value: &Object, filter: &Object) -> bool {
    filter.iter().all(|(field, wanted)| holds(value.get(field).unwrap_or(&Value::Null), wanted))
}

fn holds(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (_, Value::Object(wanted)) if let Some(operators) = operators(wanted) => {
            operators.iter().all(|(operator, than)| compares(found, operator, than))
        }
        (Value::Object(found), Value::Object(wanted)) => matches(found, wanted),
        (Value::List(found), Value::List(wanted)) => {
            found.len() == wanted.len() && found.iter().zip(wanted.iter()).all(|(f, w)| holds(f, w))
        }
        (found, wanted) => is_equal(found, wanted),
    }
}

fn is_equal(a: &Value, b: &Value) -> bool {
    a == b || order(a, b).is_some_and(Ordering::is_eq)
}

/// The order of two numbers, or of two texts.
fn order(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (a, b) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => Some(a.cmp(&b)),
            _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
        },
    }
}

fn compares(found: &Value, operator: &str, than: &Value) -> bool {
    let is = |such: fn(Ordering) -> bool| order(found, than).is_some_and(such);
    match operator {
        "$eq" => is_equal(found, than),
        "$ne" => !is_equal(found, than),
        "$gt" => is(Ordering::is_gt),
        "$gte" => is(Ordering::is_ge),
        "$lt" => is(Ordering::is_lt),
        "$lte" => is(Ordering::is_le),
        _ => false,
    }
}

/// The names that a namespace begins with if it is one of a query's: its prefix up to the first `*`.
pub fn known_prefix(query: &NamespaceQuery) -> Vec<String> {
    query.prefix.iter().take_while(|name| *name != "*").cloned().collect()
}

/// Of sorted namespaces those that a query lists.
pub fn list(sorted: impl Iterator<Item = Vec<String>>, query: &NamespaceQuery) -> Vec<Vec<String>> {
    let is_like = |(wanted, name): (&String, &String)| wanted == "*" || wanted == name;
    let is_meant = |names: &Vec<String>| {
        names.len() >= query.prefix.len().max(query.suffix.len())
            && query.prefix.iter().zip(names).all(is_like)
            && query.suffix.iter().rev().zip(names.iter().rev()).all(is_like)
    };
    let depth = if query.max_depth == 0 { usize::MAX } else { query.max_depth };
    let limit = if query.limit == 0 { 100 } else { query.limit };
    let mut found: Vec<Vec<String>> = Vec::new();
    for mut names in sorted.filter(is_meant) {
        names.truncate(depth);
        // Those that are alike stand side by side.
        if found.last() != Some(&names) {
            found.push(names);
            if found.len() == query.offset.saturating_add(limit) {
                break;
            }
        }
    }
    found.drain(..query.offset.min(found.len()));
    found
}

/// When an item goes that was put, or read, now.
pub fn expiry(now: SystemTime, ttl: Duration) -> SystemTime {
    now.checked_add(ttl).map_or(last(), |at| at.min(last()))
}

#[cfg(test)]
mod tests {
    use runloom_engine::value;

    use super::*;

    fn o(value: Value) -> Object {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_filter_compares_values_at_any_depth() {
        let found = o(value!({"n": 3, "s": "b", "deep": {"x": 1.5, "l": [1, 2]}, "none": null}));
        let has = |filter: Value| matches(&found, &o(filter));
        for yes in [
            value!({}),
            value!({"n": 3.0, "s": "b"}),
            value!({"n": {"$gt": 2, "$lte": 3}}),
            value!({"s": {"$gte": "a", "$ne": "a"}}),
            value!({"deep": {"x": {"$lt": 2}}}),
            value!({"deep": {"l": [1, {"$gt": 1}]}}),
            value!({"none": null, "missing": null}),
            value!({"missing": {"$ne": 1}}),
        ] {
            assert!(has(yes.clone()), "{yes}");
        }
        for no in [
            value!({"n": "3"}),
            value!({"n": {"$gt": 3}}),
            value!({"s": {"$gt": 1}}),
            value!({"deep": {"l": [1]}}),
            value!({"missing": {"$lt": 1}}),
            value!({"n": {"x": 1}}),
        ] {
            assert!(!has(no.clone()), "{no}");
        }
        let integers = o(value!({"n": 9007199254740993i64}));
        assert!(!matches(&integers, &o(value!({"n": 9007199254740992i64}))), "integers are compared as integers");
        let wrong = check_item_filter(&o(value!({"a": {"b": {"$in": [1]}}}))).unwrap_err();
        assert!(wrong.to_string().contains("filter.b: there is no `$in`"), "{wrong}");
    }

    #[test]
    fn an_expiry_that_no_clock_reaches_is_the_last_one() {
        assert_eq!(expiry(SystemTime::now(), Duration::MAX), last());
    }
}
