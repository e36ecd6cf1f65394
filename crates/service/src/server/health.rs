//! Health, as it is: serving while the store takes writes and nothing is being shut down.

use runloom::v1::{
    assistants_server::SERVICE_NAME as ASSISTANTS, crons_server::SERVICE_NAME as CRONS,
    graphs_server::SERVICE_NAME as GRAPHS, runs_server::SERVICE_NAME as RUNS, store_server::SERVICE_NAME as STORE,
    threads_server::SERVICE_NAME as THREADS, workers_server::SERVICE_NAME as WORKERS,
};
use runloom_core::Core;
use tokio_util::sync::CancellationToken;
use tonic_health::{ServingStatus, server::HealthReporter};

/// The server as a whole, and each of its services.
const NAMES: [&str; 8] = ["", ASSISTANTS, CRONS, GRAPHS, RUNS, STORE, THREADS, WORKERS];

/// What clients are told, and who tells it.
#[derive(Clone)]
pub(crate) struct Health {
    reporter: HealthReporter,
    draining: CancellationToken,
}

impl Health {
    /// Not serving yet.
    pub async fn new() -> Self {
        let health = Self { reporter: HealthReporter::new(), draining: CancellationToken::new() };
        health.set(ServingStatus::NotServing).await;
        health
    }

    /// For the service that answers.
    pub fn reporter(&self) -> HealthReporter {
        self.reporter.clone()
    }

    /// Tells how the store does, until the server drains.
    pub fn follow(&self, core: Core) {
        let health = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = health.draining.cancelled() => {}
                () = core.draining().cancelled() => {}
                () = health.follow_store(&core) => {}
            }
            health.set(ServingStatus::NotServing).await;
        });
    }

    async fn follow_store(&self, core: &Core) {
        let mut store = core.store().health();
        // Nothing is known before a first write: the store says by itself when one works that did not.
        if let Err(error) = core.store().ping().await {
            tracing::warn!(%error, "the store does not take writes yet");
        }
        loop {
            let is_serving = store.borrow_and_update().is_serving();
            self.set(if is_serving { ServingStatus::Serving } else { ServingStatus::NotServing }).await;
            if store.changed().await.is_err() {
                return;
            }
        }
    }

    /// Not serving any more. Known to those who ask when this resolves.
    pub async fn drain(&self) {
        self.draining.cancel();
        self.set(ServingStatus::NotServing).await;
    }

    /// Ends the streams of those who watch, so that their connections can close.
    pub async fn close(&mut self) {
        for name in NAMES {
            self.reporter.clear_service_status(name).await;
        }
    }

    async fn set(&self, status: ServingStatus) {
        let status = if self.draining.is_cancelled() { ServingStatus::NotServing } else { status };
        for name in NAMES {
            self.reporter.set_service_status(name, status).await;
        }
    }
}
