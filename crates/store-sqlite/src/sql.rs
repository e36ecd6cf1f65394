//! Short ways to run SQL, to read rows, and to say what a driver's error means.

use std::{ops::ControlFlow, time::SystemTime};

use runloom_engine::{Object, Value};
use rusqlite::{CachedStatement, Connection, ErrorCode, OptionalExtension, Params, Row, types::FromSql};
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
        let row =
            statement.query_row(params, |row| Ok(read(&mut Columns { row, at: 0 }))).optional().map_err(failed)?;
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
            if read(&mut Columns { row, at: 0 })?.is_break() {
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
        let at: i64 = self.get()?;
        let found = usize::try_from(at).ok().and_then(|at| all.get(at));
        found.copied().ok_or_else(|| Error::Corrupt(format!("there is no state {at} among {}", all.len())))
    }

    /// JSON, or none.
    pub fn json<T: DeserializeOwned>(&mut self) -> Result<Option<T>> {
        self.at += 1;
        let column = self.row.get_ref(self.at - 1).map_err(failed)?;
        let bytes = column.as_bytes_or_null().map_err(|error| Error::Corrupt(error.to_string()))?;
        bytes.map(delta::decode).transpose()
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

/// What an error of the driver means. It is logged here in full, with its code.
pub(crate) fn failed(error: rusqlite::Error) -> Error {
    use ErrorCode::*;
    let rusqlite::Error::SqliteFailure(code, _) = &error else {
        tracing::error!(?error, "a row of the database does not read");
        return Error::Corrupt(error.to_string());
    };
    tracing::error!(%error, code = code.extended_code, "the database failed");
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
