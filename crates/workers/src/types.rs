//! What a worker and the server say to each other, without a protocol.

use std::{fmt, sync::Arc, time::Duration};

use runloom_engine::{
    Goto, HandledError, NodeFailure, Object, RunId, TaskId, ThreadId, Update, Value,
    stream::{Chunk, EventData, EventKind, Mode, Modes, SnapshotRef},
};
use tokio::time::Instant;
use uuid::Uuid;

/// The id of a worker: a UUID that its SDK creates for each process.
pub type WorkerId = Uuid;

/// Names a task in every message about it: its run, attempt and try. Unguessable, and valid for one worker.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token(Uuid);

impl Token {
    pub(crate) fn random() -> Self {
        Self(Uuid::new_v4())
    }

    /// The token of these bytes, if they can be one.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Uuid::from_slice(bytes).ok().map(Self)
    }

    /// Its bytes.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.into_bytes()
    }
}

impl fmt::Debug for Token {
    /// Not the token itself: whoever reads a log must not be able to use it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// What a handler does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HandlerKind {
    /// A node: state to update or command.
    Node,
    /// A tool: arguments to a result.
    Tool,
    /// A route: state to the next nodes.
    Route,
    /// A reducer: the present value and writes to a new value.
    Reducer,
}

impl HandlerKind {
    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Tool => "tool",
            Self::Route => "route",
            Self::Reducer => "reducer",
        }
    }
}

/// A handler within a queue.
pub type Lane = (HandlerKind, Arc<str>);

/// A function of a worker.
#[derive(Clone, Debug, PartialEq)]
pub struct Handler {
    /// Its name, unique in its queue and kind.
    pub name: Arc<str>,
    /// What it does.
    pub kind: HandlerKind,
    /// A description.
    pub description: String,
    /// JSON Schema of a tool's arguments.
    pub input_schema: Option<Value>,
}

/// What a worker is and what it can do.
#[derive(Clone, Debug)]
pub struct Hello {
    /// Its id.
    pub worker_id: WorkerId,
    /// The queue it takes tasks from.
    pub queue: Arc<str>,
    /// What it can execute.
    pub handlers: Vec<Handler>,
    /// The SDK.
    pub sdk: String,
    /// The version of the SDK.
    pub sdk_version: String,
    /// Host and process.
    pub description: String,
    /// Its network address.
    pub peer: String,
    /// How many tasks it executes at once, at most.
    pub max_tasks: u32,
}

/// Where a task stands.
#[derive(Clone, Debug)]
pub struct TaskPlace {
    /// The task.
    pub task: TaskId,
    /// Its run.
    pub run: RunId,
    /// Its thread, where the run has one.
    pub thread: Option<ThreadId>,
    /// Its graph.
    pub graph: Arc<str>,
    /// Its node.
    pub node: Arc<str>,
    /// The namespace of its graph.
    pub namespace: Arc<str>,
    /// The step of that graph.
    pub step: i64,
    /// The attempt of the run.
    pub attempt: u32,
    /// The try of the task, through all attempts.
    pub tries: u32,
}

/// What a handler is given.
#[derive(Clone, Debug)]
pub enum Input {
    /// The state of the graph.
    State,
    /// An input of its own, in place of the state.
    Send(Value),
    /// A call of a tool.
    Tool {
        /// The id of the call.
        id: String,
        /// The name of the tool.
        name: Arc<str>,
        /// Its arguments.
        args: Value,
    },
    /// Values to combine.
    Reduction {
        /// The channel.
        channel: Arc<str>,
        /// Its present value.
        left: Option<Value>,
        /// The writes in order.
        writes: Vec<Value>,
    },
}

/// A task as it is given to a worker.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// Names the task.
    pub token: Token,
    /// The handler.
    pub lane: Lane,
    /// Where it stands.
    pub place: Arc<TaskPlace>,
    /// The state that the handler reads.
    pub state: Option<SnapshotRef>,
    /// Its input.
    pub input: Input,
    /// The run's configuration, as LangGraph has it.
    pub config: Value,
    /// The run's context.
    pub context: Value,
    /// The error that it handles, where its node is an error handler.
    pub error: Option<HandledError>,
    /// The answers to the questions of earlier tries.
    pub answers: Vec<Value>,
    /// The details of the last heartbeat of the previous try.
    pub details: Option<Value>,
    /// When the node times out.
    pub deadline: Option<Instant>,
    /// Headers of W3C Trace Context.
    pub trace: Object,
    /// The modes that something reads.
    pub modes: Modes,
    /// How many steps may follow.
    pub remaining_steps: u32,
}

/// What the server sends a worker.
#[derive(Debug)]
pub enum Message {
    /// A task to execute.
    Task(Box<Assignment>),
    /// A task whose outcome is no longer wanted.
    Cancel(Token, CancelReason),
    /// The outcome of a task is durable.
    Stored(Token),
    /// The outcome of a task was refused, and why.
    Refused(Token, String),
    /// The values of channels that the worker does not have.
    Values(Token, Vec<(Arc<str>, Value)>),
}

/// Why a task is cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelReason {
    /// The run was cancelled.
    RunCancelled,
    /// The node or the run timed out.
    TimedOut,
    /// Another try or attempt replaced it.
    Fenced,
    /// The worker was silent.
    WorkerLost,
    /// Another task of the step failed.
    StepFailed,
}

impl CancelReason {
    /// Why an outcome that arrives later is refused.
    pub(crate) fn refusal(self) -> &'static str {
        match self {
            Self::RunCancelled => "the run was cancelled",
            Self::TimedOut => "the task timed out",
            Self::Fenced => "a later try of the task has started",
            Self::WorkerLost => "the worker was silent for its heartbeat timeout, and lost the task",
            Self::StepFailed => "another task of the same step failed, or the run stopped",
        }
    }
}

/// Why the server ends a worker's connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closed {
    /// Another connection has the worker's id.
    Replaced,
    /// The worker has drained.
    Drained,
}

/// A part of the stream of a task's run.
#[derive(Clone, Debug)]
pub enum Part {
    /// Custom data.
    Custom(Value),
    /// A piece of a message.
    Chunk {
        /// The piece.
        chunk: Arc<Chunk>,
        /// The name of the model.
        model: Option<Arc<str>>,
        /// Tags of the call of the model.
        tags: Arc<[Arc<str>]>,
        /// The subgraph inside the task.
        namespace: String,
    },
    /// Something that starts, streams or ends inside the task.
    Event(Box<Event>),
    /// A part of a graph that the worker runs inside the task.
    Nested {
        /// The namespace inside the task.
        namespace: String,
        /// The mode.
        mode: Mode,
        /// The part, as LangGraph has it in this mode.
        payload: Value,
    },
}

/// An event inside a task.
#[derive(Clone, Debug)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// To what.
    pub name: Arc<str>,
    /// The id of the execution.
    pub id: Uuid,
    /// The executions around it inside the task, outermost first.
    pub parents: Vec<Uuid>,
    /// Its tags.
    pub tags: Vec<Arc<str>>,
    /// Its metadata.
    pub metadata: Object,
    /// Its data.
    pub data: EventData,
}

/// The outcome of a task.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// A node: its writes and where to go.
    Node {
        /// The writes, in order.
        updates: Vec<Update>,
        /// Where to go, beside the edges.
        goto: Vec<Goto>,
        /// Whether it is for the parent graph.
        to_parent: bool,
    },
    /// Questions.
    Questions(Vec<Question>),
    /// It failed.
    Failed(Failure),
    /// A tool: its result.
    Tool(ToolOutcome),
    /// A route: the next nodes.
    Route(Vec<Goto>),
    /// A reducer: the new value.
    Value(Value),
}

impl Outcome {
    /// Its name in messages and metrics.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Node { .. } => "update",
            Self::Questions(_) => "interrupts",
            Self::Failed(_) => "failure",
            Self::Tool(_) => "tool_result",
            Self::Route(_) => "route",
            Self::Value(_) => "value",
        }
    }
}

/// A question of a task.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// Its position among the task's questions.
    pub index: usize,
    /// What is asked.
    pub value: Value,
    /// The JSON Schema of the answer.
    pub response_schema: Option<Value>,
}

/// The result of a tool.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolOutcome {
    /// For the model.
    pub content: Value,
    /// For programs.
    pub artifact: Value,
    /// Whether it failed.
    pub is_error: bool,
    /// Writes and next nodes.
    pub command: Option<(Vec<Update>, Vec<Goto>, bool)>,
}

/// The failure of a task.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// Its type.
    pub kind: String,
    /// The message.
    pub message: String,
    /// More, for the log.
    pub details: String,
    /// Whether to try again.
    pub retryable: Retryable,
    /// How long to wait before that.
    pub retry_delay: Option<Duration>,
}

impl Failure {
    /// As the engine records it.
    pub(crate) fn into_node(self) -> NodeFailure {
        let kind = if self.kind.is_empty() { "Error" } else { &self.kind };
        let mut failure = NodeFailure::new(kind, self.message);
        failure.retryable = self.retryable != Retryable::No;
        failure.retry_after = self.retry_delay;
        failure
    }
}

/// Whether a failure is tried again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retryable {
    /// As the node's retry policy says.
    #[default]
    Policy,
    /// Yes, within the tries of the policy.
    Yes,
    /// No.
    No,
}
