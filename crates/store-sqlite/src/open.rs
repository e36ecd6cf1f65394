//! Opening the file: the folder, the lock, the settings, the version of the schema.

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use runloom_engine::{Clock, SystemClock};
use rusqlite::Connection;

use runloom_store::{Error, Result};

use crate::sql::failed;

/// The file in the data folder that holds everything.
pub(crate) const FILE: &str = "runloom.db";
/// The file by which one server keeps others out.
const LOCK: &str = "runloom.lock";
/// Marks a file as ours: `RunL`.
const APPLICATION: i64 = 0x5275_6e4c;
/// How long to wait for another program that holds the file.
pub(crate) const BUSY: Duration = Duration::from_secs(5);
/// What brings a file from each version of the schema to the next.
const MIGRATIONS: [Migration; 6] = [
    Migration { sql: include_str!("schema.sql"), run: None },
    Migration { sql: include_str!("schema_2.sql"), run: None },
    Migration { sql: include_str!("schema_3.sql"), run: None },
    Migration { sql: include_str!("schema_4.sql"), run: None },
    Migration { sql: include_str!("schema_5.sql"), run: None },
    Migration { sql: include_str!("schema_6.sql"), run: None },
];

/// The newest version of the schema.
pub(crate) const KNOWN: i64 = MIGRATIONS.len() as i64;

/// One step of the schema: SQL, then code that SQL cannot express, in one transaction.
struct Migration {
    sql: &'static str,
    run: Option<fn(&Connection) -> Result<()>>,
}

/// How to open a [`SqliteStore`](crate::SqliteStore).
#[derive(Clone)]
pub struct OpenOptions {
    /// The data folder; made where it is not there. One server at a time has it.
    pub folder: PathBuf,
    /// How many connections read at the same time.
    pub readers: usize,
    /// How many bytes of writes may wait before those that can wait do. Eight times as many, and writes are refused.
    pub queue_bytes: usize,
    /// The size past which the file does not grow; writes that need more are refused. None: the disk is the limit.
    pub max_bytes: Option<u64>,
    /// Where times and new ids come from.
    pub clock: Arc<dyn Clock>,
}

impl OpenOptions {
    /// A data folder; 4 readers, 32 MiB of waiting writes, no limit of the file's size, the machine's clock.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), readers: 4, queue_bytes: 32 << 20, max_bytes: None, clock: Arc::new(SystemClock) }
    }
}

/// Makes the folder where it is not there, and locks it for as long as the answer is held.
pub(crate) fn lock(folder: &Path) -> Result<File> {
    let refused = |error: std::io::Error| Error::NotWritable { folder: folder.into(), reason: error.to_string() };
    fs::create_dir_all(folder).map_err(refused)?;
    let file = File::options().create(true).truncate(false).write(true).open(folder.join(LOCK)).map_err(refused)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Locked { folder: folder.into() }),
        Err(TryLockError::Error(error)) => Err(refused(error)),
    }
}

/// The connection that writes, on a file of the newest schema.
pub(crate) fn connect(options: &OpenOptions) -> Result<Connection> {
    let file = options.folder.join(FILE);
    let mut conn = Connection::open(&file)
        .map_err(|error| Error::NotWritable { folder: options.folder.clone(), reason: failed(error).to_string() })?;
    migrate(&mut conn, &file)?;
    forget_statistics(&conn)?;
    tune(&conn)?;
    let mode: String = conn.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0)).map_err(failed)?;
    if mode != "wal" {
        return Err(Error::NotWritable {
            folder: options.folder.clone(),
            reason: format!("its file system does not do what SQLite's write-ahead log needs (mode {mode})"),
        });
    }
    conn.pragma_update(None, "synchronous", "full").map_err(failed)?;
    conn.pragma_update(None, "journal_size_limit", 64 << 20).map_err(failed)?;
    // The lock on the folder says that no other server is alive.
    conn.execute_batch("DELETE FROM servers; DELETE FROM claims").map_err(failed)?;
    if let Some(bytes) = options.max_bytes {
        let page: i64 = conn.pragma_query_value(None, "page_size", |row| row.get(0)).map_err(failed)?;
        let pages = i64::try_from(bytes).unwrap_or(i64::MAX) / page.max(1);
        conn.pragma_update_and_check(None, "max_page_count", pages.max(1), |_| Ok(())).map_err(failed)?;
    }
    Ok(conn)
}

/// Settings that every connection has.
pub(crate) fn tune(conn: &Connection) -> Result<()> {
    conn.busy_timeout(BUSY).map_err(failed)?;
    conn.set_prepared_statement_cache_capacity(256);
    conn.pragma_update(None, "cache_size", -16 * 1024).map_err(failed)?;
    conn.pragma_update(None, "temp_store", "memory").map_err(failed)?;
    Ok(())
}

/// Removes statistics that an earlier version has left: without any, the planner chooses by the schema alone, and chooses the same at every size.
fn forget_statistics(conn: &Connection) -> Result<()> {
    let has: bool = conn
        .query_row("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_stat1')", [], |row| row.get(0))
        .map_err(failed)?;
    if has {
        // Dropping the table has every connection plan anew.
        conn.execute_batch("DROP TABLE sqlite_stat1").map_err(failed)?;
    }
    Ok(())
}

fn migrate(conn: &mut Connection, file: &Path) -> Result<()> {
    let pragma = |conn: &Connection, name| conn.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let (application, found) =
        (pragma(conn, "application_id").map_err(failed)?, pragma(conn, "user_version").map_err(failed)?);
    let tables: i64 = conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(failed)?;
    if tables > 0 && application != APPLICATION {
        return Err(Error::Corrupt(format!("{} is a database, but not one of Runloom's", file.display())));
    }
    let known = KNOWN;
    if found > known {
        return Err(Error::Newer { file: file.into(), found, known });
    }
    for (version, step) in (1..).zip(MIGRATIONS).skip(usize::try_from(found).unwrap_or(0)) {
        let tx = conn.transaction().map_err(failed)?;
        tx.execute_batch(step.sql).map_err(failed)?;
        if let Some(run) = step.run {
            run(&tx)?;
        }
        tx.pragma_update(None, "application_id", APPLICATION).map_err(failed)?;
        tx.pragma_update(None, "user_version", version).map_err(failed)?;
        tx.commit().map_err(failed)?;
    }
    Ok(())
}
