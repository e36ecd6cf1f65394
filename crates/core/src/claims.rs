//! Jobs that one server does at a time: firing a cron, posting a webhook, deleting what has expired.

use runloom_store::{Job, SweepKind};

use crate::{Core, Result};

impl Core {
    /// Does a job, unless another server has claimed it; then the result is none.
    pub(crate) async fn claimed<T>(&self, job: Job, work: impl Future<Output = T>) -> Result<Option<T>> {
        let (store, server) = (&self.inner.store, self.inner.runner.lease.server());
        if !store.claim(server, job.clone()).await? {
            return Ok(None);
        }
        let done = work.await;
        if let Err(error) = store.release_claim(server, job.clone()).await {
            tracing::warn!(%job, %error, "cannot release a claim; it ends with the lease of this server");
        }
        Ok(Some(done))
    }
}

/// A sweep, which one server does for as long as its lease lasts.
pub(crate) struct Sweeper {
    kind: SweepKind,
    /// The lease under which it is claimed.
    claimed: Option<u64>,
}

impl Sweeper {
    pub fn new(kind: SweepKind) -> Self {
        Self { kind, claimed: None }
    }

    /// Whether the sweep is this server's. Claims it where it is not claimed yet; that lasts, so a sweep that finds
    /// nothing writes nothing.
    pub async fn claim(&mut self, core: &Core) -> Result<bool> {
        let lease = &core.inner.runner.lease;
        let now = lease.generation();
        if now.is_some() && self.claimed == now {
            return Ok(true);
        }
        let is_claimed = core.inner.store.claim(lease.server(), Job::Sweep(self.kind)).await?;
        self.claimed = if is_claimed { now } else { None };
        Ok(is_claimed)
    }
}
