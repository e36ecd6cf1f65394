//! The schema: its versions, and how a database is brought to the newest under a lock that one server has at a time.

use runloom_store::{Error, Result};
use sqlx::{Connection, Executor, Row, postgres::PgConnection};

use crate::{fault::Fault, options::Target, sql::safe};

/// What brings a database from each version of the schema to the next.
const MIGRATIONS: [&str; 1] = [include_str!("migrations/0001.sql")];

/// The oldest version of the schema that a server of this version can work on, and so the oldest server that can work
/// beside this one: migrations since only add what older servers do not need.
const COMPATIBLE: i64 = 1;

/// The key of the advisory lock: `RunL`.
const LOCK: i64 = 0x5275_6e4c;

/// The versions of a database's schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schema {
    /// The version of the database; 0 where it has none.
    pub found: i64,
    /// The oldest version that a server must know to work on it.
    pub compatible: i64,
    /// The newest version that this program knows.
    pub known: i64,
}

impl Schema {
    /// Whether opening the store would migrate.
    pub fn is_old(&self) -> bool {
        self.found < self.known
    }

    /// Whether this program is too old for the database.
    pub fn is_too_new(&self) -> bool {
        self.found > self.known && self.compatible > self.known
    }

    /// The SQL that would be run, by version.
    pub fn pending(&self) -> impl Iterator<Item = (i64, &'static str)> + use<> {
        let found = usize::try_from(self.found).unwrap_or_default();
        (1..).zip(MIGRATIONS).skip(found)
    }
}

/// Reads the versions without changing anything.
pub(crate) async fn read(conn: &mut PgConnection) -> Result<Schema, Fault> {
    let known = MIGRATIONS.len() as i64;
    // As text: a simple query has no binary results.
    // The catalog itself, not `to_regclass`, which may answer from before another server's migration.
    let sql = "SELECT (count(*) > 0)::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n \
        ON n.oid = c.relnamespace WHERE n.nspname = 'runloom' AND c.relname = 'schema'";
    let there = conn.fetch_one(sqlx::raw_sql(sql)).await?;
    if there.try_get::<String, _>(0)? != "true" {
        return Ok(Schema { found: 0, compatible: 0, known });
    }
    let row = conn.fetch_one(sqlx::raw_sql("SELECT version::text, compatible::text FROM runloom.schema")).await?;
    let number = |at: usize| -> Result<i64, Fault> {
        let text: String = row.try_get(at)?;
        text.parse().map_err(|_| Error::Corrupt("the version of the schema is not a number".into()).into())
    };
    Ok(Schema { found: number(0)?, compatible: number(1)?, known })
}

/// Brings the database to the newest version. Of several servers that start at once one does it.
pub(crate) async fn run(conn: &mut PgConnection, target: &Target) -> Result<(), Fault> {
    let schema = read(conn).await?;
    check(&schema, target)?;
    if !schema.is_old() {
        return Ok(());
    }
    // The lock ends with the transaction, so a pooler can stand between.
    let mut tx = conn.begin().await?;
    tx.execute(sqlx::raw_sql(safe(format!("SELECT pg_advisory_xact_lock({LOCK})")))).await?;
    let schema = read(&mut tx).await?;
    check(&schema, target)?;
    if schema.found == 0 {
        let sql = "CREATE SCHEMA IF NOT EXISTS runloom; \
            CREATE TABLE runloom.schema (version bigint NOT NULL, compatible bigint NOT NULL); \
            INSERT INTO runloom.schema VALUES (0, 0)";
        tx.execute(sqlx::raw_sql(sql)).await?;
    }
    for (version, sql) in schema.pending() {
        tracing::info!(version, "migrating the database");
        tx.execute(sqlx::raw_sql(safe(sql.to_owned()))).await?;
    }
    let sql = format!("UPDATE runloom.schema SET version = {}, compatible = {COMPATIBLE}", schema.known);
    tx.execute(sqlx::raw_sql(safe(sql))).await?;
    tx.commit().await?;
    Ok(())
}

fn check(schema: &Schema, target: &Target) -> Result<()> {
    if schema.is_too_new() {
        return Err(Error::Newer { file: target.name().into(), found: schema.found, known: schema.known });
    }
    Ok(())
}
