//! What is due at a time, in Postgres.

use std::time::SystemTime;

use async_trait::async_trait;
use runloom_engine::{RunId, ThreadId};
use runloom_store::{
    Cron, Delivery, Expiry, Firing, Result, Run, RunThread, Schedules, Swept, TenantId, Topic, time::nanos,
};

use crate::{
    PostgresStore,
    crons::{COLUMNS, cron, find, write},
    items, logs,
    run_rows::{self, run},
    runs,
    sql::{args, limit_of, safe},
    threads,
    tx::{read, transact},
};

#[async_trait]
impl Schedules for PostgresStore {
    async fn scheduled_runs(&self, limit: usize) -> Result<Vec<Run>> {
        read!(self, |db| {
            let sql = format!(
                "SELECT {} WHERE r.status = 0 AND r.start_at IS NOT NULL ORDER BY r.start_at, r.n LIMIT $1",
                run_rows::COLUMNS
            );
            db.all(safe(sql), args![limit_of(limit)], |row| Ok(run(row)?.1)).await
        })
    }

    async fn waiting_crons(&self, limit: usize) -> Result<Vec<Cron>> {
        read!(self, |db| {
            let sql = format!(
                "SELECT {COLUMNS} FROM runloom.crons WHERE next_at IS NOT NULL AND enabled ORDER BY next_at, n LIMIT $1"
            );
            db.all(safe(sql), args![limit_of(limit)], |row| Ok(cron(row)?.1)).await
        })
    }

    async fn fire_cron(&self, firing: Firing) -> Result<Option<Run>> {
        let now = self.now();
        let ids = (RunId(self.uuid()), ThreadId(self.uuid()));
        transact!(self, |tx| {
            let found = find(tx, &firing.tenant, firing.cron, true).await?;
            let Some((n, mut cron)) = found.filter(|(_, cron)| cron.is_due(&firing)) else { return Ok(None) };
            let made = match &firing.run {
                Err(why) => Err(why.clone()),
                Ok(new) => {
                    let thread = match &new.thread {
                        RunThread::Existing(id) => *id,
                        RunThread::Create(thread) => thread.id.unwrap_or(ids.1),
                    };
                    let id = new.id.unwrap_or(ids.0);
                    Ok(runs::create(tx, &firing.tenant, id, thread, new.clone(), now).await?.run)
                }
            };
            cron.fired(firing.next, made.as_ref().map(|run| run.id).map_err(String::clone), now);
            write(tx, n, &cron).await?;
            Ok(made.ok())
        })
    }

    async fn waiting_deliveries(&self, limit: usize) -> Result<Vec<(RunId, SystemTime)>> {
        read!(self, |db| {
            let sql = "SELECT run, next_at FROM runloom.deliveries ORDER BY next_at, run LIMIT $1";
            db.all(sql, args![limit_of(limit)], |row| Ok((RunId(row.uuid()?), row.time()?))).await
        })
    }

    async fn get_delivery(&self, run: RunId) -> Result<Option<Delivery>> {
        read!(self, |db| {
            let sql =
                "SELECT tenant, next_at, created, attempts, error, url, body FROM runloom.deliveries WHERE run = $1";
            db.one(sql, args![run.0], |row| {
                Ok(Delivery {
                    tenant: row.tenant()?,
                    run,
                    next_at: row.time()?,
                    created_at: row.time()?,
                    attempts: row.number()?,
                    error: row.get()?,
                    url: row.get()?,
                    body: row.get()?,
                })
            })
            .await
        })
    }

    async fn postpone_delivery(&self, run: RunId, next: SystemTime, error: String) -> Result<()> {
        transact!(self, |tx| {
            tx.hint([Topic::Deliveries]);
            let sql = "UPDATE runloom.deliveries SET next_at = $2, error = $3, attempts = attempts + 1 WHERE run = $1";
            tx.run(sql, args![run.0, nanos(next), &error]).await.map(|_| ())
        })
    }

    async fn delete_delivery(&self, run: RunId) -> Result<()> {
        transact!(self, |tx| {
            tx.run("DELETE FROM runloom.deliveries WHERE run = $1", args![run.0]).await.map(|_| ())
        })
    }

    async fn expiring_threads(&self, limit: usize) -> Result<Vec<(TenantId, ThreadId, Expiry)>> {
        read!(self, |db| {
            let sql = "SELECT tenant, id, expires, keep_latest FROM runloom.threads WHERE expires IS NOT NULL \
                ORDER BY expires, id LIMIT $1";
            let rows = db
                .all(sql, args![limit_of(limit)], |row| {
                    let (tenant, id) = (row.tenant()?, ThreadId(row.uuid()?));
                    Ok(threads::expiry(row)?.map(|expiry| (tenant, id, expiry)))
                })
                .await?;
            Ok(rows.into_iter().flatten().collect())
        })
    }

    async fn sweep(&self, now: SystemTime, limit: usize) -> Result<Swept> {
        let mut swept = Swept::default();
        let mut emptied = false;
        // A transaction for each thread: none holds locks for long.
        while (swept.runs as usize) < limit {
            let found: Result<bool> = transact!(self, |tx| {
                // Another server may sweep too: what it has is not waited for.
                let sql = "SELECT t.n FROM runloom.runs r JOIN runloom.threads t ON t.n = r.thread \
                    WHERE r.expires IS NOT NULL AND r.expires <= $1 AND r.stateless \
                    ORDER BY r.expires, r.n LIMIT 1 FOR UPDATE OF t SKIP LOCKED";
                let found = tx.one(sql, args![nanos(now)], |row| row.get()).await?;
                let Some(thread) = found else { return Ok(false) };
                threads::delete(tx, thread).await?;
                Ok(true)
            });
            if !found? {
                break;
            }
            (swept.runs, emptied) = (swept.runs + 1, true);
        }
        let cached: Result<u64> = transact!(self, |tx| {
            let sql = "DELETE FROM runloom.node_cache WHERE (tenant, key) IN (SELECT tenant, key FROM runloom.node_cache \
                WHERE until IS NOT NULL AND until <= $1 LIMIT 10000 FOR UPDATE SKIP LOCKED)";
            tx.run(sql, args![nanos(now)]).await
        });
        swept.cached = cached?;
        // What an earlier server left behind as well.
        if emptied || !self.is_trash_empty().await? {
            self.empty_trash();
        }
        Ok(swept)
    }

    async fn drop_logs(&self, ended_before: SystemTime, limit: usize) -> Result<u64> {
        let mut dropped = 0;
        while (dropped as usize) < limit {
            let found: Result<bool> = transact!(self, |tx| {
                let sql = "SELECT n FROM runloom.runs WHERE logged AND ended < $1 ORDER BY ended LIMIT 1 \
                    FOR NO KEY UPDATE SKIP LOCKED";
                let found = tx.one(sql, args![nanos(ended_before)], |row| row.get()).await?;
                let Some(run) = found else { return Ok(false) };
                let last = logs::last(tx, run).await?;
                logs::trim(tx, run, last + 1).await?;
                tx.run("UPDATE runloom.runs SET logged = false WHERE n = $1", args![run]).await?;
                Ok(true)
            });
            if !found? {
                break;
            }
            dropped += 1;
        }
        Ok(dropped)
    }

    async fn next_item_expiry(&self) -> Result<Option<SystemTime>> {
        read!(self, |db| items::next_expiry(db).await)
    }

    async fn sweep_items(&self, now: SystemTime, limit: usize) -> Result<u64> {
        transact!(self, |tx| items::sweep(tx, nanos(now), limit_of(limit)).await)
    }
}

impl PostgresStore {
    async fn is_trash_empty(&self) -> Result<bool> {
        read!(self, |db| Ok(db.one("SELECT 1 FROM runloom.trash LIMIT 1", args![], |_| Ok(())).await?.is_none()))
    }
}
