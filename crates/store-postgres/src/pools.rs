//! The connections: a pool for operations, a small one for what must not wait behind them.

use std::time::Duration;

use runloom_store::Result;
use sqlx::{
    Connection, Executor, PgPool, Row,
    postgres::{PgConnectOptions, PgConnection, PgPoolOptions},
};

use crate::{
    fault::{Class, classify},
    options::{Listen, OpenOptions, Target},
    sql::safe,
};

/// How long a transaction may wait for this server between statements. One that is frozen in the middle of a transaction
/// must not keep others from its rows once its lease is over.
const IDLE: Duration = Duration::from_secs(1);
/// How long one host may take to answer when the hosts are tried in turn.
const HOST_TIMEOUT: Duration = Duration::from_secs(3);
/// After which a connection is replaced, so that servers spread over hosts that were added.
const LIFETIME: Duration = Duration::from_secs(30 * 60);

pub(crate) struct Pools {
    /// For operations.
    pub main: PgPool,
    /// For leases, notices, health and the outcome of lost commits, which must not wait behind operations.
    pub aux: PgPool,
    target: Target,
    /// False where a pooler in transaction mode stands between.
    pub is_direct: bool,
    /// Begins a transaction that writes, with its time limit, and returns its id.
    pub begin: String,
    pub begin_read: String,
    pub begin_snapshot: String,
}

impl Pools {
    pub fn new(options: &OpenOptions, target: Target, first: PgConnectOptions) -> Self {
        let pool = |connections, timeout| {
            let is_read_write = target.is_read_write;
            PgPoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(timeout)
                .max_lifetime(LIFETIME)
                // A lost connection is found by the first statement, which is run again.
                .test_before_acquire(false)
                .after_connect(move |conn, _| Box::pin(async move { check_writable(conn, is_read_write).await }))
                .connect_lazy_with(first.clone())
        };
        let is_direct = options.listen == Listen::Direct;
        let timeout = options.statement_timeout.as_millis().max(1);
        let idle = IDLE.as_millis();
        let limit =
            format!("SET LOCAL statement_timeout = {timeout}; SET LOCAL idle_in_transaction_session_timeout = {idle}");
        Self {
            main: pool(options.connections.max(2), options.acquire_timeout),
            aux: pool(2, options.acquire_timeout.min(Duration::from_secs(2))),
            target,
            is_direct,
            begin: format!("BEGIN; {limit}; SELECT pg_current_xact_id()::text"),
            begin_read: format!("BEGIN READ ONLY; {limit}"),
            begin_snapshot: format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {limit}"),
        }
    }

    /// Finds a host that serves, and has new connections go there. Returns why not.
    pub async fn find_host(&self) -> Result<(), sqlx::Error> {
        let host = self.target.first_serving().await?;
        if self.target.hosts.len() > 1 {
            self.main.set_connect_options(host.clone());
            self.aux.set_connect_options(host);
        }
        Ok(())
    }

    pub async fn close(&self) {
        futures_util::future::join(self.main.close(), self.aux.close()).await;
    }
}

impl Target {
    /// The first host that serves, and takes writes where it must.
    pub async fn first_serving(&self) -> Result<PgConnectOptions, sqlx::Error> {
        let mut last = sqlx::Error::PoolTimedOut;
        for host in &self.hosts {
            let tried = async {
                let mut conn = PgConnection::connect_with(host).await?;
                check_writable(&mut conn, self.is_read_write).await?;
                // A small durable write: a full disk serves nobody.
                let _ = conn.close().await;
                Ok(host.clone())
            };
            match tokio::time::timeout(HOST_TIMEOUT, tried).await {
                Ok(Ok(host)) => return Ok(host),
                // Of several hosts the one that refuses says more than those that do not answer.
                Ok(Err(error)) if classify(&error) == Class::Lasting => return Err(error),
                Ok(Err(error)) => last = error,
                Err(_) => {}
            }
        }
        Err(last)
    }
}

/// Refuses a standby where writes are needed.
async fn check_writable(conn: &mut PgConnection, is_read_write: bool) -> Result<(), sqlx::Error> {
    if !is_read_write {
        return Ok(());
    }
    let row = conn.fetch_one(sqlx::raw_sql(safe("SELECT pg_is_in_recovery()::text".into()))).await?;
    match row.try_get::<String, _>(0)?.as_str() {
        "false" => Ok(()),
        _ => Err(sqlx::Error::Io(std::io::Error::new(
            std::io::ErrorKind::ConnectionRefused,
            "the host is a standby and takes no writes",
        ))),
    }
}
