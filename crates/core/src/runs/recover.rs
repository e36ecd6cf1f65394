//! Finding work: runs that wait, runs whose server is gone, rollbacks that were not finished.

use std::time::Duration;

use runloom_store::Topic;
use tokio::time::Instant;

use crate::{Core, Result};

/// How many are looked at together.
const LOOK: usize = 1000;
/// A run is left this long to the server where it was created.
const PRECEDENCE: Duration = Duration::from_millis(20);
/// How soon after many abandoned runs the next ones are looked for.
const NEXT: Duration = Duration::from_millis(100);

impl Core {
    /// Begins runs that wait, wherever they were created, and those whose server's lease is over.
    pub(crate) async fn keep_runs(&self) {
        let runner = &self.inner.runner;
        let mut hints = self.inner.store.watch(Topic::Pending);
        // A hint may be lost, and a lease that ends gives none.
        let mut look_at = Instant::now();
        loop {
            let found = tokio::select! {
                () = tokio::time::sleep_until(look_at) => {
                    look_at = Instant::now() + jittered(runner.lease.ttl / 3);
                    let is_all = self.recover_runs().await;
                    if matches!(is_all, Ok(false)) {
                        look_at = Instant::now() + NEXT;
                    }
                    is_all.map(drop)
                }
                () = hints.changed() => {
                    tokio::time::sleep(PRECEDENCE).await;
                    hints.take();
                    Ok(())
                }
                () = runner.room_freed.notified() => Ok(()),
            };
            let found = match found {
                Ok(()) => self.begin_waiting().await,
                error => error,
            };
            if let Err(error) = found {
                tracing::warn!(%error, "cannot look for runs that wait; trying again");
            }
        }
    }

    /// Begins abandoned runs again and finishes rollbacks. Returns false where there may be more of them.
    async fn recover_runs(&self) -> Result<bool> {
        let (store, runner) = (&self.inner.store, &self.inner.runner);
        for run in store.unfinished_rollbacks(LOOK).await? {
            // The server that ended the run is at it.
            if runner.is_rolling_back(&run) {
                continue;
            }
            if let Err(error) = self.of_tenant(&run.tenant).roll_back(&run).await {
                tracing::warn!(run = %run.id, %error, "cannot finish a rollback; trying again");
            }
        }
        let most = runner.room().min(LOOK);
        if most == 0 {
            runner.is_full();
            return Ok(true);
        }
        let abandoned = store.abandoned_runs(most).await?;
        let is_all = abandoned.len() < most;
        if !abandoned.is_empty() {
            tracing::info!(count = abandoned.len(), "recovering runs whose server is gone");
        }
        for run in abandoned {
            self.of_tenant(&run.tenant.clone()).recover(run);
        }
        Ok(is_all)
    }

    /// Begins no more runs than this server has room for: the others are left to other servers.
    async fn begin_waiting(&self) -> Result<()> {
        let runner = &self.inner.runner;
        let most = runner.room().min(LOOK);
        if most == 0 {
            runner.is_full();
            return Ok(());
        }
        let waiting = self.inner.store.waiting_threads(most).await?;
        if waiting.len() == most {
            runner.is_full();
        }
        for (tenant, thread) in waiting {
            self.of_tenant(&tenant).wake_thread(thread);
        }
        Ok(())
    }
}

/// A little more or less, so that servers do not look at the same time.
fn jittered(pause: Duration) -> Duration {
    let part = f64::from(uuid::Uuid::new_v4().as_bytes()[0]) / 255.0;
    pause.mul_f64(0.8 + 0.4 * part)
}
