//! `Json` on the wire and the engine's values inside. Nothing here goes through a tree of another library.

use prost_types::value::Kind;
use runloom::{
    json::{JsonError, MAX_DEPTH, MAX_TREE_DEPTH, NotExact},
    v1::{Json, JsonEncoding, json::Encoding},
};
use runloom_engine::{Object, Value};

/// The largest integer that a double holds with all smaller ones.
const MAX_EXACT: u64 = 1 << 53;

/// Reads either encoding.
pub(crate) fn decode(json: Json) -> Result<Value, JsonError> {
    match json.encoding {
        None => Err(JsonError::Unset),
        Some(Encoding::Json(text)) => parse(&text),
        Some(Encoding::Value(tree)) => from_tree(tree, MAX_DEPTH),
    }
}

/// Reads text. serde_json stops where [`MAX_DEPTH`] does, and says so in its message only.
fn parse(text: &str) -> Result<Value, JsonError> {
    Value::parse(text).map_err(|error| {
        let message = error.to_string();
        if message.starts_with("recursion limit exceeded") { JsonError::TooDeep } else { JsonError::Invalid(message) }
    })
}

/// Reads a protobuf value; a whole double is an integer, as far as doubles are exact.
fn from_tree(tree: prost_types::Value, room: usize) -> Result<Value, JsonError> {
    let deeper = || room.checked_sub(1).ok_or(JsonError::TooDeep);
    Ok(match tree.kind.ok_or(JsonError::Unset)? {
        Kind::NullValue(_) => Value::Null,
        Kind::BoolValue(value) => Value::Bool(value),
        Kind::NumberValue(double) => from_double(double)?,
        Kind::StringValue(text) => Value::from(text),
        Kind::ListValue(list) => {
            let room = deeper()?;
            Value::List(list.values.into_iter().map(|item| from_tree(item, room)).collect::<Result<_, _>>()?)
        }
        Kind::StructValue(entries) => {
            let room = deeper()?;
            let fields = entries.fields.into_iter().map(|(key, value)| Ok((key, from_tree(value, room)?)));
            Value::Object(fields.collect::<Result<Object, _>>()?)
        }
    })
}

/// A double: an integer where it is whole, exact, and not the negative zero.
fn from_double(double: f64) -> Result<Value, JsonError> {
    if !double.is_finite() {
        return Err(JsonError::NotANumber(double.to_string()));
    }
    let is_whole = double.fract() == 0.0 && double.abs() <= MAX_EXACT as f64;
    let is_integer = is_whole && (double != 0.0 || double.is_sign_positive());
    Ok(if is_integer { Value::Int(double as i64) } else { Value::Float(double) })
}

/// Encodes a value as the request's `json_encoding` says.
pub(crate) fn encode(value: &Value, encoding: JsonEncoding) -> Result<Json, NotExact> {
    match encoding {
        JsonEncoding::Text => text(value),
        JsonEncoding::Value => fits(value).map(|()| tree_json(value)),
        JsonEncoding::Auto | JsonEncoding::Unspecified => match fits(value) {
            Ok(()) => Ok(tree_json(value)),
            Err(_) => text(value),
        },
    }
}

/// Encodes an object.
pub(crate) fn encode_object(fields: &Object, encoding: JsonEncoding) -> Result<Json, NotExact> {
    encode(&Value::Object(fields.clone()), encoding)
}

/// Text: exact, and cheap.
fn text(value: &Value) -> Result<Json, NotExact> {
    // What nests too deeply to be written does not come out of a graph; if it did, it is the depth that is said.
    serde_json::to_string(value).map(Json::from_text).map_err(|_| NotExact::Depth)
}

fn tree_json(value: &Value) -> Json {
    Json { encoding: Some(Encoding::Value(to_tree(value))) }
}

/// Whether a protobuf value holds it exactly. Looked at before one is built.
fn fits(value: &Value) -> Result<(), NotExact> {
    if value.depth() > MAX_TREE_DEPTH { Err(NotExact::Depth) } else { numbers_fit(value) }
}

fn numbers_fit(value: &Value) -> Result<(), NotExact> {
    match value {
        Value::Null | Value::Bool(_) | Value::String(_) => Ok(()),
        Value::Int(i) if i.unsigned_abs() <= MAX_EXACT => Ok(()),
        Value::Int(i) => Err(NotExact::Integer(i.to_string())),
        Value::UInt(u) => Err(NotExact::Integer(u.to_string())),
        Value::Float(f) if f.fract() != 0.0 => Ok(()),
        Value::Float(f) => Err(NotExact::Float(Value::Float(*f).to_string())),
        Value::List(items) => items.iter().try_for_each(numbers_fit),
        Value::Object(fields) => fields.iter().try_for_each(|(_, value)| numbers_fit(value)),
    }
}

/// Builds a protobuf value of one that [`fits`].
fn to_tree(value: &Value) -> prost_types::Value {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(*value),
        Value::Int(i) => Kind::NumberValue(*i as f64),
        Value::UInt(u) => Kind::NumberValue(*u as f64),
        Value::Float(f) => Kind::NumberValue(*f),
        Value::String(text) => Kind::StringValue(text.to_string()),
        Value::List(items) => Kind::ListValue(prost_types::ListValue { values: items.iter().map(to_tree).collect() }),
        Value::Object(fields) => Kind::StructValue(prost_types::Struct {
            fields: fields.iter().map(|(key, value)| (key.to_string(), to_tree(value))).collect(),
        }),
    };
    prost_types::Value { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            (-1000i64..1000).prop_map(Value::Int),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_filter("JSON has no others", |f| f.is_finite()).prop_map(Value::Float),
            Just(Value::Float(-0.0)),
            Just(Value::Float(1.0)),
            ".*".prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 64, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(|v| Value::List(v.into())),
                prop::collection::vec((".*", inner), 0..6).prop_map(|f| Value::Object(f.into_iter().collect())),
            ]
        })
    }

    /// Equal, and of the same kind: `1` is not `1.0`, `0.0` not `-0.0`. Trees do not keep the order of keys.
    fn same(a: &Value, b: &Value) -> bool {
        match (a, b) {
            (Value::Float(a), Value::Float(b)) => a.to_bits() == b.to_bits(),
            (Value::List(a), Value::List(b)) => a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| same(a, b)),
            (Value::Object(a), Value::Object(b)) => {
                a.len() == b.len() && a.iter().all(|(k, a)| b.get(k).is_some_and(|b| same(a, b)))
            }
            (Value::Float(_), _) | (_, Value::Float(_)) => false,
            (a, b) => a == b,
        }
    }

    proptest! {
        #[test]
        fn what_goes_out_comes_back(value in any_value()) {
            for encoding in [JsonEncoding::Auto, JsonEncoding::Text, JsonEncoding::Unspecified] {
                let back = decode(encode(&value, encoding).unwrap()).unwrap();
                prop_assert!(same(&value, &back), "{encoding:?}: {value} came back as {back}");
            }
            match encode(&value, JsonEncoding::Value) {
                Ok(json) => {
                    prop_assert!(matches!(json.encoding, Some(Encoding::Value(_))));
                    prop_assert!(same(&value, &decode(json).unwrap()));
                }
                Err(_) => {
                    let auto = encode(&value, JsonEncoding::Auto).unwrap();
                    prop_assert!(matches!(auto.encoding, Some(Encoding::Json(_))), "a tree that VALUE refuses");
                }
            }
        }

        /// The contract's own reader of these rules agrees, on both sides.
        #[test]
        fn clients_read_the_same(value in any_value()) {
            let plain = value.to_json();
            for encoding in [JsonEncoding::Auto, JsonEncoding::Text, JsonEncoding::Value] {
                let Ok(json) = encode(&value, encoding) else {
                    prop_assert!(Json::encode(&plain, encoding).is_err());
                    continue;
                };
                prop_assert_eq!(&json.decode().unwrap(), &plain);
                prop_assert_eq!(Json::encode(&plain, encoding).unwrap().encoding.is_some(), true);
            }
        }
    }

    #[test]
    fn depth_is_bounded_both_ways() {
        let nested = |depth| (0..depth).fold(Value::Int(1), |inner, _| Value::from(vec![inner]));
        for (depth, is_tree) in [(30, true), (31, false), (127, false)] {
            let json = encode(&nested(depth), JsonEncoding::Auto).unwrap();
            assert_eq!(matches!(json.encoding, Some(Encoding::Value(_))), is_tree, "{depth}");
            assert_eq!(decode(json).unwrap(), nested(depth));
        }
        assert_eq!(encode(&nested(31), JsonEncoding::Value), Err(NotExact::Depth));
        for depth in [128, 100_000] {
            let text = "[".repeat(depth) + &"]".repeat(depth);
            assert_eq!(decode(Json::from_text(text)), Err(JsonError::TooDeep));
        }
    }

    #[test]
    fn numbers_of_trees_are_integers_where_they_can_be() {
        let number = |double| {
            decode(Json {
                encoding: Some(Encoding::Value(prost_types::Value { kind: Some(Kind::NumberValue(double)) })),
            })
        };
        assert_eq!(number(3.0), Ok(Value::Int(3)));
        assert_eq!(number(-9_007_199_254_740_992.0), Ok(Value::Int(-9_007_199_254_740_992)));
        assert_eq!(number(1e18), Ok(Value::Float(1e18)));
        assert!(matches!(number(f64::NAN), Err(JsonError::NotANumber(_))));
        assert_eq!(decode(Json::default()), Err(JsonError::Unset));
    }

    #[test]
    fn a_fault_says_where() {
        let Err(JsonError::Invalid(message)) = decode(Json::from_text("{\"a\":\n  tru}")) else { panic!() };
        assert!(message.contains("line 2 column 6"), "{message}");
    }
}
