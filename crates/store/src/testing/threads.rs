//! Threads, on every store.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    Direction, Error, Expiry, IfExists, LastRun, NewThread, PageRequest, RunStatus, TenantId, ThreadFilter, ThreadSort,
    ThreadStatus, ThreadUpdate, What,
};
use runloom_engine::{CheckpointError, Clock, ThreadId, checkpoint::CheckpointFilter, value};
use uuid::Uuid;

use super::{Fixture, Line, done, object, record};

pub async fn a_thread_is_made_read_changed_and_deleted(f: Fixture) {
    let new =
        NewThread { metadata: object(value!({"a": 1, "b": null, "c": {"d": [1.5, "ü"]}})), ..Default::default() };
    let made = f.store.create_thread(&TenantId::default(), new).await.unwrap();
    assert_eq!(made.created_at, f.clock.now());
    assert_eq!((made.updated_at, made.state_updated_at), (made.created_at, None));
    assert_eq!(made.metadata, object(value!({"a": 1, "c": {"d": [1.5, "ü"]}})));
    assert_eq!((made.status, &made.tenant), (ThreadStatus::Idle, &TenantId::default()));
    assert_eq!(f.store.get_thread(&TenantId::default(), made.id).await.unwrap(), made);

    f.clock.advance(Duration::from_secs(1));
    let update = ThreadUpdate {
        status: Some(ThreadStatus::Error),
        last_run: Some(LastRun { graph: Some("g".into()), assistant: None, config: object(value!({"x": 1})) }),
        error: Some(value!({"kind": "ValueError"})),
        interrupts: Some(value!([1, 2])),
        state_changed: true,
        metadata: None,
        expiry: None,
    };
    let changed = f.store.update_thread(&TenantId::default(), made.id, update).await.unwrap();
    assert_eq!(changed.updated_at, made.created_at + Duration::from_secs(1));
    assert_eq!(changed.state_updated_at, Some(changed.updated_at));
    assert_eq!((changed.status, &changed.error), (ThreadStatus::Error, &Some(value!({"kind": "ValueError"}))));
    assert_eq!((changed.graph.as_deref(), &changed.config), (Some("g"), &object(value!({"x": 1}))));
    assert_eq!(f.store.get_thread(&TenantId::default(), made.id).await.unwrap(), changed);

    let clear = ThreadUpdate { error: Some(value!(null)), interrupts: Some(value!(null)), ..Default::default() };
    let cleared = f.store.update_thread(&TenantId::default(), made.id, clear).await.unwrap();
    assert_eq!((cleared.error, cleared.interrupts, cleared.config), (None, None, changed.config));
    assert_eq!(cleared.state_updated_at, changed.state_updated_at);

    f.store.delete_thread(&TenantId::default(), made.id).await.unwrap();
    let gone = Error::NotFound { what: What::Thread, id: made.id.to_string() };
    assert_eq!(f.store.get_thread(&TenantId::default(), made.id).await.unwrap_err(), gone);
    assert_eq!(f.store.delete_thread(&TenantId::default(), made.id).await.unwrap_err(), gone);
    assert_eq!(f.store.update_thread(&TenantId::default(), made.id, ThreadUpdate::default()).await.unwrap_err(), gone);
}

pub async fn an_id_that_is_taken_is_refused_or_kept(f: Fixture) {
    let id = Some(ThreadId(Uuid::from_u128(7)));
    let first = f.store.create_thread(&TenantId::default(), NewThread { id, ..Default::default() }).await.unwrap();
    let again = NewThread { id, metadata: object(value!({"new": true})), ..Default::default() };
    let refused = f.store.create_thread(&TenantId::default(), again.clone()).await.unwrap_err();
    assert!(matches!(refused, Error::AlreadyExists { what: What::Thread, .. }), "{refused}");
    let kept =
        f.store.create_thread(&TenantId::default(), NewThread { if_exists: IfExists::Keep, ..again }).await.unwrap();
    assert_eq!(kept, first);
}

pub async fn metadata_is_merged_and_null_takes_a_key_away(f: Fixture) {
    let metadata = object(value!({"a": {"b": 1}, "c": 2}));
    let thread =
        f.store.create_thread(&TenantId::default(), NewThread { metadata, ..Default::default() }).await.unwrap();
    let metadata = Some(object(value!({"a": {"d": 3}, "c": null, "e": 4})));
    let merged = f
        .store
        .update_thread(&TenantId::default(), thread.id, ThreadUpdate { metadata, ..Default::default() })
        .await
        .unwrap();
    assert_eq!(merged.metadata, object(value!({"a": {"d": 3}, "e": 4})));
}

pub async fn lists_are_filtered(f: Fixture) {
    let mut ids = Vec::new();
    for i in 0..6 {
        let new = NewThread {
            metadata: object(value!({"i": i, "tags": ["all", format!("t{i}")], "deep": {"even": i % 2 == 0, "x": 1}})),
            stateless: i == 5,
            ..Default::default()
        };
        ids.push(f.store.create_thread(&TenantId::default(), new).await.unwrap().id);
    }
    let busy = ThreadUpdate { status: Some(ThreadStatus::Busy), ..Default::default() };
    f.store.update_thread(&TenantId::default(), ids[1], busy).await.unwrap();

    let which = async |filter: ThreadFilter| -> Vec<usize> {
        let count = f.store.count_threads(&TenantId::default(), filter.clone()).await.unwrap();
        let order = (ThreadSort::Created, Direction::Ascending);
        let page = f.store.list_threads(&TenantId::default(), filter, order, PageRequest::default()).await.unwrap();
        assert_eq!((count, page.next), (page.items.len() as u64, None));
        page.items.iter().map(|thread| ids.iter().position(|id| *id == thread.id).unwrap()).collect()
    };
    let all = ThreadFilter::default;
    assert_eq!(which(all()).await, [0, 1, 2, 3, 4], "threads of stateless runs are not listed");
    assert_eq!(which(ThreadFilter { stateless: true, ..all() }).await, [0, 1, 2, 3, 4, 5]);
    assert_eq!(which(ThreadFilter { status: Some(ThreadStatus::Busy), ..all() }).await, [1]);
    assert_eq!(which(ThreadFilter { ids: Some(vec![ids[4], ids[0]]), ..all() }).await, [0, 4]);
    assert_eq!(which(ThreadFilter { ids: Some(vec![]), ..all() }).await, [0; 0]);
    let with = |metadata| ThreadFilter { metadata: object(metadata), ..all() };
    assert_eq!(which(with(value!({"deep": {"even": true}}))).await, [0, 2, 4]);
    assert_eq!(which(with(value!({"tags": ["t3"]}))).await, [3]);
    assert_eq!(which(with(value!({"tags": ["all"], "i": 2.0}))).await, [2]);
    assert_eq!(which(with(value!({"nothing": 1}))).await, [0; 0]);
}

pub async fn every_order_is_walked_page_by_page_without_gaps_or_repeats(f: Fixture) {
    let mut ids = Vec::new();
    for i in 0..10 {
        // Ids against the order of making, and times of which several are the same.
        let id = Some(ThreadId(Uuid::from_u128(100 - i)));
        ids.push(f.store.create_thread(&TenantId::default(), NewThread { id, ..Default::default() }).await.unwrap().id);
        if i % 3 == 0 {
            f.clock.advance(Duration::from_nanos(1));
        }
    }
    for (i, id) in ids.iter().enumerate() {
        let status = [ThreadStatus::Idle, ThreadStatus::Interrupted, ThreadStatus::Busy][i % 3];
        let update = ThreadUpdate { status: Some(status), state_changed: i % 2 == 0, ..Default::default() };
        f.store.update_thread(&TenantId::default(), *id, update).await.unwrap();
    }
    let sorts =
        [ThreadSort::Created, ThreadSort::Updated, ThreadSort::StateUpdated, ThreadSort::Id, ThreadSort::Status];
    for sort in sorts {
        for direction in [Direction::Ascending, Direction::Descending] {
            let list = async |page| {
                f.store
                    .list_threads(&TenantId::default(), ThreadFilter::default(), (sort, direction), page)
                    .await
                    .unwrap()
            };
            let whole: Vec<_> = list(PageRequest::first(100)).await.items;
            for size in [1, 3, 10] {
                let mut walked = Vec::new();
                let mut page = list(PageRequest::first(size)).await;
                loop {
                    assert!(page.items.len() <= size);
                    walked.extend(page.items);
                    assert!(walked.len() <= 10, "{sort:?} {direction:?} by {size} goes round in circles");
                    let Some(next) = page.next else { break };
                    page = list(PageRequest::after(size, next)).await;
                    assert!(!page.items.is_empty(), "a token stands for a page that is there");
                }
                assert_eq!(walked, whole, "{sort:?} {direction:?} by {size}");
            }
            let distinct: BTreeSet<_> = whole.iter().map(|thread| thread.id).collect();
            assert_eq!(distinct.len(), 10);
            let sorted = |by: &dyn Fn(&crate::Thread) -> i128| {
                let mut keys: Vec<_> = whole.iter().map(by).collect();
                if direction == Direction::Descending {
                    keys.reverse();
                }
                keys.is_sorted()
            };
            let since =
                |at: std::time::SystemTime| at.duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as i128;
            assert!(match sort {
                ThreadSort::Created => sorted(&|t| -(t.id.0.as_u128() as i128)),
                ThreadSort::Updated => sorted(&|t| since(t.updated_at)),
                ThreadSort::StateUpdated => sorted(&|t| t.state_updated_at.map_or(-1, since)),
                ThreadSort::Id => sorted(&|t| t.id.0.as_u128() as i128),
                ThreadSort::Status => sorted(&|t| t.status as i128),
            });
            let skipped = list(PageRequest { size: 4, skip: 3, token: None }).await;
            assert_eq!(skipped.items, whole[3..7]);
        }
    }
}

pub async fn a_token_of_another_order_or_of_none_is_refused(f: Fixture) {
    for _ in 0..2 {
        f.thread().await;
    }
    let list = async |sort, token: &str| {
        let page = PageRequest { size: 1, token: Some(token.into()).filter(|t: &String| !t.is_empty()), skip: 0 };
        f.store.list_threads(&TenantId::default(), ThreadFilter::default(), (sort, Direction::Ascending), page).await
    };
    let token = list(ThreadSort::Created, "").await.unwrap().next.unwrap();
    list(ThreadSort::Created, &token).await.unwrap();
    assert!(matches!(list(ThreadSort::Updated, &token).await, Err(Error::Invalid(_))));
    assert!(matches!(list(ThreadSort::Created, "nonsense").await, Err(Error::Invalid(_))));
}

pub async fn deleting_a_thread_takes_all_that_is_its_own(f: Fixture) {
    let (thread, other) = (f.thread().await, f.thread().await);
    let begun = f.running(thread).await;
    f.store.append_log(begun.attempt, vec![record(1, "a")]).await.unwrap();
    let checkpointer = f.store.checkpointer(&TenantId::default(), begun.attempt);
    let line = Line::new(&f, thread, "").set("x", value!(1));
    checkpointer.put(line.write(Some(begun.attempt))).await.unwrap();
    checkpointer.put_task(thread, &"".into(), line.id, done(1, 1)).await.unwrap();
    let kept = Line::new(&f, other, "").set("x", value!(2));
    f.put(&kept, None).await;

    f.store.delete_thread(&TenantId::default(), thread).await.unwrap();
    assert!(matches!(
        f.store.get_run(&TenantId::default(), begun.run.id).await,
        Err(Error::NotFound { what: What::Run, .. })
    ));
    assert!(f.store.read_log(&TenantId::default(), begun.run.id, 1, Default::default()).await.is_err());
    assert!(
        f.store
            .checkpointer_by_hand(&TenantId::default(), None)
            .list(thread, "", CheckpointFilter::default())
            .await
            .unwrap()
            .is_empty()
    );
    let append = f.store.append_log(begun.attempt, vec![record(2, "b")]).await;
    assert!(matches!(append, Err(Error::Superseded { current: None, .. })), "{append:?}");
    let put = checkpointer.put(line.next().write(Some(begun.attempt))).await;
    assert!(matches!(put, Err(CheckpointError::Superseded)), "{put:?}");
    kept.assert_kept(&f.get(other, "", kept.id).await.unwrap(), None);

    // The id can be used again, and nothing old comes back with it.
    f.store.create_thread(&TenantId::default(), NewThread { id: Some(thread), ..Default::default() }).await.unwrap();
    assert!(f.get(thread, "", line.id).await.is_none());
}

pub async fn a_copy_has_every_checkpoint_and_no_run(f: Fixture) {
    let new = NewThread { metadata: object(value!({"a": 1})), ..Default::default() };
    let thread = f.store.create_thread(&TenantId::default(), new).await.unwrap().id;
    let begun = f.running(thread).await;
    let run = Some(begun.attempt);
    let first = Line::new(&f, thread, "").set("x", value!({"n": 1}));
    let second = first.next().set("y", value!("y"));
    let fork = first.next().set("y", value!("z"));
    let inner = Line::new(&f, thread, "node:1").set("x", value!(3));
    for line in [&first, &second, &fork, &inner] {
        f.put(line, run).await;
    }
    let checkpointer = f.store.checkpointer(&TenantId::default(), begun.attempt);
    checkpointer.put_task(thread, &"".into(), second.id, done(1, 5)).await.unwrap();

    let copy = f.store.copy_thread(&TenantId::default(), thread, None).await.unwrap();
    assert_ne!(copy.id, thread);
    assert_eq!((copy.status, &copy.tenant), (ThreadStatus::Idle, &TenantId::default()), "what was busy is idle");
    assert_eq!(copy.metadata, object(value!({"a": 1})));
    assert_eq!(f.store.get_thread(&TenantId::default(), copy.id).await.unwrap(), copy);
    let filter = crate::RunFilter { thread: Some(copy.id), ..Default::default() };
    assert_eq!(f.store.count_runs(&TenantId::default(), filter).await.unwrap(), 0);

    // The copy outlives what it was made of.
    f.finish(begun.attempt, RunStatus::Succeeded).await;
    f.store.delete_thread(&TenantId::default(), thread).await.unwrap();
    for (line, parent) in [(&first, None), (&second, Some(first.id)), (&fork, Some(first.id)), (&inner, None)] {
        line.assert_kept(&f.get(copy.id, &line.ns, line.id).await.unwrap(), parent);
    }
    let saved = f.get(copy.id, "", second.id).await.unwrap();
    assert_eq!((saved.tasks, saved.checkpoint.run_id), (vec![done(1, 5)], Some(begun.run.id)));
    let more = Line { thread: copy.id, ..second.next().set("x", value!(9)) };
    f.put(&more, None).await;
    more.assert_kept(&f.get(copy.id, "", more.id).await.unwrap(), Some(second.id));

    let taken = f.store.copy_thread(&TenantId::default(), copy.id, Some(copy.id)).await.unwrap_err();
    assert!(matches!(taken, Error::AlreadyExists { .. }), "{taken}");
    assert!(matches!(f.store.copy_thread(&TenantId::default(), thread, None).await, Err(Error::NotFound { .. })));
}

pub async fn threads_that_go_at_a_time_are_found_the_soonest_first(f: Fixture) {
    let second = Duration::from_secs(1);
    let at = |n: u32, keep_latest| Some(Expiry { at: f.clock.now() + second * n, keep_latest });
    let make = async |expiry| {
        f.store.create_thread(&TenantId::default(), NewThread { expiry, ..NewThread::default() }).await.unwrap().id
    };
    let (late, soon, never) = (make(at(20, false)).await, make(at(10, true)).await, make(None).await);
    assert_eq!(f.store.get_thread(&TenantId::default(), soon).await.unwrap().expiry, at(10, true));
    let expiring = async || f.store.expiring_threads(9).await.unwrap();
    let mine = TenantId::default;
    assert_eq!(expiring().await, [(mine(), soon, at(10, true).unwrap()), (mine(), late, at(20, false).unwrap())]);
    let expire = async |id, expiry| {
        let update = ThreadUpdate { expiry: Some(expiry), ..ThreadUpdate::default() };
        f.store.update_thread(&TenantId::default(), id, update).await.unwrap();
    };
    expire(soon, None).await;
    expire(never, at(5, false)).await;
    assert_eq!(expiring().await.iter().map(|(_, id, _)| *id).collect::<Vec<_>>(), [never, late]);
    let begun = f.running(never).await;
    f.finish(begun.attempt, RunStatus::Succeeded).await;
    assert_eq!(
        f.store.get_thread(&TenantId::default(), never).await.unwrap().expiry,
        at(5, false),
        "a run changes nothing of it"
    );
    assert_eq!(f.store.copy_thread(&TenantId::default(), late, None).await.unwrap().expiry, None, "a copy stays");
}
