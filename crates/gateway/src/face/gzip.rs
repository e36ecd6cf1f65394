//! Streams of events, compressed for clients that accept it. LangGraph's dialect says the whole metadata again with each
//! token of a message; compressed, what was said before costs next to nothing.

use std::{
    io::{self, Write},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{
    body::{Body, BodyDataStream, Bytes},
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use flate2::{Compression, write::GzEncoder};
use futures_core::Stream;
use http::{HeaderMap, HeaderValue, header};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Compresses the streams of events that may be, as long as not too many are: each holds some 450 KB.
pub(crate) async fn squeeze(State(room): State<Arc<Semaphore>>, request: Request, next: Next) -> Response {
    let accepts = accepts_gzip(request.headers());
    let mut response = next.run(request).await;
    let kind = response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    if !kind.starts_with(b"text/event-stream") {
        return response;
    }
    response.headers_mut().append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    let Some(permit) = accepts.then(|| room.try_acquire_owned().ok()).flatten() else { return response };
    response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    response.map(|body| {
        let encoder = Some(GzEncoder::new(Vec::new(), Compression::fast()));
        Body::from_stream(Squeezed { body: body.into_data_stream(), encoder, _permit: permit })
    })
}

/// Whether a client takes gzip: it is named, or all are, and not with a weight of 0.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let named = || headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let weight = |wanted: &str| {
        named().flat_map(|value| value.split(',')).find_map(|coding| {
            let mut parts = coding.split(';').map(str::trim);
            if !parts.next()?.eq_ignore_ascii_case(wanted) {
                return None;
            }
            let q = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
            Some(q.map_or(1.0, |q| q.trim().parse::<f32>().unwrap_or(0.0)))
        })
    };
    weight("gzip").or_else(|| weight("*")).is_some_and(|q| q > 0.0)
}

/// A body, each piece of which can be read as soon as it is there.
struct Squeezed {
    body: BodyDataStream,
    /// None once the body has ended.
    encoder: Option<GzEncoder<Vec<u8>>>,
    _permit: OwnedSemaphorePermit,
}

impl Squeezed {
    fn squeeze(&mut self, piece: Option<&[u8]>) -> io::Result<Option<Bytes>> {
        let Some(piece) = piece else {
            return self.encoder.take().map(|encoder| encoder.finish().map(Bytes::from)).transpose();
        };
        let Some(encoder) = &mut self.encoder else { return Ok(None) };
        encoder.write_all(piece)?;
        encoder.flush()?;
        Ok(Some(std::mem::take(encoder.get_mut()).into()))
    }
}

impl Stream for Squeezed {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.encoder.is_none() {
            return Poll::Ready(None);
        }
        let piece = ready!(Pin::new(&mut this.body).poll_next(cx)).transpose()?;
        Poll::Ready(this.squeeze(piece.as_deref()).map_err(axum::Error::new).transpose())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_taken_as_the_client_says() {
        for (value, accepts) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5", true),
            ("br, *", true),
            ("gzip;q=0", false),
            ("*;q=1, gzip; q=0", false),
            ("identity", false),
            ("gzip;q=x", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static(value))]);
            assert_eq!(accepts_gzip(&headers), accepts, "{value}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
