//! Logs in memory.

use std::{collections::BTreeMap, future::ready, sync::atomic::Ordering::Relaxed};

use async_trait::async_trait;
use bytes::Bytes;
use runloom_engine::RunId;

use crate::MemoryStore;
use runloom_store::{
    Ack, Attempt, FIRST_SEQ, LogBounds, LogRecord, Logs, ReadLimit, Result, TenantId, Topic, log::check_order,
    stats::Counters,
};

/// The log of a run.
#[derive(Default)]
pub(crate) struct Log {
    records: BTreeMap<u64, Bytes>,
    /// Numbers below are reserved.
    reserved: u64,
    /// Records before were trimmed away.
    oldest: u64,
}

impl Log {
    pub fn last(&self) -> u64 {
        self.records.last_key_value().map_or(self.trimmed(), |(seq, _)| *seq)
    }

    /// The last number that may have been trimmed away.
    fn trimmed(&self) -> u64 {
        self.oldest.saturating_sub(1)
    }

    pub fn next_seq(&self) -> u64 {
        self.reserved.max(self.last() + 1).max(FIRST_SEQ)
    }

    pub fn reserve(&mut self, end: u64) -> u64 {
        self.reserved = self.reserved.max(end);
        self.reserved
    }

    pub fn append(&mut self, records: Vec<LogRecord>, counters: &Counters) {
        counters.log_records.fetch_add(records.len() as u64, Relaxed);
        counters.log_bytes.fetch_add(records.iter().map(|r| r.bytes.len() as u64).sum(), Relaxed);
        self.records.extend(records.into_iter().map(|record| (record.seq, record.bytes)));
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub fn trim(&mut self, before: u64) {
        self.records = self.records.split_off(&before);
        self.oldest = self.oldest.max(before);
    }
}

#[async_trait]
impl Logs for MemoryStore {
    fn append_log(&self, attempt: Attempt, records: Vec<LogRecord>) -> Ack {
        let result = self.write(|tables| {
            let row = tables.held(attempt)?;
            check_order(&records, row.log.last())?;
            row.log.append(records, &self.inner.counters);
            tables.hints.push(Topic::Run(attempt.run));
            Ok(())
        });
        Box::pin(ready(result))
    }

    fn reserve_log(&self, attempt: Attempt, end: u64) -> Ack {
        Box::pin(ready(self.write(|tables| {
            tables.held(attempt)?.log.reserve(end);
            Ok(())
        })))
    }

    async fn read_log(&self, tenant: &TenantId, run: RunId, from: u64, limit: ReadLimit) -> Result<Vec<LogRecord>> {
        self.read(|tables| {
            let mut bytes = 0;
            let rows = tables.run(tenant, run)?.log.records.range(from..).take(limit.records);
            let fits = |(i, (_, record)): &(usize, (&u64, &Bytes))| {
                bytes += record.len();
                *i == 0 || bytes <= limit.bytes
            };
            let rows = rows.enumerate().take_while(fits);
            Ok(rows.map(|(_, (seq, bytes))| LogRecord { seq: *seq, bytes: bytes.clone() }).collect())
        })
    }

    async fn log_bounds(&self, tenant: &TenantId, run: RunId) -> Result<LogBounds> {
        self.read(|tables| {
            let log = &tables.run(tenant, run)?.log;
            let last = log.records.last_key_value().map_or(0, |(seq, _)| *seq);
            Ok(LogBounds { oldest: log.oldest.max(FIRST_SEQ), last, next: log.next_seq() })
        })
    }

    async fn trim_log(&self, tenant: &TenantId, run: RunId, before: u64) -> Result<()> {
        self.write(|tables| {
            tables.run(tenant, run)?;
            let log = &mut tables.run_mut(run)?.log;
            log.trim(before.min(log.last() + 1));
            Ok(())
        })
    }
}
