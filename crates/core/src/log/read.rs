//! Reading a run's log: from any number, live or late, at the reader's own pace.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_core::{Stream, future::BoxFuture};
use runloom_engine::{
    RunId,
    stream::{EventKind, Mode, Modes, Payload},
};
use runloom_store::{ReadLimit, Run, RunStatus};

use super::{
    codec::Codec,
    live::{Found, Live, Reading},
    record::{Body, End, Opening, ReadOptions, Record},
};
use crate::{Core, Error, Reason, Recording, Result, RunSpec, runs::StoredRequest};

/// How many records are taken from memory at once.
const BATCH: usize = 128;

/// A reader of a run's log: its records in order, ending after the [`End`](Body::End). Dropping it is a reader that left.
pub struct RunReader {
    state: Reader,
}

/// What is at hand is given without a future: a stream of tokens goes through here one by one.
enum Reader {
    At(Box<Cursor>),
    Filling(BoxFuture<'static, (Box<Cursor>, Result<()>)>),
    Over,
}

impl Stream for RunReader {
    type Item = Result<Arc<Record>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            self.state = match std::mem::replace(&mut self.state, Reader::Over) {
                Reader::At(mut cursor) => {
                    if let Some(record) = cursor.pop() {
                        self.state = Reader::At(cursor);
                        return Poll::Ready(Some(Ok(record)));
                    }
                    if cursor.done {
                        return Poll::Ready(None);
                    }
                    if cursor.take_live() {
                        Reader::At(cursor)
                    } else {
                        Reader::Filling(Box::pin(async move {
                            let filled = cursor.fill().await;
                            (cursor, filled)
                        }))
                    }
                }
                Reader::Filling(mut filling) => match filling.as_mut().poll(cx) {
                    Poll::Ready((cursor, Ok(()))) => Reader::At(cursor),
                    Poll::Ready((_, Err(error))) => return Poll::Ready(Some(Err(error))),
                    Poll::Pending => {
                        self.state = Reader::Filling(filling);
                        return Poll::Pending;
                    }
                },
                Reader::Over => return Poll::Ready(None),
            };
        }
    }
}

/// One reader's place and what it has at hand.
pub(super) struct Cursor {
    core: Core,
    codec: Codec,
    live: Arc<Live>,
    reading: Option<Reading>,
    after: u64,
    ready: VecDeque<Arc<Record>>,
    modes: Modes,
    options: ReadOptions,
    /// True where nothing more is to come that is not on disk.
    is_late: bool,
    /// True once all that was on disk before this reader came has been read: the rest comes through memory.
    is_caught_up: bool,
    done: bool,
}

impl Core {
    /// Reads a run's log. The reader counts as one that is there until it is dropped.
    pub async fn read_run(&self, run: RunId, options: ReadOptions) -> Result<RunReader> {
        let run = self.inner.store.get_run(run).await?;
        self.read(run, options).await
    }

    /// Reads the log of a run that [`create_run`](Self::create_run) has just made. The opening tells the run as it was made.
    pub async fn read_new_run(&self, run: Run, options: ReadOptions) -> Result<RunReader> {
        self.read(run, options).await
    }

    async fn read(&self, run: Run, options: ReadOptions) -> Result<RunReader> {
        // All of one moment: a run that waits has no attempt, though one may have begun since.
        let (is_waiting, now) = (run.status == RunStatus::Pending, self.inner.clock.now());
        let has_opening = options.opening;
        let request = StoredRequest::of(&run).unwrap_or_default();
        let opening = has_opening.then(|| opening_of(&run, &request.spec.recording));
        let mut cursor = Cursor::open(self.clone(), run, &request.spec, options).await?;
        cursor.count();
        if let Some(opening) = opening {
            let attempt = if is_waiting { 0 } else { cursor.attempt() };
            let record = cursor.codec.unlogged(now, attempt, opening.into());
            cursor.ready.push_front(Arc::new(record));
        }
        Ok(RunReader { state: Reader::At(Box::new(cursor)) })
    }
}

/// How a run stands now.
pub(super) fn opening_of(run: &Run, recording: &Recording) -> Opening {
    Opening {
        thread_id: run.thread,
        assistant_id: run.assistant,
        graph: run.graph.clone(),
        revision: run.revision.clone(),
        status: run.status,
        modes: recording.modes(),
        subgraphs: recording.subgraphs,
    }
}

impl Cursor {
    pub async fn open(core: Core, run: Run, spec: &RunSpec, options: ReadOptions) -> Result<Self> {
        let recorded = spec.recording.modes();
        let modes = options.modes.unwrap_or(recorded);
        if !covers(recorded, modes) {
            let names: Vec<_> = recorded.iter().map(Mode::name).collect();
            return Err(Error::new(
                Reason::ModesNotRecorded,
                format!(
                    "run {} records {}; a reader may ask for fewer modes, not for others",
                    run.id,
                    names.join(", ")
                ),
            )
            .with("run_id", run.id));
        }
        // The live end first, then whether the run is over: so that an end between the two is not missed.
        let live = core.inner.runner.logs.open(run.id);
        let mut after = options.after;
        let run = core.inner.store.get_run(run.id).await?;
        let is_late = run.status.is_end();
        let bounds = core.inner.store.log_bounds(run.id).await?;
        if after + 1 < bounds.oldest {
            return Err(expired(&run, bounds.oldest));
        }
        // A number past what is kept is one that a crash lost: the next attempt's numbers are higher. Past the end of
        // a run there is nothing, and its end is told again.
        after = after.min(bounds.next.max(1) - 1);
        if is_late {
            // Of a log that is gone as a whole the place after it is left.
            let end = if bounds.last == 0 { bounds.oldest } else { bounds.last };
            after = after.min(end.max(1) - 1);
            core.inner.runner.logs.close(run.id);
        }
        let codec = core.codec_of(&run, &spec.options).await?;
        Ok(Self {
            reading: None,
            after,
            core,
            codec,
            live,
            ready: VecDeque::new(),
            modes,
            options,
            is_late,
            is_caught_up: false,
            done: false,
        })
    }

    /// Counts as a reader of the run: it is there until the cursor is dropped. Who follows a thread does not count.
    fn count(&mut self) {
        self.reading = (!self.is_late).then(|| {
            let reading = self.live.reading();
            reading.at(self.after);
            reading
        });
    }

    fn attempt(&self) -> u32 {
        self.core.inner.runner.attempt_of(self.live.run)
    }

    /// The next record; `None` after the end.
    pub async fn next(&mut self) -> Option<Result<Arc<Record>>> {
        loop {
            if let Some(record) = self.pop() {
                return Some(Ok(record));
            }
            if self.done {
                return None;
            }
            if let Err(error) = self.fill().await {
                self.done = true;
                return Some(Err(error));
            }
        }
    }

    /// The next record of those at hand that the reader wants. Nothing follows the end.
    fn pop(&mut self) -> Option<Arc<Record>> {
        while !self.done
            && let Some(record) = self.ready.pop_front()
        {
            if record.seq > 0 {
                self.after = record.seq;
                if let Some(reading) = &self.reading {
                    reading.at(record.seq);
                }
            }
            self.done = matches!(record.body, Body::End(_));
            if self.wants(&record) {
                return Some(record);
            }
        }
        None
    }

    /// Takes what is in memory. Says whether there was anything.
    fn take_live(&mut self) -> bool {
        if self.is_late {
            return false;
        }
        let Found::Records(records) = self.live.after(self.after, BATCH) else { return false };
        self.ready.extend(records);
        true
    }

    /// Gets what follows, or waits for it.
    async fn fill(&mut self) -> Result<()> {
        if self.is_late {
            if !self.read_disk(u64::MAX).await? {
                self.end_of_kept().await?;
            }
            return Ok(());
        }
        if self.find().await? {
            return Ok(());
        }
        // The first time, what was there before may be on disk alone.
        if !self.is_caught_up {
            self.is_caught_up = !self.read_disk(u64::MAX).await?;
            return Ok(());
        }
        let mut waiting = self.live.waiting();
        if self.find().await? {
            return Ok(());
        }
        tokio::select! {
            () = waiting.news() => Ok(()),
            () = self.core.inner.closing.cancelled() => Err(Error::new(
                Reason::ServerDraining,
                "the server is going down; join again from the cursor",
            )
            .with("run_id", self.live.run)
            .retry_after(Duration::from_secs(1))),
        }
    }

    /// Where the log of a run that is over holds nothing more, the run itself says how it ended.
    async fn end_of_kept(&mut self) -> Result<()> {
        let store = &self.core.inner.store;
        let (run, bounds) = tokio::try_join!(store.get_run(self.live.run), store.log_bounds(self.live.run))?;
        if self.after + 1 < bounds.oldest {
            return Err(expired(&run, bounds.oldest));
        }
        let at = run.ended_at.unwrap_or(run.created_at);
        let mut end = self.codec.unlogged(at, run.attempt, End::kept(&run).into());
        end.seq = self.after.max(1);
        self.ready.push_back(Arc::new(end));
        Ok(())
    }

    /// Looks for what follows. Says whether there is more to be done than to wait.
    async fn find(&mut self) -> Result<bool> {
        match self.live.after(self.after, BATCH) {
            Found::Records(records) => self.ready.extend(records),
            Found::OnDisk(before) => {
                if !self.read_disk(before).await? {
                    // An attempt ended without these numbers.
                    self.after = before - 1;
                }
            }
            Found::Gone => return Err(self.not_found()),
            // All of it is on disk now; what this reader has not seen is there.
            Found::Ended => self.is_late = true,
            Found::Wait => return Ok(false),
        }
        Ok(true)
    }

    /// Reads what is on disk, up to before a number. Says whether there was anything.
    async fn read_disk(&mut self, before: u64) -> Result<bool> {
        let rows = self.core.inner.store.read_log(self.live.run, self.after + 1, ReadLimit::default()).await;
        let rows = match rows {
            Ok(rows) => rows,
            Err(runloom_store::Error::NotFound { .. }) => return Err(self.not_found()),
            Err(error) => return Err(error.into()),
        };
        let mut any = false;
        for row in rows {
            for record in self.codec.decode(&row.bytes, self.after).await? {
                if record.seq < before {
                    any = true;
                    self.ready.push_back(record);
                }
            }
        }
        Ok(any)
    }

    fn not_found(&self) -> Error {
        Error::new(
            Reason::RunNotFound,
            format!("there is no run {} any more: it was deleted or rolled back", self.live.run),
        )
        .with("run_id", self.live.run)
    }

    fn wants(&self, record: &Record) -> bool {
        let Body::Part(payload) = &record.body else { return true };
        let has = |mode| self.modes.has(mode);
        match payload {
            Payload::Values(_) => has(Mode::Values),
            Payload::Update(_) => has(Mode::Updates),
            Payload::Custom(_) => has(Mode::Custom),
            Payload::TaskStart(_) | Payload::TaskEnd(_) => has(Mode::Tasks) || has(Mode::Debug),
            Payload::Checkpoint(_) => has(Mode::Checkpoints) || has(Mode::Debug),
            Payload::Message(m) => {
                let filter = &self.options.filter;
                let name = m.name.as_deref().unwrap_or_default();
                let node = m.meta.task.as_ref().map(|t| &*t.node);
                has(Mode::Messages)
                    && filter.admits_message(name, node, &record.namespace, m.meta.tags.iter().chain(m.tags.iter()))
                    && (m.chunk.is_last() || !filter.skips(&m.chunk))
            }
            Payload::Event(e) => {
                let filter = &self.options.filter;
                let node = e.meta.task.as_ref().map(|t| &*t.node);
                has(Mode::Events)
                    && filter.admits(e.kind, &e.name, node, &record.namespace, e.tags.iter())
                    && !(e.kind == EventKind::ChatModelStream && e.data.chunk.as_ref().is_some_and(|c| filter.skips(c)))
            }
        }
    }
}

/// The log of a run does not hold the place any more.
fn expired(run: &Run, oldest: u64) -> Error {
    let message = format!("the log of run {} begins at {oldest}; what came before has been removed", run.id);
    let error = Error::new(Reason::CursorExpired, message).with("run_id", run.id);
    error.with("oldest_seq", oldest.saturating_sub(1))
}

/// Whether the modes asked for are among those recorded; `debug` holds tasks and checkpoints, and the two make `debug`.
fn covers(recorded: Modes, asked: Modes) -> bool {
    let with = |modes: Modes| {
        let both: Modes = [Mode::Tasks, Mode::Checkpoints].into();
        let modes = if modes.has(Mode::Debug) { modes.with(both) } else { modes };
        if modes.covers(both) { modes.with(Mode::Debug) } else { modes }
    };
    with(recorded).covers(asked)
}
