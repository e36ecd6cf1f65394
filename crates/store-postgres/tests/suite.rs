//! The store in Postgres does what every store does.

// The functions of the suite are tests, though no attribute says so.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use runloom_store::testing::{Fixture, TestClock};
use runloom_store_postgres::{OpenOptions, PostgresStore, testing::server};
use tokio::runtime::Handle;

fn open() -> Option<Fixture> {
    let server = server()?;
    let clock = TestClock::new();
    let store = tokio::task::block_in_place(|| {
        Handle::current().block_on(async {
            let url = server.url(&server.database().await);
            let options =
                OpenOptions { clock: clock.clone(), database_time: false, connections: 4, ..OpenOptions::new(url) };
            PostgresStore::open(options).await.unwrap()
        })
    });
    Some(Fixture::new(Arc::new(store), clock, None))
}

runloom_store::testing::suite!(open);
