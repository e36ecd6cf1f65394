//! Which store: a folder, memory, or a database of Postgres.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::Args;
use runloom_store::Store;
use runloom_store_postgres::{Listen, OpenOptions, PostgresStore};

use crate::{
    embedded::is_memory,
    failure::{Failure, Result},
    options::nonzero_duration,
};

/// The store, for commands that open one.
#[derive(Args, Clone)]
pub struct StoreOptions {
    /// Folder to store threads, runs and logs in; created if it does not exist. `:memory:` stores nothing
    #[arg(long, env = "RUNLOOM_DATA", value_name = "DIR", default_value = "./data")]
    pub data: PathBuf,
    /// Database to store them in instead, for several servers: postgres://user:password@host:5432/database. Several hosts
    /// are separated by commas. Prefer the environment variable: other users of the machine can see a command line
    #[arg(long, env = "RUNLOOM_STORE", value_name = "URL", hide_env_values = true)]
    pub store: Option<String>,
    #[command(flatten)]
    postgres: PostgresOptions,
}

/// How to use Postgres.
#[derive(Args, Clone)]
struct PostgresOptions {
    /// Direct URL of the database to listen for changes of other servers, if --store leads through a pooler in transaction
    /// mode; or `off` to poll instead
    #[arg(long, env = "RUNLOOM_STORE_LISTEN_URL", value_name = "URL", hide_env_values = true, requires = "store")]
    store_listen_url: Option<String>,
    /// Maximum number of connections to the database for operations; three more serve leases and notices
    #[arg(long, env = "RUNLOOM_STORE_CONNECTIONS", value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(2..))]
    store_connections: u32,
    /// Maximum duration of one statement on the database
    #[arg(long, env = "RUNLOOM_STORE_STATEMENT_TIMEOUT", value_name = "TIME", default_value = "30s", value_parser = nonzero_duration)]
    store_statement_timeout: Duration,
    /// How long an operation waits for a connection, and is retried while the database does not serve
    #[arg(long, env = "RUNLOOM_STORE_RETRY_WINDOW", value_name = "TIME", default_value = "10s", value_parser = nonzero_duration)]
    store_retry_window: Duration,
}

impl StoreOptions {
    /// The options of a database, if one is named.
    pub fn postgres(&self) -> Option<OpenOptions> {
        let postgres = &self.postgres;
        let listen = match postgres.store_listen_url.as_deref() {
            None => Listen::Direct,
            Some("off") => Listen::Off,
            Some(url) => Listen::Url(url.to_owned()),
        };
        Some(OpenOptions {
            listen,
            connections: postgres.store_connections,
            statement_timeout: postgres.store_statement_timeout,
            acquire_timeout: postgres.store_retry_window,
            ..OpenOptions::new(self.store.clone()?)
        })
    }

    /// Opens the database, if one is named.
    pub async fn open_postgres(&self) -> Result<Option<Arc<dyn Store>>> {
        let Some(options) = self.postgres() else { return Ok(None) };
        let store = PostgresStore::open(options).await.map_err(store_failure)?;
        Ok(Some(Arc::new(store)))
    }

    /// The folder of SQLite, unless a database or memory is named.
    pub fn folder(&self) -> Option<&Path> {
        Some(&*self.data).filter(|data| self.store.is_none() && !is_memory(data))
    }

    /// Where data is stored, for people; without the password.
    pub fn place(&self) -> String {
        match (&self.store, self.folder()) {
            (Some(url), _) => format!("Data in {}", without_password(url)),
            (None, Some(folder)) => format!("Data in {}", folder.display()),
            (None, None) => "Data in memory".to_owned(),
        }
    }
}

impl fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the URL, which may hold a password.
        f.debug_struct("StoreOptions").field("data", &self.data).finish_non_exhaustive()
    }
}

/// The hosts and the database of a URL.
fn without_password(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split_once('?').map_or(rest, |(rest, _)| rest);
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    format!("postgres://{rest}")
}

/// The failure of a store, with a hint.
pub fn store_failure(error: runloom_store::Error) -> Failure {
    use runloom_store::Error as E;
    let failure = Failure::failed(error.to_string());
    match error {
        E::Connect { .. } => failure.hint("check the database with: runloom store check --store URL"),
        E::Invalid(_) => Failure::usage(error.to_string()),
        E::Newer { .. } => failure.hint("start the newest version that runs anywhere on this store"),
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_has_no_password() {
        assert_eq!(
            without_password("postgres://me:s3cr@t@one,two:5433/db?sslmode=require"),
            "postgres://one,two:5433/db"
        );
        assert_eq!(without_password("postgres://one/db"), "postgres://one/db");
    }
}
