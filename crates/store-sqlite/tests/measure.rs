//! What a step costs on the disk, on a thread of 10 messages and of 10,000: about the same.

// The helpers here are tests, though no attribute says so.
#![allow(clippy::unwrap_used, dead_code, unused_macros)]

use std::{path::Path, sync::Arc, time::Instant};

use runloom_engine::{
    Value,
    checkpoint::{Change, CheckpointFilter},
    value,
};
use runloom_store::testing::{Fixture, Line, TestClock, done, object, record};
use runloom_store::{Attempt, StoreStats, TenantId};
use runloom_store_sqlite::{OpenOptions, SqliteStore};

fn open(folder: &Path, clock: Arc<TestClock>) -> Fixture {
    let store = SqliteStore::open(OpenOptions { clock: clock.clone(), ..OpenOptions::new(folder) }).unwrap();
    Fixture::new(Arc::new(store), clock, None)
}

/// A message of about 250 bytes.
fn message(i: usize) -> Value {
    let text = format!("Message {i}: the quick brown fox jumps over the lazy dog, and goes on to the next field. ");
    value!({"type": "ai", "id": format!("run-{i:032x}"), "content": text, "tool_calls": [], "response_metadata": {"model": "m"}})
}

/// A step as the engine makes it: its task is recorded, then its checkpoint put.
async fn step(f: &Fixture, attempt: Attempt, line: &Line, i: usize) -> Line {
    let checkpointer = f.store.checkpointer(&TenantId::default(), attempt);
    let task = checkpointer.put_task(line.thread, &line.ns, line.id, done(i as u128, Value::from(vec![message(i)])));
    let next = line.next().with("messages", Change::Append(Value::from(vec![message(i)])));
    let put = checkpointer.put(next.write(Some(attempt)));
    if i.is_multiple_of(64) {
        task.await.unwrap();
        put.await.unwrap();
    }
    next
}

/// Bytes a step: of deltas and tasks, and of snapshots.
fn per_step(before: StoreStats, after: StoreStats, steps: usize) -> (f64, f64) {
    let rows = after.checkpoint_bytes + after.task_bytes - before.checkpoint_bytes - before.task_bytes;
    let snapshots = after.snapshot_bytes - before.snapshot_bytes;
    (rows as f64 / steps as f64, snapshots as f64 / steps as f64)
}

#[tokio::test]
async fn a_step_costs_what_it_writes_whatever_the_length_of_the_thread() {
    const STEPS: usize = 50;
    let mut figures = Vec::new();
    for messages in [10, 10_000] {
        let folder = tempfile::tempdir().unwrap();
        let mut f = open(folder.path(), TestClock::new());
        let thread = f.thread().await;
        let mut attempt = f.running(thread).await.attempt;
        let mut line = Line::new(&f, thread, "").set("messages", value!([]));
        line.metadata = object(value!({"graph_id": "agent", "assistant_id": "fe096781-5601-53d2-b2f6-0d3403f7e9ca"}));
        f.put(&line, Some(attempt)).await;
        let started = Instant::now();
        for i in 1..=messages {
            line = step(&f, attempt, &line, i).await;
        }
        f.store.flush().await.unwrap();
        let grown = f.store.stats();
        println!("{messages} messages: grown in {:?}", started.elapsed());
        let (rows, snapshots) = per_step(StoreStats::default(), grown, messages);
        println!("  on the way: {rows:.0} B a step, snapshots {snapshots:.0} B a step ({})", grown.snapshots);
        // A step's row counts what it takes beside its bytes, and so may snapshots.
        let counted = grown.checkpoint_bytes as f64 + (messages as u64 * runloom_store::delta::ROW_BYTES) as f64;
        assert!(grown.snapshot_bytes as f64 <= 2.0 * counted, "snapshots take more than twice the rows");

        // Opened again, the write-ahead log is empty: its size is then what went to the disk.
        let clock = f.clock.clone();
        drop(f);
        f = open(folder.path(), clock);
        attempt = f.begin(attempt).await.attempt;
        let before = f.store.stats();
        let wal = || std::fs::metadata(folder.path().join("runloom.db-wal")).unwrap().len();
        let wal_before = wal();
        for i in 0..STEPS {
            line = step(&f, attempt, &line, messages + i + 1).await;
            f.store.flush().await.unwrap();
        }
        let (rows, snapshots) = per_step(before, f.store.stats(), STEPS);
        let disk = (wal() - wal_before) as f64 / STEPS as f64;
        println!("  next {STEPS}: {rows:.0} B a step, snapshots {snapshots:.0} B a step, log file {disk:.0} B a step");
        figures.push((rows, snapshots, disk));

        let hand = f.store.checkpointer_by_hand(&TenantId::default(), None);
        let started = Instant::now();
        let saved = hand.get(thread, "", None).await.unwrap().unwrap();
        println!("  the latest read in {:?}", started.elapsed());
        line.assert_kept(&saved, line.parent);
        let started = Instant::now();
        let filter = CheckpointFilter { limit: Some(20), ..Default::default() };
        assert_eq!(hand.list(thread, "", filter).await.unwrap().len(), 20);
        println!("  the last 20 read in {:?}", started.elapsed());
        let started = Instant::now();
        let all = hand.list(thread, "", CheckpointFilter::default()).await.unwrap().len();
        println!("  all {all} read in {:?}", started.elapsed());
    }
    let [short, long] = figures[..] else { panic!("two figures") };
    assert!(long.0 / short.0 < 1.5, "rows: {} against {}", long.0, short.0);
    assert!(long.0 + long.1 < 1.5 * (short.0 + short.1), "with snapshots: {long:?} against {short:?}");
    assert!(long.2 / short.2 < 1.5, "on the disk: {} against {}", long.2, short.2);
}

/// Run with `--release -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures; asserts nothing"]
async fn how_many_appends_a_second() {
    for writers in [1, 16, 64, 256] {
        let folder = tempfile::tempdir().unwrap();
        let f = open(folder.path(), TestClock::new());
        let mut attempts = Vec::new();
        for _ in 0..writers {
            attempts.push(f.running(f.thread().await).await.attempt);
        }
        let each = 40_000 / writers.max(8) as u64;
        let (before, started) = (f.store.stats(), Instant::now());
        let tasks = attempts.into_iter().map(|attempt| {
            let store = f.store.clone();
            tokio::spawn(async move {
                let text = "x".repeat(280);
                for seq in 1..=each {
                    store.append_log(attempt, vec![record(seq, &text)]).await.unwrap();
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        let took = started.elapsed();
        let (writes, commits) = (each * writers as u64, f.store.stats().commits - before.commits);
        let rate = writes as f64 / took.as_secs_f64();
        println!(
            "{writers} writers: {rate:.0} appends/s, {:.1} a transaction, {:.2} ms each",
            writes as f64 / commits as f64,
            took.as_secs_f64() * 1000.0 / each as f64
        );
    }
}
