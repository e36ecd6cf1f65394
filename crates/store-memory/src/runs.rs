//! Runs in memory.

use std::time::SystemTime;

use async_trait::async_trait;
use runloom_engine::{RunId, ThreadId};

use crate::{MemoryStore, Tables, log::Log};
use runloom_store::{
    Attempt, BegunAt, CancelAction, Canceller, CreatedRun, Direction, Error, Multitask, NewRun, Page, PageRequest,
    Result, Run, RunFilter, RunThread, Runs, TenantId, ThreadUpdate, Topic, What,
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
    /// A run of a tenant.
    pub(crate) fn run(&self, tenant: &TenantId, id: RunId) -> Result<&Row> {
        let found = self.runs.get(&id).filter(|row| row.run.tenant == *tenant);
        found.ok_or_else(|| Error::not_found(What::Run, id))
    }

    /// A run, whosever it is.
    pub(crate) fn any_run(&self, id: RunId) -> Result<&Row> {
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
        self.open.remove(&row.ordinal);
        self.hints.extend([Topic::Run(id), Topic::Thread(row.run.thread)]);
        if let Some(key) = row.run.request_key {
            self.requests.remove(&(row.run.tenant, key.id));
        }
    }

    /// All runs that have not ended, in the order of making.
    pub(crate) fn open_runs(&self) -> impl Iterator<Item = &Run> {
        self.open.values().filter_map(|id| Some(&self.runs.get(id)?.run))
    }

    /// The first run of a thread, by the order of making, that is not over and is such a one.
    pub(crate) fn open_run(&self, tenant: &TenantId, thread: ThreadId, such: impl Fn(&Run) -> bool) -> Option<&Run> {
        let open = self.threads.get(&(tenant.clone(), thread))?.open.values();
        open.filter_map(|id| Some(&self.runs.get(id)?.run)).find(|run| such(run))
    }

    /// Makes a run, and its thread where that is asked for.
    pub(crate) fn create_run(
        &mut self,
        tenant: &TenantId,
        id: RunId,
        thread: ThreadId,
        new: NewRun,
        now: SystemTime,
    ) -> Result<CreatedRun> {
        if let Some(key) = &new.request_key
            && let Some(run) = self.requests.get(&(tenant.clone(), key.id.clone()))
        {
            return self.any_run(*run)?.run.clone().again(key);
        }
        if self.runs.contains_key(&id) {
            return Err(Error::exists(What::Run, id));
        }
        if new.multitask == Multitask::Reject
            && let Some(other) = self.open_run(tenant, thread, |run| run.occupies(now))
        {
            return Err(Error::Busy { thread, run: other.id });
        }
        if !self.threads.contains_key(&(tenant.clone(), thread)) {
            let RunThread::Create(made) = &new.thread else {
                return Err(Error::not_found(What::Thread, thread));
            };
            let made = runloom_store::Thread::new(tenant.clone(), thread, made.clone(), now);
            self.insert_thread(made, Default::default());
        }
        let run = Run::new(tenant.clone(), id, thread, new, now);
        if let Some(key) = &run.request_key {
            self.requests.insert((tenant.clone(), key.id.clone()), id);
        }
        let ordinal = self.next();
        let row = self.thread_mut(tenant, thread)?;
        row.runs.insert(ordinal, id);
        row.open.insert(ordinal, id);
        self.open.insert(ordinal, id);
        let due = if run.start_at.is_some() { Topic::Schedules } else { Topic::Pending };
        self.hints.extend([Topic::Thread(thread), due]);
        self.runs.insert(id, Row { ordinal, run: run.clone(), log: Log::default() });
        Ok(CreatedRun { run, new: true })
    }

    pub(crate) fn update_thread_of(&mut self, run: &Run, update: ThreadUpdate, now: SystemTime) -> Result<()> {
        self.hints.push(Topic::Thread(run.thread));
        self.thread_mut(&run.tenant, run.thread)?.thread.apply(update, now);
        Ok(())
    }
}

#[async_trait]
impl Runs for MemoryStore {
    async fn create_run(&self, tenant: &TenantId, mut new: NewRun) -> Result<CreatedRun> {
        let now = self.now();
        let id = new.id.unwrap_or_else(|| RunId(self.uuid()));
        let thread = match &mut new.thread {
            RunThread::Existing(id) => *id,
            RunThread::Create(thread) => *thread.id.get_or_insert_with(|| ThreadId(self.uuid())),
        };
        self.write(|tables| tables.create_run(tenant, id, thread, new, now))
    }

    async fn get_run(&self, tenant: &TenantId, id: RunId) -> Result<Run> {
        self.read(|tables| Ok(tables.run(tenant, id)?.run.clone()))
    }

    async fn list_runs(
        &self,
        tenant: &TenantId,
        filter: RunFilter,
        order: Direction,
        page: PageRequest,
    ) -> Result<Page<Run>> {
        let rows = self.read(|tables| {
            let rows = tables.runs.values().filter(|row| row.run.tenant == *tenant && filter.matches(&row.run));
            let position = |row: &Row| Position { key: Key::Int(row.ordinal), ordinal: row.ordinal };
            rows.map(|row| (position(row), row.run.clone())).collect()
        });
        paginate(rows, order_of_runs(order), order, &page)
    }

    async fn count_runs(&self, tenant: &TenantId, filter: RunFilter) -> Result<u64> {
        let is_meant = |run: &Run| run.tenant == *tenant && filter.matches(run);
        Ok(self.read(|tables| tables.runs.values().filter(|row| is_meant(&row.run)).count() as u64))
    }

    async fn find_request(&self, tenant: &TenantId, request_id: &str) -> Result<Option<Run>> {
        let key = (tenant.clone(), request_id.to_owned());
        Ok(self.read(|tables| Some(tables.runs.get(tables.requests.get(&key)?)?.run.clone())))
    }

    async fn begun_runs(
        &self,
        tenant: &TenantId,
        thread: ThreadId,
        from: Option<BegunAt>,
        order: Direction,
        limit: usize,
    ) -> Result<Vec<Run>> {
        self.read(|tables| {
            let runs = &tables.thread(tenant, thread)?.runs;
            let is_past = |at: &BegunAt| match (from, order) {
                (None, _) => true,
                (Some(from), Direction::Ascending) => *at > from,
                (Some(from), Direction::Descending) => *at < from,
            };
            let begun = runs.values().filter_map(|id| {
                let run = &tables.runs.get(id)?.run;
                Some((BegunAt::of(run).filter(is_past)?, run))
            });
            let mut begun: Vec<_> = begun.collect();
            begun.sort_by_key(|(at, _)| *at);
            if order == Direction::Descending {
                begun.reverse();
            }
            Ok(begun.into_iter().take(limit).map(|(_, run)| run.clone()).collect())
        })
    }

    async fn request_cancel(&self, tenant: &TenantId, run: RunId, action: CancelAction, by: Canceller) -> Result<Run> {
        let now = self.now();
        self.write(|tables| {
            tables.run(tenant, run)?;
            let row = tables.run_mut(run)?;
            row.run.cancel(action, by, now);
            let run = row.run.clone();
            tables.hints.extend([Topic::Run(run.id), Topic::Thread(run.thread)]);
            tables.hints.extend(run.server.map(Topic::Cancels));
            Ok(run)
        })
    }

    async fn delete_run(&self, tenant: &TenantId, id: RunId) -> Result<()> {
        self.write(|tables| {
            let row = tables.run(tenant, id)?;
            row.run.check_deletable()?;
            let (thread, ordinal) = (row.run.thread, row.ordinal);
            let thread = tables.thread_mut(tenant, thread)?;
            thread.runs.remove(&ordinal);
            thread.open.remove(&ordinal);
            tables.forget_run(id);
            Ok(())
        })
    }
}
