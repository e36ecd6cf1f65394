//! What is done with checkpoints beside a run, on every store.

use crate::{Error, RunStatus, TenantId};
use runloom_engine::{
    CheckpointId,
    checkpoint::{Change, CheckpointFilter},
    value,
};

use super::{Fixture, Line, asked, done, object};

async fn ids(f: &Fixture, line: &Line) -> Vec<CheckpointId> {
    let listed = f
        .store
        .checkpointer_by_hand(&TenantId::default(), None)
        .list(line.thread, &line.ns, CheckpointFilter::default())
        .await
        .unwrap();
    listed.iter().rev().map(|saved| saved.checkpoint.id).collect()
}

// G24
pub async fn a_rollback_takes_back_checkpoints_and_records(f: Fixture) {
    let thread = f.thread().await;
    let first = f.running(thread).await.attempt;
    let start = Line::new(&f, thread, "").set("list", value!([1]));
    f.put(&start, Some(first)).await;
    f.store
        .checkpointer(&TenantId::default(), first)
        .put_task(thread, &"".into(), start.id, asked(1, "go on?"))
        .await
        .unwrap();
    f.finish(first, RunStatus::AwaitingInput).await;

    let second = f.running(thread).await.attempt;
    let checkpointer = f.store.checkpointer(&TenantId::default(), second);
    checkpointer.put_task(thread, &"".into(), start.id, done(1, "yes")).await.unwrap();
    let next = start.next().with("list", Change::Append(value!([2])));
    f.put(&next, Some(second)).await;
    f.put(&next.next().set("x", value!(1)), Some(second)).await;
    f.put(&Line::new(&f, thread, "node:1"), Some(second)).await;
    checkpointer.put_task(thread, &"".into(), next.id, done(2, 1)).await.unwrap();

    let running = f.store.delete_run_checkpoints(&TenantId::default(), second.run).await;
    assert!(matches!(running, Err(Error::RunState { .. })), "{running:?}");
    f.finish(second, RunStatus::Cancelled).await;
    assert_eq!(f.store.delete_run_checkpoints(&TenantId::default(), second.run).await.unwrap(), 3);
    assert_eq!(ids(&f, &start).await, [start.id]);
    assert!(ids(&f, &Line::new(&f, thread, "node:1")).await.is_empty());
    let saved = f.get(thread, "", start.id).await.unwrap();
    start.assert_kept(&saved, None);
    assert_eq!(saved.tasks, [asked(1, "go on?")], "the question is open again");
    assert_eq!(f.store.delete_run_checkpoints(&TenantId::default(), second.run).await.unwrap(), 0);

    // Another run goes on from there.
    let third = f.running(thread).await.attempt;
    let again = start.next().with("list", Change::Append(value!([3])));
    f.put(&again, Some(third)).await;
    again.assert_kept(&f.get(thread, "", again.id).await.unwrap(), Some(start.id));
    assert!(f.get(thread, "", again.id).await.unwrap().tasks.is_empty());
}

pub async fn a_rollback_leaves_what_others_built_on_it(f: Fixture) {
    let thread = f.thread().await;
    let start = Line::new(&f, thread, "").set("list", value!(["start"]));
    f.put(&start, None).await;
    let first = f.running(thread).await.attempt;
    let mid = start.next().with("list", Change::Append(value!(["mid"])));
    f.put(&mid, Some(first)).await;
    f.finish(first, RunStatus::Succeeded).await;
    let second = f.running(thread).await.attempt;
    let child = mid.next().with("list", Change::Append(value!(["child"])));
    let grandchild = child.next().set("x", value!(1));
    let aside = mid.next().set("y", value!(2));
    let beside = start.next().set("z", value!(3));
    for line in [&child, &grandchild, &aside, &beside] {
        f.put(line, Some(second)).await;
    }
    f.finish(second, RunStatus::Succeeded).await;

    assert_eq!(f.store.delete_run_checkpoints(&TenantId::default(), first.run).await.unwrap(), 1);
    assert_eq!(ids(&f, &start).await, [start.id, child.id, grandchild.id, aside.id, beside.id]);
    let parents = [(&child, None), (&grandchild, Some(child.id)), (&aside, None), (&beside, Some(start.id))];
    for (line, parent) in parents {
        line.assert_kept(&f.get(thread, "", line.id).await.unwrap(), parent);
    }
    let more = grandchild.next().with("list", Change::Append(value!(["more"])));
    f.put(&more, None).await;
    more.assert_kept(&f.get(thread, "", more.id).await.unwrap(), Some(grandchild.id));
}

pub async fn pruning_keeps_the_newest_and_what_they_hold(f: Fixture) {
    let thread = f.thread().await;
    let text = "x".repeat(1000);
    let mut lines = vec![Line::new(&f, thread, "").set("list", value!([]))];
    for i in 0..40 {
        lines.push(lines.last().unwrap().next().with("list", Change::Append(value!([format!("{i} {text}")]))));
    }
    let hand = f.store.checkpointer_by_hand(&TenantId::default(), None);
    for line in &lines {
        f.put(line, None).await;
        hand.put_task(thread, &"".into(), line.id, done(1, line.step)).await.unwrap();
    }
    assert_eq!(f.store.prune_checkpoints(&TenantId::default(), thread, 100).await.unwrap(), 0);
    for keep in [10, 3, 0] {
        let before = ids(&f, &lines[0]).await.len();
        let kept = &lines[lines.len() - keep.max(1)..];
        assert_eq!(
            f.store.prune_checkpoints(&TenantId::default(), thread, keep).await.unwrap() as usize,
            before - kept.len()
        );
        assert_eq!(ids(&f, &lines[0]).await, kept.iter().map(|line| line.id).collect::<Vec<_>>());
        for (i, line) in kept.iter().enumerate() {
            let saved = f.get(thread, "", line.id).await.unwrap();
            line.assert_kept(&saved, line.parent.filter(|_| i > 0));
            assert_eq!(saved.tasks, [done(1, line.step)]);
        }
    }
    let next = lines.last().unwrap().next().set("x", value!(1));
    f.put(&next, None).await;
    next.assert_kept(&f.get(thread, "", next.id).await.unwrap(), next.parent);
    assert!(f.get(thread, "", lines[0].id).await.is_none());
    let nowhere = f.store.prune_checkpoints(&TenantId::default(), runloom_engine::ThreadId(uuid::Uuid::nil()), 1).await;
    assert!(matches!(nowhere, Err(Error::NotFound { .. })));
}

pub async fn pruning_keeps_forks_whole(f: Fixture) {
    let thread = f.thread().await;
    let mut trunk = vec![Line::new(&f, thread, "").set("list", value!([0]))];
    for i in 1..5 {
        trunk.push(trunk.last().unwrap().next().with("list", Change::Append(value!([i]))));
    }
    // Newer than the trunk, and hanging on what goes, on one another, and on what stays.
    let old = trunk[1].next().set("fork", value!("old"));
    let older = old.next().with("list", Change::Append(value!(["a"])));
    let new = trunk[4].next().set("fork", value!("new"));
    for line in trunk.iter().chain([&old, &older, &new]) {
        f.put(line, None).await;
    }
    assert_eq!(f.store.prune_checkpoints(&TenantId::default(), thread, 4).await.unwrap(), 4);
    for (line, parent) in [(&trunk[4], None), (&old, None), (&older, Some(old.id)), (&new, Some(trunk[4].id))] {
        line.assert_kept(&f.get(thread, "", line.id).await.unwrap(), parent);
    }
}

pub async fn pruning_takes_namespaces_of_tasks_with_their_step(f: Fixture) {
    let thread = f.thread().await;
    let first = Line::new(&f, thread, "").set("x", value!(1));
    let second = first.next().set("x", value!(2));
    let of = |ns: &str, line: &Line| {
        let mut inner = Line::new(&f, thread, ns).set("y", value!(1));
        inner.metadata = object(value!({"parents": {"": line.id.to_string()}}));
        inner
    };
    let (in_first, in_second) = (of("node:1", &first), of("node:2", &second));
    let below = of("node:1|deep:3", &first);
    // That of a subgraph which keeps its state from run to run.
    let lasting = of("node", &first);
    for line in [&first, &second, &in_first, &in_second, &below, &lasting] {
        f.put(line, None).await;
    }
    assert_eq!(f.store.prune_checkpoints(&TenantId::default(), thread, 1).await.unwrap(), 3);
    assert!(ids(&f, &in_first).await.is_empty() && ids(&f, &below).await.is_empty());
    assert_eq!((ids(&f, &in_second).await, ids(&f, &lasting).await), (vec![in_second.id], vec![lasting.id]));
    assert_eq!(ids(&f, &first).await, [second.id]);
}
