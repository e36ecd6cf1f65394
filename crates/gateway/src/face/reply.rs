//! Answers: JSON, pages of lists, fields picked out of records, and where a run is to be found.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use runloom_engine::{Object, RunId, ThreadId, Value};
use serde::Serialize;

/// An answer of JSON.
pub(crate) fn json<T: Serialize + ?Sized>(status: StatusCode, body: &T) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => {
            let mut response = Response::new(Body::from(bytes));
            *response.status_mut() = status;
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Err(error) => {
            tracing::error!(%error, "an answer cannot be written as JSON");
            (StatusCode::INTERNAL_SERVER_ERROR, "{\"detail\":\"the answer cannot be written as JSON\"}").into_response()
        }
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
    let mut response = json(StatusCode::OK, &items);
    let headers = response.headers_mut();
    headers.insert("x-pagination-total", HeaderValue::from(total));
    if is_more {
        headers.insert("x-pagination-next", HeaderValue::from(next));
    }
    response
}

/// A record with the fields asked for; with all where none is named.
pub(crate) fn selected(record: Object, fields: &[String]) -> Value {
    if fields.is_empty() {
        return Value::Object(record);
    }
    let picked = fields.iter().filter_map(|f| Some((f.as_str(), record.get(f)?.clone())));
    Value::Object(picked.map(|(k, v)| (std::sync::Arc::from(k), v)).collect())
}

/// Says where a run is, and where to go on with it.
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
