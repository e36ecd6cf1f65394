//! What is due at a time, in SQLite.

use std::{ops::ControlFlow, time::SystemTime};

use async_trait::async_trait;
use runloom_engine::{RunId, ThreadId};
use runloom_store::{
    Cron, Delivery, Expiry, Firing, Result, Run, RunThread, Schedules, Swept, TenantId, Topic, time::nanos,
};
use rusqlite::params;

use crate::{
    SqliteStore,
    crons::{COLUMNS, cron, find, write},
    items, log,
    run_rows::{self, run},
    runs,
    sql::{Sql, first},
    threads,
};

fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

#[async_trait]
impl Schedules for SqliteStore {
    async fn scheduled_runs(&self, limit: usize) -> Result<Vec<Run>> {
        self.read(move |db| {
            let sql = format!(
                "SELECT {} WHERE r.status = 0 AND r.start_at IS NOT NULL ORDER BY r.start_at, r.n LIMIT ?1",
                run_rows::COLUMNS
            );
            db.all(&sql, [limit_of(limit)], |row| Ok(run(row)?.1))
        })
        .await
    }

    async fn waiting_crons(&self, limit: usize) -> Result<Vec<Cron>> {
        self.read(move |db| {
            let sql = format!(
                "SELECT {COLUMNS} FROM crons WHERE next_at IS NOT NULL AND enabled ORDER BY next_at, n LIMIT {limit}"
            );
            db.all(&sql, [], |row| Ok(cron(row)?.1))
        })
        .await
    }

    async fn fire_cron(&self, firing: Firing) -> Result<Option<Run>> {
        let now = self.now();
        let ids = (RunId(self.uuid()), ThreadId(self.uuid()));
        self.write(move |tx| {
            let Some((n, mut cron)) = find(tx, &firing.tenant, firing.cron)?.filter(|(_, cron)| cron.is_due(&firing))
            else {
                return Ok(None);
            };
            let made = match &firing.run {
                Err(why) => Err(why.clone()),
                Ok(new) => {
                    let thread = match &new.thread {
                        RunThread::Existing(id) => *id,
                        RunThread::Create(thread) => thread.id.unwrap_or(ids.1),
                    };
                    Ok(runs::create(tx, &firing.tenant, new.id.unwrap_or(ids.0), thread, new.clone(), now)?.run)
                }
            };
            cron.fired(firing.next, made.as_ref().map(|run| run.id).map_err(String::clone), now);
            write(tx, Some(n), &cron)?;
            Ok(made.ok())
        })
        .await
    }

    async fn waiting_deliveries(&self, limit: usize) -> Result<Vec<(RunId, SystemTime)>> {
        self.read(move |db| {
            let sql = format!("SELECT run, next_at FROM deliveries ORDER BY next_at, run LIMIT {limit}");
            db.all(&sql, [], |row| Ok((RunId(row.uuid()?), row.time()?)))
        })
        .await
    }

    async fn get_delivery(&self, run: RunId) -> Result<Option<Delivery>> {
        self.read(move |db| {
            let sql = "SELECT tenant, next_at, created, attempts, error, url, body FROM deliveries WHERE run = ?1";
            db.one(sql, [run.0.into_bytes()], |row| {
                Ok(Delivery {
                    tenant: row.tenant()?,
                    run,
                    next_at: row.time()?,
                    created_at: row.time()?,
                    attempts: row.get()?,
                    error: row.get()?,
                    url: row.get()?,
                    body: row.get()?,
                })
            })
        })
        .await
    }

    async fn postpone_delivery(&self, run: RunId, next: SystemTime, error: String) -> Result<()> {
        let sql = "UPDATE deliveries SET next_at = ?2, error = ?3, attempts = attempts + 1 WHERE run = ?1";
        self.write(move |tx| {
            tx.hint([Topic::Deliveries]);
            tx.run(sql, params![run.0.into_bytes(), nanos(next), error]).map(|_| ())
        })
        .await
    }

    async fn delete_delivery(&self, run: RunId) -> Result<()> {
        let sql = "DELETE FROM deliveries WHERE run = ?1";
        self.write(move |tx| tx.run(sql, [run.0.into_bytes()]).map(|_| ())).await
    }

    async fn expiring_threads(&self, limit: usize) -> Result<Vec<(TenantId, ThreadId, Expiry)>> {
        self.read(move |db| {
            let sql = "SELECT tenant, id, expires, keep_latest FROM threads WHERE expires IS NOT NULL \
                ORDER BY expires, id LIMIT ?1";
            let mut expiring = Vec::new();
            db.each(sql, [limit_of(limit)], |row| {
                let (tenant, id) = (row.tenant()?, ThreadId(row.uuid()?));
                expiring.extend(threads::expiry(row)?.map(|expiry| (tenant, id, expiry)));
                Ok(ControlFlow::Continue(()))
            })?;
            Ok(expiring)
        })
        .await
    }

    async fn sweep(&self, now: SystemTime, limit: usize) -> Result<Swept> {
        self.write(move |tx| {
            let sql = "SELECT n, thread FROM runs WHERE expires IS NOT NULL AND expires <= ?1 AND stateless \
                ORDER BY expires, n LIMIT ?2";
            let expired = tx.all(sql, params![nanos(now), limit_of(limit)], |row| Ok((row.get()?, row.get()?)))?;
            let mut swept = Swept::default();
            for (run, thread) in expired {
                let run: i64 = run;
                // Another run of the same thread may have taken it along.
                if tx.one("SELECT 1 FROM runs WHERE n = ?1", [run], |_| Ok(()))?.is_some() {
                    threads::delete(tx, thread)?;
                    swept.runs += 1;
                }
            }
            let sql = "DELETE FROM node_cache WHERE until IS NOT NULL AND until <= ?1";
            swept.cached = tx.run(sql, [nanos(now)])? as u64;
            Ok(swept)
        })
        .await
    }

    async fn drop_logs(&self, ended_before: SystemTime, limit: usize) -> Result<u64> {
        self.write(move |tx| {
            let sql = "SELECT n FROM runs WHERE logged = 1 AND ended < ?1 ORDER BY ended LIMIT ?2";
            let runs: Vec<i64> = tx.all(sql, [nanos(ended_before), limit_of(limit)], first)?;
            for run in &runs {
                log::trim(tx, *run, log::last(tx, *run)? + 1)?;
                tx.run("UPDATE runs SET logged = 0 WHERE n = ?1", [*run])?;
            }
            Ok(runs.len() as u64)
        })
        .await
    }

    async fn next_item_expiry(&self) -> Result<Option<SystemTime>> {
        self.read(items::next_expiry).await
    }

    async fn sweep_items(&self, now: SystemTime, limit: usize) -> Result<u64> {
        self.write(move |tx| items::sweep(tx, nanos(now), limit_of(limit))).await
    }
}
