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
};
use runloom_store::{Direction, PageRequest, Run, RunFilter, TenantId};

use super::{
    read::{Cursor, RunReader},
    record::{ReadOptions, Record},
};
use crate::{Core, Error, Reason, Result, runs::StoredRequest};

/// What a reader of a thread is told.
#[derive(Clone, Debug)]
pub enum ThreadPart {
    /// A record of a run.
    Record(Arc<Record>),
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
    core: Core,
    thread: ThreadId,
    options: ReadOptions,
    news: tokio::sync::watch::Receiver<u64>,
    now: Option<RunReader>,
    /// Where in the runs this reader stands.
    at: (RunId, u64),
    seen: HashSet<RunId>,
    /// What was written by hand, where that is wanted.
    writes: Option<Writes>,
    failed: bool,
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

impl Core {
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
        self.inner.store.get_thread(&TenantId::default(), thread).await?;
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
        let news = self.inner.runner.logs.follow(thread);
        let mut follow = Follow {
            core: self.clone(),
            thread,
            options,
            news,
            now: None,
            at: (RunId(uuid::Uuid::nil()), 0),
            seen: HashSet::new(),
            writes: None,
            failed: false,
        };
        follow.begin(after.as_deref(), writes).await?;
        let inner =
            futures_util::stream::unfold(
                follow,
                |mut follow| async move { follow.next().await.map(|item| (item, follow)) },
            );
        Ok(ThreadReader { inner: Box::pin(inner) })
    }
}

impl Follow {
    async fn begin(&mut self, after: Option<&str>, wants_writes: bool) -> Result<()> {
        let invalid = || Error::new(Reason::CursorInvalid, "the cursor is not one that a stream of this thread gave");
        let runs = runs_of(self.core.clone(), self.thread).await?;
        let written = match after {
            None => {
                // From now on: what is under way is read from here, what is over is not read.
                let over = || runs.iter().filter(|r| r.status.is_end());
                self.seen.extend(over().map(|r| r.id));
                if let Some(last) = over().next_back() {
                    self.at = (last.id, last.last_seq);
                }
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
                let found = runs.iter().position(|r| r.id == run);
                match found {
                    Some(at) => {
                        self.seen.extend(runs[..=at].iter().map(|r| r.id));
                        self.open(run, seq).await?;
                    }
                    // A run that is gone was rolled back or deleted: what was made before it has been seen.
                    None => self.seen.extend(runs.iter().filter(|r| r.id < run).map(|r| r.id)),
                }
                self.at = (run, seq);
                // Nothing is written while a run is active: what was written before it began has been seen.
                let began = found.and_then(|at| moved(&runs[at])).or_else(|| made_at(run));
                written.unwrap_or(After::Time(began.unwrap_or(SystemTime::UNIX_EPOCH)))
            }
        };
        self.writes = wants_writes.then(|| Writes { after: written, found: VecDeque::new() });
        Ok(())
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
        let run = self.core.inner.store.get_run(&TenantId::default(), run).await?;
        // The modes a reader asks for are those it wants of whatever a run records.
        let spec = StoredRequest::of(&run).unwrap_or_default().spec;
        let recorded = spec.recording.modes();
        let modes = self.options.modes.map(|m| m.iter().filter(|m| recorded.has(*m)).collect());
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
                        return Some(Ok((ThreadPart::Record(record), at)));
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
            self.news.borrow_and_update();
            let next = match runs_of(self.core.clone(), self.thread).await {
                Ok(runs) => runs.into_iter().find(|r| !self.seen.contains(&r.id)),
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
                self.seen.insert(run.id);
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
                changed = self.news.changed() => if changed.is_err() { return None },
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
    core: Core,
    thread: ThreadId,
    filter: CheckpointFilter,
) -> Result<Vec<(CheckpointId, SystemTime)>> {
    let found = core.inner.store.checkpointer_by_hand(&TenantId::default(), None).list(thread, "", filter).await;
    let found = found.map_err(|error| Error::new(Reason::StoreUnavailable, error.to_string()))?;
    Ok(found.into_iter().map(|saved| (saved.checkpoint.id, saved.checkpoint.created_at)).collect())
}

/// The runs of a thread that have begun, or ended without having, in that order.
async fn runs_of(core: Core, thread: ThreadId) -> Result<Vec<Run>> {
    let mut all = Vec::new();
    let mut page = PageRequest::first(1000);
    loop {
        let filter = RunFilter { thread: Some(thread), ..RunFilter::default() };
        let got = core.inner.store.list_runs(&TenantId::default(), filter, Direction::Ascending, page).await?;
        all.extend(got.items);
        match got.next {
            Some(token) => page = PageRequest::after(1000, token),
            None => {
                all.retain(|r| moved(r).is_some());
                all.sort_by_key(moved);
                return Ok(all);
            }
        }
    }
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
