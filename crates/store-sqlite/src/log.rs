//! Logs in SQLite.

use std::ops::ControlFlow;

use async_trait::async_trait;
use bytes::Bytes;
use runloom_engine::RunId;
use rusqlite::{Connection, params};

use crate::{
    SqliteStore, run_rows,
    sql::{Sql, first},
    writer::Tx,
};
use runloom_store::{
    Ack, Attempt, Error, FIRST_SEQ, LogBounds, LogRecord, Logs, MAX_SEQ, ReadLimit, Result, TenantId, Topic, What,
    log::check_order,
};

/// The key of a record: the run's place above, the record's number below.
fn key(run: i64, seq: u64) -> i64 {
    run << 32 | seq.min(MAX_SEQ) as i64
}

fn seq(key: i64) -> u64 {
    key as u64 & MAX_SEQ
}

/// `reserved` and `oldest` of a run.
fn state(db: &Connection, run: i64) -> Result<(u64, u64)> {
    let found = db.one("SELECT reserved, oldest FROM log_state WHERE run = ?1", [run], |row| {
        Ok((row.get::<i64>()?.unsigned_abs(), row.get::<i64>()?.unsigned_abs()))
    })?;
    Ok(found.unwrap_or_default())
}

/// The number of the last record that is there, or 0.
fn last_there(db: &Connection, run: i64) -> Result<u64> {
    let sql = "SELECT at FROM log WHERE at BETWEEN ?1 AND ?2 ORDER BY at DESC LIMIT 1";
    Ok(db.one(sql, [key(run, 0), key(run, MAX_SEQ)], first)?.map_or(0, seq))
}

/// The number of the last record that is or was there, or 0.
pub(crate) fn last(db: &Connection, run: i64) -> Result<u64> {
    match last_there(db, run)? {
        0 => Ok(state(db, run)?.1.saturating_sub(1)),
        last => Ok(last),
    }
}

/// The first free number.
pub(crate) fn next(db: &Connection, run: i64) -> Result<u64> {
    Ok((last(db, run)? + 1).max(state(db, run)?.0).max(FIRST_SEQ))
}

/// Reserves the numbers below an end, and answers with the end of all that is reserved.
pub(crate) fn reserve(tx: &Tx<'_>, run: i64, end: u64) -> Result<u64> {
    let sql = "INSERT INTO log_state (run, reserved, oldest) VALUES (?1, ?2, 0) \
        ON CONFLICT DO UPDATE SET reserved = max(reserved, excluded.reserved) RETURNING reserved";
    let end = i64::try_from(end).unwrap_or(i64::MAX);
    Ok(tx.one(sql, [run, end], first::<i64>)?.unwrap_or(end).unsigned_abs())
}

pub(crate) fn insert(tx: &Tx<'_>, run: i64, records: &[LogRecord]) -> Result<()> {
    for record in records {
        tx.run("INSERT INTO log (at, bytes) VALUES (?1, ?2)", params![key(run, record.seq), &record.bytes[..]])?;
    }
    let mut stats = tx.stats.borrow_mut();
    stats.log_records += records.len() as u64;
    stats.log_bytes += records.iter().map(|record| record.bytes.len() as u64).sum::<u64>();
    Ok(())
}

/// Deletes the log of a run, and all that is known of it.
pub(crate) fn delete(tx: &Tx<'_>, run: i64) -> Result<()> {
    tx.run("DELETE FROM log WHERE at BETWEEN ?1 AND ?2", [key(run, 0), key(run, MAX_SEQ)])?;
    tx.run("DELETE FROM log_state WHERE run = ?1", [run]).map(|_| ())
}

pub(crate) fn trim(tx: &Tx<'_>, run: i64, before: u64) -> Result<()> {
    if before == 0 {
        return Ok(());
    }
    tx.run("DELETE FROM log WHERE at BETWEEN ?1 AND ?2", [key(run, 0), key(run, before - 1)])?;
    let sql = "INSERT INTO log_state (run, reserved, oldest) VALUES (?1, 0, ?2) \
        ON CONFLICT DO UPDATE SET oldest = max(oldest, excluded.oldest)";
    tx.run(sql, [run, before as i64]).map(|_| ())
}

fn place(db: &Connection, tenant: &TenantId, run: RunId) -> Result<i64> {
    let found = db.one(
        "SELECT n FROM runs WHERE id = ?1 AND tenant = ?2",
        params![run.0.into_bytes(), tenant.as_str()],
        first,
    )?;
    found.ok_or_else(|| Error::not_found(What::Run, run))
}

#[async_trait]
impl Logs for SqliteStore {
    fn append_log(&self, attempt: Attempt, records: Vec<LogRecord>) -> Ack {
        let bytes = records.iter().map(|record| record.bytes.len() + 64).sum();
        Box::pin(self.inner.shared.begin(bytes, move |tx| {
            let (run, _) = run_rows::held(tx, attempt)?;
            check_order(&records, last(tx, run)?)?;
            tx.hint([Topic::Run(attempt.run)]);
            insert(tx, run, &records)
        }))
    }

    fn reserve_log(&self, attempt: Attempt, end: u64) -> Ack {
        Box::pin(self.inner.shared.begin(0, move |tx| {
            let (run, _) = run_rows::held(tx, attempt)?;
            reserve(tx, run, end).map(|_| ())
        }))
    }

    async fn read_log(&self, tenant: &TenantId, run: RunId, from: u64, limit: ReadLimit) -> Result<Vec<LogRecord>> {
        let tenant = tenant.clone();
        self.read(move |db| {
            let run = place(db, &tenant, run)?;
            let mut records = Vec::new();
            let mut bytes = 0;
            if limit.records == 0 || from > MAX_SEQ {
                return Ok(records);
            }
            let sql = "SELECT at, bytes FROM log WHERE at BETWEEN ?1 AND ?2 ORDER BY at";
            db.each(sql, [key(run, from), key(run, MAX_SEQ)], |row| {
                let record = LogRecord { seq: seq(row.get()?), bytes: Bytes::from(row.get::<Vec<u8>>()?) };
                bytes += record.bytes.len();
                if !records.is_empty() && bytes > limit.bytes {
                    return Ok(ControlFlow::Break(()));
                }
                records.push(record);
                let full = records.len() >= limit.records;
                Ok(if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            })?;
            Ok(records)
        })
        .await
    }

    async fn log_bounds(&self, tenant: &TenantId, run: RunId) -> Result<LogBounds> {
        let tenant = tenant.clone();
        self.read(move |db| {
            let run = place(db, &tenant, run)?;
            let (_, oldest) = state(db, run)?;
            Ok(LogBounds { oldest: oldest.max(FIRST_SEQ), last: last_there(db, run)?, next: next(db, run)? })
        })
        .await
    }

    async fn trim_log(&self, tenant: &TenantId, run: RunId, before: u64) -> Result<()> {
        let tenant = tenant.clone();
        self.write(move |tx| {
            let run = place(tx, &tenant, run)?;
            trim(tx, run, before.min(last(tx, run)? + 1))
        })
        .await
    }
}
