//! A store in Postgres, which several servers share.
//!
//! Each operation is one transaction. Conflicts are retried inside the store; a connection that is lost in a commit is
//! resolved by asking the database for the outcome ([`tx`]). Log records and checkpoints of a run are written in the order
//! of the calls, many in one transaction where many have gathered ([`lanes`]). Other servers hear of changes by notices
//! ([`notices`]). Leases go by the clock of the database.

mod assistants;
mod chain;
mod checkpoints;
mod claims;
mod crons;
mod fault;
mod graphs;
mod health;
mod items;
mod keys;
mod lanes;
mod logs;
mod migrate;
mod notices;
mod options;
mod pools;
mod run_rows;
mod runs;
mod schedules;
mod sql;
#[cfg(feature = "testing")]
pub mod testing;
mod threads;
mod transfer;
mod tx;
mod upkeep;

use std::{fmt, sync::Arc, time::SystemTime};

use async_trait::async_trait;
use runloom_engine::items::{ItemStore, NodeCache};
use runloom_store::{
    Error, Health, Hub, Result, Store, StoreStats, TenantId, Topic, Watch, stats::Counters, time::nanos,
};
use sqlx::{Connection, postgres::PgConnection};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

pub use migrate::Schema;
pub use options::{Listen, OpenOptions};

use self::{
    fault::{Class, Fault},
    health::HealthState,
    lanes::Lanes,
    notices::Outbox,
    options::Target,
    pools::Pools,
};

/// Stores everything in a database of Postgres 15 or later.
#[derive(Clone)]
pub struct PostgresStore {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    options: OpenOptions,
    pools: Arc<Pools>,
    lanes: Lanes,
    health: Arc<HealthState>,
    counters: Counters,
    hub: Arc<Hub>,
    outbox: Arc<Outbox>,
    name: String,
    /// Ends the tasks in the background with the last handle.
    _stop: DropGuard,
}

impl PostgresStore {
    /// Opens the store of a database, and brings its schema to the newest version. Call it within a runtime of tokio.
    pub async fn open(options: OpenOptions) -> Result<Self> {
        // Another part of the program may have chosen one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let target = Target::parse(&options.url)?;
        let listen = match &options.listen {
            Listen::Direct => Some(target.clone()),
            Listen::Url(url) => Some(Target::parse(url)?),
            Listen::Off => None,
        };
        let (mut conn, first) = connect(&target).await?;
        migrate::run(&mut conn, &target).await.map_err(Error::from)?;
        let _ = conn.close().await;
        let stop = CancellationToken::new();
        let pools = Arc::new(Pools::new(&options, target.clone(), first));
        let health = Arc::new(HealthState::new());
        let (hub, outbox) = (Arc::<Hub>::default(), Arc::new(Outbox::new()));
        tokio::spawn(health.clone().watch(pools.clone(), stop.clone()));
        tokio::spawn(outbox.clone().send(pools.aux.clone(), stop.clone()));
        match listen {
            Some(target) => drop(tokio::spawn(outbox.clone().listen(target, hub.clone(), stop.clone()))),
            None => drop(tokio::spawn(notices::poll(hub.clone(), stop.clone()))),
        }
        let inner = Inner {
            lanes: Lanes::new(options.queue_bytes.max(1)),
            pools,
            health,
            counters: Counters::default(),
            hub,
            outbox,
            name: target.name(),
            _stop: stop.drop_guard(),
            options,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Reads the versions of a database's schema without changing anything.
    pub async fn schema(url: &str) -> Result<Schema> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (mut conn, _) = connect(&Target::parse(url)?).await?;
        let schema = migrate::read(&mut conn).await.map_err(Error::from);
        let _ = conn.close().await;
        schema
    }

    /// The database and its hosts, without the password.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    fn now(&self) -> SystemTime {
        self.inner.options.clock.now()
    }

    fn uuid(&self) -> Uuid {
        self.inner.options.clock.uuid()
    }

    /// The time of leases as a parameter of SQL: none for the clock of the database.
    fn lease_time(&self) -> Option<i64> {
        (!self.inner.options.database_time).then(|| nanos(self.now()))
    }
}

/// The first connection: its errors are told to whoever starts a server.
async fn connect(target: &Target) -> Result<(PgConnection, sqlx::postgres::PgConnectOptions)> {
    let opened = async {
        let host = target.first_serving().await?;
        Ok::<_, sqlx::Error>((PgConnection::connect_with(&host).await?, host))
    };
    opened.await.map_err(|error| Error::Connect { target: target.name(), reason: reason(&error, target) })
}

/// Why a database cannot be opened, and what to do.
fn reason(error: &sqlx::Error, target: &Target) -> String {
    match error {
        sqlx::Error::Database(of) => match &*of.code().unwrap_or_default() {
            "28P01" | "28000" => {
                format!("{}; check the user `{}` and the password", of.message(), target.user())
            }
            "3D000" => format!("{}; create it first: CREATE DATABASE", of.message()),
            "57P03" => format!("{}; try again when it has started", of.message()),
            _ => of.message().to_owned(),
        },
        sqlx::Error::PoolTimedOut => "no host answered in time".to_owned(),
        sqlx::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}

impl Inner {
    /// Notes a failure of the database that others will meet as well.
    fn note(&self, class: Class, error: &sqlx::Error) {
        if matches!(class, Class::Lost | Class::ReadOnly) {
            let reason = match error {
                sqlx::Error::Database(of) => of.message().to_owned(),
                other => other.to_string(),
            };
            self.health.fail(&reason);
        }
    }

    /// Wakes watchers here at once, and those of other servers soon.
    fn publish(&self, topics: Vec<Topic>) {
        self.hub.publish(&topics);
        self.outbox.push(topics);
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").field("database", &self.inner.name).finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for PostgresStore {
    fn items(&self, tenant: &TenantId) -> Arc<dyn ItemStore> {
        Arc::new(items::PostgresItems { store: self.clone(), tenant: tenant.clone() })
    }

    fn node_cache(&self, tenant: &TenantId) -> Arc<dyn NodeCache> {
        Arc::new(items::PostgresCache { store: self.clone(), tenant: tenant.clone() })
    }

    fn watch(&self, topic: Topic) -> Watch {
        self.inner.hub.watch(topic)
    }

    async fn room(&self) {
        self.inner.lanes.room().await;
    }

    async fn flush(&self) -> Result<()> {
        self.inner.lanes.flush().await;
        Ok(())
    }

    async fn close(&self) -> Result<()> {
        self.inner.lanes.flush().await;
        self.inner.pools.close().await;
        Ok(())
    }

    async fn ping(&self) -> Result<()> {
        let pinged = health::ping(&self.inner.pools).await;
        if let Err(error) = &pinged {
            self.inner.note(fault::classify(error), error);
        }
        pinged.map_err(|error| Fault::from(error).into())
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.inner.health.sender.subscribe()
    }

    fn stats(&self) -> StoreStats {
        self.inner.counters.read()
    }
}
