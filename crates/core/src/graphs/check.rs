//! Whether a JSON value fits a schema: every place where it does not, and numbers taken as the schema says.

use runloom_document::SchemaCost;
use runloom_engine::Value;
use runloom_schema::Schema;

use crate::{Error, Reason, Result};

/// A wrong place: its path, and what is wrong with it.
pub(crate) type Fault = (String, String);

/// The most faults that one error names.
const MOST: usize = 50;

/// A schema, compiled.
pub(crate) struct Check {
    schema: Value,
    compiled: Schema,
    cost: SchemaCost,
    /// Whether the schema speaks of integers at all.
    has_integers: bool,
}

impl Check {
    /// Compiles a schema. `place` names it in the error.
    pub fn new(schema: &Value, graph: &str, place: &str) -> Result<Self> {
        let unusable = |fault: String| {
            let what = format!("is not a JSON Schema that can be used: {fault}");
            let mut error = Error::new(Reason::GraphInvalid, format!("graph `{graph}`: {place} {what}"));
            error.fields.push((place.to_owned(), what));
            error.with("graph", graph)
        };
        let compiled = Schema::compile(&schema.to_json()).map_err(|error| unusable(error.message))?;
        let cost = SchemaCost::of(schema).map_err(unusable)?;
        Ok(Self { has_integers: schema.to_string().contains("\"integer\""), schema: schema.clone(), compiled, cost })
    }

    /// The value with its numbers as the schema has them: an integral double is an integer where it says so.
    pub fn fit(&self, value: &Value) -> Value {
        if !self.has_integers {
            return value.clone();
        }
        Fit { root: &self.schema, left: 1_000_000 }.fit(&self.schema, value, 0).unwrap_or_else(|| value.clone())
    }

    /// Adds every place in which a value does not fit. `is_part` says that it is merged into what is there, so that
    /// what it lacks is no fault.
    pub fn faults(&self, path: &str, value: &Value, is_part: bool, faults: &mut Vec<Fault>) {
        if let Err(what) = self.cost.check(value) {
            faults.push((path.to_owned(), what));
            return;
        }
        let json = value.to_json();
        for violation in self.compiled.violations(&json, MOST + 1) {
            if faults.len() >= MOST {
                return;
            }
            if !(is_part && violation.is_missing && violation.path.is_empty()) {
                faults.push((format!("{path}{}", dotted(&violation.path)), violation.message));
            }
        }
    }
}

/// Whether an answer matches the schema of its question, for the engine: see [`runloom_engine::graph::AnswerCheck`].
pub(crate) fn check_answer(schema: &Value, answer: &Value) -> std::result::Result<(), String> {
    let faults = answer_faults("", schema, answer);
    let text = |(path, what): &Fault| match path.trim_start_matches('.') {
        "" => what.clone(),
        path => format!("{path}: {what}"),
    };
    if faults.is_empty() { Ok(()) } else { Err(faults.iter().map(text).collect::<Vec<_>>().join("; ")) }
}

/// Where an answer does not match the schema of its question. A schema that cannot be used accepts all.
pub(crate) fn answer_faults(path: &str, schema: &Value, answer: &Value) -> Vec<Fault> {
    let mut faults = Vec::new();
    if let Ok(check) = Check::new(schema, "", "response_schema") {
        check.faults(path, answer, false, &mut faults);
    }
    faults
}

/// A JSON pointer as people write paths: `/a/0/b` is `.a[0].b`.
fn dotted(pointer: &str) -> String {
    let mut path = String::new();
    for segment in pointer.split('/').skip(1) {
        let segment = segment.replace("~1", "/").replace("~0", "~");
        if !segment.is_empty() && segment.bytes().all(|b| b.is_ascii_digit()) {
            path.push_str(&format!("[{segment}]"));
        } else {
            path.push('.');
            path.push_str(&segment);
        }
    }
    path
}

/// Takes numbers as a schema has them.
struct Fit<'s> {
    root: &'s Value,
    /// How many more places may be looked at: a schema that refers to itself could ask for any number.
    left: usize,
}

impl<'s> Fit<'s> {
    /// The value changed, where it has to be. `hops` counts the schemas looked at without going into the value.
    fn fit(&mut self, schema: &'s Value, value: &Value, hops: u8) -> Option<Value> {
        let rules = schema.as_object()?;
        self.left = self.left.checked_sub(1)?;
        if hops > 32 || !matches!(value, Value::Float(_) | Value::List(_) | Value::Object(_)) {
            return None;
        }
        if let Value::Float(number) = value
            && says(schema, "integer")
            && !says(schema, "number")
        {
            return integer(*number);
        }
        let reference = rules.get("$ref").and_then(Value::as_str);
        let mut beside: Vec<&Value> = reference.and_then(|at| referred(self.root, at)).into_iter().collect();
        for key in ["allOf", "anyOf", "oneOf"] {
            let Some(all) = rules.get(key).and_then(Value::as_list) else { continue };
            // Where one of several says `number`, a double is what was meant.
            if key == "allOf" || !matches!(value, Value::Float(_)) || !all.iter().any(|s| says(s, "number")) {
                beside.extend(all.iter());
            }
        }
        let mut changed: Option<Value> = None;
        for schema in beside {
            changed = self.fit(schema, changed.as_ref().unwrap_or(value), hops + 1).or(changed);
        }
        let inner = match changed.as_ref().unwrap_or(value) {
            Value::Object(fields) => {
                let mut new = fields.clone();
                let properties = rules.get("properties");
                for (key, field) in fields.iter() {
                    let own = properties.and_then(|p| p.get(key)).or_else(|| rules.get("additionalProperties"));
                    if let Some(fitted) = own.and_then(|schema| self.fit(schema, field, 0)) {
                        new.insert(key.clone(), fitted);
                    }
                }
                (!new.same(fields)).then(|| Value::Object(new))
            }
            Value::List(items) => {
                let mut new = items.clone();
                let first = rules.get("prefixItems").and_then(Value::as_list);
                for (at, item) in items.iter().enumerate() {
                    let own = first.and_then(|first| first.get(at)).or_else(|| rules.get("items"));
                    if let Some(fitted) = own.and_then(|schema| self.fit(schema, item, 0)) {
                        new.set(at, fitted);
                    }
                }
                (!new.same(items)).then(|| Value::List(new))
            }
            _ => None,
        };
        inner.or(changed)
    }
}

/// Whether a schema's `type` is, or may be, this one.
fn says(schema: &Value, kind: &str) -> bool {
    match schema.get("type") {
        Some(Value::String(one)) => &**one == kind,
        Some(Value::List(several)) => several.iter().any(|t| t.as_str() == Some(kind)),
        _ => false,
    }
}

/// An integral double as an integer of 64 bits.
fn integer(number: f64) -> Option<Value> {
    if number.fract() != 0.0 {
        return None;
    }
    // Both bounds are powers of two, which a double holds exactly.
    if (-(2f64.powi(63))..2f64.powi(63)).contains(&number) {
        return Some(Value::Int(number as i64));
    }
    (0.0..2f64.powi(64)).contains(&number).then(|| Value::from(number as u64))
}

/// The part of a schema that a local reference names.
fn referred<'s>(root: &'s Value, reference: &str) -> Option<&'s Value> {
    let mut at = root;
    for segment in reference.strip_prefix('#')?.split('/').skip(1) {
        let segment = segment.replace("~1", "/").replace("~0", "~");
        at = match at {
            Value::List(items) => items.get(segment.parse().ok()?)?,
            other => other.get(&segment)?,
        };
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use runloom_engine::value;

    use super::*;

    fn check(schema: Value) -> Check {
        Check::new(&schema, "g", "state.c.schema").unwrap()
    }

    #[test]
    fn integral_doubles_are_integers_where_the_schema_says_so_and_nowhere_else() {
        let schema = check(value!({
            "$defs": {"node": {"type": "object", "properties": {"n": {"type": "integer"}, "next": {"$ref": "#/$defs/node"}}}},
            "type": "object",
            "properties": {
                "tree": {"$ref": "#/$defs/node"},
                "either": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
                "number": {"anyOf": [{"type": "integer"}, {"type": "number"}]},
                "list": {"type": "array", "prefixItems": [{"type": "number"}], "items": {"type": "integer"}},
            },
            "additionalProperties": {"type": ["integer", "string"]},
        }));
        let given = value!({
            "tree": {"n": 1.0, "next": {"n": 2.0, "x": 3.0}}, "either": 4.0, "number": 5.0, "list": [6.0, 7.0, 8.5], "more": 9.0,
        });
        let fitted = value!({
            "tree": {"n": 1, "next": {"n": 2, "x": 3.0}}, "either": 4, "number": 5.0, "list": [6.0, 7, 8.5], "more": 9,
        });
        assert_eq!(schema.fit(&given), fitted);
        assert_eq!(check(value!({"type": "integer"})).fit(&Value::Float(2f64.powi(63))), Value::UInt(1 << 63));
        assert_eq!(check(value!({"type": "integer"})).fit(&Value::Float(1e300)), Value::Float(1e300));
        let round = value!({"items": {"$ref": "#"}, "x": "\"integer\""});
        assert_eq!(check(round).fit(&value!([1.0])), value!([1.0]));
    }

    #[test]
    fn every_fault_is_named_with_its_path_and_without_a_long_value() {
        let schema = check(value!({
            "type": "object", "required": ["a"], "properties": {"b": {"items": {"type": "integer"}}, "c": {"type": "string"}},
        }));
        let mut faults = Vec::new();
        let given = value!({"b": [1, "x", {"long": "y".repeat(1000)}], "c": 3});
        schema.faults("input.c", &given, false, &mut faults);
        let paths: Vec<&str> = faults.iter().map(|(path, _)| &**path).collect();
        assert!(
            ["input.c", "input.c.b[1]", "input.c.b[2]", "input.c.c"].iter().all(|p| paths.contains(p)),
            "{faults:?}"
        );
        assert!(faults.iter().all(|(_, what)| what.len() < 200), "{faults:?}");
        faults.clear();
        schema.faults("input.c", &value!({}), true, &mut faults);
        assert_eq!(faults, []);
    }

    #[test]
    fn what_would_take_too_long_is_a_fault_of_the_value_or_of_the_graph() {
        let twice = value!({"anyOf": [{"items": {"$ref": "#"}}, {"items": {"$ref": "#"}}]});
        let deep = (0..40).fold(Value::from(5), |v, _| Value::from(vec![v]));
        let mut faults = Vec::new();
        check(twice).faults("input.c", &deep, false, &mut faults);
        assert!(faults.len() == 1 && faults[0].0 == "input.c" && faults[0].1.contains("steps"), "{faults:?}");
        let error = Check::new(&value!({"not": {"$ref": "#"}}), "g", "state.n.schema").err().unwrap();
        assert_eq!((error.reason, &*error.fields[0].0), (Reason::GraphInvalid, "state.n.schema"));
    }

    #[test]
    fn what_is_no_schema_is_an_error_of_the_graph() {
        let error = Check::new(&value!({"type": "intger"}), "g", "state.n.schema").err().unwrap();
        assert_eq!((error.reason, &*error.fields[0].0), (Reason::GraphInvalid, "state.n.schema"));
    }
}
