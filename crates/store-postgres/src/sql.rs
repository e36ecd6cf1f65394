//! Short ways to run SQL and to read rows.

use std::time::SystemTime;

use runloom_engine::{Object, Value};
use runloom_store::{Error, TenantId, delta, time::time};
use serde::de::DeserializeOwned;
use sqlx::{
    AssertSqlSafe, Decode, Postgres, Row, SqlSafeStr, Type,
    pool::PoolConnection,
    postgres::{PgArguments, PgRow},
};
use uuid::Uuid;

use crate::fault::Done;

/// The parameters of a statement, in order.
macro_rules! args {
    ($($value:expr),* $(,)?) => {{
        #[allow(unused_mut)]
        let mut arguments = ::sqlx::postgres::PgArguments::default();
        $( ::sqlx::Arguments::add(&mut arguments, $value)?; )*
        arguments
    }};
}
pub(crate) use args;

/// A connection, and how statements are run on it.
pub(crate) struct Db {
    pub(crate) conn: PoolConnection<Postgres>,
    /// Whether prepared statements stay: not where a pooler in transaction mode stands between.
    pub(crate) is_direct: bool,
}

/// SQL that was put together from parts of this crate, never from what a caller sent.
pub(crate) fn safe(sql: String) -> AssertSqlSafe<String> {
    AssertSqlSafe(sql)
}

impl Db {
    /// Runs a statement; returns how many rows it changed.
    pub async fn run(&mut self, sql: impl SqlSafeStr, args: PgArguments) -> Done<u64> {
        let query = sqlx::query_with(sql, args).persistent(self.is_direct);
        Ok(query.execute(&mut *self.conn).await?.rows_affected())
    }

    /// The first row of a query.
    pub async fn one<T>(
        &mut self,
        sql: impl SqlSafeStr,
        args: PgArguments,
        read: impl FnOnce(&mut Columns<'_>) -> Done<T>,
    ) -> Done<Option<T>> {
        let query = sqlx::query_with(sql, args).persistent(self.is_direct);
        let row = query.fetch_optional(&mut *self.conn).await?;
        row.map(|row| read(&mut Columns { row: &row, at: 0 })).transpose()
    }

    /// All rows of a query.
    pub async fn all<T>(
        &mut self,
        sql: impl SqlSafeStr,
        args: PgArguments,
        mut read: impl FnMut(&mut Columns<'_>) -> Done<T>,
    ) -> Done<Vec<T>> {
        let query = sqlx::query_with(sql, args).persistent(self.is_direct);
        let rows = query.fetch_all(&mut *self.conn).await?;
        rows.iter().map(|row| read(&mut Columns { row, at: 0 })).collect()
    }
}

/// The columns of a row, read from left to right.
pub(crate) struct Columns<'r> {
    row: &'r PgRow,
    at: usize,
}

impl<'r> Columns<'r> {
    /// The next column.
    pub fn get<T: Decode<'r, Postgres> + Type<Postgres>>(&mut self) -> Done<T> {
        self.at += 1;
        Ok(self.row.try_get(self.at - 1)?)
    }

    /// A number that is stored in 64 bits.
    pub fn number<T: TryFrom<i64>>(&mut self) -> Done<T> {
        let number: i64 = self.get()?;
        T::try_from(number).map_err(|_| Error::Corrupt(format!("the number {number} is out of range")).into())
    }

    pub fn uuid(&mut self) -> Done<Uuid> {
        self.get()
    }

    pub fn maybe_uuid(&mut self) -> Done<Option<Uuid>> {
        self.get()
    }

    pub fn tenant(&mut self) -> Done<TenantId> {
        let id: &str = self.get()?;
        TenantId::new(id).map_err(|_| Error::Corrupt(format!("`{id}` is not a tenant id")).into())
    }

    pub fn time(&mut self) -> Done<SystemTime> {
        Ok(time(self.get()?))
    }

    pub fn maybe_time(&mut self) -> Done<Option<SystemTime>> {
        Ok(self.get::<Option<i64>>()?.map(time))
    }

    /// One of the states of an enumeration, by its place.
    pub fn state<T: Copy>(&mut self, all: &[T]) -> Done<T> {
        let at: i64 = self.get()?;
        let found = usize::try_from(at).ok().and_then(|at| all.get(at));
        found.copied().ok_or_else(|| Error::Corrupt(format!("there is no state {at} among {}", all.len())).into())
    }

    /// JSON, or none.
    pub fn json<T: DeserializeOwned>(&mut self) -> Done<Option<T>> {
        let text: Option<&str> = self.get()?;
        Ok(text.map(|text| delta::decode(text.as_bytes())).transpose()?)
    }

    /// An object; an empty one where there is none.
    pub fn object(&mut self) -> Done<Object> {
        match self.json()? {
            None => Ok(Object::default()),
            Some(Value::Object(object)) => Ok(object),
            Some(other) => Err(Error::Corrupt(format!("{} is stored instead of an object", other.kind())).into()),
        }
    }
}

/// An object as it is stored: none where it is empty.
pub(crate) fn object_text(object: &Object) -> runloom_store::Result<Option<String>> {
    if object.is_empty() { Ok(None) } else { delta::encode(&Value::Object(object.clone())).map(Some) }
}

/// A value as it is stored, where there is one.
pub(crate) fn value_text(value: Option<&Value>) -> runloom_store::Result<Option<String>> {
    value.map(delta::encode).transpose()
}

/// A limit as a number of SQL.
pub(crate) fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// Conditions of a query, and the values in them.
#[derive(Default)]
pub(crate) struct Where {
    conditions: Vec<String>,
    pub args: PgArguments,
}

impl Where {
    /// A condition with one `?`.
    pub fn and<'q, V: sqlx::Encode<'q, Postgres> + Type<Postgres> + 'q>(
        &mut self,
        condition: &str,
        value: V,
    ) -> Done<()> {
        sqlx::Arguments::add(&mut self.args, value)?;
        self.conditions.push(condition.replace('?', &format!("${}", sqlx::Arguments::len(&self.args))));
        Ok(())
    }

    /// A condition without values.
    pub fn plain(&mut self, condition: impl Into<String>) {
        self.conditions.push(condition.into());
    }

    /// `WHERE …`, or nothing.
    pub fn sql(&self) -> String {
        if self.conditions.is_empty() { String::new() } else { format!("WHERE {}", self.conditions.join(" AND ")) }
    }
}
