//! What is due at a time, in memory.

use std::time::SystemTime;

use async_trait::async_trait;
use runloom_engine::{RunId, ThreadId};
use runloom_store::{
    Cron, Delivery, Expiry, Firing, Result, Run, RunStatus, RunThread, Schedules, Swept, TenantId, Topic,
};

use crate::{MemoryStore, runs::Row};

#[async_trait]
impl Schedules for MemoryStore {
    async fn scheduled_runs(&self, limit: usize) -> Result<Vec<Run>> {
        let mut runs: Vec<_> = self.read(|tables| {
            let rows = tables.runs.values().filter(|row| row.run.status == RunStatus::Pending);
            rows.filter_map(|row| Some((row.run.start_at?, row.ordinal, row.run.clone()))).collect()
        });
        runs.sort_by_key(|(at, ordinal, _)| (*at, *ordinal));
        Ok(runs.into_iter().take(limit).map(|(_, _, run)| run).collect())
    }

    async fn waiting_crons(&self, limit: usize) -> Result<Vec<Cron>> {
        let mut rows: Vec<(SystemTime, i64, Cron)> = self.read(|tables| {
            let enabled = tables.crons.values().filter(|row| row.cron.enabled);
            enabled.filter_map(|row| Some((row.cron.next_at?, row.ordinal, row.cron.clone()))).collect()
        });
        rows.sort_by_key(|(at, ordinal, _)| (*at, *ordinal));
        Ok(rows.into_iter().take(limit).map(|(_, _, cron)| cron).collect())
    }

    async fn fire_cron(&self, firing: Firing) -> Result<Option<Run>> {
        let now = self.now();
        let ids = (RunId(self.uuid()), ThreadId(self.uuid()));
        self.write(|tables| {
            let (tenant, cron) = (&firing.tenant, firing.cron);
            if !tables.crons.get(&(tenant.clone(), cron)).is_some_and(|row| row.cron.is_due(&firing)) {
                return Ok(None);
            }
            let made = match &firing.run {
                Err(why) => Err(why.clone()),
                Ok(new) => {
                    let thread = match &new.thread {
                        RunThread::Existing(id) => *id,
                        RunThread::Create(thread) => thread.id.unwrap_or(ids.1),
                    };
                    Ok(tables.create_run(tenant, new.id.unwrap_or(ids.0), thread, new.clone(), now)?.run)
                }
            };
            let noted = made.as_ref().map(|run| run.id).map_err(String::clone);
            tables.cron_mut(tenant, cron)?.fired(firing.next, noted, now);
            tables.hints.push(Topic::Schedules);
            Ok(made.ok())
        })
    }

    async fn waiting_deliveries(&self, limit: usize) -> Result<Vec<(RunId, SystemTime)>> {
        let mut waiting: Vec<(RunId, SystemTime)> =
            self.read(|tables| tables.deliveries.values().map(|d| (d.run, d.next_at)).collect());
        waiting.sort_by_key(|(run, at)| (*at, *run));
        waiting.truncate(limit);
        Ok(waiting)
    }

    async fn get_delivery(&self, run: RunId) -> Result<Option<Delivery>> {
        Ok(self.read(|tables| tables.deliveries.get(&run).cloned()))
    }

    async fn postpone_delivery(&self, run: RunId, next: SystemTime, error: String) -> Result<()> {
        self.write(|tables| {
            if let Some(delivery) = tables.deliveries.get_mut(&run) {
                delivery.next_at = next;
                delivery.attempts += 1;
                delivery.error = Some(error);
            }
            tables.hints.push(Topic::Deliveries);
            Ok(())
        })
    }

    async fn delete_delivery(&self, run: RunId) -> Result<()> {
        self.write(|tables| {
            tables.deliveries.remove(&run);
            Ok(())
        })
    }

    async fn expiring_threads(&self, limit: usize) -> Result<Vec<(TenantId, ThreadId, Expiry)>> {
        let mut expiring: Vec<_> = self.read(|tables| {
            let expiring = tables.threads.iter().map(|((tenant, id), row)| (tenant, *id, row.thread.expiry));
            expiring.filter_map(|(tenant, id, expiry)| Some((tenant.clone(), id, expiry?))).collect()
        });
        expiring.sort_by_key(|(_, id, expiry): &(TenantId, ThreadId, Expiry)| (expiry.at, *id));
        expiring.truncate(limit);
        Ok(expiring)
    }

    async fn sweep(&self, now: SystemTime, limit: usize) -> Result<Swept> {
        self.write(|tables| {
            let expired = |row: &&Row| row.run.stateless && row.run.expires_at.is_some_and(|at| at <= now);
            let mut gone: Vec<_> =
                tables.runs.values().filter(expired).map(|row| (row.run.expires_at, row.ordinal, row.run.id)).collect();
            gone.sort();
            let mut swept = Swept::default();
            for (_, _, id) in gone.into_iter().take(limit) {
                // Another run of the same thread may have taken it along.
                if let Ok(row) = tables.any_run(id) {
                    let (tenant, thread) = (row.run.tenant.clone(), row.run.thread);
                    tables.remove_thread(&tenant, thread)?;
                    swept.runs += 1;
                }
            }
            let before = tables.cache.len();
            tables.cache.retain(|_, cached| cached.until.is_none_or(|until| until > now));
            swept.cached = (before - tables.cache.len()) as u64;
            Ok(swept)
        })
    }

    async fn drop_logs(&self, ended_before: SystemTime, limit: usize) -> Result<u64> {
        self.write(|tables| {
            let old = tables
                .runs
                .values_mut()
                .filter(|row| row.run.ended_at.is_some_and(|at| at < ended_before) && !row.log.is_empty());
            let mut dropped = 0;
            for row in old.take(limit) {
                row.log.trim(row.log.last() + 1);
                dropped += 1;
            }
            Ok(dropped)
        })
    }

    async fn next_item_expiry(&self) -> Result<Option<SystemTime>> {
        Ok(self.read(crate::Tables::next_item_expiry))
    }

    async fn sweep_items(&self, now: SystemTime, limit: usize) -> Result<u64> {
        self.write(|tables| Ok(tables.sweep_items(now, limit)))
    }
}
