//! This server's lease in the store: registered at the start, renewed while the core lives, released by the drain. What
//! other servers leave is looked for at the same pace.

use runloom_store::{Error as StoreError, ServerId};

use crate::Core;

impl Core {
    /// The id under which this server begins attempts.
    pub(crate) fn server(&self) -> ServerId {
        *self.inner.server.lock()
    }

    /// Renews the lease at a third of its time, until the core has drained.
    pub(crate) fn renew_lease(&self) {
        let core = self.clone();
        tokio::spawn(async move {
            let (closing, ttl) = (core.inner.closing.clone(), core.inner.options.lease_ttl);
            loop {
                tokio::select! {
                    () = tokio::time::sleep(ttl / 3) => {}
                    () = closing.cancelled() => return,
                }
                match core.inner.store.renew_server(core.server(), ttl).await {
                    Ok(()) => {}
                    Err(StoreError::LeaseLost { server }) => match core.inner.store.register_server(ttl).await {
                        Ok(now) => {
                            tracing::error!(%server, %now, "the lease was over for too long; registered again");
                            *core.inner.server.lock() = now;
                        }
                        Err(error) => tracing::warn!(%error, "cannot register this server again; trying again"),
                    },
                    Err(error) => tracing::warn!(%error, "cannot renew the lease; trying again"),
                }
                if core.inner.draining.is_cancelled() {
                    continue;
                }
                if let Err(error) = core.recover().await {
                    tracing::warn!(%error, "cannot look for abandoned runs; trying again");
                }
            }
        });
    }
}
