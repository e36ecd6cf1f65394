//! What a run is given beside its input.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::{
    CheckpointId, Command, Object, RunId, ThreadId, Value,
    checkpoint::Durability,
    stream::{EventFilter, Mode, Modes},
};

/// The limit of supersteps where a run names none, as LangGraph has it.
pub const DEFAULT_RECURSION_LIMIT: u32 = 10_007;

/// The input of a run.
#[derive(Clone, Debug, Default)]
pub enum Input {
    /// None: go on where the thread stopped.
    #[default]
    Resume,
    /// An object by channel.
    Values(Value),
    /// A command: answers, an update, where to go.
    Command(Command),
}

impl From<Value> for Input {
    fn from(values: Value) -> Self {
        Self::Values(values)
    }
}

impl From<Command> for Input {
    fn from(command: Command) -> Self {
        Self::Command(command)
    }
}

/// Nodes to stop before or after.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Breakpoints {
    /// None.
    #[default]
    None,
    /// Every node: `"*"`.
    All,
    /// These.
    Nodes(Vec<Arc<str>>),
}

impl Breakpoints {
    /// Whether a node is one.
    pub fn has(&self, node: &str) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Nodes(nodes) => nodes.iter().any(|n| &**n == node),
        }
    }
}

/// How much a run may make a graph hold at once. A run that would go past a limit fails with
/// [`Error::LimitReached`](crate::Error::LimitReached).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most tasks of one step, Sends included. Default 10,000.
    pub step_tasks: u64,
    /// The most bytes of JSON, about, that a state may take with the Sends that wait beside it. Default 512 MiB.
    pub state_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { step_tasks: 10_000, state_bytes: 512 << 20 }
    }
}

/// What a run is given beside its input. `RunConfig::default()` runs a graph without a thread and tells updates.
#[derive(Clone, Debug)]
pub struct RunConfig {
    /// The thread; none runs without checkpoints.
    pub thread_id: Option<ThreadId>,
    /// The run's id; none makes one.
    pub run_id: Option<RunId>,
    /// Which attempt of the run this is, from 1.
    pub attempt: u32,
    /// The checkpoint to start from; none means the latest.
    pub checkpoint_id: Option<CheckpointId>,
    /// The namespace of that checkpoint: empty for the graph itself, `node:task_id` segments joined by `|` for a subgraph.
    /// The graphs around the subgraph fork where it had been called, and keep what tasks beside it wrote. Without new input
    /// only.
    pub checkpoint_ns: Arc<str>,
    /// The most supersteps.
    pub recursion_limit: u32,
    /// How many tasks a step, and how many bytes a state may have.
    pub limits: Limits,
    /// The most tasks at once; none means all of a step.
    pub max_concurrency: Option<usize>,
    /// Tags of the run, which everything in it inherits.
    pub tags: Vec<Arc<str>>,
    /// Metadata of the run, kept with its checkpoints.
    pub metadata: Object,
    /// Settings that nodes may read.
    pub configurable: Object,
    /// The run's context.
    pub context: Value,
    /// Nodes to stop before.
    pub interrupt_before: Option<Breakpoints>,
    /// Nodes to stop after.
    pub interrupt_after: Option<Breakpoints>,
    /// When checkpoints have to be on disk.
    pub durability: Durability,
    /// What the run tells.
    pub modes: Modes,
    /// Whether subgraphs tell too. (Events of subgraphs always do.)
    pub subgraphs: bool,
    /// Which events the run tells.
    pub events: EventFilter,
    /// Refuses answers to questions that are not open, and a run that has nothing to go on with. Otherwise the first are
    /// passed over, and the second ends at once, as in LangGraph.
    pub strict: bool,
    /// Cancels the run.
    pub cancel: CancellationToken,
    /// The longest the run may take, through all its attempts.
    pub timeout: Option<Duration>,
    /// How much of that earlier attempts have taken.
    pub elapsed: Duration,
}

impl Default for RunConfig {
    fn default() -> Self {
        Self {
            thread_id: None,
            run_id: None,
            attempt: 1,
            checkpoint_id: None,
            checkpoint_ns: Arc::default(),
            recursion_limit: DEFAULT_RECURSION_LIMIT,
            limits: Limits::default(),
            max_concurrency: None,
            tags: Vec::new(),
            metadata: Object::default(),
            configurable: Object::default(),
            context: Value::Null,
            interrupt_before: None,
            interrupt_after: None,
            durability: Durability::default(),
            modes: Mode::Updates.into(),
            subgraphs: false,
            events: EventFilter::default(),
            strict: false,
            cancel: CancellationToken::new(),
            timeout: None,
            elapsed: Duration::ZERO,
        }
    }
}

impl RunConfig {
    /// On a thread.
    pub fn thread(thread_id: ThreadId) -> Self {
        Self { thread_id: Some(thread_id), ..Self::default() }
    }

    /// With these modes.
    #[must_use]
    pub fn modes(mut self, modes: impl Into<Modes>) -> Self {
        self.modes = modes.into();
        self
    }
}
