//! Streams over a socket: what comes, in which order, to whom, and from where.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::{collections::HashMap, time::Duration};

use futures_util::StreamExt;
use runloom::v1::{
    CancelCause, CancelRunRequest, EventFilter, EventKind, EventSelector, JoinRunRequest, Json, JsonEncoding,
    MessageRole, OnDisconnect, RunState, StreamMode, StreamRunRequest, StreamRunResponse, TokenCoalescing,
    content_block::Block, json::Encoding, stream_run_response::Payload,
};
use serde_json::json;
use support::*;
use tonic::{Code, Request};

fn join(run_id: &str, cursor: &str) -> JoinRunRequest {
    JoinRunRequest {
        run_id: run_id.to_owned(),
        cursor: cursor.to_owned(),
        json_encoding: JsonEncoding::Text.into(),
        ..Default::default()
    }
}

/// Without what a stream says of a message or an event only once.
fn bare(mut part: StreamRunResponse) -> StreamRunResponse {
    let forget = |chunk: &mut runloom::v1::MessageChunk| {
        chunk.role = 0;
        (chunk.node, chunk.name, chunk.model) = Default::default();
        (chunk.tags, chunk.metadata) = Default::default();
    };
    match &mut part.payload {
        Some(Payload::MessageChunk(chunk)) => forget(chunk),
        Some(Payload::Event(event)) if matches!(event.kind(), EventKind::ChainStream | EventKind::ChatModelStream) => {
            (event.node, event.parent_ids, event.tags, event.metadata) = Default::default();
            if let Some(chunk) = event.data.as_mut().and_then(|data| data.message_chunk.as_mut()) {
                forget(chunk);
            }
        }
        _ => {}
    }
    part
}

// G1, G3
#[tokio::test]
async fn a_run_is_streamed_to_its_end() {
    let test = start().await;
    let spec = run(json!([{"emit": {"n": 1}}, {"say": ["a", "b"]}, {"set": 7}])).with_modes(all_modes());
    let parts = read(test.client.stream_run(spec)).await;

    let Some(Payload::Metadata(opening)) = &parts[0].payload else { panic!("{:?}", parts[0]) };
    assert_eq!((parts[0].seq, opening.state(), opening.stream_modes.len()), (0, RunState::Pending, 8));
    let seqs: Vec<_> = parts[1..].iter().map(|part| part.seq).collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>(), "from 1, without gaps");
    assert_eq!(end(&parts).state(), RunState::Succeeded);
    assert_eq!(end(&parts).usage.as_ref().unwrap().total_tokens, 7);
    assert_eq!(parts.iter().filter(|part| kind(part) == "end").count(), 1);
    for part in &parts {
        assert_eq!(part.run_id, opening.run_id);
        assert!(!part.cursor.is_empty() && part.emit_time.is_some() && part.omitted.is_none(), "{part:?}");
        assert!(part.namespace.is_empty());
        assert_eq!(part.task_attempt > 0, !part.task_id.is_empty());
    }

    // In a step: the task's start, what it streams, its update, its end, the value, the checkpoint.
    let of_step = |step| -> Vec<_> {
        let kinds = parts.iter().filter(|part| part.step == Some(step)).map(kind).filter(|kind| *kind != "event");
        kinds.collect()
    };
    assert_eq!(
        of_step(1),
        ["task", "custom", "message", "message", "message", "message", "update", "task", "value", "checkpoint"]
    );
    let custom = parts.iter().find_map(|part| match &part.payload {
        Some(Payload::Custom(custom)) => Some(custom),
        _ => None,
    });
    assert_eq!(custom.unwrap().payload.as_ref().unwrap().decode().unwrap(), json!({"n": 1}));
    assert_eq!(custom.unwrap().node, "act");
}

// G4
#[tokio::test]
async fn what_does_not_change_comes_once_in_each_stream() {
    let test = start().await;
    let modes = [StreamMode::Messages, StreamMode::Events];
    let parts = read(test.client.stream_run(run(json!([{"say": ["a", "b", "c"]}])).with_modes(modes))).await;
    let chunks = |parts: &[StreamRunResponse]| -> Vec<_> {
        let chunks = parts.iter().filter_map(|part| match &part.payload {
            Some(Payload::MessageChunk(chunk)) => Some((part.cursor.clone(), chunk.clone())),
            _ => None,
        });
        chunks.collect()
    };
    let all = chunks(&parts);
    let texts: Vec<_> =
        all.iter().flat_map(|(_, chunk)| &chunk.content).map(|b| (b.index, b.block.clone().unwrap())).collect();
    assert_eq!(texts, ["a", "b", "c"].map(|text| (0, Block::Text(text.to_owned()))));
    let (first, later) = all.split_first().unwrap();
    assert_eq!((first.1.role(), first.1.node.as_str()), (MessageRole::Ai, "act"));
    assert!(first.1.tags.contains(&"busy".to_owned()) && first.1.tags.contains(&"spoken".to_owned()));
    assert!(first.1.metadata.is_some() && !first.1.model.is_empty());
    for (_, chunk) in later {
        assert_eq!((chunk.role(), chunk.node.as_str(), chunk.tags.len()), (MessageRole::Unspecified, "", 0));
        assert!(chunk.metadata.is_none());
        assert_eq!(chunk.message_id, first.1.message_id);
    }
    assert!(later.last().unwrap().1.last);
    assert_eq!(later[2].1.tool_call_chunks[0].name, "add");
    assert!(later[2].1.usage.is_some());

    // A stream that joins in the middle of the message is told anew.
    let joined = read(test.client.join_run(join(&parts[0].run_id, &all[1].0))).await;
    let again = chunks(&joined);
    assert_eq!((again.len(), again[0].1.role(), again[0].1.node.as_str()), (3, MessageRole::Ai, "act"));
    assert_eq!(again[1].1.role(), MessageRole::Unspecified);

    // Events of one run_id: the first says all, whatever its kind.
    let mut seen: HashMap<&str, bool> = HashMap::new();
    for part in &joined {
        let Some(Payload::Event(event)) = &part.payload else { continue };
        let is_stream = matches!(event.kind(), EventKind::ChainStream | EventKind::ChatModelStream);
        let is_first = !std::mem::replace(seen.entry(&event.run_id).or_default(), true);
        assert_eq!(event.metadata.is_some(), is_first || !is_stream, "{event:?}");
    }
    assert!(seen.len() > 2);
}

// G9
#[tokio::test]
async fn joining_anywhere_goes_on_with_the_next_part() {
    let test = start().await;
    let spec = run(json!([{"emit": 1}, {"say": ["a", "b"]}, {"set": {"x": 1}}])).with_modes(all_modes());
    let parts = read(test.client.stream_run(spec)).await;
    let id = parts[0].run_id.clone();
    for (at, part) in parts.iter().enumerate() {
        let joined = read(test.client.join_run(join(&id, &part.cursor))).await;
        let Some(Payload::Metadata(opening)) = &joined[0].payload else { panic!("{:?}", joined[0]) };
        assert_eq!((joined[0].seq, opening.state()), (0, RunState::Succeeded));
        // Past the end there is nothing, and the end is told again.
        let rest = if kind(part) == "end" { &parts[at..] } else { &parts[at + 1..] };
        let got: Vec<_> = joined[1..].iter().cloned().map(bare).collect();
        let want: Vec<_> = rest.iter().cloned().map(bare).collect();
        assert_eq!(got, want, "from {}", part.seq);
    }
    let whole = read(test.client.join_run(id.as_str())).await;
    assert_eq!(
        whole[1..].iter().cloned().map(bare).collect::<Vec<_>>(),
        parts[1..].iter().cloned().map(bare).collect::<Vec<_>>()
    );
}

// G4
#[tokio::test]
async fn live_and_late_readers_see_the_same() {
    let test = start().await;
    let modes = [StreamMode::Values, StreamMode::Custom, StreamMode::Updates, StreamMode::Checkpoints];
    let spec = run(json!([{"gate": "g"}, {"flood": 300}, {"blob": 10_000}])).with_modes(modes);
    let made = test.client.create_run(spec).await.unwrap();
    test.gates.arrived("g").await;
    let mut readers = Vec::new();
    for _ in 0..10 {
        let stream = test.client.join_run(made.run_id.as_str());
        readers.push(tokio::spawn(read(stream)));
    }
    test.gates.open("g");
    let mut all = Vec::new();
    for reader in readers {
        all.push(reader.await.unwrap());
    }
    all.push(read(test.client.join_run(made.run_id.as_str())).await);
    let first: Vec<_> = all[0].iter().filter(|part| part.seq > 0).collect();
    assert!(first.len() > 300);
    for other in &all[1..] {
        assert_eq!(other.iter().filter(|part| part.seq > 0).collect::<Vec<_>>(), first);
    }
}

// G12
#[tokio::test]
async fn a_join_may_ask_for_less_and_not_for_more() {
    let test = start().await;
    let modes = [StreamMode::Values, StreamMode::Custom];
    let parts = read(test.client.stream_run(run(json!([{"emit": 1}])).with_modes(modes))).await;
    let id = parts[0].run_id.clone();
    let fewer = JoinRunRequest { stream_modes: vec![StreamMode::Custom.into()], ..join(&id, "") };
    let kinds: Vec<_> = read(test.client.join_run(fewer)).await.iter().map(kind).collect();
    assert_eq!(kinds, ["metadata", "metadata", "custom", "end"]);

    let more =
        JoinRunRequest { stream_modes: vec![StreamMode::Custom.into(), StreamMode::Events.into()], ..join(&id, "") };
    let status = test.runs().join_run(more).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    let (reason, metadata, _) = details(&status);
    assert_eq!((reason.as_str(), metadata["stream_modes"].as_str()), ("MODES_NOT_RECORDED", "VALUES,CUSTOM"));
}

#[tokio::test]
async fn a_join_may_narrow_events_and_chunks() {
    let test = start().await;
    let modes = [StreamMode::Messages, StreamMode::Events];
    let parts = read(test.client.stream_run(run(json!([{"say": ["a"]}])).with_modes(modes))).await;
    let filter = EventFilter {
        include: Some(EventSelector {
            kinds: vec![EventKind::ChatModelEnd.into()],
            names: vec!["Talk*".into()],
            ..Default::default()
        }),
        ..Default::default()
    };
    let narrow = JoinRunRequest {
        event_filter: Some(filter),
        stream_modes: vec![StreamMode::Events.into()],
        ..join(&parts[0].run_id, "")
    };
    let kinds: Vec<_> = read(test.client.join_run(narrow)).await.iter().map(kind).collect();
    assert_eq!(kinds, ["metadata", "metadata", "event", "end"]);

    let skip = EventFilter { skip_empty_chunks: true, ..Default::default() };
    let nodes = EventSelector { nodes: vec!["nobody".into()], ..Default::default() };
    for (filter, chunks) in [(skip, 3), (EventFilter { include: Some(nodes), ..Default::default() }, 0)] {
        let narrow = JoinRunRequest {
            event_filter: Some(filter),
            stream_modes: vec![StreamMode::Messages.into()],
            ..join(&parts[0].run_id, "")
        };
        let parts = read(test.client.join_run(narrow)).await;
        assert_eq!(parts.iter().filter(|part| kind(part) == "message").count(), chunks, "{parts:?}");
    }
}

// G8
#[tokio::test]
async fn a_part_that_is_too_large_comes_as_a_reference() {
    let test = start().await;
    let modes = [StreamMode::Values, StreamMode::Custom, StreamMode::Updates];
    let spec = run(json!([{"emit": "y".repeat(3000)}, {"blob": 5000}, {"emit": 1}]))
        .with_thread(test.thread().await)
        .with_modes(modes);
    let thread = spec.thread_id.clone();
    let request = StreamRunRequest { run: Some(spec), max_part_bytes: 2000, ..Default::default() };
    let (parts, status) = read_raw(test.runs().stream_run(request).await.unwrap().into_inner()).await;
    assert!(status.is_none(), "{status:?}");
    assert_eq!(end(&parts).state(), RunState::Succeeded);
    let mut omitted = parts.iter().filter(|part| part.omitted.is_some());
    let custom = omitted.next().unwrap();
    let why = custom.omitted.as_ref().unwrap();
    assert_eq!((kind(custom), why.reason().name(), why.checkpoint.is_none()), ("custom", "PART_TOO_LARGE", true));
    assert!(why.size_bytes > 3000 && why.size_bytes < 3300, "{why:?}");
    assert!(
        matches!(&custom.payload, Some(Payload::Custom(custom)) if custom.payload.is_none() && custom.node == "act")
    );
    assert_eq!(kind(omitted.next().unwrap()), "update");

    let value = omitted.next().unwrap();
    assert_eq!(kind(value), "value");
    let checkpoint = value.omitted.as_ref().unwrap().checkpoint.clone().unwrap();
    let state = runloom::v1::GetStateRequest {
        thread_id: thread,
        checkpoint_id: checkpoint.checkpoint_id,
        ..Default::default()
    };
    let held = test.client.get_state(state).await.unwrap().checkpoint.unwrap().values.unwrap().decode().unwrap();
    assert_eq!(held["value"], "x".repeat(5000));
}

// G30
#[tokio::test]
async fn each_reader_chooses_its_json() {
    let test = start().await;
    let exact = json!({"a": [1, "x", null, true, 1.5]});
    let lossy = json!({"big": 9_007_199_254_740_993_i64, "float": 1.0});
    let spec = run(json!([{"emit": exact}, {"emit": lossy}])).with_modes([StreamMode::Custom]);
    let id = test.client.create_run(spec).await.unwrap().run_id;
    for (encoding, trees) in [
        (JsonEncoding::Text, [false, false]),
        (JsonEncoding::Auto, [true, false]),
        (JsonEncoding::Unspecified, [true, false]),
    ] {
        let request = JoinRunRequest { json_encoding: encoding.into(), ..join(&id, "") };
        let (parts, _) = read_raw(test.runs().join_run(request).await.unwrap().into_inner()).await;
        let customs: Vec<Json> = parts
            .iter()
            .filter_map(|part| match &part.payload {
                Some(Payload::Custom(custom)) => custom.payload.clone(),
                _ => None,
            })
            .collect();
        assert_eq!(
            customs.iter().map(|json| json.decode().unwrap()).collect::<Vec<_>>(),
            [exact.clone(), lossy.clone()]
        );
        let are: Vec<_> = customs.iter().map(|json| matches!(json.encoding, Some(Encoding::Value(_)))).collect();
        assert_eq!(are, trees, "{encoding:?}");
    }
    let request = JoinRunRequest { json_encoding: JsonEncoding::Value.into(), ..join(&id, "") };
    let (parts, status) = read_raw(test.runs().join_run(request).await.unwrap().into_inner()).await;
    assert!(status.is_none());
    let customs: Vec<_> = parts.iter().filter(|part| kind(part) == "custom").collect();
    assert!(customs[0].omitted.is_none());
    assert_eq!(customs[1].omitted.as_ref().unwrap().reason().name(), "JSON_NOT_EXACT");
    assert_eq!(end(&parts).state(), RunState::Succeeded);
}

// G5
#[tokio::test]
async fn a_silent_stream_shows_that_it_lives() {
    let test = start_with(|b| b.options(options(|o| o.progress_interval = Duration::from_millis(20)))).await;
    let mut stream = test.client.stream_run(run(json!([{"gate": "g"}])).with_modes([StreamMode::Custom]));
    let mut parts = Vec::new();
    while parts.iter().filter(|part| kind(part) == "progress").count() < 3 {
        parts.push(soon(stream.next()).await.unwrap().unwrap());
    }
    let progress = parts.last().unwrap();
    assert_eq!(progress.seq, 0);
    assert_eq!(progress.cursor, parts[1].cursor, "where the last part was");
    assert_eq!(progress.run_id, parts[0].run_id);
    test.gates.open("g");
    let rest = read(stream).await;
    assert_eq!(rest.iter().map(kind).filter(|kind| *kind != "progress").collect::<Vec<_>>(), ["custom", "end"]);
    let again = read(test.client.join_run(join(&parts[0].run_id, &progress.cursor))).await;
    assert_eq!(again.iter().map(kind).collect::<Vec<_>>(), ["metadata", "custom", "end"]);
}

#[tokio::test]
async fn questions_stop_a_run_and_answers_go_on() {
    let test = start().await;
    let thread = test.thread().await;
    let modes = [StreamMode::Updates, StreamMode::Values];
    let parts =
        read(test.client.stream_run(run(json!([{"ask": {"really?": 1}}])).with_thread(&thread).with_modes(modes)))
            .await;
    assert_eq!(end(&parts).state(), RunState::AwaitingInput);
    let question = &end(&parts).interrupts[0];
    assert_eq!(question.value.as_ref().unwrap().decode().unwrap(), json!({"really?": 1}));
    let asked = parts.iter().find_map(|part| match &part.payload {
        Some(Payload::Update(update)) if !update.interrupts.is_empty() => Some((part, update)),
        _ => None,
    });
    let (part, update) = asked.unwrap();
    assert_eq!((update.interrupts[0].id.as_str(), update.interrupts[0].node.as_str()), (question.id.as_str(), "act"));
    assert_eq!(update.interrupts[0].task_id, part.task_id);

    let waiting = test.client.get_thread(thread.as_str()).await.unwrap();
    assert_eq!(waiting.interrupts[0].id, question.id);
    assert_eq!(waiting.interrupts[0].task_id, part.task_id);

    let answer =
        runloom::v1::RunSpec::graph("work").with_thread(&thread).with_answers([(question.id.clone(), json!("yes"))]);
    let parts = read(test.client.stream_run(answer.with_modes(modes))).await;
    assert_eq!(end(&parts).state(), RunState::Succeeded);
    let Some(Payload::Value(value)) =
        parts.iter().rev().find_map(|part| part.payload.clone().filter(|_| kind(part) == "value"))
    else {
        panic!()
    };
    assert_eq!(value.state.unwrap().decode().unwrap()["log"], json!(["yes", "acted", "noted"]));
}

// G2
#[tokio::test]
async fn a_run_that_fails_is_data() {
    let test = start().await;
    let modes = [StreamMode::Tasks, StreamMode::Events];
    let parts = read(test.client.stream_run(run(json!([{"fail": "no such thing"}])).with_modes(modes))).await;
    let end = end(&parts).clone();
    assert_eq!(end.state(), RunState::Failed);
    let error = end.into_result().unwrap_err();
    assert_eq!((error.code(), error.reason().unwrap().name()), (Code::Unknown, "NODE_FAILED"));
    assert!(error.message().contains("no such thing"), "{error}");
    assert_eq!((error.metadata()["node"].as_str(), error.metadata()["error_type"].as_str()), ("act", "TestError"));
    let finished = parts.iter().find_map(|part| match &part.payload {
        Some(Payload::Task(task)) if task.error.is_some() => task.error.clone(),
        _ => None,
    });
    assert_eq!(finished.unwrap().r#type, "TestError");

    let panics = read(test.client.stream_run(run(json!([{"panic": "on purpose"}])))).await;
    assert_eq!(support::end(&panics).state(), RunState::Failed, "a node that panics fails, and nothing else does");
}

// G23
#[tokio::test]
async fn a_cancel_says_who_asked() {
    let test = start().await;
    let mut stream = test.client.stream_run(run(json!([{"gate": "g"}])));
    let id = soon(stream.next()).await.unwrap().unwrap().run_id;
    test.gates.arrived("g").await;
    let cancelled = test.client.cancel_run(CancelRunRequest { wait: true, ..id.as_str().into() }).await.unwrap();
    assert_eq!(cancelled.state(), RunState::Cancelled);
    let parts = read(stream).await;
    let end = end(&parts);
    assert_eq!(end.state(), RunState::Cancelled);
    let cancellation = end.cancellation.as_ref().unwrap();
    assert_eq!(cancellation.cause(), CancelCause::Request);
    assert!(cancellation.requester.contains("127.0.0.1"), "{cancellation:?}");
    let again = test.client.cancel_run(id.as_str()).await.unwrap();
    assert_eq!(again.state(), RunState::Cancelled, "asking twice is no error");
}

// G25
#[tokio::test]
async fn a_deadline_is_a_reader_that_leaves() {
    let test = start().await;
    let mut request = Request::new(StreamRunRequest { run: Some(run(json!([{"gate": "g"}]))), ..Default::default() });
    request.set_timeout(Duration::from_millis(150));
    let (parts, status) = read_raw(test.runs().stream_run(request).await.unwrap().into_inner()).await;
    let status = status.unwrap();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    let cursor = details(&status).1["cursor"].clone();
    test.gates.arrived("g").await;
    let now = test.client.get_run(parts[0].run_id.as_str()).await.unwrap();
    assert_eq!(now.state(), RunState::Running, "only run_timeout bounds the run");
    test.gates.open("g");
    let rest = read(test.client.join_run(join(&parts[0].run_id, &cursor))).await;
    assert_eq!(end(&rest).state(), RunState::Succeeded);
}

// G25
#[tokio::test]
async fn a_run_can_end_with_its_last_reader() {
    let test = start().await;
    for by_deadline in [false, true] {
        let mut spec = run(json!([{"gate": "never"}]));
        spec.on_disconnect = OnDisconnect::Cancel.into();
        spec.disconnect_grace_duration = Some(prost_types::Duration { seconds: 0, nanos: 1_000_000 });
        let mut request = Request::new(StreamRunRequest { run: Some(spec), ..Default::default() });
        if by_deadline {
            request.set_timeout(Duration::from_millis(100));
        }
        let alone = channel(test.handle.as_ref().unwrap()).await;
        let mut runs = runloom::v1::runs_client::RunsClient::new(alone);
        let mut stream = runs.stream_run(request).await.unwrap().into_inner();
        let id = soon(stream.message()).await.unwrap().unwrap().run_id;
        test.gates.arrived("never").await;
        if !by_deadline {
            // The client is gone, connection and all.
            drop((runs, stream));
        }
        // To wait for the run would be a reader that came back: so it is asked for.
        let ended = async { while !test.client.get_run(id.as_str()).await.unwrap().state().is_end() {} };
        soon(ended).await;
        let parts = read(test.client.join_run(id.as_str())).await;
        assert_eq!(end(&parts).state(), RunState::Cancelled);
        assert_eq!(end(&parts).cancellation.as_ref().unwrap().cause(), CancelCause::Disconnect);
    }
}

// G7
#[tokio::test]
async fn a_slow_reader_holds_nobody_up_and_misses_nothing() {
    let test = start().await;
    let spec = run(json!([{"gate": "g"}, {"flood": 30_000}])).with_modes([StreamMode::Custom]);
    let request = StreamRunRequest { run: Some(spec), json_encoding: JsonEncoding::Text.into(), ..Default::default() };
    let mut slow = test.runs().stream_run(request).await.unwrap().into_inner();
    let id = soon(slow.message()).await.unwrap().unwrap().run_id;
    test.gates.arrived("g").await;
    test.gates.open("g");
    // Nobody reads `slow` until the run is over.
    let outcome = soon(test.client.wait_run(id.as_str())).await.unwrap();
    assert_eq!(outcome.end.unwrap().state(), RunState::Succeeded);
    let (parts, status) = read_raw(slow).await;
    assert!(status.is_none(), "{status:?}");
    let seqs: Vec<_> = parts.iter().map(|part| part.seq).collect();
    assert_eq!(seqs, (1..=30_003).collect::<Vec<_>>());
}

#[tokio::test]
async fn tokens_are_put_together_where_asked() {
    let test = start().await;
    let tokens: Vec<_> = (0..100).map(|n| format!("{n} ")).collect();
    let mut spec = run(json!([{ "say": tokens }])).with_modes([StreamMode::Messages]);
    spec.token_coalescing = Some(TokenCoalescing {
        max_chunks: 25,
        max_delay_duration: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
    });
    let parts = read(test.client.stream_run(spec)).await;
    let texts: Vec<String> = parts
        .iter()
        .filter_map(|part| match &part.payload {
            Some(Payload::MessageChunk(chunk)) => chunk.content.first().map(|block| match &block.block {
                Some(Block::Text(text)) => text.clone(),
                other => panic!("{other:?}"),
            }),
            _ => None,
        })
        .collect();
    assert_eq!(texts.concat(), tokens.concat());
    assert!(texts.len() <= 5, "{}", texts.len());
}
