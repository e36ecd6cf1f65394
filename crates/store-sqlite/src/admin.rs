//! What an administrator does with a data folder, also while a server has it open: a check and a backup.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, params};

use crate::{open, sql::failed};
use runloom_store::{Error, Result};

/// What a check has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The version of the file's schema.
    pub version: i64,
    /// The newest version that this program knows.
    pub known: i64,
    /// The size of the file, without its write-ahead log.
    pub bytes: u64,
    /// How many of these bytes are free for later writes.
    pub free_bytes: u64,
    /// What is damaged.
    pub faults: Vec<String>,
}

/// A connection that only reads, beside a server that writes.
pub(crate) fn reader(folder: &Path) -> Result<Connection> {
    let file = folder.join(open::FILE);
    if !file.exists() {
        return Err(Error::Invalid(format!("there is no {}", file.display())));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(&file, flags).map_err(failed)?;
    conn.busy_timeout(open::BUSY).map_err(failed)?;
    conn.pragma_update(None, "query_only", true).map_err(failed)?;
    Ok(conn)
}

/// Checks the file of a data folder. Reads all of it.
pub fn check(folder: &Path) -> Result<Checked> {
    let conn = reader(folder)?;
    let number = |name| conn.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).map_err(failed);
    let page = number("page_size")?.unsigned_abs();
    let mut faults = Vec::new();
    conn.pragma_query(None, "quick_check", |row| {
        let said: String = row.get(0)?;
        if said != "ok" {
            faults.push(said);
        }
        Ok(())
    })
    .map_err(failed)?;
    Ok(Checked {
        version: number("user_version")?,
        known: open::KNOWN,
        bytes: number("page_count")?.unsigned_abs() * page,
        free_bytes: number("freelist_count")?.unsigned_abs() * page,
        faults,
    })
}

/// Copies the file of a data folder to another file, which must not exist: all that was committed when the copy began.
pub fn backup(folder: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        return Err(Error::Invalid(format!("{} exists already; name a file that does not", to.display())));
    }
    let to = to.to_str().ok_or_else(|| Error::Invalid("the name of the backup's file is not UTF-8".into()))?;
    // `query_only` forbids the copy as well; a transaction that reads is all that it takes from the file.
    let conn = reader(folder)?;
    conn.pragma_update(None, "query_only", false).map_err(failed)?;
    conn.execute("VACUUM INTO ?1", params![to]).map_err(failed)?;
    Ok(())
}
