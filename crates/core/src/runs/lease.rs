//! This server's lease: what it drives is its own while the lease lasts.

use std::time::{Duration, Instant};

use parking_lot::RwLock;
use runloom_store::{Error as StoreError, ServerId, Topic};

use crate::{Core, Result};

/// A server's lease. It is renewed three times in its length; a server that cannot renew stops its runs before it is over.
pub(crate) struct Lease {
    pub ttl: Duration,
    held: RwLock<Held>,
}

#[derive(Clone, Copy)]
struct Held {
    server: ServerId,
    /// Until when the lease lasts at least, by this process's clock.
    until: Instant,
}

impl Lease {
    pub fn new(server: ServerId, ttl: Duration, asked_at: Instant) -> Self {
        Self { ttl, held: RwLock::new(Held { server, until: asked_at + ttl }) }
    }

    /// This server.
    pub fn server(&self) -> ServerId {
        self.held.read().server
    }

    fn until(&self) -> Instant {
        self.held.read().until
    }

    fn set(&self, server: ServerId, asked_at: Instant) {
        *self.held.write() = Held { server, until: asked_at + self.ttl };
    }
}

impl Core {
    /// Renews the lease, and stops this server's runs where that fails for too long.
    pub(crate) async fn keep_lease(&self) {
        let lease = &self.inner.runner.lease;
        let mut pause = lease.ttl / 3;
        loop {
            tokio::time::sleep(pause).await;
            // What may still be said of the lease is said by when the request began, not by when its answer came.
            let asked_at = Instant::now();
            let limit = lease.ttl / 3;
            let renewed = tokio::time::timeout(limit, self.inner.store.renew_server(lease.server(), lease.ttl)).await;
            let is_over = asked_at >= lease.until();
            match renewed {
                Ok(Ok(())) => {
                    if is_over {
                        // Others may have claimed what this server drove: its attempts find out at their next write.
                        tracing::warn!("the lease was over when it was renewed; runs were stopped");
                        self.inner.runner.stop_all();
                    }
                    lease.set(lease.server(), asked_at);
                    pause = lease.ttl / 3;
                    continue;
                }
                Ok(Err(StoreError::LeaseLost { .. })) => {
                    tracing::warn!("the store does not know this server any more; its runs are stopped");
                    self.inner.runner.stop_all();
                    if let Ok(server) = self.inner.store.register_server(lease.ttl).await {
                        lease.set(server, asked_at);
                        self.inner.runner.lease_changed.notify_one();
                    }
                    pause = lease.ttl / 3;
                    continue;
                }
                Ok(Err(error)) => tracing::warn!(%error, "cannot renew the lease of this server; trying again"),
                Err(_) => tracing::warn!("the lease of this server was not renewed in time; trying again"),
            }
            // The runs need a moment to stop, before others begin them.
            if Instant::now() + lease.ttl / 6 >= lease.until() {
                self.inner.runner.stop_all();
            }
            pause = lease.ttl / 12;
        }
    }

    /// Stops runs of this server that another server was asked to cancel.
    pub(crate) async fn keep_cancels(&self) {
        let runner = &self.inner.runner;
        loop {
            let server = runner.lease.server();
            let mut hints = self.inner.store.watch(Topic::Cancels(server));
            loop {
                if let Err(error) = self.stop_cancelled(server).await {
                    tracing::warn!(%error, "cannot look for runs to cancel; trying again");
                }
                // A hint may be lost.
                let hint = tokio::time::timeout(runner.lease.ttl, hints.changed());
                tokio::select! {
                    _ = hint => {}
                    () = runner.lease_changed.notified() => break,
                }
            }
        }
    }

    async fn stop_cancelled(&self, server: ServerId) -> Result<()> {
        for run in self.inner.store.cancelled_on(server).await? {
            if let Some(active) = self.inner.runner.active(run.id) {
                active.stop.cancel();
            }
        }
        Ok(())
    }
}
