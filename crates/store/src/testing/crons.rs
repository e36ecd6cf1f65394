//! Crons and deliveries, on every store.

use std::time::Duration;

use crate::{
    AssistantId, Cron, CronFilter, CronSort, CronUpdate, Direction, Error, Firing, NewCron, NewDelivery, NewRun,
    NewThread, PageRequest, RunEnd, RunFilter, RunStatus, RunThread, TenantId, What,
};
use runloom_engine::{Clock, ThreadId, Value, value};
use uuid::Uuid;

use super::{Fixture, new_run, object};

const SECOND: Duration = Duration::from_secs(1);

fn new_cron(f: &Fixture) -> NewCron {
    NewCron {
        id: None,
        assistant: AssistantId(Uuid::from_u128(7)),
        thread: None,
        schedule: "* * * * *".into(),
        timezone: None,
        end_at: None,
        enabled: true,
        keep: false,
        metadata: object(value!({"a": 1})),
        request: value!({"input": {"n": 1.0}}),
        next_at: Some(f.clock.now() + SECOND),
    }
}

pub async fn a_cron_is_made_read_changed_and_deleted(f: Fixture) {
    let thread = f.thread().await;
    let end_at = Some(f.clock.now() + SECOND * 100);
    let new = NewCron { thread: Some(thread), timezone: Some("Europe/Vienna".into()), end_at, ..new_cron(&f) };
    let made = f.store.create_cron(&TenantId::default(), new.clone()).await.unwrap();
    assert_eq!(f.store.get_cron(&TenantId::default(), made.id).await.unwrap(), made);
    let (assistant, request) = (new.assistant, new.request.clone());
    assert_eq!((made.thread, made.end_at, made.assistant, &made.request), (Some(thread), end_at, assistant, &request));
    let again = f.store.create_cron(&TenantId::default(), NewCron { id: Some(made.id), ..new }).await.unwrap_err();
    assert!(matches!(again, Error::AlreadyExists { what: What::Cron, .. }), "{again}");

    f.clock.advance(SECOND);
    let update = CronUpdate {
        schedule: Some("@daily".into()),
        timezone: Some(None),
        end_at: Some(None),
        enabled: Some(false),
        keep: Some(true),
        metadata: Some(object(value!({"a": null, "b": [2]}))),
        request: Some(Value::Null),
        next_at: Some(None),
    };
    let changed = f.store.update_cron(&TenantId::default(), made.id, update).await.unwrap();
    let wanted = Cron {
        schedule: "@daily".into(),
        timezone: None,
        end_at: None,
        enabled: false,
        keep: true,
        metadata: object(value!({"b": [2]})),
        request: Value::Null,
        next_at: None,
        updated_at: f.clock.now(),
        ..made.clone()
    };
    assert_eq!(changed, wanted);
    assert_eq!(f.store.get_cron(&TenantId::default(), made.id).await.unwrap(), wanted);

    f.store.delete_cron(&TenantId::default(), made.id).await.unwrap();
    for gone in [
        f.store.delete_cron(&TenantId::default(), made.id).await.unwrap_err(),
        f.store.get_cron(&TenantId::default(), made.id).await.unwrap_err(),
        f.store.update_cron(&TenantId::default(), made.id, CronUpdate::default()).await.unwrap_err(),
    ] {
        assert!(matches!(gone, Error::NotFound { what: What::Cron, .. }), "{gone}");
    }
    let nowhere = NewCron { thread: Some(ThreadId(Uuid::from_u128(1))), ..new_cron(&f) };
    let refused = f.store.create_cron(&TenantId::default(), nowhere).await.unwrap_err();
    assert!(matches!(refused, Error::NotFound { what: What::Thread, .. }), "{refused}");
    let on_thread =
        f.store.create_cron(&TenantId::default(), NewCron { thread: Some(thread), ..new_cron(&f) }).await.unwrap();
    f.store.delete_thread(&TenantId::default(), thread).await.unwrap();
    assert!(f.store.get_cron(&TenantId::default(), on_thread.id).await.is_err(), "a cron goes with its thread");
}

pub async fn crons_are_listed_and_counted(f: Fixture) {
    let thread = f.thread().await;
    let mut made = Vec::new();
    for i in 0..4u32 {
        let new = NewCron {
            thread: (i == 2).then_some(thread),
            enabled: i != 1,
            assistant: AssistantId(Uuid::from_u128(u128::from(i / 2))),
            metadata: object(value!({"i": i})),
            next_at: (i < 3).then(|| f.clock.now() + SECOND * (10 - 2 * i)),
            ..new_cron(&f)
        };
        made.push(f.store.create_cron(&TenantId::default(), new).await.unwrap());
        f.clock.advance(SECOND);
    }
    let list = async |filter: CronFilter, sort, direction, page| -> (Vec<usize>, Option<String>) {
        let found = f.store.list_crons(&TenantId::default(), filter, (sort, direction), page).await.unwrap();
        let places = found.items.iter().map(|c| made.iter().position(|m| m.id == c.id).unwrap()).collect();
        (places, found.next)
    };
    let all = CronFilter::default;
    let (first, next) = list(all(), CronSort::Created, Direction::Descending, PageRequest::first(3)).await;
    assert_eq!(first, [3, 2, 1]);
    let (rest, none) =
        list(all(), CronSort::Created, Direction::Descending, PageRequest::after(3, next.unwrap())).await;
    assert_eq!((rest, none), (vec![0], None));
    let (soonest, _) = list(all(), CronSort::Next, Direction::Ascending, PageRequest::first(9)).await;
    assert_eq!(soonest, [3, 2, 1, 0], "those that are not due again come first");
    for (filter, wanted) in [
        (CronFilter { thread: Some(thread), ..all() }, vec![2]),
        (CronFilter { enabled: Some(false), ..all() }, vec![1]),
        (CronFilter { assistant: Some(made[0].assistant), ..all() }, vec![0, 1]),
        (CronFilter { metadata: object(value!({"i": 3})), ..all() }, vec![3]),
    ] {
        let (found, _) = list(filter.clone(), CronSort::Created, Direction::Ascending, PageRequest::first(9)).await;
        assert_eq!(found, wanted, "{filter:?}");
        assert_eq!(f.store.count_crons(&TenantId::default(), filter).await.unwrap(), wanted.len() as u64);
    }
    let waiting = f.store.waiting_crons(9).await.unwrap();
    assert_eq!(
        waiting.iter().map(|c| c.id).collect::<Vec<_>>(),
        [made[2].id, made[0].id],
        "enabled, and due some time"
    );
}

fn firing(cron: &Cron, run: NewRun) -> Firing {
    let due = cron.next_at.unwrap();
    Firing { tenant: cron.tenant.clone(), cron: cron.id, due, next: Some(due + SECOND * 60), run: Ok(run) }
}

fn own_thread(f: &Fixture) -> NewRun {
    NewRun { thread: RunThread::Create(NewThread::default()), ..new_run(ThreadId(f.clock.uuid())) }
}

pub async fn a_cron_fires_once_for_each_time_that_it_is_due(f: Fixture) {
    let cron = f.store.create_cron(&TenantId::default(), new_cron(&f)).await.unwrap();
    f.clock.advance(SECOND);
    let fire = async |run| f.store.fire_cron(firing(&cron, run)).await.unwrap();
    let (one, other) = tokio::join!(fire(own_thread(&f)), fire(own_thread(&f)));
    let runs: Vec<_> = one.into_iter().chain(other).collect();
    assert_eq!(runs.len(), 1, "of two that saw the same time one fires");
    assert!(fire(own_thread(&f)).await.is_none());
    assert_eq!(f.store.count_runs(&TenantId::default(), RunFilter::default()).await.unwrap(), 1);
    let fired = f.store.get_cron(&TenantId::default(), cron.id).await.unwrap();
    assert_eq!((fired.last_run, fired.fired_at), (Some(runs[0].id), Some(f.clock.now())));
    assert_eq!((fired.next_at, fired.updated_at), (Some(cron.next_at.unwrap() + SECOND * 60), cron.updated_at));

    // The next time, but for those that are disabled or deleted.
    assert!(f.store.fire_cron(firing(&fired, own_thread(&f))).await.unwrap().is_some());
    let fired = f.store.get_cron(&TenantId::default(), cron.id).await.unwrap();
    let off = CronUpdate { enabled: Some(false), ..CronUpdate::default() };
    f.store.update_cron(&TenantId::default(), cron.id, off).await.unwrap();
    assert!(f.store.fire_cron(firing(&fired, own_thread(&f))).await.unwrap().is_none());
    f.store.delete_cron(&TenantId::default(), cron.id).await.unwrap();
    assert!(f.store.fire_cron(firing(&fired, own_thread(&f))).await.unwrap().is_none());
    assert_eq!(f.store.count_runs(&TenantId::default(), RunFilter::default()).await.unwrap(), 2);
}

pub async fn a_firing_that_makes_no_run_says_why(f: Fixture) {
    let cron = f.store.create_cron(&TenantId::default(), new_cron(&f)).await.unwrap();
    let lost = new_run(ThreadId(Uuid::from_u128(1)));
    assert!(f.store.fire_cron(firing(&cron, lost)).await.is_err());
    assert_eq!(
        f.store.get_cron(&TenantId::default(), cron.id).await.unwrap(),
        cron,
        "a run that cannot be made leaves the cron as it was"
    );
    let failed = Firing { run: Err("no graph".into()), ..firing(&cron, own_thread(&f)) };
    assert!(f.store.fire_cron(failed).await.unwrap().is_none());
    let noted = f.store.get_cron(&TenantId::default(), cron.id).await.unwrap();
    assert_eq!((noted.error.as_deref(), noted.last_run), (Some("no graph"), None));
    assert!(f.store.fire_cron(firing(&noted, own_thread(&f))).await.unwrap().is_some());
    assert_eq!(f.store.get_cron(&TenantId::default(), cron.id).await.unwrap().error, None);
}

pub async fn a_delivery_comes_with_the_end_of_its_run(f: Fixture) {
    let thread = f.thread().await;
    let begun = f.running(thread).await;
    let delivery = || Some(NewDelivery { url: "http://x/".into(), body: "{}".into() });
    let end = || RunEnd { status: RunStatus::Succeeded, delivery: delivery(), ..RunEnd::default() };
    let old = crate::Attempt::new(begun.run.id, 0);
    assert!(f.store.finish_run(old, end()).await.is_err());
    assert!(f.store.waiting_deliveries(9).await.unwrap().is_empty(), "a refused end leaves nothing");
    let ended = f.store.finish_run(begun.attempt, end()).await.unwrap();
    let start = f.clock.now();
    assert_eq!(f.store.waiting_deliveries(9).await.unwrap(), [(ended.id, start)]);
    let kept = f.store.get_delivery(ended.id).await.unwrap().unwrap();
    assert_eq!((&*kept.url, &*kept.body, kept.attempts, kept.created_at), ("http://x/", "{}", 0, start));

    f.store.postpone_delivery(ended.id, start + SECOND, "500".into()).await.unwrap();
    f.store.delete_thread(&TenantId::default(), thread).await.unwrap();
    let kept = f.store.get_delivery(ended.id).await.unwrap().unwrap();
    assert_eq!((kept.attempts, kept.error.as_deref(), kept.next_at), (1, Some("500"), start + SECOND));
    let second = f.running(f.thread().await).await;
    f.store.finish_run(second.attempt, end()).await.unwrap();
    let waiting: Vec<_> = f.store.waiting_deliveries(9).await.unwrap().into_iter().map(|(run, _)| run).collect();
    assert_eq!(waiting, [second.run.id, ended.id], "the soonest first");
    f.store.delete_delivery(ended.id).await.unwrap();
    f.store.delete_delivery(ended.id).await.unwrap();
    assert!(f.store.get_delivery(ended.id).await.unwrap().is_none());
}
