//! After a restart: runs that were under way are taken up again, runs that waited begin.

use runloom_store::{CancelAction, Direction, PageRequest, RunFilter, RunStatus};

use crate::{Core, Result};

impl Core {
    /// Finds what a server that is gone has left.
    pub(crate) async fn take_up(&self) -> Result<()> {
        let mut page = PageRequest::first(1000);
        let mut count = 0usize;
        loop {
            let filter = RunFilter { status: RunStatus::UNFINISHED.to_vec(), ..RunFilter::default() };
            let found = self.inner.store.list_runs(filter, Direction::Ascending, page).await?;
            for run in found.items {
                if run.status == RunStatus::Running {
                    self.inner.runner.orphan(run.thread);
                    count += 1;
                }
                if run.start_at.is_none_or(|at| at <= self.inner.clock.now()) || run.status == RunStatus::Running {
                    self.poke(run.thread);
                }
            }
            match found.next {
                Some(token) => page = PageRequest::after(1000, token),
                None => break,
            }
        }
        self.take_back_the_rest().await?;
        if count > 0 {
            tracing::info!(count, "taking up runs that were under way");
        }
        Ok(())
    }

    /// Runs that were to be rolled back, and had ended when the server went down in the middle of it.
    async fn take_back_the_rest(&self) -> Result<()> {
        let mut page = PageRequest::first(1000);
        loop {
            let filter = RunFilter { status: vec![RunStatus::Cancelled], ..RunFilter::default() };
            let found = self.inner.store.list_runs(filter, Direction::Ascending, page).await?;
            for run in found.items {
                if run.cancel.as_ref().is_some_and(|c| c.action == CancelAction::Rollback) {
                    self.take_back(&run).await?;
                }
            }
            match found.next {
                Some(token) => page = PageRequest::after(1000, token),
                None => return Ok(()),
            }
        }
    }
}
