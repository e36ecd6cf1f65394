//! Checkpoints, on every store.

use crate::{RunStatus, TenantId};
use runloom_engine::{
    CheckpointError, CheckpointId, ThreadId, Value,
    checkpoint::{Change, CheckpointFilter, ListEdit, Patch},
    value,
    value::MAX_DEPTH,
};
use uuid::Uuid;

use super::{Fixture, Line, asked, done, object};

/// A patch of `{"a": {"b": null}}`.
fn patch() -> Change {
    let inner = Patch::Fields { removed: vec!["b".into()], set: vec![("c".into(), Patch::Set(value!([1])))] };
    Change::Patch(vec![Patch::Fields { removed: Vec::new(), set: vec![("a".into(), inner)] }])
}

// G20
pub async fn a_checkpoint_reads_back_as_it_was(f: Fixture) {
    let thread = f.thread().await;
    let attempt = f.running(thread).await.attempt;
    let mut line = Line::new(&f, thread, "");
    line.metadata = object(value!({"user": "ada", "tags": ["a"]}));
    let mut lines = vec![line.set("x", value!(1)).set("list", value!([1]))];
    let steps = [
        ("list", Change::Append(value!([2, 3]))),
        ("list", Change::Edit(vec![ListEdit::Replace(0, value!("one")), ListEdit::Push(value!(4))])),
        ("x", Change::Set(value!({"a": {"b": null}}))),
        ("x", patch()),
        ("list", Change::Edit(vec![ListEdit::Remove(vec![1, 2])])),
        ("x", Change::Clear),
        ("list", Change::Clear),
        ("list", Change::Append(value!([9]))),
    ];
    for (channel, change) in steps {
        lines.push(lines.last().unwrap().next().with(channel, change));
    }
    lines[4].metadata = object(value!({"user": "bob"}));
    lines[5].metadata = object(value!({}));
    for line in &lines {
        f.put(line, Some(attempt)).await;
    }
    assert_eq!(lines[3].state["list"], value!(["one", 2, 3, 4]));
    let listed = f
        .store
        .checkpointer_by_hand(&TenantId::default(), None)
        .list(thread, "", CheckpointFilter::default())
        .await
        .unwrap();
    assert_eq!(listed.len(), lines.len());
    for (line, listed) in lines.iter().zip(listed.iter().rev()) {
        let saved = f.get(thread, "", line.id).await.unwrap();
        for saved in [&saved, listed] {
            line.assert_kept(saved, line.parent);
            let kept = &saved.checkpoint;
            let write = line.write(Some(attempt));
            assert_eq!((kept.source, kept.created_at), (write.checkpoint.source, write.checkpoint.created_at));
            assert_eq!((kept.run_id, &*kept.revision), (Some(attempt.run), "r1"));
        }
    }
    assert_eq!(f.store.stats().checkpoints, lines.len() as u64);
}

// G30
pub async fn numbers_and_depth_come_back_as_they_went_in(f: Fixture) {
    let thread = f.thread().await;
    let mut deep = value!(null);
    for _ in 0..MAX_DEPTH {
        deep = Value::from(vec![deep]);
    }
    let line = Line::new(&f, thread, "")
        .set("numbers", value!([u64::MAX, i64::MIN, 1.0, 0.1, 1e300, -0.5, 5e-324]))
        .set("text", value!("\0 \" \\ \u{7f} \u{2028} 🦀"))
        .set("deep", deep.clone());
    let next = line.next().set("deep", deep.clone()).with("list", Change::Append(Value::from(vec![value!(1.0)])));
    for line in [&line, &next] {
        f.put(line, None).await;
        let saved = f.get(thread, "", line.id).await.unwrap();
        line.assert_kept(&saved, line.parent);
        // 1 and 1.0 are not the same here.
        assert_eq!(format!("{:?}", saved.checkpoint.values), format!("{:?}", line.state));
    }
    let checkpointer = f.store.checkpointer_by_hand(&TenantId::default(), None);
    checkpointer.put_task(thread, &"".into(), line.id, done(1, deep.clone())).await.unwrap();
    assert_eq!(f.get(thread, "", line.id).await.unwrap().tasks, [done(1, deep)]);
}

pub async fn the_latest_is_the_greatest_id_of_its_namespace(f: Fixture) {
    let (thread, other) = (f.thread().await, f.thread().await);
    let first = Line::new(&f, thread, "").set("x", value!(1));
    let second = first.next().set("x", value!(2));
    let inner = Line::new(&f, thread, "node:1").set("x", value!(3));
    let elsewhere = Line::new(&f, other, "").set("x", value!(4));
    // Not in the order of their ids.
    for line in [&elsewhere, &inner, &second, &first] {
        f.put(line, None).await;
    }
    let latest = async |thread, ns| {
        f.store
            .checkpointer_by_hand(&TenantId::default(), None)
            .get(thread, ns, None)
            .await
            .unwrap()
            .map(|saved| saved.checkpoint.id)
    };
    assert_eq!(latest(thread, "").await, Some(second.id));
    assert_eq!(latest(thread, "node:1").await, Some(inner.id));
    assert_eq!(latest(other, "").await, Some(elsewhere.id));
    assert_eq!(latest(thread, "node").await, None);
    assert!(f.get(thread, "", inner.id).await.is_none(), "an id is looked for in its namespace");
}

pub async fn a_list_is_filtered_and_limited(f: Fixture) {
    let thread = f.thread().await;
    let attempt = f.running(thread).await.attempt;
    let mut line = Line::new(&f, thread, "");
    let mut lines = Vec::new();
    for i in 0..6 {
        line.metadata = object(value!({"user": if i < 3 { "ada" } else { "bob" }}));
        line = line.set("x", value!(i));
        // Every second one names no run.
        let write = line.write((i % 2 == 0).then_some(attempt));
        f.store.checkpointer(&TenantId::default(), attempt).put(write).await.unwrap();
        lines.push(line.clone());
        line = line.next();
    }
    let list = async |before: Option<CheckpointId>, limit, metadata| -> Vec<usize> {
        let filter = CheckpointFilter { before, limit, metadata: object(metadata) };
        let listed = f.store.checkpointer_by_hand(&TenantId::default(), None).list(thread, "", filter).await.unwrap();
        let at = |id| lines.iter().position(|line| line.id == id).unwrap();
        for saved in &listed {
            assert_eq!(saved.checkpoint.values, lines[at(saved.checkpoint.id)].state);
        }
        listed.iter().map(|saved| at(saved.checkpoint.id)).collect()
    };
    assert_eq!(list(None, None, value!({})).await, [5, 4, 3, 2, 1, 0]);
    assert_eq!(list(None, Some(2), value!({})).await, [5, 4]);
    assert_eq!(list(Some(lines[3].id), Some(2), value!({})).await, [2, 1]);
    assert_eq!(list(None, None, value!({"user": "ada"})).await, [2, 1, 0]);
    assert_eq!(list(None, Some(1), value!({"user": "ada", "source": "input"})).await, [0]);
    assert_eq!(list(None, None, value!({"step": 2})).await, [3]);
    assert_eq!(list(None, None, value!({"run_id": attempt.run.to_string()})).await, [4, 2, 0]);
    assert_eq!(list(None, Some(0), value!({})).await, [0; 0]);
}

pub async fn a_fork_reads_along_its_own_line(f: Fixture) {
    let thread = f.thread().await;
    let text = "x".repeat(3000);
    let mut trunk = vec![Line::new(&f, thread, "").set("list", value!([]))];
    // Long enough for several snapshots on each line.
    for i in 0..30 {
        trunk.push(trunk.last().unwrap().next().with("list", Change::Append(value!([format!("{i} {text}")]))));
    }
    let mut branch = vec![trunk[13].next().set("branch", value!(true))];
    for i in 0..30 {
        let next = branch.last().unwrap().next();
        branch.push(next.with("list", Change::Edit(vec![ListEdit::Replace(i % 13, value!(format!("b{i} {text}")))])));
    }
    for line in trunk.iter().chain(&branch) {
        f.put(line, None).await;
    }
    let listed = f
        .store
        .checkpointer_by_hand(&TenantId::default(), None)
        .list(thread, "", CheckpointFilter::default())
        .await
        .unwrap();
    assert_eq!(listed.len(), trunk.len() + branch.len());
    for (line, saved) in trunk.iter().chain(&branch).zip(listed.iter().rev()) {
        line.assert_kept(saved, line.parent);
        line.assert_kept(&f.get(thread, "", line.id).await.unwrap(), line.parent);
    }
}

pub async fn a_task_is_recorded_in_place_of_its_last_record(f: Fixture) {
    let thread = f.thread().await;
    let attempt = f.running(thread).await.attempt;
    let line = Line::new(&f, thread, "").set("x", value!(1));
    let next = line.next();
    f.put(&line, Some(attempt)).await;
    f.put(&next, Some(attempt)).await;
    let inner = Line { ns: "node:1".into(), parent: None, ..line.clone() };
    f.put(&inner, Some(attempt)).await;
    let checkpointer = f.store.checkpointer(&TenantId::default(), attempt);
    let put = async |line: &Line, record| checkpointer.put_task(thread, &line.ns, line.id, record).await.unwrap();
    put(&line, asked(1, "what?")).await;
    put(&line, done(2, 2)).await;
    put(&next, done(1, "of another checkpoint")).await;
    put(&inner, done(1, "of another namespace")).await;
    put(&line, done(1, 1)).await;
    let mut tasks = f.get(thread, "", line.id).await.unwrap().tasks;
    tasks.sort_by_key(|record| record.task);
    assert_eq!(tasks, [done(1, 1), done(2, 2)]);
    assert_eq!(f.get(thread, "", next.id).await.unwrap().tasks, [done(1, "of another checkpoint")]);
    assert_eq!(f.get(thread, "node:1", inner.id).await.unwrap().tasks, [done(1, "of another namespace")]);

    // The next run answers, and its record is what is read; so is that of a later hand.
    f.finish(attempt, RunStatus::AwaitingInput).await;
    let second = f.running(thread).await.attempt;
    f.store
        .checkpointer(&TenantId::default(), second)
        .put_task(thread, &"".into(), line.id, done(1, "second"))
        .await
        .unwrap();
    let read = async || {
        let listed = f
            .store
            .checkpointer_by_hand(&TenantId::default(), None)
            .list(thread, "", CheckpointFilter::default())
            .await
            .unwrap();
        let mut tasks = listed[1].tasks.clone();
        tasks.sort_by_key(|record| record.task);
        tasks
    };
    assert_eq!(read().await, [done(1, "second"), done(2, 2)]);
    f.finish(second, RunStatus::Succeeded).await;
    let hand = f.store.checkpointer_by_hand(&TenantId::default(), None);
    hand.put_task(thread, &"".into(), line.id, done(1, "by hand")).await.unwrap();
    assert_eq!(read().await, [done(1, "by hand"), done(2, 2)]);
    assert_eq!(f.store.stats().tasks, 7);
}

pub async fn writes_of_another_thread_are_refused(f: Fixture) {
    let (thread, other) = (f.thread().await, f.thread().await);
    let attempt = f.running(thread).await.attempt;
    let line = Line::new(&f, other, "").set("x", value!(1));
    assert!(f.store.checkpointer(&TenantId::default(), attempt).put(line.write(Some(attempt))).await.is_err());
    assert!(
        f.store
            .checkpointer(&TenantId::default(), attempt)
            .put_task(other, &"".into(), line.id, done(1, 1))
            .await
            .is_err()
    );
    assert!(f.get(other, "", line.id).await.is_none());
    let nowhere = Line { thread: ThreadId(Uuid::nil()), ..line };
    assert!(f.store.checkpointer_by_hand(&TenantId::default(), None).put(nowhere.write(None)).await.is_err());
}

pub async fn by_hand_only_while_nothing_runs(f: Fixture) {
    let thread = f.thread().await;
    let hand = f.store.checkpointer_by_hand(&TenantId::default(), None);
    let first = Line::new(&f, thread, "").set("x", value!(1));
    f.run(thread).await;
    hand.put(first.write(None)).await.expect("a pending run is not in the way");
    let attempt = f.running(thread).await.attempt;
    let second = first.next().set("x", value!(2));
    let busy = hand.put(second.write(None)).await;
    assert!(matches!(busy, Err(CheckpointError::Unavailable(_))), "{busy:?}");
    assert!(hand.put_task(thread, &"".into(), first.id, done(1, 1)).await.is_err());
    f.finish(attempt, RunStatus::Succeeded).await;
    hand.put(second.write(None)).await.unwrap();
    assert!(f.store.health().borrow().is_serving(), "a refusal is no trouble of the store's");
}

pub async fn a_put_that_comes_twice_is_one(f: Fixture) {
    let thread = f.thread().await;
    let line = Line::new(&f, thread, "").set("x", value!(1));
    let next = line.next().set("x", value!(2));
    for line in [&line, &next, &line, &next] {
        f.put(line, None).await;
    }
    assert_eq!(
        f.store
            .checkpointer_by_hand(&TenantId::default(), None)
            .list(thread, "", Default::default())
            .await
            .unwrap()
            .len(),
        2
    );
    next.assert_kept(&f.get(thread, "", next.id).await.unwrap(), Some(line.id));
}

pub async fn a_parent_that_is_not_there_is_no_trouble(f: Fixture) {
    let thread = f.thread().await;
    let lost = Line::new(&f, thread, "").set("x", value!(1));
    let line = lost.next().set("y", value!(2));
    f.put(&line, None).await;
    line.assert_kept(&f.get(thread, "", line.id).await.unwrap(), None);
    let next = line.next().set("x", value!(3));
    f.put(&next, None).await;
    next.assert_kept(&f.get(thread, "", next.id).await.unwrap(), Some(line.id));
}

pub async fn what_is_not_there_is_none(f: Fixture) {
    let hand = f.store.checkpointer_by_hand(&TenantId::default(), None);
    let nowhere = ThreadId(Uuid::nil());
    assert!(hand.get(nowhere, "", None).await.unwrap().is_none());
    assert!(hand.list(nowhere, "", CheckpointFilter::default()).await.unwrap().is_empty());
    let thread = f.thread().await;
    assert!(hand.get(thread, "", None).await.unwrap().is_none());
    assert!(hand.get(thread, "", Some(CheckpointId(Uuid::nil()))).await.unwrap().is_none());
}
