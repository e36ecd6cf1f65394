//! What a checkpoint holds, and what a checkpointer does.

use std::{collections::BTreeMap, str::FromStr, sync::Arc, time::SystemTime};

use async_trait::async_trait;
use futures_util::future::BoxFuture;

use super::Patch;
use crate::{
    CheckpointError, CheckpointId, NodeFailure, Object, RunId, TaskId, ThreadId, Value,
    command::Send as SendTask,
    stream::{Interrupt, SnapshotRef},
};

/// What made a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// A run took its input.
    Input,
    /// A superstep ended.
    Loop,
    /// The state was written by hand.
    Update,
    /// A run went on from an older checkpoint.
    Fork,
}

impl Source {
    /// The name in metadata.
    pub fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Loop => "loop",
            Self::Update => "update",
            Self::Fork => "fork",
        }
    }
}

/// When a checkpoint has to be on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Before the next superstep begins.
    Sync,
    /// Written while the next superstep runs; all of them are kept before the run ends.
    #[default]
    Async,
    /// Only the last, when the run ends. A crash loses the run's steps.
    Exit,
}

impl Durability {
    /// The name in requests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Async => "async",
            Self::Exit => "exit",
        }
    }
}

impl FromStr for Durability {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "sync" => Ok(Self::Sync),
            "async" => Ok(Self::Async),
            "exit" => Ok(Self::Exit),
            _ => Err(format!("there is no durability `{name}`; there are sync, async, exit")),
        }
    }
}

/// What is to run next, and what joins have gathered: the part of a checkpoint that is not the state.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Control {
    /// An input that is not applied yet: the task `__start__` will.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
    /// Nodes that are triggered, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub triggered: Vec<Arc<str>>,
    /// Deferred nodes that are triggered, and run when nothing else would.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deferred: Vec<Arc<str>>,
    /// Tasks with an input of their own, in the order they were sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sends: Vec<SendTask>,
    /// Joins, by the node they lead to and their sources: the sources that have arrived.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub joins: BTreeMap<String, Vec<Arc<str>>>,
    /// The nodes whose writes made this checkpoint: as whom an update by hand without a node is taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last: Vec<Arc<str>>,
    /// The nodes as which an update by hand made this checkpoint.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by_hand: Vec<Arc<str>>,
}

/// A checkpoint.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// Its id.
    pub id: CheckpointId,
    /// Its namespace: empty for the graph itself.
    pub ns: Arc<str>,
    /// The one before it in its namespace.
    pub parent: Option<CheckpointId>,
    /// The superstep: -1 for the first input, then counted over the whole thread.
    pub step: i64,
    /// What made it.
    pub source: Source,
    /// When.
    pub created_at: SystemTime,
    /// The run that made it; none for an update by hand.
    pub run_id: Option<RunId>,
    /// The run's metadata, and for subgraphs the ids of the parents' checkpoints by namespace under `parents`.
    pub metadata: Object,
    /// The revision of the graph that made it.
    pub revision: Arc<str>,
    /// The state, by channel.
    pub values: BTreeMap<Arc<str>, Value>,
    /// What is to run next.
    pub control: Control,
}

/// How a channel changed from the parent's checkpoint to this one.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It holds this now.
    Set(Value),
    /// These items were appended to its list.
    Append(Value),
    /// Its list was edited, in this order.
    Edit(Vec<ListEdit>),
    /// It changed within, in this order.
    Patch(Vec<Patch>),
    /// It is empty now.
    Clear,
}

impl Change {
    /// The value after the change; `None` where it does not fit what was there.
    pub fn apply(&self, before: Option<&Value>) -> Result<Option<Value>, CheckpointError> {
        let list = || match before {
            Some(Value::List(list)) => Ok(list.clone()),
            None => Ok(crate::List::default()),
            Some(other) => Err(CheckpointError::Corrupt(format!("a list's change meets {}", other.kind()))),
        };
        Ok(match self {
            Self::Set(value) => Some(value.clone()),
            Self::Clear => None,
            Self::Append(items) => {
                let mut list = list()?;
                let items = items.as_list().ok_or_else(|| CheckpointError::Corrupt("an append of no list".into()))?;
                list.append(items);
                Some(Value::List(list))
            }
            Self::Patch(patches) => {
                let before =
                    before.cloned().ok_or_else(|| CheckpointError::Corrupt("a patch meets an empty channel".into()))?;
                Some(patches.iter().try_fold(before, |value, patch| patch.apply(&value))?)
            }
            Self::Edit(edits) => {
                let mut list = list()?;
                for edit in edits {
                    list = edit.apply(list)?;
                }
                Some(Value::List(list))
            }
        })
    }
}

/// One change within a list.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ListEdit {
    /// Another item stands at an index.
    Replace(usize, Value),
    /// An item was appended.
    Push(Value),
    /// The items at these indexes, ascending, were taken out.
    Remove(Vec<usize>),
}

impl ListEdit {
    pub(crate) fn apply(&self, mut list: crate::List) -> Result<crate::List, CheckpointError> {
        match self {
            Self::Replace(at, item) => {
                if !list.set(*at, item.clone()) {
                    return Err(CheckpointError::Corrupt(format!("a list of {} has no item {at}", list.len())));
                }
                Ok(list)
            }
            Self::Push(item) => {
                list.push(item.clone());
                Ok(list)
            }
            Self::Remove(at) => {
                let mut gone = at.iter().copied().peekable();
                Ok(list
                    .iter()
                    .enumerate()
                    .filter(|(i, _)| gone.next_if_eq(i).is_none())
                    .map(|(_, item)| item.clone())
                    .collect())
            }
        }
    }
}

/// A checkpoint to be kept: what changed since its parent, and the whole state should the store want a snapshot.
#[derive(Clone, Debug)]
pub struct CheckpointWrite {
    /// The thread.
    pub thread: ThreadId,
    /// The checkpoint, but for its values.
    pub checkpoint: Arc<Checkpoint>,
    /// What changed, by channel. Against the parent in the same namespace; against nothing where there is none.
    pub changes: Vec<(Arc<str>, Change)>,
    /// The whole state.
    pub state: SnapshotRef,
}

/// What a task did, kept against the checkpoint before its step.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct TaskRecord {
    /// The task; a small number, counted from nil, for what a command brought.
    pub task: TaskId,
    /// Its node.
    pub node: Arc<str>,
    /// How it ended, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// The questions it asked, answered or not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interrupts: Vec<Interrupt>,
    /// The answers it has had, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<Value>,
    /// The run that gave the last of them, or the command: its next attempt must not give it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_by: Option<RunId>,
    /// How often it was tried, where that was more than once or across a crash: later tries count on from there.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tries: u32,
    /// How many graphs it had run in tries before the one that stopped: that one's are numbered on from there.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub graphs: u32,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl TaskRecord {
    /// The questions still open: the last one asked, unless the task has ended.
    pub fn open(&self) -> &[Interrupt] {
        if matches!(self.outcome, Some(Outcome::Done(_))) { &[] } else { &self.interrupts }
    }
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It wrote this.
    Done(Vec<Write>),
    /// It failed.
    Failed(NodeFailure),
    /// It failed, and its error handler runs in its place.
    Handled(NodeFailure),
}

/// Something a task wrote.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Write(pub WriteKind);

/// What was written.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WriteKind {
    /// A value, to a channel.
    Channel(Arc<str>, Value),
    /// A node to go to, by an edge, a route or a command.
    Goto(Arc<str>),
    /// A task of its own.
    Send(SendTask),
    /// The node has arrived at a join, by the join's name.
    Arrive(Arc<str>),
    /// A command for the parent graph.
    Parent {
        /// What it writes there, by channel; none where it has no update.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        update: Option<Vec<(Arc<str>, Value)>>,
        /// Where it goes there.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        goto: Vec<crate::Goto>,
    },
}

/// A checkpoint as it was kept, with what its tasks did.
#[derive(Clone, Debug)]
pub struct Saved {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// What the tasks of the step after it did.
    pub tasks: Vec<TaskRecord>,
}

/// Which checkpoints of a thread to list.
#[derive(Clone, Debug, Default)]
pub struct CheckpointFilter {
    /// Only those before this one.
    pub before: Option<CheckpointId>,
    /// Only those whose metadata has these fields; `source`, `step` and `run_id` count as fields.
    pub metadata: Object,
    /// At most so many.
    pub limit: Option<usize>,
}

/// A write under way; resolves when it is as durable as the checkpointer makes it.
pub type Ack = BoxFuture<'static, Result<(), CheckpointError>>;

/// Keeps checkpoints.
///
/// `put` and `put_task` begin the write when they are called, and keep the order of the calls; the [`Ack`] may be
/// awaited later, or dropped.
#[async_trait]
pub trait Checkpointer: std::marker::Send + Sync + 'static {
    /// Keeps a checkpoint.
    fn put(&self, write: CheckpointWrite) -> Ack;

    /// Keeps what a task did against a checkpoint, in place of what was kept of that task.
    fn put_task(&self, thread: ThreadId, ns: &Arc<str>, checkpoint: CheckpointId, record: TaskRecord) -> Ack;

    /// A checkpoint of a namespace: the one of that id, or the latest.
    async fn get(&self, thread: ThreadId, ns: &str, id: Option<CheckpointId>)
    -> Result<Option<Saved>, CheckpointError>;

    /// The checkpoints of a namespace, newest first.
    async fn list(&self, thread: ThreadId, ns: &str, filter: CheckpointFilter) -> Result<Vec<Saved>, CheckpointError>;
}

/// A checkpoint as `get_state` shows it.
#[derive(Clone, Debug)]
pub struct CheckpointView {
    /// Where it is; none on an empty thread.
    pub config: Option<CheckpointConfig>,
    /// Where the one before it is.
    pub parent: Option<CheckpointConfig>,
    /// The state, with the writes of finished tasks of a stopped step.
    pub values: SnapshotRef,
    /// The channels shown: the whole state.
    pub shown: Arc<[Arc<str>]>,
    /// The nodes that run next.
    pub next: Vec<Arc<str>>,
    /// What made it; none on an empty thread.
    pub source: Option<Source>,
    /// The superstep.
    pub step: i64,
    /// The run that made it.
    pub run_id: Option<RunId>,
    /// Its metadata, without source, step and parents.
    pub metadata: Object,
    /// Ids of the parents' checkpoints, by namespace.
    pub parents: Object,
    /// When it was made.
    pub created_at: Option<SystemTime>,
    /// The tasks of the step after it.
    pub tasks: Vec<TaskView>,
}

/// Where a checkpoint is.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckpointConfig {
    /// The thread.
    pub thread: Option<ThreadId>,
    /// The namespace.
    pub ns: Arc<str>,
    /// Its id; none for a subgraph whose state was not asked for.
    pub id: Option<CheckpointId>,
}

/// A task of a checkpoint.
#[derive(Clone, Debug)]
pub struct TaskView {
    /// Its id.
    pub id: TaskId,
    /// Its node.
    pub name: Arc<str>,
    /// Where it stands in the step.
    pub path: Value,
    /// Why it failed, where it did.
    pub error: Option<NodeFailure>,
    /// The questions it asked.
    pub interrupts: Vec<Interrupt>,
    /// What it wrote, where it has ended.
    pub result: Option<Value>,
    /// Where its subgraph's checkpoint is, where it has one.
    pub checkpoint: Option<CheckpointConfig>,
    /// Its subgraph's state, where that was asked for.
    pub state: Option<Box<CheckpointView>>,
    /// True where it runs because a join came together, and for no other reason.
    pub by_join: bool,
}
