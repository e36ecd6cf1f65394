//! Runs in memory.

use std::time::SystemTime;

use async_trait::async_trait;
use runloom_engine::{Object, RunId, ThreadId, Value};

use crate::{MemoryStore, Tables, log::Log};
use runloom_store::{
    Attempt, Begun, CancelAction, Canceller, CreatedRun, Delivery, Direction, Error, Multitask, NewRun, Page,
    PageRequest, Result, Run, RunEnd, RunFilter, RunStatus, RunThread, Runs, Swept, ThreadStatus, ThreadUpdate, What,
    log::check_order,
    page::{Key, Position, paginate},
    runs::order_of_runs,
    transitions::superseded,
};

pub(crate) struct Row {
    pub ordinal: i64,
    pub run: Run,
    pub log: Log,
}

impl Tables {
    pub(crate) fn run(&self, id: RunId) -> Result<&Row> {
        self.runs.get(&id).ok_or_else(|| Error::not_found(What::Run, id))
    }

    pub(crate) fn run_mut(&mut self, id: RunId) -> Result<&mut Row> {
        self.runs.get_mut(&id).ok_or_else(|| Error::not_found(What::Run, id))
    }

    /// The run of an attempt that is about to write.
    pub(crate) fn held(&mut self, attempt: Attempt) -> Result<&mut Row> {
        let row = self.runs.get_mut(&attempt.run).ok_or_else(|| superseded(attempt, None))?;
        row.run.fence().check(attempt)?;
        Ok(row)
    }

    /// Takes a run out of the tables, but not out of its thread.
    pub(crate) fn forget_run(&mut self, id: RunId) {
        let Some(row) = self.runs.remove(&id) else { return };
        if let Some(key) = row.run.request_key {
            self.requests.remove(&(row.run.owner, key.id));
        }
    }

    /// The first run of a thread, by the order of making, that is not over and is such a one.
    fn open_run(&self, thread: ThreadId, such: impl Fn(&Run) -> bool) -> Option<&Run> {
        let open = self.threads.get(&thread)?.open.values();
        open.filter_map(|id| Some(&self.runs.get(id)?.run)).find(|run| such(run))
    }

    /// Makes a run, and its thread where that is asked for.
    pub(crate) fn create_run(
        &mut self,
        id: RunId,
        thread: ThreadId,
        new: NewRun,
        now: SystemTime,
    ) -> Result<CreatedRun> {
        if let Some(key) = &new.request_key
            && let Some(run) = self.requests.get(&(new.owner.clone(), key.id.clone()))
        {
            return self.run(*run)?.run.clone().again(key);
        }
        if self.runs.contains_key(&id) {
            return Err(Error::exists(What::Run, id));
        }
        if new.multitask == Multitask::Reject
            && let Some(other) = self.open_run(thread, |run| run.occupies(now))
        {
            return Err(Error::Busy { thread, run: other.id });
        }
        if !self.threads.contains_key(&thread) {
            let RunThread::Create(made) = &new.thread else {
                return Err(Error::not_found(What::Thread, thread));
            };
            let made = runloom_store::Thread::new(thread, made.clone(), now);
            self.insert_thread(made, Default::default());
        }
        let run = Run::new(id, thread, new, now);
        if let Some(key) = &run.request_key {
            self.requests.insert((run.owner.clone(), key.id.clone()), id);
        }
        let ordinal = self.next();
        let row = self.thread_mut(thread)?;
        row.runs.insert(ordinal, id);
        row.open.insert(ordinal, id);
        self.runs.insert(id, Row { ordinal, run: run.clone(), log: Log::default() });
        Ok(CreatedRun { run, new: true })
    }

    fn update_thread_of(&mut self, thread: ThreadId, update: ThreadUpdate, now: SystemTime) -> Result<()> {
        self.thread_mut(thread)?.thread.apply(update, now);
        Ok(())
    }
}

#[async_trait]
impl Runs for MemoryStore {
    async fn create_run(&self, mut new: NewRun) -> Result<CreatedRun> {
        let now = self.now();
        let id = new.id.unwrap_or_else(|| RunId(self.uuid()));
        let thread = match &mut new.thread {
            RunThread::Existing(id) => *id,
            RunThread::Create(thread) => *thread.id.get_or_insert_with(|| ThreadId(self.uuid())),
        };
        self.write(|tables| tables.create_run(id, thread, new, now))
    }

    async fn get_run(&self, id: RunId) -> Result<Run> {
        self.read(|tables| Ok(tables.run(id)?.run.clone()))
    }

    async fn list_runs(&self, filter: RunFilter, order: Direction, page: PageRequest) -> Result<Page<Run>> {
        let rows = self.read(|tables| {
            let rows = tables.runs.values().filter(|row| filter.matches(&row.run));
            let position = |row: &Row| Position { key: Key::Int(row.ordinal), ordinal: row.ordinal };
            rows.map(|row| (position(row), row.run.clone())).collect()
        });
        paginate(rows, order_of_runs(order), order, &page)
    }

    async fn count_runs(&self, filter: RunFilter) -> Result<u64> {
        Ok(self.read(|tables| tables.runs.values().filter(|row| filter.matches(&row.run)).count() as u64))
    }

    async fn find_request(&self, owner: Option<&str>, request_id: &str) -> Result<Option<Run>> {
        let key = (owner.map(str::to_owned), request_id.to_owned());
        Ok(self.read(|tables| Some(tables.runs.get(tables.requests.get(&key)?)?.run.clone())))
    }

    async fn next_pending(&self, thread: ThreadId, now: SystemTime) -> Result<Option<Run>> {
        let next = |run: &Run| run.status == RunStatus::Pending && run.due(now);
        Ok(self.read(|tables| tables.open_run(thread, next).cloned()))
    }

    async fn scheduled_runs(&self, limit: usize) -> Result<Vec<Run>> {
        let mut runs: Vec<_> = self.read(|tables| {
            let rows = tables.runs.values().filter(|row| row.run.status == RunStatus::Pending);
            rows.filter_map(|row| Some((row.run.start_at?, row.ordinal, row.run.clone()))).collect()
        });
        runs.sort_by_key(|(at, ordinal, _)| (*at, *ordinal));
        Ok(runs.into_iter().take(limit).map(|(_, _, run)| run).collect())
    }

    async fn begin_attempt(&self, seen: Attempt, config: Object, reserve: u64) -> Result<Begun> {
        let now = self.now();
        self.write(|tables| {
            let thread = tables.run(seen.run)?.run.thread;
            let running = |run: &Run| run.status == RunStatus::Running && run.id != seen.run;
            let other = tables.open_run(thread, running).map(|run| run.id);
            let row = tables.run_mut(seen.run)?;
            let mut run = row.run.clone();
            run.begin(seen, now)?;
            if let Some(other) = other {
                return Err(Error::Busy { thread, run: other });
            }
            let first_seq = row.log.next_seq();
            let reserved = row.log.reserve(first_seq.saturating_add(reserve));
            row.run = run.clone();
            tables.thread_mut(thread)?.thread.begun(&run, config, now);
            Ok(Begun { attempt: run.current(), run, first_seq, reserved })
        })
    }

    async fn release_run(&self, attempt: Attempt, usage: Option<Value>) -> Result<Run> {
        let now = self.now();
        self.write(|tables| {
            let row = tables.run_mut(attempt.run)?;
            row.run.release(attempt, usage, now)?;
            let run = row.run.clone();
            let update = ThreadUpdate { status: Some(ThreadStatus::Idle), ..ThreadUpdate::default() };
            tables.update_thread_of(run.thread, update, now)?;
            Ok(run)
        })
    }

    async fn finish_run(&self, attempt: Attempt, mut end: RunEnd) -> Result<Run> {
        let now = self.now();
        self.write(|tables| {
            let row = tables.run_mut(attempt.run)?;
            let records = std::mem::take(&mut end.records);
            let delivery = end.delivery.take();
            let last = records.last().map_or(row.log.last(), |record| record.seq);
            let mut run = row.run.clone();
            let update = run.finish(attempt, end, last, now)?;
            check_order(&records, row.log.last())?;
            row.log.append(records, &self.inner.counters);
            row.run = run.clone();
            let ordinal = row.ordinal;
            if update != ThreadUpdate::default() {
                tables.update_thread_of(run.thread, update, now)?;
            }
            tables.thread_mut(run.thread)?.open.remove(&ordinal);
            if let Some(new) = delivery {
                tables.deliveries.insert(run.id, Delivery::new(run.id, new, now));
            }
            Ok(run)
        })
    }

    async fn request_cancel(&self, run: RunId, action: CancelAction, by: Canceller) -> Result<Run> {
        let now = self.now();
        self.write(|tables| {
            let row = tables.run_mut(run)?;
            row.run.cancel(action, by, now);
            Ok(row.run.clone())
        })
    }

    async fn delete_run(&self, id: RunId) -> Result<()> {
        self.write(|tables| {
            let row = tables.run(id)?;
            row.run.check_deletable()?;
            let (thread, ordinal) = (row.run.thread, row.ordinal);
            let thread = tables.thread_mut(thread)?;
            thread.runs.remove(&ordinal);
            thread.open.remove(&ordinal);
            tables.forget_run(id);
            Ok(())
        })
    }

    async fn sweep(&self, now: SystemTime, limit: usize) -> Result<Swept> {
        self.write(|tables| {
            let expired = |row: &&Row| row.run.stateless && row.run.expires_at.is_some_and(|at| at <= now);
            let mut gone: Vec<_> =
                tables.runs.values().filter(expired).map(|row| (row.run.expires_at, row.ordinal, row.run.id)).collect();
            gone.sort();
            let mut swept = Swept::default();
            for (_, _, id) in gone.into_iter().take(limit) {
                // Another run of the same thread may have taken it along.
                if let Ok(row) = tables.run(id) {
                    let thread = row.run.thread;
                    tables.remove_thread(thread)?;
                    swept.runs += 1;
                }
            }
            let before = tables.cache.len();
            tables.cache.retain(|_, cached| cached.until.is_none_or(|until| until > now));
            swept.cached = (before - tables.cache.len()) as u64;
            Ok(swept)
        })
    }
}
