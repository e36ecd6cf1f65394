//! Logs, on every store.

use std::time::Duration;

use crate::{Error, LogBounds, MAX_SEQ, ReadLimit, RunEnd, RunStatus, TenantId};
use runloom_engine::Clock;

use super::{Fixture, record};

pub async fn records_come_back_in_order_and_within_limits(f: Fixture) {
    let (a, b) = (f.running(f.thread().await).await.attempt, f.running(f.thread().await).await.attempt);
    for i in 1..=10 {
        f.store.append_log(a, vec![record(2 * i - 1, "aaaa"), record(2 * i, "bbbb")]).await.unwrap();
        f.store.append_log(b, vec![record(i, "other")]).await.unwrap();
    }
    let read = async |from, records, bytes| -> Vec<u64> {
        let read = f.store.read_log(&TenantId::default(), a.run, from, ReadLimit { records, bytes }).await.unwrap();
        read.iter().map(|record| record.seq).collect()
    };
    assert_eq!(read(0, 100, 1000).await, (1..=20).collect::<Vec<_>>());
    assert_eq!(read(7, 3, 1000).await, [7, 8, 9]);
    assert_eq!(read(7, 100, 11).await, [7, 8], "the third would be over");
    assert_eq!(read(7, 100, 12).await, [7, 8, 9]);
    assert_eq!(read(7, 100, 1).await, [7], "the first comes whatever its size");
    assert_eq!(read(7, 0, 100).await, [0; 0]);
    assert_eq!(read(21, 100, 1000).await, [0; 0]);
    assert_eq!(read(u64::MAX, 100, 1000).await, [0; 0]);
    let all = f.store.read_log(&TenantId::default(), b.run, 1, ReadLimit::default()).await.unwrap();
    assert_eq!((all.len(), &all[9]), (10, &record(10, "other")));
    assert_eq!(
        f.store.log_bounds(&TenantId::default(), a.run).await.unwrap(),
        LogBounds { oldest: 1, last: 20, next: 21 }
    );
    assert_eq!(f.store.stats().log_records, 30);
    assert_eq!(f.store.stats().log_bytes, 20 * 4 + 10 * 5);
}

pub async fn records_out_of_order_are_refused_whole(f: Fixture) {
    let attempt = f.running(f.thread().await).await.attempt;
    f.store.append_log(attempt, vec![record(5, "a")]).await.unwrap();
    let cases = [
        vec![record(5, "again")],
        vec![record(4, "before")],
        vec![record(6, "good"), record(6, "twice")],
        vec![record(7, "good"), record(6, "back")],
        vec![record(MAX_SEQ + 1, "past the highest")],
    ];
    for records in cases {
        let refused = f.store.append_log(attempt, records).await;
        assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
    }
    let zero = f.running(f.thread().await).await.attempt;
    assert!(matches!(f.store.append_log(zero, vec![record(0, "none")]).await, Err(Error::Invalid(_))));
    f.store.append_log(attempt, vec![]).await.unwrap();
    f.store.append_log(attempt, vec![record(MAX_SEQ, "the highest")]).await.unwrap();
    let all = f.store.read_log(&TenantId::default(), attempt.run, 1, ReadLimit::default()).await.unwrap();
    assert_eq!(all, [record(5, "a"), record(MAX_SEQ, "the highest")]);
}

// G19
pub async fn appends_keep_the_order_of_the_calls(f: Fixture) {
    let attempt = f.running(f.thread().await).await.attempt;
    let other = f.running(f.thread().await).await.attempt;
    let mut acks = Vec::new();
    for i in 1..=500 {
        acks.push(f.store.append_log(attempt, vec![record(i, &i.to_string())]));
        drop(f.store.append_log(other, vec![record(i, "nobody waits for this")]));
    }
    // One that is refused does not disturb its neighbours.
    let refused = f.store.append_log(attempt, vec![record(3, "out of order")]);
    acks.push(f.store.append_log(attempt, vec![record(501, "501")]));
    assert!(matches!(refused.await, Err(Error::Invalid(_))));
    for ack in acks.into_iter().rev() {
        ack.await.unwrap();
    }
    f.store.flush().await.unwrap();
    let limit = ReadLimit { records: 1000, bytes: 1 << 20 };
    let all = f.store.read_log(&TenantId::default(), attempt.run, 1, limit).await.unwrap();
    assert_eq!(all, (1..=501).map(|i| record(i, &i.to_string())).collect::<Vec<_>>());
    assert_eq!(f.store.read_log(&TenantId::default(), other.run, 1, limit).await.unwrap().len(), 500);
}

// G3, G16
pub async fn a_later_attempt_never_gets_a_number_that_was_reserved(f: Fixture) {
    let run = f.run(f.thread().await).await;
    let first = f.try_begin(run.current(), Default::default(), 100).await.unwrap();
    assert_eq!((first.first_seq, first.reserved), (1, 101));
    f.store.append_log(first.attempt, vec![record(1, "a"), record(2, "b")]).await.unwrap();
    f.store.reserve_log(first.attempt, 300).await.unwrap();
    f.store.reserve_log(first.attempt, 200).await.unwrap();
    let second = f.try_begin(first.attempt, Default::default(), 0).await.unwrap();
    assert_eq!((second.first_seq, second.reserved), (300, 300), "299 may have been sent");
    f.store.append_log(second.attempt, vec![record(300, "c")]).await.unwrap();
    let third = f.begin(second.attempt).await;
    assert_eq!(third.first_seq, 301, "past the last that is there");
    assert_eq!(
        f.store.log_bounds(&TenantId::default(), run.id).await.unwrap(),
        LogBounds { oldest: 1, last: 300, next: 301 }
    );
}

pub async fn a_log_is_trimmed_and_dropped(f: Fixture) {
    let attempt = f.running(f.thread().await).await.attempt;
    let other = f.running(f.thread().await).await.attempt;
    f.store.append_log(attempt, (1..=10).map(|i| record(i, "x")).collect()).await.unwrap();
    f.store.append_log(other, vec![record(1, "x")]).await.unwrap();
    let bounds = async || {
        let LogBounds { oldest, last, next } = f.store.log_bounds(&TenantId::default(), attempt.run).await.unwrap();
        (oldest, last, next)
    };
    f.store.trim_log(&TenantId::default(), attempt.run, 5).await.unwrap();
    assert_eq!(bounds().await, (5, 10, 11));
    f.store.trim_log(&TenantId::default(), attempt.run, 3).await.unwrap();
    assert_eq!(bounds().await, (5, 10, 11), "what is gone is gone");
    assert_eq!(f.store.read_log(&TenantId::default(), attempt.run, 1, ReadLimit::default()).await.unwrap().len(), 6);
    f.store.trim_log(&TenantId::default(), attempt.run, 1000).await.unwrap();
    assert_eq!(bounds().await, (11, 0, 11), "an empty log knows how far it had come");
    assert!(f.store.append_log(attempt, vec![record(10, "again")]).await.is_err());
    let end = |seq| RunEnd { status: RunStatus::Succeeded, records: vec![record(seq, "end")], ..Default::default() };
    assert_eq!(f.store.finish_run(attempt, end(11)).await.unwrap().last_seq, 11);

    let ended = f.clock.now();
    f.clock.advance(Duration::from_secs(10));
    f.store.finish_run(other, end(2)).await.unwrap();
    assert_eq!(f.store.drop_logs(ended, 10).await.unwrap(), 0, "it ended then, not before");
    let later = ended + Duration::from_secs(5);
    assert_eq!(f.store.drop_logs(later, 10).await.unwrap(), 1);
    assert_eq!(f.store.drop_logs(later, 10).await.unwrap(), 0);
    assert_eq!(bounds().await, (12, 0, 12));
    assert_eq!(f.store.get_run(&TenantId::default(), attempt.run).await.unwrap().last_seq, 11);
    assert_eq!(
        f.store.log_bounds(&TenantId::default(), other.run).await.unwrap().last,
        2,
        "one that ended later stays"
    );
}
