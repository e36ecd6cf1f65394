//! The stream of a run or a thread, joined again whenever it breaks.

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
/// When the connection breaks, the server drains, or the stream stops short of its end, it is joined again from where it stood, as
/// [`RetryPolicy`] says; nobody sees that but in the timing. What cannot be mended comes as the last item, an error. The stream of a run ends after
/// its `End`; a run that failed is no error here: see [`End::into_result`]. Dropping the stream leaves the run, which goes on unless it was made to
/// be cancelled then.
///
/// Nothing is sent before the first poll.
#[must_use = "a stream does nothing unless polled"]
pub struct RunStream {
    open: Box<dyn Fn(&Position) -> Opening + Send + Sync>,
    scope: Scope,
    position: Position,
    state: State,
    retry: RetryPolicy,
    /// In a row, without a sign of life between them.
    failures: u32,
    /// Whether a part came since the stream was opened last.
    greeted: bool,
}

/// What a stream is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// One run, to its end.
    Run,
    /// Every run of a thread, for ever.
    Thread,
}

/// Where a stream stands: all that it takes to open it again.
#[derive(Debug, Default)]
pub(super) struct Position {
    /// The run; empty until it is known.
    pub run_id: String,
    /// The last cursor; empty until there was one.
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
        Self { open: Box::new(open), scope, position, state: State::Start, retry, failures: 0, greeted: false }
    }

    /// The run that the last part was of; None before the first part.
    pub fn run_id(&self) -> Option<&str> {
        Some(self.position.run_id.as_str()).filter(|id| !id.is_empty())
    }

    /// Where another stream would go on after the last part: for `JoinRunRequest.cursor`, or `StreamThreadRequest.cursor`. None before the first part.
    pub fn cursor(&self) -> Option<&str> {
        Some(self.position.cursor.as_str()).filter(|cursor| !cursor.is_empty())
    }

    /// Reads on to the end of the run, of the first that ends.
    pub async fn end(mut self) -> Result<End, Error> {
        while let Some(part) = self.next().await {
            if let Some(Payload::End(end)) = part?.payload {
                return Ok(end);
            }
        }
        Err(Error::new(Code::OutOfRange, "the stream has ended already"))
    }

    /// After an error: wait and open again, or give up with it.
    fn broke(&mut self, error: Error) -> Result<(), Error> {
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

    /// Takes a part in: false if it was there before.
    fn accept(&mut self, part: &StreamRunResponse) -> bool {
        let greeted = std::mem::replace(&mut self.greeted, true);
        if !self.position.accept(part) {
            return false;
        }
        // What every opening begins with is no sign of life: a server may fail right after it, each time.
        if part.seq > 0 || greeted {
            self.failures = 0;
        }
        if let (Scope::Run, Some(Payload::End(_))) = (self.scope, &part.payload) {
            self.state = State::Done;
        }
        true
    }
}

impl Position {
    /// Where a join starts that its caller asked for.
    pub(super) fn at(run_id: &str, cursor: &str) -> Self {
        Self { run_id: run_id.to_owned(), cursor: cursor.to_owned(), seen: HashMap::new() }
    }

    /// Moves past a part: false, and no move, if it was there before. So is the Metadata that opens a join, when it is not the first.
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
                        this.greeted = false;
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
            if let Err(error) = this.broke(broken) {
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
