//! The evaluation against the one of the `cel` crate: on what both take, both come to the same.

use cel::{Context, Program, objects::Key};
use proptest::prelude::*;
use runloom_engine::{Object, Value, value};

use super::*;

/// What the peer makes of an expression over the same state.
fn peer(source: &str, over: &Value) -> Result<Value, String> {
    let program = Program::compile(source).map_err(|e| e.to_string())?;
    let mut context = Context::default();
    context.add_variable_from_value("state", to_peer(over));
    context.add_variable_from_value("x", 7);
    from_peer(program.execute(&context).map_err(|e| e.to_string())?)
}

fn to_peer(v: &Value) -> cel::Value {
    match v {
        Value::Null => cel::Value::Null,
        Value::Bool(b) => (*b).into(),
        Value::Int(i) => (*i).into(),
        Value::UInt(u) => (*u).into(),
        Value::Float(f) => (*f).into(),
        Value::String(s) => (&**s).into(),
        Value::List(items) => items.iter().map(to_peer).collect::<Vec<_>>().into(),
        Value::Object(o) => {
            o.iter().map(|(k, v)| (Key::from(&**k), to_peer(v))).collect::<std::collections::HashMap<_, _>>().into()
        }
    }
}

/// Keys are sorted, since the peer's maps have no order. What JSON cannot hold is an error.
fn from_peer(v: cel::Value) -> Result<Value, String> {
    Ok(match v {
        cel::Value::Null => Value::Null,
        cel::Value::Bool(b) => b.into(),
        cel::Value::Int(i) => i.into(),
        cel::Value::UInt(u) => u.into(),
        cel::Value::Float(f) if f.is_finite() => Value::Float(f),
        cel::Value::String(s) => s.as_str().into(),
        cel::Value::List(items) => {
            Value::List(items.iter().cloned().map(from_peer).collect::<Result<Vec<_>, _>>()?.into())
        }
        cel::Value::Map(map) => {
            let mut fields = Vec::new();
            for (key, value) in map.map.iter() {
                let Key::String(key) = key else { return Err("a key that is no text".to_owned()) };
                fields.push((key.to_string(), from_peer(value.clone())?));
            }
            fields.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(fields.into_iter().collect())
        }
        other => return Err(format!("{other:?}")),
    })
}

fn sorted(v: &Value) -> Value {
    match v {
        Value::List(items) => Value::List(items.iter().map(sorted).collect()),
        Value::Object(o) => {
            let mut fields: Vec<_> = o.iter().map(|(k, v)| (k.clone(), sorted(v))).collect();
            fields.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(fields.into_iter().collect::<Object>())
        }
        other => other.clone(),
    }
}

/// What the peer takes and the language's specification does not.
const STRICTER: &[&str] = &["`+` does not take a list and an object"];

/// Where both come to a value it is the same one, and neither fails where the other does not.
fn agree(source: &str, over: &Value) -> Result<(), String> {
    let x = [(Arc::from("x"), Value::Int(7))];
    let ours = compile_with(source, &["x"]).map_err(|f| f.message);
    let ours = ours.and_then(|expr| run_with(&expr, &state(over.clone()), &x));
    let ours = ours.map(|(v, _)| sorted(&v).to_string());
    let theirs = peer(source, over).map(|v| v.to_string());
    match (&ours, &theirs) {
        (Ok(a), Ok(b)) if a == b => Ok(()),
        (Err(_), Err(_)) => Ok(()),
        (Err(ours), Ok(_)) if STRICTER.iter().any(|s| ours.contains(s)) => Ok(()),
        _ => Err(format!("{source}\n  ours:   {ours:?}\n  theirs: {theirs:?}")),
    }
}

fn over() -> Value {
    value!({
        "n": 3, "f": 2.5, "s": "héllo", "t": true, "nil": null, "list": [1, 2, 3], "words": ["a", "bb", "a"],
        "o": {"a": {"c": [4, 5.5]}}, "mixed": [1, "a", null, 2.0, [1], {"a": 1}]
    })
}

#[test]
fn both_read_the_literals_alike() {
    for source in [
        "0xFF",
        "-0x10",
        "1.5e-3",
        ".5",
        "'\\a\\b\\f\\n\\r\\t\\v\\\\\\?\\'\\\"\\`'",
        "'\\101\\x41\\u0041\\U00000041'",
        "r'a\\nb'",
        "'''a'b\"\"c'''",
        "\"\"\"a\nb\"\"\"",
        "R\"\\d\"",
        "-9223372036854775808",
        "9223372036854775808",
        "007",
        "[1, 2, ]",
        "{'a': 1, }",
        "{}",
        "[]",
        "a",
        "1 < 2 == true",
        "1 == 1 == true",
        "!true == false",
        "-1 + 2",
        "2 - -2",
        "true ? 1 : false ? 2 : 3",
        "(true ? false : true) ? 1 : 2",
        "1 + 2 * 3 % 4 - 5 / 2",
        "1 in [1] && 2 in [2]",
        "[1,2,3][1]",
        "{'a': {'b': 1}}.a.b",
        "has({'a': 1}.a)",
        "has({'a': 1}.b)",
        "{'a': 1}.a == 1 ? 'y' : 'n'",
        "string(1.0)",
        "string(1e20)",
        "string(0.1)",
        "string(-0.0)",
        "string(1e300)",
        "int('+5')",
        "int(' 5')",
        "int(-1.9)",
        "double('1e3')",
        "double('x')",
        "int(true)",
        "double(true)",
        "bool('yes')",
        "bool(1)",
        "string(null)",
        "uint(1.5)",
        "size('')",
        "size({'a': 1})",
        "'a'.matches('b')",
        "[1.0, 2][0] == 1",
        "{'a': 1} == {'a': 1.0}",
        "1 == true",
        "null == false",
        "[null] == [null]",
        "null < null",
        "'a' < 1",
        "[1] < [2]",
        "true && 1",
        "1 || true",
        "false || 1",
        "[1, 2][1.0]",
        "[1, 2][0.5]",
        "[1, 2]['0']",
        "{'a': 1}[0]",
        "1.0 % 2.0",
        "5 / 0",
        "5 % 0",
        "-(-9223372036854775808)",
        "type(1) == int",
        "type('') == string",
        "type(null) == null_type",
        "type(1) == double",
        "1 in {'a': 1}",
        "[1, 2, 3].map(x, x > 1, x + 1)",
        "[1, 2].exists_one(x, x == 1)",
        "{'a': 1}.all(k, k == 'a')",
        "'abc'.all(c, true)",
        "[[1]].map(x, x.map(y, y))",
        "[1].map(x, [2].map(x, x))",
        "[1, 2].existsOne(x, x > 5)",
    ] {
        agree(source, &over()).unwrap_or_else(|e| panic!("{e}"));
    }
}

/// An expression of a random shape over [`over`]. Its maps have one key, since the peer goes through more in no order.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "0",
        "1",
        "2",
        "-3",
        "9223372036854775807",
        "1.5",
        "-0.5",
        "1e10",
        "true",
        "false",
        "null",
        "'a'",
        "'héllo'",
        "''",
        "[]",
        "[1, 2.0]",
        "{}",
        "{'a': 1}",
        "state.n",
        "state.f",
        "state.s",
        "state.t",
        "state.nil",
        "state.list",
        "state.words",
        "state.o",
        "state.o.a.c",
        "state.mixed",
        "state.no",
        "state.list[0]",
        "state.o['a']",
        "x",
    ])
    .prop_map(str::to_owned);
    leaf.prop_recursive(5, 40, 3, |inner| {
        let two = (inner.clone(), inner.clone());
        let ops = vec!["+", "-", "*", "/", "%", "==", "!=", "<", "<=", ">", ">=", "&&", "||", "in"];
        let calls = vec!["size", "string", "int", "double", "bool", "dyn"];
        let methods = vec!["contains", "startsWith", "endsWith"];
        let macros = vec!["map", "filter", "all", "exists", "exists_one"];
        prop_oneof![
            4 => (two.clone(), prop::sample::select(ops)).prop_map(|((a, b), op)| format!("({a} {op} {b})")),
            1 => inner.clone().prop_map(|a| format!("!({a})")),
            1 => inner.clone().prop_map(|a| format!("-({a})")),
            1 => (inner.clone(), prop::sample::select(calls)).prop_map(|(a, f)| format!("{f}({a})")),
            1 => (two.clone(), prop::sample::select(methods)).prop_map(|((a, b), f)| format!("({a}).{f}({b})")),
            1 => (inner.clone(), two.clone()).prop_map(|(a, (b, c))| format!("({a} ? {b} : {c})")),
            1 => two.clone().prop_map(|(a, b)| format!("({a})[{b}]")),
            1 => two.clone().prop_map(|(a, b)| format!("[{a}, {b}]")),
            1 => inner.clone().prop_map(|a| format!("{{'p': {a}}}")),
            2 => (two, prop::sample::select(macros)).prop_map(|((a, b), m)| format!("({a}).{m}(x, {b})")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_evaluate_alike(source in expression()) {
        agree(&source, &over()).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn a_value_goes_through_an_expression_unchanged(v in json()) {
        let over = state(Value::Object([("v", v.clone())].into_iter().collect()));
        prop_assert_eq!(run("state.v", &over).unwrap().0.to_string(), v.to_string());
        prop_assert_eq!(run("[state.v][0]", &over).unwrap().0.to_string(), v.to_string());
        prop_assert_eq!(run("{'k': [state.v]}.k.map(x, x)[0]", &over).unwrap().0.to_string(), v.to_string());
        prop_assert_eq!(run("state.v == {'k': state.v}.k", &over).unwrap().0, Value::Bool(true));
    }
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_filter("finite", |f| f.is_finite()).prop_map(Value::Float),
        "\\PC{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("[a-z]{1,4}", inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}
