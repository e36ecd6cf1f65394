//! The stream of a run or a thread, which rejoins when it breaks.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::{Stream, future::BoxFuture};
use futures_util::StreamExt;
use tokio::time::Sleep;
use tonic::{Code, Response, Status, Streaming};

use super::RetryPolicy;
use crate::{
    Error,
    v1::{End, StreamRunResponse, stream_run_response::Payload},
};

type Parts = Streaming<StreamRunResponse>;
type Opening = BoxFuture<'static, Result<Response<Parts>, Status>>;

/// The parts of a run, or of all runs of a thread, in order, each once.
///
/// If the connection breaks, the server drains, or the stream ends without an `End`, the stream rejoins at its last cursor, according to
/// [`RetryPolicy`]. An error that cannot be retried is the last item. The stream of a run ends after its `End`. A run that failed is not an error of
/// the stream: see [`End::into_result`]. Dropping the stream does not stop the run, unless its `on_disconnect` is CANCEL.
///
/// The request is sent at the first poll.
#[must_use = "a stream does nothing unless polled"]
pub struct RunStream {
    open: Box<dyn Fn(&Position) -> Opening + Send + Sync>,
    scope: Scope,
    position: Position,
    state: State,
    retry: RetryPolicy,
    /// Consecutive failures without a part in between.
    failures: u32,
    /// Whether a part was received since the stream was last opened.
    has_part: bool,
}

/// What a stream covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// One run, to its end.
    Run,
    /// All runs of a thread, without an end.
    Thread,
}

/// The position of a stream: everything needed to open it again.
#[derive(Debug, Default)]
pub(super) struct Position {
    /// The run; empty before the first part.
    pub run_id: String,
    /// The last cursor; empty before the first part.
    pub cursor: String,
    /// The highest seq of each run that has not ended.
    seen: HashMap<String, u64>,
}

enum State {
    Start,
    Opening(Opening),
    Reading(Box<Parts>),
    Waiting(Pin<Box<Sleep>>),
    Done,
}

impl RunStream {
    pub(super) fn new(
        scope: Scope,
        position: Position,
        retry: RetryPolicy,
        open: impl Fn(&Position) -> Opening + Send + Sync + 'static,
    ) -> Self {
        Self { open: Box::new(open), scope, position, state: State::Start, retry, failures: 0, has_part: false }
    }

    /// The run of the last part. `None` before the first part.
    pub fn run_id(&self) -> Option<&str> {
        Some(self.position.run_id.as_str()).filter(|id| !id.is_empty())
    }

    /// The cursor of the last part, for `JoinRunRequest.cursor` or `StreamThreadRequest.cursor`. `None` before the first part.
    pub fn cursor(&self) -> Option<&str> {
        Some(self.position.cursor.as_str()).filter(|cursor| !cursor.is_empty())
    }

    /// Reads until a run ends, and returns its `End`.
    pub async fn end(mut self) -> Result<End, Error> {
        while let Some(part) = self.next().await {
            if let Some(Payload::End(end)) = part?.payload {
                return Ok(end);
            }
        }
        Err(Error::new(Code::OutOfRange, "the stream has ended already"))
    }

    /// Handles an error: waits and opens the stream again, or returns it if it cannot be retried.
    fn retry_or_fail(&mut self, error: Error) -> Result<(), Error> {
        self.failures += 1;
        match self.retry.delay(self.failures, &error) {
            Some(delay) => {
                self.state = State::Waiting(Box::pin(tokio::time::sleep(delay)));
                Ok(())
            }
            None => {
                self.state = State::Done;
                Err(error)
            }
        }
    }

    /// Records a part. Returns false if it was received before.
    fn accept(&mut self, part: &StreamRunResponse) -> bool {
        let has_part = std::mem::replace(&mut self.has_part, true);
        if !self.position.accept(part) {
            return false;
        }
        // The first part of a stream does not reset the count of failures: a server may fail right after it each time.
        if part.seq > 0 || has_part {
            self.failures = 0;
        }
        if let (Scope::Run, Some(Payload::End(_))) = (self.scope, &part.payload) {
            self.state = State::Done;
        }
        true
    }
}

impl Position {
    /// The position of a join that the caller requested.
    pub(super) fn at(run_id: &str, cursor: &str) -> Self {
        Self { run_id: run_id.to_owned(), cursor: cursor.to_owned(), seen: HashMap::new() }
    }

    /// Advances to a part. Returns false if it was received before, as is the Metadata at the start of a later join.
    fn accept(&mut self, part: &StreamRunResponse) -> bool {
        match (self.seen.get_mut(&part.run_id), &part.payload) {
            (Some(_), Some(Payload::Metadata(_))) if part.seq == 0 => return false,
            (Some(last), _) if part.seq > 0 && part.seq <= *last => return false,
            (Some(last), _) => *last = part.seq.max(*last),
            (None, _) if part.run_id.is_empty() => {}
            (None, _) => {
                self.seen.insert(part.run_id.clone(), part.seq);
            }
        }
        if let Some(Payload::End(_)) = part.payload {
            self.seen.remove(&part.run_id);
        }
        if !part.run_id.is_empty() {
            self.run_id.clone_from(&part.run_id);
        }
        if !part.cursor.is_empty() {
            self.cursor.clone_from(&part.cursor);
        }
        true
    }
}

impl Stream for RunStream {
    type Item = Result<StreamRunResponse, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            let broken = match &mut this.state {
                State::Done => return Poll::Ready(None),
                State::Start => {
                    this.state = State::Opening((this.open)(&this.position));
                    continue;
                }
                State::Waiting(sleep) => {
                    ready!(sleep.as_mut().poll(cx));
                    this.state = State::Start;
                    continue;
                }
                State::Opening(opening) => match ready!(opening.as_mut().poll(cx)) {
                    Ok(parts) => {
                        this.state = State::Reading(Box::new(parts.into_inner()));
                        this.has_part = false;
                        continue;
                    }
                    Err(status) => status.into(),
                },
                State::Reading(parts) => match ready!(parts.poll_next_unpin(cx)) {
                    Some(Ok(part)) if this.accept(&part) => return Poll::Ready(Some(Ok(part))),
                    Some(Ok(_)) => continue,
                    Some(Err(status)) => status.into(),
                    None => Error::new(Code::Unavailable, "the stream stopped before its end"),
                },
            };
            if let Err(error) = this.retry_or_fail(broken) {
                return Poll::Ready(Some(Err(error)));
            }
        }
    }
}

impl fmt::Debug for RunStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunStream")
            .field("scope", &self.scope)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}
