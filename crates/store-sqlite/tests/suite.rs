//! The store in SQLite does what every store does.

// The functions of the suite are tests, though no attribute says so.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use runloom_store::testing::{Fixture, TestClock};
use runloom_store_sqlite::{OpenOptions, SqliteStore};

fn open() -> Fixture {
    let clock = TestClock::new();
    let keep = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(OpenOptions { clock: clock.clone(), ..OpenOptions::new(keep.path()) }).unwrap();
    Fixture::new(Arc::new(store), clock, Some(Box::new(keep)))
}

runloom_store::testing::suite!(open);
