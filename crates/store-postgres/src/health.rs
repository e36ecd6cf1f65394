//! Whether writes work: a failure is noted where it happens, and writes are tried twice a second until they work again.

use std::{sync::Arc, time::Duration};

use runloom_store::Health;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::{pools::Pools, sql::safe};

/// How often a store whose writes fail tries whether they work again.
const PROBE_EVERY: Duration = Duration::from_millis(500);

pub(crate) struct HealthState {
    pub sender: watch::Sender<Health>,
    failed: Notify,
}

impl HealthState {
    pub fn new() -> Self {
        Self { sender: watch::Sender::new(Health::Serving), failed: Notify::new() }
    }

    /// Notes that the database does not serve.
    pub fn fail(&self, reason: &str) {
        self.set(Health::Failing(reason.into()));
        self.failed.notify_one();
    }

    fn set(&self, health: Health) {
        self.sender.send_if_modified(|now| {
            let changed = now.is_serving() != health.is_serving();
            if changed {
                match &health {
                    Health::Serving => tracing::info!("the database serves again"),
                    Health::Failing(reason) => tracing::error!(%reason, "the database does not serve"),
                }
                *now = health;
            }
            changed
        });
    }

    /// Finds the host that serves and tries a write, until the token is cancelled.
    pub async fn watch(self: Arc<Self>, pools: Arc<Pools>, stop: CancellationToken) {
        let watch = async {
            loop {
                self.failed.notified().await;
                loop {
                    let tried = async {
                        pools.find_host().await?;
                        ping(&pools).await
                    };
                    if tried.await.is_ok() {
                        self.set(Health::Serving);
                        break;
                    }
                    tokio::time::sleep(PROBE_EVERY).await;
                }
            }
        };
        tokio::select! {
            () = watch => {}
            () = stop.cancelled() => {}
        }
    }
}

/// A small durable write.
pub(crate) async fn ping(pools: &Pools) -> Result<(), sqlx::Error> {
    let sql = "INSERT INTO runloom.probe (n, at) VALUES (1, (extract(epoch FROM clock_timestamp()) * 1000000000)::bigint) \
        ON CONFLICT (n) DO UPDATE SET at = excluded.at";
    // As a simple query: one round trip, whatever stands between.
    sqlx::raw_sql(safe(sql.to_owned())).execute(&pools.aux).await.map(|_| ())
}
