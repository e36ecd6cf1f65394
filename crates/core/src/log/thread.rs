//! Reading a thread: every run of it, live, one after the other, and what was written to its state by hand between them.

use std::{
    collections::{HashSet, VecDeque},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use futures_core::{Stream, stream::BoxStream};
use futures_util::StreamExt;
use runloom_engine::{
    CheckpointId, Object, RunId, ThreadId,
    checkpoint::{CheckpointFilter, Source},
    stream::Modes,
};
use runloom_store::{BegunAt, Direction, Run, ThreadStatus, Topic, Watch};

use super::{
    read::{Cursor, RunReader},
    record::{ReadOptions, Record},
};
use crate::{
    Error, Reason, Result, Session,
    events::{RecordEvents, Translator},
    runs::StoredRequest,
};

/// How many runs are looked at together.
const LOOK: usize = 20;
/// How often a thread is looked at without a hint.
const POLL: Duration = Duration::from_secs(15);

/// What a reader of a thread is told.
#[derive(Clone, Debug)]
pub enum ThreadPart {
    /// A record of a run.
    Record(Arc<Record>),
    /// A record of a run with the numbers of its events, for a reader that asked for [them](ReadOptions::numbered).
    Numbered(RecordEvents),
    /// The state was written by hand: this checkpoint was made.
    Written(CheckpointId),
}

/// A reader of all runs of a thread: each part with the cursor from which to go on. It never ends by itself.
pub struct ThreadReader {
    inner: BoxStream<'static, Result<(ThreadPart, String)>>,
}

impl Stream for ThreadReader {
    type Item = Result<(ThreadPart, String)>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.inner.as_mut().poll_next(cx)
    }
}

struct Follow {
    core: Session,
    thread: ThreadId,
    options: ReadOptions,
    hints: Watch,
    now: Option<RunReader>,
    /// Where in the runs this reader stands.
    at: (RunId, u64),
    /// The run that was read last, in the order in which runs begin; none before the first.
    begun: Option<BegunAt>,
    /// Runs after that one which this reader does not read: they had ended before it came.
    skipped: HashSet<RunId>,
    /// What was written by hand, where that is wanted.
    writes: Option<Writes>,
    failed: bool,
    /// For the run that is read, where events are numbered.
    numbering: Option<Numbering>,
    /// The number of the last event that was read.
    events: u64,
}

/// Numbers the events of a run. It is read from its beginning and as a whole; what a reader does not want is dropped here.
struct Numbering {
    translator: Translator,
    modes: Modes,
    /// The last record that the reader has seen.
    after: u64,
}

/// The checkpoints that were made by hand after a place, as far as they have been looked up.
struct Writes {
    after: After,
    found: VecDeque<(CheckpointId, SystemTime)>,
}

#[derive(Clone, Copy)]
enum After {
    Checkpoint(CheckpointId),
    Time(SystemTime),
}

impl After {
    fn is_before(self, id: CheckpointId, made: SystemTime) -> bool {
        match self {
            Self::Checkpoint(seen) => id > seen,
            Self::Time(time) => made > time,
        }
    }
}

impl Session {
    /// Reads every run of a thread from now on, or from a cursor that such a reader gave: `run:seq`, the run being nil for
    /// one that has seen none yet. With `writes`, what is written to the state by hand is told too; then a cursor may
    /// have the last one seen behind it, `run:seq~checkpoint`, or `~0` for none.
    pub async fn read_thread(
        &self,
        thread: ThreadId,
        after: Option<String>,
        options: ReadOptions,
        writes: bool,
    ) -> Result<ThreadReader> {
        self.inner.store.get_thread(self.tenant(), thread).await?;
        self.follow_thread(thread, after, options, writes).await
    }

    /// Like [`read_thread`](Self::read_thread), but the thread need not exist yet: its runs follow once it is created.
    pub async fn follow_thread(
        &self,
        thread: ThreadId,
        after: Option<String>,
        options: ReadOptions,
        writes: bool,
    ) -> Result<ThreadReader> {
        // Subscribed before the runs are listed, so that no run is missed between the two.
        let hints = self.inner.store.watch(Topic::Thread(thread));
        let is_busy = match self.inner.store.get_thread(self.tenant(), thread).await {
            Ok(found) => found.status == ThreadStatus::Busy,
            Err(runloom_store::Error::NotFound { .. }) => false,
            Err(error) => return Err(error.into()),
        };
        let mut follow = Follow {
            core: self.clone(),
            thread,
            options,
            hints,
            now: None,
            at: (RunId(uuid::Uuid::nil()), 0),
            begun: None,
            skipped: HashSet::new(),
            writes: None,
            failed: false,
            numbering: None,
            events: 0,
        };
        follow.begin(after.as_deref(), writes, is_busy).await?;
        let inner =
            futures_util::stream::unfold(
                follow,
                |mut follow| async move { follow.next().await.map(|item| (item, follow)) },
            );
        Ok(ThreadReader { inner: Box::pin(inner) })
    }
}

impl Follow {
    async fn begin(&mut self, after: Option<&str>, wants_writes: bool, is_busy: bool) -> Result<()> {
        let invalid = || Error::new(Reason::CursorInvalid, "the cursor is not one that a stream of this thread gave");
        let written = match after {
            None => {
                self.begin_now(is_busy).await?;
                let latest = CheckpointFilter { limit: Some(1), ..CheckpointFilter::default() };
                let latest = if wants_writes {
                    checkpoints_of(self.core.clone(), self.thread, latest).await?.pop()
                } else {
                    None
                };
                latest.map_or(After::Time(SystemTime::UNIX_EPOCH), |(id, _)| After::Checkpoint(id))
            }
            Some(cursor) => {
                let (place, written) = match cursor.split_once('~') {
                    None => (cursor, None),
                    Some((place, "0")) => (place, Some(After::Time(SystemTime::UNIX_EPOCH))),
                    Some((place, id)) => (place, Some(After::Checkpoint(id.parse().map_err(|_| invalid())?))),
                };
                let (run, seq) = place.split_once(':').ok_or_else(invalid)?;
                let run: RunId = run.parse().map_err(|_| invalid())?;
                let seq: u64 = seq.parse().map_err(|_| invalid())?;
                let found = match self.core.store().get_run(self.core.tenant(), run).await {
                    Ok(found) if found.thread == self.thread => Some(found),
                    Ok(_) | Err(runloom_store::Error::NotFound { .. }) => None,
                    Err(error) => return Err(error.into()),
                };
                let place = found.as_ref().and_then(BegunAt::of);
                if place.is_some() {
                    self.open(run, seq).await?;
                }
                // A run that is gone was rolled back or deleted: what began before it was made has been seen.
                self.begun = place.or_else(|| Some(BegunAt { at: made_at(run)?, run }));
                self.at = (run, seq);
                // Nothing is written while a run is active: what was written before it began has been seen.
                let began = self.begun.map_or(SystemTime::UNIX_EPOCH, |begun| begun.at);
                written.unwrap_or(After::Time(began))
            }
        };
        self.writes = wants_writes.then(|| Writes { after: written, found: VecDeque::new() });
        Ok(())
    }

    /// From now on: a run that is under way is read from here, what is over is not read.
    async fn begin_now(&mut self, is_busy: bool) -> Result<()> {
        let (mut from, mut is_passed) = (None, false);
        loop {
            let (store, tenant) = (self.core.store().clone(), self.core.tenant().clone());
            let page = store.begun_runs(&tenant, self.thread, from, Direction::Descending, LOOK).await?;
            let is_last = page.len() < LOOK;
            for run in page {
                from = BegunAt::of(&run);
                if run.status.is_end() && self.at.0 == RunId(uuid::Uuid::nil()) {
                    self.at = (run.id, run.last_seq);
                }
                if !run.status.is_end() {
                    is_passed = true;
                } else if is_passed || !is_busy {
                    self.begun = from;
                    return Ok(());
                } else {
                    // It ended without having begun, while the one under way went on.
                    self.skipped.insert(run.id);
                }
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// The next checkpoint that was made by hand, of those made before the next run began.
    async fn written(&mut self, next: Option<&Run>) -> Result<Option<CheckpointId>> {
        let Some(Writes { after, found }) = &self.writes else { return Ok(None) };
        if found.is_empty() {
            let after = *after;
            let metadata: Object = [("source", Source::Update.name())].into_iter().collect();
            let (mut fresh, mut before, mut size) = (VecDeque::new(), None, 1);
            'all: loop {
                let filter = CheckpointFilter { before, metadata: metadata.clone(), limit: Some(size) };
                let page = checkpoints_of(self.core.clone(), self.thread, filter).await?;
                let is_last = page.len() < size;
                for (id, made) in page {
                    if !after.is_before(id, made) {
                        break 'all;
                    }
                    before = Some(id);
                    fresh.push_front((id, made));
                }
                if is_last {
                    break;
                }
                // Mostly there is one: the rest is looked for where there are more.
                size = 20;
            }
            if let Some(writes) = &mut self.writes {
                writes.found = fresh;
            }
        }
        let Some(writes) = &mut self.writes else { return Ok(None) };
        let begins = next.and_then(moved);
        let is_due = |made: SystemTime| begins.is_none_or(|begins| made <= begins);
        let Some((id, _)) = writes.found.pop_front_if(|(_, made)| is_due(*made)) else { return Ok(None) };
        writes.after = After::Checkpoint(id);
        Ok(Some(id))
    }

    async fn open(&mut self, run: RunId, after: u64) -> Result<()> {
        let run = self.core.store().get_run(self.core.tenant(), run).await?;
        // The modes a reader asks for are those it wants of whatever a run records.
        let spec = StoredRequest::or_empty(&run).spec;
        let recorded = spec.recording.modes();
        let modes = self.options.modes.map(|m| m.iter().filter(|m| recorded.has(*m)).collect());
        self.numbering = None;
        if self.options.numbered {
            let whole = ReadOptions { durable: true, ..ReadOptions::default() };
            match self.core.follow_run(run.clone(), &spec, whole).await {
                Ok(reader) => {
                    let translator = Translator::new(&spec);
                    self.numbering = Some(Numbering { translator, modes: modes.unwrap_or(recorded), after });
                    self.events = run.events_before.unwrap_or(self.events);
                    self.now = Some(reader);
                    return Ok(());
                }
                // Its beginning is gone: what is left has no numbers.
                Err(error) if error.reason == Reason::CursorExpired => {}
                Err(error) => return Err(error),
            }
        }
        let options = ReadOptions { after, modes, ..self.options.clone() };
        self.now = Some(RunReader::new(Cursor::open(self.core.clone(), run, &spec, options).await?));
        Ok(())
    }

    async fn next(&mut self) -> Option<Result<(ThreadPart, String)>> {
        while !self.failed {
            if let Some(reader) = &mut self.now {
                match reader.next().await {
                    Some(Ok(record)) => {
                        self.at = (record.run_id, record.seq);
                        let at = format!("{}:{}", record.run_id, record.seq);
                        let Some(numbering) = &mut self.numbering else {
                            return Some(Ok((ThreadPart::Record(record), at)));
                        };
                        let (before, events) = (self.events, numbering.translator.events(&record));
                        self.events += events.len() as u64;
                        if record.seq > numbering.after && self.options.wants(numbering.modes, &record) {
                            return Some(Ok((ThreadPart::Numbered(RecordEvents { record, before, events }), at)));
                        }
                    }
                    // A run that was rolled back is over.
                    Some(Err(error)) if error.reason == Reason::RunNotFound => self.now = None,
                    Some(Err(error)) => {
                        self.failed = true;
                        return Some(Err(error));
                    }
                    None => self.now = None,
                }
                continue;
            }
            self.hints.take();
            let next = match next_begun(self.core.clone(), self.thread, self.begun).await {
                Ok(next) => next,
                Err(error) => {
                    self.failed = true;
                    return Some(Err(error));
                }
            };
            match self.written(next.as_ref()).await {
                Ok(None) => {}
                Ok(Some(id)) => {
                    let at = format!("{}:{}~{id}", self.at.0, self.at.1);
                    return Some(Ok((ThreadPart::Written(id), at)));
                }
                Err(error) => {
                    self.failed = true;
                    return Some(Err(error));
                }
            }
            if let Some(run) = next {
                self.begun = BegunAt::of(&run);
                if self.skipped.remove(&run.id) {
                    continue;
                }
                match self.open(run.id, 0).await {
                    Ok(()) => continue,
                    Err(error) if error.reason == Reason::RunNotFound => continue,
                    Err(error) => {
                        self.failed = true;
                        return Some(Err(error));
                    }
                }
            }
            tokio::select! {
                // A hint may be lost.
                _ = tokio::time::timeout(POLL, self.hints.changed()) => {}
                () = self.core.inner.closing.cancelled() => {
                    self.failed = true;
                    return Some(Err(Error::new(
                        Reason::ServerDraining,
                        "the server is going down; join again from the cursor",
                    )
                    .retry_after(Duration::from_secs(1))));
                }
            }
        }
        None
    }
}

/// The thread's checkpoints by filter, the newest first.
async fn checkpoints_of(
    core: Session,
    thread: ThreadId,
    filter: CheckpointFilter,
) -> Result<Vec<(CheckpointId, SystemTime)>> {
    let found = core.store().checkpointer_by_hand(core.tenant(), None).list(thread, "", filter).await;
    let found = found.map_err(|error| Error::new(Reason::StoreUnavailable, error.to_string()))?;
    Ok(found.into_iter().map(|saved| (saved.checkpoint.id, saved.checkpoint.created_at)).collect())
}

/// The run that began next on a thread, or ended next without having begun.
async fn next_begun(core: Session, thread: ThreadId, after: Option<BegunAt>) -> Result<Option<Run>> {
    let found = core.store().begun_runs(core.tenant(), thread, after, Direction::Ascending, 1).await?;
    Ok(found.into_iter().next())
}

/// When a run began, or ended without having.
fn moved(run: &Run) -> Option<SystemTime> {
    run.started_at.or(run.ended_at)
}

/// When a run's id was made.
fn made_at(run: RunId) -> Option<SystemTime> {
    let (seconds, nanos) = run.0.get_timestamp()?.to_unix();
    Some(SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos))
}
