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
    /// Counts the leases: one that was over for a moment is another one, for others may have claimed what this server had.
    generation: u64,
}

impl Lease {
    pub fn new(server: ServerId, ttl: Duration, requested_at: Instant) -> Self {
        Self { ttl, held: RwLock::new(Held { server, until: requested_at + ttl, generation: 0 }) }
    }

    /// This server.
    pub fn server(&self) -> ServerId {
        self.held.read().server
    }

    /// Which lease this server holds; none while it may be over.
    pub fn generation(&self) -> Option<u64> {
        let held = *self.held.read();
        (Instant::now() < held.until).then_some(held.generation)
    }

    /// When runs are stopped that could not be renewed: they need a moment to stop before others begin them.
    fn stops_at(&self) -> Instant {
        let until = self.held.read().until;
        until.checked_sub(self.ttl / 6).unwrap_or(until)
    }

    /// Records a lease that was requested at a time. Returns whether it goes on from the one before.
    fn renewed(&self, server: ServerId, requested_at: Instant) -> bool {
        let mut held = self.held.write();
        let goes_on = held.server == server && requested_at < held.until;
        let generation = if goes_on { held.generation } else { held.generation + 1 };
        *held = Held { server, until: requested_at + self.ttl, generation };
        goes_on
    }
}

impl Core {
    /// Renews the lease, and stops this server's runs where that fails for too long.
    pub(crate) async fn keep_lease(&self) {
        let lease = &self.inner.runner.lease;
        let mut pause = lease.ttl / 3;
        loop {
            tokio::time::sleep(pause).await;
            pause = if self.renew_lease().await { lease.ttl / 3 } else { lease.ttl / 12 };
            if Instant::now() >= lease.stops_at() && self.inner.runner.stop_all() > 0 {
                tracing::error!(
                    "the lease of this server could not be renewed; its runs are stopped, for others to recover"
                );
            }
        }
    }

    async fn renew_lease(&self) -> bool {
        let (store, runner) = (&self.inner.store, &self.inner.runner);
        let lease = &runner.lease;
        // How long it lasts counts from when the request began, not from when its answer came.
        let requested_at = Instant::now();
        let limit = match lease.stops_at().saturating_duration_since(requested_at) {
            Duration::ZERO => lease.ttl / 3,
            left => left.min(lease.ttl / 3),
        };
        let server = lease.server();
        let (server, is_new) = match tokio::time::timeout(limit, store.renew_server(server, lease.ttl)).await {
            Ok(Ok(())) => (server, false),
            Ok(Err(StoreError::LeaseLost { .. })) => match store.register_server(lease.ttl).await {
                Ok(server) => (server, true),
                Err(error) => {
                    tracing::warn!(%error, "cannot register this server again; trying again");
                    return false;
                }
            },
            Ok(Err(error)) => {
                tracing::warn!(%error, "cannot renew the lease of this server; trying again");
                return false;
            }
            Err(_) => {
                tracing::warn!("the store did not renew the lease of this server in time; trying again");
                return false;
            }
        };
        if !lease.renewed(server, requested_at) {
            // Others may have begun what this server drove: its attempts find out at their next write.
            tracing::warn!(%server, "the lease of this server was over; its runs were stopped");
            runner.stop_all();
        }
        if is_new {
            runner.lease_changed.notify_one();
        }
        true
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
