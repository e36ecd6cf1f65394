//! Threads in memory, with what belongs to each.

use std::collections::BTreeMap;

use async_trait::async_trait;
use runloom_engine::{RunId, ThreadId};

use crate::{MemoryStore, Tables, checkpoints};
use runloom_store::{
    Direction, Error, Expiry, IfExists, NewThread, Page, PageRequest, Result, Thread, ThreadFilter, ThreadSort,
    ThreadUpdate, Threads, What,
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
    pub(crate) fn thread(&self, id: ThreadId) -> Result<&Row> {
        self.threads.get(&id).ok_or_else(|| Error::not_found(What::Thread, id))
    }

    pub(crate) fn thread_mut(&mut self, id: ThreadId) -> Result<&mut Row> {
        self.threads.get_mut(&id).ok_or_else(|| Error::not_found(What::Thread, id))
    }

    pub(crate) fn insert_thread(&mut self, thread: Thread, checkpoints: checkpoints::Kept) {
        let ordinal = self.next();
        let row = Row { ordinal, checkpoints, runs: BTreeMap::new(), open: BTreeMap::new(), thread };
        self.threads.insert(row.thread.id, row);
    }

    pub(crate) fn remove_thread(&mut self, id: ThreadId) -> Result<()> {
        let row = self.threads.remove(&id).ok_or_else(|| Error::not_found(What::Thread, id))?;
        for run in row.runs.into_values() {
            self.forget_run(run);
        }
        self.forget_crons_of(id);
        Ok(())
    }
}

#[async_trait]
impl Threads for MemoryStore {
    async fn create_thread(&self, new: NewThread) -> Result<Thread> {
        let now = self.now();
        let id = new.id.unwrap_or_else(|| ThreadId(self.uuid()));
        self.write(|tables| {
            if let Some(row) = tables.threads.get(&id) {
                return match new.if_exists {
                    IfExists::Keep => Ok(row.thread.clone()),
                    IfExists::Refuse => Err(Error::exists(What::Thread, id)),
                };
            }
            let thread = Thread::new(id, new, now);
            tables.insert_thread(thread.clone(), checkpoints::Kept::default());
            Ok(thread)
        })
    }

    async fn get_thread(&self, id: ThreadId) -> Result<Thread> {
        self.read(|tables| Ok(tables.thread(id)?.thread.clone()))
    }

    async fn update_thread(&self, id: ThreadId, update: ThreadUpdate) -> Result<Thread> {
        let now = self.now();
        self.write(|tables| {
            let row = tables.thread_mut(id)?;
            row.thread.apply(update, now);
            Ok(row.thread.clone())
        })
    }

    async fn delete_thread(&self, id: ThreadId) -> Result<()> {
        self.write(|tables| tables.remove_thread(id))
    }

    async fn expiring_threads(&self, limit: usize) -> Result<Vec<(ThreadId, Expiry)>> {
        let mut expiring: Vec<_> = self.read(|tables| {
            tables.threads.values().filter_map(|row| Some((row.thread.id, row.thread.expiry?))).collect()
        });
        expiring.sort_by_key(|(id, expiry)| (expiry.at, *id));
        expiring.truncate(limit);
        Ok(expiring)
    }

    async fn list_threads(
        &self,
        filter: ThreadFilter,
        (sort, direction): (ThreadSort, Direction),
        page: PageRequest,
    ) -> Result<Page<Thread>> {
        let rows = self.read(|tables| {
            let rows = tables.threads.values().filter(|row| filter.matches(&row.thread));
            let position = |row: &Row| Position { key: sort.key(&row.thread, row.ordinal), ordinal: row.ordinal };
            rows.map(|row| (position(row), row.thread.clone())).collect()
        });
        paginate(rows, sort.tag(direction), direction, &page)
    }

    async fn count_threads(&self, filter: ThreadFilter) -> Result<u64> {
        Ok(self.read(|tables| tables.threads.values().filter(|row| filter.matches(&row.thread)).count() as u64))
    }

    async fn copy_thread(&self, from: ThreadId, to: Option<ThreadId>) -> Result<Thread> {
        let now = self.now();
        let to = to.unwrap_or_else(|| ThreadId(self.uuid()));
        self.write(|tables| {
            let row = tables.thread(from)?;
            let (copy, checkpoints) = (row.thread.copied(to, now), row.checkpoints.clone());
            if tables.threads.contains_key(&to) {
                return Err(Error::exists(What::Thread, to));
            }
            tables.insert_thread(copy.clone(), checkpoints);
            Ok(copy)
        })
    }
}
