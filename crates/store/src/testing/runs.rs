//! Runs, on every store.

use std::time::Duration;

use crate::{
    AssistantId, CancelAction, Canceller, Direction, Error, Multitask, NewRun, NewThread, PageRequest, RequestKey,
    RunEnd, RunFilter, RunStatus, RunThread, Swept, What,
};
use runloom_engine::{Clock, RunId, ThreadId, value};
use uuid::Uuid;

use super::{Fixture, Line, new_run, object, record};

fn key(id: &str, hash: &[u8]) -> Option<RequestKey> {
    Some(RequestKey { id: id.into(), hash: hash.into() })
}

pub async fn a_run_keeps_all_that_it_was_made_with(f: Fixture) {
    let thread = f.thread().await;
    let new = NewRun {
        id: Some(RunId(Uuid::from_u128(5))),
        owner: Some("ada".into()),
        assistant: Some(AssistantId(Uuid::from_u128(6))),
        multitask: Multitask::Rollback,
        start_at: Some(f.clock.now() + Duration::from_secs(5)),
        request: value!({"input": {"n": 18446744073709551615u64, "f": 1.0}, "modes": ["values"]}),
        request_key: key("r", b"h"),
        stateless: true,
        ..new_run(thread)
    };
    let created = f.store.create_run(new.clone()).await.unwrap();
    let run = created.run;
    assert!(created.new);
    assert_eq!(
        (run.id, run.thread, run.status, run.attempt),
        (RunId(Uuid::from_u128(5)), thread, RunStatus::Pending, 0)
    );
    assert_eq!((&run.owner, run.assistant, run.multitask), (&new.owner, new.assistant, new.multitask));
    assert_eq!((&*run.graph, &*run.revision), ("graph", "r1"));
    assert_eq!((run.start_at, &run.request, &run.request_key), (new.start_at, &new.request, &new.request_key));
    assert_eq!((run.created_at, run.stateless), (f.clock.now(), true));
    assert_eq!(f.store.get_run(run.id).await.unwrap(), run);
    let taken = f.store.create_run(NewRun { request_key: None, ..new }).await.unwrap_err();
    assert!(matches!(taken, Error::AlreadyExists { what: What::Run, .. }), "{taken}");
}

pub async fn a_run_makes_its_thread_or_asks_for_it(f: Fixture) {
    let nowhere = ThreadId(Uuid::from_u128(1));
    let missing = f.store.create_run(new_run(nowhere)).await.unwrap_err();
    assert!(matches!(missing, Error::NotFound { what: What::Thread, .. }), "{missing}");

    let thread = NewThread { id: Some(nowhere), metadata: object(value!({"a": 1})), ..Default::default() };
    let new = NewRun { thread: RunThread::Create(thread), ..new_run(nowhere) };
    let first = f.store.create_run(new.clone()).await.unwrap().run;
    assert_eq!(first.thread, nowhere);
    assert_eq!(f.store.get_thread(nowhere).await.unwrap().metadata, object(value!({"a": 1})));
    let second = f.store.create_run(new).await.unwrap().run;
    assert_eq!(second.thread, nowhere, "a thread that is there is used");

    let anywhere = NewRun { thread: RunThread::Create(NewThread::default()), ..new_run(nowhere) };
    let made = f.store.create_run(anywhere).await.unwrap().run.thread;
    assert!(f.store.get_thread(made).await.is_ok());
}

// G21
pub async fn the_same_request_is_the_same_run(f: Fixture) {
    let thread = f.thread().await;
    let ask = |owner: Option<&str>, id, hash| NewRun {
        owner: owner.map(str::to_owned),
        request_key: key(id, hash),
        ..new_run(thread)
    };
    let first = f.store.create_run(ask(None, "r", b"one")).await.unwrap();
    let again = f.store.create_run(ask(None, "r", b"one")).await.unwrap();
    assert!(first.new && !again.new);
    assert_eq!(first.run, again.run);
    let other = f.store.create_run(ask(None, "r", b"two")).await.unwrap_err();
    assert_eq!(other, Error::RequestReused { request_id: "r".into(), run: first.run.id });
    let ada = f.store.create_run(ask(Some("ada"), "r", b"two")).await.unwrap();
    assert!(ada.new, "another owner's ids are others");
    assert!(f.store.create_run(new_run(thread)).await.unwrap().new, "no id, no repetition");

    let find = async |owner, id| f.store.find_request(owner, id).await.unwrap().map(|run| run.id);
    assert_eq!(find(None, "r").await, Some(first.run.id));
    assert_eq!(find(Some("ada"), "r").await, Some(ada.run.id));
    assert_eq!(find(Some("bob"), "r").await, None);
    assert_eq!(find(None, "s").await, None);

    f.finish(first.run.current(), RunStatus::Cancelled).await;
    assert!(!f.store.create_run(ask(None, "r", b"one")).await.unwrap().new, "a run that is over counts too");
    f.store.delete_run(first.run.id).await.unwrap();
    assert!(f.store.create_run(ask(None, "r", b"two")).await.unwrap().new, "one that is deleted does not");
}

pub async fn reject_is_decided_where_the_run_is_made(f: Fixture) {
    let thread = f.thread().await;
    let reject = NewRun { multitask: Multitask::Reject, ..new_run(thread) };
    let later = NewRun { start_at: Some(f.clock.now() + Duration::from_secs(9)), ..new_run(thread) };
    f.store.create_run(later).await.unwrap();
    let first = f.store.create_run(reject.clone()).await.expect("a run for later is not in the way").run;
    let busy = Error::Busy { thread, run: first.id };
    assert_eq!(f.store.create_run(reject.clone()).await.unwrap_err(), busy, "a pending run is in the way");
    let begun = f.begin(first.current()).await;
    assert_eq!(f.store.create_run(reject.clone()).await.unwrap_err(), busy, "a running run is in the way");
    f.finish(begun.attempt, RunStatus::Failed).await;
    f.store.create_run(reject).await.unwrap();
}

pub async fn cancelling_is_asked_once_and_only_grows(f: Fixture) {
    let run = f.run(f.thread().await).await;
    let first = f.store.request_cancel(run.id, CancelAction::Interrupt, "ada".into()).await.unwrap();
    let at = f.clock.now();
    f.clock.advance(Duration::from_secs(1));
    let asked = first.cancel.unwrap();
    assert_eq!((asked.action, &asked.by, asked.at), (CancelAction::Interrupt, &"ada".into(), at));
    let second = f.store.request_cancel(run.id, CancelAction::Rollback, "bob".into()).await.unwrap().cancel.unwrap();
    assert_eq!((second.action, &second.by, second.at), (CancelAction::Rollback, &"ada".into(), at));
    let third = f.store.request_cancel(run.id, CancelAction::Interrupt, "bob".into()).await.unwrap().cancel.unwrap();
    assert_eq!(third, second);
    assert_eq!(f.store.get_run(run.id).await.unwrap().cancel, Some(third));
    let ended = f.finish(run.current(), RunStatus::Cancelled).await;
    assert!(ended.cancel.is_some());
    let other = f.run(f.thread().await).await;
    f.finish(other.current(), RunStatus::Failed).await;
    let late = f.store.request_cancel(other.id, CancelAction::Rollback, "ada".into()).await.unwrap();
    assert_eq!((late.cancel, late.status), (None, RunStatus::Failed));
    for by in [Canceller::Readers, Canceller::NewerRun(other.id), Canceller::ThreadDeleted, "a caller".into()] {
        let run = f.run(f.thread().await).await;
        f.store.request_cancel(run.id, CancelAction::Interrupt, by.clone()).await.unwrap();
        assert_eq!(f.store.get_run(run.id).await.unwrap().cancel.unwrap().by, by);
    }
}

// G22
pub async fn pending_runs_come_in_the_order_of_making_when_their_time_has_come(f: Fixture) {
    let thread = f.thread().await;
    let now = f.clock.now();
    let at = |seconds| NewRun { start_at: Some(now + Duration::from_secs(seconds)), ..new_run(thread) };
    let late = f.store.create_run(at(20)).await.unwrap().run;
    let soon = f.store.create_run(at(10)).await.unwrap().run;
    let first = f.run(thread).await;
    let second = f.run(thread).await;
    let next = async |seconds| {
        f.store.next_pending(thread, now + Duration::from_secs(seconds)).await.unwrap().map(|run| run.id)
    };
    assert_eq!(next(0).await, Some(first.id));
    assert_eq!(next(10).await, Some(soon.id), "its time has come, and it was made before");
    assert_eq!(next(20).await, Some(late.id));
    let scheduled =
        async || -> Vec<RunId> { f.store.scheduled_runs(10).await.unwrap().into_iter().map(|run| run.id).collect() };
    assert_eq!(scheduled().await, [soon.id, late.id]);
    assert_eq!(f.store.scheduled_runs(1).await.unwrap(), std::slice::from_ref(&soon));

    let begun = f.begin(first.current()).await;
    assert_eq!(next(0).await, Some(second.id));
    f.finish(second.current(), RunStatus::Cancelled).await;
    assert_eq!(next(0).await, None);
    f.finish(soon.current(), RunStatus::Cancelled).await;
    assert_eq!(scheduled().await, [late.id]);
    f.finish(begun.attempt, RunStatus::Succeeded).await;
    assert_eq!(f.store.next_pending(f.thread().await, now).await.unwrap(), None);
}

pub async fn runs_are_listed_by_filter_and_page(f: Fixture) {
    let (a, b) = (f.thread().await, f.thread().await);
    let assistant = AssistantId(Uuid::from_u128(9));
    let mut runs = Vec::new();
    for i in 0..7 {
        let new = NewRun {
            assistant: (i % 2 == 0).then_some(assistant),
            graph: if i < 5 { "g" } else { "h" }.into(),
            owner: (i == 3).then(|| "ada".into()),
            ..new_run(if i < 4 { a } else { b })
        };
        runs.push(f.store.create_run(new).await.unwrap().run);
    }
    f.begin(runs[0].current()).await;
    f.finish(runs[1].current(), RunStatus::Failed).await;
    let which = async |filter: RunFilter| -> Vec<usize> {
        let count = f.store.count_runs(filter.clone()).await.unwrap();
        let page = f.store.list_runs(filter, Direction::Ascending, PageRequest::default()).await.unwrap();
        assert_eq!((count, page.next), (page.items.len() as u64, None));
        page.items.iter().map(|run| runs.iter().position(|known| known.id == run.id).unwrap()).collect()
    };
    let all = RunFilter::default;
    assert_eq!(which(all()).await, [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(which(RunFilter { thread: Some(b), ..all() }).await, [4, 5, 6]);
    assert_eq!(which(RunFilter { status: RunStatus::UNFINISHED.into(), ..all() }).await, [0, 2, 3, 4, 5, 6]);
    assert_eq!(which(RunFilter { status: vec![RunStatus::Failed, RunStatus::Running], ..all() }).await, [0, 1]);
    assert_eq!(which(RunFilter { assistant: Some(assistant), graph: Some("h".into()), ..all() }).await, [6]);
    assert_eq!(which(RunFilter { owner: Some("ada".into()), ..all() }).await, [3]);
    assert_eq!(which(RunFilter { thread: Some(ThreadId(Uuid::nil())), ..all() }).await, [0; 0]);

    for (order, expected) in [(Direction::Ascending, [0, 1, 2, 3]), (Direction::Descending, [3, 2, 1, 0])] {
        let list = async |page| f.store.list_runs(RunFilter { thread: Some(a), ..all() }, order, page).await.unwrap();
        let first = list(PageRequest::first(3)).await;
        let second = list(PageRequest::after(3, first.next.unwrap())).await;
        assert_eq!(second.next, None);
        let ids: Vec<_> = first.items.iter().chain(&second.items).map(|run| run.id).collect();
        assert_eq!(ids, expected.map(|i| runs[i].id));
        let skipped = list(PageRequest { size: 2, skip: 1, token: None }).await;
        assert_eq!(skipped.items[0].id, runs[expected[1]].id);
    }
}

pub async fn a_sweep_takes_what_has_expired(f: Fixture) {
    let now = f.clock.now();
    let stateless = |stateless| NewRun {
        thread: RunThread::Create(NewThread { stateless, ..Default::default() }),
        stateless,
        ..new_run(ThreadId(Uuid::nil()))
    };
    let mut runs = Vec::new();
    for (i, kept) in [false, false, false, true].into_iter().enumerate() {
        let run = f.store.create_run(stateless(!kept)).await.unwrap().run;
        let attempt = f.begin(run.current()).await.attempt;
        f.put(&Line::new(&f, run.thread, "").set("x", value!(1)), Some(attempt)).await;
        let end = RunEnd {
            status: RunStatus::Succeeded,
            expires_at: Some(now + Duration::from_secs(i as u64)),
            records: vec![record(1, "end")],
            ..Default::default()
        };
        f.store.finish_run(attempt, end).await.unwrap();
        runs.push(run);
    }
    let unfinished = f.store.create_run(stateless(true)).await.unwrap().run;
    let there = async || {
        let mut there = Vec::new();
        for (i, run) in runs.iter().enumerate() {
            let run_there = f.store.get_run(run.id).await.is_ok();
            assert_eq!(f.store.get_thread(run.thread).await.is_ok(), run_there);
            there.extend(run_there.then_some(i));
        }
        there
    };
    let later = now + Duration::from_secs(1);
    assert_eq!(f.store.sweep(later, 1).await.unwrap(), Swept { runs: 1, cached: 0 });
    assert_eq!(there().await, [1, 2, 3], "the first to expire goes first");
    assert_eq!(f.store.sweep(later, 10).await.unwrap(), Swept { runs: 1, cached: 0 });
    assert_eq!(f.store.sweep(later, 10).await.unwrap(), Swept::default());
    assert_eq!(there().await, [2, 3]);
    f.store.sweep(now + Duration::from_secs(99), 10).await.unwrap();
    assert_eq!(there().await, [3], "what is not stateless stays");
    assert!(f.store.get_run(unfinished.id).await.is_ok());
}

pub async fn a_run_is_deleted_with_its_log(f: Fixture) {
    let thread = f.thread().await;
    let attempt = f.running(thread).await.attempt;
    let line = Line::new(&f, thread, "").set("x", value!(1));
    f.put(&line, Some(attempt)).await;
    f.store.append_log(attempt, vec![record(1, "a")]).await.unwrap();
    assert!(matches!(f.store.delete_run(attempt.run).await, Err(Error::RunState { .. })), "it is running");
    f.finish(attempt, RunStatus::Succeeded).await;
    f.store.delete_run(attempt.run).await.unwrap();
    let gone = Error::NotFound { what: What::Run, id: attempt.run.to_string() };
    assert_eq!(f.store.get_run(attempt.run).await.unwrap_err(), gone);
    assert_eq!(f.store.read_log(attempt.run, 1, Default::default()).await.unwrap_err(), gone);
    assert_eq!(f.store.log_bounds(attempt.run).await.unwrap_err(), gone);
    assert_eq!(f.store.delete_run(attempt.run).await.unwrap_err(), gone);
    let saved = f.get(thread, "", line.id).await.unwrap();
    assert_eq!(saved.checkpoint.run_id, Some(attempt.run), "its checkpoints stay, and say whose they are");
    let next = f.run(thread).await;
    assert_eq!(f.begin(next.current()).await.first_seq, 1);
}
