//! Conversion between [`Json`] and [`serde_json::Value`], with the limits of each encoding.

use serde_json::{Map, Number};

use crate::v1::{ErrorReason, Json, JsonEncoding, json::Encoding};

/// The maximum nesting of arrays and objects in a [`Json`].
pub const MAX_DEPTH: usize = 127;

/// The maximum nesting that [`JsonEncoding::Auto`] sends as a tree: protobuf parsers stop at 100 nested messages, and each level takes three.
pub const MAX_TREE_DEPTH: usize = 30;

/// The largest integer up to which doubles represent every integer.
const MAX_EXACT: u64 = 1 << 53;

/// An invalid [`Json`] in a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Neither `value` nor `json` is set, or a part of `value` is not.
    #[error("no JSON value is set; JSON's null is `nullValue`, or the text `null`")]
    Unset,
    /// The text is not valid JSON.
    #[error("not JSON: {0}")]
    Invalid(String),
    /// A number that JSON cannot represent.
    #[error("{0} is not a JSON number")]
    NotANumber(String),
    /// It nests too deeply.
    #[error("more than {MAX_DEPTH} arrays and objects within each other")]
    TooDeep,
}

impl JsonError {
    /// The error reason.
    pub fn reason(&self) -> ErrorReason {
        match self {
            Self::TooDeep => ErrorReason::JsonTooDeep,
            Self::Unset | Self::Invalid(_) | Self::NotANumber(_) => ErrorReason::JsonInvalid,
        }
    }
}

/// Why a value is not exact in [`JsonEncoding::Value`]: JSON_NOT_EXACT.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotExact {
    /// An integer outside of the range that doubles represent exactly.
    #[error("the integer {0} is past 2^53, and a protobuf value holds doubles; ask for TEXT or AUTO")]
    Integer(String),
    /// A float that would be read as an integer.
    #[error("the float {0} looks like an integer in a protobuf value; ask for TEXT or AUTO")]
    Float(String),
    /// Nested too deeply for protobuf parsers.
    #[error("more than {MAX_TREE_DEPTH} arrays and objects within each other; ask for TEXT or AUTO")]
    Depth,
}

impl Json {
    /// Encodes a value. Fails only with [`JsonEncoding::Value`].
    pub fn encode(value: &serde_json::Value, encoding: JsonEncoding) -> Result<Self, NotExact> {
        match encoding {
            JsonEncoding::Text => Ok(Self::text(value)),
            JsonEncoding::Value => Ok(Self { encoding: Some(Encoding::Value(to_tree(value, MAX_TREE_DEPTH)?)) }),
            JsonEncoding::Auto | JsonEncoding::Unspecified => Ok(match to_tree(value, MAX_TREE_DEPTH) {
                Ok(tree) => Self { encoding: Some(Encoding::Value(tree)) },
                Err(_) => Self::text(value),
            }),
        }
    }

    /// Encodes a value as text, which is exact and cheap.
    pub fn text(value: &serde_json::Value) -> Self {
        Self::from_text(value.to_string())
    }

    /// Uses JSON text unchanged. The receiver validates it.
    pub fn from_text(text: impl Into<String>) -> Self {
        Self { encoding: Some(Encoding::Json(text.into())) }
    }

    /// Decodes either encoding.
    pub fn decode(&self) -> Result<serde_json::Value, JsonError> {
        match &self.encoding {
            None => Err(JsonError::Unset),
            Some(Encoding::Json(text)) => parse(text),
            Some(Encoding::Value(tree)) => from_tree(tree, MAX_DEPTH),
        }
    }
}

impl From<serde_json::Value> for Json {
    /// As text.
    fn from(value: serde_json::Value) -> Self {
        Self::text(&value)
    }
}

impl From<&serde_json::Value> for Json {
    /// As text.
    fn from(value: &serde_json::Value) -> Self {
        Self::text(value)
    }
}

impl TryFrom<&Json> for serde_json::Value {
    type Error = JsonError;

    fn try_from(json: &Json) -> Result<Self, JsonError> {
        json.decode()
    }
}

/// Parses JSON text. serde_json has the same limit as [`MAX_DEPTH`], and reports it only in its message.
fn parse(text: &str) -> Result<serde_json::Value, JsonError> {
    serde_json::from_str(text).map_err(|error| {
        let message = error.to_string();
        if message.starts_with("recursion limit exceeded") { JsonError::TooDeep } else { JsonError::Invalid(message) }
    })
}

/// Builds a protobuf value, if it is exact. `room` is the number of levels that may still be nested.
fn to_tree(value: &serde_json::Value, room: usize) -> Result<prost_types::Value, NotExact> {
    use prost_types::value::Kind;
    use serde_json::Value;

    let deeper = || room.checked_sub(1).ok_or(NotExact::Depth);
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(*value),
        Value::Number(number) => Kind::NumberValue(to_double(number)?),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(items) => {
            let room = deeper()?;
            let values = items.iter().map(|item| to_tree(item, room)).collect::<Result<_, _>>()?;
            Kind::ListValue(prost_types::ListValue { values })
        }
        Value::Object(entries) => {
            let room = deeper()?;
            let fields = entries.iter().map(|(key, value)| Ok((key.clone(), to_tree(value, room)?)));
            Kind::StructValue(prost_types::Struct { fields: fields.collect::<Result<_, _>>()? })
        }
    };
    Ok(prost_types::Value { kind: Some(kind) })
}

/// A number as a double, if it is read back unchanged.
fn to_double(number: &Number) -> Result<f64, NotExact> {
    let integer = number.as_i64().map(i64::unsigned_abs).or_else(|| number.as_u64());
    match (integer, number.as_f64()) {
        (Some(size), Some(double)) if size <= MAX_EXACT => Ok(double),
        (None, Some(double)) if double.fract() != 0.0 => Ok(double),
        (Some(_), _) => Err(NotExact::Integer(number.to_string())),
        (None, _) => Err(NotExact::Float(number.to_string())),
    }
}

/// Reads a protobuf value; an integral double is an integer, as far as doubles are exact.
fn from_tree(tree: &prost_types::Value, room: usize) -> Result<serde_json::Value, JsonError> {
    use prost_types::value::Kind;
    use serde_json::Value;

    let deeper = || room.checked_sub(1).ok_or(JsonError::TooDeep);
    Ok(match tree.kind.as_ref().ok_or(JsonError::Unset)? {
        Kind::NullValue(_) => Value::Null,
        Kind::BoolValue(value) => Value::Bool(*value),
        Kind::NumberValue(double) => Value::Number(from_double(*double)?),
        Kind::StringValue(text) => Value::String(text.clone()),
        Kind::ListValue(list) => {
            let room = deeper()?;
            Value::Array(list.values.iter().map(|item| from_tree(item, room)).collect::<Result<_, _>>()?)
        }
        Kind::StructValue(entries) => {
            let room = deeper()?;
            let fields = entries.fields.iter().map(|(key, value)| Ok((key.clone(), from_tree(value, room)?)));
            Value::Object(fields.collect::<Result<Map<_, _>, _>>()?)
        }
    })
}

/// A double as a JSON number: an integer if it is integral, exact, and not negative zero.
fn from_double(double: f64) -> Result<Number, JsonError> {
    let whole = double.fract() == 0.0 && double.abs() <= MAX_EXACT as f64;
    if whole && (double != 0.0 || double.is_sign_positive()) {
        return Ok(Number::from(double as i64));
    }
    Number::from_f64(double).ok_or_else(|| JsonError::NotANumber(double.to_string()))
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use serde_json::{Value, json};

    use super::*;
    use crate::v1;

    fn nested(depth: usize) -> Value {
        (0..depth).fold(json!(1), |inner, level| if level % 2 == 0 { json!({ "a": inner }) } else { json!([inner]) })
    }

    fn is_tree(json: &Json) -> bool {
        matches!(json.encoding, Some(Encoding::Value(_)))
    }

    #[test]
    fn auto_sends_a_tree_unless_it_loses_something() {
        for exact in
            [json!(null), json!(true), json!(-3), json!(1.5), json!("x"), json!(9_007_199_254_740_992_i64), nested(30)]
        {
            let json = Json::encode(&exact, JsonEncoding::Auto).unwrap();
            assert!(is_tree(&json), "{exact}");
            assert_eq!(json.decode().unwrap(), exact);
        }
        for lossy in [
            json!(9_007_199_254_740_993_i64),
            json!(i64::MIN),
            json!(u64::MAX),
            json!(1.0),
            json!(-0.0),
            json!(1e300),
            nested(31),
            nested(127),
        ] {
            let json = Json::encode(&lossy, JsonEncoding::Unspecified).unwrap();
            assert!(!is_tree(&json), "{lossy}");
            assert_eq!(json.decode().unwrap(), lossy);
            assert!(Json::encode(&lossy, JsonEncoding::Value).is_err());
        }
    }

    #[test]
    fn what_comes_in_is_checked() {
        assert_eq!(Json::default().decode(), Err(JsonError::Unset));
        assert_eq!(Json::from_text("{\"a\":").decode().unwrap_err().reason(), ErrorReason::JsonInvalid);
        assert_eq!(Json::from_text("1 2").decode().unwrap_err().reason(), ErrorReason::JsonInvalid);
        assert_eq!(Json::text(&nested(127)).decode(), Ok(nested(127)));
        assert_eq!(Json::text(&nested(128)).decode(), Err(JsonError::TooDeep));
        let tree = |kind| Json { encoding: Some(Encoding::Value(prost_types::Value { kind })) };
        assert_eq!(tree(None).decode(), Err(JsonError::Unset));
        let number = |double| tree(Some(prost_types::value::Kind::NumberValue(double))).decode();
        assert_eq!(number(f64::NAN).unwrap_err().reason(), ErrorReason::JsonInvalid);
        assert_eq!(number(3.0), Ok(json!(3)));
        assert_eq!(number(1e18), Ok(json!(1e18)));
    }

    /// The deepest position of a Json in a response, at which protobuf parsers must still read a tree.
    #[test]
    fn a_tree_fits_where_it_sits_deepest() {
        let value = (0..MAX_TREE_DEPTH).fold(json!(1), |inner, _| json!({ "a": inner }));
        let json = Json::encode(&value, JsonEncoding::Value).unwrap();
        let task = v1::CheckpointTask {
            interrupts: vec![v1::Interrupt { value: Some(json), ..Default::default() }],
            ..Default::default()
        };
        let part = v1::StreamRunResponse {
            payload: Some(v1::stream_run_response::Payload::Checkpoint(v1::Checkpoint {
                tasks: vec![task],
                ..Default::default()
            })),
            ..Default::default()
        };
        let read = v1::StreamRunResponse::decode(part.encode_to_vec().as_slice()).expect("within 100 levels");
        assert_eq!(read, part);
    }
}
