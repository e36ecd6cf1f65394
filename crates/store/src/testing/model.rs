//! Random sequences of writes, against plain models of what should come of them.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Attempt, Error, LogRecord, ReadLimit, TenantId};
use proptest::{prelude::*, test_runner::TestRunner};
use runloom_engine::{
    Value,
    checkpoint::{Change, CheckpointFilter, ListEdit},
};

use super::{Fixture, Line, done};

/// How a channel is to change; what does not fit its state is made to.
#[derive(Clone, Debug)]
enum Step {
    Set(Value),
    Append(Vec<Value>),
    Replace(usize, Value),
    Push(Value),
    Remove(Vec<bool>),
    Clear,
}

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_filter("JSON has no such numbers", |f| f.is_finite()).prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
        (0usize..4000).prop_map(|len| Value::from("x".repeat(len))),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-c]{1,2}", inner, 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => value().prop_map(Step::Set),
        4 => prop::collection::vec(value(), 0..4).prop_map(Step::Append),
        2 => (any::<usize>(), value()).prop_map(|(at, value)| Step::Replace(at, value)),
        1 => value().prop_map(Step::Push),
        1 => prop::collection::vec(any::<bool>(), 0..6).prop_map(Step::Remove),
        1 => Just(Step::Clear),
    ]
}

impl Step {
    fn change(&self, before: Option<&Value>) -> Change {
        let fits = before.is_none_or(|value| value.as_list().is_some());
        let len = before.and_then(Value::as_list).map_or(0, |list| list.len());
        match self {
            Self::Set(value) => Change::Set(value.clone()),
            Self::Clear => Change::Clear,
            _ if !fits => Change::Set(Value::from(vec![Value::Null])),
            Self::Append(items) => Change::Append(Value::from(items.clone())),
            Self::Push(item) => Change::Edit(vec![ListEdit::Push(item.clone())]),
            Self::Replace(_, item) if len == 0 => Change::Edit(vec![ListEdit::Push(item.clone())]),
            Self::Replace(at, item) => Change::Edit(vec![ListEdit::Replace(at % len, item.clone())]),
            Self::Remove(which) => {
                let gone = which.iter().enumerate().filter(|(i, gone)| **gone && *i < len).map(|(i, _)| i);
                Change::Edit(vec![ListEdit::Remove(gone.collect())])
            }
        }
    }
}

/// A checkpoint to be put: on which of those there are, and what changes.
type Put = (prop::sample::Index, bool, Vec<(u8, Step)>);

fn puts() -> impl Strategy<Value = Vec<Put>> {
    prop::collection::vec((any::<prop::sample::Index>(), prop::bool::weighted(0.85), changes()), 1..40)
}

fn changes() -> impl Strategy<Value = Vec<(u8, Step)>> {
    prop::collection::vec((0u8..3, step()), 0..4)
}

pub async fn checkpoints_are_what_the_model_says(f: Fixture) {
    let cases = || (puts(), prop::collection::vec(any::<bool>(), 40), 0usize..12);
    run(f, cases, 24, async |f, (puts, rolled_back, keep)| {
        let thread = f.thread().await;
        let rolled = f.running(thread).await.attempt;
        let mut lines: Vec<(Line, bool)> = Vec::new();
        for ((on, newest, changes), of_run) in puts.into_iter().zip(rolled_back) {
            let mut line = match lines.len() {
                0 => Line::new(f, thread, ""),
                _ if newest => lines[lines.len() - 1].0.next(),
                len => lines[on.index(len)].0.next(),
            };
            for (channel, step) in changes {
                let channel = format!("c{channel}");
                // One change of a channel a step, as the engine has it.
                if line.changes.iter().all(|(changed, _)| **changed != *channel) {
                    let change = step.change(line.state.get(&*channel));
                    line = line.with(&channel, change);
                }
            }
            let write = line.write(of_run.then_some(rolled));
            drop(f.store.checkpointer(&TenantId::default(), rolled).put(write));
            drop(f.store.checkpointer(&TenantId::default(), rolled).put_task(
                thread,
                &"".into(),
                line.id,
                done(1, line.step),
            ));
            lines.push((line, of_run));
        }
        f.finish(rolled, crate::RunStatus::Cancelled).await;
        check(f, &lines).await?;

        // A rollback.
        let (gone, kept): (Vec<_>, Vec<_>) = lines.into_iter().partition(|(_, of_run)| *of_run);
        assert_eq!(
            f.store.delete_run_checkpoints(&TenantId::default(), rolled.run).await.unwrap() as usize,
            gone.len()
        );
        let kept = without_lost_parents(kept);
        check(f, &kept).await?;
        let copy = f.store.copy_thread(&TenantId::default(), thread, None).await.unwrap().id;

        // Pruning, which keeps the newest.
        let pruned: Vec<_> = kept.iter().rev().take(keep.max(1)).rev().cloned().collect();
        let deleted = f.store.prune_checkpoints(&TenantId::default(), thread, keep).await.unwrap() as usize;
        assert_eq!(deleted, kept.len() - pruned.len());
        check(f, &without_lost_parents(pruned)).await?;
        let copied = kept.into_iter().map(|(line, of_run)| (Line { thread: copy, ..line }, of_run)).collect::<Vec<_>>();
        check(f, &copied).await
    })
    .await;
}

fn without_lost_parents(mut lines: Vec<(Line, bool)>) -> Vec<(Line, bool)> {
    let there: BTreeSet<_> = lines.iter().map(|(line, _)| line.id).collect();
    for (line, _) in &mut lines {
        line.parent = line.parent.filter(|parent| there.contains(parent));
    }
    lines
}

/// All of a thread's checkpoints, one by one, together, and the newest few.
async fn check(f: &Fixture, lines: &[(Line, bool)]) -> Result<(), TestCaseError> {
    let Some((first, _)) = lines.first() else { return Ok(()) };
    let hand = f.store.checkpointer_by_hand(&TenantId::default(), None);
    for limit in [None, Some(3)] {
        let filter = CheckpointFilter { limit, ..CheckpointFilter::default() };
        let listed = hand.list(first.thread, "", filter).await.unwrap();
        prop_assert_eq!(listed.len(), lines.len().min(limit.unwrap_or(usize::MAX)));
        for ((line, _), saved) in lines.iter().rev().zip(&listed) {
            prop_assert_eq!(&saved.checkpoint.values, &line.state);
            prop_assert_eq!((saved.checkpoint.id, saved.checkpoint.parent), (line.id, line.parent));
        }
    }
    for (line, _) in lines {
        let saved = f.get(line.thread, "", line.id).await.unwrap();
        prop_assert_eq!(format!("{:?}", &saved.checkpoint.values), format!("{:?}", &line.state));
    }
    Ok(())
}

#[derive(Clone, Debug)]
enum LogStep {
    /// So many records, so far past the last, by the current attempt or an old one.
    Append(u8, u8, bool),
    Reserve(u16, bool),
    Begin(u8),
    Trim(u16),
}

fn log_steps() -> impl Strategy<Value = Vec<LogStep>> {
    let step = prop_oneof![
        6 => (0u8..5, 0u8..3, prop::bool::weighted(0.2)).prop_map(|(n, gap, old)| LogStep::Append(n, gap, old)),
        2 => (any::<u16>(), any::<bool>()).prop_map(|(end, old)| LogStep::Reserve(end % 300, old)),
        1 => any::<u8>().prop_map(LogStep::Begin),
        1 => any::<u16>().prop_map(|before| LogStep::Trim(before % 300)),
    ];
    prop::collection::vec(step, 1..60)
}

pub async fn logs_are_what_the_model_says(f: Fixture) {
    run(f, log_steps, 32, async |f, steps| {
        let mut attempt = f.running(f.thread().await).await.attempt;
        let mut model: BTreeMap<u64, u8> = BTreeMap::new();
        let (mut last, mut reserved, mut trimmed) = (0u64, 1, 1);
        for (i, step) in steps.into_iter().enumerate() {
            let by = |old: bool| Attempt { number: attempt.number - u32::from(old), ..attempt };
            match step {
                LogStep::Append(count, gap, old) => {
                    let seqs = (last + u64::from(gap)..).take(count.into());
                    let records: Vec<_> = seqs.map(|seq| LogRecord { seq, bytes: vec![i as u8; 3].into() }).collect();
                    let good = records.first().is_none_or(|first| first.seq > last);
                    let appended = f.store.append_log(by(old), records.clone()).await;
                    match (old, good) {
                        (true, _) => prop_assert!(matches!(appended, Err(Error::Superseded { .. })), "{:?}", appended),
                        (_, false) => prop_assert!(matches!(appended, Err(Error::Invalid(_))), "{:?}", appended),
                        _ => {
                            appended.unwrap();
                            last = records.last().map_or(last, |record| record.seq);
                            model.extend(records.iter().map(|record| (record.seq, i as u8)));
                        }
                    }
                }
                LogStep::Reserve(end, old) => {
                    prop_assert_eq!(f.store.reserve_log(by(old), end.into()).await.is_ok(), !old);
                    reserved = reserved.max(if old { 0 } else { end.into() });
                }
                LogStep::Begin(reserve) => {
                    let begun = f.try_begin(attempt, Default::default(), reserve.into()).await.unwrap();
                    prop_assert_eq!(begun.first_seq, reserved.max(last + 1));
                    reserved = begun.reserved;
                    attempt = begun.attempt;
                }
                LogStep::Trim(before) => {
                    f.store.trim_log(&TenantId::default(), attempt.run, before.into()).await.unwrap();
                    trimmed = trimmed.max(u64::from(before).min(last + 1));
                    model = model.split_off(&trimmed);
                }
            }
        }
        let read = f.store.read_log(&TenantId::default(), attempt.run, 0, ReadLimit::default()).await.unwrap();
        let read: BTreeMap<u64, u8> = read.iter().map(|record| (record.seq, record.bytes[0])).collect();
        let bounds = f.store.log_bounds(&TenantId::default(), attempt.run).await.unwrap();
        prop_assert_eq!((bounds.oldest, bounds.next), (trimmed, reserved.max(last + 1)));
        prop_assert_eq!(bounds.last, model.last_key_value().map_or(0, |(seq, _)| *seq));
        prop_assert_eq!(read, model);
        Ok(())
    })
    .await;
}

/// Runs a property on one store, case after case, on a thread that can block on each.
async fn run<S: Strategy + 'static>(
    f: Fixture,
    strategy: fn() -> S,
    cases: u32,
    test: impl AsyncFn(&Fixture, S::Value) -> Result<(), TestCaseError> + Send + 'static,
) {
    let runtime = tokio::runtime::Handle::current();
    let property = tokio::task::spawn_blocking(move || {
        let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
        TestRunner::new(config)
            .run(&strategy(), |case| runtime.block_on(test(&f, case)))
            .unwrap_or_else(|failure| panic!("{failure}"));
    });
    if let Err(failed) = property.await {
        std::panic::resume_unwind(failed.into_panic());
    }
}
