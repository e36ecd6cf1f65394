//! Short ways to run SQL, to read rows, and to say what a driver's error means.

use std::{
    ops::ControlFlow,
    time::{Duration, Instant, SystemTime},
};

use parking_lot::Mutex;
use runloom_engine::{Object, Value};
use rusqlite::{
    CachedStatement, Connection, ErrorCode, OptionalExtension, Params, Row,
    types::{FromSql, ValueRef},
};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use runloom_store::{Error, Result, TenantId, delta, time::time};

/// SQL on a connection, by statements that stay prepared.
pub(crate) trait Sql {
    /// Runs a statement, and tells how many rows it changed.
    fn run(&self, sql: &str, params: impl Params) -> Result<usize>;

    /// The first row of a query.
    fn one<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&mut Columns<'_>) -> Result<T>,
    ) -> Result<Option<T>>;

    /// The rows of a query, one after another, until it is enough.
    fn each(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnMut(&mut Columns<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()>;

    /// All rows of a query.
    fn all<T>(
        &self,
        sql: &str,
        params: impl Params,
        mut read: impl FnMut(&mut Columns<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut rows = Vec::new();
        self.each(sql, params, |columns| {
            rows.push(read(columns)?);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(rows)
    }
}

impl Sql for Connection {
    fn run(&self, sql: &str, params: impl Params) -> Result<usize> {
        prepare(self, sql)?.execute(params).map_err(failed)
    }

    fn one<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&mut Columns<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        let mut statement = prepare(self, sql)?;
        let row = statement
            .query_row(params, |row| {
                let mut columns = Columns { row, at: 0 };
                Ok(read(&mut columns).map_err(|error| columns.located(error, self, sql)))
            })
            .optional()
            .map_err(failed)?;
        row.transpose()
    }

    fn each(
        &self,
        sql: &str,
        params: impl Params,
        mut read: impl FnMut(&mut Columns<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let mut statement = prepare(self, sql)?;
        let mut rows = statement.query(params).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let mut columns = Columns { row, at: 0 };
            if read(&mut columns).map_err(|error| columns.located(error, self, sql))?.is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// A statement that stays prepared.
fn prepare<'c>(conn: &'c Connection, sql: &str) -> Result<CachedStatement<'c>> {
    #[cfg(test)]
    crate::plans::check(conn, sql);
    conn.prepare_cached(sql).map_err(failed)
}

/// The columns of a row, read from left to right.
pub(crate) struct Columns<'r> {
    row: &'r Row<'r>,
    at: usize,
}

impl Columns<'_> {
    /// An error about what is stored, with the file, the table, the row and the column.
    fn located(&self, error: Error, db: &Connection, sql: &str) -> Error {
        let Error::Corrupt(what) = error else { return error };
        let file = db.path().filter(|path| !path.is_empty()).unwrap_or("database in memory");
        let table = sql.split_once("FROM ").and_then(|(_, rest)| rest.split_whitespace().next()).unwrap_or_default();
        let column = self.row.as_ref().column_name(self.at.saturating_sub(1)).unwrap_or_default();
        let key: Vec<String> = (0..self.at.min(2)).filter_map(|at| self.key(at)).collect();
        let row = if key.is_empty() { String::new() } else { format!(", row {}", key.join(" ")) };
        Error::Corrupt(format!("{file}, table {table}{row}, column {column}: {what}"))
    }

    /// A column as part of a key: a number, a name or an id.
    fn key(&self, at: usize) -> Option<String> {
        let name = self.row.as_ref().column_name(at).ok()?;
        match self.row.get_ref(at).ok()? {
            ValueRef::Integer(n) => Some(format!("{name}={n}")),
            ValueRef::Blob(id) => Some(format!("{name}={}", Uuid::from_slice(id).ok()?)),
            ValueRef::Text(text) if text.len() <= 64 => Some(format!("{name}={}", String::from_utf8_lossy(text))),
            _ => None,
        }
    }

    /// The next column.
    pub fn get<T: FromSql>(&mut self) -> Result<T> {
        self.at += 1;
        self.row.get(self.at - 1).map_err(failed)
    }

    pub fn uuid(&mut self) -> Result<Uuid> {
        Ok(Uuid::from_bytes(self.get()?))
    }

    pub fn tenant(&mut self) -> Result<TenantId> {
        let id: String = self.get()?;
        TenantId::new(&id).map_err(|_| Error::Corrupt(format!("`{id}` is no tenant")))
    }

    pub fn maybe_uuid(&mut self) -> Result<Option<Uuid>> {
        Ok(self.get::<Option<[u8; 16]>>()?.map(Uuid::from_bytes))
    }

    pub fn time(&mut self) -> Result<SystemTime> {
        Ok(time(self.get()?))
    }

    pub fn maybe_time(&mut self) -> Result<Option<SystemTime>> {
        Ok(self.get::<Option<i64>>()?.map(time))
    }

    /// One of the states of an enumeration, by its place.
    pub fn state<T: Copy>(&mut self, all: &[T]) -> Result<T> {
        self.maybe_state(all)?.ok_or_else(|| Error::Corrupt("the value is missing".into()))
    }

    /// One of the states of an enumeration, by its place, or none.
    pub fn maybe_state<T: Copy>(&mut self, all: &[T]) -> Result<Option<T>> {
        let Some(at) = self.get::<Option<i64>>()? else { return Ok(None) };
        let found = usize::try_from(at).ok().and_then(|at| all.get(at));
        found
            .copied()
            .map(Some)
            .ok_or_else(|| Error::Corrupt(format!("unknown value {at}: this program knows 0 to {}", all.len() - 1)))
    }

    /// JSON, or none.
    pub fn json<T: DeserializeOwned>(&mut self) -> Result<Option<T>> {
        self.at += 1;
        let column = self.row.get_ref(self.at - 1).map_err(failed)?;
        let bytes = column.as_bytes_or_null().map_err(|error| Error::Corrupt(error.to_string()))?;
        bytes.map(delta::decode).transpose()
    }

    /// JSON that has to be there.
    pub fn some_json<T: DeserializeOwned>(&mut self) -> Result<T> {
        self.json()?.ok_or_else(|| Error::Corrupt("the value is missing".into()))
    }

    /// An object; an empty one where there is none.
    pub fn object(&mut self) -> Result<Object> {
        match self.json()? {
            None => Ok(Object::default()),
            Some(Value::Object(object)) => Ok(object),
            Some(other) => Err(Error::Corrupt(format!("{} stands where an object should", other.kind()))),
        }
    }
}

/// The first column of a row.
pub(crate) fn first<T: FromSql>(row: &mut Columns<'_>) -> Result<T> {
    row.get()
}

/// An object as it is kept: none where it is empty.
pub(crate) fn object_text(object: &Object) -> Result<Option<String>> {
    if object.is_empty() { Ok(None) } else { delta::encode(&Value::Object(object.clone())).map(Some) }
}

/// A value as it is kept, where there is one.
pub(crate) fn value_text(value: Option<&Value>) -> Result<Option<String>> {
    value.map(delta::encode).transpose()
}

/// Conditions of a query, and the values in them.
#[derive(Default)]
pub(crate) struct Where {
    conditions: Vec<String>,
    pub params: Vec<rusqlite::types::Value>,
}

impl Where {
    /// A condition with one `?`.
    pub fn and(&mut self, condition: &str, value: impl Into<rusqlite::types::Value>) {
        self.conditions.push(condition.to_owned());
        self.params.push(value.into());
    }

    /// A condition without values.
    pub fn plain(&mut self, condition: &str) {
        self.conditions.push(condition.to_owned());
    }

    /// A condition that a column is one of some values.
    pub fn among<V: Into<rusqlite::types::Value>>(&mut self, column: &str, values: impl Iterator<Item = V>) {
        let before = self.params.len();
        self.params.extend(values.map(Into::into));
        let marks = vec!["?"; self.params.len() - before].join(",");
        self.conditions.push(format!("{column} IN ({marks})"));
    }

    /// `WHERE …`, or nothing.
    pub fn sql(&self) -> String {
        if self.conditions.is_empty() { String::new() } else { format!("WHERE {}", self.conditions.join(" AND ")) }
    }
}

/// Failures of databases that were logged lately.
static FAILURES: Failures = Failures(Mutex::new(Vec::new()));

/// When a failure of each code was logged, and how many came since: a full disk fails every write of every run.
struct Failures(Mutex<Vec<(i32, Instant, u64)>>);

impl Failures {
    /// How often one is logged.
    const EVERY: Duration = Duration::from_secs(10);

    /// Counts a failure. Returns how many were not logged since the last that was, or none where this one is not either.
    fn count(&self, code: i32) -> Option<u64> {
        let mut all = self.0.lock();
        let Some((_, at, more)) = all.iter_mut().find(|(known, ..)| *known == code) else {
            all.push((code, Instant::now(), 0));
            return Some(0);
        };
        if at.elapsed() < Self::EVERY {
            *more += 1;
            return None;
        }
        *at = Instant::now();
        Some(std::mem::take(more))
    }
}

/// What an error of the driver means. It is logged here in full, with its code, but not more often than once in 10 s.
pub(crate) fn failed(error: rusqlite::Error) -> Error {
    use ErrorCode::*;
    let rusqlite::Error::SqliteFailure(code, _) = &error else {
        return Error::Corrupt(error.to_string());
    };
    match FAILURES.count(code.extended_code) {
        None => {}
        Some(0) => tracing::error!(%error, code = code.extended_code, "the database failed"),
        Some(more) => tracing::error!(%error, code = code.extended_code, more, "the database failed, and did before"),
    }
    match code.code {
        DiskFull => Error::Unavailable("the disk is full, or the file has reached its limit".into()),
        SystemIoFailure => Error::Unavailable("the disk failed".into()),
        ReadOnly | PermissionDenied | CannotOpen => Error::Unavailable("the file cannot be written".into()),
        DatabaseBusy | DatabaseLocked | FileLockingProtocolFailed => {
            Error::Unavailable("another program holds the file".into())
        }
        OutOfMemory => Error::Unavailable("there is no memory left".into()),
        DatabaseCorrupt => Error::Unavailable("the file is damaged; restore it from a copy".into()),
        NotADatabase => Error::Corrupt("the file is no database".into()),
        TooBig => Error::Invalid("it is too big to be kept in one row; the limit is 1 GB".into()),
        other => Error::Corrupt(format!("the database refused it ({other:?})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_logged_once_in_a_while_and_each_kind_for_itself() {
        let failures = Failures(Mutex::new(Vec::new()));
        assert_eq!((failures.count(13), failures.count(10)), (Some(0), Some(0)));
        assert_eq!((failures.count(13), failures.count(13), failures.count(10)), (None, None, None));
        for (_, at, _) in failures.0.lock().iter_mut() {
            *at = at.checked_sub(Failures::EVERY).unwrap();
        }
        assert_eq!((failures.count(13), failures.count(10), failures.count(13)), (Some(2), Some(1), None));
    }
}
