//! The store in memory does what every store does.

// The functions of the suite are tests, though no attribute says so.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use runloom_store::MemoryStore;

mod suite;

fn open() -> suite::Fixture {
    let clock = suite::TestClock::new();
    suite::Fixture { store: Arc::new(MemoryStore::with_clock(clock.clone())), clock, _keep: None }
}

store_suite!();
