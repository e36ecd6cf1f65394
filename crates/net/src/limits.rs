//! How many connections there may be, in all and per peer.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::Options;

/// The connections of one listener.
#[derive(Clone)]
pub(crate) struct Limits(Arc<Shared>);

struct Shared {
    api: &'static str,
    total: Arc<Semaphore>,
    per_peer: usize,
    peers: Mutex<HashMap<IpAddr, usize>>,
    open: AtomicUsize,
}

/// Counts one connection. Dropping it gives its place back.
pub(crate) struct Place {
    limits: Limits,
    peer: IpAddr,
    _permit: OwnedSemaphorePermit,
}

impl Limits {
    pub fn new(api: &'static str, options: &Options) -> Self {
        let total = Arc::new(Semaphore::new(options.max_connections.min(Semaphore::MAX_PERMITS)));
        register_metrics(api);
        Self(Arc::new(Shared {
            api,
            total,
            per_peer: options.max_connections_per_peer,
            peers: Mutex::default(),
            open: AtomicUsize::new(0),
        }))
    }

    /// Waits until another connection may be accepted.
    pub async fn room(&self) -> Option<OwnedSemaphorePermit> {
        if self.0.total.available_permits() == 0 {
            tracing::warn!(api = self.0.api, open = self.open(), "connection limit reached; new connections wait");
            metrics::counter!("runloom_connections_delayed_total", "api" => self.0.api).increment(1);
        }
        self.0.total.clone().acquire_owned().await.ok()
    }

    /// Counts a connection. `None` if its peer has as many as it may.
    pub fn admit(&self, peer: IpAddr, permit: OwnedSemaphorePermit) -> Option<Place> {
        // One IPv4 client is one peer, however the socket shows its address.
        let peer = peer.to_canonical();
        {
            let mut peers = self.0.peers.lock();
            let count = peers.entry(peer).or_default();
            if *count >= self.0.per_peer {
                metrics::counter!("runloom_connections_refused_total", "api" => self.0.api, "reason" => "peer_limit")
                    .increment(1);
                tracing::debug!(api = self.0.api, %peer, limit = self.0.per_peer, "connection refused: too many from this peer");
                return None;
            }
            *count += 1;
        }
        let open = self.0.open.fetch_add(1, Ordering::Relaxed) + 1;
        metrics::gauge!("runloom_connections_open", "api" => self.0.api).set(open as f64);
        Some(Place { limits: self.clone(), peer, _permit: permit })
    }

    fn open(&self) -> usize {
        self.0.open.load(Ordering::Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let shared = &self.limits.0;
        {
            let mut peers = shared.peers.lock();
            if let Some(count) = peers.get_mut(&self.peer) {
                *count -= 1;
                if *count == 0 {
                    peers.remove(&self.peer);
                }
            }
        }
        let open = shared.open.fetch_sub(1, Ordering::Relaxed) - 1;
        metrics::gauge!("runloom_connections_open", "api" => shared.api).set(open as f64);
    }
}

/// Starts the metrics of an API at zero: a rate over a counter misses the first event of one that appears with it.
fn register_metrics(api: &'static str) {
    metrics::gauge!("runloom_connections_open", "api" => api).set(0.0);
    metrics::counter!("runloom_connections_refused_total", "api" => api, "reason" => "peer_limit").increment(0);
    metrics::counter!("runloom_connections_delayed_total", "api" => api).increment(0);
    for phase in ["handshake", "body"] {
        metrics::counter!("runloom_connections_timed_out_total", "api" => api, "phase" => phase).increment(0);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_place_is_given_back() {
        let options = Options { max_connections: 3, max_connections_per_peer: 1, ..Options::default() };
        let limits = Limits::new("test", &options);
        let (a, b): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "::ffff:10.0.0.1".parse().unwrap());
        let first = limits.admit(a, limits.room().await.unwrap()).unwrap();
        assert!(limits.admit(b, limits.room().await.unwrap()).is_none(), "the same peer");
        let other = limits.admit("10.0.0.2".parse().unwrap(), limits.room().await.unwrap()).unwrap();
        assert_eq!(limits.0.total.available_permits(), 1);
        drop((first, other));
        assert_eq!(limits.0.total.available_permits(), 3);
        assert!(limits.0.peers.lock().is_empty());
        assert!(limits.admit(a, limits.room().await.unwrap()).is_some());
    }
}
