//! A store in one SQLite file: a thread that writes, a few connections that read.
//!
//! `runloom.db` in the data folder, in WAL mode with `synchronous = FULL`: a write is answered once it is on the disk.
//! `runloom.lock` keeps a second server out.

mod admin;
mod assistants;
mod chain;
mod checkpoints;
mod claims;
mod crons;
mod export;
mod graphs;
mod items;
mod keys;
mod log;
mod open;
#[cfg(test)]
mod plans;
mod queue;
mod readers;
mod run_rows;
mod runs;
mod schedules;
mod sql;
mod threads;
mod upkeep;
mod writer;

use std::{
    fmt,
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
    time::SystemTime,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use runloom_engine::items::{ItemStore, NodeCache};
use rusqlite::Connection;
use tokio::sync::watch;
use uuid::Uuid;

pub use admin::{Checked, backup, check};
pub use export::export;
pub use open::OpenOptions;

use self::{
    queue::Queue,
    readers::Readers,
    writer::{Shared, Tx},
};
use runloom_store::{Error, Health, Result, Store, StoreStats, TenantId, Topic, Watch, stats::Counters, time::nanos};

/// Keeps everything in one file of a folder.
///
/// Dropping the last handle writes what is still waiting, and lets go of the folder.
#[derive(Clone)]
pub struct SqliteStore {
    inner: Arc<Inner>,
}

struct Inner {
    folder: PathBuf,
    shared: Arc<Shared>,
    readers: Arc<Readers>,
    writer: Mutex<Option<JoinHandle<()>>>,
    _lock: File,
}

impl SqliteStore {
    /// Opens the store of a folder, and makes both where they are not there. Blocks for some milliseconds.
    pub fn open(options: OpenOptions) -> Result<Self> {
        let lock = open::lock(&options.folder)?;
        let conn = open::connect(&options)?;
        let readers = Readers::open(&options.folder.join(open::FILE), options.readers)?;
        let shared = Arc::new(Shared {
            queue: Queue::new(options.queue_bytes.max(1)),
            health: watch::Sender::new(Health::Serving),
            counters: Counters::default(),
            clock: options.clock,
            hub: Arc::default(),
        });
        let for_writer = shared.clone();
        let writer = std::thread::Builder::new()
            .name("runloom-store".into())
            .spawn(move || writer::run(conn, &for_writer))
            .map_err(|error| Error::Unavailable(format!("no thread could be started: {error}")))?;
        let inner = Inner { folder: options.folder, shared, readers, writer: Mutex::new(Some(writer)), _lock: lock };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The data folder.
    pub fn folder(&self) -> &Path {
        &self.inner.folder
    }

    /// A write that waits for room in the queue.
    async fn write<T: Send + 'static>(&self, work: impl FnOnce(&Tx<'_>) -> Result<T> + Send + 'static) -> Result<T> {
        self.write_sized(0, work).await
    }

    /// The same, of about so many bytes.
    async fn write_sized<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce(&Tx<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.inner.shared.queue.room().await;
        self.inner.shared.begin(bytes, work).await
    }

    async fn read<T: Send + 'static>(&self, read: impl FnOnce(&Connection) -> Result<T> + Send + 'static) -> Result<T> {
        self.inner.readers.read(read).await
    }

    fn now(&self) -> SystemTime {
        self.inner.shared.clock.now()
    }

    fn uuid(&self) -> Uuid {
        self.inner.shared.clock.uuid()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

impl Inner {
    /// Writes what waits, and closes the file: the write-ahead log is checkpointed and gone when this returns.
    fn close(&self) {
        // Before the writer: the last connection to close puts the log away, which one that only reads cannot.
        self.readers.close();
        self.shared.queue.close();
        let Some(writer) = self.writer.lock().take() else { return };
        if writer.thread().id() != std::thread::current().id() {
            // Its failure has been logged.
            let _ = writer.join();
        }
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("folder", &self.inner.folder).finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for SqliteStore {
    fn items(&self, tenant: &TenantId) -> Arc<dyn ItemStore> {
        Arc::new(items::SqliteItems { store: self.clone(), tenant: tenant.clone() })
    }

    fn node_cache(&self, tenant: &TenantId) -> Arc<dyn NodeCache> {
        Arc::new(items::SqliteCache { store: self.clone(), tenant: tenant.clone() })
    }

    fn watch(&self, topic: Topic) -> Watch {
        self.inner.shared.hub.watch(topic)
    }

    async fn room(&self) {
        self.inner.shared.queue.room().await;
    }

    async fn flush(&self) -> Result<()> {
        self.inner.shared.begin(0, |_| Ok(())).await
    }

    async fn close(&self) -> Result<()> {
        // First the readers: while one has the file open, the log cannot be emptied.
        self.inner.readers.close_all().await;
        self.inner.shared.queue.close();
        let Some(writer) = self.inner.writer.lock().take() else { return Ok(()) };
        let joined = tokio::task::spawn_blocking(move || writer.join()).await;
        match joined {
            Ok(Ok(())) => Ok(()),
            _ => Err(Error::Unavailable("the writer ended in a panic; the log says more".into())),
        }
    }

    async fn ping(&self) -> Result<()> {
        let at = nanos(self.now());
        self.inner.shared.begin(0, move |tx| writer::ping(tx, at)).await
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.inner.shared.health.subscribe()
    }

    fn stats(&self) -> StoreStats {
        self.inner.shared.counters.read()
    }
}
