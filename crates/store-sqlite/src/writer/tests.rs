//! Group commit: who is answered, when, and with what.

use runloom_engine::SystemClock;

use super::*;
use crate::sql::first;

fn shared() -> Shared {
    Shared {
        queue: Queue::new(1 << 20),
        health: watch::Sender::new(Health::Serving),
        counters: Counters::default(),
        clock: Arc::new(SystemClock),
        hub: Arc::default(),
    }
}

fn database() -> Connection {
    let conn = Connection::open_in_memory().unwrap();
    conn.execute_batch("CREATE TABLE t (x INTEGER PRIMARY KEY); CREATE TABLE probe (n INTEGER PRIMARY KEY, at, fill)")
        .unwrap();
    conn
}

fn there(conn: &Connection) -> Vec<i64> {
    conn.all("SELECT x FROM t ORDER BY x", [], first).unwrap()
}

fn insert(tx: &Tx<'_>, x: i64) -> Result<i64> {
    tx.run("INSERT INTO t VALUES (?1)", [x])?;
    tx.stats.borrow_mut().log_records += 1;
    Ok(x)
}

/// Takes all that waits, and commits it as one transaction.
fn commit_all(conn: &Connection, shared: &Shared) -> Result<()> {
    let Taken::Entries(jobs, _) = shared.queue.take(None) else { panic!("nothing waits") };
    commit(conn, jobs, shared)
}

#[tokio::test]
async fn a_write_that_fails_leaves_nothing_and_the_others_whole() {
    let (conn, shared) = (database(), shared());
    let one = shared.begin(0, |tx| insert(tx, 1));
    let refused = shared.begin(0, |tx| {
        insert(tx, 2)?;
        Err::<(), _>(Error::Invalid("refused".into()))
    });
    let twice = shared.begin(0, |tx| insert(tx, 1));
    let panics = shared.begin(0, |tx| {
        insert(tx, 3)?;
        assert!(tx.is_autocommit(), "this write is a bug");
        Ok(())
    });
    let four = shared.begin(0, |tx| insert(tx, 4));
    commit_all(&conn, &shared).unwrap();
    assert_eq!((one.await, four.await), (Ok(1), Ok(4)));
    assert_eq!(refused.await, Err(Error::Invalid("refused".into())));
    assert!(matches!(twice.await, Err(Error::Corrupt(_))));
    assert!(matches!(panics.await, Err(Error::Corrupt(_))));
    assert_eq!(there(&conn), [1, 4]);
    let stats = shared.counters.read();
    assert_eq!((stats.commits, stats.writes, stats.log_records), (1, 5, 2), "what is not kept is not counted");
}

#[tokio::test]
async fn nobody_is_told_yes_where_the_transaction_is_lost() {
    let (conn, shared) = (database(), shared());
    let before = shared.begin(0, |tx| insert(tx, 1));
    // As SQLite itself does on some failures of the disk.
    let fatal = shared.begin(0, |tx| {
        tx.run("ROLLBACK", [])?;
        Err::<(), _>(Error::Unavailable("the disk failed".into()))
    });
    let after = shared.begin(0, |tx| insert(tx, 2));
    assert!(matches!(commit_all(&conn, &shared), Err(Error::Unavailable(_))));
    for lost in [before.await.map(|_| ()), fatal.await, after.await.map(|_| ())] {
        assert_eq!(lost, Err(Error::Unavailable("the disk failed".into())));
    }
    assert_eq!(there(&conn), [0; 0]);

    // One that cannot be committed: what it holds open is refused at the end.
    conn.execute_batch("PRAGMA foreign_keys = on; CREATE TABLE u (x REFERENCES t (x) DEFERRABLE INITIALLY DEFERRED)")
        .unwrap();
    let good = shared.begin(0, |tx| insert(tx, 3));
    let dangling = shared.begin(0, |tx| tx.run("INSERT INTO u VALUES (99)", []));
    assert!(commit_all(&conn, &shared).is_err());
    assert!(good.await.is_err() && dangling.await.is_err(), "no answer before the commit");
    assert_eq!(there(&conn), [0; 0]);
    assert_eq!(shared.counters.read().failed_commits, 2);

    let works = shared.begin(0, |tx| insert(tx, 5));
    commit_all(&conn, &shared).unwrap();
    assert_eq!((works.await, there(&conn)), (Ok(5), vec![5]));
}

#[tokio::test]
async fn a_closed_writer_writes_what_waits_and_refuses_the_rest() {
    let shared = Arc::new(shared());
    let waiting: Vec<_> = (0..100).map(|x| shared.begin(0, move |tx| insert(tx, x))).collect();
    shared.queue.close();
    let late = shared.begin(0, |tx| insert(tx, 100));
    let (conn, for_writer) = (database(), shared.clone());
    std::thread::spawn(move || run(conn, &for_writer)).join().unwrap();
    for (x, write) in (0..).zip(waiting) {
        assert_eq!(write.await, Ok(x));
    }
    assert!(matches!(late.await, Err(Error::Unavailable(_))));
}

#[test]
fn the_log_is_put_away_when_it_is_long_and_no_reader_is_waited_for_twice() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("db");
    let conn = Connection::open(&file).unwrap();
    conn.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(())).unwrap();
    conn.execute_batch("PRAGMA wal_autocheckpoint = 0; CREATE TABLE t (x)").unwrap();
    let mut log = LogFile::of(&conn, 100_000);
    let size = || std::fs::metadata(folder.path().join("db-wal")).unwrap().len();
    let grow = |to: u64| {
        while size() <= to {
            conn.execute("INSERT INTO t VALUES (zeroblob(10000))", []).unwrap();
        }
    };
    grow(50_000);
    log.keep_small(&conn);
    assert!(size() > 50_000, "it is short");
    grow(100_000);
    log.keep_small(&conn);
    assert_eq!(size(), 0);

    let reader = Connection::open(&file).unwrap();
    grow(50_000);
    reader.execute_batch("BEGIN; SELECT count(*) FROM t").unwrap();
    grow(100_000);
    log.keep_small(&conn);
    let left = size();
    assert!(left > 100_000 && log.next == left + 100_000, "a reader is in the way");
    reader.execute_batch("COMMIT").unwrap();
    log.keep_small(&conn);
    assert_eq!(size(), left, "not at every commit");
    grow(left + 100_000);
    log.keep_small(&conn);
    assert_eq!((size(), log.next), (0, 100_000));
}
