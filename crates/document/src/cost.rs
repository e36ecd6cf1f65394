//! How much work a JSON Schema makes. A validator follows every reference each time it meets it, so that a schema of a few
//! lines can ask for more steps than anyone waits for: such a schema is refused, and so is a value that is too much for one.

use std::{collections::HashMap, fmt};

use runloom_engine::{List, Object, Value};

/// The most schemas that may apply to one place of a value.
const MOST_AT_ONCE: usize = 10_000;
/// How many schemas may stand behind each other at one place of a value.
const MOST_BEHIND: usize = 64;
/// The most steps that checking one value may take, where a schema has references.
const MOST_STEPS: usize = 1_000_000;
/// How deep schemas may apply within each other on the way into a value.
const MOST_WITHIN: usize = 800;

/// What a schema asks of a validator.
pub struct SchemaCost {
    root: Value,
    /// What `$anchor` and the like name.
    anchors: HashMap<String, Vec<Value>>,
    /// Without a reference the work is bounded by the schema and the value.
    has_references: bool,
}

impl fmt::Debug for SchemaCost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SchemaCost")
    }
}

/// Where schemas stand in a schema that apply to the same place of the value.
const HERE: [&str; 4] = ["not", "if", "then", "else"];
const HERE_LISTS: [&str; 3] = ["allOf", "anyOf", "oneOf"];
const HERE_MAPS: [&str; 2] = ["dependentSchemas", "dependencies"];
/// Those that apply to what is inside it.
const INSIDE: [&str; 7] = [
    "additionalProperties",
    "propertyNames",
    "items",
    "additionalItems",
    "contains",
    "unevaluatedItems",
    "unevaluatedProperties",
];
const INSIDE_LISTS: [&str; 2] = ["items", "prefixItems"];
const INSIDE_MAPS: [&str; 2] = ["properties", "patternProperties"];
/// Those that apply nowhere, and are referred to.
const KEPT: [&str; 2] = ["$defs", "definitions"];
const REFERENCES: [&str; 3] = ["$ref", "$dynamicRef", "$recursiveRef"];

impl SchemaCost {
    /// Looks at a schema. One that asks too much of every value is refused.
    pub fn of(schema: &Value) -> Result<Self, String> {
        let mut cost = Self { root: schema.clone(), anchors: HashMap::new(), has_references: false };
        let (mut ids, mut all) = (0, Vec::new());
        let mut open = vec![schema];
        while let Some(schema) = open.pop() {
            let Some(rules) = schema.as_object() else { continue };
            for key in ["$anchor", "$dynamicAnchor", "$id", "id"] {
                let Some(name) = rules.get(key).and_then(Value::as_str) else { continue };
                match name.strip_prefix('#') {
                    Some(name) => cost.anchors.entry(name.to_owned()).or_default().push(schema.clone()),
                    None if key.ends_with("id") => ids += 1,
                    None => cost.anchors.entry(name.to_owned()).or_default().push(schema.clone()),
                }
            }
            cost.has_references |= REFERENCES.iter().any(|key| rules.contains_key(key));
            all.push(schema);
            open.extend(here(schema));
            open.extend(inside(schema));
            let kept = KEPT.iter().filter_map(|key| rules.get(key)?.as_object());
            open.extend(kept.flat_map(|map| map.iter().map(|(_, schema)| schema)));
        }
        if !cost.has_references && !all.iter().any(|schema| repeats(schema) > 1) {
            return Ok(cost);
        }
        let is_named = |schema: &Value| schema.get_str("$id").or_else(|| schema.get_str("id")).is_some();
        if cost.has_references && ids > usize::from(is_named(schema)) {
            return Err("only its root may have an `$id`; name its parts under `$defs`, and refer to them by \
                        `#/$defs/…`"
                .to_owned());
        }
        let mut known = HashMap::new();
        for schema in all {
            cost.at_once(schema, 0, &mut known)?;
        }
        Ok(cost)
    }

    /// How many schemas apply to a place of a value to which this one does.
    fn at_once(
        &self,
        schema: &Value,
        behind: usize,
        known: &mut HashMap<*const Value, Option<(usize, usize)>>,
    ) -> Result<(usize, usize), String> {
        let at: *const Value = schema;
        match known.get(&at) {
            Some(Some(found)) => return Ok(*found),
            Some(None) => return Err("it refers to itself without going into the value".to_owned()),
            None if behind > MOST_BEHIND => return Err(too_far()),
            None => known.insert(at, None),
        };
        let (mut sum, mut longest) = (1_usize, 0);
        for next in here(schema).chain(self.referred(schema)?) {
            let (cost, length) = self.at_once(next, behind + 1, known)?;
            sum = sum.saturating_add(cost.saturating_mul(repeats(schema)));
            longest = longest.max(length + 1);
        }
        if longest > MOST_BEHIND {
            return Err(too_far());
        }
        if sum > MOST_AT_ONCE {
            return Err(format!(
                "its references come to more than {MOST_AT_ONCE} schemas for one value; refer to each part fewer times"
            ));
        }
        known.insert(at, Some((sum, longest)));
        Ok((sum, longest))
    }

    /// The schemas that a schema's references name.
    fn referred<'s>(&'s self, schema: &'s Value) -> Result<impl Iterator<Item = &'s Value>, String> {
        let mut found: Vec<&Value> = Vec::new();
        for key in REFERENCES {
            let Some(reference) = schema.get_str(key) else { continue };
            let (base, fragment) = reference.split_once('#').unwrap_or((reference, ""));
            let is_of_the_standard = |uri: &str| uri.contains("://json-schema.org/");
            if is_of_the_standard(base) && !self.root.get_str("$id").is_some_and(is_of_the_standard) {
                continue;
            }
            let fragment = unescaped(fragment);
            let named = self.anchors.get(&fragment).into_iter().flatten();
            let before = found.len();
            found.extend(named);
            if fragment.is_empty() || fragment.starts_with('/') {
                found.extend(pointed(&self.root, &fragment));
            }
            if found.len() == before {
                return Err(format!("the reference `{reference}` cannot be followed; write it as `#/$defs/…`"));
            }
        }
        Ok(found.into_iter())
    }

    /// Refuses a value that would take too long to check.
    pub fn check(&self, value: &Value) -> Result<(), String> {
        if !self.has_references {
            return Ok(());
        }
        let too_much = || {
            format!(
                "checking it would take more than {MOST_STEPS} steps, or go deeper than {MOST_WITHIN}: the schema applies \
                 too often to what is nested in it"
            )
        };
        let (mut left, mut open) = (MOST_STEPS, vec![(&self.root, value, 0)]);
        while let Some((schema, value, within)) = open.pop() {
            left = left.checked_sub(1).filter(|_| within <= MOST_WITHIN).ok_or_else(too_much)?;
            let mut add = |schema, value| open.push((schema, value, within + 1));
            for _ in 0..repeats(schema) {
                here(schema).chain(self.referred(schema)?).for_each(|next| add(next, value));
            }
            match value {
                Value::Object(fields) => within_object(schema, fields, add),
                Value::List(items) => within_list(schema, items, add),
                _ => {}
            }
            if open.len() > left {
                return Err(too_much());
            }
        }
        Ok(())
    }
}

/// The schemas that apply to what is in an object, each with what it applies to.
fn within_object<'s>(schema: &'s Value, fields: &'s Object, mut add: impl FnMut(&'s Value, &'s Value)) {
    let map = |key| schema.get(key).and_then(Value::as_object);
    for (key, next) in map("properties").into_iter().flat_map(Object::iter) {
        if let Some(field) = fields.get(key) {
            add(next, field);
        }
    }
    let patterns = map("patternProperties").into_iter().flat_map(|m| m.iter().map(|(_, next)| next));
    let rest = ["additionalProperties", "unevaluatedProperties"].iter().filter_map(|key| schema.get(key));
    for next in patterns.chain(rest) {
        fields.iter().for_each(|(_, field)| add(next, field));
    }
    if let Some(next) = schema.get("propertyNames") {
        fields.iter().for_each(|_| add(next, &Value::Null));
    }
}

/// The schemas that apply to what is in a list, each with what it applies to.
fn within_list<'s>(schema: &'s Value, items: &'s List, mut add: impl FnMut(&'s Value, &'s Value)) {
    for each in INSIDE_LISTS.iter().filter_map(|key| schema.get(key)?.as_list()) {
        each.iter().zip(items.iter()).for_each(|(next, item)| add(next, item));
    }
    let rest = ["items", "additionalItems", "contains", "unevaluatedItems"].iter().filter_map(|key| schema.get(key));
    for next in rest.filter(|next| next.as_object().is_some()) {
        items.iter().for_each(|item| add(next, item));
    }
}

fn too_far() -> String {
    format!("more than {MOST_BEHIND} of its schemas stand behind each other for one value")
}

/// How often a validator goes through what a schema applies at the same place: to know what is not evaluated, again.
fn repeats(schema: &Value) -> usize {
    let looks_again = ["unevaluatedProperties", "unevaluatedItems"].iter().any(|key| schema.get(key).is_some());
    if looks_again { 3 } else { 1 }
}

/// The schemas within one that apply to the same place of the value.
fn here(schema: &Value) -> impl Iterator<Item = &Value> {
    parts(schema, &HERE, &HERE_LISTS, &HERE_MAPS)
}

/// The schemas within one that apply further inside.
fn inside(schema: &Value) -> impl Iterator<Item = &Value> {
    parts(schema, &INSIDE, &INSIDE_LISTS, &INSIDE_MAPS)
}

fn parts<'s>(
    schema: &'s Value,
    own: &'static [&str],
    lists: &'static [&str],
    maps: &'static [&str],
) -> impl Iterator<Item = &'s Value> {
    let own = own.iter().filter_map(|key| schema.get(key));
    let lists = lists.iter().filter_map(|key| schema.get(key)?.as_list()).flat_map(|list| list.iter());
    let maps = maps.iter().filter_map(|key| schema.get(key)?.as_object());
    own.chain(lists).chain(maps.flat_map(|map| map.iter().map(|(_, schema)| schema)))
}

/// What a JSON pointer names.
fn pointed<'s>(root: &'s Value, pointer: &str) -> Option<&'s Value> {
    let mut at = root;
    for segment in pointer.split('/').skip(1) {
        let segment = segment.replace("~1", "/").replace("~0", "~");
        at = match at {
            Value::List(items) => items.get(segment.parse().ok()?)?,
            other => other.get(&segment)?,
        };
    }
    Some(at)
}

/// A fragment without its `%20`.
fn unescaped(fragment: &str) -> String {
    let mut bytes = Vec::with_capacity(fragment.len());
    let mut rest = fragment.as_bytes();
    while let [first, after @ ..] = rest {
        let code = match after {
            [a, b, ..] if *first == b'%' => {
                std::str::from_utf8(&[*a, *b]).ok().and_then(|h| u8::from_str_radix(h, 16).ok())
            }
            _ => None,
        };
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use runloom_engine::value;

    use super::*;
    use crate::schema::Schema;

    /// `d0`, which refers to `d1` twice, and so on.
    fn doubling(levels: usize, how: impl Fn(Value) -> Value) -> Value {
        let mut defs = Object::default();
        for level in 0..levels {
            let next = value!({"$ref": format!("#/$defs/d{}", level + 1)});
            defs.insert(format!("d{level}"), how(next));
        }
        defs.insert(format!("d{levels}"), value!({"type": "string"}));
        value!({"$ref": "#/$defs/d0", "$defs": Value::Object(defs)})
    }

    #[test]
    fn a_schema_that_grows_with_each_reference_is_refused() {
        for how in [
            |n: Value| value!({"anyOf": [n.clone(), n]}),
            |n: Value| value!({"allOf": [{"not": n.clone()}, {"if": n.clone(), "then": n}]}),
            |n: Value| value!({"dependentSchemas": {"a": n.clone(), "b": n}}),
        ] {
            let error = Schema::compile(&doubling(18, how)).unwrap_err();
            assert!(error.contains("more than 10000 schemas for one value"), "{error}");
            assert!(Schema::compile(&doubling(5, how)).is_ok());
        }
        let error = Schema::compile(&doubling(500, |n| n)).unwrap_err();
        assert!(error.contains("stand behind each other"), "{error}");
    }

    #[test]
    fn a_schema_that_looks_again_at_what_it_has_seen_is_counted_as_often() {
        let nest = |levels| {
            (0..levels).fold(value!({"type": "object"}), |s, _| value!({"allOf": [s], "unevaluatedProperties": false}))
        };
        assert!(Schema::compile(&nest(25)).is_err());
        assert!(Schema::compile(&nest(5)).is_ok());
    }

    #[test]
    fn a_schema_may_refer_to_itself_within_the_value_and_not_at_the_same_place() {
        let tree = value!({
            "$defs": {"node": {"type": "object", "properties": {"n": {"type": "integer"}, "in": {"items": {"$ref": "#/$defs/node"}}}}},
            "$ref": "#/$defs/node",
        });
        let schema = Schema::compile(&tree).unwrap();
        let deep = (0..50).fold(value!({"n": 1}), |v, _| value!({"n": 2, "in": [v.clone(), {"n": 3}]}));
        assert_eq!(schema.check(&deep), Ok(()));
        for round in [
            value!({"$ref": "#"}),
            value!({"anyOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"$ref": "#"}}}),
            value!({"$anchor": "me", "not": {"$ref": "#me"}}),
            value!({"$id": "http://x.test/s", "not": {"$ref": "http://x.test/s"}}),
        ] {
            let error = Schema::compile(&round).unwrap_err();
            assert!(error.contains("refers to itself without going into the value"), "{round}: {error}");
        }
    }

    #[test]
    fn a_value_that_a_schema_would_look_at_too_often_is_refused() {
        let schema = Schema::compile(&doubling(
            30,
            |n| value!({"anyOf": [{"properties": {"a": n.clone()}}, {"properties": {"a": n}}]}),
        ));
        let schema = schema.unwrap();
        let deep = |levels| (0..levels).fold(Value::from(5), |v, _| value!({"a": v}));
        assert!(schema.check(&deep(30)).unwrap_err().contains("more than 1000000 steps"));
        assert_eq!(schema.check(&deep(5)), Ok(()));
        let itself = value!({"anyOf": [{"items": {"$ref": "#"}}, {"items": {"$ref": "#"}}], "type": "array"});
        let schema = Schema::compile(&itself).unwrap();
        let deep = (0..60).fold(Value::from(5), |v, _| Value::from(vec![v]));
        assert!(schema.check(&deep).unwrap_err().contains("more than 1000000 steps"));
    }

    #[test]
    fn the_longest_way_that_is_allowed_is_gone_on_the_stack_of_a_worker() {
        let mut schema = value!({"type": "array", "items": {"$ref": "#"}});
        for _ in 0..4 {
            schema = value!({"allOf": [schema]});
        }
        let schema = Schema::compile(&schema).unwrap();
        let deep = |levels| (0..levels).fold(value!([]), |v, _| Value::from(vec![v]));
        assert_eq!(schema.check(&deep(120)), Ok(()));
        let schema = Schema::compile(
            &value!({"allOf": [{"allOf": [{"allOf": [{"allOf": [{"allOf": [{"items": {"$ref": "#"}}]}]}]}]}]}),
        )
        .unwrap();
        assert!(schema.check(&deep(120)).unwrap_err().contains("deeper than 800"));
    }

    #[test]
    fn what_cannot_be_followed_is_refused() {
        let parts = value!({"$id": "http://x.test/s", "$defs": {"a": {"$id": "http://x.test/a"}}, "$ref": "a"});
        let error = Schema::compile(&parts).unwrap_err();
        assert!(error.contains("only its root may have an `$id`"), "{error}");
        let named = value!({"$defs": {"a b": {"type": "string"}}, "$ref": "#/$defs/a%20b"});
        assert!(Schema::compile(&named).unwrap().check(&Value::from(5)).is_err());
        let standard = value!({"$ref": "https://json-schema.org/draft/2020-12/schema"});
        assert_eq!(Schema::compile(&standard).unwrap().check(&value!({"type": "string"})), Ok(()));
    }
}
