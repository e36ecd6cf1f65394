//! Transactions: begun, committed, retried, and resolved where the connection was lost in a commit.
//!
//! A transaction knows its id from its begin. Where the connection is lost while `COMMIT` is under way, the database is
//! asked for the outcome of that id (`pg_xact_status`), so whether a write is stored is read, never guessed.

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
    time::{Duration, Instant},
};

use runloom_store::{Error, Result, StoreStats, Topic};
use sqlx::Row;

use crate::{
    Inner,
    fault::{Class, Done, Fault, classify},
    sql::{Db, safe},
};

/// How often a transaction that others were in the way of is run.
const CONFLICTS: u32 = 20;
/// The pause before a retry, at first.
const PAUSE: Duration = Duration::from_millis(5);
/// The longest pause before a retry.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// A transaction that writes.
pub(crate) struct Tx {
    db: Db,
    /// False once it is ended.
    is_open: bool,
    xid: String,
    inner: Arc<Inner>,
    /// What it counts, if it is committed.
    pub stats: StoreStats,
    hints: Vec<Topic>,
}

/// What became of a transaction.
pub(crate) enum Settled<T> {
    /// It is committed or refused.
    Done(Result<T>),
    /// It is to be run again.
    Again,
}

/// The attempts at one operation.
pub(crate) struct Retries {
    conflicts: u32,
    pause: Duration,
    until: Instant,
}

impl Retries {
    pub fn new(window: Duration) -> Self {
        Self { conflicts: 0, pause: PAUSE, until: Instant::now() + window }
    }

    /// Waits before the next attempt; false where there is to be none.
    async fn again(&mut self, class: Class) -> bool {
        match class {
            Class::Lasting => return false,
            Class::Conflict => {
                self.conflicts += 1;
                metrics::counter!("runloom_store_conflicts_total").increment(1);
                if self.conflicts >= CONFLICTS {
                    return false;
                }
            }
            Class::Lost | Class::ReadOnly if Instant::now() >= self.until => return false,
            Class::Lost | Class::ReadOnly => {}
        }
        tokio::time::sleep(jittered(self.pause)).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        true
    }
}

/// A duration between half of one and all of it, so that servers do not act in step.
pub(crate) fn jittered(pause: Duration) -> Duration {
    // The low bits of a random uuid are good enough to spread servers.
    let random = uuid::Uuid::new_v4().as_u128() as u32;
    pause.mul_f64(0.5 + 0.5 * f64::from(random) / f64::from(u32::MAX))
}

/// Runs a transaction until it is committed or refused. The body runs again where another transaction was in the way.
macro_rules! transact {
    ($store:expr, |$tx:ident| $body:expr) => {{
        let inner = &$store.inner;
        let mut retries = $crate::tx::Retries::new(inner.options.acquire_timeout);
        loop {
            let mut tx = match $crate::tx::Tx::begin(inner, &mut retries).await {
                Ok(Some(tx)) => tx,
                Ok(None) => continue,
                Err(error) => break Err(error),
            };
            let result: $crate::fault::Done<_> = {
                let $tx = &mut tx;
                async { $body }.await
            };
            match tx.settle(result, &mut retries).await {
                $crate::tx::Settled::Done(result) => break result,
                $crate::tx::Settled::Again => {}
            }
        }
    }};
}
pub(crate) use transact;

/// Runs a query outside of a transaction that writes, and again where the connection was lost.
macro_rules! read {
    ($store:expr, |$db:ident| $body:expr) => {
        $crate::tx::read_as!($store, false, |$db| $body)
    };
}
pub(crate) use read;

/// Runs several queries that see the same data.
macro_rules! snapshot {
    ($store:expr, |$db:ident| $body:expr) => {
        $crate::tx::read_as!($store, true, |$db| $body)
    };
}
pub(crate) use snapshot;

macro_rules! read_as {
    ($store:expr, $snapshot:expr, |$db:ident| $body:expr) => {{
        let inner = &$store.inner;
        let mut retries = $crate::tx::Retries::new(inner.options.acquire_timeout);
        loop {
            let mut reader = match $crate::tx::Reader::begin(inner, $snapshot, &mut retries).await {
                Ok(Some(reader)) => reader,
                Ok(None) => continue,
                Err(error) => break Err(error),
            };
            let result: $crate::fault::Done<_> = {
                let $db = &mut *reader;
                async { $body }.await
            };
            match reader.settle(result, &mut retries).await {
                $crate::tx::Settled::Done(result) => break result,
                $crate::tx::Settled::Again => {}
            }
        }
    }};
}
pub(crate) use read_as;

/// A connection of the pool that operations use; none where the attempt is to be made again.
async fn acquire(inner: &Inner, retries: &mut Retries) -> Result<Option<Db>> {
    let begun = Instant::now();
    let acquired = inner.pools.main.acquire().await;
    metrics::histogram!("runloom_store_acquire_seconds").record(begun.elapsed());
    match acquired {
        Ok(conn) => Ok(Some(Db { conn, is_direct: inner.pools.is_direct })),
        Err(error) => failed(inner, error, retries).await,
    }
}

/// Decides on a failure before the work began.
async fn failed<T>(inner: &Inner, error: sqlx::Error, retries: &mut Retries) -> Result<Option<T>> {
    let class = classify(&error);
    inner.note(class, &error);
    if retries.again(class).await { Ok(None) } else { Err(Fault::from(error).into()) }
}

impl Tx {
    /// Begins a transaction; none where the attempt is to be made again.
    pub async fn begin(inner: &Arc<Inner>, retries: &mut Retries) -> Result<Option<Self>> {
        let Some(mut db) = acquire(inner, retries).await? else { return Ok(None) };
        // One round trip for all three.
        let begun = sqlx::raw_sql(safe(inner.pools.begin.clone())).fetch_one(&mut *db.conn).await;
        match begun.and_then(|row| row.try_get::<String, _>(0)) {
            Ok(xid) => {
                let stats = StoreStats { writes: 1, commits: 1, ..StoreStats::default() };
                Ok(Some(Self { db, is_open: true, xid, inner: inner.clone(), stats, hints: Vec::new() }))
            }
            Err(error) => {
                db.conn.close_on_drop();
                failed(inner, error, retries).await
            }
        }
    }

    /// Has the watchers of topics read once this is committed.
    pub fn hint(&mut self, topics: impl IntoIterator<Item = Topic>) {
        self.hints.extend(topics);
    }

    /// Commits where the result is good, rolls back where it is not.
    pub async fn settle<T>(mut self, result: Done<T>, retries: &mut Retries) -> Settled<T> {
        let error = match result {
            Ok(value) => return self.commit(value, retries).await,
            Err(error) => error,
        };
        let class = match &error {
            Fault::Store(_) => Class::Lasting,
            Fault::Database(error) => {
                let class = classify(error);
                self.inner.note(class, error);
                class
            }
        };
        // Where the connection is lost nothing was committed: no COMMIT was sent.
        if class != Class::Lost {
            self.roll_back().await;
        }
        drop(self);
        if retries.again(class).await { Settled::Again } else { Settled::Done(Err(error.into())) }
    }

    async fn commit<T>(&mut self, value: T, retries: &mut Retries) -> Settled<T> {
        let begun = Instant::now();
        let committed = sqlx::raw_sql("COMMIT").execute(&mut *self.db.conn).await;
        metrics::histogram!("runloom_store_commit_seconds").record(begun.elapsed());
        let error = match committed {
            Ok(_) => {
                self.is_open = false;
                self.committed();
                return Settled::Done(Ok(value));
            }
            Err(error) => error,
        };
        let class = classify(&error);
        self.inner.note(class, &error);
        self.inner.counters.add(&StoreStats { failed_commits: 1, ..StoreStats::default() });
        if class == Class::Lost {
            return match self.resolve(retries).await {
                Ok(true) => {
                    self.committed();
                    Settled::Done(Ok(value))
                }
                Ok(false) => Settled::Again,
                Err(error) => Settled::Done(Err(error)),
            };
        }
        if retries.again(class).await { Settled::Again } else { Settled::Done(Err(Fault::from(error).into())) }
    }

    fn committed(&mut self) {
        self.inner.counters.add(&self.stats);
        self.inner.publish(std::mem::take(&mut self.hints));
    }

    /// Whether the transaction was committed, though its connection was lost.
    async fn resolve(&mut self, retries: &mut Retries) -> Result<bool> {
        metrics::counter!("runloom_store_resolved_commits_total").increment(1);
        while retries.again(Class::Lost).await {
            // Not of the pool of which this transaction still has a connection.
            let Ok(mut conn) = self.inner.pools.aux.acquire().await else { continue };
            let sql = format!("SELECT pg_xact_status('{}'::xid8)", self.xid);
            let status = sqlx::raw_sql(safe(sql)).fetch_one(&mut *conn).await;
            match status.and_then(|row| row.try_get::<Option<String>, _>(0)) {
                Ok(Some(status)) if status == "committed" => return Ok(true),
                // The server has not noticed yet that the client is gone, or commits right now.
                Ok(Some(status)) if status == "in progress" => {}
                Ok(_) => return Ok(false),
                // An id from the future: a standby was promoted that had not come this far.
                Err(sqlx::Error::Database(of)) if of.code().as_deref() == Some("22023") => return Ok(false),
                Err(error) if classify(&error) == Class::Lasting => return Err(Fault::from(error).into()),
                Err(_) => conn.close_on_drop(),
            }
        }
        Err(Error::Unavailable("the database was lost in a commit, whose outcome is not known yet".into()))
    }

    async fn roll_back(&mut self) {
        self.is_open = sqlx::raw_sql("ROLLBACK").execute(&mut *self.db.conn).await.is_err();
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        // Where the operation was given up midway the connection has an open transaction: the server rolls it back.
        if self.is_open {
            self.db.conn.close_on_drop();
        }
    }
}

impl Deref for Tx {
    type Target = Db;

    fn deref(&self) -> &Db {
        &self.db
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut Db {
        &mut self.db
    }
}

/// A connection that reads.
pub(crate) struct Reader {
    db: Db,
    inner: Arc<Inner>,
    /// Whether a transaction is open.
    is_open: bool,
}

impl Reader {
    /// A connection that reads; in a transaction where several statements are to see the same data, and where a pooler
    /// stands between.
    pub async fn begin(inner: &Arc<Inner>, snapshot: bool, retries: &mut Retries) -> Result<Option<Self>> {
        let Some(mut db) = acquire(inner, retries).await? else { return Ok(None) };
        let is_open = snapshot || !db.is_direct;
        if is_open {
            let sql = if snapshot { inner.pools.begin_snapshot.clone() } else { inner.pools.begin_read.clone() };
            if let Err(error) = sqlx::raw_sql(safe(sql)).execute(&mut *db.conn).await {
                db.conn.close_on_drop();
                return failed(inner, error, retries).await;
            }
        }
        Ok(Some(Self { db, inner: inner.clone(), is_open }))
    }

    pub async fn settle<T>(mut self, result: Done<T>, retries: &mut Retries) -> Settled<T> {
        let class = match &result {
            Err(Fault::Database(error)) => {
                let class = classify(error);
                self.inner.note(class, error);
                class
            }
            _ => Class::Lasting,
        };
        if class == Class::Lost {
            self.is_open = true;
        } else if self.is_open {
            self.is_open = sqlx::raw_sql("COMMIT").execute(&mut *self.db.conn).await.is_err();
        }
        drop(self);
        if result.is_err() && retries.again(class).await {
            return Settled::Again;
        }
        Settled::Done(result.map_err(Error::from))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if self.is_open {
            self.db.conn.close_on_drop();
        }
    }
}

impl Deref for Reader {
    type Target = Db;

    fn deref(&self) -> &Db {
        &self.db
    }
}

impl DerefMut for Reader {
    fn deref_mut(&mut self) -> &mut Db {
        &mut self.db
    }
}
