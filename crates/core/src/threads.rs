//! Threads: made, read, changed, listed, copied, pruned, deleted.

use std::time::{Duration, SystemTime};

use runloom_engine::{Object, ThreadId, Value};
use runloom_store::{
    CancelAction, Canceller, Direction, Expiry, NewThread, Page, PageRequest, Run, RunFilter, RunStatus, SweepKind,
    Thread, ThreadFilter, ThreadSort, ThreadStatus, ThreadUpdate, Topic,
};

use crate::{Core, Error, Reason, Result, Session, claims::Sweeper, timer};

/// How long a run has to stop when its thread is deleted.
const STOP: Duration = Duration::from_secs(5);
/// How many threads whose time is over are looked at together.
const SWEEP: usize = 1000;
/// How long to wait before it is tried again after a failure.
const RETRY: Duration = Duration::from_secs(5);

impl Session {
    /// Makes a thread, or answers with the one of that id, as asked.
    pub async fn create_thread(&self, new: NewThread) -> Result<Thread> {
        self.check_size("metadata", &Value::Object(new.metadata.clone()))?;
        Ok(self.inner.store.create_thread(self.tenant(), new).await?)
    }

    /// A thread.
    pub async fn get_thread(&self, id: ThreadId) -> Result<Thread> {
        Ok(self.inner.store.get_thread(self.tenant(), id).await?)
    }

    /// Merges fields into a thread's metadata; a null takes a key away.
    pub async fn update_thread(&self, id: ThreadId, metadata: Object) -> Result<Thread> {
        self.check_size("metadata", &Value::Object(metadata.clone()))?;
        let update = ThreadUpdate { metadata: Some(metadata), ..ThreadUpdate::default() };
        Ok(self.inner.store.update_thread(self.tenant(), id, update).await?)
    }

    /// Puts other metadata in place of a thread's.
    pub async fn replace_thread_metadata(&self, id: ThreadId, metadata: Object) -> Result<Thread> {
        let old = self.get_thread(id).await?.metadata;
        self.update_thread(id, replacing(&old, metadata)).await
    }

    /// Has a thread go at a time, or stay.
    pub async fn expire_thread(&self, id: ThreadId, expiry: Option<Expiry>) -> Result<Thread> {
        let update = ThreadUpdate { expiry: Some(expiry), ..ThreadUpdate::default() };
        Ok(self.inner.store.update_thread(self.tenant(), id, update).await?)
    }

    /// Deletes a thread whose time is over, or its old checkpoints. False while a run of it is under way.
    async fn expire(&self, id: ThreadId, expiry: Expiry) -> Result<bool> {
        // Noted before it is looked at: a run that ends in between says so.
        self.inner.overdue.lock().insert(self.key(id));
        let status = self.get_thread(id).await.map(|thread| thread.status);
        if matches!(status, Ok(ThreadStatus::Busy)) {
            return Ok(false);
        }
        self.inner.overdue.lock().remove(&self.key(id));
        status?;
        if !expiry.keep_latest {
            return self.delete_thread(id).await.map(|()| true);
        }
        self.prune_thread(id, 1).await?;
        let update = ThreadUpdate { expiry: Some(None), ..ThreadUpdate::default() };
        self.inner.store.update_thread(self.tenant(), id, update).await?;
        Ok(true)
    }

    /// Deletes a thread with its runs, their logs and its checkpoints. Runs that have not ended are cancelled first, and
    /// have a moment to stop.
    pub async fn delete_thread(&self, id: ThreadId) -> Result<()> {
        self.inner.store.get_thread(self.tenant(), id).await?;
        let mut runs = self.unfinished(id).await?;
        // Those that wait come first: they are not to begin when the one under way ends.
        runs.sort_by_key(|run| run.status != RunStatus::Pending);
        for run in &runs {
            match self.cancel_run(run.id, CancelAction::Interrupt, Canceller::ThreadDeleted, false).await {
                Ok(_) => {}
                Err(error) if error.reason == Reason::RunNotFound => {}
                Err(error) => return Err(error),
            }
        }
        for run in runs.iter().filter(|run| run.status == RunStatus::Running) {
            // One that does not stop loses its thread all the same: the store refuses what it writes from then on.
            let stopped = tokio::time::timeout(STOP, self.wait_run(run.id)).await;
            tracing::debug!(run = %run.id, stopped = stopped.is_ok(), "a run of a thread that is deleted");
        }
        self.inner.store.delete_thread(self.tenant(), id).await?;
        for run in runs {
            if let Some(live) = self.inner.runner.logs.get(run.id) {
                live.gone();
            }
            self.inner.runner.logs.close(run.id);
        }
        Ok(())
    }

    /// Threads by filter, a page at a time. Those of stateless runs are left out unless the filter asks for them.
    pub async fn list_threads(
        &self,
        filter: ThreadFilter,
        sort: (ThreadSort, Direction),
        page: PageRequest,
    ) -> Result<Page<Thread>> {
        Ok(self.inner.store.list_threads(self.tenant(), filter, sort, page).await?)
    }

    /// How many threads a filter holds for.
    pub async fn count_threads(&self, filter: ThreadFilter) -> Result<u64> {
        Ok(self.inner.store.count_threads(self.tenant(), filter).await?)
    }

    /// Copies a thread with its metadata and its checkpoints, and without its runs, to a new id (made where none is
    /// given). The copy of a busy thread stands at the last checkpoint that was kept.
    pub async fn copy_thread(&self, from: ThreadId, to: Option<ThreadId>) -> Result<Thread> {
        Ok(self.inner.store.copy_thread(self.tenant(), from, to).await?)
    }

    /// Keeps the newest `keep` checkpoints of a thread (at least one), and deletes the others. Tells how many were
    /// deleted. Refused while a run of the thread is active.
    pub async fn prune_thread(&self, id: ThreadId, keep: usize) -> Result<u64> {
        self.inner.store.get_thread(self.tenant(), id).await?;
        self.check_not_busy(id).await?;
        Ok(self.inner.store.prune_checkpoints(self.tenant(), id, keep.max(1)).await?)
    }

    /// The runs of a thread that have not ended, the first made first.
    pub(crate) async fn unfinished(&self, thread: ThreadId) -> Result<Vec<Run>> {
        let filter = RunFilter { thread: Some(thread), status: RunStatus::UNFINISHED.to_vec(), ..RunFilter::default() };
        let (mut runs, mut page) = (Vec::new(), PageRequest::first(1000));
        loop {
            let found = self.inner.store.list_runs(self.tenant(), filter.clone(), Direction::Ascending, page).await?;
            runs.extend(found.items);
            match found.next {
                Some(token) => page = PageRequest::after(1000, token),
                None => return Ok(runs),
            }
        }
    }

    /// Refuses where a run of the thread is active: one that runs, or waits for anything but its time.
    pub(crate) async fn check_not_busy(&self, thread: ThreadId) -> Result<()> {
        let now = self.inner.clock.now();
        let active = |run: &Run| run.status == RunStatus::Running || run.start_at.is_none_or(|at| at <= now);
        let Some(run) = self.unfinished(thread).await?.into_iter().find(active) else { return Ok(()) };
        Err(runloom_store::Error::Busy { thread, run: run.id }.into())
    }

    /// Refuses JSON that is larger than the server takes.
    pub(crate) fn check_size(&self, what: &str, value: &Value) -> Result<()> {
        let most = self.inner.options.max_json_bytes;
        let size = match value {
            Value::Object(fields) if fields.is_empty() => 0,
            Value::Null => 0,
            value => value.json_len(),
        };
        if size <= most {
            return Ok(());
        }
        let message =
            format!("`{what}` is {size} bytes of JSON, and the server takes {most}; send less, or refer to it");
        let mut error = Error::new(Reason::InputTooLarge, message.clone());
        error.fields.push((what.to_owned(), message));
        Err(error.with("size_bytes", size).with("maximum_bytes", most))
    }
}

impl Core {
    /// Has threads go whose time is over. One that is busy goes when its run is over.
    pub(crate) async fn sweep_threads(&self) {
        let clock = &*self.inner.clock;
        let mut hints = self.inner.store.watch(Topic::Schedules);
        let mut sweeper = Sweeper::new(SweepKind::Threads);
        loop {
            let now = clock.now();
            let mut next;
            match self.inner.store.expiring_threads(SWEEP).await {
                Ok(expiring) => {
                    // There may be more behind those.
                    next = (expiring.len() == SWEEP).then_some(now + RETRY);
                    for (tenant, id, expiry) in expiring {
                        if expiry.at > now {
                            next = Some(next.map_or(expiry.at, |next: SystemTime| next.min(expiry.at)));
                            break;
                        }
                        let expired = match sweeper.claim(self).await {
                            Ok(true) => self.of_tenant(&tenant).expire(id, expiry).await,
                            // Another server does it.
                            Ok(false) => {
                                next = Some(now + self.inner.runner.lease.ttl);
                                break;
                            }
                            Err(error) => Err(error),
                        };
                        match expired {
                            Ok(true) => {}
                            // The end of its run is seen at once where that is on this server.
                            Ok(false) => next = Some(now + RETRY),
                            Err(error) if error.reason == Reason::ThreadNotFound => {}
                            Err(error) => {
                                tracing::warn!(thread = %id, %error, "a thread whose time is over cannot go; trying again");
                                next = Some(now + RETRY);
                                break;
                            }
                        }
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot look for threads whose time is over; trying again");
                    next = Some(now + RETRY);
                }
            }
            tokio::select! {
                () = timer::until(clock, next, &mut hints) => {}
                () = self.inner.expiring.notified() => {}
            }
        }
    }
}

/// Fields that, merged into the old ones, leave the new ones only.
pub(crate) fn replacing(old: &Object, new: Object) -> Object {
    let gone = old.keys().filter(|key| !new.contains_key(key));
    let mut fields: Object = gone.map(|key| (key.clone(), Value::Null)).collect();
    new.iter().for_each(|(key, value)| fields.insert(key.clone(), value.clone()));
    fields
}
