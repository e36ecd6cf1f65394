//! The deadline of a request body: a start, and then a least rate, so that neither a body that stalls nor one that comes
//! byte by byte holds a request.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Buf;
use http::{Request, Uri};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};
use tower::{Layer, Service};

use crate::connection::timed_out;

/// The least bytes a second of a body, after its first [`BodyDeadlineLayer::new`] `timeout`.
const MIN_RATE: f64 = 16.0 * 1024.0;

/// The body of a request did not arrive in time.
#[derive(Debug, thiserror::Error)]
#[error("the request body did not arrive in time")]
pub struct BodyTimeout;

type Error = Box<dyn std::error::Error + Send + Sync>;
type MakeError = fn() -> Error;
type IsExempt = fn(&Uri) -> bool;

/// Gives each request body a deadline: `timeout`, plus the time that its bytes take at 16 KiB a second.
#[derive(Clone)]
pub struct BodyDeadlineLayer {
    api: &'static str,
    timeout: Duration,
    make_error: MakeError,
    is_exempt: IsExempt,
}

impl BodyDeadlineLayer {
    /// A layer for an API, which is named in metrics.
    pub fn new(api: &'static str, timeout: Duration) -> Self {
        Self { api, timeout, make_error: || BodyTimeout.into(), is_exempt: |_| false }
    }

    /// The error that a late body ends with; [`BodyTimeout`] without it.
    #[must_use]
    pub fn error(self, make_error: fn() -> Error) -> Self {
        Self { make_error, ..self }
    }

    /// Requests whose body is a stream without an end.
    #[must_use]
    pub fn except(self, is_exempt: fn(&Uri) -> bool) -> Self {
        Self { is_exempt, ..self }
    }
}

impl<S> Layer<S> for BodyDeadlineLayer {
    type Service = BodyDeadline<S>;

    fn layer(&self, inner: S) -> BodyDeadline<S> {
        BodyDeadline { inner, layer: Arc::new(self.clone()) }
    }
}

/// See [`BodyDeadlineLayer`].
#[derive(Clone)]
pub struct BodyDeadline<S> {
    inner: S,
    layer: Arc<BodyDeadlineLayer>,
}

impl<S, B> Service<Request<B>> for BodyDeadline<S>
where
    S: Service<Request<DeadlineBody<B>>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> S::Future {
        let is_limited = !(self.layer.is_exempt)(request.uri());
        let limit =
            is_limited.then(|| Deadline { layer: self.layer.clone(), begun: Instant::now(), bytes: 0, alarm: None });
        self.inner.call(request.map(|body| DeadlineBody { body, limit }))
    }
}

pin_project_lite::pin_project! {
    /// A request body with a deadline.
    pub struct DeadlineBody<B> {
        #[pin]
        body: B,
        limit: Option<Deadline>,
    }
}

struct Deadline {
    layer: Arc<BodyDeadlineLayer>,
    begun: Instant,
    bytes: u64,
    /// Made once the body has to be waited for: most come with their head.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    /// Ready once the deadline is over.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        let at = self.begun + self.layer.timeout + Duration::from_secs_f64(self.bytes as f64 / MIN_RATE);
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        if alarm.deadline() != at {
            alarm.as_mut().reset(at);
        }
        alarm.as_mut().poll(cx).map(|()| {
            timed_out(self.layer.api, "body");
            (self.layer.make_error)()
        })
    }
}

impl<B> Body for DeadlineBody<B>
where
    B: Body,
    B::Error: Into<Error>,
{
    type Data = B::Data;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, Error>>> {
        let this = self.project();
        match this.body.poll_frame(cx) {
            Poll::Ready(frame) => {
                if let (Some(limit), Some(Ok(frame))) = (this.limit, &frame) {
                    limit.bytes += frame.data_ref().map_or(0, |data| data.remaining() as u64);
                }
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending => match this.limit {
                Some(limit) => limit.poll(cx).map(|error| Some(Err(error))),
                None => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
