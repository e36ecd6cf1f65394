//! Messages of the API as JSON, with the field names of `proto/`; a `Json` message becomes the JSON in it.
//!
//! The conversion follows the descriptors, so new fields of `proto/` appear without a change here. Unset fields are omitted.

use std::sync::LazyLock;

use base64::{Engine, prelude::BASE64_STANDARD};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, Kind, MapKey, ReflectMessage, Value as Reflected};
use serde_json::{Map, Value, json};

/// The descriptors of the API. If they could not be decoded, messages would be shown as null; a test excludes that.
static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(runloom::FILE_DESCRIPTOR_SET).unwrap_or_default());

/// Converts a message. `name` is its name in `runloom.v1`.
pub fn to_json(name: &str, message: &impl Message) -> Value {
    let described = POOL.get_message_by_name(&format!("runloom.v1.{name}"));
    let reflected = described.and_then(|d| DynamicMessage::decode(d, message.encode_to_vec().as_slice()).ok());
    reflected.map_or(Value::Null, |m| of_message(&m))
}

fn of_message(message: &DynamicMessage) -> Value {
    match message.descriptor().full_name() {
        "runloom.v1.Json" => {
            decoded(message).and_then(|json: runloom::v1::Json| json.decode().ok()).unwrap_or_default()
        }
        "google.protobuf.Timestamp" => decoded(message).map(|t: prost_types::Timestamp| t.to_string()).into(),
        "google.protobuf.Duration" => decoded(message).map(|d: prost_types::Duration| d.to_string()).into(),
        "google.rpc.Status" => {
            decoded(message).map_or(Value::Null, |status: tonic_types::Status| of_error(&status.into()))
        }
        _ => {
            let fields =
                message.fields().map(|(field, value)| (field.name().to_owned(), of_value(value, &field.kind())));
            Value::Object(fields.collect())
        }
    }
}

fn decoded<M: Message + Default>(message: &DynamicMessage) -> Option<M> {
    M::decode(message.encode_to_vec().as_slice()).ok()
}

/// A `google.rpc.Status` with its details decoded.
fn of_error(status: &runloom::Error) -> Value {
    let mut fields = Map::new();
    fields.insert("code".into(), format!("{:?}", status.code()).into());
    fields.insert("message".into(), status.message().into());
    if let Some(reason) = status.reason() {
        fields.insert("reason".into(), reason.name().into());
    }
    if !status.metadata().is_empty() {
        let mut entries: Vec<_> = status.metadata().iter().collect();
        entries.sort();
        let entries = entries.into_iter().map(|(key, value)| (key.clone(), value.as_str().into()));
        fields.insert("metadata".into(), Value::Object(entries.collect()));
    }
    if !status.violations().is_empty() {
        let all = status.violations().iter().map(|v| json!({"field": v.field, "description": v.description}));
        fields.insert("fields".into(), all.collect());
    }
    Value::Object(fields)
}

fn of_value(value: &Reflected, kind: &Kind) -> Value {
    match value {
        Reflected::Bool(value) => (*value).into(),
        Reflected::I32(value) => (*value).into(),
        Reflected::I64(value) => (*value).into(),
        Reflected::U32(value) => (*value).into(),
        Reflected::U64(value) => (*value).into(),
        Reflected::F32(value) => (*value).into(),
        Reflected::F64(value) => (*value).into(),
        Reflected::String(value) => value.as_str().into(),
        Reflected::Bytes(value) => BASE64_STANDARD.encode(value).into(),
        Reflected::EnumNumber(number) => of_enum(*number, kind),
        Reflected::Message(message) => of_message(message),
        Reflected::List(items) => items.iter().map(|item| of_value(item, kind)).collect(),
        Reflected::Map(entries) => {
            let value_kind = match kind {
                Kind::Message(entry) => entry.map_entry_value_field().kind(),
                other => other.clone(),
            };
            let mut entries: Vec<_> = entries.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            let fields = entries.into_iter().map(|(key, value)| (of_key(key), of_value(value, &value_kind)));
            Value::Object(fields.collect())
        }
    }
}

/// The name of an enum value, or its number if this program does not know it.
fn of_enum(number: i32, kind: &Kind) -> Value {
    let Kind::Enum(described) = kind else { return number.into() };
    described.get_value(number).map_or_else(|| number.into(), |value| value.name().into())
}

fn of_key(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}

#[cfg(test)]
mod tests {
    use runloom::v1::{self, stream_run_response::Payload};

    use super::*;

    #[test]
    fn a_part_is_converted() {
        let part = v1::StreamRunResponse {
            seq: 7,
            cursor: "c".into(),
            emit_time: Some(prost_types::Timestamp { seconds: 0, nanos: 500_000_000 }),
            step: Some(0),
            payload: Some(Payload::Value(v1::Value {
                state: Some(json!({"big": i64::MAX, "float": 1.0, "none": null}).into()),
                interrupts: Vec::new(),
            })),
            ..Default::default()
        };
        assert_eq!(
            to_json("StreamRunResponse", &part).to_string(),
            r#"{"seq":7,"cursor":"c","emit_time":"1970-01-01T00:00:00.500Z","step":0,"value":{"state":{"big":9223372036854775807,"float":1.0,"none":null}}}"#
        );
    }

    #[test]
    fn enums_maps_and_errors_have_names() {
        let details = tonic_types::ErrorDetails::with_error_info(
            "NODE_FAILED",
            runloom::reason::DOMAIN,
            [("node".to_owned(), "plan".to_owned())],
        );
        let status = <tonic::Status as tonic_types::StatusExt>::with_error_details(tonic::Code::Unknown, "no", details);
        let end = v1::End {
            state: v1::RunState::Failed.into(),
            error: Some(tonic_types::Status {
                code: 2,
                message: "no".into(),
                details: <tonic_types::Status as prost::Message>::decode(status.details()).unwrap().details,
            }),
            ..Default::default()
        };
        assert_eq!(
            to_json("End", &end),
            json!({
                "state": "RUN_STATE_FAILED",
                "error": {"code": "Unknown", "message": "no", "reason": "NODE_FAILED", "metadata": {"node": "plan"}},
            })
        );
        let command = v1::Command {
            resume_by_id: [("b".to_owned(), json!(1).into()), ("a".to_owned(), json!("x").into())].into(),
            ..Default::default()
        };
        assert_eq!(to_json("Command", &command).to_string(), r#"{"resume_by_id":{"a":"x","b":1}}"#);
    }
}
