//! The JSON of a graph's state: a tree whose every part is shared, so that a copy of any of it costs one reference.

mod collections;
mod de;
mod ser;

use std::{fmt, sync::Arc};

pub use collections::{List, Object};
pub use de::from_value;
pub use ser::to_value;

/// How deep a value may nest: as deep as serde_json reads it back. Deeper ones are refused where they enter: reading and
/// freeing them recurses.
pub const MAX_DEPTH: usize = 127;

/// How much deeper what is kept and told may be: a value that is as deep as it may be, within what wraps it.
pub(crate) const MAX_WRAPPED: usize = MAX_DEPTH + 32;

/// How heavy a channel's value may get, in bytes of JSON: 256 MiB. Parts are shared, so a graph that doubles a value at
/// each step would otherwise hold one that no disk could.
pub const MAX_WEIGHT: u64 = 256 << 20;

/// A JSON value. `clone` is cheap at any size: lists, objects and strings are shared, and copied only by a write to a
/// part that somebody else still holds.
///
/// Numbers keep what they were: integers of 64 bits, signed or not, are never turned into floats.
#[derive(Clone, Default, PartialEq)]
pub enum Value {
    /// `null`
    #[default]
    Null,
    /// `true` or `false`
    Bool(bool),
    /// An integer that fits 64 signed bits.
    Int(i64),
    /// An integer past `i64::MAX`.
    UInt(u64),
    /// A number with a fraction or an exponent.
    Float(f64),
    /// A text.
    String(Arc<str>),
    /// A list.
    List(List),
    /// An object; its keys keep their order.
    Object(Object),
}

impl Value {
    /// Reads JSON text. Deeper than [`MAX_DEPTH`] is an error.
    pub fn parse(json: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(json)
    }

    /// A text.
    pub fn string(text: impl AsRef<str>) -> Self {
        Self::String(Arc::from(text.as_ref()))
    }

    /// An empty object.
    pub fn object() -> Self {
        Self::Object(Object::default())
    }

    /// True for `null`.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(s) = self { Some(s) } else { None }
    }

    /// The boolean, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(b) = self { Some(*b) } else { None }
    }

    /// The integer, if it is one of 64 signed bits.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Int(i) => Some(*i),
            Self::UInt(u) => i64::try_from(*u).ok(),
            _ => None,
        }
    }

    /// The integer, if it is one and not negative.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Int(i) => u64::try_from(*i).ok(),
            Self::UInt(u) => Some(*u),
            _ => None,
        }
    }

    /// Any number, as a float.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Int(i) => Some(*i as f64),
            Self::UInt(u) => Some(*u as f64),
            Self::Float(f) => Some(*f),
            _ => None,
        }
    }

    /// The list, if it is one.
    pub fn as_list(&self) -> Option<&List> {
        if let Self::List(l) = self { Some(l) } else { None }
    }

    /// The object, if it is one.
    pub fn as_object(&self) -> Option<&Object> {
        if let Self::Object(o) = self { Some(o) } else { None }
    }

    /// A field of an object; `None` where this is no object or lacks it.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.as_object()?.get(key)
    }

    /// A text field of an object.
    pub fn get_str(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }

    /// How many levels of lists and objects this holds: 0 for a scalar. Costs nothing: collections know theirs.
    pub fn depth(&self) -> usize {
        match self {
            Self::List(l) => l.depth(),
            Self::Object(o) => o.depth(),
            _ => 0,
        }
    }

    /// About how many bytes its JSON has. Costs nothing: collections know theirs. A value that holds the same part many
    /// times is as heavy as its JSON would be, however little memory it takes.
    pub fn weight(&self) -> u64 {
        match self {
            Self::String(s) => s.len() as u64 + 2,
            Self::List(l) => l.weight(),
            Self::Object(o) => o.weight(),
            _ => 8,
        }
    }

    /// The kind, as an error names it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Int(_) | Self::UInt(_) => "an integer",
            Self::Float(_) => "a number",
            Self::String(_) => "a string",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        }
    }

    /// True where both are the very same shared list, object or text: equality without a look inside.
    pub fn same(&self, other: &Value) -> bool {
        match (self, other) {
            (Self::String(a), Self::String(b)) => Arc::ptr_eq(a, b),
            (Self::List(a), Self::List(b)) => a.same(b),
            (Self::Object(a), Self::Object(b)) => a.same(b),
            _ => false,
        }
    }

    /// An estimate of the bytes of its JSON, for limits and statistics.
    pub fn json_len(&self) -> usize {
        serde_json::to_vec(self).map_or(0, |bytes| bytes.len())
    }

    /// The same as a `serde_json::Value`: a deep copy, for libraries that ask for one.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Null => serde_json::Value::Null,
            Self::Bool(b) => (*b).into(),
            Self::Int(i) => (*i).into(),
            Self::UInt(u) => (*u).into(),
            Self::Float(f) => (*f).into(),
            Self::String(s) => serde_json::Value::String(s.to_string()),
            Self::List(l) => l.iter().map(Self::to_json).collect(),
            Self::Object(o) => serde_json::Value::Object(o.iter().map(|(k, v)| (k.to_string(), v.to_json())).collect()),
        }
    }
}

impl fmt::Display for Value {
    /// Compact JSON.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match serde_json::to_string(self) {
            Ok(json) => f.write_str(&json),
            Err(_) => write!(f, "(a value nested deeper than {MAX_WRAPPED})"),
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<serde_json::Value> for Value {
    fn from(json: serde_json::Value) -> Self {
        match json {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(b) => Self::Bool(b),
            serde_json::Value::Number(n) => match (n.as_i64(), n.as_u64()) {
                (Some(i), _) => Self::Int(i),
                (None, Some(u)) => Self::UInt(u),
                (None, None) => n.as_f64().map_or(Self::Null, Self::Float),
            },
            serde_json::Value::String(s) => Self::String(s.into()),
            serde_json::Value::Array(items) => Self::List(items.into_iter().map(Self::from).collect()),
            serde_json::Value::Object(fields) => {
                Self::Object(fields.into_iter().map(|(k, v)| (Arc::from(k), Self::from(v))).collect())
            }
        }
    }
}

impl From<&serde_json::Value> for Value {
    fn from(json: &serde_json::Value) -> Self {
        json.clone().into()
    }
}

macro_rules! from {
    ($($from:ty => |$v:ident| $make:expr),* $(,)?) => { $(impl From<$from> for Value {
        fn from($v: $from) -> Self { $make }
    })* };
}

from! {
    bool => |v| Self::Bool(v),
    i64 => |v| Self::Int(v),
    i32 => |v| Self::Int(v.into()),
    u32 => |v| Self::Int(v.into()),
    u64 => |v| i64::try_from(v).map_or(Self::UInt(v), Self::Int),
    usize => |v| Self::from(v as u64),
    f64 => |v| if v.is_finite() { Self::Float(v) } else { Self::Null },
    &str => |v| Self::string(v),
    String => |v| Self::String(v.into()),
    Arc<str> => |v| Self::String(v),
    &Arc<str> => |v| Self::String(v.clone()),
    List => |v| Self::List(v),
    Object => |v| Self::Object(v),
    () => |_v| Self::Null,
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(items: Vec<T>) -> Self {
        Self::List(items.into_iter().map(Into::into).collect())
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// Builds a [`Value`] as `serde_json::json!` builds its own.
#[macro_export]
macro_rules! value {
    ($($json:tt)+) => { $crate::Value::from($crate::__json!($($json)+)) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_out_as_they_went_in() {
        for text in ["9223372036854775807", "18446744073709551615", "-9223372036854775808", "1.0", "1e300", "0.1"] {
            let v = Value::parse(text).unwrap();
            assert_eq!(Value::parse(&v.to_string()).unwrap(), v, "{text}");
        }
        assert_eq!(Value::parse("1.0").unwrap().to_string(), "1.0");
        assert_eq!(Value::parse("18446744073709551615").unwrap().to_string(), "18446744073709551615");
    }

    #[test]
    fn a_depth_past_the_limit_is_an_error_both_ways() {
        let deep = "[".repeat(10_000) + &"]".repeat(10_000);
        assert!(Value::parse(&deep).unwrap_err().to_string().contains("recursion"));
        let mut v = Value::Null;
        for _ in 0..MAX_WRAPPED + 1 {
            v = Value::from(vec![v]);
        }
        assert_eq!(v.depth(), MAX_WRAPPED + 1);
        assert!(serde_json::to_string(&v).unwrap_err().to_string().contains("deeper"));
    }

    #[test]
    fn a_weight_is_about_the_length_of_the_json_and_changes_with_it() {
        let mut v = value!({"a": [1, "two", {"b": null}], "c": "text"});
        let near = |v: &Value| {
            let (weight, length) = (v.weight() as f64, v.to_string().len() as f64);
            assert!(weight < length * 3.0 + 16.0 && weight * 3.0 > length, "{weight} {length}");
        };
        near(&v);
        let before = v.weight();
        let Value::Object(o) = &mut v else { unreachable!() };
        o.insert("d", "x".repeat(1000));
        o.insert("d", "y".repeat(10));
        o.remove("d");
        assert_eq!(v.weight(), before);
        let mut list: List = (0..100).map(|i| Value::from("x".repeat(i))).collect();
        let half = list.truncated(50).weight();
        list.set(99, Value::Null);
        assert!(list.weight() > half && Value::List(list.truncated(50)).weight() == half);
        let mut double = Value::from("0123456789");
        for _ in 0..60 {
            double = Value::from(vec![double.clone(), double]);
        }
        assert!(double.weight() > 1 << 60);
    }

    #[test]
    fn an_append_shares_what_was_there() {
        let mut list: List = (0..10_000).map(Value::Int).collect();
        let before = list.clone();
        list.push(Value::Null);
        assert_eq!((before.len(), list.len()), (10_000, 10_001));
        assert_eq!(list.get(9_999), Some(&Value::Int(9_999)));
    }

    #[test]
    fn typed_values_go_there_and_back() {
        #[derive(serde::Serialize, serde::Deserialize, PartialEq, Debug)]
        enum Shape {
            Unit,
            New(i8),
            Tuple(u8, String),
            Struct { a: Option<f32>, b: Vec<u64> },
        }
        #[derive(serde::Serialize, serde::Deserialize, PartialEq, Debug)]
        struct All {
            shapes: Vec<Shape>,
            map: std::collections::BTreeMap<u16, char>,
            shared: Value,
            big: u64,
        }
        let all = All {
            shapes: vec![
                Shape::Unit,
                Shape::New(-1),
                Shape::Tuple(2, "x".into()),
                Shape::Struct { a: None, b: vec![u64::MAX] },
            ],
            map: [(7, 'c')].into(),
            shared: Value::from(vec![1i64, 2]),
            big: u64::MAX,
        };
        let v = to_value(&all).unwrap();
        assert_eq!(v.to_json(), serde_json::to_value(&all).unwrap());
        let back: All = from_value(&v).unwrap();
        assert_eq!(back, all);
        assert!(back.shared.same(v.get("shared").unwrap()), "a Value inside a typed state is shared, not rebuilt");
        assert!(v.get("shared").unwrap().same(&all.shared));
    }
}
