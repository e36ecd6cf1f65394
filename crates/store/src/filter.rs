//! Containment of JSON in JSON, by which lists are filtered, and the merging of metadata.

use runloom_engine::{Object, Value};

/// True where an object has all that a pattern has: every field of the pattern is in it, and equal; objects within are
/// compared so too, a list has to hold every item of the pattern's, and numbers are equal by their value.
pub fn contains(object: &Object, pattern: &Object) -> bool {
    pattern.iter().all(|(key, wanted)| object.get(key).is_some_and(|found| holds(found, wanted)))
}

fn holds(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => contains(found, wanted),
        (Value::List(found), Value::List(wanted)) => wanted.iter().all(|w| found.iter().any(|f| holds(f, w))),
        (Value::Float(a), b) | (b, Value::Float(a)) => b.as_f64() == Some(*a),
        (found, wanted) => found == wanted,
    }
}

/// Merges fields into an object, key by key; a `null` takes the key away.
pub fn merge(mut into: Object, fields: &Object) -> Object {
    for (key, value) in fields.iter() {
        if value.is_null() {
            into.remove(key);
        } else {
            into.insert(key.clone(), value.clone());
        }
    }
    into
}

#[cfg(test)]
mod tests {
    use runloom_engine::value;

    use super::*;

    #[test]
    fn containment_looks_into_objects_and_lists() {
        let found = value!({"a": 1, "b": {"c": [1, {"d": 2}], "e": null}, "f": "x"});
        let found = found.as_object().unwrap();
        let has = |pattern: Value| contains(found, pattern.as_object().unwrap());
        assert!(has(value!({})));
        assert!(has(value!({"a": 1.0, "b": {"c": [{"d": 2}]}})));
        assert!(has(value!({"b": {"e": null}})));
        assert!(!has(value!({"g": null})));
        assert!(!has(value!({"b": {"c": [3]}})));
        assert!(!has(value!({"f": {"x": 1}})));
        assert!(!has(value!({"a": "1"})));
    }

    #[test]
    fn a_merge_replaces_at_the_top_and_null_deletes() {
        let o = |v: Value| v.as_object().unwrap().clone();
        let merged = merge(o(value!({"a": {"b": 1}, "c": 2})), &o(value!({"a": {"d": 3}, "c": null, "x": null})));
        assert_eq!(merged, o(value!({"a": {"d": 3}})));
    }
}
