//! Finding work: runs that wait, runs whose server is gone, rollbacks that were not finished.

use std::time::Duration;

use runloom_store::Topic;

use crate::{Core, Result};

/// How many are looked at together.
const LOOK: usize = 1000;
/// A run is left this long to the server where it was created.
const PRECEDENCE: Duration = Duration::from_millis(20);

impl Core {
    /// Begins runs that wait, wherever they were created, and those whose server's lease is over.
    pub(crate) async fn keep_runs(&self) {
        let mut hints = self.inner.store.watch(Topic::Pending);
        let ttl = self.inner.runner.lease.ttl;
        loop {
            if let Err(error) = self.find_work().await {
                tracing::warn!(%error, "cannot look for runs that wait; trying again");
            }
            // A hint may be lost, and a lease that ends gives none.
            if tokio::time::timeout(jittered(ttl / 3), hints.changed()).await.is_ok() {
                tokio::time::sleep(PRECEDENCE).await;
                hints.take();
            }
        }
    }

    pub(crate) async fn find_work(&self) -> Result<()> {
        let store = &self.inner.store;
        let abandoned = store.abandoned_runs(LOOK).await?;
        if !abandoned.is_empty() {
            tracing::info!(count = abandoned.len(), "recovering runs whose server is gone");
        }
        for run in abandoned {
            self.of_tenant(&run.tenant.clone()).recover(run);
        }
        for run in store.unfinished_rollbacks(LOOK).await? {
            // The server that ended the run is at it.
            if self.inner.runner.is_rolling_back(&run) {
                continue;
            }
            if let Err(error) = self.of_tenant(&run.tenant).roll_back(&run).await {
                tracing::warn!(run = %run.id, %error, "cannot finish a rollback; trying again");
            }
        }
        // No more than this server has room for: the rest is left to others.
        let room = self.inner.runner.room();
        if room > 0 {
            for (tenant, thread) in store.waiting_threads(room.min(LOOK)).await? {
                self.of_tenant(&tenant).wake_thread(thread);
            }
        }
        Ok(())
    }
}

/// A little more or less, so that servers do not look at the same time.
fn jittered(pause: Duration) -> Duration {
    let part = f64::from(uuid::Uuid::new_v4().as_bytes()[0]) / 255.0;
    pause.mul_f64(0.8 + 0.4 * part)
}
