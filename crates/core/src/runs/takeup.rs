//! Recovery: runs whose server's lease is over are recovered, runs that wait begin.

use crate::{Core, Result};

/// How many runs or threads are looked at together.
const LOOK: usize = 1000;

impl Core {
    /// Finds what other servers, or this one before its restart, have left.
    pub(crate) async fn take_up(&self) -> Result<()> {
        self.recover().await?;
        // Runs that were to be rolled back, and had ended when their server went down in the middle of it.
        loop {
            let found = self.inner.store.unfinished_rollbacks(100).await?;
            for run in &found {
                self.take_back(run).await?;
            }
            if found.is_empty() {
                return Ok(());
            }
        }
    }

    /// Wakes the threads on which a run is abandoned, or waits and is due.
    pub(crate) async fn recover(&self) -> Result<()> {
        let abandoned = self.inner.store.abandoned_runs(LOOK).await?;
        if !abandoned.is_empty() {
            tracing::info!(count = abandoned.len(), "recovering runs whose server is gone");
        }
        for run in abandoned {
            self.inner.runner.orphan(run.thread);
            self.poke(run.thread);
        }
        for (_, thread) in self.inner.store.waiting_threads(LOOK).await? {
            self.poke(thread);
        }
        Ok(())
    }
}
