//! Threads in memory, with what belongs to each.

use std::collections::BTreeMap;

use async_trait::async_trait;
use runloom_engine::{RunId, ThreadId};

use crate::{MemoryStore, Tables, checkpoints};
use runloom_store::{
    Direction, Error, IfExists, NewThread, Page, PageRequest, Result, TenantId, Thread, ThreadFilter, ThreadSort,
    ThreadUpdate, Threads, Topic, What,
    page::{Position, paginate},
};

pub(crate) struct Row {
    pub ordinal: i64,
    pub thread: Thread,
    /// Its runs, by their order of making.
    pub runs: BTreeMap<i64, RunId>,
    /// Those that are not over.
    pub open: BTreeMap<i64, RunId>,
    pub checkpoints: checkpoints::Kept,
}

impl Tables {
    pub(crate) fn thread(&self, tenant: &TenantId, id: ThreadId) -> Result<&Row> {
        self.threads.get(&(tenant.clone(), id)).ok_or_else(|| Error::not_found(What::Thread, id))
    }

    pub(crate) fn thread_mut(&mut self, tenant: &TenantId, id: ThreadId) -> Result<&mut Row> {
        self.threads.get_mut(&(tenant.clone(), id)).ok_or_else(|| Error::not_found(What::Thread, id))
    }

    pub(crate) fn insert_thread(&mut self, thread: Thread, checkpoints: checkpoints::Kept) {
        let ordinal = self.next();
        let row = Row { ordinal, checkpoints, runs: BTreeMap::new(), open: BTreeMap::new(), thread };
        self.hints.push(Topic::Thread(row.thread.id));
        self.hints.extend(row.thread.expiry.map(|_| Topic::Schedules));
        self.threads.insert((row.thread.tenant.clone(), row.thread.id), row);
    }

    pub(crate) fn remove_thread(&mut self, tenant: &TenantId, id: ThreadId) -> Result<()> {
        let row = self.threads.remove(&(tenant.clone(), id)).ok_or_else(|| Error::not_found(What::Thread, id))?;
        for run in row.runs.into_values() {
            self.forget_run(run);
        }
        self.forget_crons_of(tenant, id);
        self.hints.push(Topic::Thread(id));
        Ok(())
    }
}

#[async_trait]
impl Threads for MemoryStore {
    async fn create_thread(&self, tenant: &TenantId, new: NewThread) -> Result<Thread> {
        let now = self.now();
        let id = new.id.unwrap_or_else(|| ThreadId(self.uuid()));
        self.write(|tables| {
            if let Some(row) = tables.threads.get(&(tenant.clone(), id)) {
                return match new.if_exists {
                    IfExists::Keep => Ok(row.thread.clone()),
                    IfExists::Refuse => Err(Error::exists(What::Thread, id)),
                };
            }
            let thread = Thread::new(tenant.clone(), id, new, now);
            tables.insert_thread(thread.clone(), checkpoints::Kept::default());
            Ok(thread)
        })
    }

    async fn get_thread(&self, tenant: &TenantId, id: ThreadId) -> Result<Thread> {
        self.read(|tables| Ok(tables.thread(tenant, id)?.thread.clone()))
    }

    async fn update_thread(&self, tenant: &TenantId, id: ThreadId, update: ThreadUpdate) -> Result<Thread> {
        let now = self.now();
        self.write(|tables| {
            let expiry = update.expiry.is_some();
            tables.hints.push(Topic::Thread(id));
            tables.hints.extend(expiry.then_some(Topic::Schedules));
            let row = tables.thread_mut(tenant, id)?;
            row.thread.apply(update, now);
            Ok(row.thread.clone())
        })
    }

    async fn delete_thread(&self, tenant: &TenantId, id: ThreadId) -> Result<()> {
        self.write(|tables| tables.remove_thread(tenant, id))
    }

    async fn list_threads(
        &self,
        tenant: &TenantId,
        filter: ThreadFilter,
        (sort, direction): (ThreadSort, Direction),
        page: PageRequest,
    ) -> Result<Page<Thread>> {
        let rows = self.read(|tables| {
            let rows =
                tables.threads.values().filter(|row| row.thread.tenant == *tenant && filter.matches(&row.thread));
            let position = |row: &Row| Position { key: sort.key(&row.thread, row.ordinal), ordinal: row.ordinal };
            rows.map(|row| (position(row), row.thread.clone())).collect()
        });
        paginate(rows, sort.tag(direction), direction, &page)
    }

    async fn count_threads(&self, tenant: &TenantId, filter: ThreadFilter) -> Result<u64> {
        Ok(self.read(|tables| {
            tables.threads.values().filter(|row| row.thread.tenant == *tenant && filter.matches(&row.thread)).count()
                as u64
        }))
    }

    async fn copy_thread(&self, tenant: &TenantId, from: ThreadId, to: Option<ThreadId>) -> Result<Thread> {
        let now = self.now();
        let to = to.unwrap_or_else(|| ThreadId(self.uuid()));
        self.write(|tables| {
            let row = tables.thread(tenant, from)?;
            let (copy, checkpoints) = (row.thread.copied(to, now), row.checkpoints.clone());
            if tables.threads.contains_key(&(tenant.clone(), to)) {
                return Err(Error::exists(What::Thread, to));
            }
            tables.insert_thread(copy.clone(), checkpoints);
            Ok(copy)
        })
    }
}
