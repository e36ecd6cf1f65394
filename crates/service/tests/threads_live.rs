//! The stream of a thread: every run of it, one after the other.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use futures_util::StreamExt;
use runloom::v1::{
    OnDisconnect, RunState, StreamMode, StreamRunResponse, StreamThreadRequest, stream_run_response::Payload,
};
use serde_json::json;
use support::*;
use tonic::Code;

fn ask(thread: &str, cursor: &str) -> StreamThreadRequest {
    StreamThreadRequest { thread_id: thread.to_owned(), cursor: cursor.to_owned(), ..Default::default() }
}

async fn until_ends(stream: &mut runloom::RunStream, ends: usize) -> Vec<StreamRunResponse> {
    let mut parts: Vec<StreamRunResponse> = Vec::new();
    while parts.iter().filter(|part| kind(part) == "end").count() < ends {
        parts.push(soon(stream.next()).await.unwrap().unwrap());
    }
    parts
}

#[tokio::test]
async fn every_run_of_a_thread_is_seen() {
    let test = start().await;
    let thread = test.thread().await;
    read(test.client.stream_run(run(json!([])).with_thread(&thread))).await;
    let mut stream = test.client.stream_thread(thread.as_str());
    let first = soon(stream.next()).await.unwrap().unwrap();
    assert_eq!((kind(&first), first.seq, first.run_id.as_str()), ("progress", 0, ""));
    assert!(!first.cursor.is_empty());

    let spec = |n: i32| run(json!([{ "emit": n }])).with_thread(&thread).with_modes([StreamMode::Custom]);
    let a = test.client.create_run(spec(1)).await.unwrap().run_id;
    let b = test.client.create_run(spec(2)).await.unwrap().run_id;
    let parts = until_ends(&mut stream, 2).await;
    let of = |id: &str| parts.iter().filter(|part| part.run_id == id).map(kind).collect::<Vec<_>>();
    assert_eq!(of(&a), ["metadata", "custom", "end"]);
    assert_eq!(of(&b), ["metadata", "custom", "end"]);
    let ids: Vec<_> = parts.iter().map(|part| part.run_id.clone()).collect();
    assert!(ids.iter().position(|id| *id == b) > ids.iter().rposition(|id| *id == a), "one after the other");

    // From any place on, also from before both.
    let places: Vec<_> = [&first].into_iter().chain(&parts).collect();
    for (at, part) in places.iter().enumerate() {
        let rest = &parts[at..];
        let mut again = test.client.stream_thread(ask(&thread, &part.cursor));
        let opening = soon(again.next()).await.unwrap().unwrap();
        assert_eq!((kind(&opening), opening.cursor.as_str()), ("progress", part.cursor.as_str()));
        // Past the end of a run there is nothing of it; its end is not told again to who has had it.
        let ends = rest.iter().filter(|part| kind(part) == "end").count();
        let got = until_ends(&mut again, ends).await;
        assert_eq!(got, rest, "from part {at}");
    }
}

#[tokio::test]
async fn cursors_are_good_for_their_thread_only() {
    let test = start().await;
    let (thread, other) = (test.thread().await, test.thread().await);
    let parts = read(test.client.stream_run(run(json!([])).with_thread(&thread))).await;
    let mut stream = test.client.stream_thread(thread.as_str());
    let progress = soon(stream.next()).await.unwrap().unwrap();
    let run_cursor = parts[1].cursor.clone();
    for (thread, cursor) in [(&other, &progress.cursor), (&thread, &run_cursor), (&thread, &"nonsense".to_owned())] {
        let status = test.threads().stream_thread(ask(thread, cursor)).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "CURSOR_INVALID"));
    }
    let missing = test.threads().stream_thread(ask("0198c0de-0000-7000-8000-000000000000", "")).await.unwrap_err();
    assert_eq!((missing.code(), reason(&missing).as_str()), (Code::NotFound, "THREAD_NOT_FOUND"));
}

#[tokio::test]
async fn a_run_that_is_under_way_is_introduced() {
    let test = start().await;
    let thread = test.thread().await;
    let spec = run(json!([{"gate": "g"}, {"emit": 2}])).with_thread(&thread).with_modes([StreamMode::Custom]);
    let id = test.client.create_run(spec).await.unwrap().run_id;
    test.gates.arrived("g").await;
    let mut stream = test.client.stream_thread(thread.as_str());
    assert_eq!(kind(&soon(stream.next()).await.unwrap().unwrap()), "progress");
    let metadata = soon(stream.next()).await.unwrap().unwrap();
    let Some(Payload::Metadata(opening)) = &metadata.payload else { panic!("{metadata:?}") };
    assert_eq!((opening.run_id.as_str(), opening.state()), (id.as_str(), RunState::Running));
    test.gates.open("g");
    let rest = until_ends(&mut stream, 1).await;
    assert_eq!(rest.iter().map(kind).collect::<Vec<_>>(), ["custom", "custom", "end"]);
}

#[tokio::test]
async fn a_thread_that_is_deleted_ends_its_stream() {
    let test = start().await;
    let thread = test.thread().await;
    let mut stream = test.threads().stream_thread(ask(&thread, "")).await.unwrap().into_inner();
    assert_eq!(kind(&soon(stream.message()).await.unwrap().unwrap()), "progress");
    test.client.delete_thread(thread.as_str()).await.unwrap();
    let status = soon(stream.message()).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::NotFound, "THREAD_NOT_FOUND"));
}

#[tokio::test]
async fn who_follows_a_thread_is_no_reader_of_its_runs() {
    let test = start().await;
    let thread = test.thread().await;
    let mut following = test.client.stream_thread(thread.as_str());
    soon(following.next()).await.unwrap().unwrap();
    let mut spec = run(json!([{"gate": "never"}])).with_thread(thread);
    spec.on_disconnect = OnDisconnect::Cancel.into();
    spec.disconnect_grace_duration = Some(prost_types::Duration { seconds: 0, nanos: 1_000_000 });
    let mut stream = test.client.stream_run(spec);
    soon(stream.next()).await.unwrap().unwrap();
    test.gates.arrived("never").await;
    drop(stream);
    let parts = soon(until_ends(&mut following, 1)).await;
    assert_eq!(end(&parts).state(), RunState::Cancelled);
}

#[tokio::test]
async fn parts_have_the_threads_numbers_and_say_where_blocks_begin_and_end() {
    let test = start().await;
    let thread = test.thread().await;
    let mut stream = test.client.stream_thread(thread.as_str());
    let first = soon(stream.next()).await.unwrap().unwrap();
    assert_eq!(first.thread_seq, 0);
    let modes = [StreamMode::Messages, StreamMode::Custom];
    let spec = || run(json!([{ "say": ["a", "b"] }, { "emit": 1 }])).with_thread(&thread).with_modes(modes);
    test.client.create_run(spec()).await.unwrap();
    test.client.create_run(spec()).await.unwrap();
    let parts = until_ends(&mut stream, 2).await;
    // Running; a message's start, a block's start and its piece; a piece; the ends of both; the custom data; completed.
    let seqs: Vec<u64> = parts.iter().map(|part| part.thread_seq).collect();
    assert!(seqs.windows(2).all(|pair| pair[0] <= pair[1]), "{seqs:?}");
    let half = seqs[seqs.len() / 2 - 1];
    assert_eq!(seqs[seqs.len() - 1], 2 * half, "each run has as many: {seqs:?}");
    let chunks: Vec<&StreamRunResponse> = parts.iter().filter(|part| kind(part) == "message").collect();
    let begin = &chunks[0].block_starts[0];
    assert_eq!((begin.index, begin.r#type.as_str()), (0, "text"));
    let Some(Payload::MessageChunk(chunk)) = &chunks[0].payload else { panic!() };
    assert_eq!(begin.message_id, chunk.message_id);
    assert_eq!(chunks[0].thread_seq, 4, "{chunks:?}");
    assert_eq!(chunks[1].thread_seq, 5);
    let ends: Vec<_> = parts.iter().flat_map(|part| &part.block_ends).collect();
    let starts: Vec<_> = parts.iter().flat_map(|part| &part.block_starts).collect();
    let of = |id: &str, index: u32| ends.iter().filter(|end| end.message_id == id && end.index == index).count();
    assert!(starts.iter().all(|start| of(&start.message_id, start.index) == 1), "{starts:?} {ends:?}");
    assert_eq!(ends.len(), starts.len());
    assert!(!ends[0].invalid_tool_call);

    // A reader of fewer modes sees the same numbers.
    let request = StreamThreadRequest { stream_modes: vec![StreamMode::Custom.into()], ..ask(&thread, &first.cursor) };
    let mut some = test.client.stream_thread(request);
    let got = until_ends(&mut some, 2).await;
    let wanted = parts.iter().filter(|part| kind(part) != "message").map(|part| part.thread_seq);
    assert_eq!(got[1..].iter().map(|part| part.thread_seq).collect::<Vec<_>>(), wanted.collect::<Vec<_>>());
}
