//! A request as it came: its path, query, headers and JSON body.

use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts, Query, RawPathParams, Request},
};
use http::{HeaderMap, Method, StatusCode};
use http_body_util::LengthLimitError;
use runloom_core::store::AssistantId;
use runloom_engine::{RunId, ThreadId, Value};
use runloom_net::BodyTimeout;

use super::{Fail, Fields, Shared, uuid};

/// A request.
pub(crate) struct Call {
    params: Vec<(String, String)>,
    query: Vec<(String, String)>,
    raw_query: String,
    pub headers: HeaderMap,
    /// The body; null where there is none.
    pub body: Value,
}

impl FromRequest<Shared> for Call {
    type Rejection = Fail;

    async fn from_request(request: Request, shared: &Shared) -> Result<Self, Fail> {
        let (mut parts, body) = request.into_parts();
        let params = RawPathParams::from_request_parts(&mut parts, shared)
            .await
            .map_err(|_| Fail::not_found("Not Found"))?
            .iter()
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect();
        let query = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
            .map_err(|e| Fail::invalid(format!("the query cannot be read: {e}")))?
            .0;
        let body = match parts.method {
            Method::GET | Method::HEAD => Value::Null,
            _ => read(&parts.headers, body, shared.options.max_body_bytes).await?,
        };
        let raw_query = parts.uri.query().unwrap_or_default().to_owned();
        Ok(Self { params, query, raw_query, headers: parts.headers, body })
    }
}

async fn read(headers: &HeaderMap, body: Body, most: usize) -> Result<Value, Fail> {
    let too_large = || {
        let detail = format!("the body of the request is over the limit of {most} bytes; send less");
        Fail::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
    };
    let announced = headers.get(http::header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|n| n > most as u64) {
        return Err(too_large());
    }
    let bytes = match axum::body::to_bytes(body, most).await {
        Ok(bytes) => bytes,
        Err(error) if is_caused_by::<LengthLimitError>(&error) => return Err(too_large()),
        Err(error) if is_caused_by::<BodyTimeout>(&error) => {
            return Err(Fail::new(StatusCode::REQUEST_TIMEOUT, "the body of the request did not arrive in time"));
        }
        Err(_) => return Err(Fail::new(StatusCode::BAD_REQUEST, "the body of the request broke off")),
    };
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Value::Null);
    }
    let text =
        std::str::from_utf8(&bytes).map_err(|_| Fail::invalid("Invalid JSON in request body: it is not UTF-8"))?;
    Value::parse(text).map_err(|e| Fail::invalid(format!("Invalid JSON in request body: {e}")))
}

fn is_caused_by<E: std::error::Error + 'static>(error: &axum::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(at) = source {
        if at.is::<E>() {
            return true;
        }
        source = at.source();
    }
    false
}

impl Call {
    /// A part of the path.
    pub fn param(&self, name: &str) -> &str {
        self.params.iter().find(|(k, _)| k == name).map_or("", |(_, v)| v)
    }

    /// The thread of the path.
    pub fn thread(&self) -> Result<ThreadId, Fail> {
        uuid(self.param("thread_id"), "thread ID").map(ThreadId)
    }

    /// The run of the path.
    pub fn run(&self) -> Result<RunId, Fail> {
        uuid(self.param("run_id"), "run ID").map(RunId)
    }

    /// The assistant of the path.
    pub fn assistant(&self) -> Result<AssistantId, Fail> {
        uuid(self.param("assistant_id"), "assistant ID").map(AssistantId)
    }

    /// The last value of a query parameter; none where it is empty.
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().rev().find(|(k, _)| k == name).map(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
    }

    /// All values of a query parameter under any of these names: repeated, or with commas between.
    pub fn query_all(&self, names: &[&str]) -> Vec<String> {
        let given = self.query.iter().filter(|(k, _)| names.contains(&k.trim_end_matches("[]")));
        given.flat_map(|(_, v)| v.split(',')).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty()).collect()
    }

    /// A path with the query as it was sent, but for one parameter.
    pub fn with_query(&self, path: &str, without: &str) -> String {
        let kept = self.raw_query.split('&').filter(|pair| !pair.is_empty());
        let kept: Vec<&str> = kept.filter(|pair| pair.split('=').next() != Some(without)).collect();
        if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) }
    }

    /// A query parameter that says yes or no.
    pub fn query_flag(&self, name: &str) -> Result<bool, Fail> {
        match self.query(name) {
            None => Ok(false),
            Some(v) if ["1", "true", "yes", "on"].contains(&v.to_ascii_lowercase().as_str()) => Ok(true),
            Some(v) if ["0", "false", "no", "off", "null"].contains(&v.to_ascii_lowercase().as_str()) => Ok(false),
            Some(v) => Err(Fail::invalid(format!("{name}: must be true or false, not `{v}`"))),
        }
    }

    /// A query parameter that is a number.
    pub fn query_number(&self, name: &str, range: std::ops::RangeInclusive<usize>) -> Result<Option<usize>, Fail> {
        let Some(text) = self.query(name) else { return Ok(None) };
        match text.parse() {
            Ok(n) if range.contains(&n) => Ok(Some(n)),
            _ => Err(Fail::invalid(format!("{name}: must be an integer from {} to {}", range.start(), range.end()))),
        }
    }

    /// The body, which has to be an object.
    pub fn fields(&self) -> Result<Fields<'_>, Fail> {
        match &self.body {
            Value::Null => Err(Fail::invalid("the body must be a JSON object; there is none")),
            body => Fields::of(body),
        }
    }

    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok().map(str::trim).filter(|v| !v.is_empty())
    }
}
