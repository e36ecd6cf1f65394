//! The store in memory does what every store does.

// The functions of the suite are tests, though no attribute says so.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use runloom_store::testing::{Fixture, TestClock};
use runloom_store_memory::MemoryStore;

fn open() -> Fixture {
    let clock = TestClock::new();
    Fixture::new(Arc::new(MemoryStore::with_clock(clock.clone())), clock, None)
}

runloom_store::testing::suite!(open);
