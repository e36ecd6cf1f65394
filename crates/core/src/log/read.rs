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
use tokio::{sync::OwnedSemaphorePermit, task::JoinHandle};

use super::{
    codec::Codec,
    live::{Found, Live, Reading},
    record::{Body, End, Opening, ReadOptions, Record},
};
use crate::{Error, Reason, Recording, Result, RunSpec, Session, runs::StoredRequest};

/// How long a run has to begin on this server, before what another server writes is looked for.
const PRECEDENCE: Duration = Duration::from_millis(20);
/// How many records are taken from memory at once.
const BATCH: usize = 128;
/// The bytes of records that any reader may have decoded. Bounds what a reader costs that does not read.
const SMALL_BATCH: u64 = 32 << 10;
/// The bytes of records that a reader decodes at once where the memory for readers allows it.
const LARGE_BATCH: u64 = 512 << 10;
/// A block of the log is some times larger decoded than encoded.
const EXPANSION: u64 = 8;

/// A reader of a run's log: its records in order, ending after the [`End`](Body::End). Dropping it is a reader that left.
pub struct RunReader {
    state: Reader,
}

/// What is at hand is returned without a future: a stream of tokens goes through here one by one.
enum Reader {
    At(Box<Cursor>),
    /// A task of its own reads from the store: it ends, and gives back what it holds of the store, whether or not this
    /// reader is polled.
    Reading(JoinHandle<(Box<Cursor>, Result<()>)>),
    Waiting(BoxFuture<'static, (Box<Cursor>, Result<()>)>),
    Over,
}

impl RunReader {
    pub(super) fn new(cursor: Cursor) -> Self {
        Self { state: Reader::At(Box::new(cursor)) }
    }
}

impl Stream for RunReader {
    type Item = Result<Arc<Record>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let (cursor, result) = match &mut self.state {
                Reader::At(cursor) => {
                    if let Some(record) = cursor.pop() {
                        return Poll::Ready(Some(Ok(record)));
                    }
                    if cursor.done {
                        return Poll::Ready(None);
                    }
                    let next = cursor.look();
                    let Reader::At(mut cursor) = std::mem::replace(&mut self.state, Reader::Over) else { continue };
                    self.state = match next {
                        Ok(Next::Ready) => Reader::At(cursor),
                        Ok(Next::Store(before)) => Reader::Reading(tokio::spawn(async move {
                            let read = cursor.read(before).await;
                            (cursor, read)
                        })),
                        Ok(Next::Wait) => Reader::Waiting(Box::pin(async move {
                            let waited = cursor.wait().await;
                            (cursor, waited)
                        })),
                        Err(error) => return Poll::Ready(Some(Err(error))),
                    };
                    continue;
                }
                Reader::Reading(task) => match std::task::ready!(Pin::new(task).poll(cx)) {
                    Ok(read) => read,
                    Err(_) => {
                        self.state = Reader::Over;
                        let error =
                            Error::new(Reason::Internal, "reading the log ended early: the server is going down");
                        return Poll::Ready(Some(Err(error)));
                    }
                },
                Reader::Waiting(wait) => std::task::ready!(wait.as_mut().poll(cx)),
                Reader::Over => return Poll::Ready(None),
            };
            match result {
                Ok(()) => self.state = Reader::At(cursor),
                Err(error) => {
                    self.state = Reader::Over;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }
}

/// What a reader does next.
enum Next {
    /// Records are at hand.
    Ready,
    /// Read the store, up to before this number.
    Store(u64),
    /// Wait for more.
    Wait,
}

/// One reader's place and what it has at hand.
pub(super) struct Cursor {
    core: Session,
    codec: Codec,
    live: Arc<Live>,
    reading: Option<Reading>,
    after: u64,
    ready: VecDeque<Arc<Record>>,
    /// The memory that a large batch takes, until all of it has been read.
    _room: Option<OwnedSemaphorePermit>,
    modes: Modes,
    options: ReadOptions,
    /// True where nothing more is to come that is not on disk.
    is_late: bool,
    /// True once all that was on disk before this reader came has been read: the rest comes through memory.
    is_caught_up: bool,
    done: bool,
}

impl Session {
    /// Reads a run's log. The reader counts as one that is there until it is dropped.
    pub async fn read_run(&self, run: RunId, options: ReadOptions) -> Result<RunReader> {
        let run = self.inner.store.get_run(self.tenant(), run).await?;
        self.read(run, options).await
    }

    /// Reads the log of a run that [`create_run`](Self::create_run) has just made. The opening tells the run as it was made.
    pub async fn read_new_run(&self, run: Run, options: ReadOptions) -> Result<RunReader> {
        self.read(run, options).await
    }

    /// The same for who follows a thread: it does not count as a reader of the run.
    pub(crate) async fn follow_run(&self, run: Run, spec: &RunSpec, options: ReadOptions) -> Result<RunReader> {
        Ok(RunReader::new(Cursor::open(self.clone(), run, spec, options).await?))
    }

    async fn read(&self, run: Run, options: ReadOptions) -> Result<RunReader> {
        // All of one moment: a run that waits has no attempt, though one may have begun since.
        let (is_waiting, now) = (run.status == RunStatus::Pending, self.inner.clock.now());
        let has_opening = options.opening;
        let request = StoredRequest::or_empty(&run);
        let opening = has_opening.then(|| opening_of(&run, &request.spec.recording));
        let mut cursor = Cursor::open(self.clone(), run, &request.spec, options).await?;
        cursor.count();
        if let Some(opening) = opening {
            let attempt = if is_waiting { 0 } else { cursor.attempt() };
            let record = cursor.codec.unlogged(now, attempt, opening.into());
            cursor.ready.push_front(Arc::new(record));
        }
        Ok(RunReader::new(cursor))
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
    pub async fn open(core: Session, run: Run, spec: &RunSpec, options: ReadOptions) -> Result<Self> {
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
        let run = core.inner.store.get_run(core.tenant(), run.id).await?;
        let is_late = run.status.is_end();
        let bounds = core.inner.store.log_bounds(core.tenant(), run.id).await?;
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
            _room: None,
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

    /// Takes what is in memory, or returns what to do instead.
    fn look(&mut self) -> Result<Next> {
        if self.is_late {
            return Ok(Next::Store(u64::MAX));
        }
        Ok(match self.live.after(self.after, BATCH, SMALL_BATCH, self.options.durable) {
            Found::Records(records) => {
                self.ready.extend(records);
                Next::Ready
            }
            Found::OnDisk(before) => Next::Store(before),
            Found::Gone => return Err(self.not_found()),
            // All of it is on disk now; what this reader has not seen is there.
            Found::Ended => {
                self.is_late = true;
                Next::Ready
            }
            // The first time, what was there before may be on disk alone.
            Found::Wait if !self.is_caught_up => Next::Store(u64::MAX),
            Found::Wait => Next::Wait,
        })
    }

    /// Reads the store, up to before a number.
    async fn read(&mut self, before: u64) -> Result<()> {
        let has_read = self.read_disk(before).await?;
        match (has_read, before) {
            (true, _) => {}
            (false, _) if self.is_late => self.end_of_stored().await?,
            (false, u64::MAX) => self.is_caught_up = true,
            // An attempt ended without these numbers.
            (false, before) => self.after = before - 1,
        }
        Ok(())
    }

    /// Waits until more has come.
    async fn wait(&mut self) -> Result<()> {
        let durable = self.options.durable;
        let mut waiting = self.live.waiting(durable);
        if !matches!(self.live.after(self.after, 1, 0, durable), Found::Wait) {
            return Ok(());
        }
        let draining = || {
            let message = "the server is going down; join again from the cursor";
            let error = Error::new(Reason::ServerDraining, message).with("run_id", self.live.run);
            Err(error.retry_after(Duration::from_secs(1)))
        };
        let inner = &self.core.inner;
        let is_elsewhere = inner.runner.active(self.live.run).is_none();
        tokio::select! {
            () = waiting.news() => return Ok(()),
            // What another server writes comes into memory as well, once for all readers.
            () = tokio::time::sleep(PRECEDENCE), if is_elsewhere => {
                self.core.feed(&self.live, &self.codec, self.after);
            }
            () = inner.closing.cancelled() => return draining(),
        }
        tokio::select! {
            () = waiting.news() => Ok(()),
            () = inner.closing.cancelled() => draining(),
        }
    }

    /// Where the log of a run that is over holds nothing more, the run itself says how it ended.
    async fn end_of_stored(&mut self) -> Result<()> {
        let store = &self.core.inner.store;
        let (tenant, run) = (self.core.tenant(), self.live.run);
        let (run, bounds) = tokio::try_join!(store.get_run(tenant, run), store.log_bounds(tenant, run))?;
        if self.after + 1 < bounds.oldest {
            return Err(expired(&run, bounds.oldest));
        }
        let at = run.ended_at.unwrap_or(run.created_at);
        let mut end = self.codec.unlogged(at, run.attempt, End::stored(&run)?.into());
        end.seq = self.after.max(1);
        self.ready.push_back(Arc::new(end));
        Ok(())
    }

    /// Reads what is on disk, up to before a number. Says whether there was anything.
    async fn read_disk(&mut self, before: u64) -> Result<bool> {
        self._room = None;
        let kib = u32::try_from(LARGE_BATCH >> 10).unwrap_or(u32::MAX);
        self._room = self.core.inner.reader_memory.clone().try_acquire_many_owned(kib).ok();
        let most = if self._room.is_some() { LARGE_BATCH } else { SMALL_BATCH };
        // The first row is read whatever its size; it is decoded as far as there is room.
        let limit =
            ReadLimit { bytes: usize::try_from(most / EXPANSION).unwrap_or(usize::MAX), ..ReadLimit::default() };
        let rows = self.core.inner.store.read_log(self.core.tenant(), self.live.run, self.after + 1, limit).await;
        let rows = match rows {
            Ok(rows) => rows,
            Err(runloom_store::Error::NotFound { .. }) => return Err(self.not_found()),
            Err(error) => return Err(error.into()),
        };
        self.ready.shrink_to(BATCH);
        let mut weight = 0;
        for row in rows {
            if weight >= most {
                break;
            }
            for record in self.codec.decode(&row.bytes, self.after, most - weight).await? {
                if record.seq < before {
                    weight += record.weight();
                    self.ready.push_back(record);
                }
            }
        }
        Ok(weight > 0)
    }

    fn not_found(&self) -> Error {
        Error::new(
            Reason::RunNotFound,
            format!("there is no run {} any more: it was deleted or rolled back", self.live.run),
        )
        .with("run_id", self.live.run)
    }

    fn wants(&self, record: &Record) -> bool {
        self.options.wants(self.modes, record)
    }
}

impl ReadOptions {
    /// Whether a reader of these modes receives a record.
    pub(super) fn wants(&self, modes: Modes, record: &Record) -> bool {
        let Body::Part(payload) = &record.body else { return true };
        let has = |mode| modes.has(mode);
        match payload {
            Payload::Values(_) => has(Mode::Values),
            Payload::Update(_) => has(Mode::Updates),
            Payload::Custom(_) => has(Mode::Custom),
            Payload::TaskStart(_) | Payload::TaskEnd(_) => has(Mode::Tasks) || has(Mode::Debug),
            Payload::Checkpoint(_) => has(Mode::Checkpoints) || has(Mode::Debug),
            Payload::Message(m) => {
                let filter = &self.filter;
                let name = m.name.as_deref().unwrap_or_default();
                let node = m.meta.task.as_ref().map(|t| &*t.node);
                has(Mode::Messages)
                    && filter.admits_message(name, node, &record.namespace, m.meta.tags.iter().chain(m.tags.iter()))
                    && (m.chunk.is_last() || !filter.skips(&m.chunk))
            }
            Payload::Event(e) => {
                let filter = &self.filter;
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

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, StreamExt};
    use runloom_engine::{RunId, value};
    use runloom_store_memory::MemoryStore;

    use super::*;
    use crate::{Caller, Core, CoreOptions, Recording, RunRequest, RunSpec, Start, Target};

    const READERS: usize = 50;

    async fn ended_run(reader_memory: usize) -> (Session, RunId) {
        let document = format!(
            "runloom: v1\nname: long\nstate: {{ messages: {{ reducer: messages }} }}\nmodels:\n  m: {{ scripted: {{ responses: \
             [ {{ content: \"{}\" }} ] }} }}\nnodes:\n  a: {{ chat_model: {{ model: m }} }}\nedges:\n  - {{ from: START, to: a \
             }}\n",
            "word ".repeat(20_000)
        );
        let documents = vec![("long.yaml".to_owned(), document)];
        let options = CoreOptions { documents, reader_memory, ..CoreOptions::new(Arc::new(MemoryStore::new())) };
        let core = Core::start(options).await.unwrap().session(Caller::default());
        let start = Start::Input(value!({"messages": [{"role": "user", "content": "go"}]}));
        let recording = Recording { modes: Modes::from(Mode::Messages).bits(), ..Recording::default() };
        let request = RunRequest {
            target: Target::Graph("long".to_owned()),
            spec: RunSpec { recording, ..RunSpec::new(start) },
            ..RunRequest::default()
        };
        let run = core.create_run(request).await.unwrap().0.id;
        assert_eq!(core.wait_run(run).await.unwrap().end.status, RunStatus::Succeeded);
        (core, run)
    }

    fn held(reader: &RunReader) -> u64 {
        let Reader::At(cursor) = &reader.state else { return 0 };
        cursor.ready.iter().map(|record| record.weight()).sum()
    }

    /// Fault V3: each of them held 16 to 30 MB.
    #[tokio::test]
    async fn readers_that_stall_hold_a_small_batch_each_and_large_ones_within_the_memory_for_readers() {
        let memory = 2 * LARGE_BATCH;
        let (core, run) = ended_run(memory as usize).await;
        let mut readers = Vec::new();
        for _ in 0..READERS {
            let mut reader = core.read_run(run, ReadOptions::default()).await.unwrap();
            reader.next().await.unwrap().unwrap();
            readers.push(reader);
        }
        let large = readers.iter().filter(|reader| held(reader) > SMALL_BATCH + 4096).count();
        assert_eq!(large, 2, "as many as there is memory for");
        let all: u64 = readers.iter().map(held).sum();
        assert!(all < memory + READERS as u64 * (SMALL_BATCH + 4096), "{all} bytes");
        // A small batch after the other is the whole log, and what a large one took comes free with it.
        let mut read = Vec::new();
        for reader in readers.drain(..3).rev() {
            read.push(reader.map(|record| record.unwrap().seq).collect::<Vec<_>>().await);
        }
        assert!(read[0].len() > 10_000, "{} records", read[0].len());
        assert!(read.iter().all(|seqs| *seqs == read[0]));
        drop(readers);
        assert_eq!(core.inner.reader_memory.available_permits() as u64, memory >> 10);
    }

    /// Fault V1: what reads the store ends although its reader is not polled any more.
    #[tokio::test]
    async fn a_reader_that_is_not_polled_gives_back_what_it_holds_of_the_store() {
        let (core, run) = ended_run(0).await;
        let mut reader = core.read_run(run, ReadOptions::default()).await.unwrap();
        assert!(reader.next().now_or_never().is_none());
        let Reader::Reading(task) = &reader.state else { panic!("it reads the store") };
        while !task.is_finished() {
            tokio::task::yield_now().await;
        }
        assert!(reader.next().await.unwrap().is_ok());
    }
}
