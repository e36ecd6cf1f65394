//! Servers, attempts and claims in memory.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use runloom_engine::{Object, ThreadId, Value};
use runloom_store::{
    Attempt, Begun, CancelAction, Claims, Delivery, Error, Job, Result, Run, RunEnd, RunStatus, ServerId, TenantId,
    ThreadStatus, ThreadUpdate, Topic, Unfinished, log::check_order,
};

use crate::{MemoryStore, Tables, runs::Row};

/// Leases and claims.
#[derive(Default)]
pub(crate) struct Table {
    /// When each server's lease is over.
    servers: HashMap<ServerId, SystemTime>,
    jobs: HashMap<Job, ServerId>,
}

impl Table {
    fn is_live(&self, server: ServerId, now: SystemTime) -> bool {
        self.servers.get(&server).is_some_and(|until| *until > now)
    }

    fn check(&self, server: ServerId, now: SystemTime) -> Result<()> {
        if self.is_live(server, now) { Ok(()) } else { Err(Error::LeaseLost { server }) }
    }
}

impl Tables {
    /// Runs that are such, in the order in which they were made.
    fn runs_such(&self, limit: usize, such: impl Fn(&Run) -> bool) -> Vec<Run> {
        let mut found: Vec<&Row> = self.runs.values().filter(|row| such(&row.run)).collect();
        found.sort_by_key(|row| row.ordinal);
        found.into_iter().take(limit).map(|row| row.run.clone()).collect()
    }
}

#[async_trait]
impl Claims for MemoryStore {
    async fn register_server(&self, ttl: Duration) -> Result<ServerId> {
        let (server, now) = (ServerId(self.uuid()), self.now());
        self.write(|tables| {
            // A server that has been away for ten times that long is not coming back.
            tables.claims.servers.retain(|_, until| *until + ttl * 10 > now);
            tables.claims.servers.insert(server, now + ttl);
            Ok(server)
        })
    }

    async fn renew_server(&self, server: ServerId, ttl: Duration) -> Result<()> {
        let now = self.now();
        self.write(|tables| match tables.claims.servers.get_mut(&server) {
            Some(until) => {
                *until = now + ttl;
                Ok(())
            }
            None => Err(Error::LeaseLost { server }),
        })
    }

    async fn release_server(&self, server: ServerId) -> Result<()> {
        self.write(|tables| {
            tables.claims.servers.remove(&server);
            tables.claims.jobs.retain(|_, by| *by != server);
            tables.hints.extend([Topic::Pending, Topic::Schedules, Topic::Deliveries]);
            Ok(())
        })
    }

    async fn claim(&self, server: ServerId, job: Job) -> Result<bool> {
        let now = self.now();
        self.write(|tables| {
            let claims = &mut tables.claims;
            claims.check(server, now)?;
            let holder = claims.jobs.get(&job).copied();
            if holder.is_some_and(|holder| holder != server && claims.is_live(holder, now)) {
                return Ok(false);
            }
            claims.jobs.insert(job, server);
            Ok(true)
        })
    }

    async fn release_claim(&self, server: ServerId, job: Job) -> Result<()> {
        self.write(|tables| {
            if tables.claims.jobs.get(&job) == Some(&server) {
                tables.claims.jobs.remove(&job);
            }
            Ok(())
        })
    }

    async fn begin_attempt(&self, seen: Attempt, server: ServerId, config: Object, reserve: u64) -> Result<Begun> {
        let now = self.now();
        self.write(|tables| {
            tables.claims.check(server, now)?;
            let before = &tables.any_run(seen.run)?.run;
            let (tenant, thread) = (before.tenant.clone(), before.thread);
            let is_live = before.server.is_some_and(|server| tables.claims.is_live(server, now));
            let running = |run: &Run| run.status == RunStatus::Running && run.id != seen.run;
            let other = tables.open_run(&tenant, thread, running).map(|run| run.id);
            let events = tables.thread_mut(&tenant, thread)?.thread.events;
            let row = tables.run_mut(seen.run)?;
            let mut run = row.run.clone();
            run.begin(seen, server, is_live, events, now)?;
            if let Some(other) = other {
                return Err(Error::Busy { thread, run: other });
            }
            let first_seq = row.log.next_seq();
            let reserved = row.log.reserve(first_seq.saturating_add(reserve));
            row.run = run.clone();
            tables.thread_mut(&tenant, thread)?.thread.begun(&run, config, now);
            tables.hints.extend([Topic::Run(run.id), Topic::Thread(thread)]);
            Ok(Begun { attempt: run.current(), run, first_seq, reserved })
        })
    }

    async fn release_run(&self, attempt: Attempt, usage: Option<Value>) -> Result<Run> {
        let now = self.now();
        self.write(|tables| {
            let row = tables.run_mut(attempt.run)?;
            row.run.release(attempt, usage, now)?;
            let run = row.run.clone();
            let update = ThreadUpdate { status: Some(ThreadStatus::Idle), ..ThreadUpdate::default() };
            tables.update_thread_of(&run, update, now)?;
            tables.hints.extend([Topic::Run(run.id), Topic::Pending]);
            Ok(run)
        })
    }

    async fn finish_run(&self, attempt: Attempt, mut end: RunEnd) -> Result<Run> {
        let now = self.now();
        self.write(|tables| {
            let row = tables.run_mut(attempt.run)?;
            let records = std::mem::take(&mut end.records);
            let (delivery, events) = (end.delivery.take(), end.events);
            let last = records.last().map_or(row.log.last(), |record| record.seq);
            let mut run = row.run.clone();
            let update = run.finish(attempt, end, last, now)?;
            check_order(&records, row.log.last())?;
            row.log.append(records, &self.inner.counters);
            row.run = run.clone();
            let ordinal = row.ordinal;
            if update != ThreadUpdate::default() {
                tables.update_thread_of(&run, update, now)?;
            }
            let thread = tables.thread_mut(&run.tenant, run.thread)?;
            thread.open.remove(&ordinal);
            thread.thread.ended(run.events_before, events);
            tables.open.remove(&ordinal);
            tables.hints.extend([Topic::Run(run.id), Topic::Thread(run.thread), Topic::Pending]);
            if let Some(new) = delivery {
                tables.deliveries.insert(run.id, Delivery::new(run.tenant.clone(), run.id, new, now));
                tables.hints.push(Topic::Deliveries);
            }
            Ok(run)
        })
    }

    async fn abandoned_runs(&self, limit: usize) -> Result<Vec<Run>> {
        let now = self.now();
        Ok(self.read(|tables| {
            let is_live = |server: Option<ServerId>| server.is_some_and(|server| tables.claims.is_live(server, now));
            tables
                .open_runs()
                .filter(|run| run.status == RunStatus::Running && !is_live(run.server))
                .take(limit)
                .cloned()
                .collect()
        }))
    }

    async fn cancelled_on(&self, server: ServerId) -> Result<Vec<Run>> {
        let is_meant = |run: &&Run| run.server == Some(server) && run.cancel.is_some();
        Ok(self.read(|tables| tables.open_runs().filter(is_meant).cloned().collect()))
    }

    async fn unfinished_rollbacks(&self, limit: usize) -> Result<Vec<Run>> {
        let is_rollback = |run: &Run| run.cancel.as_ref().is_some_and(|c| c.action == CancelAction::Rollback);
        Ok(self.read(|tables| tables.runs_such(limit, |run| run.status.is_end() && is_rollback(run))))
    }

    async fn count_unfinished(&self) -> Result<Unfinished> {
        Ok(self.read(|tables| {
            let running = tables.open_runs().filter(|run| run.status == RunStatus::Running).count() as u64;
            Unfinished { pending: tables.open.len() as u64 - running, running }
        }))
    }

    async fn waiting_threads(&self, limit: usize) -> Result<Vec<(TenantId, ThreadId)>> {
        let now = self.now();
        Ok(self.read(|tables| {
            let key = |run: &Run| (run.tenant.clone(), run.thread);
            let running = tables.open_runs().filter(|run| run.status == RunStatus::Running);
            let mut seen: HashSet<_> = running.map(key).collect();
            let due = tables.open_runs().filter(|run| run.status == RunStatus::Pending && run.due(now)).map(key);
            due.filter(|thread| seen.insert(thread.clone())).take(limit).collect()
        }))
    }

    async fn next_pending(&self, tenant: &TenantId, thread: ThreadId) -> Result<Option<Run>> {
        let now = self.now();
        let next = |run: &Run| run.status == RunStatus::Pending && run.due(now);
        Ok(self.read(|tables| tables.open_run(tenant, thread, next).cloned()))
    }
}
