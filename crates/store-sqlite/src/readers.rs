//! A few connections that only read, lent out to blocking threads.

use std::{path::Path, sync::Arc};

use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{open::tune, sql::failed};
use runloom_store::{Error, Result};

/// The connections.
pub(crate) struct Readers {
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
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
        Ok(Arc::new(Self { idle: Mutex::new(idle), permits: Arc::new(Semaphore::new(count)) }))
    }

    /// Closes the connections, those on loan when they come back.
    pub fn close(&self) {
        self.permits.close();
        self.idle.lock().clear();
    }

    /// Reads what was committed when the reading began.
    pub async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let permit = self.permits.clone().acquire_owned().await.map_err(|_| Error::stopped())?;
        let lent = Lent { conn: self.idle.lock().pop(), readers: self.clone(), _permit: permit };
        let reading = tokio::task::spawn_blocking(move || {
            let Some(conn) = &lent.conn else { return Err(Error::stopped()) };
            let snapshot = conn.unchecked_transaction().map_err(failed)?;
            read(&snapshot)
        });
        reading.await.unwrap_or_else(|failure| Err(Error::Unavailable(format!("a read did not end: {failure}"))))
    }
}
