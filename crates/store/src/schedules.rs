//! What is due at a time, for all tenants: runs, crons, deliveries, expiries.

use std::time::SystemTime;

use async_trait::async_trait;
use runloom_engine::{RunId, ThreadId};

use crate::{Cron, Delivery, Expiry, Firing, Result, Run, TenantId};

/// What a sweep deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Stateless runs with their threads.
    pub runs: u64,
    /// Cached results of nodes.
    pub cached: u64,
}

/// What is due at a time.
#[async_trait]
pub trait Schedules: Send + Sync {
    /// The pending runs that have a start time, the soonest first.
    async fn scheduled_runs(&self, limit: usize) -> Result<Vec<Run>>;

    /// The enabled crons that have a next time, the soonest first.
    async fn waiting_crons(&self, limit: usize) -> Result<Vec<Cron>>;

    /// Creates the run of a cron and records when the cron is due again, in one transaction. None where the firing makes
    /// no run; and nothing is done where the cron is not due as the caller saw it: it has fired, was changed, disabled or
    /// deleted. Where the run cannot be created, nothing is recorded either.
    async fn fire_cron(&self, firing: Firing) -> Result<Option<Run>>;

    /// The runs whose deliveries wait, with the times at which they are to be tried, the soonest first.
    async fn waiting_deliveries(&self, limit: usize) -> Result<Vec<(RunId, SystemTime)>>;

    /// The delivery of a run.
    async fn get_delivery(&self, run: RunId) -> Result<Option<Delivery>>;

    /// Records that a delivery failed, and when it is tried again.
    async fn postpone_delivery(&self, run: RunId, next: SystemTime, error: String) -> Result<()>;

    /// Deletes a delivery that was made or given up.
    async fn delete_delivery(&self, run: RunId) -> Result<()>;

    /// The threads with an expiry, the soonest first.
    async fn expiring_threads(&self, limit: usize) -> Result<Vec<(TenantId, ThreadId, Expiry)>>;

    /// Deletes up to `limit` stateless runs, with their threads, that have expired, and cached results of nodes as well.
    async fn sweep(&self, now: SystemTime, limit: usize) -> Result<Swept>;

    /// Deletes all records of up to `limit` runs that ended before a time. Returns of how many runs.
    async fn drop_logs(&self, ended_before: SystemTime, limit: usize) -> Result<u64>;

    /// When the next item expires.
    async fn next_item_expiry(&self) -> Result<Option<SystemTime>>;

    /// Deletes up to `limit` items that have expired, and returns how many. Reads do not find them before either.
    async fn sweep_items(&self, now: SystemTime, limit: usize) -> Result<u64>;
}
