//! Answers and parts against the limit of a default gRPC client, 4 MiB: data is left out and said so, and nothing breaks.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use runloom::v1::{
    GetItemRequest, GetRunRequest, GetStateRequest, GetThreadRequest, Json, JsonEncoding, ListCheckpointsRequest,
    ListRunsRequest, ListThreadsRequest, PutItemRequest, RunSpec, RunState, SearchItemsRequest, StreamMode,
    StreamRunRequest, UpdateThreadRequest, WaitRunRequest, WaitRunResponse, store_client::StoreClient,
    stream_run_response::Payload, wait_run_request,
};
use serde_json::json;
use support::*;

const LARGE: usize = 6 << 20;
const TEXT: i32 = JsonEncoding::Text as i32;

async fn wait(test: &Test, spec: RunSpec) -> WaitRunResponse {
    let target = Some(wait_run_request::Target::Run(spec));
    let request = WaitRunRequest { target, json_encoding: TEXT, ..WaitRunRequest::default() };
    test.runs().wait_run(request).await.unwrap().into_inner()
}

async fn stream(test: &Test, spec: RunSpec, modes: &[StreamMode]) -> Vec<runloom::v1::StreamRunResponse> {
    let spec = RunSpec { stream_modes: modes.iter().map(|mode| (*mode).into()).collect(), ..spec };
    let request = StreamRunRequest { run: Some(spec), json_encoding: TEXT, ..StreamRunRequest::default() };
    let (parts, broken) = read_raw(test.runs().stream_run(request).await.unwrap().into_inner()).await;
    assert!(broken.is_none(), "{broken:?}");
    parts
}

#[tokio::test]
async fn a_large_error_text_ends_no_stream() {
    let test = start().await;
    let text = "x".repeat(LARGE);
    for modes in [&all_modes()[..], &[StreamMode::Tasks], &[StreamMode::Events]] {
        let parts = stream(&test, run(json!([{ "fail": text.as_str() }])), modes).await;
        let end = end(&parts);
        assert_eq!(end.state(), RunState::Failed);
        let message = &end.error.as_ref().unwrap().message;
        assert!(message.contains("the message has 6291456 bytes"), "{} bytes", message.len());
        let id = parts[0].run_id.clone();
        let found = test.runs().get_run(GetRunRequest { run_id: id, ..GetRunRequest::default() }).await.unwrap();
        assert!(found.into_inner().run.unwrap().error.is_some());
    }
    let came = wait(&test, run(json!([{ "fail": text }]))).await;
    assert_eq!(came.end.unwrap().state(), RunState::Failed);
}

#[tokio::test]
async fn a_part_of_many_large_texts_says_what_it_is() {
    let test = start().await;
    let spec = RunSpec { stream_modes: vec![StreamMode::Tasks.into()], ..run(json!([{ "fail": "y".repeat(50_000) }])) };
    let request = StreamRunRequest { run: Some(spec), json_encoding: TEXT, max_part_bytes: 2_000 };
    let (parts, broken) = read_raw(test.runs().stream_run(request).await.unwrap().into_inner()).await;
    assert!(broken.is_none(), "{broken:?}");
    assert!(parts.iter().all(|part| prost::Message::encoded_len(part) <= 2_000));
    let end = end(&parts);
    assert_eq!(end.state(), RunState::Failed);
    assert!(end.error.is_some() && parts.last().unwrap().omitted.is_some());
    let failed = parts.iter().find_map(|part| match &part.payload {
        Some(Payload::Task(task)) => task.error.as_ref(),
        _ => None,
    });
    assert_eq!(failed.unwrap().r#type, "TestError");
}

#[tokio::test]
async fn unary_answers_leave_out_what_does_not_fit() {
    let test = start().await;
    let thread = test.thread().await;
    let on_thread = |todo| RunSpec { thread_id: thread.clone(), ..run(todo) };
    let came = wait(&test, on_thread(json!([{ "blob": LARGE }]))).await;
    let omitted = came.omitted.unwrap();
    assert!(came.values.is_none() && came.end.unwrap().state() == RunState::Succeeded);
    assert!(omitted.size_bytes > LARGE as u64 && omitted.checkpoint.is_some(), "{omitted:?}");

    let get = GetStateRequest { thread_id: thread.clone(), json_encoding: TEXT, ..GetStateRequest::default() };
    let state = test.threads().get_state(get.clone()).await.unwrap().into_inner().checkpoint.unwrap();
    assert!(state.values.is_none() && state.omitted.is_some() && !state.checkpoint_id.is_empty());
    let more = GetStateRequest { max_part_bytes: 64 << 20, ..get };
    let state = test.threads().max_decoding_message_size(64 << 20).get_state(more).await.unwrap().into_inner();
    assert!(state.checkpoint.unwrap().values.is_some());

    let get = GetThreadRequest { include_values: true, json_encoding: TEXT, ..thread.as_str().into() };
    let found = test.threads().get_thread(get).await.unwrap().into_inner().thread.unwrap();
    assert!(found.values.is_none() && found.omitted.is_some());

    wait(&test, on_thread(json!([{ "ask": "q".repeat(LARGE) }]))).await;
    let found = test.threads().get_thread(GetThreadRequest::from(thread.as_str())).await.unwrap().into_inner();
    let found = found.thread.unwrap();
    assert!(found.omitted.is_some() && found.interrupts[0].value.is_none() && !found.interrupts[0].id.is_empty());
    test.thread().await;
    let listed = test.threads().list_threads(ListThreadsRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.threads.iter().map(|thread| thread.omitted.is_some()).collect::<Vec<_>>(), [false, true]);
    let runs = test.runs().list_runs(ListRunsRequest { thread_id: thread, ..Default::default() }).await.unwrap();
    assert_eq!(runs.into_inner().runs.len(), 2);
}

#[tokio::test]
async fn pages_end_before_they_are_too_large_and_miss_nothing() {
    let test = start().await;
    let thread = test.thread().await;
    for _ in 0..6 {
        wait(&test, RunSpec { thread_id: thread.clone(), ..run(json!([{ "blob": 900_000 }])) }).await;
    }
    let list = |page_token| ListCheckpointsRequest {
        thread_id: thread.clone(),
        include_values: true,
        page_size: 100,
        json_encoding: TEXT,
        page_token,
        ..ListCheckpointsRequest::default()
    };
    let (mut ids, mut token, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = test.threads().list_checkpoints(list(token)).await.unwrap().into_inner();
        assert!(!page.checkpoints.is_empty() && page.checkpoints.iter().all(|found| found.omitted.is_none()));
        ids.extend(page.checkpoints.into_iter().map(|found| found.checkpoint_id));
        (token, pages) = (page.next_page_token, pages + 1);
        if token.is_empty() {
            break;
        }
    }
    let bare = ListCheckpointsRequest { include_values: false, ..list(String::new()) };
    let all = test.threads().list_checkpoints(bare).await.unwrap().into_inner();
    assert!(pages > 1 && all.next_page_token.is_empty());
    assert_eq!(ids, all.checkpoints.into_iter().map(|found| found.checkpoint_id).collect::<Vec<_>>());
}

#[tokio::test]
async fn items_and_metadata_are_limited_too() {
    let test = start().await;
    let mut store = StoreClient::new(test.channel.clone());
    let value = |bytes: usize| Some(Json::text(&json!({ "text": "v".repeat(bytes) })));
    for (key, bytes) in [("a", LARGE), ("b", 3_000_000), ("c", 3_000_000)] {
        let put = PutItemRequest { namespace: vec!["n".into()], key: key.into(), value: value(bytes), ttl: None };
        store.put_item(put).await.unwrap();
    }
    let get = GetItemRequest { namespace: vec!["n".into()], key: "a".into(), ..GetItemRequest::default() };
    let item = store.get_item(get).await.unwrap().into_inner().item.unwrap();
    assert!(item.value.is_none() && item.omitted.is_some());
    let (mut keys, mut page_token) = (Vec::new(), String::new());
    loop {
        let search = SearchItemsRequest { json_encoding: TEXT, page_token, ..SearchItemsRequest::default() };
        let page = store.search_items(search).await.unwrap().into_inner();
        keys.extend(page.items.into_iter().map(|item| (item.key, item.omitted.is_some())));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    keys.sort();
    assert_eq!(keys, [("a".to_owned(), true), ("b".to_owned(), false), ("c".to_owned(), false)]);

    let thread = runloom::v1::Thread { thread_id: test.thread().await, metadata: value(LARGE), ..Default::default() };
    let update = UpdateThreadRequest { thread: Some(thread), ..UpdateThreadRequest::default() };
    let changed = test.threads().update_thread(update).await.unwrap().into_inner().thread.unwrap();
    assert!(changed.metadata.is_none() && changed.omitted.is_some());
}
