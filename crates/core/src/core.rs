//! The handle to everything: what it is made of, how it starts, how it drains.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use runloom_engine::{Clock, Graph, SystemClock};
use runloom_store::{ServerId, Store};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::{
    Result, Webhooks,
    graphs::Registry,
    runs::{Lease, Runner},
    session::ThreadKey,
    webhooks::Post,
};

/// What a core is started with.
pub struct CoreOptions {
    /// Where everything is kept.
    pub store: Arc<dyn Store>,
    /// Graphs of the program itself, by the names they are served under.
    pub graphs: Vec<(String, Graph)>,
    /// Graph documents: their file's name and text.
    pub documents: Vec<(String, String)>,
    /// What the program brings along for documents: models, what they may call outside.
    pub brought: runloom_document::Registry,
    /// Time and ids.
    pub clock: Arc<dyn Clock>,
    /// The limit of supersteps where neither run nor assistant names one.
    pub recursion_limit: u32,
    /// The most tasks of a step, and bytes of a state, of any run.
    pub run_limits: runloom_engine::Limits,
    /// The longest a run may take where it names no limit.
    pub run_timeout: Option<Duration>,
    /// The most runs under way at once.
    pub max_running: usize,
    /// How often a run that took its server down is taken up again.
    pub max_attempts: u32,
    /// How long this server's lease lasts without being renewed, 10 s by default: after that other servers of the same
    /// store recover its runs. Renewed at a third of it.
    pub lease_ttl: Duration,
    /// How long a stateless run is kept after its end.
    pub stateless_ttl: Duration,
    /// How long the log of a run is kept after its end; none for as long as its thread.
    pub log_ttl: Option<Duration>,
    /// How long running runs have when the core drains, before they are given back to be taken up again.
    pub drain_timeout: Duration,
    /// The most bytes of JSON in one input, context or state update.
    pub max_json_bytes: usize,
    /// The most bytes of memory for decoded batches of readers that are behind. One that finds no room reads in smaller
    /// batches.
    pub reader_memory: usize,
    /// Who calls webhooks; without one runs that name one are refused.
    pub webhooks: Option<Arc<dyn Webhooks>>,
    /// For how long after the end of its run a webhook that fails is called again.
    pub webhook_retry_window: Duration,
}

impl CoreOptions {
    /// With a store and nothing else: no graphs, the defaults.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            graphs: Vec::new(),
            documents: Vec::new(),
            brought: runloom_document::Registry::new(),
            clock: Arc::new(SystemClock),
            recursion_limit: runloom_engine::DEFAULT_RECURSION_LIMIT,
            run_limits: runloom_engine::Limits::default(),
            run_timeout: None,
            max_running: 10_000,
            max_attempts: 4,
            lease_ttl: Duration::from_secs(10),
            stateless_ttl: Duration::from_secs(300),
            log_ttl: None,
            drain_timeout: Duration::from_secs(30),
            max_json_bytes: 16 << 20,
            reader_memory: 128 << 20,
            webhooks: None,
            webhook_retry_window: Duration::from_secs(24 * 60 * 60),
        }
    }
}

/// The handle to a running core. Cheap to clone.
#[derive(Clone)]
pub struct Core {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    pub registry: Registry,
    pub runner: Runner,
    /// A thread that has expired was left by its run.
    pub expiring: Notify,
    /// Busy threads whose time is over.
    pub overdue: Mutex<HashSet<ThreadKey>>,
    pub post: Post,
    /// In KiB.
    pub reader_memory: Arc<Semaphore>,
    pub options: Limits,
    /// Cancelled when the core begins to drain: no run begins any more.
    pub draining: CancellationToken,
    /// Cancelled when readers are to be told to rejoin elsewhere.
    pub closing: CancellationToken,
}

/// The options that operations look at.
pub(crate) struct Limits {
    pub recursion_limit: u32,
    pub run_limits: runloom_engine::Limits,
    pub run_timeout: Option<Duration>,
    pub max_attempts: u32,
    pub max_running: usize,
    pub stateless_ttl: Duration,
    pub log_ttl: Option<Duration>,
    pub drain_timeout: Duration,
    pub max_json_bytes: usize,
}

impl Core {
    /// Loads the graphs, and begins to run what waits and what other servers left.
    pub async fn start(options: CoreOptions) -> Result<Self> {
        let registry = Registry::load(&options).await?;
        let asked_at = Instant::now();
        let server = options.store.register_server(options.lease_ttl).await?;
        let lease = Lease::new(server, options.lease_ttl, asked_at);
        let inner = Arc::new(Inner {
            registry,
            runner: Runner::new(options.max_running, lease),
            expiring: Notify::new(),
            overdue: Mutex::default(),
            reader_memory: Arc::new(Semaphore::new((options.reader_memory >> 10).min(Semaphore::MAX_PERMITS))),
            post: Post::new(options.webhooks, options.webhook_retry_window),
            options: Limits {
                recursion_limit: options.recursion_limit,
                run_limits: options.run_limits,
                run_timeout: options.run_timeout,
                max_attempts: options.max_attempts,
                max_running: options.max_running,
                stateless_ttl: options.stateless_ttl,
                log_ttl: options.log_ttl,
                drain_timeout: options.drain_timeout,
                max_json_bytes: options.max_json_bytes,
            },
            draining: CancellationToken::new(),
            closing: CancellationToken::new(),
            store: options.store,
            clock: options.clock,
        });
        let core = Self { inner };
        core.housekeeping();
        Ok(core)
    }

    /// Where everything is kept.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.inner.store
    }

    /// This server, as the store knows it.
    pub fn server(&self) -> ServerId {
        self.inner.runner.lease.server()
    }

    /// The workers that run nodes and tools of documents.
    pub fn workers(&self) -> &runloom_workers::Workers {
        self.inner.registry.workers()
    }

    /// Cancelled when readers and workers are to go elsewhere: the runs of this server have had their time.
    pub fn closing(&self) -> &CancellationToken {
        &self.inner.closing
    }

    /// Resolves when the core begins to drain.
    pub fn draining(&self) -> &CancellationToken {
        &self.inner.draining
    }

    /// Drains: no run begins any more, running ones get their time and are then given back to be taken up after a
    /// restart, streams are told where to rejoin, and all that was written is on disk when this resolves.
    pub async fn drain(&self) {
        self.inner.draining.cancel();
        self.settle_runs(self.inner.options.drain_timeout).await;
        self.inner.post.settle().await;
        self.inner.closing.cancel();
        if let Err(error) = self.inner.store.release_server(self.inner.runner.lease.server()).await {
            tracing::warn!(%error, "cannot release the lease of this server; it ends by itself");
        }
        if let Err(error) = self.inner.store.flush().await {
            tracing::error!(%error, "what was written last may not be on disk");
        }
    }

    /// Closes the store, after [`drain`](Self::drain) and once no API serves any more: the process may end then.
    pub async fn close(&self) {
        if let Err(error) = self.inner.store.close().await {
            tracing::error!(%error, "the store did not close in order; the next start repairs it");
        }
    }
}
