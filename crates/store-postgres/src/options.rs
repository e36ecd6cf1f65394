//! How to reach the database: the URL with several hosts, sizes and time limits.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use runloom_engine::{Clock, SystemClock};
use runloom_store::{Error, Result};
use sqlx::{ConnectOptions as _, postgres::PgConnectOptions};

/// How to open a [`PostgresStore`](crate::PostgresStore).
#[derive(Clone)]
pub struct OpenOptions {
    /// `postgres://user:password@host:5432/database`. Several hosts are separated by commas, and
    /// `target_session_attrs=read-write` selects the one that takes writes.
    pub url: String,
    /// Where to listen for notices.
    pub listen: Listen,
    /// The most connections that operations use. Three more serve leases, notices and health.
    pub connections: u32,
    /// How long an operation may wait for a connection, and how long it is retried while the database does not serve.
    pub acquire_timeout: Duration,
    /// How long one statement may take.
    pub statement_timeout: Duration,
    /// How many bytes of writes may wait before those that can wait do. Eight times as many, and writes are refused.
    pub queue_bytes: usize,
    /// Where times and new ids come from.
    pub clock: Arc<dyn Clock>,
    /// Whether leases go by the clock of the database, as they must where servers have clocks of their own.
    pub database_time: bool,
}

/// Where a store listens for notices of other servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Listen {
    /// At the URL of the store: nothing stands between.
    #[default]
    Direct,
    /// At this URL; the URL of the store leads through a pooler in transaction mode.
    Url(String),
    /// Nowhere: changes by other servers are found by polling. The URL of the store may lead through a pooler.
    Off,
}

impl OpenOptions {
    /// A database; 16 connections, a retry window of 10 s, a statement timeout of 30 s, 32 MiB of waiting writes.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            listen: Listen::Direct,
            connections: 16,
            acquire_timeout: Duration::from_secs(10),
            statement_timeout: Duration::from_secs(30),
            queue_bytes: 32 << 20,
            clock: Arc::new(SystemClock),
            database_time: true,
        }
    }
}

impl fmt::Debug for OpenOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the URL, which may hold a password.
        f.debug_struct("OpenOptions").field("connections", &self.connections).finish_non_exhaustive()
    }
}

/// The hosts of a URL, in their order.
#[derive(Clone)]
pub(crate) struct Target {
    pub hosts: Vec<PgConnectOptions>,
    /// Whether a host must take writes.
    pub is_read_write: bool,
}

impl Target {
    /// Parses a URL. The error does not hold the URL.
    pub fn parse(url: &str) -> Result<Self> {
        let invalid = || {
            Error::Invalid(
                "invalid URL of a Postgres database: it has the form postgres://user:password@host:5432/database"
                    .into(),
            )
        };
        let rest = ["postgres://", "postgresql://"].iter().find_map(|scheme| url.strip_prefix(scheme));
        let rest = rest.ok_or_else(invalid)?;
        let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, hosts) = authority.rsplit_once('@').map_or((None, authority), |(user, hosts)| (Some(user), hosts));
        let mut is_read_write = false;
        let mut kept = Vec::new();
        for pair in query.into_iter().flat_map(|query| query.split('&')) {
            match pair.split_once('=') {
                Some(("target_session_attrs", "read-write" | "primary")) => is_read_write = true,
                Some(("target_session_attrs", "any")) => {}
                Some(("target_session_attrs", other)) => {
                    return Err(Error::Invalid(format!(
                        "target_session_attrs={other} is not supported; use read-write, primary or any"
                    )));
                }
                _ => kept.push(pair),
            }
        }
        let query = if kept.is_empty() { String::new() } else { format!("?{}", kept.join("&")) };
        let user = user.map(|user| format!("{user}@")).unwrap_or_default();
        let hosts = hosts.split(',').map(|host| {
            let options = PgConnectOptions::from_str(&format!("postgres://{user}{host}/{path}{query}"));
            let options = options.map_err(|_| invalid())?;
            Ok(options.application_name("runloom").extra_float_digits(None).disable_statement_logging())
        });
        let hosts = hosts.collect::<Result<Vec<_>>>()?;
        Ok(Self { is_read_write: is_read_write || hosts.len() > 1, hosts })
    }

    /// The database as an error names it, without the password.
    pub fn name(&self) -> String {
        let hosts: Vec<String> = self
            .hosts
            .iter()
            .map(|host| match host.get_socket() {
                Some(socket) => socket.display().to_string(),
                None => format!("{}:{}", host.get_host(), host.get_port()),
            })
            .collect();
        let first = self.hosts.first();
        let user = first.map_or("", |host| host.get_username());
        let database = first.and_then(|host| host.get_database()).unwrap_or(user);
        format!("database {database} at {}", hosts.join(", "))
    }

    /// The user, for errors.
    pub fn user(&self) -> &str {
        self.hosts.first().map_or("", |host| host.get_username())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_several_hosts_and_what_it_says_of_itself_has_no_password() {
        let target =
            Target::parse("postgres://me:s3cret@one:5433,two/db?sslmode=verify-full&target_session_attrs=read-write")
                .unwrap();
        assert_eq!(target.hosts.len(), 2);
        assert!(target.is_read_write);
        assert_eq!(target.name(), "database db at one:5433, two:5432");
        assert_eq!(target.user(), "me");
        assert!(!Target::parse("postgres://me@one/db").unwrap().is_read_write);
        for bad in ["mysql://me:s3cret@host/x", "s3cret", "postgres://me:s3cret@one:x/db"] {
            let error = Target::parse(bad).err().unwrap().to_string();
            assert!(error.contains("postgres://user:password@host") && !error.contains("s3cret"), "{error}");
        }
        let error = Target::parse("postgres://a/b?target_session_attrs=standby").err().unwrap().to_string();
        assert!(error.contains("standby"), "{error}");
    }
}
