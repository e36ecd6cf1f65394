//! The store in SQLite does what every store does.

// The functions of the suite are tests, though no attribute says so.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use runloom_store::{OpenOptions, SqliteStore};

mod suite;

fn open() -> suite::Fixture {
    let clock = suite::TestClock::new();
    let keep = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(OpenOptions { clock: clock.clone(), ..OpenOptions::new(keep.path()) }).unwrap();
    suite::Fixture { store: Arc::new(store), clock, _keep: Some(keep) }
}

store_suite!();
