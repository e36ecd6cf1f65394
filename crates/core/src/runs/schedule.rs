//! What a server does by itself: begins runs that are due, and deletes what has expired.

use std::time::{Duration, SystemTime};

use runloom_store::{SweepKind, Topic};

use crate::{Core, Result, claims::Sweeper};

/// How many scheduled runs are looked at together.
const LOOK: usize = 10_000;
/// How many expired runs are deleted in one transaction.
const SWEEP: usize = 1000;

impl Core {
    /// Starts what a server does by itself, until it drains.
    pub(crate) fn housekeeping(&self) {
        self.until_draining(|core| async move { core.keep_runs().await });
        self.until_draining(|core| async move { core.keep_graphs().await });
        self.until_draining(|core| async move { core.keep_schedule().await });
        self.until_draining(|core| async move { core.keep_crons().await });
        self.until_draining(|core| async move { core.keep_posting().await });
        self.until_draining(|core| async move { core.sweep_items().await });
        self.until_draining(|core| async move { core.sweep_threads().await });
        self.until_draining(|core| async move { core.keep_clean().await });
        // A server that drains still drives its runs.
        self.until_closing(|core| async move { core.keep_lease().await });
        self.until_closing(|core| async move { core.keep_cancels().await });
    }

    fn until_draining<F: Future<Output = ()> + Send + 'static>(&self, task: impl FnOnce(Self) -> F) {
        let (task, draining) = (task(self.clone()), self.inner.draining.clone());
        tokio::spawn(async move { draining.run_until_cancelled_owned(task).await });
    }

    fn until_closing<F: Future<Output = ()> + Send + 'static>(&self, task: impl FnOnce(Self) -> F) {
        let (task, closing) = (task(self.clone()), self.inner.closing.clone());
        tokio::spawn(async move { closing.run_until_cancelled_owned(task).await });
    }

    async fn keep_schedule(&self) {
        let mut hints = self.inner.store.watch(Topic::Schedules);
        loop {
            let now = self.inner.clock.now();
            let wait = match self.inner.store.scheduled_runs(LOOK).await {
                Ok(runs) => {
                    let is_all = runs.len() < LOOK;
                    let mut next = None;
                    for run in runs {
                        match run.start_at {
                            Some(at) if at > now => {
                                next = Some(next.map_or(at, |n: SystemTime| n.min(at)));
                            }
                            _ => self.of_tenant(&run.tenant).wake_thread(run.thread),
                        }
                    }
                    match next {
                        // Behind so many that are due and blocked, others may come due.
                        None if !is_all => Some(now + Duration::from_secs(1)),
                        next => next,
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot read scheduled runs; trying again");
                    Some(now + Duration::from_secs(5))
                }
            };
            crate::timer::until(&*self.inner.clock, wait, &mut hints).await;
        }
    }

    async fn keep_clean(&self) {
        let (stateless_ttl, log_ttl) = (self.inner.options.stateless_ttl, self.inner.options.log_ttl);
        let shortest = log_ttl.map_or(stateless_ttl, |ttl| ttl.min(stateless_ttl));
        let mut every = tokio::time::interval(shortest.clamp(Duration::from_millis(100), Duration::from_secs(30)));
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut runs, mut logs) = (Sweeper::new(SweepKind::Runs), Sweeper::new(SweepKind::Logs));
        loop {
            every.tick().await;
            if let Err(error) = self.sweep_runs(&mut runs).await {
                tracing::warn!(%error, "cannot delete expired runs; trying again");
            }
            if let Some(ttl) = log_ttl
                && let Err(error) = self.sweep_logs(&mut logs, ttl).await
            {
                tracing::warn!(%error, "cannot delete old logs; trying again");
            }
        }
    }

    /// Deletes stateless runs that have expired.
    async fn sweep_runs(&self, sweeper: &mut Sweeper) -> Result<()> {
        let now = self.inner.clock.now();
        while sweeper.claim(self).await? && self.inner.store.sweep(now, SWEEP).await?.runs as usize == SWEEP {
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Deletes the logs of runs that ended long ago.
    async fn sweep_logs(&self, sweeper: &mut Sweeper, ttl: Duration) -> Result<()> {
        let Some(before) = self.inner.clock.now().checked_sub(ttl) else { return Ok(()) };
        while sweeper.claim(self).await? && self.inner.store.drop_logs(before, SWEEP).await? as usize == SWEEP {
            tokio::task::yield_now().await;
        }
        Ok(())
    }
}
