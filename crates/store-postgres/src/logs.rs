//! Logs in Postgres.

use async_trait::async_trait;
use bytes::Bytes;
use runloom_engine::RunId;
use runloom_store::{
    Ack, Attempt, Error, FIRST_SEQ, LogBounds, LogRecord, Logs, MAX_SEQ, ReadLimit, Result, TenantId, What,
};

use crate::{
    PostgresStore,
    fault::Done,
    lanes::Work,
    sql::{Db, args, limit_of},
    tx::{Tx, read, transact},
};

/// How many rows one statement reads at most.
const BATCH: usize = 256;

/// Of a run: `reserved` and `oldest`, and the last record that is there, or 0.
async fn state(db: &mut Db, run: i64) -> Done<(u64, u64, u64)> {
    let sql = "SELECT coalesce((SELECT reserved FROM runloom.log_state WHERE run = $1), 0), \
        coalesce((SELECT oldest FROM runloom.log_state WHERE run = $1), 0), \
        coalesce((SELECT seq FROM runloom.log WHERE run = $1 ORDER BY seq DESC LIMIT 1), 0)";
    let found = db.one(sql, args![run], |row| Ok((row.number()?, row.number()?, row.number()?))).await?;
    Ok(found.unwrap_or_default())
}

/// The number of the last record that is or was there, or 0.
pub(crate) async fn last(db: &mut Db, run: i64) -> Done<u64> {
    let (_, oldest, last) = state(db, run).await?;
    Ok(if last == 0 { oldest.saturating_sub(1) } else { last })
}

fn next_of((reserved, oldest, last): (u64, u64, u64)) -> u64 {
    let last = if last == 0 { oldest.saturating_sub(1) } else { last };
    (last + 1).max(reserved).max(FIRST_SEQ)
}

/// The first free number.
pub(crate) async fn next(db: &mut Db, run: i64) -> Done<u64> {
    Ok(next_of(state(db, run).await?))
}

/// Reserves the numbers below an end, and returns the end of all that is reserved.
pub(crate) async fn reserve(tx: &mut Tx, run: i64, end: u64) -> Done<u64> {
    let end = i64::try_from(end).unwrap_or(i64::MAX);
    let sql = "INSERT INTO runloom.log_state AS s (run, reserved, oldest) VALUES ($1, $2, 0) \
        ON CONFLICT (run) DO UPDATE SET reserved = greatest(s.reserved, excluded.reserved) RETURNING reserved";
    Ok(tx.one(sql, args![run, end], |row| row.number()).await?.unwrap_or(end.unsigned_abs()))
}

/// Adds records, many in one statement.
pub(crate) async fn insert(tx: &mut Tx, run: i64, records: &[LogRecord]) -> Done<()> {
    if records.is_empty() {
        return Ok(());
    }
    let seqs: Vec<i64> = records.iter().map(|record| record.seq as i64).collect();
    let bytes: Vec<&[u8]> = records.iter().map(|record| &*record.bytes).collect();
    let sql = "INSERT INTO runloom.log (run, seq, bytes) SELECT $1, * FROM unnest($2::bigint[], $3::bytea[])";
    tx.run(sql, args![run, seqs, bytes]).await?;
    tx.stats.log_records += records.len() as u64;
    tx.stats.log_bytes += records.iter().map(|record| record.bytes.len() as u64).sum::<u64>();
    Ok(())
}

pub(crate) async fn trim(tx: &mut Tx, run: i64, before: u64) -> Done<()> {
    if before == 0 {
        return Ok(());
    }
    tx.run("DELETE FROM runloom.log WHERE run = $1 AND seq < $2", args![run, before as i64]).await?;
    let sql = "INSERT INTO runloom.log_state AS s (run, reserved, oldest) VALUES ($1, 0, $2) \
        ON CONFLICT (run) DO UPDATE SET oldest = greatest(s.oldest, excluded.oldest)";
    tx.run(sql, args![run, before as i64]).await.map(|_| ())
}

async fn place(db: &mut Db, tenant: &TenantId, run: RunId) -> Done<i64> {
    let sql = "SELECT n FROM runloom.runs WHERE id = $1 AND tenant = $2";
    let found = db.one(sql, args![run.0, tenant.as_str()], |row| row.get()).await?;
    Ok(found.ok_or_else(|| Error::not_found(What::Run, run))?)
}

async fn read_from(db: &mut Db, run: i64, from: u64, limit: ReadLimit) -> Done<Vec<LogRecord>> {
    let mut records: Vec<LogRecord> = Vec::new();
    let mut bytes = 0;
    let mut from = from;
    while records.len() < limit.records && from <= MAX_SEQ {
        let count = (limit.records - records.len()).min(BATCH);
        // The sizes come first, so that no more is sent than is returned.
        let sql = "SELECT seq, bytes FROM (SELECT seq, bytes, sum(length(bytes)) OVER (ORDER BY seq) AS total \
            FROM (SELECT seq, bytes FROM runloom.log WHERE run = $1 AND seq >= $2 ORDER BY seq LIMIT $3) AS first) AS sized \
            WHERE total <= $4 OR seq = (SELECT min(seq) FROM runloom.log WHERE run = $1 AND seq >= $2) ORDER BY seq";
        let left = limit.bytes.saturating_sub(bytes);
        let rows = db
            .all(sql, args![run, from as i64, limit_of(count), limit_of(left)], |row| {
                Ok(LogRecord { seq: row.number()?, bytes: Bytes::from(row.get::<Vec<u8>>()?) })
            })
            .await?;
        let is_all = rows.len() < count;
        for record in rows {
            bytes += record.bytes.len();
            if !records.is_empty() && bytes > limit.bytes {
                return Ok(records);
            }
            from = record.seq + 1;
            records.push(record);
        }
        if is_all {
            break;
        }
    }
    Ok(records)
}

#[async_trait]
impl Logs for PostgresStore {
    fn append_log(&self, attempt: Attempt, records: Vec<LogRecord>) -> Ack {
        let bytes = records.iter().map(|record| record.bytes.len() + 64).sum();
        Box::pin(self.begin(bytes, Work::Append { attempt, records }))
    }

    fn reserve_log(&self, attempt: Attempt, end: u64) -> Ack {
        Box::pin(self.begin(0, Work::Reserve { attempt, end }))
    }

    async fn read_log(&self, tenant: &TenantId, run: RunId, from: u64, limit: ReadLimit) -> Result<Vec<LogRecord>> {
        read!(self, |db| {
            let run = place(db, tenant, run).await?;
            read_from(db, run, from, limit).await
        })
    }

    async fn log_bounds(&self, tenant: &TenantId, run: RunId) -> Result<LogBounds> {
        read!(self, |db| {
            let run = place(db, tenant, run).await?;
            let state = state(db, run).await?;
            Ok(LogBounds { oldest: state.1.max(FIRST_SEQ), last: state.2, next: next_of(state) })
        })
    }

    async fn trim_log(&self, tenant: &TenantId, run: RunId, before: u64) -> Result<()> {
        transact!(self, |tx| {
            let run = place(tx, tenant, run).await?;
            let past = last(tx, run).await? + 1;
            trim(tx, run, before.min(past)).await
        })
    }
}
