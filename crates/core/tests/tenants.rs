//! Every operation of a session, called by a tenant on what belongs to another: it answers as if that did not exist.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::{collections::BTreeSet, fmt::Debug, path::Path, time::Duration};

use futures_util::{FutureExt, StreamExt, future::BoxFuture};
use runloom_core::{CronPatch, ReadOptions, RunRequest, Session, StateQuery, StateUpdateRequest, Target};
use runloom_engine::{
    Object, StateUpdate, ThreadId,
    checkpoint::CheckpointFilter,
    items::{ItemQuery, NamespaceQuery},
    value,
};
use runloom_store::{AssistantUpdate, CancelAction, Expiry, IfExists, NewAssistant, NewThread, PageRequest};
use runloom_testing::tenants::{Ids, MINE, World, cron, fill, later, names, object, plain, request};

type Call = fn(Session, Ids) -> BoxFuture<'static, String>;

fn told<T: Debug>(answer: T) -> String {
    format!("{answer:?}")
}

/// What a stream gives at once.
async fn begun<S, T, E>(stream: Result<S, E>) -> String
where
    S: futures_util::Stream<Item = Result<T, E>> + Unpin,
    T: Debug,
    E: Debug,
{
    let mut stream = match stream {
        Ok(stream) => stream,
        Err(error) => return told(error),
    };
    let mut all = Vec::new();
    while let Ok(Some(item)) = tokio::time::timeout(Duration::from_millis(50), stream.next()).await {
        all.push(told(item));
    }
    all.join("\n")
}

fn update() -> StateUpdate {
    StateUpdate { values: Some(value!({"a": 1})), as_node: Some("say".into()) }
}

fn update_of(thread: ThreadId, updates: Vec<StateUpdate>) -> StateUpdateRequest {
    StateUpdateRequest {
        thread,
        checkpoint_id: None,
        namespace: String::new(),
        updates,
        expected_checkpoint_id: None,
        graph: Some("echo".into()),
    }
}

macro_rules! calls {
    ($($name:ident: |$s:ident, $ids:ident| $call:expr),* $(,)?) => {
        /// Every operation, on what is A's.
        const CALLS: &[(&str, Call)] =
            &[$((stringify!($name), |$s: Session, $ids: Ids| async move { let _ = &$ids; $call }.boxed())),*];
    };
}

calls! {
    create_thread: |s, ids| told(s.create_thread(NewThread { id: Some(ids.thread), ..NewThread::default() }).await),
    get_thread: |s, ids| told(s.get_thread(ids.thread).await),
    update_thread: |s, ids| told(s.update_thread(ids.thread, object(value!({"x": 1}))).await),
    replace_thread_metadata: |s, ids| told(s.replace_thread_metadata(ids.thread, Object::default()).await),
    expire_thread: |s, ids| told(s.expire_thread(ids.thread, Some(Expiry { at: later(), keep_latest: false })).await),
    delete_thread: |s, ids| told(s.delete_thread(ids.thread).await),
    list_threads: |s, ids| told(s.list_threads(Default::default(), Default::default(), PageRequest::first(9)).await),
    count_threads: |s, ids| told(s.count_threads(Default::default()).await),
    copy_thread: |s, ids| told(s.copy_thread(ids.thread, None).await),
    prune_thread: |s, ids| told(s.prune_thread(ids.thread, 1).await),
    get_state: |s, ids| told(s.get_state(StateQuery::latest(ids.thread)).await),
    list_checkpoints: |s, ids| told(s.list_checkpoints(ids.thread, "", CheckpointFilter::default(), None).await),
    check_checkpoint: |s, ids| told(s.check_checkpoint(ids.thread, "", ids.checkpoint).await),
    update_state: |s, ids| told(s.update_state(update_of(ids.thread, vec![update()])).await),
    bulk_update_state: |s, ids| told(s.bulk_update_state(update_of(ids.thread, Vec::new()), vec![vec![update()]]).await),
    create_run: |s, ids| [
        told(s.create_run(request(Some(ids.thread), "echo")).await),
        told(s.create_run(request(Some(ids.asking), "ask")).await),
        told(s.create_run(request(None, "mine")).await),
        told(s.create_run(RunRequest { target: Target::Assistant(ids.assistant), ..request(None, "echo") }).await),
        told(s.create_run(RunRequest { request_id: Some("request".into()), ..request(None, "echo") }).await.map(|made| made.1)),
    ].join("\n"),
    create_run_to_read: |s, ids| told(s.create_run_to_read(request(Some(ids.thread), "echo")).await.map(|made| made.0)),
    prepare_run: |s, ids| told(s.prepare_run(request(Some(ids.thread), "echo")).await.map(drop)),
    create_prepared_run: |s, ids| match s.prepare_run(request(Some(ids.thread), "echo")).await {
        Ok(prepared) => told(s.create_prepared_run(prepared).await),
        Err(error) => told(error),
    },
    get_run: |s, ids| told(s.get_run(ids.run.id).await),
    list_runs: |s, ids| told(s.list_runs(Default::default(), PageRequest::first(9)).await),
    delete_run: |s, ids| told(s.delete_run(ids.run.id).await),
    wait_run: |s, ids| told(s.wait_run(ids.run.id).await),
    cancel_run: |s, ids| [
        told(s.cancel_run(ids.run.id, CancelAction::Rollback, "b".into(), true).await),
        told(s.cancel_run(ids.waiting, CancelAction::Interrupt, "b".into(), true).await),
    ].join("\n"),
    read_run: |s, ids| begun(s.read_run(ids.run.id, ReadOptions::default()).await).await,
    read_new_run: |s, ids| begun(s.read_new_run(*ids.run, ReadOptions::default()).await).await,
    read_thread: |s, ids| begun(s.read_thread(ids.thread, Some(format!("{}:0", uuid::Uuid::nil())), ReadOptions::default(), true).await).await,
    follow_thread: |s, ids| [
        begun(s.follow_thread(ids.thread, Some(format!("{}:0", uuid::Uuid::nil())), ReadOptions::default(), true).await).await,
        begun(s.follow_thread(ids.thread, Some(format!("{}:1", ids.run.id)), ReadOptions::default(), true).await).await,
    ].join("\n"),
    read_events: |s, ids| {
        let mut reader = s.read_events(ids.thread, 0).await.unwrap();
        let mut all = Vec::new();
        while let Ok(Some(record)) = tokio::time::timeout(Duration::from_millis(50), reader.next()).await {
            all.push(told(record.map(|record| (record.before, record.events.len()))));
        }
        all.join("\n")
    },
    stored_events: |s, ids| {
        let mut count = 0;
        told((s.stored_events(&ids.run, |_| count += 1).await, count))
    },
    create_assistant: |s, ids| [
        told(s.create_assistant(NewAssistant { id: Some(ids.assistant), graph: "echo".into(), ..NewAssistant::default() }).await),
        told(s.create_assistant(NewAssistant { graph: "mine".into(), ..NewAssistant::default() }).await),
        told(s.create_assistant(NewAssistant { id: Some(ids.assistant), if_exists: IfExists::Keep, graph: "echo".into(), ..NewAssistant::default() }).await),
    ].join("\n"),
    get_assistant: |s, ids| told(s.get_assistant(ids.assistant).await),
    update_assistant: |s, ids| told(s.update_assistant(ids.assistant, AssistantUpdate::default()).await),
    replace_assistant: |s, ids| told(s.replace_assistant(ids.assistant, AssistantUpdate { metadata: Some(Object::default()), ..AssistantUpdate::default() }).await),
    delete_assistant: |s, ids| told(s.delete_assistant(ids.assistant).await),
    list_assistants: |s, ids| told(s.list_assistants(Default::default(), Default::default(), PageRequest::first(9)).await),
    count_assistants: |s, ids| told(s.count_assistants(Default::default()).await),
    list_assistant_versions: |s, ids| told(s.list_assistant_versions(ids.assistant, Object::default(), PageRequest::first(9)).await),
    set_latest_assistant: |s, ids| told(s.set_latest_assistant(ids.assistant, 1).await),
    create_cron: |s, ids| [
        told(s.create_cron(cron(Some(ids.cron), request(None, "echo"))).await),
        told(s.create_cron(cron(None, request(Some(ids.thread), "echo"))).await),
    ].join("\n"),
    get_cron: |s, ids| told(s.get_cron(ids.cron).await),
    update_cron: |s, ids| told(s.update_cron(ids.cron, CronPatch::default()).await),
    delete_cron: |s, ids| told(s.delete_cron(ids.cron).await),
    list_crons: |s, ids| told(s.list_crons(Default::default(), Default::default(), PageRequest::first(9)).await),
    count_crons: |s, ids| told(s.count_crons(Default::default()).await),
    list_graphs: |s, ids| told(s.list_graphs(true, PageRequest::first(9)).await),
    get_graph: |s, ids| told(s.get_graph("mine").await),
    register_graph: |s, ids| told(s.register_graph(MINE, false).await),
    delete_graph: |s, ids| told(s.delete_graph("mine").await),
    draw: |s, ids| [
        told(s.draw(&Target::Graph("mine".into()), 1).await),
        told(s.draw(&Target::Assistant(ids.assistant), 1).await),
    ].join("\n"),
    schemas: |s, ids| told(s.schemas(&Target::Assistant(ids.assistant)).await),
    subgraph_schemas: |s, ids| told(s.subgraph_schemas(&Target::Assistant(ids.assistant), true).await),
    put_item: |s, ids| told(s.put_item(&names(&["ns"]), "key", object(value!({"x": "b"})), None).await),
    get_item: |s, ids| told(s.get_item(&names(&["ns"]), "key", true).await),
    delete_item: |s, ids| told(s.delete_item(&names(&["ns"]), "key").await),
    search_items: |s, ids| told(s.search_items(ItemQuery::default()).await),
    list_namespaces: |s, ids| told(s.list_namespaces(NamespaceQuery::default()).await),
}

/// Methods of a session that are no operations.
const OWN: [&str; 3] = ["caller", "core", "draining"];
/// Operations of administrators on keys, which have a tenant as an argument; tested with authentication.
const KEYS: [&str; 3] = ["create_key", "list_keys", "revoke_key"];
/// Operations that answer the same whether there was something or not.
const BLIND: [&str; 2] = ["put_item", "delete_item"];

/// All that A sees of its objects.
async fn seen(a: &Session, ids: &Ids) -> String {
    let mut all = Vec::new();
    for name in [
        "get_thread",
        "list_checkpoints",
        "get_run",
        "list_runs",
        "read_run",
        "get_assistant",
        "list_assistant_versions",
        "list_threads",
        "list_assistants",
        "list_crons",
        "list_graphs",
        "search_items",
    ] {
        let (_, call) = CALLS.iter().find(|(known, _)| *known == name).unwrap();
        all.push(call(a.clone(), ids.clone()).await);
    }
    plain(&all.join("\n"), ids)
}

// G39
#[tokio::test]
async fn every_operation_answers_as_if_the_objects_of_another_tenant_did_not_exist() {
    for (name, call) in CALLS {
        let (with, without) = (World::new().await, World::new().await);
        let ids = fill(&with.a).await;
        let before = seen(&with.a, &ids).await;
        let (there, not_there) = (call(with.b.clone(), ids.clone()).await, call(without.b.clone(), ids.clone()).await);
        assert_eq!(plain(&there, &ids), plain(&not_there, &ids), "{name} shows B something of A's");
        assert_eq!(seen(&with.a, &ids).await, before, "{name} of B changed something of A's");
        let (mine, none) = (call(with.a.clone(), ids.clone()).await, call(without.a.clone(), ids.clone()).await);
        if !BLIND.contains(name) {
            assert_ne!(plain(&mine, &ids), plain(&none, &ids), "{name} does not look at what is A's");
        }
    }
}

/// The operations, as the source has them.
fn operations(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            operations(&path, found);
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let mut is_session = false;
        for line in text.lines() {
            if line.starts_with("impl") || line.starts_with('}') {
                is_session = line.starts_with("impl Session {");
            }
            let method = line.strip_prefix("    pub async fn ").or_else(|| line.strip_prefix("    pub fn "));
            if let Some(method) = method.filter(|_| is_session) {
                found.insert(method.split(['(', '<']).next().unwrap().to_owned());
            }
        }
    }
}

#[test]
fn every_operation_is_called() {
    let mut found = BTreeSet::new();
    operations(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    let called: BTreeSet<String> =
        CALLS.iter().map(|(name, _)| *name).chain(OWN).chain(KEYS).map(str::to_owned).collect();
    assert_eq!(found, called, "list each operation of Session in this test, with a call on what is A's");
}
