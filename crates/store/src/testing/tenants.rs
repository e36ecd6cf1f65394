//! Tenants: what belongs to another one is answered as if it did not exist.

use runloom_engine::{Object, items::ItemQuery, value};

use super::{Fixture, Line, new_run, object, record};
use crate::{
    AssistantId, CancelAction, CronId, Direction, Error, NewAssistant, NewCron, NewThread, PageRequest, ReadLimit,
    Result, TenantId,
};

fn tenants() -> (TenantId, TenantId) {
    (TenantId::default(), TenantId::new("other").unwrap())
}

fn new_cron(id: CronId) -> NewCron {
    NewCron {
        id: Some(id),
        assistant: AssistantId(uuid::Uuid::nil()),
        thread: None,
        schedule: "* * * * *".into(),
        timezone: None,
        end_at: None,
        enabled: true,
        keep: false,
        metadata: Object::default(),
        request: value!({}),
        next_at: None,
    }
}

#[track_caller]
fn is_hidden<T: std::fmt::Debug>(what: &str, answer: Result<T>) {
    assert!(matches!(answer, Err(Error::NotFound { .. })), "{what}: {answer:?}");
}

pub async fn what_belongs_to_another_tenant_does_not_exist(f: Fixture) {
    let (mine, other) = tenants();
    let s = &f.store;
    let thread = f.thread().await;
    let begun = f.running(thread).await;
    let (run, attempt) = (begun.run.id, begun.attempt);
    s.append_log(attempt, vec![record(1, "x")]).await.unwrap();
    let line = Line::new(&f, thread, "").set("x", value!(1));
    f.put(&line, Some(attempt)).await;
    f.finish(attempt, crate::RunStatus::Succeeded).await;
    let assistant = s.create_assistant(&mine, NewAssistant::default()).await.unwrap().id;
    let cron = s.create_cron(&mine, new_cron(CronId(uuid::Uuid::from_u128(7)))).await.unwrap().id;
    s.put_graph(&mine, "g", "r", "text").await.unwrap();
    s.items(&mine).put(&["ns".into()], "k", object(value!({"a": 1}))).await.unwrap();
    s.node_cache(&mine).put("k", value!(1), None).await;

    let page = PageRequest::default;
    is_hidden("get_thread", s.get_thread(&other, thread).await);
    is_hidden("update_thread", s.update_thread(&other, thread, Default::default()).await);
    is_hidden("delete_thread", s.delete_thread(&other, thread).await);
    is_hidden("copy_thread", s.copy_thread(&other, thread, None).await);
    is_hidden("prune_checkpoints", s.prune_checkpoints(&other, thread, 1).await);
    is_hidden("begun_runs", s.begun_runs(&other, thread, None, Direction::Ascending, 9).await);
    is_hidden("create_run", s.create_run(&other, new_run(thread)).await);
    is_hidden("get_run", s.get_run(&other, run).await);
    is_hidden("delete_run", s.delete_run(&other, run).await);
    is_hidden("request_cancel", s.request_cancel(&other, run, CancelAction::Rollback, "x".into()).await);
    is_hidden("delete_run_checkpoints", s.delete_run_checkpoints(&other, run).await);
    is_hidden("read_log", s.read_log(&other, run, 1, ReadLimit::default()).await);
    is_hidden("log_bounds", s.log_bounds(&other, run).await);
    is_hidden("trim_log", s.trim_log(&other, run, 1).await);
    is_hidden("get_assistant", s.get_assistant(&other, assistant).await);
    is_hidden("update_assistant", s.update_assistant(&other, assistant, Default::default()).await);
    is_hidden("delete_assistant", s.delete_assistant(&other, assistant).await);
    is_hidden("list_versions", s.list_versions(&other, assistant, Object::default(), page()).await);
    is_hidden("set_latest", s.set_latest(&other, assistant, 1).await);
    is_hidden("get_cron", s.get_cron(&other, cron).await);
    is_hidden("update_cron", s.update_cron(&other, cron, Default::default()).await);
    is_hidden("delete_cron", s.delete_cron(&other, cron).await);
    is_hidden("cron of a thread", s.create_cron(&other, NewCron { thread: Some(thread), ..new_cron(cron) }).await);
    is_hidden("get_graph", s.get_graph(&other, "g", None).await);
    is_hidden("delete_graph", s.delete_graph(&other, "g").await);

    assert!(s.list_threads(&other, Default::default(), Default::default(), page()).await.unwrap().items.is_empty());
    assert!(s.list_runs(&other, Default::default(), Direction::Ascending, page()).await.unwrap().items.is_empty());
    assert!(s.list_assistants(&other, Default::default(), Default::default(), page()).await.unwrap().items.is_empty());
    assert!(s.list_crons(&other, Default::default(), Default::default(), page()).await.unwrap().items.is_empty());
    assert!(s.list_graphs(&other).await.unwrap().is_empty());
    let counts = (
        s.count_threads(&other, Default::default()).await.unwrap(),
        s.count_runs(&other, Default::default()).await.unwrap(),
        s.count_assistants(&other, Default::default()).await.unwrap(),
        s.count_crons(&other, Default::default()).await.unwrap(),
    );
    assert_eq!(counts, (0, 0, 0, 0));
    assert_eq!(s.next_pending(&other, thread).await.unwrap(), None);
    let reader = s.checkpointer_by_hand(&other, None);
    assert!(reader.get(thread, "", None).await.unwrap().is_none());
    assert!(reader.list(thread, "", Default::default()).await.unwrap().is_empty());
    assert!(reader.put(line.next().write(None)).await.is_err());
    let items = s.items(&other);
    assert!(items.get(&["ns".into()], "k").await.unwrap().is_none());
    assert!(items.search(ItemQuery::default()).await.unwrap().is_empty());
    assert!(items.namespaces(Default::default()).await.unwrap().is_empty());
    items.delete(&["ns".into()], "k").await.unwrap();
    assert_eq!(s.node_cache(&other).get("k").await, None);

    // Nothing of it did anything.
    assert!(s.get_thread(&mine, thread).await.is_ok() && s.get_assistant(&mine, assistant).await.is_ok());
    assert!(s.get_cron(&mine, cron).await.is_ok() && s.get_graph(&mine, "g", None).await.is_ok());
    assert!(s.items(&mine).get(&["ns".into()], "k").await.unwrap().is_some());
    assert_eq!(s.read_log(&mine, run, 1, ReadLimit::default()).await.unwrap().len(), 1);
}

pub async fn the_same_ids_live_side_by_side(f: Fixture) {
    let (mine, other) = tenants();
    let s = &f.store;
    let id = f.thread().await;
    let theirs = NewThread { id: Some(id), metadata: object(value!({"whose": "theirs"})), ..Default::default() };
    s.create_thread(&other, theirs).await.expect("an id of another tenant is free");
    assert!(s.get_thread(&mine, id).await.unwrap().metadata.is_empty());
    let key = |hash: &[u8]| Some(crate::RequestKey { id: "r".into(), hash: hash.into() });
    let new = |hash| crate::NewRun { request_key: key(hash), ..new_run(id) };
    let ours = s.create_run(&mine, new(b"one")).await.unwrap();
    let theirs = s.create_run(&other, new(b"two")).await.unwrap();
    assert!(ours.new && theirs.new && theirs.run.tenant == other);
    assert_eq!(s.find_request(&other, "r").await.unwrap().unwrap().id, theirs.run.id);
    assert_eq!(s.next_pending(&mine, id).await.unwrap().unwrap().id, ours.run.id);
    f.begin(ours.run.current()).await;
    f.begin(theirs.run.current()).await;
    let line = Line::new(&f, id, "").set("x", value!(1));
    f.put(&line, Some(ours.run.current()).map(|a| crate::Attempt::new(a.run, 1))).await;
    assert!(s.checkpointer_by_hand(&other, None).get(id, "", None).await.unwrap().is_none());

    let assistant = AssistantId(uuid::Uuid::from_u128(3));
    for (tenant, name) in [(&mine, "mine"), (&other, "theirs")] {
        let new = NewAssistant { id: Some(assistant), name: name.into(), ..Default::default() };
        s.create_assistant(tenant, new).await.unwrap();
        s.create_cron(tenant, new_cron(CronId(uuid::Uuid::from_u128(4)))).await.unwrap();
        s.put_graph(tenant, "g", "r", name).await.unwrap();
        s.items(tenant).put(&["ns".into()], "k", object(value!({"name": name}))).await.unwrap();
        s.node_cache(tenant).put("k", value!(name), None).await;
    }
    assert_eq!(s.get_assistant(&mine, assistant).await.unwrap().name, "mine");
    assert_eq!(s.get_graph(&mine, "g", None).await.unwrap().text, "mine");
    assert_eq!(s.items(&mine).get(&["ns".into()], "k").await.unwrap().unwrap().value, object(value!({"name": "mine"})));
    assert_eq!(s.node_cache(&mine).get("k").await, Some(value!("mine")));
    s.delete_thread(&other, id).await.unwrap();
    assert!(s.get_thread(&mine, id).await.is_ok() && s.get_run(&mine, ours.run.id).await.is_ok());
    is_hidden("their run", s.get_run(&other, theirs.run.id).await);
}
