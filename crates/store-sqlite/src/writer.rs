//! The one thread that writes: it takes what has gathered, commits it as one transaction, then answers.
//!
//! A write runs in a savepoint of its own: one that fails, or is refused, leaves nothing behind and does not disturb the
//! others of its transaction. Where the disk fails or is full SQLite may take the whole transaction back; then all of
//! them are told so. Nobody is answered before `COMMIT` has returned, which is after the disk has it.

use std::{
    cell::RefCell,
    ops::Deref,
    panic::AssertUnwindSafe,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use runloom_engine::Clock;
use rusqlite::{Connection, params};
use tokio::sync::{oneshot, watch};

use crate::{
    open::BUSY,
    queue::{Queue, Taken},
    sql::Sql,
};
use runloom_store::{Error, Health, Hub, Result, StoreStats, Topic, stats::Counters, time::nanos};

/// How often a store whose writes fail tries whether they work again.
const PROBE_EVERY: Duration = Duration::from_millis(500);
/// How much it writes for that: enough that a disk without room is not taken for one that works.
const PROBE_BYTES: usize = 64 * 1024;

/// Past this size the write-ahead log is put away even where that means to wait for readers. SQLite does so by itself as
/// long as it finds a moment without any; under a load that never ends it finds none, and the log grows.
const LOG_BYTES: u64 = 128 << 20;

/// How long it waits for them.
const READER_WAIT: Duration = Duration::from_millis(200);

/// What the writer shares with those who write.
pub(crate) struct Shared {
    pub queue: Queue<Box<dyn Job>>,
    pub health: watch::Sender<Health>,
    pub counters: Counters,
    pub clock: Arc<dyn Clock>,
    pub hub: Arc<Hub>,
}

/// The transaction in which a write runs.
pub(crate) struct Tx<'c> {
    conn: &'c Connection,
    /// What it counts, if it is committed.
    pub stats: &'c RefCell<StoreStats>,
    /// What its writes changed, for watchers, if it is committed.
    hints: &'c RefCell<Vec<Topic>>,
}

impl Deref for Tx<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.conn
    }
}

/// A write: run once, then told whether it was committed.
pub(crate) trait Job: Send {
    fn run(&mut self, tx: &Tx<'_>) -> Result<()>;
    fn answer(self: Box<Self>, committed: Result<()>);
}

struct Write<T, F> {
    work: Option<F>,
    result: Option<Result<T>>,
    answer: oneshot::Sender<Result<T>>,
}

impl<T: Send, F: FnOnce(&Tx<'_>) -> Result<T> + Send> Job for Write<T, F> {
    fn run(&mut self, tx: &Tx<'_>) -> Result<()> {
        let Some(work) = self.work.take() else { return Ok(()) };
        let result = work(tx);
        let outcome = result.as_ref().map(|_| ()).map_err(Error::clone);
        self.result = Some(result);
        outcome
    }

    fn answer(self: Box<Self>, committed: Result<()>) {
        let result = match (self.result, committed) {
            (Some(Err(error)), _) | (_, Err(error)) => Err(error),
            (Some(Ok(value)), Ok(())) => Ok(value),
            (None, Ok(())) => Err(Error::Corrupt("a write failed in a way that was not foreseen".into())),
        };
        // Whoever asked may have gone.
        let _ = self.answer.send(result);
    }
}

impl Shared {
    /// Begins a write: its place in the order is that of the call.
    pub fn begin<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce(&Tx<'_>) -> Result<T> + Send + 'static,
    ) -> impl Future<Output = Result<T>> + Send + 'static {
        let (answer, answered) = oneshot::channel();
        let pushed = self.queue.push(Box::new(Write { work: Some(work), result: None, answer }), bytes + 256);
        async move {
            pushed?;
            answered.await.unwrap_or_else(|_| Err(Error::stopped()))
        }
    }

    fn set_health(&self, health: Health) {
        self.health.send_if_modified(|now| {
            let changed = *now != health;
            if changed {
                match &health {
                    Health::Serving => tracing::info!("writes work again"),
                    Health::Failing(reason) => tracing::error!(%reason, "writes fail"),
                }
                *now = health;
            }
            changed
        });
    }
}

/// Writes until the queue is closed and empty.
pub(crate) fn run(conn: Connection, shared: &Shared) {
    let _abandon = Abandon(shared);
    let mut log = LogFile::of(&conn, LOG_BYTES);
    let mut probe_at = None;
    loop {
        let wait = probe_at.map(|at: Instant| at.saturating_duration_since(Instant::now()));
        match shared.queue.take(wait) {
            Taken::Entries(jobs, weight) => {
                let outcome = commit(&conn, jobs, shared);
                shared.queue.done(weight);
                log.keep_small(&conn);
                if let Err(Error::Unavailable(reason)) = outcome {
                    shared.set_health(Health::Failing(reason.into()));
                    probe_at.get_or_insert_with(|| Instant::now() + PROBE_EVERY);
                }
            }
            Taken::Nothing => {}
            Taken::Closed => break,
        }
        if probe_at.is_some_and(|at| at <= Instant::now()) {
            match probe(&conn, shared) {
                Ok(()) => {
                    shared.set_health(Health::Serving);
                    probe_at = None;
                }
                Err(_) => probe_at = Some(Instant::now() + PROBE_EVERY),
            }
        }
    }
    // No `PRAGMA optimize` here: statistics of a small file are wrong once it has grown, and the planner would scan tables by them.
    let truncated: rusqlite::Result<bool> = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0));
    if truncated != Ok(false) {
        tracing::warn!(?truncated, "the write-ahead log was not emptied; the next start reads it");
    }
}

/// The write-ahead log.
struct LogFile {
    path: PathBuf,
    /// The size past which it is put away, and that above which it is the next time.
    limit: u64,
    next: u64,
}

impl LogFile {
    fn of(conn: &Connection, limit: u64) -> Self {
        Self { path: format!("{}-wal", conn.path().unwrap_or_default()).into(), limit, next: limit }
    }

    fn keep_small(&mut self, conn: &Connection) {
        let size = std::fs::metadata(&self.path).map_or(0, |file| file.len());
        if size <= self.next {
            return;
        }
        let put_away = || {
            conn.busy_timeout(READER_WAIT)?;
            let busy = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
            conn.busy_timeout(BUSY)?;
            Ok::<bool, rusqlite::Error>(busy)
        };
        let busy = put_away();
        // One that reads for long is not waited for at every commit.
        self.next = if busy == Ok(false) { self.limit } else { size + self.limit };
    }
}

/// However the writer ends, nobody waits for it for ever.
struct Abandon<'s>(&'s Shared);

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.set_health(Health::Failing("the writer has stopped; restart the server".into()));
        }
        self.0.queue.abandon();
    }
}

/// Commits writes as one transaction and answers them. Answers itself with the first trouble of the file, if any.
fn commit(conn: &Connection, mut jobs: Vec<Box<dyn Job>>, shared: &Shared) -> Result<()> {
    let stats = RefCell::new(StoreStats { commits: 1, writes: jobs.len() as u64, ..StoreStats::default() });
    let hints = RefCell::new(Vec::new());
    let mut trouble = Ok(());
    let committed = transaction(conn, || {
        let tx = Tx { conn, stats: &stats, hints: &hints };
        for job in &mut jobs {
            let before = *stats.borrow();
            tx.savepoint("SAVEPOINT job")?;
            if let Err(error) = unharmed(|| job.run(&tx)) {
                *stats.borrow_mut() = before;
                if conn.is_autocommit() {
                    // The failure was such that the whole transaction is gone.
                    return Err(error);
                }
                if matches!(error, Error::Unavailable(_)) && trouble.is_ok() {
                    trouble = Err(error);
                }
                tx.savepoint("ROLLBACK TO job")?;
            }
            tx.savepoint("RELEASE job")?;
        }
        Ok(())
    });
    match &committed {
        Ok(()) => {
            shared.counters.add(&stats.borrow());
            shared.hub.publish(&hints.borrow());
        }
        Err(_) => shared.counters.add(&StoreStats { failed_commits: 1, ..StoreStats::default() }),
    }
    for job in jobs {
        job.answer(committed.clone());
    }
    match committed {
        // Whatever it was, nothing could be written.
        Err(Error::Unavailable(reason) | Error::Corrupt(reason)) => Err(Error::Unavailable(reason)),
        Err(other) => Err(Error::Unavailable(other.to_string())),
        Ok(()) => trouble,
    }
}

/// A write that panics is a bug, and fails; it does not take the writer with it.
fn unharmed(work: impl FnOnce() -> Result<()>) -> Result<()> {
    std::panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        tracing::error!("a write panicked; it was taken back");
        Err(Error::Corrupt("a write failed in a way that was not foreseen; the server's log says more".into()))
    })
}

fn transaction(conn: &Connection, work: impl FnOnce() -> Result<()>) -> Result<()> {
    if !conn.is_autocommit() {
        // One that could not be rolled back when it failed.
        conn.run("ROLLBACK", [])?;
    }
    let result = (|| {
        conn.run("BEGIN IMMEDIATE", [])?;
        work()?;
        let begun = Instant::now();
        conn.run("COMMIT", [])?;
        metrics::histogram!("runloom_store_commit_seconds").record(begun.elapsed());
        Ok(())
    })();
    if result.is_err() && !conn.is_autocommit() {
        conn.run("ROLLBACK", [])?;
    }
    result
}

impl Tx<'_> {
    /// Has the watchers of topics look once this is committed.
    pub fn hint(&self, topics: impl IntoIterator<Item = Topic>) {
        self.hints.borrow_mut().extend(topics);
    }

    fn savepoint(&self, sql: &str) -> Result<()> {
        self.conn.run(sql, []).map(|_| ())
    }
}

/// Writes something of a size, and takes it away again.
fn probe(conn: &Connection, shared: &Shared) -> Result<()> {
    let at = nanos(shared.clock.now());
    transaction(conn, || {
        let sql = "INSERT OR REPLACE INTO probe (n, at, fill) VALUES (2, ?1, zeroblob(?2))";
        conn.run(sql, params![at, PROBE_BYTES as i64]).map(|_| ())
    })?;
    transaction(conn, || conn.run("DELETE FROM probe WHERE n = 2", []).map(|_| ()))
}

/// A small durable write.
pub(crate) fn ping(tx: &Tx<'_>, at: i64) -> Result<()> {
    tx.run("INSERT INTO probe (n, at) VALUES (1, ?1) ON CONFLICT DO UPDATE SET at = excluded.at", [at]).map(|_| ())
}

#[cfg(test)]
mod tests;
