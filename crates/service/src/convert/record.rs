//! Records of a run's log as payloads of its stream.

use runloom::{
    json::NotExact,
    v1::{self, CancelCause, Cancellation, CheckpointRef, JsonEncoding, TaskPhase, stream_run_response::Payload},
};
use runloom_core::{Body, End, Opening, Record};
use runloom_engine::stream::{self, Interrupt, UpdatePart};
use runloom_store::{CancelAction, Canceller};

use super::{checkpoint, event, interrupts, message, namespace, node_error, run_state, stream_modes};
use crate::{
    json::{encode, encode_object},
    status::run_status,
};

/// What a stream has sent before, as far as a payload depends on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Before {
    /// Nothing of the same message, or of the same event's run_id.
    pub first: bool,
    /// How many blocks of the same message.
    pub blocks: u32,
}

/// The payload of a record. Without an encoding its data is left out: what remains says what kind of part it is.
pub(crate) fn payload(record: &Record, before: Before, encoding: Option<JsonEncoding>) -> Result<Payload, NotExact> {
    let segments = || namespace(&record.namespace);
    let asked = |questions: &[Interrupt]| interrupts(questions, &segments(), record.task.as_ref(), encoding);
    let node = || record.task.as_ref().map(|task| task.node.to_string()).unwrap_or_default();
    let json = |value| encoding.map(|encoding| encode(value, encoding)).transpose();
    Ok(match &record.body {
        Body::Opening(opening) => Payload::Metadata(metadata(record, opening)),
        Body::End(end) => Payload::End(self::end(end, encoding)?),
        Body::Part(stream::Payload::Message(part)) => {
            Payload::MessageChunk(message::message(part, before.first, before.blocks, encoding)?)
        }
        Body::Part(stream::Payload::Event(told)) => {
            Payload::Event(event::event(told, before.first, before.blocks, encoding)?)
        }
        Body::Part(stream::Payload::Values(part)) => Payload::Value(v1::Value {
            state: encoding.map(|encoding| encode_object(&part.to_object(), encoding)).transpose()?,
            interrupts: asked(part.interrupts.as_deref().unwrap_or_default())?,
        }),
        Body::Part(stream::Payload::Update(UpdatePart::Node { node, value, cached })) => Payload::Update(v1::Update {
            node: node.to_string(),
            update: json(value)?,
            cached: *cached,
            ..v1::Update::default()
        }),
        Body::Part(stream::Payload::Update(UpdatePart::Interrupt(questions))) => {
            Payload::Update(v1::Update { node: node(), interrupts: asked(questions)?, ..v1::Update::default() })
        }
        Body::Part(stream::Payload::Custom(value)) => {
            Payload::Custom(v1::Custom { payload: json(value)?, node: node() })
        }
        Body::Part(stream::Payload::TaskStart(start)) => Payload::Task(v1::Task {
            phase: TaskPhase::Started.into(),
            node: node(),
            input: json(&start.input)?,
            triggers: start.meta.triggers.iter().map(ToString::to_string).collect(),
            ..v1::Task::default()
        }),
        Body::Part(stream::Payload::TaskEnd(done)) => Payload::Task(v1::Task {
            phase: TaskPhase::Finished.into(),
            node: node(),
            result: if done.error.is_some() { None } else { json(&done.result)? },
            error: done.error.as_ref().map(node_error),
            interrupts: asked(&done.interrupts)?,
            ..v1::Task::default()
        }),
        Body::Part(stream::Payload::Checkpoint(view)) => {
            Payload::Checkpoint(checkpoint::checkpoint(view, true, encoding)?)
        }
    })
}

/// The least that says what kind of part a payload is: without lists, and without the texts of errors.
pub(crate) fn smallest(payload: Payload) -> Payload {
    let untold = |error: v1::NodeError| v1::NodeError { message: String::new(), ..error };
    match payload {
        Payload::End(end) => Payload::End(v1::End {
            error: end.error.map(|error| tonic_types::Status { code: error.code, ..tonic_types::Status::default() }),
            interrupts: Vec::new(),
            ..end
        }),
        Payload::Event(event) => Payload::Event(v1::Event {
            kind: event.kind,
            node: event.node,
            run_id: event.run_id,
            ..v1::Event::default()
        }),
        Payload::MessageChunk(chunk) => Payload::MessageChunk(v1::MessageChunk {
            message_id: chunk.message_id,
            role: chunk.role,
            node: chunk.node,
            last: chunk.last,
            ..v1::MessageChunk::default()
        }),
        Payload::Update(update) => Payload::Update(v1::Update { interrupts: Vec::new(), ..update }),
        Payload::Value(_) => Payload::Value(v1::Value::default()),
        Payload::Task(task) => Payload::Task(v1::Task {
            error: task.error.map(untold),
            triggers: Vec::new(),
            interrupts: Vec::new(),
            ..task
        }),
        Payload::Checkpoint(checkpoint) => Payload::Checkpoint(v1::Checkpoint {
            next: Vec::new(),
            tasks: Vec::new(),
            interrupts: Vec::new(),
            ..checkpoint
        }),
        small @ (Payload::Metadata(_) | Payload::Custom(_) | Payload::Progress(_)) => small,
    }
}

/// The checkpoint that holds a record's data, where one does.
pub(crate) fn held_by(record: &Record) -> Option<CheckpointRef> {
    let Body::Part(part) = &record.body else { return None };
    match part {
        stream::Payload::Values(part) => Some(CheckpointRef {
            checkpoint_id: part.snapshot.checkpoint?.to_string(),
            namespace: namespace(&record.namespace),
        }),
        stream::Payload::Checkpoint(view) => view.config.as_ref().map(checkpoint::reference),
        _ => None,
    }
}

/// Whether all readers of a run get the same payload, whatever each was sent before.
pub(crate) fn is_same_for_all(record: &Record) -> bool {
    match &record.body {
        Body::Part(stream::Payload::Message(_)) => false,
        Body::Part(stream::Payload::Event(told)) => !event::is_stream(told.kind),
        _ => record.seq > 0,
    }
}

fn metadata(record: &Record, opening: &Opening) -> v1::Metadata {
    v1::Metadata {
        run_id: record.run_id.to_string(),
        thread_id: opening.thread_id.to_string(),
        assistant_id: opening.assistant_id.map(|id| id.to_string()).unwrap_or_default(),
        graph_name: opening.graph.clone(),
        graph_revision: opening.revision.clone(),
        state: run_state(opening.status).into(),
        attempt: record.attempt,
        stream_modes: stream_modes(opening.modes),
        stream_subgraphs: opening.subgraphs,
    }
}

/// The end of a run.
pub(crate) fn end(end: &End, encoding: Option<JsonEncoding>) -> Result<v1::End, NotExact> {
    Ok(v1::End {
        state: run_state(end.status).into(),
        error: end.error.as_ref().map(run_status),
        usage: Some(message::usage(end.usage)),
        interrupts: interrupts(&end.interrupts, &[], None, encoding)?,
        cancellation: end.cancellation.as_ref().map(cancellation),
        checkpoint_id: end.checkpoint_id.map(|id| id.to_string()).unwrap_or_default(),
    })
}

/// Who cancelled a run, and how.
fn cancellation(asked: &runloom_core::Cancellation) -> Cancellation {
    let cause = match asked.by {
        Canceller::Caller(_) => CancelCause::Request,
        Canceller::Readers => CancelCause::Disconnect,
        Canceller::NewerRun(_) => CancelCause::NewerRun,
        Canceller::ThreadDeleted => CancelCause::ThreadDeleted,
    };
    let mode = match asked.action {
        CancelAction::Interrupt => v1::CancelMode::Interrupt,
        CancelAction::Rollback => v1::CancelMode::Rollback,
    };
    Cancellation { cause: cause.into(), mode: mode.into(), requester: asked.by.requester() }
}
