//! The runner: one run at a time per thread, the next one woken by the end of the one before.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use runloom_engine::{RunId, ThreadId};
use runloom_store::{Direction, PageRequest, Run, RunFilter, RunStatus, TenantId};
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::{Core, Result, log::Logs};

/// How many scheduled runs are looked at together.
const LOOK: usize = 10_000;
/// How many expired runs are swept in one transaction.
const SWEEP: usize = 1000;

/// What is under way.
pub(crate) struct Runner {
    pub logs: Logs,
    slots: Mutex<HashMap<ThreadId, Slot>>,
    active: Mutex<HashMap<RunId, Active>>,
    permits: Arc<Semaphore>,
    /// How many threads are being worked on.
    busy: watch::Sender<usize>,
    /// A run with a time of its own was made.
    scheduled: Notify,
    /// Threads whose latest checkpoint is known to fit a revision: it was made by it.
    pub fits: Mutex<Recent>,
    /// Attempts that ended by the store's fault, by run: they do not count against it.
    excused: Mutex<HashMap<RunId, u32>>,
    /// Threads on which a server that is gone left a run running.
    orphans: Mutex<HashSet<ThreadId>>,
}

/// A thread that is being worked on.
#[derive(Default)]
struct Slot {
    /// Somebody came meanwhile: look again before leaving.
    poked: bool,
}

/// A run that is being driven.
#[derive(Clone)]
pub(crate) struct Active {
    pub attempt: u32,
    /// Stops the engine.
    pub stop: CancellationToken,
}

impl Runner {
    pub fn new(max_running: usize) -> Self {
        Self {
            logs: Logs::default(),
            slots: Mutex::default(),
            active: Mutex::default(),
            permits: Arc::new(Semaphore::new(max_running.clamp(1, Semaphore::MAX_PERMITS))),
            busy: watch::Sender::new(0),
            scheduled: Notify::new(),
            orphans: Mutex::default(),
            excused: Mutex::default(),
            fits: Mutex::default(),
        }
    }

    /// The attempt that drives a run now; 0 where none does.
    pub fn attempt_of(&self, run: RunId) -> u32 {
        self.active.lock().get(&run).map_or(0, |a| a.attempt)
    }

    pub fn active(&self, run: RunId) -> Option<Active> {
        self.active.lock().get(&run).cloned()
    }

    pub fn activate(&self, run: RunId, active: Active) {
        self.active.lock().insert(run, active);
    }

    pub fn deactivate(&self, run: RunId) {
        self.active.lock().remove(&run);
    }

    /// Forgets a run that is over.
    pub fn over(&self, run: RunId) {
        self.excused.lock().remove(&run);
    }

    pub fn schedule_changed(&self) {
        self.scheduled.notify_one();
    }

    /// An attempt at a run ended by the store's fault.
    pub fn excuse(&self, run: RunId) {
        *self.excused.lock().entry(run).or_default() += 1;
    }

    /// How many attempts count, the current one included: not those that a draining server gave back, nor those that ended by
    /// the store's fault.
    pub fn counted(&self, run: &Run) -> u32 {
        let excused = self.excused.lock().get(&run.id).copied().unwrap_or(0);
        run.attempt.saturating_sub(run.given_back).saturating_sub(excused).max(1)
    }

    /// A thread has a run that nobody drives.
    pub fn orphan(&self, thread: ThreadId) {
        self.orphans.lock().insert(thread);
    }

    fn has_orphans(&self, thread: ThreadId) -> bool {
        self.orphans.lock().contains(&thread)
    }

    pub(super) fn no_orphans(&self, thread: ThreadId) {
        self.orphans.lock().remove(&thread);
    }

    /// Stops all that is being driven.
    fn stop_all(&self) {
        for active in self.active.lock().values() {
            active.stop.cancel();
        }
    }
}

impl Core {
    /// Has a look at a thread: if a run of it waits and none is under way, it begins.
    pub(crate) fn poke(&self, thread: ThreadId) {
        let runner = &self.inner.runner;
        {
            let mut slots = runner.slots.lock();
            if let Some(slot) = slots.get_mut(&thread) {
                slot.poked = true;
                return;
            }
            slots.insert(thread, Slot::default());
        }
        runner.busy.send_modify(|n| *n += 1);
        let core = self.clone();
        tokio::spawn(async move {
            core.work_on(thread).await;
            core.inner.runner.busy.send_modify(|n| *n -= 1);
        });
    }

    /// Runs what waits on a thread, one after the other.
    async fn work_on(&self, thread: ThreadId) {
        let runner = &self.inner.runner;
        let mut pause = Duration::from_millis(50);
        loop {
            if self.inner.draining.is_cancelled() {
                runner.slots.lock().remove(&thread);
                return;
            }
            match self.next_run(thread).await {
                Ok(Some(run)) => {
                    let Ok(_permit) = runner.permits.clone().acquire_owned().await else { return };
                    if self.inner.draining.is_cancelled() {
                        continue;
                    }
                    if let Err(error) = self.attempt(run).await {
                        tracing::warn!(%thread, %error, "an attempt at a run ended early");
                        self.wait_for_store().await;
                        self.rest(&mut pause).await;
                    }
                }
                Ok(None) => {
                    let mut slots = runner.slots.lock();
                    let was_poked = slots.get_mut(&thread).is_some_and(|slot| std::mem::take(&mut slot.poked));
                    if !was_poked {
                        slots.remove(&thread);
                        return;
                    }
                }
                Err(error) => {
                    // The store does not answer: try again, ever more slowly, for what waits must not be forgotten.
                    tracing::warn!(%thread, %error, "cannot look for waiting runs; trying again");
                    self.rest(&mut pause).await;
                }
            }
        }
    }

    /// The run of a thread that is to be driven: one that its server left running, or the oldest that waits.
    async fn next_run(&self, thread: ThreadId) -> Result<Option<Run>> {
        let store = &self.inner.store;
        if self.inner.runner.has_orphans(thread) {
            let filter = RunFilter { thread: Some(thread), status: vec![RunStatus::Running], ..RunFilter::default() };
            if let Some(run) = store
                .list_runs(&TenantId::default(), filter, Direction::Ascending, PageRequest::first(1))
                .await?
                .items
                .pop()
            {
                return Ok(Some(run));
            }
            self.inner.runner.no_orphans(thread);
        }
        Ok(store.next_pending(&TenantId::default(), thread).await?)
    }

    /// Waits a while, ever longer, or until the core drains.
    async fn rest(&self, pause: &mut Duration) {
        tokio::select! {
            () = tokio::time::sleep(*pause) => {}
            () = self.inner.draining.cancelled() => {}
        }
        *pause = (*pause * 2).min(Duration::from_secs(5));
    }

    /// After a failure of the store: waits until its writes work again, or the core drains.
    async fn wait_for_store(&self) {
        let mut health = self.inner.store.health();
        let works = async {
            while !health.borrow_and_update().is_serving() {
                if health.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = works => {}
            () = self.inner.draining.cancelled() => {}
        }
    }

    /// Waits until no thread is worked on, or stops what is left after a time; that is given back.
    pub(crate) async fn settle_runs(&self, patience: Duration) {
        let mut busy = self.inner.runner.busy.subscribe();
        let idle = async |busy: &mut watch::Receiver<usize>| {
            // The sender lives as long as the core.
            let _ = busy.wait_for(|n| *n == 0).await;
        };
        if tokio::time::timeout(patience, idle(&mut busy)).await.is_err() {
            self.inner.runner.stop_all();
            if tokio::time::timeout(Duration::from_secs(10), idle(&mut busy)).await.is_err() {
                tracing::error!("some runs did not stop in time; they will be taken up again after the restart");
            }
        }
    }

    /// Does what has its time: begins runs, fires crons, posts webhooks, sweeps what has expired.
    pub(crate) fn housekeeping(&self) {
        self.until_draining(|core| async move { core.keep_schedule().await });
        self.until_draining(|core| async move { core.keep_crons().await });
        self.until_draining(|core| async move { core.keep_posting().await });
        self.until_draining(|core| async move { core.sweep_items().await });
        self.until_draining(|core| async move { core.sweep_threads().await });
        self.until_draining(|core| async move { core.keep_clean().await });
    }

    fn until_draining<F: Future<Output = ()> + Send + 'static>(&self, task: impl FnOnce(Self) -> F) {
        let (task, draining) = (task(self.clone()), self.inner.draining.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = task => {}
                () = draining.cancelled() => {}
            }
        });
    }

    async fn keep_schedule(&self) {
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
                            _ => self.poke(run.thread),
                        }
                    }
                    match next.map(|at: SystemTime| at.duration_since(now).unwrap_or_default()) {
                        // Behind so many that are due and blocked, others may come due.
                        None if !is_all => Some(Duration::from_secs(1)),
                        wait => wait,
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot read scheduled runs; trying again");
                    Some(Duration::from_secs(5))
                }
            };
            let news = self.inner.runner.scheduled.notified();
            match wait {
                // A little later than its time, so that it has come by the store's clock too.
                Some(wait) => drop(tokio::time::timeout(wait + Duration::from_millis(1), news).await),
                None => news.await,
            }
        }
    }

    async fn keep_clean(&self) {
        let (stateless_ttl, log_ttl) = (self.inner.options.stateless_ttl, self.inner.options.log_ttl);
        let shortest = log_ttl.map_or(stateless_ttl, |ttl| ttl.min(stateless_ttl));
        let mut every = tokio::time::interval(shortest.clamp(Duration::from_millis(100), Duration::from_secs(30)));
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            let now = self.inner.clock.now();
            loop {
                match self.inner.store.sweep(now, SWEEP).await {
                    Ok(swept) if swept.runs as usize == SWEEP => tokio::task::yield_now().await,
                    Ok(_) => break,
                    Err(error) => {
                        tracing::warn!(%error, "cannot sweep expired runs");
                        break;
                    }
                }
            }
            let Some(before) = log_ttl.and_then(|ttl| now.checked_sub(ttl)) else { continue };
            loop {
                match self.inner.store.drop_logs(before, SWEEP).await {
                    Ok(runs) if runs as usize == SWEEP => tokio::task::yield_now().await,
                    Ok(_) => break,
                    Err(error) => {
                        tracing::warn!(%error, "cannot drop old logs");
                        break;
                    }
                }
            }
        }
    }
}

/// The revision that each of the latest threads was run with, bounded.
#[derive(Default)]
pub(crate) struct Recent {
    of: HashMap<ThreadId, Arc<str>>,
    order: std::collections::VecDeque<ThreadId>,
}

impl Recent {
    const MOST: usize = 10_000;

    pub fn get(&self, thread: &ThreadId) -> Option<&Arc<str>> {
        self.of.get(thread)
    }

    pub fn put(&mut self, thread: ThreadId, revision: Arc<str>) {
        if self.of.insert(thread, revision).is_none() {
            self.order.push_back(thread);
            if self.order.len() > Self::MOST
                && let Some(oldest) = self.order.pop_front()
            {
                self.of.remove(&oldest);
            }
        }
    }
}
