//! Two servers on one store: leases, claims, fencing, hints.

use std::time::Duration;

use runloom_engine::{CheckpointError, Object, value};

use super::{Fixture, Line, record};
use crate::{CancelAction, CronId, Error, Job, RunEnd, RunStatus, ServerId, SweepKind, TenantId, Topic, Watch};

const TTL: Duration = Duration::from_secs(10);

async fn two(f: &Fixture) -> (ServerId, ServerId) {
    (f.store.register_server(TTL).await.unwrap(), f.store.register_server(TTL).await.unwrap())
}

async fn has_hint(watch: &mut Watch) -> bool {
    tokio::time::timeout(Duration::from_secs(5), watch.changed()).await.is_ok()
}

pub async fn a_run_is_recovered_once_the_lease_of_its_server_is_over(f: Fixture) {
    let (a, b) = two(&f).await;
    let run = f.run(f.thread().await).await;
    let begun = f.store.begin_attempt(run.current(), a, Object::default(), 0).await.unwrap();
    assert_eq!(begun.run.server, Some(a));
    assert!(f.store.abandoned_runs(9).await.unwrap().is_empty());
    let healthy = f.store.begin_attempt(begun.attempt, b, Object::default(), 0).await;
    assert!(matches!(healthy, Err(Error::RunState { .. })), "a healthy run was stolen: {healthy:?}");

    f.clock.advance(TTL / 2);
    f.store.renew_server(b, TTL).await.unwrap();
    f.clock.advance(TTL / 2);
    assert_eq!(f.store.abandoned_runs(9).await.unwrap()[0].id, run.id);
    let again = f.store.begin_attempt(begun.attempt, b, Object::default(), 0).await.unwrap();
    assert_eq!((again.attempt.number, again.run.server), (2, Some(b)));
    assert!(f.store.abandoned_runs(9).await.unwrap().is_empty());
    let late = f.store.append_log(begun.attempt, vec![record(1, "x")]).await;
    assert!(matches!(late, Err(Error::Superseded { .. })), "{late:?}");
    let ended = f.finish(again.attempt, RunStatus::Succeeded).await;
    assert_eq!(ended.server, None);
}

pub async fn a_lease_is_renewed_and_released(f: Fixture) {
    let (a, b) = two(&f).await;
    let run = f.run(f.thread().await).await;
    let attempt = f.store.begin_attempt(run.current(), a, Object::default(), 0).await.unwrap().attempt;
    for _ in 0..5 {
        f.clock.advance(TTL / 3);
        f.store.renew_server(a, TTL).await.unwrap();
        assert!(f.store.abandoned_runs(9).await.unwrap().is_empty());
    }
    let over = f.store.begin_attempt(attempt, b, Object::default(), 0).await;
    assert_eq!(over, Err(Error::LeaseLost { server: b }), "a server without a lease begins nothing");
    f.store.renew_server(b, TTL).await.expect("nobody has forgotten it yet");
    f.store.release_server(a).await.unwrap();
    assert_eq!(f.store.renew_server(a, TTL).await, Err(Error::LeaseLost { server: a }));
    assert_eq!(f.store.abandoned_runs(9).await.unwrap().len(), 1, "at once");
    f.store.begin_attempt(attempt, b, Object::default(), 0).await.unwrap();
}

pub async fn a_paused_server_is_fenced(f: Fixture) {
    let (a, b) = two(&f).await;
    let thread = f.thread().await;
    let run = f.run(thread).await;
    let old = f.store.begin_attempt(run.current(), a, Object::default(), 9).await.unwrap().attempt;
    // A is paused past its lease; B takes its run over; A goes on and renews.
    f.clock.advance(TTL * 2);
    f.store.renew_server(b, TTL).await.unwrap();
    let new = f.store.begin_attempt(old, b, Object::default(), 0).await.unwrap().attempt;
    f.store.renew_server(a, TTL).await.unwrap();
    let line = Line::new(&f, thread, "").set("x", value!(1));
    let put = f.store.checkpointer(&TenantId::default(), old).put(line.write(Some(old))).await;
    assert!(matches!(put, Err(CheckpointError::Superseded)), "{put:?}");
    let end = RunEnd { status: RunStatus::Succeeded, ..RunEnd::default() };
    assert!(matches!(f.store.finish_run(old, end).await, Err(Error::Superseded { .. })));
    assert!(matches!(f.store.release_run(old, None).await, Err(Error::Superseded { .. })));
    assert!(matches!(f.store.begin_attempt(old, a, Object::default(), 0).await, Err(Error::Superseded { .. })));
    f.finish(new, RunStatus::Succeeded).await;
}

pub async fn a_job_is_claimed_by_one_server(f: Fixture) {
    let (a, b) = two(&f).await;
    let cron = Job::Cron(TenantId::default(), CronId(uuid::Uuid::from_u128(1)));
    let jobs = [cron, Job::Delivery(runloom_engine::RunId(uuid::Uuid::from_u128(1))), Job::Sweep(SweepKind::Runs)];
    let mut holder = (a, b);
    for job in &jobs {
        let claims = tokio::join!(f.store.claim(a, job.clone()), f.store.claim(b, job.clone()));
        let (a, b) = match claims {
            (Ok(true), Ok(false)) => (a, b),
            (Ok(false), Ok(true)) => (b, a),
            claims => panic!("{job}: {claims:?}"),
        };
        assert_eq!(f.store.claim(a, job.clone()).await, Ok(true), "it holds it");
        f.store.release_claim(b, job.clone()).await.unwrap();
        assert_eq!(f.store.claim(b, job.clone()).await, Ok(false), "another's claim is not released");
        if job == &jobs[0] {
            holder = (a, b);
        }
    }
    let (a, b) = holder;
    f.store.release_claim(a, jobs[0].clone()).await.unwrap();
    assert_eq!(f.store.claim(b, jobs[0].clone()).await, Ok(true));
    f.clock.advance(TTL);
    assert_eq!(f.store.claim(a, jobs[0].clone()).await, Err(Error::LeaseLost { server: a }));
    f.store.renew_server(b, TTL).await.unwrap();
    assert_eq!(f.store.claim(b, jobs[1].clone()).await, Ok(true), "its server's lease is over");
    f.store.release_server(b).await.unwrap();
    f.store.renew_server(a, TTL).await.unwrap();
    assert_eq!(f.store.claim(a, jobs[0].clone()).await, Ok(true), "claims end with their server");
}

pub async fn an_update_by_hand_compares_what_it_saw(f: Fixture) {
    let tenant = TenantId::default();
    let thread = f.thread().await;
    let first = Line::new(&f, thread, "").set("x", value!(1));
    let moved = |latest| Err(CheckpointError::Moved { latest });
    let by_hand = |seen| f.store.checkpointer_by_hand(&tenant, Some(seen));
    assert_eq!(by_hand(Some(first.id)).put(first.write(None)).await, moved(None));
    by_hand(None).put(first.write(None)).await.unwrap();
    // Both have seen the same checkpoint.
    let (one, other) = (by_hand(Some(first.id)), by_hand(Some(first.id)));
    let (second, lost) = (first.next().set("x", value!(2)), first.next().set("x", value!(3)));
    let (won, late) = tokio::join!(one.put(second.write(None)), other.put(lost.write(None)));
    assert_eq!((won, late), (Ok(()), moved(Some(second.id))));
    one.put(second.next().write(None)).await.expect("it has seen what it put itself");
    assert!(f.get(thread, "", lost.id).await.is_none());
}

pub async fn hints_reach_the_other_server(f: Fixture) {
    let tenant = TenantId::default();
    let thread = f.thread().await;
    let (mut on_thread, mut pending) = (f.store.watch(Topic::Thread(thread)), f.store.watch(Topic::Pending));
    let run = f.run(thread).await;
    assert!(has_hint(&mut on_thread).await && has_hint(&mut pending).await, "a run was created");
    let (mut on_run, mut cancels) =
        (f.store.watch(Topic::Run(run.id)), f.store.watch(Topic::Cancels(f.server().await)));
    let attempt = f.begin(run.current()).await.attempt;
    assert!(has_hint(&mut on_run).await, "it began");
    f.store.append_log(attempt, vec![record(1, "x")]).await.unwrap();
    assert!(has_hint(&mut on_run).await, "its log grew");
    assert!(f.store.cancelled_on(f.server().await).await.unwrap().is_empty());
    f.store.request_cancel(&tenant, run.id, CancelAction::Interrupt, "ada".into()).await.unwrap();
    assert!(has_hint(&mut cancels).await, "it is to be cancelled");
    assert_eq!(f.store.cancelled_on(f.server().await).await.unwrap()[0].id, run.id);
    while on_run.take() {}
    let refused = f.store.append_log(attempt, vec![record(1, "again")]).await;
    assert!(refused.is_err() && !on_run.take(), "what is refused changes nothing");
    f.finish(attempt, RunStatus::Cancelled).await;
    assert!(has_hint(&mut on_run).await, "it ended");
    let mut graphs = f.store.watch(Topic::Graphs);
    f.store.put_graph(&tenant, "g", "r", "text").await.unwrap();
    assert!(has_hint(&mut graphs).await);
    let mut schedules = f.store.watch(Topic::Schedules);
    let expiry = crate::Expiry { at: runloom_engine::Clock::now(&*f.clock) + TTL, keep_latest: false };
    let new = crate::NewThread { expiry: Some(expiry), ..crate::NewThread::default() };
    let expiring = f.store.create_thread(&tenant, new).await.unwrap().id;
    assert!(has_hint(&mut schedules).await, "a thread expires");
    while schedules.take() {}
    let update = crate::ThreadUpdate { expiry: Some(Some(expiry)), ..crate::ThreadUpdate::default() };
    f.store.update_thread(&tenant, expiring, update).await.unwrap();
    assert!(has_hint(&mut schedules).await, "it expires at another time");
}

pub async fn waiting_threads_and_rollbacks_are_found(f: Fixture) {
    let tenant = TenantId::default();
    let (a, b) = (f.thread().await, f.thread().await);
    let in_b = f.run(b).await;
    let in_a = f.run(a).await;
    let later = crate::NewRun {
        start_at: Some(runloom_engine::Clock::now(&*f.clock) + TTL),
        ..super::new_run(f.thread().await)
    };
    f.store.create_run(&tenant, later).await.unwrap();
    let waiting = async || f.store.waiting_threads(9).await.unwrap();
    assert_eq!(waiting().await, [(tenant.clone(), b), (tenant.clone(), a)]);
    let attempt = f.begin(in_b.current()).await.attempt;
    f.run(b).await;
    let counted = f.store.count_unfinished().await.unwrap();
    assert_eq!((counted.pending, counted.running), (3, 1), "of all tenants");
    assert_eq!(waiting().await, [(tenant.clone(), a)], "one of the other's runs is running");
    f.clock.advance(TTL);
    assert_eq!(waiting().await.len(), 2, "its time has come");

    f.store.request_cancel(&tenant, in_b.id, CancelAction::Rollback, "ada".into()).await.unwrap();
    f.store.request_cancel(&tenant, in_a.id, CancelAction::Interrupt, "ada".into()).await.unwrap();
    assert!(f.store.unfinished_rollbacks(9).await.unwrap().is_empty(), "it has not ended");
    f.finish(attempt, RunStatus::Cancelled).await;
    f.finish(in_a.current(), RunStatus::Cancelled).await;
    let found = f.store.unfinished_rollbacks(9).await.unwrap();
    assert_eq!(found.iter().map(|run| run.id).collect::<Vec<_>>(), [in_b.id]);
    f.store.delete_run(&tenant, in_b.id).await.unwrap();
    assert!(f.store.unfinished_rollbacks(9).await.unwrap().is_empty());
}
