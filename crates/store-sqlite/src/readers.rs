//! A few connections that only read, lent out to blocking threads.

use std::{path::Path, sync::Arc};

use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError},
    task::JoinHandle,
};
use tokio_util::task::AbortOnDropHandle;

use crate::{open::tune, sql::failed};
use runloom_store::{Error, Result};

/// The connections.
pub(crate) struct Readers {
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
    count: usize,
}

/// A connection on loan. It goes back however its reading ends.
struct Lent {
    conn: Option<Connection>,
    readers: Arc<Readers>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Lent {
    fn drop(&mut self) {
        if !self.readers.permits.is_closed() {
            self.readers.idle.lock().extend(self.conn.take());
        }
    }
}

impl Readers {
    pub fn open(file: &Path, count: usize) -> Result<Arc<Self>> {
        let count = count.max(1);
        let mut idle = Vec::with_capacity(count);
        for _ in 0..count {
            let conn =
                Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)
                    .map_err(failed)?;
            tune(&conn)?;
            idle.push(conn);
        }
        Ok(Arc::new(Self { idle: Mutex::new(idle), permits: Arc::new(Semaphore::new(count)), count }))
    }

    /// Waits until no connection is on loan, and closes them all. Later reads are refused.
    pub async fn close_all(&self) {
        let all = u32::try_from(self.count).unwrap_or(u32::MAX);
        // An error says that they are closed.
        let _all = self.permits.acquire_many(all).await;
        self.close();
    }

    /// Closes the connections; those on loan, when they are given back.
    pub fn close(&self) {
        self.permits.close();
        self.idle.lock().clear();
    }

    /// Reads what was committed when the reading began.
    pub async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let ended = match self.permits.clone().try_acquire_owned() {
            Ok(permit) => self.lend(permit, read).await,
            Err(TryAcquireError::Closed) => return Err(Error::stopped()),
            // The queue for a connection is fair: a permit goes to the first in it, whether or not that future is polled. The caller may be the body
            // of a response that its client does not read, so a task of its own stands in the queue. Dropping the caller removes it.
            Err(TryAcquireError::NoPermits) => {
                let readers = self.clone();
                let queued = tokio::spawn(async move {
                    let permit = readers.permits.clone().acquire_owned().await.map_err(|_| Error::stopped())?;
                    Ok(readers.lend(permit, read))
                });
                match AbortOnDropHandle::new(queued).await {
                    Ok(reading) => reading?.await,
                    Err(failure) => Err(failure),
                }
            }
        };
        ended.unwrap_or_else(|failure| Err(Error::Unavailable(format!("a read did not end: {failure}"))))
    }

    /// Begins to read on a connection. It runs to its end, and gives the connection back, whether or not anything awaits it.
    fn lend<T: Send + 'static>(
        self: &Arc<Self>,
        permit: OwnedSemaphorePermit,
        read: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> JoinHandle<Result<T>> {
        let lent = Lent { conn: self.idle.lock().pop(), readers: self.clone(), _permit: permit };
        tokio::task::spawn_blocking(move || {
            let Some(conn) = &lent.conn else { return Err(Error::stopped()) };
            let snapshot = conn.unchecked_transaction().map_err(failed)?;
            read(&snapshot)
        })
    }
}
