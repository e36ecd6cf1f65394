//! Servers, attempts and claims in Postgres. Leases go by the clock of the database.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use runloom_engine::{Object, RunId, ThreadId, Value};
use runloom_store::{
    Attempt, Begun, Claims, Delivery, Error, Job, Result, Run, RunEnd, ServerId, TenantId, ThreadStatus, ThreadUpdate,
    Topic, Unfinished, log::check_order, time::nanos,
};

use crate::{
    PostgresStore, crons,
    fault::{Class, Done, Fault, classify},
    logs,
    run_rows::{COLUMNS, Lock, get_any, run, running, write},
    sql::{Db, args, limit_of, safe},
    threads,
    tx::{Tx, jittered, read, transact},
};

/// The clock of the database.
const CLOCK: &str = "(extract(epoch FROM clock_timestamp()) * 1000000000)::bigint";

/// The time of leases: the first parameter, or the clock of the database.
macro_rules! now {
    () => {
        "coalesce($1::bigint, (extract(epoch FROM clock_timestamp()) * 1000000000)::bigint)"
    };
}

fn nanos_of(ttl: Duration) -> i64 {
    i64::try_from(ttl.as_nanos()).unwrap_or(i64::MAX)
}

async fn is_live(db: &mut Db, server: ServerId, now: Option<i64>) -> Done<bool> {
    let sql = concat!("SELECT 1 FROM runloom.servers WHERE id = $2 AND until > ", now!());
    Ok(db.one(sql, args![now, server.0], |_| Ok(())).await?.is_some())
}

async fn check_live(db: &mut Db, server: ServerId, now: Option<i64>) -> Done<()> {
    if is_live(db, server, now).await? { Ok(()) } else { Err(Error::LeaseLost { server }.into()) }
}

async fn begin(
    tx: &mut Tx,
    (seen, server): (Attempt, ServerId),
    config: Object,
    reserve: u64,
    (now, lease): (SystemTime, Option<i64>),
) -> Done<Begun> {
    check_live(tx, server, lease).await?;
    let (n, mut run) = get_any(tx, seen.run, Lock::Thread).await?;
    let held = match run.server {
        Some(server) => is_live(tx, server, lease).await?,
        None => false,
    };
    let (place, mut thread) = threads::get(tx, &run.tenant, run.thread, threads::Lock::No).await?;
    run.begin(seen, server, held, thread.events, now)?;
    if let Some(other) = running(tx, place).await?.filter(|other| *other != run.id) {
        return Err(Error::Busy { thread: run.thread, run: other }.into());
    }
    let first_seq = logs::next(tx, n).await?;
    let reserved = logs::reserve(tx, n, first_seq.saturating_add(reserve)).await?;
    write(tx, n, &run).await?;
    thread.begun(&run, config, now);
    threads::write(tx, place, &thread).await?;
    Ok(Begun { attempt: run.current(), run, first_seq, reserved })
}

async fn release(tx: &mut Tx, attempt: Attempt, usage: Option<Value>, now: SystemTime) -> Done<Run> {
    let (n, mut run) = get_any(tx, attempt.run, Lock::Thread).await?;
    run.release(attempt, usage, now)?;
    write(tx, n, &run).await?;
    let idle = ThreadUpdate { status: Some(ThreadStatus::Idle), ..ThreadUpdate::default() };
    threads::update(tx, &run.tenant, run.thread, idle, now).await?;
    tx.hint([Topic::Pending]);
    Ok(run)
}

async fn finish(tx: &mut Tx, attempt: Attempt, mut end: RunEnd, now: SystemTime) -> Done<Run> {
    let (n, mut run) = get_any(tx, attempt.run, Lock::Thread).await?;
    let records = std::mem::take(&mut end.records);
    let (delivery, events) = (end.delivery.take(), end.events);
    let before = logs::last(tx, n).await?;
    let last = records.last().map_or(before, |record| record.seq);
    let update = run.finish(attempt, end, last, now)?;
    check_order(&records, before)?;
    logs::insert(tx, n, &records).await?;
    write(tx, n, &run).await?;
    tx.hint([Topic::Pending]);
    if let Some(new) = delivery {
        crons::deliver(tx, &Delivery::new(run.tenant.clone(), run.id, new, now)).await?;
        tx.hint([Topic::Deliveries]);
    }
    if update != ThreadUpdate::default() || run.events_before.is_some() {
        let (place, mut thread) = threads::get(tx, &run.tenant, run.thread, threads::Lock::No).await?;
        thread.ended(run.events_before, events);
        if update != ThreadUpdate::default() {
            thread.apply(update, now);
        }
        threads::write(tx, place, &thread).await?;
    }
    Ok(run)
}

async fn claim(tx: &mut Tx, server: ServerId, job: &Job, lease: Option<i64>) -> Done<bool> {
    check_live(tx, server, lease).await?;
    // Another server that claims it right now has the row: it is not waited for.
    let held = concat!(
        "SELECT c.server = $3 OR NOT EXISTS (SELECT 1 FROM runloom.servers s WHERE s.id = c.server AND s.until > ",
        now!(),
        ") FROM runloom.claims c WHERE c.job = $2 FOR UPDATE SKIP LOCKED"
    );
    let job = job.to_string();
    match tx.one(held, args![lease, &job, server.0], |row| row.get::<bool>()).await? {
        Some(false) => Ok(false),
        Some(true) => {
            let sql = "UPDATE runloom.claims SET server = $2 WHERE job = $1";
            Ok(tx.run(sql, args![&job, server.0]).await? > 0)
        }
        None => {
            let sql = "INSERT INTO runloom.claims (job, server) VALUES ($1, $2) ON CONFLICT DO NOTHING";
            Ok(tx.run(sql, args![&job, server.0]).await? > 0)
        }
    }
}

impl PostgresStore {
    /// Renews a lease on a connection of the small pool: a lease must not be lost because much is written. As a simple query,
    /// which is one round trip, whatever stands between.
    async fn renew(&self, server: ServerId, ttl: Duration) -> Result<u64, sqlx::Error> {
        let now = self.lease_time().map_or_else(|| CLOCK.to_owned(), |now| now.to_string());
        let sql = format!("UPDATE runloom.servers SET until = {now} + {} WHERE id = '{server}'", nanos_of(ttl));
        let mut conn = self.inner.pools.aux.acquire().await?;
        let renewed = sqlx::raw_sql(safe(sql)).execute(&mut *conn).await;
        if renewed.as_ref().is_err_and(|error| classify(error) == Class::Lost) {
            conn.close_on_drop();
        }
        Ok(renewed?.rows_affected())
    }
}

#[async_trait]
impl Claims for PostgresStore {
    async fn register_server(&self, ttl: Duration) -> Result<ServerId> {
        let server = ServerId(self.uuid());
        let (ttl, lease) = (nanos_of(ttl), self.lease_time());
        transact!(self, |tx| {
            // A server that has been away for ten times that long is not coming back.
            let sql = concat!("DELETE FROM runloom.servers WHERE until <= ", now!(), " - $2");
            tx.run(sql, args![lease, ttl.saturating_mul(10)]).await?;
            let sql =
                "DELETE FROM runloom.claims c WHERE NOT EXISTS (SELECT 1 FROM runloom.servers s WHERE s.id = c.server)";
            tx.run(sql, args![]).await?;
            let sql = concat!("INSERT INTO runloom.servers (id, until) VALUES ($2, ", now!(), " + $3)");
            tx.run(sql, args![lease, server.0, ttl]).await?;
            Ok(server)
        })
    }

    async fn renew_server(&self, server: ServerId, ttl: Duration) -> Result<()> {
        // One that fails is tried again at once: renewing twice does no harm, and a new connection may serve.
        let mut tries = 3;
        loop {
            tries -= 1;
            match self.renew(server, ttl).await {
                Ok(0) => return Err(Error::LeaseLost { server }),
                Ok(_) => return Ok(()),
                Err(error) => {
                    let class = classify(&error);
                    self.inner.note(class, &error);
                    if tries == 0 || class == Class::Lasting {
                        return Err(Fault::from(error).into());
                    }
                    tokio::time::sleep(jittered(Duration::from_millis(50))).await;
                }
            }
        }
    }

    async fn release_server(&self, server: ServerId) -> Result<()> {
        transact!(self, |tx| {
            tx.run("DELETE FROM runloom.servers WHERE id = $1", args![server.0]).await?;
            tx.run("DELETE FROM runloom.claims WHERE server = $1", args![server.0]).await?;
            tx.hint([Topic::Pending, Topic::Schedules, Topic::Deliveries]);
            Ok(())
        })
    }

    async fn claim(&self, server: ServerId, job: Job) -> Result<bool> {
        let lease = self.lease_time();
        transact!(self, |tx| claim(tx, server, &job, lease).await)
    }

    async fn release_claim(&self, server: ServerId, job: Job) -> Result<()> {
        transact!(self, |tx| {
            let sql = "DELETE FROM runloom.claims WHERE job = $1 AND server = $2";
            tx.run(sql, args![job.to_string(), server.0]).await.map(|_| ())
        })
    }

    async fn begin_attempt(&self, seen: Attempt, server: ServerId, config: Object, reserve: u64) -> Result<Begun> {
        self.settled(seen.run).await;
        let times = (self.now(), self.lease_time());
        transact!(self, |tx| begin(tx, (seen, server), config.clone(), reserve, times).await)
    }

    async fn release_run(&self, attempt: Attempt, usage: Option<Value>) -> Result<Run> {
        self.settled(attempt.run).await;
        let now = self.now();
        transact!(self, |tx| release(tx, attempt, usage.clone(), now).await)
    }

    async fn finish_run(&self, attempt: Attempt, end: RunEnd) -> Result<Run> {
        self.settled(attempt.run).await;
        let now = self.now();
        transact!(self, |tx| finish(tx, attempt, end.clone(), now).await)
    }

    async fn abandoned_runs(&self, limit: usize) -> Result<Vec<Run>> {
        let lease = self.lease_time();
        read!(self, |db| {
            let sql = format!(
                "SELECT {COLUMNS} WHERE r.status = 1 AND NOT EXISTS (SELECT 1 FROM runloom.servers s \
                 WHERE s.id = r.server AND s.until > {}) ORDER BY r.n LIMIT $2",
                now!()
            );
            db.all(safe(sql), args![lease, limit_of(limit)], |row| Ok(run(row)?.1)).await
        })
    }

    async fn cancelled_on(&self, server: ServerId) -> Result<Vec<Run>> {
        read!(self, |db| {
            let sql =
                format!("SELECT {COLUMNS} WHERE r.status = 1 AND r.server = $1 AND r.cancel IS NOT NULL ORDER BY r.n");
            db.all(safe(sql), args![server.0], |row| Ok(run(row)?.1)).await
        })
    }

    async fn unfinished_rollbacks(&self, limit: usize) -> Result<Vec<Run>> {
        read!(self, |db| {
            let sql = format!("SELECT {COLUMNS} WHERE r.cancel = 1 AND r.status > 1 ORDER BY r.n LIMIT $1");
            db.all(safe(sql), args![limit_of(limit)], |row| Ok(run(row)?.1)).await
        })
    }

    async fn count_unfinished(&self) -> Result<Unfinished> {
        read!(self, |db| {
            let sql = "SELECT count(*) FILTER (WHERE status = 0), count(*) FILTER (WHERE status = 1) \
                FROM runloom.runs WHERE status < 2";
            let counted = db.one(sql, args![], |row| Ok((row.get::<i64>()?, row.get::<i64>()?))).await?;
            let (pending, running) = counted.unwrap_or_default();
            Ok(Unfinished { pending: pending.unsigned_abs(), running: running.unsigned_abs() })
        })
    }

    async fn waiting_threads(&self, limit: usize) -> Result<Vec<(TenantId, ThreadId)>> {
        let now = nanos(self.now());
        read!(self, |db| {
            let sql = "SELECT t.tenant, t.id FROM runloom.runs r JOIN runloom.threads t ON t.n = r.thread \
                WHERE r.status = 0 AND (r.start_at IS NULL OR r.start_at <= $1) AND NOT EXISTS \
                (SELECT 1 FROM runloom.runs o WHERE o.thread = r.thread AND o.status = 1) \
                GROUP BY t.n ORDER BY min(r.n) LIMIT $2";
            db.all(sql, args![now, limit_of(limit)], |row| Ok((row.tenant()?, ThreadId(row.uuid()?)))).await
        })
    }

    async fn next_pending(&self, tenant: &TenantId, thread: ThreadId) -> Result<Option<Run>> {
        let now = nanos(self.now());
        read!(self, |db| {
            let sql = format!(
                "SELECT {COLUMNS} WHERE t.tenant = $1 AND t.id = $2 AND r.status < 2 AND r.status = 0 \
                 AND (r.start_at IS NULL OR r.start_at <= $3) ORDER BY r.n LIMIT 1"
            );
            Ok(db.one(safe(sql), args![tenant.as_str(), thread.0, now], run).await?.map(|(_, run)| run))
        })
    }
}

impl PostgresStore {
    /// Resolves when the writes of a run that began before have been made or have failed.
    async fn settled(&self, run: RunId) {
        self.inner.lanes.settled(run.0).await;
    }
}
