//! The store through PgBouncer in transaction mode does what every store does.

// The functions of the suite are tests, though no attribute says so.
#![allow(clippy::unwrap_used)]

use std::sync::{Arc, OnceLock};

use runloom_store::testing::{Fixture, TestClock};
use runloom_store_postgres::{
    Listen, OpenOptions, PostgresStore,
    testing::{Pooler, server},
};
use tokio::runtime::Handle;

fn open() -> Option<Fixture> {
    static POOLER: OnceLock<Option<Pooler>> = OnceLock::new();
    let server = server()?;
    let pooler = POOLER.get_or_init(|| Pooler::start_if_there(server)).as_ref()?;
    let clock = TestClock::new();
    let store = tokio::task::block_in_place(|| {
        Handle::current().block_on(async {
            let database = server.database().await;
            let options = OpenOptions {
                clock: clock.clone(),
                database_time: false,
                connections: 4,
                listen: Listen::Url(server.url(&database)),
                ..OpenOptions::new(pooler.url(&database))
            };
            PostgresStore::open(options).await.unwrap()
        })
    });
    Some(Fixture::new(Arc::new(store), clock, None))
}

runloom_store::testing::suite!(open);
