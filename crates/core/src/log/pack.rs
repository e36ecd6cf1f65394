//! Values as the log keeps them: what a checkpoint holds is referred to, not written again.
//!
//! A log that held whole states would grow by the square. So a value that is the very same as a channel of the state the
//! part was made from, or a long text of such a channel, is kept as `{"$r": channel}`; a list that begins with such a channel's list as `{"$p": channel, "+":
//! [what follows]}`. An object of the user's own that looks like one of these is kept as `{"$q": object}`.

use std::sync::Arc;

use runloom_engine::{List, Object, Value, stream::Snapshot};

/// How deep a value is looked into for parts to refer to: an event's `{"messages": [[…]]}` is three levels deep.
const DEPTH: usize = 3;
/// Lists longer than this are not looked into: their items are inputs of somebody's own.
const BREADTH: usize = 64;

/// Texts from this many bytes on are referred to.
const LONG_TEXT: usize = 256;

/// Packs a value against the state it was made from. Says through `used` whether it refers to that state.
pub(super) fn pack(value: &Value, base: Option<&Snapshot>, used: &mut bool) -> Value {
    match base.filter(|b| b.checkpoint.is_some()) {
        None => quote(value, DEPTH),
        Some(base) => pack_in(value, base, used, DEPTH),
    }
}

fn pack_in(value: &Value, base: &Snapshot, used: &mut bool, depth: usize) -> Value {
    if let Some((name, _)) = base.iter().find(|(_, held)| is_held(held, value)) {
        *used = true;
        return one("$r", Value::from(name));
    }
    if let Value::List(list) = value
        && let Some((name, from)) = prefix(list, base)
    {
        *used = true;
        let mut o = Object::default();
        o.insert("$p", Value::from(name));
        o.insert("n", Value::from(from));
        o.insert("+", list.iter_from(from).map(|v| quote(v, depth.saturating_sub(1))).collect::<List>());
        return Value::Object(o);
    }
    each(value, depth, |v, depth| pack_in(v, base, used, depth))
}

/// Whether a value is that of a channel: the very same list or object, or a long text that reads the same.
fn is_held(held: &Value, value: &Value) -> bool {
    match (held, value) {
        (Value::String(held), Value::String(text)) => {
            text.len() >= LONG_TEXT && (Arc::ptr_eq(held, text) || held == text)
        }
        (_, Value::List(_) | Value::Object(_)) => held.same(value),
        _ => false,
    }
}

/// A value with what is in it packed, as far as it is looked into; what looks like a reference is quoted at any depth.
fn each(value: &Value, depth: usize, mut pack: impl FnMut(&Value, usize) -> Value) -> Value {
    match value {
        Value::Object(o) => {
            let fields =
                if depth == 0 { o.clone() } else { o.iter().map(|(k, v)| (k.clone(), pack(v, depth - 1))).collect() };
            if is_special(o) { one("$q", Value::Object(fields)) } else { Value::Object(fields) }
        }
        Value::List(l) if depth > 0 && l.len() <= BREADTH => {
            l.iter().map(|v| pack(v, depth - 1)).collect::<List>().into()
        }
        other => other.clone(),
    }
}

/// A value without references.
fn quote(value: &Value, depth: usize) -> Value {
    each(value, depth, quote)
}

/// The channel whose list this one begins with, by being the same items.
fn prefix<'a>(list: &List, base: &'a Snapshot) -> Option<(&'a Arc<str>, usize)> {
    base.iter().find_map(|(name, held)| {
        let held = held.as_list()?;
        let is_start = held.len() > 4
            && held.len() <= list.len()
            && held.iter().zip(list.iter()).all(|(a, b)| a.same(b) || (a.depth() == 0 && a == b));
        is_start.then_some((name, held.len()))
    })
}

fn one(key: &str, value: Value) -> Value {
    Value::Object([(key, value)].into_iter().collect())
}

fn is_special(o: &Object) -> bool {
    o.contains_key("$r") || o.contains_key("$p") || o.contains_key("$q")
}

/// The value again. `base` is the state it was packed against; without it, what referred to it comes back as null.
pub(super) fn unpack(value: &Value, base: Option<&Snapshot>) -> Value {
    unpack_in(value, base, DEPTH)
}

fn unpack_in(value: &Value, base: Option<&Snapshot>, depth: usize) -> Value {
    let held = |name: &str| base.and_then(|b| b.get(name)).cloned();
    let below = depth.saturating_sub(1);
    let fields = |o: &Object| -> Value {
        if depth == 0 {
            return Value::Object(o.clone());
        }
        Value::Object(o.iter().map(|(k, v)| (k.clone(), unpack_in(v, base, below))).collect())
    };
    match value {
        Value::Object(o) => match (o.get("$q"), o.get_str("$r"), o.get_str("$p")) {
            (Some(Value::Object(quoted)), ..) => fields(quoted),
            (_, Some(name), _) => held(name).unwrap_or_default(),
            (_, _, Some(name)) => {
                let Some(Value::List(mut list)) = held(name) else { return Value::Null };
                if let Some(n) = o.get("n").and_then(Value::as_u64) {
                    list = list.truncated(usize::try_from(n).unwrap_or(usize::MAX));
                }
                if let Some(Value::List(rest)) = o.get("+") {
                    list.extend(rest.iter().map(|v| unpack_in(v, base, below)));
                }
                Value::List(list)
            }
            _ => fields(o),
        },
        Value::List(l) if depth > 0 && l.len() <= BREADTH => {
            l.iter().map(|v| unpack_in(v, base, below)).collect::<List>().into()
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use runloom_engine::{CheckpointId, value};

    use super::*;

    fn snapshot() -> Snapshot {
        Snapshot {
            checkpoint: Some(CheckpointId(uuid::Uuid::nil())),
            names: [Arc::from("messages"), Arc::from("topic")].into(),
            values: vec![
                Some(value!([{"id": "1"}, {"id": "2"}, {"id": "3"}, {"id": "4"}, {"id": "5"}])),
                Some(Value::from("tea")),
            ],
        }
    }

    fn there_and_back(value: &Value, base: &Snapshot) -> (Value, bool) {
        let mut used = false;
        let packed = pack(value, Some(base), &mut used);
        assert_eq!(unpack(&packed, Some(base)), *value, "{packed}");
        (packed, used)
    }

    #[test]
    fn a_state_is_referred_to_and_comes_back() {
        let base = snapshot();
        let state = Value::Object(base.to_object());
        let (packed, used) = there_and_back(&state, &base);
        assert!(used);
        assert_eq!(packed, value!({"messages": {"$r": "messages"}, "topic": "tea"}));
        let input = value!({"other": 1});
        assert_eq!(there_and_back(&input, &base), (input.clone(), false));
    }

    #[test]
    fn a_long_text_is_referred_to_and_a_short_one_is_not() {
        let text = "d".repeat(300_000);
        let base = Snapshot { values: vec![None, Some(Value::from(text.as_str()))], ..snapshot() };
        // The same text, read again from a checkpoint, and within an event's input.
        for value in [value!({"topic": (text.clone())}), value!({"input": {"docs": (text.clone())}})] {
            let (packed, used) = there_and_back(&value, &base);
            assert!(used && packed.to_string().len() < 100, "{} bytes", packed.to_string().len());
        }
        let other = value!({"topic": (text + "x")});
        assert!(!there_and_back(&other, &base).1);
    }

    #[test]
    fn a_longer_list_keeps_what_follows_only() {
        let base = snapshot();
        let mut list = base.values[0].clone().unwrap().as_list().unwrap().clone();
        list.push(value!({"id": "6"}));
        let (packed, _) = there_and_back(&value!({}), &base);
        assert_eq!(packed, value!({}));
        let event = Value::Object([("messages", Value::List(list))].into_iter().collect());
        let (packed, used) = there_and_back(&event, &base);
        assert!(used && packed.to_string().len() < 80, "{packed}");
    }

    #[test]
    fn what_looks_like_a_reference_is_none() {
        let base = snapshot();
        for v in [
            value!({"$r": "messages"}),
            value!({"a": {"$p": "messages", "+": [1]}}),
            value!([{"$q": {"$r": "x"}}]),
            value!({"$q": 1}),
            value!({"a": [{"$r": "topic"}]}),
        ] {
            there_and_back(&v, &base);
            let mut used = false;
            assert_eq!(unpack(&pack(&v, None, &mut used), None), v);
        }
    }
}
