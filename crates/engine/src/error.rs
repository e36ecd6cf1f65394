//! What can go wrong in a graph, and what to do about it.

use std::{fmt, sync::Arc, time::Duration};

use crate::{CheckpointId, stream::Interrupt};

/// An error of a graph, at its compilation or in a run.
// The fields are named in the messages.
#[allow(missing_docs)]
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The graph does not hold together; every fault found, not the first.
    #[error("graph `{graph}` is not valid: {}", .problems.join("; "))]
    GraphInvalid { graph: String, problems: Vec<String> },
    /// The input has the wrong shape.
    #[error("graph `{graph}`: input{}: {message}", .field.as_ref().map(|f| format!(" `{f}`")).unwrap_or_default())]
    InvalidInput { graph: String, field: Option<String>, message: String },
    /// A run without input on a thread that has nothing to go on with.
    #[error("graph `{graph}`: there is no input, and the thread has nothing to go on with; give the run an input")]
    EmptyInput { graph: String },
    /// A write that its channel cannot take.
    #[error("graph `{graph}`: channel `{channel}`{}: {message}", written_by(.nodes))]
    InvalidUpdate { graph: String, channel: String, nodes: Vec<String>, message: String },
    /// A state update by hand that names no node, or a wrong one.
    #[error("graph `{graph}`: {message}")]
    InvalidStateUpdate { graph: String, message: String },
    /// The graph took as many steps as the run allows.
    #[error(
        "Recursion limit of {limit} reached without hitting a stop condition. You can increase the limit by setting \
         the `recursion_limit` config key. (graph `{graph}`)"
    )]
    RecursionLimit { graph: String, limit: u32 },
    /// A step would have more tasks, or a state more bytes, than the run's limits allow.
    #[error(
        "graph `{graph}`{}: {message}, or raise the limit `{name}`, which is {limit}", at_node(.node)
    )]
    LimitReached { graph: String, node: String, name: &'static str, limit: u64, message: String },
    /// A node failed.
    #[error("{error}")]
    Node { graph: String, node: String, error: NodeFailure },
    /// The run took longer than its own limit.
    #[error("graph `{graph}`: the run timed out after {after:?}; `run_timeout` sets the limit")]
    RunTimeout { graph: String, after: Duration },
    /// The run was cancelled.
    #[error("graph `{graph}`: the run was cancelled")]
    Cancelled { graph: String },
    /// The checkpoint asked for is not there.
    #[error("there is no checkpoint {0} on this thread")]
    CheckpointNotFound(CheckpointId),
    /// Something that needs checkpoints was asked of a graph that has no checkpointer, or of a run without a thread.
    #[error("graph `{graph}`: {what} needs a checkpointer and a thread id")]
    NoCheckpointer { graph: String, what: &'static str },
    /// An answer was given, but it is not clear to which of the open questions.
    #[error(
        "there are {} open questions; answer by id: {}",
        .open.len(), .open.iter().map(|i| i.id.as_ref()).collect::<Vec<_>>().join(", ")
    )]
    AmbiguousAnswer { open: Vec<Interrupt> },
    /// An answer to a question that is not open.
    #[error("no open question has the id `{id}`; open are: {}", .open.join(", "))]
    UnknownQuestion { id: String, open: Vec<String> },
    /// An answer on a thread that asks nothing and has nothing to go on with.
    #[error("graph `{graph}`: the thread has no open question, so there is nothing to answer")]
    NoQuestion { graph: String },
    /// A command for a parent graph reached the outermost graph.
    #[error("graph `{graph}`: node `{node}` sent a command to the parent graph, but there is none")]
    NoParent { graph: String, node: String },
    /// The checkpoint does not fit the graph as it is now.
    #[error("the thread's checkpoint does not fit graph `{graph}`: {message}")]
    Incompatible { graph: String, message: String },
    /// Checkpoints could not be read or written.
    #[error("graph `{graph}`: {error}")]
    Checkpointer { graph: String, error: CheckpointError },
}

fn at_node(node: &str) -> String {
    if node.is_empty() { String::new() } else { format!(", node `{node}`") }
}

fn written_by(nodes: &[String]) -> String {
    match nodes {
        [] => String::new(),
        [one] => format!(", written by node `{one}`"),
        many => format!(", written by nodes `{}`", many.join("`, `")),
    }
}

impl Error {
    /// Names the nodes that wrote, where it is an update that cannot be and does not say whose.
    pub(crate) fn by(mut self, names: impl FnOnce(&str) -> Vec<String>) -> Self {
        if let Self::InvalidUpdate { channel, nodes, .. } = &mut self
            && nodes.is_empty()
        {
            *nodes = names(channel);
        }
        self
    }

    /// The error's type as LangGraph's clients know it: `GraphRecursionError`, `InvalidUpdateError`, a node's own.
    pub fn kind(&self) -> &str {
        match self {
            Self::GraphInvalid { .. } | Self::InvalidInput { .. } | Self::Incompatible { .. } => "ValueError",
            Self::EmptyInput { .. } => "EmptyInputError",
            Self::InvalidUpdate { .. } | Self::InvalidStateUpdate { .. } | Self::NoParent { .. } => {
                "InvalidUpdateError"
            }
            Self::RecursionLimit { .. } => "GraphRecursionError",
            Self::LimitReached { .. } => "GraphLimitError",
            Self::Node { error, .. } => &error.kind,
            Self::RunTimeout { .. } => "TimeoutError",
            Self::Cancelled { .. } => "CancelledError",
            Self::CheckpointNotFound(_) | Self::Checkpointer { .. } => "CheckpointError",
            Self::NoCheckpointer { .. } | Self::AmbiguousAnswer { .. } => "RuntimeError",
            Self::UnknownQuestion { .. } | Self::NoQuestion { .. } => "UnknownInterruptError",
        }
    }
}

/// Checkpoints could not be read or written. The driver's own error is in the log, not here.
#[derive(PartialEq, Eq, Clone, Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The store does not answer, or the disk is full.
    #[error("the checkpoint store is not available: {0}")]
    Unavailable(String),
    /// What is stored cannot be read back.
    #[error("a stored checkpoint cannot be read: {0}")]
    Corrupt(String),
    /// The write came from an attempt that has been superseded.
    #[error("this attempt of the run has been superseded by a later one")]
    Superseded,
    /// The thread is at another checkpoint than the one that an update by hand started from.
    #[error("the thread is at another checkpoint than the one that the update started from")]
    Moved {
        /// The thread's latest checkpoint.
        latest: Option<crate::CheckpointId>,
    },
}

/// Why a node failed, as it is recorded and shown.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct NodeFailure {
    /// The error's type: `ValueError`, `NodeTimeoutError`, the name of a Rust type.
    pub kind: Arc<str>,
    /// What went wrong.
    pub message: Arc<str>,
    /// False where a retry policy must leave it alone.
    #[serde(default = "yes")]
    pub retryable: bool,
    /// How long the node might have taken, where it took longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// How long to wait before the next try, where the failure says: instead of the policy's own interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<Duration>,
}

/// The longest message of a failure, in bytes: 64 KiB.
pub const MAX_FAILURE_BYTES: usize = 64 << 10;

fn bounded(message: &str) -> Arc<str> {
    if message.len() <= MAX_FAILURE_BYTES {
        return message.into();
    }
    let note = format!("… (cut: the message has {} bytes)", message.len());
    let end = message.floor_char_boundary(MAX_FAILURE_BYTES - note.len());
    format!("{}{note}", &message[..end]).into()
}

fn yes() -> bool {
    true
}

impl NodeFailure {
    /// A failure of a kind, which may be retried. A message over [`MAX_FAILURE_BYTES`] is cut, with a note of its size: it is stored with the run, its
    /// task and the thread, and repeated in every answer that shows one of them.
    pub fn new(kind: impl AsRef<str>, message: impl AsRef<str>) -> Self {
        Self {
            kind: kind.as_ref().into(),
            message: bounded(message.as_ref()),
            retryable: true,
            timeout: None,
            retry_after: None,
        }
    }
}

impl fmt::Display for NodeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// What a node returns where it does not succeed.
///
/// Any `std::error::Error` becomes a failure by `?`, with the name of its type as kind.
#[derive(Debug)]
pub enum NodeError {
    /// It failed.
    Failed(NodeFailure),
    /// It asked a question that has no answer yet. Made by [`Context::interrupt`](crate::Context::interrupt) only.
    Interrupted(Vec<Interrupt>),
    /// It sends the parent graph commands, to be taken in their order. Made by a subgraph only.
    Parent(Vec<crate::Command>),
    /// The run is being cancelled.
    Cancelled,
    /// What executed the node is gone: a worker process that died or cannot be reached. The node runs again, elsewhere if
    /// it can, without using up an attempt of its retry policy. The text says which executor, and how it was lost.
    ExecutorLost(String),
    /// An error of the engine itself within the node: a subgraph's step limit, an invalid write.
    Engine(Box<Error>),
}

impl NodeError {
    /// A failure with a type's name and a message.
    pub fn new(kind: impl AsRef<str>, message: impl AsRef<str>) -> Self {
        Self::Failed(NodeFailure::new(kind, message))
    }

    /// The failure, where it is one of a node: its own, or of a node in a graph that it ran.
    pub fn failure(&self) -> Option<&NodeFailure> {
        match self {
            Self::Failed(failure) => Some(failure),
            Self::Engine(error) => match &**error {
                Error::Node { error, .. } => Some(error),
                _ => None,
            },
            _ => None,
        }
    }

    /// The failure as it is recorded and told: of an error of the engine, its type and its text.
    pub(crate) fn told(&self) -> Option<NodeFailure> {
        match (self.failure(), self) {
            (Some(failure), _) => Some(failure.clone()),
            (None, Self::Engine(error)) => {
                Some(NodeFailure { retryable: false, ..NodeFailure::new(error.kind(), error.to_string()) })
            }
            _ => None,
        }
    }

    /// A failure with a message; its kind is `ValueError`.
    pub fn msg(message: impl AsRef<str>) -> Self {
        Self::new("ValueError", message)
    }

    /// The same, but not to be retried.
    pub fn permanent(self) -> Self {
        match self {
            Self::Failed(f) => Self::Failed(NodeFailure { retryable: false, ..f }),
            other => other,
        }
    }
}

impl<E: std::error::Error + 'static> From<E> for NodeError {
    fn from(error: E) -> Self {
        let any: &(dyn std::error::Error + 'static) = &error;
        if let Some(engine) = any.downcast_ref::<Error>() {
            return match engine {
                Error::Cancelled { .. } => Self::Cancelled,
                other => Self::Engine(Box::new(other.clone())),
            };
        }
        let name = std::any::type_name::<E>();
        let name = name.split('<').next().unwrap_or(name);
        Self::new(name.rsplit("::").next().unwrap_or(name), error.to_string())
    }
}
