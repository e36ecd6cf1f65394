//! Around every call: what the transport itself refuses gets the details that all errors have; a panic is one call's; and
//! only those who ask for compressed answers get them.

use std::{
    collections::HashMap,
    convert::Infallible,
    panic::AssertUnwindSafe,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use http::{HeaderMap, HeaderValue};
use runloom::{reason::DOMAIN, v1::ErrorReason};
use runloom_core::{Error, Reason};
use tonic::{Code, Status, body::Body, codegen::Service};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use crate::{connection::timeout_in, status::refuse};

const ENCODING: &str = "grpc-encoding";
pub(crate) const ACCEPT_ENCODING: &str = "grpc-accept-encoding";

/// Makes [`Edge`]s.
#[derive(Clone)]
pub(crate) struct EdgeLayer;

impl<S> tower::Layer<S> for EdgeLayer {
    type Service = Edge<S>;

    fn layer(&self, inner: S) -> Edge<S> {
        Edge { inner }
    }
}

/// All services, seen from outside.
#[derive(Clone)]
pub(crate) struct Edge<S> {
    inner: S,
}

impl<S, B> Service<http::Request<B>> for Edge<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let mut request = request.map(Body::new);
        let timeout = timeout_in(request.headers());
        if !asks_for_gzip(request.headers()) {
            request.headers_mut().remove(ACCEPT_ENCODING);
        }
        let path = request.uri().path().to_owned();
        let call = AssertUnwindSafe(self.inner.call(request)).catch_unwind();
        async move {
            let answer = match timeout {
                Some(timeout) => tokio::time::timeout(timeout, call).await,
                None => Ok(call.await),
            };
            let response = match answer {
                Ok(Ok(Ok(response))) => response,
                Ok(Ok(Err(never))) => match never {},
                Err(_) => return Ok(status_of_deadline(&path).into_http()),
                Ok(Err(_)) => {
                    // What it was is on standard error already.
                    let error = Error::new(Reason::Internal, format!("a panic in {path}"));
                    return Ok(crate::status::status(error).into_http());
                }
            };
            Ok(match Status::from_header_map(response.headers()).and_then(|status| detailed(&status, &path)) {
                Some(status) => status.into_http(),
                None => response,
            })
        }
        .boxed()
    }
}

/// A call that has no answer within the time that its caller waits.
fn status_of_deadline(path: &str) -> Status {
    let message = format!("the deadline of this call of {path} is over");
    plain(Code::DeadlineExceeded, ErrorReason::Unspecified, &message, None)
}

/// A request that does not arrive.
pub(crate) fn body_timeout() -> Box<dyn std::error::Error + Send + Sync> {
    plain(Code::DeadlineExceeded, ErrorReason::Unspecified, "the request did not arrive in time", None).into()
}

/// Many libraries say with every call that they could read gzip. Compressing each token costs far more than it saves, so answers are
/// compressed for callers that compress their own requests, or put gzip before everything else.
fn asks_for_gzip(headers: &HeaderMap) -> bool {
    let is_gzip = |value: &HeaderValue| value.as_bytes() == b"gzip";
    let first = headers.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok()?.split(',').next());
    headers.get(ENCODING).is_some_and(is_gzip) || first.is_some_and(|first| first.trim() == "gzip")
}

/// A status of the transport's own with details; none where it has some, or is fine.
fn detailed(status: &Status, path: &str) -> Option<Status> {
    let is_ours = path.starts_with("/runloom.");
    if status.code() == Code::Ok || !status.details().is_empty() || !(is_ours || status.code() == Code::Unimplemented) {
        return None;
    }
    let text = status.message();
    Some(match status.code() {
        Code::Internal if text.contains("recursion limit reached") => {
            let message = "a google.protobuf.Value in the request nests more deeply than parsers of protobuf go; send such JSON \
                           as text, in `json`";
            plain(Code::InvalidArgument, ErrorReason::JsonTooDeep, message, field_of(text))
        }
        Code::Internal if text.contains("decode Protobuf message") || text.starts_with("Missing request message") => {
            let message = format!("the request is not a message of {path}: {text}");
            plain(Code::InvalidArgument, ErrorReason::FieldInvalid, &message, field_of(text))
        }
        Code::OutOfRange | Code::ResourceExhausted
            if text.contains("length too large") || text.contains("size limit") =>
        {
            too_large(text)
        }
        Code::Unimplemented if text.is_empty() => refuse(Reason::NotSupported, format!("this server has no {path}")),
        Code::Unimplemented => plain(Code::Unimplemented, ErrorReason::NotSupported, text, None),
        code => plain(code, ErrorReason::Internal, text, None),
    })
}

/// A request past the limit of the transport: which and how large it was, as far as the transport says.
fn too_large(text: &str) -> Status {
    let numbers: Vec<_> = text.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty()).collect();
    let error = |message: String| Error::new(Reason::InputTooLarge, message);
    crate::status::status(match *numbers {
        [size, most] => error(format!("the request is {size} bytes, and the server takes {most}; send less"))
            .with("size_bytes", size)
            .with("maximum_bytes", most),
        [most] => error(format!("the request is more than {most} bytes, which is what the server takes; send less"))
            .with("maximum_bytes", most),
        _ => error(format!("the request is larger than the server takes: {text}")),
    })
}

fn plain(code: Code, reason: ErrorReason, message: &str, field: Option<String>) -> Status {
    let mut details = ErrorDetails::with_error_info(reason.name(), DOMAIN, HashMap::new());
    if let Some(field) = field {
        details.set_bad_request(vec![FieldViolation::new(field, message)]);
    }
    Status::with_error_details(code, message, details)
}

/// The path of the field that prost names, the innermost first: `failed to decode Protobuf message: Json.encoding:
/// RunSpec.start: StreamRunRequest.run: …`. JSON ends it: what is within is not a field of the request.
fn field_of(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("message: ")?;
    let names: Vec<_> = rest.split(": ").map_while(|step| step.split_once('.')).collect();
    let outer = names.into_iter().rev().take_while(|(message, _)| *message != "Json");
    let path: Vec<_> = outer.map(|(_, field)| field).collect();
    (!path.is_empty() && path.iter().all(|field| !field.contains(' '))).then(|| path.join("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_gzip() {
        let headers = |encoding: Option<&'static str>, accept: &'static str| {
            let mut headers = HeaderMap::new();
            if let Some(encoding) = encoding {
                headers.insert(ENCODING, HeaderValue::from_static(encoding));
            }
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(accept));
            headers
        };
        assert!(asks_for_gzip(&headers(None, "gzip,identity")));
        assert!(asks_for_gzip(&headers(Some("gzip"), "identity, deflate, gzip")));
        assert!(!asks_for_gzip(&headers(None, "identity, deflate, gzip")));
        assert!(!asks_for_gzip(&HeaderMap::new()));
    }

    #[test]
    fn the_field_is_found() {
        let text = "failed to decode Protobuf message: Value.kind: Json.encoding: RunSpec.start: StreamRunRequest.run: \
                    recursion limit reached";
        assert_eq!(field_of(text).as_deref(), Some("run.start"));
        assert_eq!(field_of("failed to decode Protobuf message: invalid varint"), None);
    }
}
