//! Answers: JSON, pages of lists, fields picked out of records, and where a run is to be found.

use axum::{body::Body, response::Response};
use http::{HeaderValue, StatusCode, header};
use runloom_engine::{Object, RunId, ThreadId, Value};

use super::Fail;

/// An answer of JSON.
pub(crate) fn json(status: StatusCode, body: impl Into<Value>) -> Response {
    let mut response = Response::new(Body::from(text(&body.into())));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A value as JSON text.
pub(crate) fn text(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out, value);
    out
}

/// Writes a value as JSON. A state may be as deep as any value; the record that shows it is deeper by some levels, which
/// is no reason not to show it.
pub(crate) fn write(out: &mut Vec<u8>, value: &Value) {
    let before = out.len();
    if serde_json::to_writer(&mut *out, value).is_ok() {
        return;
    }
    out.truncate(before);
    match value {
        Value::Object(fields) => {
            out.push(b'{');
            for (i, (key, value)) in fields.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write(out, &Value::String(key.clone()));
                out.push(b':');
                write(out, value);
            }
            out.push(b'}');
        }
        Value::List(items) => {
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write(out, item);
            }
            out.push(b']');
        }
        _ => out.extend_from_slice(b"null"),
    }
}

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// A list, with how many there are in all and where the next ones begin.
pub(crate) fn paged(items: Vec<Value>, offset: usize, total: u64) -> Response {
    let next = offset.saturating_add(items.len());
    let is_more = (next as u64) < total && !items.is_empty();
    let mut response = json(StatusCode::OK, items);
    let headers = response.headers_mut();
    headers.insert("x-pagination-total", HeaderValue::from(total));
    if is_more {
        headers.insert("x-pagination-next", HeaderValue::from(next));
    }
    response
}

/// The fields of records that are asked for, of those that there are; none for all.
pub(crate) fn chosen(asked: Vec<String>, known: &[&str]) -> Result<Vec<String>, Fail> {
    match asked.iter().find(|field| !known.contains(&field.as_str())) {
        None => Ok(asked),
        Some(field) => {
            Err(Fail::invalid(format!("select: there is no field `{field}`; there are {}", known.join(", "))))
        }
    }
}

/// A record with the fields asked for; with all where none is named.
pub(crate) fn selected(record: Object, fields: &[String]) -> Value {
    if fields.is_empty() {
        return Value::Object(record);
    }
    let picked = fields.iter().filter_map(|f| Some((f.as_str(), record.get(f)?.clone())));
    Value::Object(picked.map(|(k, v)| (std::sync::Arc::from(k), v)).collect())
}

/// Says where a run is, and where to go on with it: `join`, or `stream?…`; empty for nowhere.
pub(crate) fn with_location(mut response: Response, thread: ThreadId, run: RunId, then: &str) -> Response {
    let place = format!("/threads/{thread}/runs/{run}");
    let headers = response.headers_mut();
    if !then.is_empty()
        && let Ok(value) = HeaderValue::try_from(format!("{place}/{then}"))
    {
        headers.insert(header::LOCATION, value);
    }
    if let Ok(value) = HeaderValue::try_from(place) {
        headers.insert(header::CONTENT_LOCATION, value);
    }
    response
}
