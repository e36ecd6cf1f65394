//! Servers, their leases and what they claim: which server drives a run, fires a cron, posts a delivery, sweeps.
//!
//! A server registers with a time to live and renews its lease, one small write for all that it holds. What a server
//! claimed is its own while its lease lasts; then whoever claims it first takes it over. Times are those of the store's
//! clock. This side of the store spans tenants: results carry the tenant.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use runloom_engine::{Object, RunId, ThreadId, Value};
use uuid::Uuid;

use crate::{Attempt, Begun, CronId, Result, Run, RunEnd, TenantId};

/// One start of a server.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId(pub Uuid);

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Work that one server does at a time. The attempt at a run is claimed by [`Claims::begin_attempt`], which fences as well.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Job {
    /// Firing a cron.
    Cron(TenantId, CronId),
    /// Posting the delivery of a run.
    Delivery(RunId),
    /// Deleting what has expired.
    Sweep(SweepKind),
}

/// What a sweep deletes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SweepKind {
    /// Stateless runs with their threads, and cached results of nodes.
    Runs,
    /// Logs of runs that ended long ago.
    Logs,
    /// Threads with an expiry.
    Threads,
    /// Items with an expiry.
    Items,
}

/// How many runs have not ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unfinished {
    /// Those that wait.
    pub pending: u64,
    /// Those that a server drives, or has left.
    pub running: u64,
}

impl fmt::Display for Job {
    /// The job's key, as it is stored.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cron(tenant, cron) => write!(f, "cron/{tenant}/{cron}"),
            Self::Delivery(run) => write!(f, "delivery/{run}"),
            Self::Sweep(SweepKind::Runs) => f.write_str("sweep/runs"),
            Self::Sweep(SweepKind::Logs) => f.write_str("sweep/logs"),
            Self::Sweep(SweepKind::Threads) => f.write_str("sweep/threads"),
            Self::Sweep(SweepKind::Items) => f.write_str("sweep/items"),
        }
    }
}

/// Servers, attempts and claims.
///
/// ```text
/// pending ──begin_attempt──▶ running ──finish_run──▶ succeeded, awaiting_input, failed, cancelled, timed_out
///    │ ▲                      │   └──begin_attempt (its server's lease is over: the old attempt is fenced off)
///    │ └─────release_run──────┘
///    └──finish_run──▶ cancelled, failed, timed_out
/// ```
#[async_trait]
pub trait Claims: Send + Sync {
    /// Registers a server whose lease lasts `ttl` from now.
    async fn register_server(&self, ttl: Duration) -> Result<ServerId>;

    /// Has a server's lease last `ttl` from now. A lease that was over is renewed too while the store still knows the
    /// server: what others claimed meanwhile is theirs. Otherwise [`LeaseLost`](crate::Error::LeaseLost).
    async fn renew_server(&self, server: ServerId, ttl: Duration) -> Result<()>;

    /// Ends a server's lease now, with its claims.
    async fn release_server(&self, server: ServerId) -> Result<()>;

    /// Claims a job. True where the server holds it now; false where another one does, whose lease lasts. What has been
    /// claimed may be done already: read it again after the claim.
    async fn claim(&self, server: ServerId, job: Job) -> Result<bool>;

    /// Gives a claim back. Nothing where the server does not hold it.
    async fn release_claim(&self, server: ServerId, job: Job) -> Result<()>;

    /// Begins the attempt after the one seen, on a server, and fences that one off: from here on its writes are refused.
    /// The run is running and its thread busy. Reserves `reserve` numbers of the log for it, and records `config` on the
    /// thread as that of the run that began last.
    ///
    /// A running run can be begun again by its own server, and by others once that server's lease is over. Of two servers
    /// that saw the same attempt one begins, and the other gets [`Superseded`](crate::Error::Superseded) or
    /// [`RunState`](crate::Error::RunState). While another run of the thread is running: [`Busy`](crate::Error::Busy). A
    /// server whose own lease is over gets [`LeaseLost`](crate::Error::LeaseLost).
    async fn begin_attempt(&self, seen: Attempt, server: ServerId, config: Object, reserve: u64) -> Result<Begun>;

    /// Gives a running run back: it is pending again, and no attempt holds it. Its thread is idle. `usage` is what it has
    /// used so far.
    async fn release_run(&self, attempt: Attempt, usage: Option<Value>) -> Result<Run>;

    /// Ends a run. Later writes of its attempt are refused.
    async fn finish_run(&self, attempt: Attempt, end: RunEnd) -> Result<Run>;

    /// Running runs whose server's lease is over, in the order in which they were made.
    async fn abandoned_runs(&self, limit: usize) -> Result<Vec<Run>>;

    /// Running runs of a server that are to be cancelled.
    async fn cancelled_on(&self, server: ServerId) -> Result<Vec<Run>>;

    /// Cancelled runs whose rollback has not been finished, in the order in which they were made.
    async fn unfinished_rollbacks(&self, limit: usize) -> Result<Vec<Run>>;

    /// How many runs have not ended, of all tenants.
    async fn count_unfinished(&self) -> Result<Unfinished>;

    /// Threads on which a run waits that is due, and none runs; the one whose run waits longest first.
    async fn waiting_threads(&self, limit: usize) -> Result<Vec<(TenantId, ThreadId)>>;

    /// The pending run of a thread that was made first, of those that are due.
    async fn next_pending(&self, tenant: &TenantId, thread: ThreadId) -> Result<Option<Run>>;
}
