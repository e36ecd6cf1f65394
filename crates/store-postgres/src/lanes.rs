//! Writes that begin at their call: log records, checkpoints and records of tasks, in the order of the calls.
//!
//! The writes of one run form a lane. A lane is written by one task at a time, which takes what has gathered and commits it
//! as one transaction; lanes of several runs are written side by side.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
};

use parking_lot::Mutex;
use runloom_engine::ThreadId;
use runloom_store::{Attempt, Error, LogRecord, Result, TenantId, Topic, checkpoints::wrong_thread, log::check_order};
use tokio::sync::{Notify, oneshot};
use uuid::Uuid;

use crate::{
    PostgresStore,
    checkpoints::{ByHand, Prepared, Task, put_by_hand},
    fault::{Done, Fault},
    logs,
    run_rows::{Held, hold, lost},
    tx::{Tx, transact},
};

/// How many writes of a lane one transaction holds at most.
const BATCH: usize = 256;
/// How many bytes of them, about.
const BATCH_BYTES: usize = 8 << 20;
/// Past this many times the limit of waiting bytes writes are refused.
const HARD: usize = 8;

/// A write that begins at its call.
pub(crate) enum Work {
    Append {
        attempt: Attempt,
        records: Vec<LogRecord>,
    },
    Reserve {
        attempt: Attempt,
        end: u64,
    },
    Put {
        tenant: TenantId,
        attempt: Attempt,
        prepared: Prepared,
    },
    PutTask {
        tenant: TenantId,
        attempt: Attempt,
        thread: ThreadId,
        task: Task,
    },
    ByHand(ByHand),
    /// Nothing: its answer says that all before it are done.
    Barrier,
}

impl Work {
    /// The lane in which it is written.
    fn lane(&self) -> Uuid {
        match self {
            Self::Append { attempt, .. }
            | Self::Reserve { attempt, .. }
            | Self::Put { attempt, .. }
            | Self::PutTask { attempt, .. } => attempt.run.0,
            Self::ByHand(by_hand) => by_hand.thread().0,
            Self::Barrier => Uuid::nil(),
        }
    }

    fn attempt(&self) -> Option<Attempt> {
        match self {
            Self::Append { attempt, .. }
            | Self::Reserve { attempt, .. }
            | Self::Put { attempt, .. }
            | Self::PutTask { attempt, .. } => Some(*attempt),
            Self::ByHand(_) | Self::Barrier => None,
        }
    }
}

struct Entry {
    work: Work,
    bytes: usize,
    answer: oneshot::Sender<Result<()>>,
}

/// The lanes of all runs that have writes under way.
pub(crate) struct Lanes {
    /// A lane is here as long as a task writes it.
    queues: Mutex<HashMap<Uuid, Vec<Entry>>>,
    waiting: AtomicUsize,
    limit: usize,
    has_room: Notify,
}

impl Lanes {
    pub fn new(limit: usize) -> Self {
        Self { queues: Mutex::default(), waiting: AtomicUsize::new(0), limit, has_room: Notify::new() }
    }

    /// Resolves when fewer bytes wait than the limit.
    pub async fn room(&self) {
        loop {
            let mut freed = std::pin::pin!(self.has_room.notified());
            freed.as_mut().enable();
            if self.waiting.load(SeqCst) < self.limit {
                return;
            }
            freed.await;
        }
    }

    /// Resolves when the writes of a lane that began before are done.
    pub async fn settled(&self, lane: Uuid) {
        let done = {
            let mut queues = self.queues.lock();
            queues.get_mut(&lane).map(barrier)
        };
        if let Some(done) = done {
            let _ = done.await;
        }
    }

    /// Resolves when all writes that began before are done.
    pub async fn flush(&self) {
        let all: Vec<_> = self.queues.lock().values_mut().map(barrier).collect();
        for done in all {
            let _ = done.await;
        }
    }

    /// What has gathered in a lane; none where that is nothing, and the lane ends.
    fn take(&self, lane: Uuid) -> Option<Vec<Entry>> {
        let mut queues = self.queues.lock();
        let queue = queues.get_mut(&lane)?;
        if queue.is_empty() {
            queues.remove(&lane);
            return None;
        }
        let mut bytes = 0;
        let fits = queue.iter().take(BATCH).take_while(|entry| {
            let is_first = bytes == 0;
            bytes += entry.bytes;
            is_first || bytes <= BATCH_BYTES
        });
        // A write by hand compares what it saw, alone.
        let alone = queue.iter().position(|entry| matches!(entry.work, Work::ByHand(_)));
        let count = fits.count().max(1).min(alone.map_or(usize::MAX, |at| at.max(1)));
        Some(queue.drain(..count).collect())
    }

    fn done(&self, bytes: usize) {
        self.waiting.fetch_sub(bytes, SeqCst);
        self.has_room.notify_waiters();
    }
}

fn barrier(queue: &mut Vec<Entry>) -> oneshot::Receiver<Result<()>> {
    let (answer, answered) = oneshot::channel();
    queue.push(Entry { work: Work::Barrier, bytes: 0, answer });
    answered
}

impl PostgresStore {
    /// Begins a write: its place in the order is that of the call.
    pub(crate) fn begin(&self, bytes: usize, work: Work) -> impl Future<Output = Result<()>> + Send + 'static {
        let (lanes, bytes) = (&self.inner.lanes, bytes + 256);
        let (answer, answered) = oneshot::channel();
        let is_full = lanes.waiting.load(SeqCst) > lanes.limit.saturating_mul(HARD);
        if is_full {
            let _ = answer.send(Err(Error::Unavailable("the queue of writes is full; try again later".into())));
        } else {
            lanes.waiting.fetch_add(bytes, SeqCst);
            let lane = work.lane();
            let is_new = {
                let mut queues = lanes.queues.lock();
                let is_new = !queues.contains_key(&lane);
                queues.entry(lane).or_default().push(Entry { work, bytes, answer });
                is_new
            };
            if is_new {
                let store = self.clone();
                tokio::spawn(async move { store.write_lane(lane).await });
            }
        }
        async move { answered.await.unwrap_or_else(|_| Err(Error::stopped())) }
    }

    async fn write_lane(&self, lane: Uuid) {
        while let Some(entries) = self.inner.lanes.take(lane) {
            let bytes = entries.iter().map(|entry| entry.bytes).sum();
            let (works, answers): (Vec<_>, Vec<_>) =
                entries.into_iter().map(|entry| (entry.work, entry.answer)).unzip();
            let results = self.write_batch(&works).await;
            self.inner.lanes.done(bytes);
            for (answer, result) in answers.into_iter().zip(results) {
                // Whoever began it may not wait.
                let _ = answer.send(result);
            }
        }
    }

    /// Writes as one transaction; where the database refuses that, one by one, so that one write does not fail others.
    async fn write_batch(&self, works: &[Work]) -> Vec<Result<()>> {
        if works.iter().all(|work| matches!(work, Work::Barrier)) {
            return vec![Ok(()); works.len()];
        }
        if let [Work::ByHand(by_hand)] = works {
            return vec![self.write_by_hand(by_hand).await];
        }
        match transact!(self, |tx| write(tx, works).await) {
            Ok(results) => results,
            Err(error @ (Error::Corrupt(_) | Error::Invalid(_))) if works.len() > 1 => {
                tracing::debug!(%error, "a batch of writes was refused; they are written one by one");
                let mut results = Vec::new();
                for work in works {
                    let one = std::slice::from_ref(work);
                    let written = transact!(self, |tx| write(tx, one).await);
                    results.push(written.and_then(|mut written| written.pop().unwrap_or(Ok(()))));
                }
                results
            }
            Err(error) => vec![Err(error); works.len()],
        }
    }

    async fn write_by_hand(&self, by_hand: &ByHand) -> Result<()> {
        let seen = transact!(self, |tx| put_by_hand(tx, by_hand).await)?;
        by_hand.saw(seen);
        Ok(())
    }
}

/// Makes writes of one lane in their order. A refusal is the result of its write, which then has written nothing; an error
/// of the database fails all.
async fn write(tx: &mut Tx, works: &[Work]) -> Done<Vec<Result<()>>> {
    let mut batch = Batch::default();
    let mut results = Vec::with_capacity(works.len());
    for work in works {
        if matches!(work, Work::Barrier) {
            results.push(Ok(()));
            continue;
        }
        match batch.write(tx, work).await {
            Ok(()) => results.push(Ok(())),
            Err(Fault::Store(error @ (Error::Superseded { .. } | Error::RunState { .. } | Error::Invalid(_)))) => {
                results.push(Err(error));
            }
            Err(other) => return Err(other),
        }
    }
    batch.end(tx).await?;
    let barriers = works.iter().filter(|work| matches!(work, Work::Barrier)).count();
    tx.stats.writes = (works.len() - barriers) as u64;
    Ok(results)
}

/// What one transaction of a lane has found and gathered.
#[derive(Default)]
struct Batch {
    /// The run, once its row is locked; none within where there is no such run.
    held: Option<Option<Held>>,
    records: Vec<LogRecord>,
    reserve: u64,
}

impl Batch {
    /// Checks that an attempt may write.
    async fn admit(&mut self, tx: &mut Tx, attempt: Attempt) -> Done<&mut Held> {
        if self.held.is_none() {
            self.held = Some(hold(tx, attempt).await?);
        }
        let held = self.held.as_mut().and_then(Option::as_mut).ok_or_else(|| lost(attempt))?;
        held.fence.check(attempt)?;
        Ok(held)
    }

    async fn write(&mut self, tx: &mut Tx, work: &Work) -> Done<()> {
        let Some(attempt) = work.attempt() else { return Ok(()) };
        let held = self.admit(tx, attempt).await?;
        match work {
            Work::Append { records, .. } => {
                check_order(records, held.last)?;
                held.last = records.last().map_or(held.last, |record| record.seq);
                self.records.extend(records.iter().cloned());
                tx.hint([Topic::Run(attempt.run)]);
                Ok(())
            }
            Work::Reserve { end, .. } => {
                self.reserve = self.reserve.max(*end);
                Ok(())
            }
            Work::Put { tenant, prepared, .. } => {
                check_thread(held, attempt, tenant, prepared.thread())?;
                tx.hint([Topic::Thread(prepared.thread())]);
                prepared.put(tx, held.thread).await
            }
            Work::PutTask { tenant, thread, task, .. } => {
                check_thread(held, attempt, tenant, *thread)?;
                task.put(tx, held.thread, attempt.run.0).await
            }
            Work::ByHand(_) | Work::Barrier => Ok(()),
        }
    }

    async fn end(self, tx: &mut Tx) -> Done<()> {
        let Some(Some(held)) = self.held else { return Ok(()) };
        logs::insert(tx, held.run, &self.records).await?;
        if self.reserve > 0 {
            logs::reserve(tx, held.run, self.reserve).await?;
        }
        Ok(())
    }
}

fn check_thread(held: &Held, attempt: Attempt, tenant: &TenantId, thread: ThreadId) -> Result<()> {
    if held.thread_id == thread && held.tenant == *tenant { Ok(()) } else { Err(wrong_thread(attempt, thread)) }
}
