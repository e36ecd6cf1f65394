//! How a value changed within: what a checkpoint stores of a large object, list or text in place of the whole value.

use std::sync::Arc;

use super::ListEdit;
use crate::{CheckpointError, List, Object, Value};

/// Below this weight a value is stored whole: a patch would save nothing.
const SMALL: u64 = 512;
/// How deep a patch looks into a value. What changed further down is stored whole.
const MAX_LEVELS: u32 = 8;

/// A change within a value.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Patch {
    /// It holds this now.
    Set(Value),
    /// This text was appended.
    Extend(Arc<str>),
    /// Fields of the object were removed, then set in this order.
    Fields {
        /// The fields removed.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        removed: Vec<Arc<str>>,
        /// The fields set, with how each changed. A new field holds `Set`.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        set: Vec<(Arc<str>, Patch)>,
    },
    /// The list was edited, in this order.
    Items(Vec<ListEdit>),
}

impl Patch {
    /// The patch from one value to another; none where it would take more than half of the bytes of the value itself.
    pub(crate) fn between(before: &Value, after: &Value) -> Option<Self> {
        if after.weight() < SMALL {
            return None;
        }
        let patch = difference(before, after, 0).unwrap_or(Self::Fields { removed: Vec::new(), set: Vec::new() });
        (patch.weight() <= after.weight() / 2).then_some(patch)
    }

    /// The value after the patch.
    pub(crate) fn apply(&self, before: &Value) -> Result<Value, CheckpointError> {
        let misfit = |what: &str| CheckpointError::Corrupt(format!("a patch of {what} meets {}", before.kind()));
        match self {
            Self::Set(value) => Ok(value.clone()),
            Self::Extend(suffix) => match before {
                Value::String(text) => Ok(Value::from([&**text, &**suffix].concat())),
                _ => Err(misfit("a text")),
            },
            // Nothing changed, whatever the value is.
            Self::Fields { removed, set } if removed.is_empty() && set.is_empty() => Ok(before.clone()),
            Self::Fields { removed, set } => {
                let Value::Object(fields) = before else { return Err(misfit("an object")) };
                let mut fields = without(fields, removed);
                for (key, patch) in set {
                    let value = match (patch, fields.get(key)) {
                        (Self::Set(value), _) => value.clone(),
                        (patch, Some(before)) => patch.apply(before)?,
                        (_, None) => return Err(CheckpointError::Corrupt(format!("a patch meets no field `{key}`"))),
                    };
                    fields.insert(key.clone(), value);
                }
                Ok(Value::Object(fields))
            }
            Self::Items(edits) => {
                let Value::List(list) = before else { return Err(misfit("a list")) };
                edits.iter().try_fold(list.clone(), |list, edit| edit.apply(list)).map(Value::List)
            }
        }
    }

    /// About the bytes of its JSON.
    fn weight(&self) -> u64 {
        match self {
            Self::Set(value) => value.weight() + 8,
            Self::Extend(text) => text.len() as u64 + 12,
            Self::Fields { removed, set } => {
                let removed: u64 = removed.iter().map(|key| key.len() as u64 + 4).sum();
                set.iter().fold(removed + 24, |sum, (key, patch)| sum + key.len() as u64 + 6 + patch.weight())
            }
            Self::Items(edits) => edits.iter().fold(12, |sum, edit| {
                sum + match edit {
                    ListEdit::Replace(_, item) | ListEdit::Push(item) => item.weight() + 20,
                    ListEdit::Remove(at) => at.len() as u64 * 6 + 12,
                }
            }),
        }
    }
}

/// The object without some of its fields, in one pass.
fn without(fields: &Object, removed: &[Arc<str>]) -> Object {
    if removed.is_empty() {
        return fields.clone();
    }
    let removed: std::collections::HashSet<&str> = removed.iter().map(|key| &**key).collect();
    let kept = fields.iter().filter(|(key, _)| !removed.contains(&***key));
    kept.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// The patch between two values; none where they are equal. Parts that both share are found by their address.
fn difference(before: &Value, after: &Value, level: u32) -> Option<Patch> {
    if before.same(after) {
        return None;
    }
    let patch = match (before, after) {
        (Value::Object(before), Value::Object(after)) if level < MAX_LEVELS => return of_fields(before, after, level),
        (Value::List(before), Value::List(after)) => return of_items(before, after),
        (Value::String(before), Value::String(after)) if after.len() as u64 >= SMALL => {
            after.strip_prefix(&**before).map(|suffix| Patch::Extend(suffix.into()))
        }
        _ => None,
    };
    match patch {
        Some(Patch::Extend(suffix)) if suffix.is_empty() => None,
        Some(patch) => Some(patch),
        None if before == after => None,
        None => Some(Patch::Set(after.clone())),
    }
}

fn of_fields(before: &Object, after: &Object, level: u32) -> Option<Patch> {
    let removed: Vec<Arc<str>> = before.keys().filter(|key| !after.contains_key(key)).cloned().collect();
    // A field keeps its place and a new one comes last: where that gives another order, the object is stored whole.
    let mut order = after.keys();
    if before.keys().filter(|key| after.contains_key(key)).any(|key| order.next() != Some(key)) {
        return Some(Patch::Set(Value::Object(after.clone())));
    }
    let changed = after.iter().filter_map(|(key, value)| {
        let patch = match before.get(key) {
            None => Patch::Set(value.clone()),
            Some(before) => difference(before, value, level + 1)?,
        };
        Some((key.clone(), patch))
    });
    let set: Vec<_> = changed.collect();
    (!removed.is_empty() || !set.is_empty()).then_some(Patch::Fields { removed, set })
}

fn of_items(before: &List, after: &List) -> Option<Patch> {
    let whole = || Some(Patch::Set(Value::List(after.clone())));
    let most = after.len() / 2;
    let mut edits = Vec::new();
    for (at, (old, new)) in before.iter().zip(after.iter()).enumerate() {
        if !old.same(new) && old != new {
            if edits.len() >= most {
                return whole();
            }
            edits.push(ListEdit::Replace(at, new.clone()));
        }
    }
    if before.len() > after.len() {
        if before.len() - after.len() > most {
            return whole();
        }
        edits.push(ListEdit::Remove((after.len()..before.len()).collect()));
    }
    edits.extend(after.iter_from(before.len()).cloned().map(ListEdit::Push));
    (!edits.is_empty()).then_some(Patch::Items(edits))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::value;

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::Int),
            any::<f64>().prop_filter("JSON has no NaN", |f| f.is_finite()).prop_map(Value::from),
            "[a-c]{0,3}".prop_map(Value::from),
            Just(Value::from("long ".repeat(200))),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::vec(("[a-e]", inner), 0..5).prop_map(|fields| {
                    Value::Object(fields.into_iter().map(|(k, v)| (Arc::<str>::from(k), v)).collect())
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_patch_gives_back_the_very_value(before in any_value(), after in any_value()) {
            let patch = difference(&before, &after, 0);
            let patched = patch.as_ref().map_or(Ok(before.clone()), |p| p.apply(&before)).unwrap();
            // As text, in which the order of fields counts.
            prop_assert_eq!(patched.to_string(), after.to_string());
            let json = serde_json::to_string(&patch).unwrap();
            prop_assert_eq!(serde_json::from_str::<Option<Patch>>(&json).unwrap(), patch);
        }
    }

    #[test]
    fn a_patch_holds_what_changed_and_no_more() {
        let text = "x".repeat(10_000);
        let files = |notes: u64| -> Value {
            let fields = (0..notes).map(|n| (format!("/{n}.md"), Value::from(&*text)));
            value!({"files": Value::Object(fields.map(|(k, v)| (Arc::<str>::from(k), v)).collect()), "n": notes})
        };
        let patch = Patch::between(&files(100), &files(101)).unwrap();
        assert!(patch.weight() < 10_200, "{}", patch.weight());
        let mut gone = files(100);
        if let Value::Object(fields) = &mut gone {
            fields.insert("files", value!({}));
        }
        assert!(Patch::between(&files(100), &gone).is_none(), "a small value is stored whole");
        let longer = Value::from(format!("{text}y"));
        assert_eq!(Patch::between(&Value::from(&*text), &longer), Some(Patch::Extend("y".into())));
        let list = |n: usize| Value::from((0..n).map(|i| value!({"text": text.as_str(), "n": i})).collect::<Vec<_>>());
        assert!(Patch::between(&list(50), &list(51)).unwrap().weight() < 10_200);
        assert!(Patch::between(&list(51), &list(50)).unwrap().weight() < 100);
        assert!(Patch::between(&list(50), &Value::from("y".repeat(10_000))).is_none());
    }

    #[test]
    fn the_stored_form_of_a_patch_does_not_change() {
        let json = r#"{"fields":{"removed":["a"],"set":[["b",{"extend":"x"}],["c",{"items":[{"replace":[0,1]}]}],["d",{"set":2}]]}}"#;
        let patch: Patch = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&patch).unwrap(), json);
        let after = patch.apply(&value!({"a": 1, "b": "-", "c": [0]})).unwrap();
        assert_eq!(after.to_string(), r#"{"b":"-x","c":[1],"d":2}"#);
        for misfit in [value!(1), value!({"b": 1}), value!({"b": "", "c": []})] {
            assert!(patch.apply(&misfit).is_err(), "{misfit}");
        }
    }
}
