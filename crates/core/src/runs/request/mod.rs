//! What a run is requested with. The parts have different readers: [`RunOptions`] is for the engine and decides whether two
//! requests are the same, [`Recording`] is for the log, [`Delivery`] for whoever waits for the run's end, and [`Notes`] for
//! the API that took the request. [`StoredRequest`] is how all of it is stored with the run.

mod hash;
mod options;
mod recording;
mod stored;

use std::time::{Duration, SystemTime};

use runloom_engine::{CheckpointId, Object, RunId, ThreadId, Value};
use runloom_store::{AssistantId, Multitask, Run};
use serde::{Deserialize, Serialize};

pub(crate) use hash::{hash_of, is_same};
pub use options::{CommandSpec, RunOptions, Start};
pub use recording::{FilterSpec, Recording, Selector};
pub(crate) use stored::{Marks, StoredRequest};

/// A request for a run. [`RunRequest::default`] is a stateless run without input of no graph: fill it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunRequest {
    /// The run's id; a new one where there is none.
    pub run_id: Option<RunId>,
    /// The thread; none makes a stateless run.
    pub thread_id: Option<ThreadId>,
    /// Makes the thread where it is not there.
    pub create_thread: bool,
    /// What to run.
    pub target: Target,
    /// The metadata of a thread that this request makes, over the graph's and the assistant's.
    pub thread_metadata: Object,
    /// What is stored with the run.
    pub spec: RunSpec,
    /// What happens where the thread is busy.
    pub multitask: Multitask,
    /// The run does not begin before this time.
    pub start_time: Option<SystemTime>,
    /// Makes the request idempotent: the same id and the same request is the same run.
    pub request_id: Option<String>,
    /// Refuses a command unless this is the thread's latest checkpoint.
    pub expected_checkpoint_id: Option<CheckpointId>,
    /// The trace context of the caller: `traceparent`, `tracestate`. Not part of the request's identity.
    pub trace: Object,
}

/// What to run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Target {
    /// An assistant.
    Assistant(AssistantId),
    /// A graph, by the name of its default assistant.
    Graph(String),
}

impl Default for Target {
    fn default() -> Self {
        Self::Graph(String::new())
    }
}

/// What a caller sets of a run, and what is stored with it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunSpec {
    /// What the engine needs.
    pub options: RunOptions,
    /// What the run's log records.
    pub recording: Recording,
    /// Who is told of the run's end, and whether it outlives its readers.
    pub delivery: Delivery,
    /// What APIs store with the run for themselves.
    pub notes: Notes,
}

impl RunSpec {
    /// A run that starts so, with every default.
    pub fn new(start: Start) -> Self {
        Self { options: RunOptions { start, ..RunOptions::default() }, ..Self::default() }
    }

    /// What a run was requested with, for APIs that show it. Where the stored request cannot be read this is empty: the
    /// run itself then fails and says why.
    pub fn of(run: &Run) -> Self {
        match StoredRequest::of(run) {
            Ok(stored) => stored.spec,
            Err(error) => {
                tracing::warn!(run = %run.id, %error, "a run is shown without its request");
                Self::default()
            }
        }
    }
}

/// Who is told of a run's end, and whether the run outlives its readers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Delivery {
    /// The address that is called when the run has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<String>,
    /// Whether the run is cancelled when its last reader has left and none has come back within the grace.
    pub cancel_on_disconnect: bool,
    /// That grace, in milliseconds; 0 is 5,000.
    pub disconnect_grace_ms: u64,
}

impl Delivery {
    /// How long the run goes on without readers.
    pub fn grace(&self) -> Duration {
        Duration::from_millis(if self.disconnect_grace_ms == 0 { 5_000 } else { self.disconnect_grace_ms })
    }
}

/// What APIs store with a run for themselves, by the API's name. Neither nodes nor other APIs see it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Notes(Object);

impl Notes {
    /// A note of an API.
    pub fn get(&self, api: &str, key: &str) -> Option<&Value> {
        self.0.get(api)?.get(key)
    }

    /// All notes of an API.
    pub fn of(&self, api: &str) -> Option<&Object> {
        self.0.get(api)?.as_object()
    }

    /// Stores a note of an API, in place of one with the same key.
    pub fn set(&mut self, api: &str, key: &str, value: Value) {
        let mut own = self.of(api).cloned().unwrap_or_default();
        own.insert(key, value);
        self.0.insert(api, own);
    }

    /// Every note, by the APIs' names.
    pub(crate) fn all(&self) -> &Object {
        &self.0
    }
}
