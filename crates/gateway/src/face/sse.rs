//! Streams of server-sent events, and answers that are waited for.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use futures_core::Stream;
use http::{HeaderValue, header};
use runloom_core::{Error, OpenStream, Reason};
use runloom_engine::Value;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::{
    Api,
    reply::{text, write},
};
use crate::langgraph::error_object;

/// How many bytes go out at once at most, where more wait.
const BATCH: usize = 32 << 10;

/// An event of a stream, with the id from which a client goes on.
pub(crate) struct Told {
    pub id: String,
    pub name: String,
    pub data: Value,
}

/// A stream of events as an answer. A silent one says that it is there.
pub(crate) fn sse<S>(events: S, api: &Api) -> Response
where
    S: Stream<Item = Result<Told, Error>> + Send + Unpin + 'static,
{
    let heartbeat = api.options.heartbeat;
    let body = Events {
        events,
        heartbeat,
        closing: Box::pin(api.connection.closing()),
        silence: Box::pin(tokio::time::sleep(heartbeat)),
        done: false,
        _open: OpenStream::of("http"),
    };
    let mut response = Response::new(Body::from_stream(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

struct Events<S> {
    events: S,
    heartbeat: Duration,
    /// The connection is old enough: the stream ends, to be continued on another one.
    closing: Pin<Box<WaitForCancellationFutureOwned>>,
    silence: Pin<Box<Sleep>>,
    done: bool,
    _open: OpenStream,
}

impl<S: Stream<Item = Result<Told, Error>> + Unpin> Stream for Events<S> {
    type Item = Result<Bytes, std::convert::Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let mut out = Vec::new();
        while !this.done && out.len() < BATCH {
            match Pin::new(&mut this.events).poll_next(cx) {
                Poll::Ready(Some(Ok(told))) => write_event(&mut out, &told.name, &told.data, Some(&told.id)),
                Poll::Ready(Some(Err(error))) => {
                    write_error(&mut out, &error);
                    this.done = true;
                }
                Poll::Ready(None) => this.done = true,
                Poll::Pending => break,
            }
        }
        if !this.done && this.closing.as_mut().poll(cx).is_ready() {
            out.extend_from_slice(b": the connection is old enough; join again on another one\nretry: 100\n\n");
            this.done = true;
        }
        if out.is_empty() {
            if this.done {
                return Poll::Ready(None);
            }
            if this.silence.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            out.extend_from_slice(b": heartbeat\n\n");
        }
        this.silence.as_mut().reset(Instant::now() + this.heartbeat);
        // The timer wakes this task only once it has been looked at since it was set.
        if !this.done && this.silence.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        Poll::Ready(Some(Ok(out.into())))
    }
}

fn write_event(out: &mut Vec<u8>, name: &str, data: &Value, id: Option<&str>) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\ndata: ");
    let begin = out.len();
    write(out, data);
    escape_line_breaks(out, begin);
    if let Some(id) = id {
        out.extend_from_slice(b"\nid: ");
        out.extend_from_slice(id.as_bytes());
    }
    out.extend_from_slice(b"\n\n");
}

/// Escapes U+0085, U+2028 and U+2029 in JSON. Server-sent events end lines at CR and LF only, but clients that split text
/// at every line break of Unicode (Python's `splitlines`) would cut an event in two.
fn escape_line_breaks(out: &mut Vec<u8>, begin: usize) {
    let escaped = |at: &[u8]| match at {
        [0xC2, 0x85, ..] => Some((2, &b"\\u0085"[..])),
        [0xE2, 0x80, 0xA8, ..] => Some((3, &b"\\u2028"[..])),
        [0xE2, 0x80, 0xA9, ..] => Some((3, &b"\\u2029"[..])),
        _ => None,
    };
    let Some(first) = (begin..out.len()).find(|at| escaped(&out[*at..]).is_some()) else { return };
    let rest = out.split_off(first);
    let mut at = 0;
    while at < rest.len() {
        match escaped(&rest[at..]) {
            Some((length, text)) => {
                out.extend_from_slice(text);
                at += length;
            }
            None => {
                out.push(rest[at]);
                at += 1;
            }
        }
    }
}

/// Why a stream ends before its run does. Without an `end`, clients come back by themselves.
fn write_error(out: &mut Vec<u8>, error: &Error) {
    match error.reason {
        Reason::ServerDraining => out.extend_from_slice(b": the server is going down; join again\nretry: 1000\n\n"),
        _ => {
            write_event(out, "error", &error_object(error), None);
            write_event(out, "end", &Value::Null, None);
        }
    }
}

/// An answer of JSON that is waited for: a newline every so often until it is there. Where there is none, the connection
/// breaks off: clients then ask where they were told to.
pub(crate) fn until_told<F>(answer: F, heartbeat: Duration) -> Response
where
    F: Future<Output = Option<Value>> + Send + 'static,
{
    let body = futures_util::stream::unfold(Some(Box::pin(answer)), move |waiting| async move {
        let mut waiting = waiting?;
        match tokio::time::timeout(heartbeat, &mut waiting).await {
            Err(_) => Some((Ok(Bytes::from_static(b"\n")), Some(waiting))),
            Ok(Some(value)) => Some((Ok(text(&value).into()), None)),
            Ok(None) => Some((Err(io::Error::other("the server is going down; ask again")), None)),
        }
    });
    let mut response = Response::new(Body::from_stream(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_breaks_of_unicode_are_escaped() {
        let text = "a\u{85}b\u{2028}c\u{2029}d\u{2027}é\u{86}";
        let mut out = Vec::new();
        write_event(&mut out, "custom", &Value::from(text), Some("1"));
        let out = String::from_utf8(out).unwrap_or_default();
        assert_eq!(out, "event: custom\ndata: \"a\\u0085b\\u2028c\\u2029d\u{2027}é\u{86}\"\nid: 1\n\n");
    }
}
