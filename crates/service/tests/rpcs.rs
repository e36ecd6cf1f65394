//! Every RPC that is no stream, over a socket.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use runloom::v1::{
    Assistant, CancelMode, CancelRunRequest, CopyThreadRequest, CreateAssistantRequest, CreateThreadRequest,
    GetAssistantGraphRequest, GetAssistantSchemasRequest, GetStateRequest, GetThreadRequest, GraphNodeKind,
    GraphSource, IfExists, Json, JsonEncoding, ListAssistantVersionsRequest, ListAssistantsRequest,
    ListCheckpointsRequest, ListGraphsRequest, ListRunsRequest, ListThreadsRequest, MultitaskStrategy,
    RegisterGraphRequest, RunConfig, RunState, StreamMode, Thread, ThreadStatus, UpdateAssistantRequest,
    UpdateStateRequest, UpdateThreadRequest,
};
use serde_json::{Value, json};
use support::*;

fn text(json: Value) -> Option<Json> {
    Some(Json::text(&json))
}

fn read_json(json: &Option<Json>) -> Value {
    json.as_ref().unwrap().decode().unwrap()
}

fn mask(paths: &[&str]) -> Option<prost_types::FieldMask> {
    Some(prost_types::FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() })
}

fn why<T: std::fmt::Debug>(result: Result<T, runloom::Error>) -> &'static str {
    result.unwrap_err().reason().unwrap().name()
}

#[tokio::test]
async fn threads_are_made_changed_and_deleted() {
    let test = start().await;
    let new = CreateThreadRequest { metadata: text(json!({"who": "me", "n": 1})), ..Default::default() };
    let thread = test.client.create_thread(new).await.unwrap();
    assert_eq!((thread.status(), read_json(&thread.metadata)), (ThreadStatus::Idle, json!({"who": "me", "n": 1})));
    assert!(thread.create_time.is_some() && thread.values.is_none() && thread.interrupts.is_empty());
    let id = thread.thread_id.clone();

    let again = |if_exists: IfExists| CreateThreadRequest {
        thread_id: id.clone(),
        if_exists: if_exists.into(),
        ..Default::default()
    };
    assert_eq!(why(test.client.create_thread(again(IfExists::Reject)).await), "THREAD_EXISTS");
    assert_eq!(test.client.create_thread(again(IfExists::Return)).await.unwrap().metadata, thread.metadata);

    let update = |metadata: Value, paths: &[&str]| UpdateThreadRequest {
        thread: Some(Thread { thread_id: id.clone(), metadata: text(metadata), ..Default::default() }),
        update_mask: mask(paths),
        ..Default::default()
    };
    let changed =
        test.client.update_thread(update(json!({"n": 2, "x": 3}), &["metadata.n", "metadata.who"])).await.unwrap();
    assert_eq!(read_json(&changed.metadata), json!({"n": 2}), "one key set, one removed, one not named");
    let changed = test.client.update_thread(update(json!({"a.b": 1, "c": {"d": 2}}), &["metadata.a.b"])).await.unwrap();
    assert_eq!(read_json(&changed.metadata), json!({"n": 2, "a.b": 1}), "all after the first dot is the key");
    let changed = test.client.update_thread(update(json!({"new": true}), &[])).await.unwrap();
    assert_eq!(read_json(&changed.metadata), json!({"new": true}));
    let status =
        test.threads().update_thread(update(json!({}), &["status", "metadata.", "metadata"])).await.unwrap_err();
    assert_eq!(details(&status).2, ["update_mask.paths[0]", "update_mask.paths[1]"]);

    test.client.delete_thread(id.as_str()).await.unwrap();
    assert_eq!(why(test.client.get_thread(id.as_str()).await), "THREAD_NOT_FOUND");
    assert_eq!(why(test.client.delete_thread(id.as_str()).await), "THREAD_NOT_FOUND");
}

#[tokio::test]
async fn threads_are_listed_by_pages_and_filters() {
    let test = start().await;
    let mut ids = Vec::new();
    for n in 0..5 {
        let new = CreateThreadRequest { metadata: text(json!({"n": n, "even": n % 2 == 0})), ..Default::default() };
        ids.push(test.client.create_thread(new).await.unwrap().thread_id);
    }
    read(test.client.stream_run(run(json!([{"set": 1}])))).await;
    read(test.client.stream_run(run(json!([{"set": 1}, {"ask": 2}])).with_thread(&ids[0]))).await;
    ids.reverse();
    let list = |change: fn(&mut ListThreadsRequest)| {
        let mut request = ListThreadsRequest { page_size: 2, ..Default::default() };
        change(&mut request);
        request
    };
    let mut seen = Vec::new();
    let mut request = list(|_| {});
    loop {
        let page = test.client.list_threads(request.clone()).await.unwrap();
        assert!(page.threads.len() <= 2);
        seen.extend(page.threads.into_iter().map(|thread| thread.thread_id));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(seen, ids, "the newest first, those of stateless runs not among them");
    let even = test.client.list_threads(list(|r| r.metadata_filter = text(json!({"even": true})))).await.unwrap();
    assert_eq!((even.threads.len(), even.next_page_token.is_empty()), (2, false));
    let stopped = list(|r| {
        r.status = ThreadStatus::Interrupted.into();
        r.include_values = true;
    });
    let stopped = test.client.list_threads(stopped).await.unwrap().threads;
    assert_eq!((stopped.len(), &stopped[0].thread_id), (1, &ids[4]));
    assert_eq!(read_json(&stopped[0].values)["value"], Value::Null);
    assert_eq!(stopped[0].graph_name, "work");
    assert_eq!(why(test.client.list_threads(list(|r| r.page_token = "nonsense".into())).await), "PAGE_TOKEN_INVALID");
}

#[tokio::test]
async fn state_is_read_written_and_listed() {
    let test = start().await;
    let thread = test.thread().await;
    let empty = test.client.get_state(thread.as_str()).await.unwrap();
    assert!(empty.checkpoint.is_none());
    read(
        test.client
            .stream_run(run(json!([{"set": {"deep": [1]}}])).with_thread(&thread).with_metadata(json!({"m": 1}))),
    )
    .await;
    let state = test.client.get_state(thread.as_str()).await.unwrap().checkpoint.unwrap();
    let values = read_json(&state.values);
    assert_eq!((&values["value"], &values["log"]), (&json!({"deep": [1]}), &json!(["acted", "noted"])));
    assert!(state.next.is_empty() && !state.run_id.is_empty() && state.step == 2);
    assert_eq!(read_json(&state.metadata)["m"], 1);

    let update = UpdateStateRequest {
        thread_id: thread.clone(),
        values: text(json!({"log": ["by hand"]})),
        as_node: "act".into(),
        expected_checkpoint_id: state.checkpoint_id.clone(),
        ..Default::default()
    };
    let made = test.client.update_state(update.clone()).await.unwrap();
    let after = test.client.get_state(thread.as_str()).await.unwrap().checkpoint.unwrap();
    assert_eq!((&after.checkpoint_id, &after.next), (&made.checkpoint_id, &vec!["note".to_owned()]));
    assert_eq!(after.parent_checkpoint_id, state.checkpoint_id);
    let status = test.threads().update_state(update.clone()).await.unwrap_err();
    let (reason, metadata, _) = details(&status);
    assert_eq!((reason.as_str(), &metadata["checkpoint_id"]), ("CHECKPOINT_CHANGED", &made.checkpoint_id));
    let wrong = |change: fn(&mut UpdateStateRequest)| {
        let mut request = UpdateStateRequest { expected_checkpoint_id: String::new(), ..update.clone() };
        change(&mut request);
        request
    };
    assert_eq!(why(test.client.update_state(wrong(|r| r.as_node = "nobody".into())).await), "NODE_UNKNOWN");
    assert_eq!(why(test.client.update_state(wrong(|r| r.values = text(json!({"logg": []})))).await), "INVALID_UPDATE");
    assert_eq!(
        why(test.client.update_state(wrong(|r| r.checkpoint_id = r.thread_id.clone())).await),
        "CHECKPOINT_NOT_FOUND"
    );

    let mut pages = Vec::new();
    let mut request =
        ListCheckpointsRequest { thread_id: thread.clone(), page_size: 2, include_values: true, ..Default::default() };
    loop {
        let page = test.client.list_checkpoints(request.clone()).await.unwrap();
        pages.extend(page.checkpoints);
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(pages.iter().map(|c| c.step).collect::<Vec<_>>(), [3, 2, 1, 0, -1]);
    assert!(pages.iter().all(|c| c.values.is_some()));
    let before = ListCheckpointsRequest {
        thread_id: thread.clone(),
        before_checkpoint_id: state.checkpoint_id.clone(),
        ..Default::default()
    };
    let older = test.client.list_checkpoints(before).await.unwrap().checkpoints;
    assert_eq!((older.len(), older[0].values.is_none()), (3, true));
    let older = GetStateRequest {
        thread_id: thread.clone(),
        checkpoint_id: pages[3].checkpoint_id.clone(),
        ..Default::default()
    };
    assert_eq!(test.client.get_state(older).await.unwrap().checkpoint.unwrap().next, ["act"]);

    // The copy goes its own way.
    let copy =
        test.client.copy_thread(CopyThreadRequest { thread_id: thread.clone(), ..Default::default() }).await.unwrap();
    read(test.client.stream_run(run(json!([{"set": 2}])).with_thread(&copy.thread_id))).await;
    let of_copy = test
        .client
        .get_thread(GetThreadRequest { include_values: true, ..copy.thread_id.as_str().into() })
        .await
        .unwrap();
    assert_eq!(read_json(&of_copy.values)["value"], 2);
    let still = test.client.get_state(thread.as_str()).await.unwrap().checkpoint.unwrap();
    assert_eq!(still.checkpoint_id, made.checkpoint_id);
}

// G30
#[tokio::test]
async fn answers_keep_to_the_encoding_that_was_asked_for() {
    let test = start().await;
    let thread = test.thread().await;
    read(test.client.stream_run(run(json!([{"set": 9_007_199_254_740_993_i64}])).with_thread(&thread))).await;
    let get = |encoding: JsonEncoding| GetStateRequest {
        thread_id: thread.clone(),
        json_encoding: encoding.into(),
        ..Default::default()
    };
    let status = test.threads().get_state(get(JsonEncoding::Value)).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (tonic::Code::FailedPrecondition, "JSON_NOT_EXACT"));
    for encoding in [JsonEncoding::Auto, JsonEncoding::Text] {
        let state = test.threads().get_state(get(encoding)).await.unwrap().into_inner().checkpoint.unwrap();
        assert_eq!(read_json(&state.values)["value"], json!(9_007_199_254_740_993_i64), "{encoding:?}");
    }
}

#[tokio::test]
async fn runs_are_waited_for_listed_cancelled_and_deleted() {
    let test = start().await;
    let thread = test.thread().await;
    let spec = run(json!([{"set": 3}]))
        .with_thread(&thread)
        .with_metadata(json!({"kind": "a"}))
        .with_modes([StreamMode::Updates]);
    let done = test.client.wait_run(spec).await.unwrap();
    let first = done.run.unwrap();
    assert_eq!((first.state(), done.end.unwrap().state()), (RunState::Succeeded, RunState::Succeeded));
    assert_eq!(read_json(&done.values)["value"], 3);
    assert_eq!((first.attempt, first.stream_modes.as_slice()), (1, &[StreamMode::Updates as i32][..]));
    assert_eq!(read_json(&first.metadata)["kind"], "a");
    assert!(first.begin_time.is_some() && first.end_time.is_some() && !first.graph_revision.is_empty());
    let again = test.client.wait_run(first.run_id.as_str()).await.unwrap();
    assert_eq!(again.run.unwrap(), first);
    assert_eq!(again.values, done.values);

    let gated = test.client.create_run(run(json!([{"gate": "g"}])).with_thread(&thread)).await.unwrap();
    test.gates.arrived("g").await;
    let queued = test.client.create_run(run(json!([])).with_thread(&thread)).await.unwrap();
    assert_eq!(
        (queued.state(), queued.begin_time.is_none(), queued.graph_revision.as_str()),
        (RunState::Pending, true, "")
    );
    let mut busy = run(json!([])).with_thread(&thread);
    busy.multitask_strategy = MultitaskStrategy::Reject.into();
    let request = runloom::v1::CreateRunRequest { run: Some(busy), ..Default::default() };
    let status = test.runs().create_run(request).await.unwrap_err();
    let (reason, metadata, _) = details(&status);
    assert_eq!(
        (status.code(), reason.as_str(), &metadata["run_id"]),
        (tonic::Code::Aborted, "THREAD_BUSY", &gated.run_id)
    );
    assert_eq!(test.client.get_thread(thread.as_str()).await.unwrap().status(), ThreadStatus::Busy);
    assert_eq!(why(test.client.delete_run(gated.run_id.as_str()).await), "RUN_ACTIVE");

    let list = |change: &dyn Fn(&mut ListRunsRequest)| {
        let mut request = ListRunsRequest { thread_id: thread.clone(), ..Default::default() };
        change(&mut request);
        request
    };
    let all = test.client.list_runs(list(&|_| {})).await.unwrap().runs;
    assert_eq!(all.iter().map(|run| &run.run_id).collect::<Vec<_>>(), [&queued.run_id, &gated.run_id, &first.run_id]);
    let pending = test.client.list_runs(list(&|r| r.states = vec![RunState::Pending.into()])).await.unwrap().runs;
    assert_eq!((pending.len(), &pending[0].run_id), (1, &queued.run_id));
    let of_kind = list(&|r| {
        r.metadata_filter = text(json!({"kind": "a"}));
        r.page_size = 1;
    });
    let of_kind = test.client.list_runs(of_kind).await.unwrap().runs;
    assert_eq!((of_kind.len(), &of_kind[0].run_id), (1, &first.run_id));

    let cancelled = test.client.cancel_run(queued.run_id.as_str()).await.unwrap();
    assert_eq!(cancelled.state(), RunState::Cancelled, "one that waits ends at once");
    let back = CancelRunRequest { mode: CancelMode::Rollback.into(), wait: true, ..gated.run_id.as_str().into() };
    assert_eq!(test.client.cancel_run(back).await.unwrap().state(), RunState::Cancelled);
    assert_eq!(why(test.client.get_run(gated.run_id.as_str()).await), "RUN_NOT_FOUND");
    test.client.delete_run(first.run_id.as_str()).await.unwrap();
    assert_eq!(why(test.client.get_run(first.run_id.as_str()).await), "RUN_NOT_FOUND");
    assert_eq!(
        read_json(&test.client.get_state(thread.as_str()).await.unwrap().checkpoint.unwrap().values)["value"],
        3
    );
}

// G21
#[tokio::test]
async fn a_request_id_is_one_run() {
    let test = start().await;
    let spec = |n: i32| run(json!([{ "set": n }])).with_request_id("r-1");
    let first = test.client.create_run(spec(1)).await.unwrap();
    assert_eq!(first.request_id, "r-1");
    assert_eq!(test.client.create_run(spec(1)).await.unwrap().run_id, first.run_id);
    let parts = read(test.client.stream_run(spec(1))).await;
    assert_eq!((parts[0].run_id.as_str(), parts[1].seq), (first.run_id.as_str(), 1));
    let request = runloom::v1::CreateRunRequest { run: Some(spec(2)), ..Default::default() };
    let status = test.runs().create_run(request).await.unwrap_err();
    let (reason, metadata, _) = details(&status);
    assert_eq!((status.code(), reason.as_str()), (tonic::Code::AlreadyExists, "REQUEST_ID_REUSED"));
    assert_eq!((metadata["request_id"].as_str(), &metadata["run_id"]), ("r-1", &first.run_id));
}

#[tokio::test]
async fn assistants_have_versions() {
    let test = start().await;
    let new = CreateAssistantRequest {
        graph_name: "work".into(),
        name: "mine".into(),
        description: "tries".into(),
        config: Some(RunConfig {
            recursion_limit: 7,
            tags: vec!["t".into()],
            configurable: text(json!({"k": 1})),
            max_concurrency: 2,
        }),
        context: text(json!({"c": 1})),
        metadata: text(json!({"m": 1, "n": 2})),
        ..Default::default()
    };
    let made = test.client.create_assistant(new).await.unwrap();
    let id = made.assistant_id.clone();
    assert_eq!((made.version, made.name.as_str(), made.graph_name.as_str()), (1, "mine", "work"));
    let config = made.config.clone().unwrap();
    assert_eq!((config.recursion_limit, config.max_concurrency, config.tags.as_slice()), (7, 2, &["t".to_owned()][..]));
    assert_eq!((read_json(&config.configurable), read_json(&made.context)), (json!({"k": 1}), json!({"c": 1})));
    assert_eq!(test.client.get_assistant(id.as_str()).await.unwrap(), made);

    let update = |assistant: Assistant, paths: &[&str]| UpdateAssistantRequest {
        assistant: Some(Assistant { assistant_id: id.clone(), ..assistant }),
        update_mask: mask(paths),
        ..Default::default()
    };
    let second = test
        .client
        .update_assistant(update(Assistant { name: "other".into(), ..Default::default() }, &[]))
        .await
        .unwrap();
    assert_eq!((second.version, second.name.as_str(), &second.description), (2, "other", &made.description));
    let third = Assistant { metadata: text(json!({"m": 9})), ..Default::default() };
    let third = test
        .client
        .update_assistant(update(third, &["metadata.m", "metadata.n", "config", "description"]))
        .await
        .unwrap();
    assert_eq!(read_json(&third.metadata), json!({"m": 9}));
    assert_eq!((third.config.unwrap_or_default(), third.description.as_str()), (RunConfig::default(), ""));
    let status =
        test.assistants().update_assistant(update(Assistant::default(), &["version", "graph_name"])).await.unwrap_err();
    assert_eq!(details(&status).2, ["update_mask.paths[0]", "assistant.graph_name"]);

    let versions = test
        .client
        .list_assistant_versions(ListAssistantVersionsRequest { page_size: 2, ..id.as_str().into() })
        .await
        .unwrap();
    assert_eq!(versions.versions.iter().map(|a| a.version).collect::<Vec<_>>(), [3, 2]);
    assert!(!versions.next_page_token.is_empty());
    let back = test.client.set_latest_assistant_version(&id, 1).await.unwrap();
    assert_eq!((back.version, back.name.as_str()), (1, "mine"));
    assert_eq!(why(test.client.set_latest_assistant_version(&id, 9).await), "ASSISTANT_VERSION_NOT_FOUND");

    let listed = ListAssistantsRequest { metadata_filter: text(json!({"m": 1})), ..Default::default() };
    assert_eq!(test.client.list_assistants(listed).await.unwrap().assistants.len(), 1);
    let of_graph = ListAssistantsRequest { graph_name: "work".into(), ..Default::default() };
    assert_eq!(test.client.list_assistants(of_graph).await.unwrap().assistants.len(), 2, "the default one too");

    let spec = runloom::v1::RunSpec::assistant(&id).with_input(json!({"do": [{"set": 1}]}));
    assert_eq!(test.client.wait_run(spec).await.unwrap().run.unwrap().assistant_id, id);
    test.client.delete_assistant(id.as_str()).await.unwrap();
    assert_eq!(why(test.client.get_assistant(id.as_str()).await), "ASSISTANT_NOT_FOUND");
    let default =
        test.client.list_graphs(ListGraphsRequest::default()).await.unwrap().graphs[0].default_assistant_id.clone();
    assert_eq!(why(test.client.delete_assistant(default.as_str()).await), "ASSISTANT_IS_DEFAULT");
}

#[tokio::test]
async fn graphs_are_drawn_and_described() {
    let test = start().await;
    let graph = test.client.list_graphs(ListGraphsRequest::default()).await.unwrap().graphs.remove(0);
    assert_eq!(
        (graph.name.as_str(), graph.source(), graph.description.as_str()),
        ("work", GraphSource::Program, "Does what it is told.")
    );
    let drawn = GetAssistantGraphRequest { assistant_id: graph.default_assistant_id.clone(), ..Default::default() };
    let drawn = test.client.get_assistant_graph(drawn).await.unwrap();
    assert_eq!(drawn.nodes.iter().find(|node| node.name == "act").unwrap().tags, ["busy"]);
    let kinds: Vec<_> = drawn.nodes.iter().map(|node| (node.name.as_str(), node.kind())).collect();
    use GraphNodeKind as K;
    assert_eq!(kinds, [("__start__", K::Start), ("act", K::Node), ("note", K::Node), ("__end__", K::End)]);
    let edges: Vec<_> = drawn.edges.iter().map(|edge| (edge.source.as_str(), edge.target.as_str())).collect();
    assert_eq!(edges, [("__start__", "act"), ("act", "note"), ("note", "__end__")]);
    assert!(drawn.mermaid.contains("act --> note"), "{}", drawn.mermaid);
    let schemas = GetAssistantSchemasRequest {
        assistant_id: graph.default_assistant_id,
        include_subgraphs: true,
        ..Default::default()
    };
    let schemas = test.client.get_assistant_schemas(schemas).await.unwrap().schemas.unwrap();
    let output = read_json(&schemas.output_schema);
    assert!(output["properties"]["value"].is_object() && output["properties"]["do"].is_null(), "{output}");
    assert!(schemas.context_schema.is_none());
}

#[tokio::test]
async fn graph_documents_are_registered_and_deleted() {
    let test = start().await;
    let document = "\
runloom: v1
name: echo
state:
  text: { schema: { type: string } }
nodes:
  shout:
    steps:
      - update: { text: 'state.text + \"!\"' }
edges:
  - { from: START, to: shout }
";
    let ask = |document: &str, validate_only| RegisterGraphRequest { document: document.into(), validate_only };
    let checked = test.client.register_graph(ask(document, true)).await.unwrap();
    assert!(!checked.changed);
    let made = test.client.register_graph(ask(document, false)).await.unwrap();
    assert_eq!((made.changed, made.graph.as_ref().unwrap().source()), (true, GraphSource::Registered));
    assert!(!test.client.register_graph(ask(document, false)).await.unwrap().changed, "the same again changes nothing");
    let done =
        test.client.wait_run(runloom::v1::RunSpec::graph("echo").with_input(json!({"text": "hi"}))).await.unwrap();
    assert_eq!(read_json(&done.values), json!({"text": "hi!"}));

    let status = test
        .graphs()
        .register_graph(ask(&document.replace("to: shout", "to: shoot").replace("echo", "bad"), false))
        .await
        .unwrap_err();
    let (reason, _, fields) = details(&status);
    assert_eq!((status.code(), reason.as_str()), (tonic::Code::InvalidArgument, "GRAPH_INVALID"));
    assert!(!fields.is_empty());
    assert_eq!(
        why(test.client.register_graph(ask(&document.replace("echo", "work"), false)).await),
        "GRAPH_NAME_TAKEN"
    );
    assert_eq!(why(test.client.delete_graph("work").await), "GRAPH_NOT_REGISTERED");
    test.client.delete_graph("echo").await.unwrap();
    assert_eq!(why(test.client.delete_graph("echo").await), "GRAPH_UNKNOWN");
}
