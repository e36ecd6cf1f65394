//! A store in the process: for tests, and for servers that keep nothing. What it is given it shares, not copies.

mod assistants;
mod checkpoints;
mod crons;
mod graphs;
mod items;
mod log;
mod runs;
mod threads;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::SystemTime,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use runloom_engine::{
    Clock, RunId, SystemClock, ThreadId,
    items::{ItemStore, NodeCache},
};
use tokio::sync::watch;
use uuid::Uuid;

use runloom_store::{AssistantId, CronId, Delivery, Health, Result, Store, StoreStats, stats::Counters};

/// Keeps everything in memory, with the semantics of every other store; it is gone with the process.
#[derive(Clone)]
pub struct MemoryStore {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Arc<dyn Clock>,
    tables: Mutex<Tables>,
    counters: Counters,
    health: watch::Sender<Health>,
}

/// All that is kept.
#[derive(Default)]
struct Tables {
    /// The place of whatever was made last in the order of making.
    ordinal: i64,
    threads: HashMap<ThreadId, threads::Row>,
    runs: HashMap<RunId, runs::Row>,
    /// Runs by owner and request id.
    requests: HashMap<(Option<String>, String), RunId>,
    assistants: HashMap<AssistantId, assistants::Row>,
    graphs: BTreeMap<String, Vec<runloom_store::RegisteredGraph>>,
    crons: HashMap<CronId, crons::Row>,
    /// What waits to be posted, by run.
    deliveries: HashMap<RunId, Delivery>,
    items: items::Items,
    cache: HashMap<String, items::Cached>,
}

impl Tables {
    fn next(&mut self) -> i64 {
        self.ordinal += 1;
        self.ordinal
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::with_clock(Arc::new(SystemClock))
    }

    /// An empty store that takes its times and ids from a clock.
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        let health = watch::Sender::new(Health::Serving);
        let inner = Inner { clock, tables: Mutex::default(), counters: Counters::default(), health };
        Self { inner: Arc::new(inner) }
    }

    fn read<T>(&self, read: impl FnOnce(&Tables) -> T) -> T {
        read(&self.inner.tables.lock())
    }

    fn write<T>(&self, write: impl FnOnce(&mut Tables) -> Result<T>) -> Result<T> {
        let result = write(&mut self.inner.tables.lock());
        self.inner.counters.writes.fetch_add(1, Relaxed);
        if result.is_ok() {
            self.inner.counters.commits.fetch_add(1, Relaxed);
        }
        result
    }

    fn now(&self) -> SystemTime {
        self.inner.clock.now()
    }

    fn uuid(&self) -> Uuid {
        self.inner.clock.uuid()
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn items(&self) -> Arc<dyn ItemStore> {
        Arc::new(items::MemoryItems(self.clone()))
    }

    async fn next_item_expiry(&self) -> Result<Option<SystemTime>> {
        Ok(self.read(Tables::next_item_expiry))
    }

    async fn sweep_items(&self, now: SystemTime, limit: usize) -> Result<u64> {
        self.write(|tables| Ok(tables.sweep_items(now, limit)))
    }

    fn node_cache(&self) -> Arc<dyn NodeCache> {
        Arc::new(items::MemoryCache(self.clone()))
    }

    async fn room(&self) {}

    async fn flush(&self) -> Result<()> {
        Ok(())
    }

    async fn ping(&self) -> Result<()> {
        Ok(())
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.inner.health.subscribe()
    }

    fn stats(&self) -> StoreStats {
        self.inner.counters.read()
    }
}
