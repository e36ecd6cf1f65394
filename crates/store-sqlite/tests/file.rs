//! What is SQLite's own: the file, its folder and lock, what survives, what happens when nothing can be written.

// The helpers here are tests, though no attribute says so.
#![allow(clippy::unwrap_used, dead_code, unused_macros)]

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use runloom_engine::{checkpoint::Change, value};
use runloom_store::testing::{self, Fixture, Line, TestClock, done, record};
use runloom_store::{
    Attempt, Claims, Error, Health, LogRecord, Logs, NewAssistant, NewThread, ReadLimit, Runs, TenantId, Threads,
};
use runloom_store_sqlite::{OpenOptions, SqliteStore};

fn open(folder: &Path) -> Fixture {
    open_with(OpenOptions::new(folder), TestClock::new())
}

fn open_with(options: OpenOptions, clock: Arc<TestClock>) -> Fixture {
    let store = SqliteStore::open(OpenOptions { clock: clock.clone(), ..options }).unwrap();
    Fixture::new(Arc::new(store), clock, None)
}

#[tokio::test]
async fn everything_is_there_after_the_store_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let f = open(folder.path());
    let thread = f.thread().await;
    let begun = f.running(thread).await;
    let first = Line::new(&f, thread, "").set("list", value!([1, 2.0]));
    let second = first.next().with("list", Change::Append(value!([{"a": u64::MAX}])));
    for line in [&first, &second] {
        f.put(line, Some(begun.attempt)).await;
    }
    let assistant = f
        .store
        .create_assistant(&TenantId::default(), NewAssistant { name: "a".into(), ..Default::default() })
        .await
        .unwrap();
    let graph = f.store.put_graph(&TenantId::default(), "g", "r", "text").await.unwrap();
    f.store.items(&TenantId::default()).put(&["ns".into()], "k", testing::object(value!({"x": 1}))).await.unwrap();
    f.store.node_cache(&TenantId::default()).put("k", value!(7), None).await;
    // Nobody waits for these: they are written all the same.
    drop(f.store.append_log(begun.attempt, vec![record(1, "a"), record(2, "b")]));
    drop(f.store.reserve_log(begun.attempt, 50));
    let checkpointer = f.store.checkpointer(&TenantId::default(), begun.attempt);
    drop(checkpointer.put_task(thread, &"".into(), second.id, done(1, 1)));
    let run = f.store.get_run(&TenantId::default(), begun.run.id).await.unwrap();
    let record_of_thread = f.store.get_thread(&TenantId::default(), thread).await.unwrap();
    let clock = f.clock.clone();
    drop((f, checkpointer));

    assert!(!folder.path().join("runloom.db-wal").exists(), "a store that is closed leaves one file");
    let f = open_with(OpenOptions::new(folder.path()), clock);
    assert_eq!(f.store.get_thread(&TenantId::default(), thread).await.unwrap(), record_of_thread);
    assert_eq!(f.store.get_run(&TenantId::default(), run.id).await.unwrap(), run);
    second.assert_kept(&f.get(thread, "", second.id).await.unwrap(), Some(first.id));
    assert_eq!(f.get(thread, "", second.id).await.unwrap().tasks, [done(1, 1)]);
    assert_eq!(f.store.get_assistant(&TenantId::default(), assistant.id).await.unwrap(), assistant);
    assert_eq!(f.store.get_graph(&TenantId::default(), "g", None).await.unwrap(), graph);
    assert_eq!(
        f.store.items(&TenantId::default()).get(&["ns".into()], "k").await.unwrap().unwrap().value,
        testing::object(value!({"x": 1}))
    );
    assert_eq!(f.store.node_cache(&TenantId::default()).get("k").await, Some(value!(7)));
    let log = f.store.read_log(&TenantId::default(), run.id, 1, ReadLimit::default()).await.unwrap();
    assert_eq!(log, [record(1, "a"), record(2, "b")]);

    // What ran is taken up again, past all that may have been sent.
    let again = f.begin(run.current()).await;
    assert_eq!((again.attempt.number, again.first_seq), (2, 50));
    let third = second.next().with("list", Change::Append(value!([3])));
    f.put(&third, Some(again.attempt)).await;
    third.assert_kept(&f.get(thread, "", third.id).await.unwrap(), Some(second.id));
}

#[tokio::test]
async fn what_is_deleted_leaves_no_row_behind() {
    let folder = tempfile::tempdir().unwrap();
    let f = open(folder.path());
    let thread = f.thread().await;
    let attempt = f.running(thread).await.attempt;
    f.store.append_log(attempt, vec![record(1, "a")]).await.unwrap();
    f.store.reserve_log(attempt, 10).await.unwrap();
    let line = Line::new(&f, thread, "").set("x", value!(1));
    f.put(&line, Some(attempt)).await;
    f.put(&line.next(), Some(attempt)).await;
    f.store
        .checkpointer(&TenantId::default(), attempt)
        .put_task(thread, &"".into(), line.id, done(1, 1))
        .await
        .unwrap();
    let copy = f.store.copy_thread(&TenantId::default(), thread, None).await.unwrap();
    let assistant = f.store.create_assistant(&TenantId::default(), NewAssistant::default()).await.unwrap();
    f.store.update_assistant(&TenantId::default(), assistant.id, Default::default()).await.unwrap();
    f.store.put_graph(&TenantId::default(), "g", "r", "text").await.unwrap();

    f.store.delete_thread(&TenantId::default(), thread).await.unwrap();
    f.store.delete_thread(&TenantId::default(), copy.id).await.unwrap();
    f.store.delete_assistant(&TenantId::default(), assistant.id).await.unwrap();
    f.store.delete_graph(&TenantId::default(), "g").await.unwrap();
    f.store.release_server(f.server().await).await.unwrap();
    let conn = rusqlite::Connection::open(folder.path().join("runloom.db")).unwrap();
    let mut tables = conn.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'").unwrap();
    let tables: Vec<String> = tables.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    assert!(tables.len() > 10);
    for table in tables.iter().filter(|table| !table.starts_with("sqlite_")) {
        let rows: i64 = conn.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 0, "in {table}");
    }
}

#[tokio::test]
async fn two_servers_do_not_share_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path());
    let refused = SqliteStore::open(OpenOptions::new(folder.path())).unwrap_err();
    assert_eq!(refused, Error::Locked { folder: folder.path().into() });
    assert!(refused.to_string().contains(folder.path().to_str().unwrap()), "{refused}");
    first.thread().await;
    let clock = first.clock.clone();
    drop(first);
    open_with(OpenOptions::new(folder.path()), clock).thread().await;
}

#[test]
fn a_file_of_a_newer_version_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let file = folder.path().join("runloom.db");
    let conn = rusqlite::Connection::open(&file).unwrap();
    let known: i64 = conn.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    conn.pragma_update(None, "user_version", known + 98).unwrap();
    let refused = SqliteStore::open(OpenOptions::new(folder.path())).unwrap_err();
    assert_eq!(refused, Error::Newer { file, found: known + 98, known });
    let message = refused.to_string();
    assert!(message.contains(&format!("version {}", known + 98)) && message.contains(&format!("up to {known}")));
    conn.pragma_update(None, "user_version", known).unwrap();
    drop(conn);
    open(folder.path());
}

#[test]
fn a_file_that_is_not_ours_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("runloom.db");
    rusqlite::Connection::open(&file).unwrap().execute_batch("CREATE TABLE precious (x)").unwrap();
    let refused = SqliteStore::open(OpenOptions::new(folder.path())).unwrap_err();
    assert!(matches!(&refused, Error::Corrupt(message) if message.contains("not one of Runloom's")), "{refused}");
    let conn = rusqlite::Connection::open(&file).unwrap();
    assert_eq!(conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0)).unwrap(), 1);
    drop(conn);
    std::fs::write(&file, "this is no database, however long it may be".repeat(100)).unwrap();
    let refused = SqliteStore::open(OpenOptions::new(folder.path())).unwrap_err();
    assert!(matches!(&refused, Error::Corrupt(message) if message.contains("no database")), "{refused}");
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    // Below a file, where even the superuser makes no folder.
    let inside = folder.path().join("file").join("data");
    std::fs::write(folder.path().join("file"), "").unwrap();
    let refused = SqliteStore::open(OpenOptions::new(&inside)).unwrap_err();
    assert!(matches!(&refused, Error::NotWritable { folder, .. } if *folder == inside), "{refused}");
    assert!(refused.to_string().contains(inside.to_str().unwrap()), "{refused}");
    // A folder stands where the file should.
    std::fs::create_dir_all(folder.path().join("runloom.db")).unwrap();
    let refused = SqliteStore::open(OpenOptions::new(folder.path())).unwrap_err();
    assert!(matches!(&refused, Error::NotWritable { .. }), "{refused}");
}

#[tokio::test]
async fn a_full_disk_is_said_by_the_write_and_by_health_and_passes() {
    let folder = tempfile::tempdir().unwrap();
    let options = OpenOptions { max_bytes: Some(1 << 20), ..OpenOptions::new(folder.path()) };
    let f = open_with(options, TestClock::new());
    let mut health = f.store.health();
    let (thread, other) = (f.thread().await, f.running(f.thread().await).await.attempt);
    let attempt = f.running(thread).await.attempt;
    let big = "x".repeat(100_000);
    let (mut kept, mut small) = (0, 0);
    let full = loop {
        // One of another run, which may be in the same transaction: the disk's failure is then that of both.
        let append = f.store.append_log(attempt, vec![record(kept + 1, &big)]);
        let beside = f.store.append_log(other, vec![record(kept + 1, "small")]);
        let appended = append.await;
        small += u64::from(beside.await.is_ok());
        match appended {
            Ok(()) => kept += 1,
            Err(error) => break error,
        }
        assert!(kept < 11, "the limit is no limit");
    };
    assert!(matches!(&full, Error::Unavailable(message) if message.contains("full")), "{full}");
    tokio::time::timeout(Duration::from_secs(2), health.wait_for(|h| !h.is_serving())).await.unwrap().unwrap();
    assert!(matches!(&*health.borrow(), Health::Failing(reason) if reason.contains("full")));
    let log = f
        .store
        .read_log(&TenantId::default(), attempt.run, 1, ReadLimit { records: 100, bytes: 1 << 30 })
        .await
        .unwrap();
    assert_eq!(log.len() as u64, kept, "reading goes on, and nothing is there by half");
    assert_eq!(
        f.store.read_log(&TenantId::default(), other.run, 1, ReadLimit::default()).await.unwrap().len() as u64,
        small
    );

    f.store.delete_thread(&TenantId::default(), thread).await.unwrap();
    // Nobody writes now: the store finds out by itself.
    tokio::time::timeout(Duration::from_secs(10), health.wait_for(Health::is_serving)).await.unwrap().unwrap();
    f.store.append_log(other, vec![record(1000, &big)]).await.unwrap();
    f.store.ping().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_gathered_is_committed_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let f = open(folder.path());
    let mut runs = Vec::new();
    for _ in 0..32 {
        runs.push(f.running(f.thread().await).await.attempt);
    }
    let before = f.store.stats();
    let appending = runs.iter().map(|attempt| {
        let (store, attempt) = (f.store.clone(), *attempt);
        tokio::spawn(async move {
            for seq in 1..=50 {
                store.append_log(attempt, vec![record(seq, "x")]).await.unwrap();
            }
        })
    });
    for task in appending.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let after = f.store.stats();
    let (writes, commits) = (after.writes - before.writes, after.commits - before.commits);
    assert_eq!(writes, 32 * 50);
    assert!(commits <= writes / 4, "{writes} writes in {commits} transactions");
    assert_eq!(after.failed_commits, 0);
}

#[tokio::test]
async fn whoever_is_answered_finds_it_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let f = open(folder.path());
    let attempt = f.running(f.thread().await).await.attempt;
    let other = rusqlite::Connection::open(folder.path().join("runloom.db")).unwrap();
    for seq in 1..=100 {
        f.store.append_log(attempt, vec![record(seq, "x")]).await.unwrap();
        let there: i64 = other.query_row("SELECT count(*) FROM log", [], |row| row.get(0)).unwrap();
        assert_eq!(there as u64, seq);
    }
}

/// In the process that is to be killed: appends without end, and says what it was told is kept.
#[tokio::test]
async fn child_that_writes_until_it_is_killed() {
    let Ok(folder) = std::env::var("RUNLOOM_TEST_FOLDER") else { return };
    let store = SqliteStore::open(OpenOptions::new(folder)).unwrap();
    let thread = store.create_thread(&TenantId::default(), NewThread::default()).await.unwrap().id;
    let run = store.create_run(&TenantId::default(), testing::new_run(thread)).await.unwrap().run;
    let attempt = store
        .begin_attempt(
            run.current(),
            store.register_server(Duration::from_secs(60)).await.unwrap(),
            Default::default(),
            0,
        )
        .await
        .unwrap()
        .attempt;
    println!("RUN {}", run.id);
    for seq in 1.. {
        store.append_log(attempt, vec![record(seq, &seq.to_string())]).await.unwrap();
        println!("KEPT {seq}");
        std::io::stdout().flush().unwrap();
    }
}

#[tokio::test]
async fn what_was_answered_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["child_that_writes_until_it_is_killed", "--exact", "--nocapture"])
        .env("RUNLOOM_TEST_FOLDER", folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut run, mut kept) = (None, 0u64);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || lines.next().map(|line| line.unwrap());
    while kept < 200 {
        let line = next().expect("the child goes on until it is killed");
        match line.rsplit_once(' ').map(|(head, tail)| (head.rsplit(' ').next().unwrap_or(head), tail)) {
            Some(("RUN", id)) => run = Some(id.parse::<runloom_engine::RunId>().unwrap()),
            Some(("KEPT", seq)) => kept = seq.parse().unwrap(),
            _ => {}
        }
    }
    child.kill().unwrap();
    // What it still said before it died counts too.
    while let Some(line) = next() {
        if let Some(seq) = line.strip_prefix("KEPT ") {
            kept = seq.parse().unwrap_or(kept);
        }
    }
    child.wait().unwrap();
    let run = run.unwrap();
    let store = SqliteStore::open(OpenOptions::new(folder.path())).unwrap();
    let log = store
        .read_log(&TenantId::default(), run, 1, ReadLimit { records: usize::MAX, bytes: usize::MAX })
        .await
        .unwrap();
    assert!(log.len() as u64 >= kept, "{kept} were answered, {} are there", log.len());
    let expected = |record: &LogRecord, seq: u64| record.seq == seq && record.bytes == seq.to_string();
    assert!((1..).zip(&log).all(|(seq, record)| expected(record, seq)), "and they are whole, in order");
    let begun = store
        .begin_attempt(
            Attempt::new(run, 1),
            store.register_server(Duration::from_secs(60)).await.unwrap(),
            Default::default(),
            0,
        )
        .await
        .unwrap();
    assert_eq!(begun.first_seq, log.len() as u64 + 1);
}

#[tokio::test]
async fn a_file_of_the_first_schema_is_brought_up_to_date_with_what_is_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let old = rusqlite::Connection::open(folder.path().join("runloom.db")).unwrap();
    old.execute_batch(include_str!("../src/schema.sql")).unwrap();
    old.execute_batch(
        "INSERT INTO items (ns, key, created, updated, value) VALUES (CAST('a' || char(0) AS BLOB), 'k', 1, 2, '{\"x\":1}');
         INSERT INTO threads (id, created, updated, state_updated, status, stateless)
             VALUES (x'00000000000000000000000000000007', 1, 2, 3, 0, 0);
         PRAGMA application_id = 1383427660;
         PRAGMA user_version = 1;",
    )
    .unwrap();
    drop(old);
    let f = open(folder.path());
    let item = f.store.items(&TenantId::default()).get(&["a".to_owned()], "k").await.unwrap().unwrap();
    assert_eq!((item.value, item.expires_at), (testing::object(value!({"x": 1})), None));
    let thread =
        f.store.get_thread(&TenantId::default(), runloom_engine::ThreadId(uuid::Uuid::from_u128(7))).await.unwrap();
    assert_eq!(thread.expiry, None);
    assert!(f.store.waiting_crons(9).await.unwrap().is_empty());
    assert!(f.store.waiting_deliveries(9).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_store_that_is_closed_leaves_one_file_though_handles_remain() {
    let folder = tempfile::tempdir().unwrap();
    let f = open(folder.path());
    let thread = f.thread().await;
    // Not awaited: what waits is written.
    drop(f.store.ping());
    f.store.close().await.unwrap();
    let wal = folder.path().join("runloom.db-wal");
    assert!(std::fs::metadata(&wal).map_or(0, |file| file.len()) == 0, "the log is empty or gone");
    assert!(
        matches!(f.store.get_thread(&TenantId::default(), thread).await, Err(Error::Unavailable(_))),
        "later calls are refused"
    );
    assert!(matches!(f.store.ping().await, Err(Error::Unavailable(_))));
    f.store.close().await.unwrap();
}

#[tokio::test]
async fn reads_that_are_never_polled_again_hold_up_no_other_read() {
    let folder = tempfile::tempdir().unwrap();
    let f = open_with(OpenOptions { readers: 2, ..OpenOptions::new(folder.path()) }, TestClock::new());
    let thread = f.thread().await;
    // As the body of a response is that its client does not read: polled once or twice, and then held.
    let tenant = TenantId::default();
    let mut stalled: Vec<_> = (0..64).map(|_| Box::pin(f.store.get_thread(&tenant, thread))).collect();
    for _ in 0..3 {
        for read in &mut stalled {
            let _ = futures_util::poll!(read);
        }
        tokio::task::yield_now().await;
    }
    for _ in 0..10 {
        let read = tokio::time::timeout(Duration::from_secs(10), f.store.get_thread(&tenant, thread));
        read.await.expect("held up by reads that nothing polls").unwrap();
    }
}

#[tokio::test]
async fn statistics_of_an_earlier_version_are_removed() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let file = folder.path().join("runloom.db");
    let has_statistics = || {
        let conn = rusqlite::Connection::open(&file).unwrap();
        let sql = "SELECT count(*) FROM sqlite_schema WHERE name = 'sqlite_stat1'";
        conn.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap() > 0
    };
    // What `PRAGMA optimize` of a small file leaves.
    rusqlite::Connection::open(&file).unwrap().execute_batch("ANALYZE").unwrap();
    assert!(has_statistics());
    let f = open(folder.path());
    f.thread().await;
    drop(f);
    assert!(!has_statistics());
}

#[tokio::test]
async fn what_cannot_be_read_is_named_with_file_table_row_and_column() {
    let folder = tempfile::tempdir().unwrap();
    let f = open(folder.path());
    let thread = f.thread().await;
    let run = f.run(thread).await.id;
    let db = rusqlite::Connection::open(folder.path().join("runloom.db")).unwrap();
    let refused = async |sql: &str| {
        assert_eq!(db.execute(sql, []).unwrap(), 1);
        match f.store.get_run(&TenantId::default(), run).await {
            Err(Error::Corrupt(message)) => message,
            other => panic!("{other:?}"),
        }
    };
    let message = refused("UPDATE runs SET usage = '{\"input'").await;
    for part in ["runloom.db, table runs, row n=", &format!("id={run}"), "column usage: JSON of 7 bytes"] {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
    assert!(refused("UPDATE runs SET usage = NULL, status = 77").await.contains("column status: unknown value 77"));
    assert!(refused("UPDATE runs SET status = 0, attempt = 'x'").await.contains("column attempt: "));
}
