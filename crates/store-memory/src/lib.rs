//! A store in the process: for tests, and for servers that keep nothing. What it is given it shares, not copies.

mod assistants;
mod checkpoints;
mod claims;
mod crons;
mod graphs;
mod items;
mod keys;
mod log;
mod runs;
mod schedules;
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

use runloom_store::{
    AssistantId, CronId, Delivery, Health, Hub, Result, Store, StoreStats, TenantId, Topic, Watch, stats::Counters,
};

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
    hub: Arc<Hub>,
}

/// All that is kept.
#[derive(Default)]
struct Tables {
    /// The place of whatever was made last in the order of making.
    ordinal: i64,
    threads: HashMap<(TenantId, ThreadId), threads::Row>,
    runs: HashMap<RunId, runs::Row>,
    /// Those that have not ended, in the order of making.
    open: BTreeMap<i64, RunId>,
    /// Runs by tenant and request id.
    requests: HashMap<(TenantId, String), RunId>,
    assistants: HashMap<(TenantId, AssistantId), assistants::Row>,
    /// By tenant and name.
    graphs: BTreeMap<(TenantId, String), Vec<runloom_store::RegisteredGraph>>,
    /// In the order of creation.
    keys: Vec<runloom_store::ApiKey>,
    crons: HashMap<(TenantId, CronId), crons::Row>,
    /// What waits to be posted, by run.
    deliveries: HashMap<RunId, Delivery>,
    items: HashMap<TenantId, items::Items>,
    cache: HashMap<(TenantId, String), items::Cached>,
    claims: claims::Table,
    /// What this write changed.
    hints: Vec<Topic>,
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
        let inner =
            Inner { clock, tables: Mutex::default(), counters: Counters::default(), health, hub: Arc::default() };
        Self { inner: Arc::new(inner) }
    }

    fn read<T>(&self, read: impl FnOnce(&Tables) -> T) -> T {
        read(&self.inner.tables.lock())
    }

    fn write<T>(&self, write: impl FnOnce(&mut Tables) -> Result<T>) -> Result<T> {
        let mut tables = self.inner.tables.lock();
        let result = write(&mut tables);
        let hints = std::mem::take(&mut tables.hints);
        drop(tables);
        self.inner.hub.publish(&hints);
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
    fn items(&self, tenant: &TenantId) -> Arc<dyn ItemStore> {
        Arc::new(items::MemoryItems { store: self.clone(), tenant: tenant.clone() })
    }

    fn node_cache(&self, tenant: &TenantId) -> Arc<dyn NodeCache> {
        Arc::new(items::MemoryCache { store: self.clone(), tenant: tenant.clone() })
    }

    fn watch(&self, topic: Topic) -> Watch {
        self.inner.hub.watch(topic)
    }

    async fn close(&self) -> Result<()> {
        Ok(())
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
