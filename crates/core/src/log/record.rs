//! A part of a run's log, as the faces read it.

use std::{sync::Arc, time::SystemTime};

use runloom_engine::{
    CheckpointId, RunId, ThreadId, Value,
    model::Usage,
    stream::{Interrupt, Modes, Payload, TaskRef, UpdatePart},
};
use runloom_store::{AssistantId, CancelAction, Canceller, Run, RunStatus};
use serde::{Deserialize, Serialize};

use crate::{Error, Result, runs::stored_usage};

/// A part of a run's log. The same for every reader, live or late.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its number in the log, from 1; 0 for what is not in the log: the [`Opening`](Body::Opening) of a join.
    pub seq: u64,
    /// When it was made.
    pub emit_time: SystemTime,
    /// The run.
    pub run_id: RunId,
    /// The attempt at the run that made it; 0 before the first.
    pub attempt: u32,
    /// The subgraph: empty for the graph itself, else `node:task_id` segments joined by `|`.
    pub namespace: Arc<str>,
    /// The superstep; none for what belongs to none.
    pub step: Option<i64>,
    /// The task that made it.
    pub task: Option<TaskRef>,
    /// What it is.
    pub body: Body,
}

/// What a record holds.
#[derive(Clone, Debug)]
pub enum Body {
    /// An attempt begins, or (with seq 0) a stream does.
    Opening(Box<Opening>),
    /// What the engine told.
    Part(Payload),
    /// The run has ended: the last record.
    End(Box<End>),
}

impl From<Opening> for Body {
    fn from(opening: Opening) -> Self {
        Self::Opening(Box::new(opening))
    }
}

impl From<End> for Body {
    fn from(end: End) -> Self {
        Self::End(Box::new(end))
    }
}

impl Record {
    /// About how many bytes it has of its own; what it shares with a checkpoint does not count.
    pub(crate) fn weight(&self) -> u64 {
        let value = |v: &Option<Value>| v.as_ref().map_or(0, Value::weight);
        size_of::<Self>() as u64
            + match &self.body {
                Body::Part(Payload::Custom(data)) => data.weight(),
                Body::Part(Payload::Update(UpdatePart::Node { value, .. })) => value.weight(),
                Body::Part(Payload::TaskEnd(end)) => end.result.weight(),
                Body::Part(Payload::Message(m)) => m.chunk.weight(),
                Body::Part(Payload::Event(e)) => {
                    let piece = e.data.chunk.as_ref().map_or(0, |c| c.weight());
                    value(&e.data.output) + value(&e.data.update) + value(&e.data.custom) + piece
                }
                _ => 0,
            }
    }
}

/// How a run stands, at the beginning of a stream or of an attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Opening {
    /// Its thread.
    pub thread_id: ThreadId,
    /// Its assistant.
    pub assistant_id: Option<AssistantId>,
    /// Its graph.
    pub graph: String,
    /// The graph's revision.
    pub revision: String,
    /// Its state.
    pub status: RunStatus,
    /// The modes it records.
    pub modes: Modes,
    /// Whether it records its subgraphs.
    pub subgraphs: bool,
}

/// The end of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct End {
    /// One of the states that are an end.
    pub status: RunStatus,
    /// Why it failed, was cancelled or timed out.
    pub error: Option<Error>,
    /// Tokens used, through all attempts.
    pub usage: Usage,
    /// The open questions, where it stopped at some.
    pub interrupts: Vec<Interrupt>,
    /// Who cancelled it and how, where somebody did.
    pub cancellation: Option<Cancellation>,
    /// The checkpoint at which it left its thread; none where it made none.
    pub checkpoint_id: Option<CheckpointId>,
    /// The output channels as they were left; read from the checkpoint, none where there is none.
    pub values: Option<Value>,
}

impl End {
    /// What the run itself still says of its end, where its log has been removed.
    pub(crate) fn stored(run: &Run) -> Result<Self> {
        Ok(Self {
            status: run.status,
            error: run.error.as_ref().map(Error::from_value),
            usage: stored_usage(run)?,
            interrupts: Vec::new(),
            cancellation: Cancellation::of(run),
            checkpoint_id: None,
            values: None,
        })
    }
}

/// Who cancelled a run, and what becomes of what it did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancellation {
    /// Whether what it did stays.
    pub action: CancelAction,
    /// Who asked for it, or what led to it.
    pub by: Canceller,
}

impl Cancellation {
    /// Of a run, where its end has been asked for.
    pub(crate) fn of(run: &Run) -> Option<Self> {
        run.cancel.as_ref().map(|asked| Self { action: asked.action, by: asked.by.clone() })
    }
}

/// How a run that was waited for came out.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The run as it is kept; as it was last, where a rollback took it back.
    pub run: Run,
    /// Its end.
    pub end: End,
}

/// What of a run's log a reader wants.
#[derive(Clone, Debug, Default)]
pub struct ReadOptions {
    /// The number of the last record seen; 0 for the whole log.
    pub after: u64,
    /// Of the run's modes, those wanted; none for all.
    pub modes: Option<Modes>,
    /// Narrows events and chunks of messages.
    pub filter: runloom_engine::stream::EventFilter,
    /// Begins with an [`Opening`](Body::Opening) of seq 0.
    pub opening: bool,
    /// Waits for the disk: records that a crash can lose are not returned.
    pub durable: bool,
    /// For a reader of a thread: records come [numbered](crate::ThreadPart::Numbered), and `durable`.
    pub numbered: bool,
}
