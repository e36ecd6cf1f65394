//! An event of a thread.

use std::sync::Arc;

use runloom_engine::{Object, Value, model::Usage, stream::Interrupt};

/// What a reader of a thread subscribes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// States.
    Values,
    /// Updates of nodes.
    Updates,
    /// Messages, in content blocks.
    Messages,
    /// Calls of tools.
    Tools,
    /// Beginnings and ends of runs and of subgraphs.
    Lifecycle,
    /// Interrupts and their answers.
    Input,
    /// Checkpoints.
    Checkpoints,
    /// Starts and ends of tasks.
    Tasks,
    /// What nodes and tools emit.
    Custom,
}

impl Channel {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Values,
        Self::Updates,
        Self::Messages,
        Self::Tools,
        Self::Lifecycle,
        Self::Input,
        Self::Checkpoints,
        Self::Tasks,
        Self::Custom,
    ];

    /// Its name in the protocol.
    pub fn name(self) -> &'static str {
        match self {
            Self::Values => "values",
            Self::Updates => "updates",
            Self::Messages => "messages",
            Self::Tools => "tools",
            Self::Lifecycle => "lifecycle",
            Self::Input => "input",
            Self::Checkpoints => "checkpoints",
            Self::Tasks => "tasks",
            Self::Custom => "custom",
        }
    }
}

/// An event. Its place among those of its run is fixed by the run's log.
#[derive(Clone, Debug)]
pub struct Event {
    /// The part of the tree of graphs: empty for the graph itself, else segments joined by `|`.
    pub namespace: Arc<str>,
    /// What happened.
    pub body: EventBody,
}

/// What happened. What a record holds as it is stays in the record.
#[derive(Clone, Debug)]
pub enum EventBody {
    /// The record is a state.
    Values,
    /// The record is an update.
    Update,
    /// The record is a start or an end of a task.
    Task,
    /// The record is a checkpoint.
    Checkpoint,
    /// The record holds what was emitted.
    Custom,
    /// The record is an event of a tool.
    Tool,
    /// A part of a message.
    Message {
        /// The message's id.
        id: Arc<str>,
        /// The part.
        part: MessageEvent,
    },
    /// The graph itself begins, waits or ends.
    Graph {
        /// What.
        change: Lifecycle,
        /// The graph's name.
        graph: Arc<str>,
        /// Why it failed.
        error: Option<Arc<str>>,
    },
    /// A subgraph ends.
    Subgraph {
        /// What.
        change: Lifecycle,
        /// Which.
        of: Subgraph,
        /// Why it failed.
        error: Option<Arc<str>>,
    },
    /// A node waits for an answer.
    Requested(Interrupt),
    /// A run begins with the answer to an interrupt.
    Answered {
        /// The interrupt's id.
        id: Arc<str>,
        /// The answer.
        answer: Value,
    },
}

impl EventBody {
    /// The channel.
    pub fn channel(&self) -> Channel {
        match self {
            Self::Values => Channel::Values,
            Self::Update => Channel::Updates,
            Self::Task => Channel::Tasks,
            Self::Checkpoint => Channel::Checkpoints,
            Self::Custom => Channel::Custom,
            Self::Tool => Channel::Tools,
            Self::Message { .. } => Channel::Messages,
            Self::Graph { .. } | Self::Subgraph { .. } => Channel::Lifecycle,
            Self::Requested(_) | Self::Answered { .. } => Channel::Input,
        }
    }
}

/// A change of a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifecycle {
    /// The graph itself begins.
    Running,
    /// A subgraph begins.
    Started,
    /// It has ended.
    Completed,
    /// It has failed.
    Failed,
    /// It waits for an answer, or was cancelled.
    Interrupted,
}

impl Lifecycle {
    /// Its name in the protocol.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Started => "started",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }
}

/// A subgraph under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subgraph {
    /// Where it runs.
    pub namespace: Arc<str>,
    /// The node that runs it.
    pub node: Arc<str>,
    /// That node's task.
    pub task: Arc<str>,
    /// The call of a tool that runs it.
    pub tool_call: Option<Arc<str>>,
}

/// A part of a message.
#[derive(Clone, Debug, PartialEq)]
pub enum MessageEvent {
    /// A message begins.
    Start {
        /// Its id.
        id: Arc<str>,
        /// For a tool's answer: the call that it answers.
        tool_call: Option<Arc<str>>,
    },
    /// A content block begins.
    BlockStart {
        /// The block.
        index: usize,
        /// The block, empty so far.
        content: Value,
    },
    /// More of a content block.
    BlockDelta {
        /// The block.
        index: usize,
        /// What follows.
        delta: Delta,
    },
    /// A content block ends.
    BlockFinish {
        /// The block.
        index: usize,
        /// The block as a whole.
        content: Value,
    },
    /// A message ends.
    Finish {
        /// The tokens it used, where the model said.
        usage: Option<Usage>,
        /// What the provider said; none where it said nothing.
        metadata: Option<Object>,
    },
}

/// More of a content block.
#[derive(Clone, Debug, PartialEq)]
pub enum Delta {
    /// Text.
    Text(Arc<str>),
    /// Reasoning.
    Reasoning(Arc<str>),
    /// Arguments of a tool call.
    Args(Arc<str>),
    /// The text of a tool's answer.
    ToolText(Arc<str>),
}
