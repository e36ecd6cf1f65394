//! Servers, attempts and claims in SQLite.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use runloom_engine::{Object, ThreadId, Value};
use runloom_store::{
    Attempt, Begun, Claims, Delivery, Error, Job, Result, Run, RunEnd, ServerId, TenantId, ThreadStatus, ThreadUpdate,
    Topic, Unfinished, log::check_order, time::nanos,
};
use rusqlite::{Connection, params};

use crate::{
    SqliteStore, crons, log,
    run_rows::{COLUMNS, get_any, run, running, write},
    sql::Sql,
    threads,
    writer::Tx,
};

fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn until(now: SystemTime, ttl: Duration) -> i64 {
    nanos(now).saturating_add(i64::try_from(ttl.as_nanos()).unwrap_or(i64::MAX))
}

fn is_live(db: &Connection, server: ServerId, now: SystemTime) -> Result<bool> {
    let sql = "SELECT 1 FROM servers WHERE id = ?1 AND until > ?2";
    Ok(db.one(sql, params![server.0.into_bytes(), nanos(now)], |_| Ok(()))?.is_some())
}

fn check_live(db: &Connection, server: ServerId, now: SystemTime) -> Result<()> {
    if is_live(db, server, now)? { Ok(()) } else { Err(Error::LeaseLost { server }) }
}

fn begin(tx: &Tx<'_>, seen: Attempt, server: ServerId, config: Object, reserve: u64, now: SystemTime) -> Result<Begun> {
    check_live(tx, server, now)?;
    let (n, mut run) = get_any(tx, seen.run)?;
    let held = run.server.map_or(Ok(false), |server| is_live(tx, server, now))?;
    let (place, mut thread) = threads::get(tx, &run.tenant, run.thread)?;
    run.begin(seen, server, held, thread.events, now)?;
    if let Some(other) = running(tx, place)?.filter(|other| *other != run.id) {
        return Err(Error::Busy { thread: run.thread, run: other });
    }
    let first_seq = log::next(tx, n)?;
    let reserved = log::reserve(tx, n, first_seq.saturating_add(reserve))?;
    write(tx, n, &run)?;
    thread.begun(&run, config, now);
    threads::write(tx, place, &thread)?;
    Ok(Begun { attempt: run.current(), run, first_seq, reserved })
}

fn release(tx: &Tx<'_>, attempt: Attempt, usage: Option<Value>, now: SystemTime) -> Result<Run> {
    let (n, mut run) = get_any(tx, attempt.run)?;
    run.release(attempt, usage, now)?;
    write(tx, n, &run)?;
    let idle = ThreadUpdate { status: Some(ThreadStatus::Idle), ..ThreadUpdate::default() };
    threads::update(tx, &run.tenant, run.thread, idle, now)?;
    tx.hint([Topic::Pending]);
    Ok(run)
}

fn finish(tx: &Tx<'_>, attempt: Attempt, mut end: RunEnd, now: SystemTime) -> Result<Run> {
    let (n, mut run) = get_any(tx, attempt.run)?;
    let records = std::mem::take(&mut end.records);
    let (delivery, events) = (end.delivery.take(), end.events);
    let before = log::last(tx, n)?;
    let last = records.last().map_or(before, |record| record.seq);
    let update = run.finish(attempt, end, last, now)?;
    check_order(&records, before)?;
    log::insert(tx, n, &records)?;
    write(tx, n, &run)?;
    tx.hint([Topic::Pending]);
    if let Some(new) = delivery {
        crons::deliver(tx, &Delivery::new(run.tenant.clone(), run.id, new, now))?;
        tx.hint([Topic::Deliveries]);
    }
    if update != ThreadUpdate::default() || run.events_before.is_some() {
        let (place, mut thread) = threads::get(tx, &run.tenant, run.thread)?;
        thread.ended(run.events_before, events);
        if update != ThreadUpdate::default() {
            thread.apply(update, now);
        }
        threads::write(tx, place, &thread)?;
    }
    Ok(run)
}

fn claim(tx: &Tx<'_>, server: ServerId, job: &Job, now: SystemTime) -> Result<bool> {
    check_live(tx, server, now)?;
    let sql = "INSERT INTO claims (job, server) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET server = excluded.server \
        WHERE NOT EXISTS (SELECT 1 FROM servers s WHERE s.id = claims.server AND s.until > ?3) \
        OR claims.server = excluded.server";
    Ok(tx.run(sql, params![job.to_string(), server.0.into_bytes(), nanos(now)])? > 0)
}

#[async_trait]
impl Claims for SqliteStore {
    async fn register_server(&self, ttl: Duration) -> Result<ServerId> {
        let (server, now) = (ServerId(self.uuid()), self.now());
        self.write(move |tx| {
            // A server that has been away for ten times that long is not coming back.
            let away = nanos(now).saturating_sub(i64::try_from(ttl.as_nanos() * 10).unwrap_or(i64::MAX));
            tx.run("DELETE FROM servers WHERE until <= ?1", [away])?;
            let sql = "INSERT INTO servers (id, until) VALUES (?1, ?2)";
            tx.run(sql, params![server.0.into_bytes(), until(now, ttl)])?;
            Ok(server)
        })
        .await
    }

    async fn renew_server(&self, server: ServerId, ttl: Duration) -> Result<()> {
        let now = self.now();
        // Past the queue's bound: a lease must not be lost because much is written.
        let renewed = self.inner.shared.begin(0, move |tx| {
            let sql = "UPDATE servers SET until = ?2 WHERE id = ?1";
            match tx.run(sql, params![server.0.into_bytes(), until(now, ttl)])? {
                0 => Err(Error::LeaseLost { server }),
                _ => Ok(()),
            }
        });
        renewed.await
    }

    async fn release_server(&self, server: ServerId) -> Result<()> {
        self.write(move |tx| {
            tx.run("DELETE FROM servers WHERE id = ?1", [server.0.into_bytes()])?;
            tx.run("DELETE FROM claims WHERE server = ?1", [server.0.into_bytes()])?;
            tx.hint([Topic::Pending, Topic::Schedules, Topic::Deliveries]);
            Ok(())
        })
        .await
    }

    async fn claim(&self, server: ServerId, job: Job) -> Result<bool> {
        let now = self.now();
        self.write(move |tx| claim(tx, server, &job, now)).await
    }

    async fn release_claim(&self, server: ServerId, job: Job) -> Result<()> {
        let sql = "DELETE FROM claims WHERE job = ?1 AND server = ?2";
        self.write(move |tx| tx.run(sql, params![job.to_string(), server.0.into_bytes()]).map(|_| ())).await
    }

    async fn begin_attempt(&self, seen: Attempt, server: ServerId, config: Object, reserve: u64) -> Result<Begun> {
        let now = self.now();
        self.write(move |tx| begin(tx, seen, server, config, reserve, now)).await
    }

    async fn release_run(&self, attempt: Attempt, usage: Option<Value>) -> Result<Run> {
        let now = self.now();
        self.write(move |tx| release(tx, attempt, usage, now)).await
    }

    async fn finish_run(&self, attempt: Attempt, end: RunEnd) -> Result<Run> {
        let now = self.now();
        let bytes = end.records.iter().map(|record| record.bytes.len()).sum::<usize>();
        let bytes = bytes + end.delivery.as_ref().map_or(0, |delivery| delivery.body.len());
        self.write_sized(bytes, move |tx| finish(tx, attempt, end, now)).await
    }

    async fn abandoned_runs(&self, limit: usize) -> Result<Vec<Run>> {
        let now = nanos(self.now());
        self.read(move |db| {
            let sql = format!(
                "SELECT {COLUMNS} WHERE r.status = 1 \
                 AND NOT EXISTS (SELECT 1 FROM servers s WHERE s.id = r.server AND s.until > ?1) ORDER BY r.n LIMIT ?2"
            );
            db.all(&sql, [now, limit_of(limit)], |row| Ok(run(row)?.1))
        })
        .await
    }

    async fn cancelled_on(&self, server: ServerId) -> Result<Vec<Run>> {
        self.read(move |db| {
            let sql =
                format!("SELECT {COLUMNS} WHERE r.status = 1 AND r.server = ?1 AND r.cancel IS NOT NULL ORDER BY r.n");
            db.all(&sql, [server.0.into_bytes()], |row| Ok(run(row)?.1))
        })
        .await
    }

    async fn unfinished_rollbacks(&self, limit: usize) -> Result<Vec<Run>> {
        self.read(move |db| {
            let sql = format!("SELECT {COLUMNS} WHERE r.cancel = 1 AND r.status > 1 ORDER BY r.n LIMIT ?1");
            db.all(&sql, [limit_of(limit)], |row| Ok(run(row)?.1))
        })
        .await
    }

    async fn count_unfinished(&self) -> Result<Unfinished> {
        self.read(move |db| {
            let sql = "SELECT coalesce(sum(status = 0), 0), coalesce(sum(status = 1), 0) \
                FROM runs INDEXED BY runs_open WHERE status < 2";
            let counted = db.one(sql, [], |row| Ok((row.get::<i64>()?, row.get::<i64>()?)))?;
            let (pending, running) = counted.unwrap_or_default();
            Ok(Unfinished { pending: pending.unsigned_abs(), running: running.unsigned_abs() })
        })
        .await
    }

    async fn waiting_threads(&self, limit: usize) -> Result<Vec<(TenantId, ThreadId)>> {
        let now = nanos(self.now());
        self.read(move |db| {
            let sql = "SELECT t.tenant, t.id FROM runs r JOIN threads t ON t.n = r.thread \
                WHERE r.status = 0 AND (r.start_at IS NULL OR r.start_at <= ?1) AND NOT EXISTS \
                (SELECT 1 FROM runs o WHERE o.thread = r.thread AND o.status < 2 AND o.status = 1) \
                GROUP BY r.thread ORDER BY min(r.n) LIMIT ?2";
            db.all(sql, [now, limit_of(limit)], |row| Ok((row.tenant()?, ThreadId(row.uuid()?))))
        })
        .await
    }

    async fn next_pending(&self, tenant: &TenantId, thread: ThreadId) -> Result<Option<Run>> {
        let (tenant, now) = (tenant.clone(), nanos(self.now()));
        self.read(move |db| {
            let Some(thread) = threads::place(db, &tenant, thread)? else { return Ok(None) };
            let sql = format!(
                "SELECT {COLUMNS} WHERE r.thread = ?1 AND r.status < 2 AND r.status = 0 \
                 AND (r.start_at IS NULL OR r.start_at <= ?2) ORDER BY r.n LIMIT 1"
            );
            Ok(db.one(&sql, [thread, now], run)?.map(|(_, run)| run))
        })
        .await
    }
}
