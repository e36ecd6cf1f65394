//! The log of each run: numbered records, opaque here.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use runloom_engine::RunId;

use crate::{Attempt, Error, Result, TenantId};

/// The number of a log's first record. 0 stands before all of them.
pub const FIRST_SEQ: u64 = 1;

/// The highest number a record can have.
pub const MAX_SEQ: u64 = u32::MAX as u64;

/// A write under way: it began at the call, and is in its place among the calls before and after. Resolves when it is
/// as durable as the store makes it; may be dropped, which does not take the write back.
pub type Ack<T = ()> = BoxFuture<'static, Result<T>>;

/// A record of a run's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// Its number: ascending, from [`FIRST_SEQ`]. Gaps are only where an attempt ended without its reserved numbers.
    pub seq: u64,
    /// What it holds.
    pub bytes: Bytes,
}

/// How much to read at once. The first record is read whatever its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimit {
    /// At most so many records.
    pub records: usize,
    /// Stop before the record with which their bytes would be more than this.
    pub bytes: usize,
}

impl Default for ReadLimit {
    /// 1024 records, 1 MiB.
    fn default() -> Self {
        Self { records: 1024, bytes: 1 << 20 }
    }
}

/// How far a log reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogBounds {
    /// Records before this number were trimmed away; a reader at or past it misses nothing.
    pub oldest: u64,
    /// The number of the last record that is there; 0 where there is none.
    pub last: u64,
    /// The first number that is free: past all records and all reserved numbers.
    pub next: u64,
}

/// The logs of runs.
#[async_trait]
pub trait Logs: Send + Sync {
    /// Appends records, which must have ascending numbers past those in the log. Begun at the call.
    ///
    /// The queue of writes is bounded: whoever appends without waiting for what it appended awaits
    /// [`room`](crate::Store::room) now and then; past a hard limit writes are refused.
    fn append_log(&self, attempt: Attempt, records: Vec<LogRecord>) -> Ack;

    /// Reserves the numbers below `end`: no later attempt gets one of them. Begun at the call. An `end` below what is
    /// reserved changes nothing.
    fn reserve_log(&self, attempt: Attempt, end: u64) -> Ack;

    /// Records from a number on.
    async fn read_log(&self, tenant: &TenantId, run: RunId, from: u64, limit: ReadLimit) -> Result<Vec<LogRecord>>;

    /// How far a log reaches.
    async fn log_bounds(&self, tenant: &TenantId, run: RunId) -> Result<LogBounds>;

    /// Deletes the records before a number.
    async fn trim_log(&self, tenant: &TenantId, run: RunId, before: u64) -> Result<()>;
}

/// Refuses records that are out of order or past the highest number.
pub fn check_order(records: &[LogRecord], last: u64) -> Result<()> {
    let mut last = last;
    for record in records {
        if record.seq <= last || record.seq > MAX_SEQ {
            return Err(Error::Invalid(format!(
                "a log's records have ascending numbers up to {MAX_SEQ}; {} came after {last}",
                record.seq
            )));
        }
        last = record.seq;
    }
    Ok(())
}
