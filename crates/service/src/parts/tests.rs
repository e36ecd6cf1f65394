//! Parts as a client reads them: what is encoded by hand is what a generated message would be.

use std::{sync::Arc, time::SystemTime};

use prost::Message;
use runloom::v1::{Omission, stream_run_response};
use runloom_core::{End, Opening};
use runloom_engine::{
    CheckpointId, ThreadId, Value,
    model::{ModelInfo, Usage},
    stream::{Event, EventData, EventKind, MessagePart, Modes, Snapshot, TaskMeta, TaskRef, ValuesPart},
    value,
};
use runloom_store::RunStatus;

use super::*;
use crate::{cursor::RunCursors, shared::Sharing};

fn run() -> RunId {
    RunId(Uuid::from_u128(7))
}

fn record(seq: u64, body: Body) -> Record {
    Record {
        seq,
        emit_time: SystemTime::UNIX_EPOCH + std::time::Duration::new(1_700_000_000, 123_456_000),
        run_id: run(),
        attempt: 2,
        namespace: "a:1|b:2".into(),
        step: Some(-1),
        task: Some(TaskRef { id: TaskId(Uuid::from_u128(9)), node: "n".into(), attempt: 3 }),
        body,
    }
}

fn part(payload: stream::Payload) -> Body {
    Body::Part(payload)
}

fn meta() -> Arc<TaskMeta> {
    Arc::new(TaskMeta {
        task: Some(TaskRef { id: TaskId(Uuid::from_u128(9)), node: "n".into(), attempt: 3 }),
        step: 1,
        triggers: Arc::default(),
        path: Value::Null,
        checkpoint_ns: "".into(),
        metadata: [("m", Value::Int(1))].into_iter().collect(),
        tags: ["t".into()].into(),
    })
}

fn token(text: &str, last: bool) -> Body {
    let chunk = Chunk::Delta {
        id: "lc_run--0198c0de-0000-7000-8000-000000000000".into(),
        name: None,
        text: text.into(),
        reasoning: "".into(),
        blocks: vec![],
        tool_calls: vec![],
        at: stream::BlockPlaces::default(),
        usage: None,
        response_metadata: None,
        last,
    };
    let model = ModelInfo { provider: "p".into(), model: "m-1".into() };
    part(stream::Payload::Message(MessagePart {
        chunk: Arc::new(chunk),
        meta: meta(),
        model: Some(Arc::new(model)),
        name: Some("Talker".into()),
        tags: Arc::default(),
    }))
}

fn values(state: &str) -> Body {
    let names: Arc<[Arc<str>]> = ["s".into()].into();
    let values = vec![Some(Value::string(state))];
    let checkpoint = Some(CheckpointId(Uuid::from_u128(5)));
    let snapshot = Arc::new(Snapshot { checkpoint, names: names.clone(), values });
    part(stream::Payload::Values(ValuesPart { snapshot, output: names, interrupts: None }))
}

fn end() -> Body {
    Body::from(End {
        status: RunStatus::Succeeded,
        error: None,
        usage: Usage::default(),
        interrupts: vec![],
        cancellation: None,
        checkpoint_id: None,
        values: None,
    })
}

fn projector(max: usize) -> Projector {
    Projector::new(JsonEncoding::Text, max)
}

/// Encodes a part, and reads it as a client does.
fn read(projector: &mut Projector, record: &Record, shared: Option<&Arc<Shared>>) -> StreamRunResponse {
    let part = projector.part(record, RunCursors::of(run()).at(record.seq), shared);
    let mut bytes = Vec::new();
    part.encode(&mut bytes);
    assert_eq!(bytes.len(), part.encoded_len());
    StreamRunResponse::decode(bytes.as_slice()).unwrap()
}

#[test]
fn the_envelope_is_whole() {
    let mut projector = projector(1 << 20);
    let part = read(&mut projector, &record(300, part(stream::Payload::Custom(value!({"a": 1})))), None);
    let custom = runloom::v1::Custom { payload: Some(runloom::v1::Json::from_text("{\"a\":1}")), node: "n".into() };
    let whole = StreamRunResponse {
        seq: 300,
        cursor: RunCursors::of(run()).at(300).to_string(),
        emit_time: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 123_456_000 }),
        run_id: run().to_string(),
        attempt: 2,
        namespace: vec!["a:1".into(), "b:2".into()],
        step: Some(-1),
        task_id: Uuid::from_u128(9).to_string(),
        task_attempt: 3,
        payload: Some(stream_run_response::Payload::Custom(custom)),
        ..StreamRunResponse::default()
    };
    assert_eq!(part, whole);

    // The next one is of no task, of no step.
    let bare = Record { namespace: "".into(), step: None, task: None, ..record(0, end()) };
    let part = read(&mut projector, &bare, None);
    assert_eq!((part.seq, part.step, part.task_id.as_str(), part.task_attempt), (0, None, "", 0));
    assert!(part.namespace.is_empty());
}

#[test]
fn a_message_is_introduced_once_and_again_after_a_new_attempt() {
    let mut projector = projector(1 << 20);
    let mut role = |body| match read(&mut projector, &record(1, body), None).payload {
        Some(stream_run_response::Payload::MessageChunk(chunk)) => (chunk.role, chunk.node, chunk.metadata.is_some()),
        other => panic!("{other:?}"),
    };
    let (first, later) = ((2, "n".to_owned(), true), (0, String::new(), false));
    assert_eq!(role(token("a", false)), first);
    assert_eq!(role(token("b", false)), later);
    assert_eq!(role(token("c", true)), later);
    assert_eq!(role(token("d", false)), first, "the message had ended");
    let opening = Opening {
        thread_id: ThreadId(Uuid::nil()),
        assistant_id: None,
        graph: "g".into(),
        revision: "r".into(),
        status: RunStatus::Running,
        modes: Modes::NONE,
        subgraphs: false,
    };
    read(&mut projector, &record(9, Body::from(opening)), None);
    let part = read(&mut projector, &record(10, token("e", false)), None);
    assert!(matches!(part.payload, Some(stream_run_response::Payload::MessageChunk(chunk)) if chunk.role == 2));
}

#[test]
fn an_event_is_introduced_once() {
    let mut projector = projector(1 << 20);
    let mut whole = |kind, id| {
        let event = Event {
            kind,
            name: "x".into(),
            run_id: Uuid::from_u128(id),
            parent_ids: [Uuid::nil()].into(),
            tags: ["t".into()].into(),
            meta: meta(),
            model: None,
            data: EventData::default(),
        };
        match read(&mut projector, &record(1, part(event.into())), None).payload {
            Some(stream_run_response::Payload::Event(event)) => {
                assert_eq!(event.tags.is_empty(), event.metadata.is_none());
                assert_eq!(event.tags.is_empty(), event.parent_ids.is_empty());
                event.metadata.is_some()
            }
            other => panic!("{other:?}"),
        }
    };
    use EventKind as K;
    let told = [
        (K::ChainStart, 1),
        (K::ChainStream, 1),
        (K::ChainEnd, 1),
        (K::ChatModelStream, 2),
        (K::ChatModelStream, 2),
        (K::ChatModelEnd, 2),
        (K::ChatModelStream, 2),
    ]
    .map(|(kind, id)| whole(kind, id));
    assert_eq!(told, [true, false, true, true, false, true, true]);
}

#[test]
fn a_part_that_is_too_large_keeps_its_shape() {
    let large = "x".repeat(1000);
    let part = read(&mut projector(900), &record(4, values(&large)), None);
    let Some(Omission { reason, size_bytes, checkpoint: Some(held), .. }) = &part.omitted else { panic!("{part:?}") };
    assert_eq!(
        (*reason, held.checkpoint_id.as_str()),
        (ErrorReason::PartTooLarge as i32, &*Uuid::from_u128(5).to_string())
    );
    assert_eq!(held.namespace, ["a:1", "b:2"]);
    assert!((1000..1300).contains(size_bytes), "{size_bytes}");
    assert!(matches!(&part.payload, Some(stream_run_response::Payload::Value(value)) if value.state.is_none()));

    let mut projector = projector(600);
    let part = read(&mut projector, &record(1, token(&large, false)), None);
    assert!(part.omitted.is_some());
    match part.payload {
        Some(stream_run_response::Payload::MessageChunk(chunk)) => {
            assert_eq!((chunk.role, chunk.content.len()), (2, 0))
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn readers_of_a_run_share_what_is_the_same_for_all() {
    let sharing = Arc::new(Sharing::default());
    let (one, other) = (sharing.join(run()), sharing.join(run()));
    let (mut a, mut b) = (projector(1 << 20), projector(1 << 20));
    let mut small = projector(100);
    for (seq, body) in
        [(1, values("state")), (2, end()), (3, token("t", false)), (4, part(stream::Payload::Custom(value!([1]))))]
    {
        let record = record(seq, body);
        let alone = read(&mut projector(1 << 20), &record, None);
        assert_eq!(read(&mut a, &record, Some(&one)), alone);
        assert_eq!(read(&mut b, &record, Some(&other)), alone);
        let omitted = read(&mut small, &record, Some(&one));
        assert_eq!((omitted.seq, omitted.omitted.is_some()), (seq, true));
    }
}

/// `cargo test --release -p runloom-service --lib measure -- --ignored --nocapture`
#[test]
#[ignore = "a measure"]
fn measure_tokens() {
    let records: Vec<_> = (1..=1_000_000).map(|seq| record(seq, token("token ", false))).collect();
    let cursors = RunCursors::of(run());
    for _ in 0..3 {
        let (mut projector, mut bytes) = (projector(4 << 20), BytesMut::with_capacity(1 << 16));
        let since = std::time::Instant::now();
        for record in &records {
            let part = projector.part(record, cursors.at(record.seq), None);
            if bytes.len() > 32 << 10 {
                bytes.clear();
            }
            part.encode(&mut bytes);
        }
        println!("{:?} a part", since.elapsed() / records.len() as u32);
    }
}
