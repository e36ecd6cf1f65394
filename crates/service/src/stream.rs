//! One reader's stream: the parts of a run, or of every run of a thread, with a sign of life where nothing comes.

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream;
use runloom::{
    reason::{CURSOR, OLDEST_CURSOR},
    v1::JsonEncoding,
};
use runloom_core::{
    Body, Error, OpenStream, Reason, Record, RunReader, ThreadPart, ThreadReader, events::RecordEvents,
};
use runloom_engine::{RunId, ThreadId};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, Sleep},
};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::Status;

use crate::{
    connection::Call,
    cursor::{Cursor, RunCursors, ThreadPlace},
    fit::DEFAULT_BYTES,
    parts::{Part, Projector},
    shared::{Shared, Sharing},
    status::{deadline, status_with},
};

/// The room in a part for the numbers of its events.
const EVENTS_BYTES: u32 = 128;

/// How a reader wants its parts.
pub(crate) struct Wants {
    /// How their JSON is encoded.
    pub encoding: JsonEncoding,
    /// The largest it takes; 0 for the default.
    pub max_part_bytes: u32,
}

/// The stream of one reader. Dropping it is a reader that left.
pub(crate) struct Parts {
    source: Source,
    projector: Projector,
    sharing: Arc<Sharing>,
    shared: Option<Arc<Shared>>,
    is_done: bool,
    /// When something was sent last, and how long that may be ago.
    sent: Instant,
    patience: Duration,
    deadline: Option<Instant>,
    /// Wakes at the earlier of both; may lag behind `sent`, and is then set anew.
    alarm: Pin<Box<Sleep>>,
    closing: Pin<Box<WaitForCancellationFutureOwned>>,
    _permit: OwnedSemaphorePermit,
    _open: OpenStream,
}

/// What comes next from a source.
struct Next {
    record: Arc<Record>,
    /// Its events with their numbers, in a stream of a thread.
    events: Option<RecordEvents>,
}

impl Next {
    fn plain(record: Arc<Record>) -> Self {
        Self { record, events: None }
    }
}

/// What is read.
pub(crate) enum Source {
    /// A run, to its end.
    Run(RunSource),
    /// Every run of a thread.
    Thread(ThreadSource),
}

/// A reader of a run, and where it stands.
pub(crate) struct RunSource {
    reader: RunReader,
    run: RunId,
    cursors: RunCursors,
    seq: u64,
}

/// A reader of a thread, and where it stands.
pub(crate) struct ThreadSource {
    reader: ThreadReader,
    thread: ThreadId,
    place: ThreadPlace,
    /// Whether the place has been told.
    is_told: bool,
}

impl RunSource {
    pub fn new(reader: RunReader, run: RunId, after: u64) -> Self {
        Self { reader, run, cursors: RunCursors::of(run), seq: after }
    }
}

impl ThreadSource {
    pub fn new(reader: ThreadReader, thread: ThreadId, place: ThreadPlace) -> Self {
        Self { reader, thread, place, is_told: false }
    }

    fn has_seen(&self, record: &Record) -> bool {
        self.place.run == Some(record.run_id) && (1..=self.place.seq).contains(&record.seq)
    }
}

impl Source {
    fn poll_record(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Next, Error>>> {
        match self {
            Self::Run(source) => Pin::new(&mut source.reader).poll_next(cx).map_ok(Next::plain),
            Self::Thread(source) => loop {
                match std::task::ready!(Pin::new(&mut source.reader).poll_next(cx)) {
                    // The end of a run is told again to who joins it there, but not to who goes on with the next run.
                    Some(Ok((ThreadPart::Record(record), _))) if source.has_seen(&record) => {}
                    Some(Ok((ThreadPart::Record(record), _))) => return Poll::Ready(Some(Ok(Next::plain(record)))),
                    Some(Ok((ThreadPart::Numbered(of), _))) if source.has_seen(&of.record) => {}
                    Some(Ok((ThreadPart::Numbered(of), _))) => {
                        return Poll::Ready(Some(Ok(Next { record: of.record.clone(), events: Some(of) })));
                    }
                    Some(Ok((ThreadPart::Written(_), _))) => {}
                    Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                    None => return Poll::Ready(None),
                }
            },
        }
    }

    /// Why there is nothing more, where there should be: somebody deleted it.
    fn gone(&self) -> Error {
        match self {
            Self::Run(source) => {
                Error::new(Reason::RunNotFound, "the run's log ends here without an end: it was deleted")
                    .with("run_id", source.run)
            }
            Self::Thread(source) => {
                Error::new(Reason::ThreadNotFound, "the thread was deleted").with("thread_id", source.thread)
            }
        }
    }

    /// Moves past a record, and gives the cursor there.
    fn pass(&mut self, record: &Record) -> Cursor {
        match self {
            Self::Run(source) => source.seq = source.seq.max(record.seq),
            Self::Thread(source) if source.place.run == Some(record.run_id) => {
                source.place.seq = source.place.seq.max(record.seq);
            }
            Self::Thread(source) => source.place = ThreadPlace { run: Some(record.run_id), seq: record.seq },
        }
        self.cursor()
    }

    fn cursor(&self) -> Cursor {
        match self {
            Self::Run(source) => source.cursors.at(source.seq),
            Self::Thread(source) => source.place.cursor(source.thread),
        }
    }

    /// The run, where it is always the same.
    fn run(&self) -> Option<RunId> {
        match self {
            Self::Run(source) => Some(source.run),
            Self::Thread(_) => None,
        }
    }

    /// Whether a record is the last one.
    fn ends_with(&self, record: &Record) -> bool {
        matches!((self, &record.body), (Self::Run(_), Body::End(_)))
    }

    /// An error of the reader, with the cursors that its caller needs.
    fn status(&self, error: Error) -> Status {
        let of = match self {
            Self::Run(source) => Scope::Run(source.run),
            Self::Thread(source) => Scope::Thread(source.thread),
        };
        status_of(error, of, Some(self.cursor()))
    }
}

/// Whose cursors an error speaks of.
#[derive(Clone, Copy)]
pub(crate) enum Scope {
    Run(RunId),
    Thread(ThreadId),
}

/// The status of a stream that breaks off, or does not begin.
pub(crate) fn status_of(mut error: Error, scope: Scope, at: Option<Cursor>) -> Status {
    let mut more = HashMap::new();
    if let Some(at) = at {
        more.insert(CURSOR.to_owned(), at.to_string());
    }
    if error.reason == Reason::CursorExpired
        && let Some(seq) = error.metadata.remove("oldest_seq").and_then(|seq| seq.parse().ok())
    {
        let run = error.metadata.get("run_id").and_then(|id| id.parse().ok());
        let oldest = match scope {
            Scope::Run(run) => RunCursors::of(run).at(seq),
            Scope::Thread(thread) => ThreadPlace { run, seq }.cursor(thread),
        };
        more.insert(OLDEST_CURSOR.to_owned(), oldest.to_string());
    }
    status_with(error, more)
}

impl Parts {
    /// A stream of what a source gives.
    pub fn new(
        source: Source,
        wants: &Wants,
        sharing: Arc<Sharing>,
        patience: Duration,
        call: &Call,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        let most = if wants.max_part_bytes == 0 { DEFAULT_BYTES } else { wants.max_part_bytes };
        let most = if matches!(source, Source::Thread(_)) { most.saturating_sub(EVENTS_BYTES) } else { most };
        let sent = Instant::now();
        let alarm = call.deadline.map_or(sent + patience, |deadline| deadline.min(sent + patience));
        Self {
            shared: source.run().map(|run| sharing.join(run)),
            projector: Projector::new(wants.encoding, most as usize),
            source,
            sharing,
            is_done: false,
            sent,
            patience,
            deadline: call.deadline,
            alarm: Box::pin(tokio::time::sleep_until(alarm)),
            closing: Box::pin(call.connection.closing()),
            _permit: permit,
            _open: OpenStream::of("grpc"),
        }
    }

    fn part(&mut self, next: &Next) -> Part {
        let record = &*next.record;
        if self.shared.as_ref().is_none_or(|shared| shared.run() != record.run_id) {
            self.shared = Some(self.sharing.join(record.run_id));
        }
        let cursor = self.source.pass(record);
        self.is_done = self.source.ends_with(record);
        self.sent = Instant::now();
        let mut part = self.projector.part(record, cursor, self.shared.as_ref());
        if let Some(events) = &next.events {
            part.add_events(events);
        }
        part
    }

    fn progress(&mut self) -> Part {
        self.sent = Instant::now();
        self.projector.progress(self.source.run(), self.source.cursor(), std::time::SystemTime::now())
    }

    /// Breaks off.
    fn fail(&mut self, status: Status) -> Poll<Option<Result<Part, Status>>> {
        self.is_done = true;
        Poll::Ready(Some(Err(status)))
    }
}

impl Stream for Parts {
    type Item = Result<Part, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.is_done {
            return Poll::Ready(None);
        }
        if let Source::Thread(source) = &mut this.source
            && !std::mem::replace(&mut source.is_told, true)
        {
            return Poll::Ready(Some(Ok(this.progress())));
        }
        match this.source.poll_record(cx) {
            Poll::Ready(Some(Ok(next))) => return Poll::Ready(Some(Ok(this.part(&next)))),
            Poll::Ready(Some(Err(error))) => {
                let status = this.source.status(error);
                return this.fail(status);
            }
            Poll::Ready(None) => {
                let status = this.source.status(this.source.gone());
                return this.fail(status);
            }
            Poll::Pending => {}
        }
        if this.closing.as_mut().poll(cx).is_ready() {
            let error = Error::new(Reason::ServerDraining, "the connection is old enough; join again on another one");
            let status = this.source.status(error.retry_after(Duration::ZERO));
            return this.fail(status);
        }
        while this.alarm.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if this.deadline.is_some_and(|deadline| deadline <= now) {
                let status = deadline(this.source.cursor().to_string());
                return this.fail(status);
            }
            let next = this.sent + this.patience;
            if next <= now {
                let part = this.progress();
                let next = this.sent + this.patience;
                this.alarm.as_mut().reset(this.deadline.map_or(next, |deadline| deadline.min(next)));
                return Poll::Ready(Some(Ok(part)));
            }
            this.alarm.as_mut().reset(this.deadline.map_or(next, |deadline| deadline.min(next)));
        }
        Poll::Pending
    }
}
