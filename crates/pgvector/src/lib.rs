//! The vector index in Postgres, by its extension pgvector: tables that somebody else writes are searched, never written.

mod sql;

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use futures_util::future::{BoxFuture, FutureExt};
use runloom_engine::{
    Value,
    retriever::{Document, RetrieveError, Search, VectorIndex},
};
use runloom_retrievers::{VectorTable, VectorTables};
use sqlx::{
    AssertSqlSafe, PgPool, Row,
    postgres::{PgConnectOptions, PgPoolOptions, PgRow},
};

/// How many connections there are at most.
const CONNECTIONS: u32 = 10;
/// How long a search may wait for a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a search may take.
const SEARCH: Duration = Duration::from_secs(30);

/// A database with tables of vectors.
#[derive(Clone)]
pub struct PgVector {
    pool: PgPool,
}

impl fmt::Debug for PgVector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PgVector")
    }
}

impl PgVector {
    /// The database of a URL, `postgres://user:password@host/database`. It is connected to with the first search; within a
    /// runtime of tokio only. The error does not hold the URL.
    pub fn open(url: &str) -> Result<Self, String> {
        // Another part of the program may have chosen one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let is_postgres = ["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme));
        let options = PgConnectOptions::from_str(url).ok().filter(|_| is_postgres);
        let options =
            options.ok_or("this is no address of a database; it takes postgres://user:password@host/database")?;
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(CONNECT)
            .after_connect(|connection, _| {
                // What documents name is read, whatever the role may do.
                Box::pin(async move {
                    sqlx::query("SET default_transaction_read_only = on").execute(connection).await.map(drop)
                })
            })
            .connect_lazy_with(options.application_name("runloom"));
        Ok(Self { pool })
    }
}

impl VectorTables for PgVector {
    fn table(&self, table: VectorTable) -> Arc<dyn VectorIndex> {
        Arc::new(Table { pool: self.pool.clone(), sql: sql::search(&table).into(), name: table.table.into() })
    }
}

/// The index over a table.
struct Table {
    pool: PgPool,
    sql: Arc<str>,
    name: Arc<str>,
}

impl VectorIndex for Table {
    fn search(&self, search: Search) -> BoxFuture<'static, Result<Vec<Document>, RetrieveError>> {
        let (pool, sql, name) = (self.pool.clone(), self.sql.clone(), self.name.clone());
        async move {
            let rows = sqlx::query(AssertSqlSafe(&*sql))
                .bind(sql::vector(&search.vector))
                .bind(Value::Object(search.filter).to_json())
                .bind(i64::try_from(search.k).unwrap_or(i64::MAX))
                .fetch_all(&pool);
            let rows = match tokio::time::timeout(SEARCH, rows).await {
                Ok(rows) => rows.map_err(|error| explained(&name, &error))?,
                Err(_) => {
                    let message =
                        format!("the search of the table `{name}` took longer than {SEARCH:?}; it may need an index");
                    return Err(RetrieveError::passing(message));
                }
            };
            rows.iter().map(|row| document(row).map_err(|error| explained(&name, &error))).collect()
        }
        .boxed()
    }
}

fn document(row: &PgRow) -> Result<Document, sqlx::Error> {
    let metadata: Option<serde_json::Value> = row.try_get(2)?;
    let metadata = match metadata.map(|json| Value::from(&json)) {
        Some(Value::Object(metadata)) => metadata,
        _ => Default::default(),
    };
    let content: Option<String> = row.try_get(1)?;
    Ok(Document { id: row.try_get(0)?, page_content: content.unwrap_or_default(), metadata })
}

/// What a caller is told of an error of the database: what it says of the statement, nothing of where it is.
fn explained(table: &str, error: &sqlx::Error) -> RetrieveError {
    match error {
        sqlx::Error::Database(of) => {
            // What may pass: too many connections, a restart, a conflict.
            let code = of.code().unwrap_or_default();
            let passes = ["08", "40", "53", "57", "58"].iter().any(|class| code.starts_with(class));
            let message = format!("the table `{table}` cannot be searched: {}", of.message());
            if passes { RetrieveError::passing(message) } else { RetrieveError::lasting(message) }
        }
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => {
            RetrieveError::lasting(format!("the table `{table}` holds what is no text, or metadata that is no JSON"))
        }
        error => {
            tracing::warn!(%error, "the database of vectors does not answer");
            RetrieveError::passing("the database of vectors does not answer; the server's log says why")
        }
    }
}
