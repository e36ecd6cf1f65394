//! Several servers on one store, in memory and on SQLite in one process.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{sync::Arc, time::Instant};

use runloom_store_memory::MemoryStore;
use runloom_store_sqlite::{OpenOptions, SqliteStore};
use runloom_testing::{Machine, Shared, TTL, World, machine};

mod memory {
    use super::*;

    async fn open() -> Shared {
        Shared::one(Arc::new(MemoryStore::new()), ())
    }
    runloom_testing::servers!(open);
}

mod sqlite {
    use super::*;

    pub async fn open() -> Shared {
        let folder = tempfile::tempdir().unwrap();
        Shared::one(Arc::new(SqliteStore::open(OpenOptions::new(folder.path())).unwrap()), folder)
    }
    runloom_testing::servers!(open);
}

// G37
/// Another connection holds the write lock of the file, so that no write of the server's comes through.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_cannot_renew_stops_its_runs_before_its_lease_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::default();
    let shared = Shared::one(Arc::new(SqliteStore::open(OpenOptions::new(folder.path())).unwrap()), ());
    let a = Machine::start(&shared, &world).await;
    let thread = machine::thread(&a).await;
    let run = a.create(thread, "g").await;
    world.until(|world| world.count("two:g") == 1).await;
    let lock = rusqlite::Connection::open(folder.path().join("runloom.db")).unwrap();
    lock.busy_timeout(TTL).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let locked = Instant::now();
    world.until(|world| world.count("stopped:g") == 1).await;
    let took = locked.elapsed();
    // The lease was renewed before the lock was taken, and lasts that long at most.
    assert!(took < TTL, "it took {took:?}");
    lock.execute_batch("ROLLBACK").unwrap();
    world.until(|world| world.count("two:g") == 2).await;
    world.open("g");
    let end = machine::soon(a.session.wait_run(run)).await.unwrap();
    assert_eq!(end.end.status, runloom_core::store::RunStatus::Succeeded);
}
