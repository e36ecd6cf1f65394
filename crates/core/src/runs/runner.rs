//! The runner: one run at a time per thread, the next one woken by the end of the one before.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use runloom_engine::{RunId, ThreadId, model::Usage};
use runloom_store::{Attempt, Error as StoreError, Run, Thread};
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::{
    attempt::{Attempted, Stopped},
    lease::Lease,
};
use crate::{Core, Result, Session, log::Logs, session::ThreadKey};

/// What this server drives. Who drives what is for the store to say: this is a cache of it.
pub(crate) struct Runner {
    pub logs: Logs,
    pub lease: Lease,
    /// The server has another id now.
    pub lease_changed: Notify,
    slots: Mutex<HashMap<ThreadKey, Slot>>,
    active: Mutex<HashMap<RunId, Active>>,
    permits: Arc<Semaphore>,
    was_full: AtomicBool,
    /// A server that was full has room.
    pub room_freed: Notify,
    /// How many threads are being worked on.
    busy: watch::Sender<usize>,
    /// Threads whose latest checkpoint is known to fit a revision.
    pub fits: Mutex<Recent>,
}

/// A thread that is being worked on.
#[derive(Default)]
struct Slot {
    /// Somebody came meanwhile: look again before leaving.
    is_woken: bool,
    /// A run of the thread whose server is gone.
    abandoned: Option<Box<Run>>,
}

/// A run that this server drives.
#[derive(Clone)]
pub(crate) struct Active {
    pub attempt: u32,
    /// Stops the engine.
    pub stop: CancellationToken,
}

/// Takes a run out of those that are driven here when it is dropped.
pub(crate) struct Driven<'a> {
    runner: &'a Runner,
    run: RunId,
}

impl Drop for Driven<'_> {
    fn drop(&mut self) {
        self.runner.active.lock().remove(&self.run);
        if let Some(live) = self.runner.logs.get(self.run) {
            // Where it goes on is elsewhere from now on: its readers look there.
            live.wake_all();
        }
    }
}

impl Runner {
    pub fn new(max_running: usize, lease: Lease) -> Self {
        Self {
            logs: Logs::default(),
            lease,
            lease_changed: Notify::new(),
            slots: Mutex::default(),
            active: Mutex::default(),
            permits: Arc::new(Semaphore::new(max_running.clamp(1, Semaphore::MAX_PERMITS))),
            was_full: AtomicBool::new(false),
            room_freed: Notify::new(),
            busy: watch::Sender::new(0),
            fits: Mutex::default(),
        }
    }

    /// The attempt that drives a run here; 0 where none does.
    pub fn attempt_of(&self, run: RunId) -> u32 {
        self.active.lock().get(&run).map_or(0, |a| a.attempt)
    }

    pub fn active(&self, run: RunId) -> Option<Active> {
        self.active.lock().get(&run).cloned()
    }

    pub fn activate(&self, run: RunId, active: Active) -> Driven<'_> {
        self.active.lock().insert(run, active);
        Driven { runner: self, run }
    }

    /// Whether a run that has ended is being rolled back here.
    pub fn is_rolling_back(&self, run: &Run) -> bool {
        self.active.lock().contains_key(&run.id) || self.slots.lock().contains_key(&(run.tenant.clone(), run.thread))
    }

    /// How many more runs this server could drive.
    pub fn room(&self) -> usize {
        self.permits.available_permits()
    }

    /// Leaves a thread, unless it was woken meanwhile.
    fn leave(&self, thread: &ThreadKey) -> bool {
        let mut slots = self.slots.lock();
        let is_woken = slots.get_mut(thread).is_some_and(|slot| std::mem::take(&mut slot.is_woken));
        if !is_woken {
            slots.remove(thread);
        }
        !is_woken
    }

    /// Stops all runs that this server drives. Returns how many were not being stopped before.
    pub fn stop_all(&self) -> usize {
        let active = self.active.lock();
        let going = active.values().filter(|active| !active.stop.is_cancelled());
        going.inspect(|active| active.stop.cancel()).count()
    }

    /// Other runs wait for a server that has room.
    pub fn is_full(&self) {
        self.was_full.store(true, Ordering::Relaxed);
    }

    /// A run has left.
    fn freed(&self) {
        if self.was_full.swap(false, Ordering::Relaxed) {
            self.room_freed.notify_one();
        }
    }
}

/// How many attempts at a run count, of those that have begun: not those that a server gave back.
pub(super) fn counted_attempts(run: &Run) -> u32 {
    run.attempt.saturating_sub(run.given_back)
}

impl Session {
    /// Looks at a thread: if a run of it waits and none is under way, it begins.
    pub(crate) fn wake_thread(&self, thread: ThreadId) {
        self.work_soon(thread, None);
    }

    /// Begins a run again whose server is gone.
    pub(crate) fn recover(&self, run: Run) {
        self.work_soon(run.thread, Some(Box::new(run)));
    }

    fn work_soon(&self, thread: ThreadId, abandoned: Option<Box<Run>>) {
        let runner = &self.inner.runner;
        {
            let mut slots = runner.slots.lock();
            let key = self.key(thread);
            if let Some(slot) = slots.get_mut(&key) {
                slot.is_woken = true;
                slot.abandoned = abandoned.or(slot.abandoned.take());
                return;
            }
            slots.insert(key, Slot { is_woken: false, abandoned });
        }
        runner.busy.send_modify(|n| *n += 1);
        let session = self.clone();
        tokio::spawn(async move {
            session.work_on(thread).await;
            session.inner.runner.busy.send_modify(|n| *n -= 1);
        });
    }

    /// Runs what waits on a thread, one after the other.
    async fn work_on(&self, thread: ThreadId) {
        let runner = &self.inner.runner;
        let mut pause = Duration::from_millis(50);
        loop {
            if self.inner.draining.is_cancelled() {
                runner.slots.lock().remove(&self.key(thread));
                return;
            }
            match self.next_run(thread).await {
                Ok(Some(run)) => {
                    let Ok(permit) = runner.permits.clone().acquire_owned().await else { return };
                    if self.inner.draining.is_cancelled() {
                        continue;
                    }
                    let attempted = self.attempt(run).await;
                    drop(permit);
                    runner.freed();
                    match attempted {
                        Ok(Attempted::Done) => {}
                        // The store gives a hint when that run has ended.
                        Ok(Attempted::Blocked) => {
                            if runner.leave(&self.key(thread)) {
                                return;
                            }
                        }
                        Err(Stopped { error, held }) => {
                            tracing::warn!(%thread, %error, "an attempt at a run ended early");
                            self.wait_for_store().await;
                            if let Some((attempt, usage)) = held {
                                self.give_back(attempt, usage).await;
                            }
                            self.rest(&mut pause).await;
                        }
                    }
                }
                Ok(None) => {
                    if runner.leave(&self.key(thread)) {
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

    /// The run of a thread to begin: one whose server is gone, or the oldest that waits.
    async fn next_run(&self, thread: ThreadId) -> Result<Option<Run>> {
        let abandoned =
            self.inner.runner.slots.lock().get_mut(&self.key(thread)).and_then(|slot| slot.abandoned.take());
        match abandoned {
            Some(run) => Ok(Some(*run)),
            None => Ok(self.inner.store.next_pending(self.tenant(), thread).await?),
        }
    }

    /// Gives a run back whose attempt ended by the store's fault: it is pending again, and the attempt does not count.
    async fn give_back(&self, attempt: Attempt, usage: Usage) {
        let mut pause = Duration::from_millis(50);
        while !self.inner.closing.is_cancelled() {
            match self.inner.store.release_run(attempt, runloom_engine::to_value(&usage).ok()).await {
                Err(StoreError::Unavailable(_)) => self.rest(&mut pause).await,
                // Another attempt has it, or it has ended after all.
                _ => return,
            }
        }
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
}

impl Core {
    /// Waits until no thread is worked on, or stops what is left after a time; that is given back.
    pub(crate) async fn settle_runs(&self, limit: Duration) {
        let mut busy = self.inner.runner.busy.subscribe();
        let idle = async |busy: &mut watch::Receiver<usize>| {
            // The sender lives as long as the core.
            let _ = busy.wait_for(|n| *n == 0).await;
        };
        if tokio::time::timeout(limit, idle(&mut busy)).await.is_err() {
            self.inner.runner.stop_all();
            if tokio::time::timeout(Duration::from_secs(10), idle(&mut busy)).await.is_err() {
                tracing::error!("some runs did not stop in time; they are recovered after the restart");
            }
        }
    }
}

/// The revision that each of the latest threads was run with, and when; bounded.
#[derive(Default)]
pub(crate) struct Recent {
    of: HashMap<ThreadKey, (Arc<str>, SystemTime)>,
    order: std::collections::VecDeque<ThreadKey>,
}

impl Recent {
    const MOST: usize = 10_000;

    /// Whether a thread's state is one that a revision left: another server may have changed it since.
    pub fn fits(&self, thread: &Thread, revision: &str) -> bool {
        let known = self.of.get(&(thread.tenant.clone(), thread.id));
        known.is_some_and(|(known, at)| **known == *revision && thread.state_updated_at == Some(*at))
    }

    /// The state of a thread is one that a revision left at a time.
    pub fn put(&mut self, thread: ThreadKey, revision: Arc<str>, at: SystemTime) {
        if self.of.insert(thread.clone(), (revision, at)).is_none() {
            self.order.push_back(thread);
            if self.order.len() > Self::MOST
                && let Some(oldest) = self.order.pop_front()
            {
                self.of.remove(&oldest);
            }
        }
    }
}
