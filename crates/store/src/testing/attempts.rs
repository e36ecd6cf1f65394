//! Attempts at runs, and what they may write, on every store.

use std::time::Duration;

use crate::{Attempt, Error, RunEnd, RunStatus, TenantId, ThreadStatus, ThreadUpdate};
use runloom_engine::{CheckpointError, Clock, Object, RunId, value};
use uuid::Uuid;

use super::{Fixture, Line, done, object, record};

pub async fn of_two_that_begin_the_same_attempt_one_does(f: Fixture) {
    let thread = f.thread().await;
    let run = f.run(thread).await;
    let config = object(value!({"c": 1}));
    let begun = f.try_begin(run.current(), config.clone(), 10).await.unwrap();
    assert_eq!((begun.attempt, begun.first_seq, begun.reserved), (Attempt::new(run.id, 1), 1, 11));
    assert_eq!((begun.run.status, begun.run.attempt), (RunStatus::Running, 1));
    assert_eq!(begun.run.started_at, Some(f.clock.now()));
    let late = f.try_begin(run.current(), Object::default(), 0).await.unwrap_err();
    assert_eq!(late, Error::Superseded { run: run.id, attempt: 0, current: Some(1) });

    let thread = f.store.get_thread(&TenantId::default(), thread).await.unwrap();
    assert_eq!((thread.status, thread.config), (ThreadStatus::Busy, config));
    assert_eq!(thread.graph.as_deref(), Some("graph"));

    // The same, all at once.
    let run = f.run(f.thread().await).await;
    let begin = |_| f.try_begin(run.current(), Object::default(), 0);
    let all = futures_util::future::join_all((0..20).map(begin)).await;
    assert_eq!(all.iter().filter(|begun| begun.is_ok()).count(), 1);
}

// G22
pub async fn a_thread_has_one_running_run(f: Fixture) {
    let thread = f.thread().await;
    let (first, second) = (f.run(thread).await, f.run(thread).await);
    let begun = f.begin(first.current()).await;
    let busy = f.try_begin(second.current(), Object::default(), 0).await.unwrap_err();
    assert_eq!(busy, Error::Busy { thread, run: first.id });
    assert_eq!(f.store.get_run(&TenantId::default(), second.id).await.unwrap(), second, "nothing of it was kept");
    let again = f.begin(begun.attempt).await;
    assert_eq!(again.attempt.number, 2, "the same run may begin again");
    f.finish(again.attempt, RunStatus::Succeeded).await;
    f.begin(second.current()).await;
}

// G3
pub async fn every_write_of_an_old_attempt_is_refused(f: Fixture) {
    let thread = f.thread().await;
    let old = f.running(thread).await.attempt;
    let line = Line::new(&f, thread, "").set("x", value!(1));
    f.put(&line, Some(old)).await;
    f.store.append_log(old, vec![record(1, "a")]).await.unwrap();
    let new = f.begin(old).await.attempt;

    let superseded = Error::Superseded { run: old.run, attempt: 1, current: Some(2) };
    assert_eq!(f.store.append_log(old, vec![record(2, "b")]).await.unwrap_err(), superseded);
    assert_eq!(f.store.reserve_log(old, 100).await.unwrap_err(), superseded);
    assert_eq!(f.store.release_run(old, None).await.unwrap_err(), superseded);
    let end = RunEnd { status: RunStatus::Failed, ..Default::default() };
    assert_eq!(f.store.finish_run(old, end).await.unwrap_err(), superseded);
    let checkpointer = f.store.checkpointer(&TenantId::default(), old);
    let next = line.next().set("x", value!(2));
    assert!(matches!(checkpointer.put(next.write(Some(old))).await, Err(CheckpointError::Superseded)));
    let task = checkpointer.put_task(thread, &"".into(), line.id, done(1, 1)).await;
    assert!(matches!(task, Err(CheckpointError::Superseded)));

    let latest = f.store.checkpointer(&TenantId::default(), new).get(thread, "", None).await.unwrap().unwrap();
    assert_eq!((latest.checkpoint.id, latest.tasks), (line.id, vec![]), "nothing of it was kept");
    assert_eq!(f.store.log_bounds(&TenantId::default(), old.run).await.unwrap().next, 2);
    assert_eq!(f.store.get_run(&TenantId::default(), old.run).await.unwrap().status, RunStatus::Running);
    f.store.append_log(new, vec![record(2, "b")]).await.unwrap();
    f.put(&next, Some(new)).await;
}

pub async fn nothing_is_written_after_the_end(f: Fixture) {
    let thread = f.thread().await;
    let attempt = f.running(thread).await.attempt;
    f.finish(attempt, RunStatus::Succeeded).await;
    let append = f.store.append_log(attempt, vec![record(1, "a")]).await;
    assert!(matches!(append, Err(Error::RunState { status: RunStatus::Succeeded, .. })), "{append:?}");
    let put =
        f.store.checkpointer(&TenantId::default(), attempt).put(Line::new(&f, thread, "").write(Some(attempt))).await;
    assert!(matches!(put, Err(CheckpointError::Superseded)), "{put:?}");
}

pub async fn a_run_that_is_given_back_is_held_by_nobody(f: Fixture) {
    let thread = f.thread().await;
    let run = f.run(thread).await;
    f.store.append_log(run.current(), vec![record(1, "before it begins")]).await.unwrap();
    let begun = f.begin(run.current()).await;
    assert_eq!(begun.first_seq, 2);
    let released = f.store.release_run(begun.attempt, Some(value!({"input_tokens": 2}))).await.unwrap();
    assert_eq!((released.status, released.attempt, released.given_back), (RunStatus::Pending, 1, 1));
    assert_eq!(released.usage, Some(value!({"input_tokens": 2})));
    assert_eq!(f.store.get_thread(&TenantId::default(), thread).await.unwrap().status, ThreadStatus::Idle);
    assert_eq!(f.store.next_pending(&TenantId::default(), thread).await.unwrap().unwrap(), released);
    let append = f.store.append_log(begun.attempt, vec![record(2, "a")]).await;
    assert!(matches!(append, Err(Error::Superseded { current: None, .. })), "{append:?}");
    let again = f.begin(released.current()).await;
    assert_eq!(again.attempt.number, 2);
    assert_eq!(again.run.started_at, begun.run.started_at, "it started when it first did");
}

// G17
pub async fn an_end_is_kept_whole_or_not_at_all(f: Fixture) {
    let thread = f.thread().await;
    let attempt = f.running(thread).await.attempt;
    f.store.append_log(attempt, vec![record(1, "a")]).await.unwrap();
    let end = RunEnd {
        status: RunStatus::AwaitingInput,
        error: Some(value!({"kind": "E"})),
        usage: Some(value!({"input_tokens": 3})),
        expires_at: Some(f.clock.now() + Duration::from_secs(1)),
        events: 0,
        records: vec![record(2, "b"), record(3, "end")],
        thread: ThreadUpdate {
            status: Some(ThreadStatus::Interrupted),
            interrupts: Some(value!([{"id": "q"}])),
            state_changed: true,
            ..Default::default()
        },
        delivery: None,
    };
    let out_of_order = RunEnd { records: vec![record(1, "twice")], ..end.clone() };
    assert!(matches!(f.store.finish_run(attempt, out_of_order).await, Err(Error::Invalid(_))));
    assert_eq!(f.store.get_run(&TenantId::default(), attempt.run).await.unwrap().status, RunStatus::Running);
    assert_eq!(f.store.get_thread(&TenantId::default(), thread).await.unwrap().status, ThreadStatus::Busy);

    f.clock.advance(Duration::from_secs(2));
    let run = f.store.finish_run(attempt, end.clone()).await.unwrap();
    assert_eq!((run.status, run.last_seq, run.ended_at), (RunStatus::AwaitingInput, 3, Some(f.clock.now())));
    assert_eq!((&run.error, &run.usage, run.expires_at), (&end.error, &end.usage, end.expires_at));
    assert_eq!(f.store.get_run(&TenantId::default(), attempt.run).await.unwrap(), run);
    let thread = f.store.get_thread(&TenantId::default(), thread).await.unwrap();
    assert_eq!((thread.status, thread.interrupts), (ThreadStatus::Interrupted, Some(value!([{"id": "q"}]))));
    assert_eq!(thread.state_updated_at, Some(f.clock.now()));
    let log = f.store.read_log(&TenantId::default(), run.id, 1, Default::default()).await.unwrap();
    assert_eq!(log, [record(1, "a"), record(2, "b"), record(3, "end")]);
}

pub async fn states_change_only_as_they_may(f: Fixture) {
    let thread = f.thread().await;
    let end = |status| RunEnd { status, ..Default::default() };
    let running = f.running(thread).await.attempt;
    for status in RunStatus::UNFINISHED {
        let refused = f.store.finish_run(running, end(status)).await;
        assert!(matches!(refused, Err(Error::Invalid(_))), "{status} is no end: {refused:?}");
    }
    let ends =
        [RunStatus::Succeeded, RunStatus::AwaitingInput, RunStatus::Failed, RunStatus::Cancelled, RunStatus::TimedOut];
    for status in ends {
        let pending = f.run(thread).await.current();
        let finished = f.store.finish_run(pending, end(status)).await;
        if matches!(status, RunStatus::Succeeded | RunStatus::AwaitingInput) {
            assert!(matches!(finished, Err(Error::RunState { .. })), "one that has not begun: {finished:?}");
        } else {
            assert_eq!(finished.unwrap().status, status);
        }
        assert_eq!(
            f.store.get_thread(&TenantId::default(), thread).await.unwrap().status,
            ThreadStatus::Busy,
            "another holds the thread"
        );
    }
    for status in ends {
        let thread = f.thread().await;
        let attempt = f.running(thread).await.attempt;
        assert_eq!(f.finish(attempt, status).await.status, status);
        assert_eq!(f.store.get_thread(&TenantId::default(), thread).await.unwrap().status, ThreadStatus::Idle);
        for refused in [
            f.store.finish_run(attempt, end(RunStatus::Failed)).await.map(|_| ()),
            f.try_begin(attempt, Object::default(), 0).await.map(|_| ()),
            f.store.release_run(attempt, None).await.map(|_| ()),
        ] {
            assert!(matches!(refused, Err(Error::RunState { .. })), "after {status}: {refused:?}");
        }
    }
    let pending = f.run(thread).await.current();
    assert!(matches!(f.store.release_run(pending, None).await, Err(Error::RunState { .. })));
    let nobody = Attempt::new(RunId(Uuid::nil()), 0);
    assert!(matches!(f.try_begin(nobody, Object::default(), 0).await, Err(Error::NotFound { .. })));
}
