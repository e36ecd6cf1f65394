//! What is wrong with a request is said whole, whatever the request: by reason, by field, and without harm.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use runloom::v1::{
    Command, CreateAssistantRequest, CreateRunRequest, GetRunRequest, GetStateRequest, GetThreadRequest, Goto,
    IfThreadNotExists, JoinRunRequest, Json, ListCheckpointsRequest, ListRunsRequest, RunConfig, RunSpec, RunState,
    StreamMode, StreamRunRequest, UpdateStateRequest, WaitRunRequest, Webhook, json::Encoding, run_spec,
};
use serde_json::json;
use support::*;
use tonic::{Code, Status, codegen::Service};
use tonic_types::StatusExt;

const NOBODY: &str = "0198c0de-0000-7000-8000-000000000000";

async fn refused(test: &Test, spec: RunSpec) -> Status {
    let request = CreateRunRequest { run: Some(spec), ..Default::default() };
    test.runs().create_run(request).await.unwrap_err()
}

fn said(status: &Status) -> (Code, String) {
    (status.code(), reason(status))
}

#[tokio::test]
async fn every_wrong_field_is_named() {
    let test = start().await;
    let spec = RunSpec {
        thread_id: "x".into(),
        target: Some(run_spec::Target::GraphName(String::new())),
        stream_modes: vec![99],
        config: Some(RunConfig { configurable: Some(Json::from_text("[1]")), ..Default::default() }),
        metadata: Some(Json::from_text("{")),
        ..Default::default()
    };
    let wanted = ["run.thread_id", "run.graph_name", "run.config.configurable", "run.metadata", "run.stream_modes[0]"];
    let create =
        test.runs().create_run(CreateRunRequest { run: Some(spec.clone()), json_encoding: 42 }).await.unwrap_err();
    let stream = StreamRunRequest { run: Some(spec), json_encoding: 42, ..Default::default() };
    let stream = test.runs().stream_run(stream).await.unwrap_err();
    for status in [create, stream] {
        let (reason, _, mut fields) = details(&status);
        assert_eq!((status.code(), reason.as_str()), (Code::InvalidArgument, "FIELD_INVALID"));
        let mut wanted: Vec<_> =
            wanted.iter().map(|field| (*field).to_owned()).chain(["json_encoding".to_owned()]).collect();
        fields.sort();
        wanted.sort();
        assert_eq!(fields, wanted);
    }
    let status = test.runs().wait_run(WaitRunRequest::default()).await.unwrap_err();
    assert_eq!(details(&status).2, ["target"]);
    let list = ListRunsRequest {
        thread_id: "x".into(),
        states: vec![0, 3],
        metadata_filter: Some(Json::from_text("3")),
        ..Default::default()
    };
    assert_eq!(
        details(&test.runs().list_runs(list).await.unwrap_err()).2,
        ["thread_id", "states[0]", "metadata_filter"]
    );
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let test = start().await;
    let run_id = NOBODY.to_owned();
    let status = test.runs().get_run(GetRunRequest { run_id: run_id.clone(), ..Default::default() }).await.unwrap_err();
    assert_eq!(said(&status), (Code::NotFound, "RUN_NOT_FOUND".into()));
    assert_eq!(details(&status).1["run_id"], NOBODY);
    let status = test.runs().join_run(JoinRunRequest { run_id, ..Default::default() }).await.unwrap_err();
    assert_eq!(said(&status), (Code::NotFound, "RUN_NOT_FOUND".into()));
    let thread = GetThreadRequest { thread_id: NOBODY.into(), ..Default::default() };
    assert_eq!(
        said(&test.threads().get_thread(thread).await.unwrap_err()),
        (Code::NotFound, "THREAD_NOT_FOUND".into())
    );
    let list = ListRunsRequest { thread_id: NOBODY.into(), ..Default::default() };
    assert_eq!(said(&test.runs().list_runs(list).await.unwrap_err()), (Code::NotFound, "THREAD_NOT_FOUND".into()));

    let of = |spec: RunSpec| refused(&test, spec);
    assert_eq!(said(&of(run(json!([])).with_thread(NOBODY)).await), (Code::NotFound, "THREAD_NOT_FOUND".into()));
    assert_eq!(
        said(&of(RunSpec::assistant(NOBODY).with_input(json!({}))).await),
        (Code::NotFound, "ASSISTANT_NOT_FOUND".into())
    );
    let status = of(RunSpec::graph("wrk").with_input(json!({}))).await;
    assert_eq!(said(&status), (Code::NotFound, "GRAPH_UNKNOWN".into()));
    assert_eq!(details(&status).1["known"], "work");
    let made = run(json!([])).with_new_thread(NOBODY);
    assert_eq!(made.if_not_exists(), IfThreadNotExists::Create);
    assert_eq!(test.client.wait_run(made).await.unwrap().run.unwrap().thread_id, NOBODY);
    let mut old = run(json!([])).with_thread(NOBODY);
    old.checkpoint_id = NOBODY.into();
    let status = of(old).await;
    assert_eq!(said(&status), (Code::NotFound, "CHECKPOINT_NOT_FOUND".into()));
    assert_eq!((&*details(&status).1["checkpoint_id"], &*details(&status).1["thread_id"]), (NOBODY, NOBODY));
}

#[tokio::test]
async fn what_a_graph_does_not_take_is_refused_before_it_runs() {
    let test = start().await;
    let thread = test.thread().await;
    let of = |spec: RunSpec| refused(&test, spec);
    let status = of(RunSpec::graph("work").with_input(json!(3))).await;
    assert_eq!(
        (said(&status), details(&status).2),
        ((Code::InvalidArgument, "INPUT_INVALID".into()), vec!["run.input".into()])
    );
    let status = of(RunSpec::graph("work").with_input(json!({"messages": [{"role": "nobody"}]}))).await;
    assert_eq!(details(&status).2, ["run.input.messages[0]"]);
    let status = of(RunSpec::graph("work")).await;
    assert_eq!((said(&status).1.as_str(), details(&status).2), ("FIELD_INVALID", vec!["run.input".into()]));
    let jump = Command { goto: vec![Goto { node: "nowhere".into(), input: None }], ..Default::default() };
    let status = of(RunSpec::graph("work").with_thread(&thread).with_command(jump)).await;
    assert_eq!(
        (said(&status).1.as_str(), details(&status).2),
        ("NODE_UNKNOWN", vec!["run.command.goto[0].node".into()])
    );
    let mut hooked = run(json!([]));
    hooked.webhook = Some(Webhook { url: "https://example.org".into() });
    let status = of(hooked).await;
    assert_eq!(said(&status), (Code::Unimplemented, "NOT_SUPPORTED".into()));
    assert_eq!(details(&status).1["feature"], "webhook");

    let guarded =
        Command { resume: Some(Json::text(&json!(1))), expected_checkpoint_id: NOBODY.into(), ..Default::default() };
    read(test.client.stream_run(run(json!([{"ask": 1}])).with_thread(&thread))).await;
    let status = of(RunSpec::graph("work").with_thread(&thread).with_command(guarded)).await;
    assert_eq!(said(&status), (Code::Aborted, "CHECKPOINT_CHANGED".into()));
    let ended =
        test.client.wait_run(RunSpec::graph("work").with_thread(&thread).with_answers([("ffff", json!(1))])).await;
    let error = match ended {
        Err(error) => error,
        Ok(answer) => answer.end.unwrap().into_result().unwrap_err(),
    };
    assert_eq!((error.code(), error.reason().unwrap().name()), (Code::FailedPrecondition, "QUESTION_UNKNOWN"));
}

#[tokio::test]
async fn json_is_checked_and_bounded() {
    let test = start().await;
    let with = |json: Json| {
        let mut spec = RunSpec::graph("work");
        spec.start = Some(run_spec::Start::Input(json));
        spec
    };
    for (json, reason) in [
        (Json::default(), "JSON_INVALID"),
        (Json::from_text(""), "JSON_INVALID"),
        (Json::from_text("{\"do\": [}"), "JSON_INVALID"),
        (Json::from_text("{\"a\": \"\\ud800\"}"), "JSON_INVALID"),
        (Json { encoding: Some(Encoding::Value(prost_types::Value { kind: None })) }, "JSON_INVALID"),
        (Json::from_text("{\"do\":".repeat(128) + "1" + &"}".repeat(128)), "JSON_TOO_DEEP"),
        (Json::from_text("[".repeat(1_000_000)), "JSON_TOO_DEEP"),
    ] {
        let status = refused(&test, with(json)).await;
        let (why, _, fields) = details(&status);
        assert_eq!(
            (status.code(), why.as_str(), fields),
            (Code::InvalidArgument, reason, vec!["run.input".to_owned()])
        );
    }
    let status = refused(&test, with(Json::from_text("{\"do\": [}"))).await;
    assert!(status.message().contains("line 1 column 9"), "{}", status.message());
}

#[tokio::test]
async fn a_failure_says_where_in_its_graphs_it_happened() {
    let outer = "runloom: v1\nname: outer\nstate:\n  x: {}\nnodes:\n  sub: { subgraph: inner }\nedges:\n  - { from: START, to: sub }\n";
    let inner = "runloom: v1\nname: inner\nstate:\n  x: {}\nnodes:\n  bad: { update: { x: 'state.x.no' } }\nedges:\n  - { from: START, to: bad }\n";
    let test = start_with(|builder| builder.document("outer.yaml", outer).document("inner.yaml", inner)).await;
    let spec = RunSpec::graph("outer").with_input(json!({"x": 1})).with_modes([StreamMode::Tasks]);
    let parts = read(test.client.stream_run(RunSpec { stream_subgraphs: true, ..spec })).await;
    let error = end(&parts).clone().into_result().unwrap_err();
    let (reason, metadata) = (error.reason().unwrap(), error.metadata());
    assert_eq!((reason.name(), &*metadata["graph"], &*metadata["node"]), ("NODE_FAILED", "inner", "bad"));
    let task = parts.iter().rfind(|part| !part.namespace.is_empty()).unwrap();
    assert_eq!((&metadata["task_id"], &metadata["namespace"]), (&task.task_id, &task.namespace.join("|")));
    assert!(metadata["namespace"].starts_with("sub:"), "{metadata:?}");

    let test = start().await;
    let parts = read(test.client.stream_run(run(json!([{"fail": "no"}])).with_modes([StreamMode::Tasks]))).await;
    let error = end(&parts).clone().into_result().unwrap_err();
    let metadata = error.metadata();
    let task = parts.iter().find(|part| !part.task_id.is_empty()).unwrap();
    assert_eq!((&metadata["task_id"], &*metadata["namespace"]), (&task.task_id, ""));
}

#[tokio::test]
async fn what_is_written_as_the_end_and_listed_before_nothing_is_refused() {
    let test = start().await;
    let thread = test.thread().await;
    read(test.client.stream_run(run(json!([{"ask": 1}])).with_thread(&thread))).await;
    for node in ["END", "__end__"] {
        let update = UpdateStateRequest {
            thread_id: thread.clone(),
            values: Some(Json::text(&json!({"value": 1}))),
            as_node: node.into(),
            ..Default::default()
        };
        let status = test.threads().update_state(update.clone()).await.unwrap_err();
        let (reason, metadata, fields) = details(&status);
        assert_eq!((reason.as_str(), fields, &*metadata["node"]), ("NODE_UNKNOWN", vec!["as_node".to_owned()], node));
    }
    let list = |before: &str| ListCheckpointsRequest {
        thread_id: thread.clone(),
        before_checkpoint_id: before.into(),
        ..Default::default()
    };
    let status = test.threads().list_checkpoints(list(NOBODY)).await.unwrap_err();
    assert_eq!(said(&status), (Code::NotFound, "CHECKPOINT_NOT_FOUND".into()));
    let all = test.threads().list_checkpoints(list("")).await.unwrap().into_inner().checkpoints;
    let older = list(&all[0].checkpoint_id);
    let older = test.threads().list_checkpoints(older).await.unwrap().into_inner().checkpoints;
    assert_eq!(older.len(), all.len() - 1);
    let end = UpdateStateRequest { thread_id: thread.clone(), as_node: "END".into(), ..Default::default() };
    test.threads().update_state(end).await.unwrap();
}

#[tokio::test]
async fn keys_of_langgraphs_own_are_no_settings() {
    let test = start().await;
    let of = |settings: serde_json::Value| {
        Some(RunConfig { configurable: Some(Json::text(&settings)), ..Default::default() })
    };
    let settings = json!({"thread_id": 1, "checkpoint_ns": "", "__pregel_send": 1, "mine": 1, "graph_id": "g"});
    let status = refused(&test, RunSpec { config: of(settings.clone()), ..run(json!([])) }).await;
    let (reason, _, mut fields) = details(&status);
    fields.sort();
    let wrong = ["__pregel_send", "checkpoint_ns", "graph_id", "thread_id"];
    let under = |prefix: &str| wrong.iter().map(|key| format!("{prefix}.{key}")).collect::<Vec<_>>();
    assert_eq!((reason.as_str(), fields), ("FIELD_INVALID", under("run.config.configurable")));
    let made = CreateAssistantRequest { graph_name: "work".into(), config: of(settings), ..Default::default() };
    let mut fields = details(&test.assistants().create_assistant(made).await.unwrap_err()).2;
    fields.sort();
    assert_eq!(fields, under("config.configurable"));
    let plain = RunSpec { config: of(json!({"mine": 1, "_own": 2})), ..run(json!([])) };
    test.client.create_run(plain).await.unwrap();
}

#[tokio::test]
async fn json_is_as_deep_as_the_contract_says_wherever_it_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().to_owned();
    let test = start_with(|builder| builder.data(place)).await;
    let deep =
        |key: &str, depth: usize| Json::from_text(format!("{{\"{key}\":").repeat(depth) + "1" + &"}".repeat(depth));
    let thread = test.thread().await;
    let mut first = run(json!([{"ask": 1}])).with_thread(&thread).with_modes(all_modes());
    for (depth, is_taken) in [(127, true), (128, false)] {
        let mut given = first.clone();
        given.start = Some(run_spec::Start::Input(deep("value", depth)));
        given.context = Some(deep("k", depth));
        given.metadata = Some(deep("k", depth));
        given.config = Some(RunConfig { configurable: Some(deep("k", depth)), ..Default::default() });
        if is_taken {
            let parts = read(test.client.stream_run(given)).await;
            assert_eq!(end(&parts).state(), RunState::Succeeded, "{:?}", end(&parts).error);
            let state = GetStateRequest { thread_id: thread.clone(), ..Default::default() };
            let state = test.client.get_state(state).await.unwrap().checkpoint.unwrap();
            let held = state.values.unwrap().decode().unwrap();
            assert_eq!(json!({"value": held["value"]}).to_string(), deep("value", depth).decode().unwrap().to_string());
            continue;
        }
        let (reason, _, mut fields) = details(&refused(&test, given).await);
        fields.sort();
        let all = ["run.config.configurable", "run.context", "run.input", "run.metadata"];
        assert_eq!((reason.as_str(), fields), ("JSON_TOO_DEEP", all.map(str::to_owned).to_vec()));
    }
    read(test.client.stream_run(first.clone())).await;
    for (depth, is_taken) in [(128, false), (127, true)] {
        first.start = Some(run_spec::Start::Command(Command { resume: Some(deep("k", depth)), ..Default::default() }));
        if is_taken {
            let end = soon(test.client.wait_run(first.clone())).await.unwrap().end.unwrap();
            // The answer stands in a list of the state, one level further in: the graph's own write, which is refused.
            assert_ne!(end.state(), RunState::Succeeded);
            assert!(end.error.unwrap().message.contains("127"));
        } else {
            let (reason, _, fields) = details(&refused(&test, first.clone()).await);
            assert_eq!((reason.as_str(), fields), ("JSON_TOO_DEEP", vec!["run.command.resume".to_owned()]));
        }
    }
}

/// A `google.protobuf.Value` of lists within lists, as bytes that no library here would make.
fn nested(depth: usize) -> Bytes {
    let mut inner = BytesMut::from(&[8u8, 0][..]);
    for _ in 0..depth {
        // ListValue.values = 1, then Value.list_value = 6.
        for tag in [1u32, 6] {
            let mut outer = BytesMut::new();
            prost::encoding::encode_key(tag, prost::encoding::WireType::LengthDelimited, &mut outer);
            prost::encoding::encode_varint(inner.len() as u64, &mut outer);
            outer.put(inner);
            inner = outer;
        }
    }
    inner.freeze()
}

/// Puts bytes under these field numbers, the outermost last.
fn under(mut inner: Bytes, tags: &[u32]) -> Bytes {
    for tag in tags {
        let mut outer = BytesMut::new();
        prost::encoding::encode_key(*tag, prost::encoding::WireType::LengthDelimited, &mut outer);
        prost::encoding::encode_varint(inner.len() as u64, &mut outer);
        outer.put(inner);
        inner = outer.freeze();
    }
    inner
}

/// Calls with a message that is bytes.
async fn call(test: &Test, path: &str, message: Bytes) -> Status {
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(message.len() as u32);
    framed.put(message);
    let request = http::Request::post(format!("http://{}{path}", test.address()))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(tonic::body::Body::new(http_body_util::Full::new(framed.freeze())))
        .unwrap();
    let mut channel = test.channel.clone();
    std::future::poll_fn(|cx| channel.poll_ready(cx)).await.unwrap();
    let answer = soon(channel.call(request)).await.unwrap();
    Status::from_header_map(answer.headers()).expect("a status at once")
}

#[tokio::test]
async fn messages_that_are_none_are_refused_clearly() {
    let test = start().await;
    for path in ["/runloom.v1.Runs/CreateRun", "/runloom.v1.Runs/StreamRun"] {
        // RunSpec.input = 4, StreamRunRequest.run = 1; Json.value = 1.
        for depth in [60, 20_000] {
            let status = call(&test, path, under(nested(depth), &[1, 4, 1])).await;
            let (why, _, fields) = details(&status);
            assert_eq!((status.code(), why.as_str()), (Code::InvalidArgument, "JSON_TOO_DEEP"), "{status:?}");
            assert_eq!(fields, ["run.start"], "{status:?}");
            assert!(status.message().contains("as text"), "{}", status.message());
        }
        let status = call(&test, path, Bytes::from_static(&[0xff; 40])).await;
        assert_eq!(said(&status), (Code::InvalidArgument, "FIELD_INVALID".into()));
        // Not UTF-8 where text is.
        let status = call(&test, path, under(Bytes::from_static(&[0xff, 0xfe]), &[1, 1])).await;
        assert_eq!((said(&status).1.as_str(), details(&status).2), ("FIELD_INVALID", vec!["run.thread_id".into()]));
    }
    for path in ["/runloom.v1.Runs/Nothing", "/runloom.v1.Nothing/CreateRun", "/"] {
        let status = call(&test, path, Bytes::new()).await;
        assert_eq!(said(&status), (Code::Unimplemented, "NOT_SUPPORTED".into()), "{path}");
    }
}

#[tokio::test]
async fn large_inputs_are_refused_and_the_connection_lives() {
    let test = start().await;
    let of = |bytes: usize| RunSpec::graph("work").with_input(json!({"do": [], "value": "x".repeat(bytes)}));
    let status = refused(&test, of(20 << 20)).await;
    let (why, metadata, _) = details(&status);
    assert_eq!((status.code(), why.as_str()), (Code::InvalidArgument, "INPUT_TOO_LARGE"));
    assert!(metadata["size_bytes"].parse::<usize>().unwrap() > 20 << 20);
    assert_eq!(metadata["maximum_bytes"], (16 << 20).to_string());
    for _ in 0..3 {
        let status = refused(&test, of(40 << 20)).await;
        assert_eq!(said(&status), (Code::InvalidArgument, "INPUT_TOO_LARGE".into()), "{status:?}");
        let (_, metadata, _) = details(&status);
        assert!(metadata["size_bytes"].parse::<usize>().unwrap() > 40 << 20);
        assert_eq!(metadata["maximum_bytes"], (32 << 20).to_string());
    }
    test.client.create_run(of(10 << 20)).await.unwrap();
}

#[tokio::test]
async fn a_bomb_of_gzip_is_no_bomb() {
    let test = start().await;
    let mut runs = test.runs().send_compressed(tonic::codec::CompressionEncoding::Gzip);
    let spec = RunSpec::graph("work").with_input(json!({"value": "x".repeat(40 << 20)}));
    let status = runs.create_run(CreateRunRequest { run: Some(spec), ..Default::default() }).await.unwrap_err();
    assert_eq!(said(&status), (Code::InvalidArgument, "INPUT_TOO_LARGE".into()), "{status:?}");
    assert_eq!(details(&status).1["maximum_bytes"], (32 << 20).to_string());
    test.thread().await;
}

#[tokio::test]
async fn cursors_that_are_none_are_refused() {
    let test = start().await;
    let parts = read(test.client.stream_run(run(json!([])))).await;
    let other = read(test.client.stream_run(run(json!([])))).await;
    for cursor in ["x", "\u{1f980}", "AAAA", other[1].cursor.as_str(), &"A".repeat(1 << 20)] {
        let join = JoinRunRequest { run_id: parts[0].run_id.clone(), cursor: cursor.to_owned(), ..Default::default() };
        let status = test.runs().join_run(join).await.unwrap_err();
        assert_eq!(said(&status), (Code::InvalidArgument, "CURSOR_INVALID".into()));
    }
}

// G10
#[tokio::test]
async fn a_log_that_is_gone_says_where_it_begins() {
    let test = start().await;
    let parts = read(test.client.stream_run(run(json!([{"flood": 2000}])).with_modes([StreamMode::Custom]))).await;
    let id: runloom_engine::RunId = parts[0].run_id.parse().unwrap();
    test.server.core().store().trim_log(&runloom_store::TenantId::default(), id, 1000).await.unwrap();
    let join =
        JoinRunRequest { run_id: parts[0].run_id.clone(), cursor: parts[1].cursor.clone(), ..Default::default() };
    let status = test.runs().join_run(join.clone()).await.unwrap_err();
    assert_eq!(said(&status), (Code::OutOfRange, "CURSOR_EXPIRED".into()));
    let oldest = details(&status).1["oldest_cursor"].clone();
    let rest = read(test.client.join_run(JoinRunRequest { cursor: oldest, ..join })).await;
    assert!(rest[1].seq >= 900 && end(&rest).state() == RunState::Succeeded, "{}", rest[1].seq);
}

#[tokio::test]
async fn errors_with_much_to_say_still_arrive() {
    let test = start().await;
    let names: Vec<_> = (0..900).map(|n| format!("no-such-node-{n}-{}", "é".repeat(100))).collect();
    let mut spec = run(json!([]));
    spec.interrupt_before = names;
    let status = refused(&test, spec).await;
    assert_eq!(said(&status).1, "NODE_UNKNOWN");
    let fields = status.get_details_bad_request().unwrap().field_violations;
    assert!(fields.len() > 3 && fields.last().unwrap().description.contains("more"), "{fields:?}");
    let encoded = GetRunRequest { run_id: "x".repeat(1 << 20), ..Default::default() };
    assert!(encoded.encoded_len() > 1 << 20);
    let status = test.runs().get_run(encoded).await.unwrap_err();
    assert!(status.message().len() < 200, "{}", status.message());
}
