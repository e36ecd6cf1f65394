//! The parts of a run's stream.

use std::{sync::Arc, time::SystemTime};

use super::{BlockPlaces, Event, TaskMeta};
use crate::{
    CheckpointId, NodeFailure, Object, TaskId, Update, Value,
    checkpoint::CheckpointView,
    model::{ToolCallDelta, Usage},
};

/// A part of a run's stream.
#[derive(Clone, Debug)]
pub struct Part {
    /// Where: empty for the graph itself, `node:task_id` segments joined by `|` for a subgraph.
    pub namespace: Arc<str>,
    /// The superstep in that graph; -1 is the input's.
    pub step: i64,
    /// The task, where it is one's.
    pub task: Option<TaskRef>,
    /// The state of the graph of `namespace` as it was before the step, to which what a log keeps may refer.
    pub base: Option<SnapshotRef>,
    /// What.
    pub payload: Payload,
}

/// A task as parts name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskRef {
    /// Its id.
    pub id: TaskId,
    /// Its node.
    pub node: Arc<str>,
    /// 1 for the first try of this task, counting retries and runs again after a crash.
    pub attempt: u32,
}

/// What a part holds.
#[derive(Clone, Debug)]
pub enum Payload {
    /// Mode `values`.
    Values(ValuesPart),
    /// Mode `updates`.
    Update(UpdatePart),
    /// Mode `messages`.
    Message(MessagePart),
    /// Mode `custom`.
    Custom(Value),
    /// Modes `tasks` and `debug`.
    TaskStart(TaskStart),
    /// Modes `tasks` and `debug`.
    TaskEnd(Box<TaskEnd>),
    /// Modes `checkpoints` and `debug`.
    Checkpoint(Arc<CheckpointView>),
    /// Mode `events`.
    Event(Box<Event>),
}

// The two large ones are boxed: a part is moved often on its way to its reader, and most are tokens.

impl From<Event> for Payload {
    fn from(event: Event) -> Self {
        Self::Event(Box::new(event))
    }
}

impl From<TaskEnd> for Payload {
    fn from(end: TaskEnd) -> Self {
        Self::TaskEnd(Box::new(end))
    }
}

/// The state of a graph at one moment: names and values of its channels, shared.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The checkpoint that holds it, where one does or will.
    pub checkpoint: Option<CheckpointId>,
    /// The names of the channels.
    pub names: Arc<[Arc<str>]>,
    /// Their values, in the order of the names; none where a channel is empty.
    pub values: Vec<Option<Value>>,
}

/// A shared snapshot.
pub type SnapshotRef = Arc<Snapshot>;

impl Snapshot {
    /// The value of a channel.
    pub fn get(&self, name: &str) -> Option<&Value> {
        let at = self.names.iter().position(|n| &**n == name)?;
        self.values[at].as_ref()
    }

    /// The channels that hold something, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Value)> {
        self.names.iter().zip(&self.values).filter_map(|(n, v)| Some((n, v.as_ref()?)))
    }

    /// The state as an object.
    pub fn to_object(&self) -> Object {
        self.iter().map(|(n, v)| (n.clone(), v.clone())).collect()
    }
}

/// The state, in the channels of the graph's output.
#[derive(Clone, Debug)]
pub struct ValuesPart {
    /// The whole state.
    pub snapshot: SnapshotRef,
    /// The names to show: the graph's output.
    pub output: Arc<[Arc<str>]>,
    /// The questions that stopped the step, where one did: `__interrupt__`.
    pub interrupts: Option<Arc<[Interrupt]>>,
}

impl ValuesPart {
    /// The state as it is shown, without the questions.
    pub fn to_object(&self) -> Object {
        self.output.iter().filter_map(|n| Some((n.clone(), self.snapshot.get(n)?.clone()))).collect()
    }
}

/// What a task wrote, or the questions it asked.
#[derive(Clone, Debug)]
pub enum UpdatePart {
    /// What a node wrote to the graph's output.
    Node {
        /// The node.
        node: Arc<str>,
        /// `null` where it wrote nothing of the output; a list where it wrote more than once.
        value: Value,
        /// True where it comes from an earlier attempt or from a cache.
        cached: bool,
    },
    /// `__interrupt__`: the questions; empty at a static breakpoint.
    Interrupt(Arc<[Interrupt]>),
}

impl UpdatePart {
    /// As LangGraph shows it: `{node: update}` or `{"__interrupt__": […]}`.
    pub fn to_object(&self) -> Object {
        match self {
            Self::Node { node, value, cached } => {
                let mut o: Object = [(node.clone(), value.clone())].into_iter().collect();
                if *cached {
                    o.insert("__metadata__", crate::value!({"cached": true}));
                }
                o
            }
            Self::Interrupt(interrupts) => {
                [("__interrupt__", interrupts.iter().map(Interrupt::to_value).collect::<Vec<_>>())]
                    .into_iter()
                    .collect()
            }
        }
    }
}

/// A question asked of a person.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Interrupt {
    /// Names the question: 32 hexadecimal digits, the same after a restart.
    pub id: Arc<str>,
    /// What is asked.
    pub value: Value,
    /// The JSON Schema of the answer, where the node gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_schema: Option<Value>,
    /// Where it was asked; none where that is not known any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_in: Option<Arc<AskedIn>>,
}

/// Where a question was asked.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct AskedIn {
    /// The namespace of the graph: empty for the graph itself.
    pub namespace: Arc<str>,
    /// The node.
    pub node: Arc<str>,
    /// The task.
    pub task: TaskId,
}

impl Interrupt {
    /// `{"value": …, "id": …}`, with `response_schema` where there is one.
    pub fn to_value(&self) -> Value {
        let mut fields: Object =
            [("value", self.value.clone()), ("id", Value::String(self.id.clone()))].into_iter().collect();
        if let Some(schema) = &self.response_schema {
            fields.insert("response_schema", schema.clone());
        }
        Value::Object(fields)
    }
}

/// A piece of a message, or a whole one.
#[derive(Clone, Debug)]
pub struct MessagePart {
    /// The piece.
    pub chunk: Arc<Chunk>,
    /// The task in which it was made.
    pub meta: Arc<TaskMeta>,
    /// The model, where one made it.
    pub model: Option<Arc<crate::model::ModelInfo>>,
    /// The name by which events know that model: `ChatOpenAI`.
    pub name: Option<Arc<str>>,
    /// Tags of the model's call beside the task's.
    pub tags: Arc<[Arc<str>]>,
}

/// A piece of a message as a model streams it, or a whole message that a node wrote.
// Nearly all chunks are pieces, and all are shared: the size of a whole message does not matter.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug, PartialEq)]
pub enum Chunk {
    /// A piece.
    Delta {
        /// The message's id.
        id: Arc<str>,
        /// The name of the one who speaks, where it has one.
        name: Option<Arc<str>>,
        /// Text that follows what came before.
        text: Arc<str>,
        /// Reasoning that follows what came before.
        reasoning: Arc<str>,
        /// Whole content blocks beside text.
        blocks: Vec<Value>,
        /// Pieces of tool calls.
        tool_calls: Vec<ToolCallDelta>,
        /// The content blocks that these start, extend and finish.
        at: BlockPlaces,
        /// Tokens used, as far as this piece tells.
        usage: Option<Usage>,
        /// What the provider says.
        response_metadata: Option<Object>,
        /// True on the last piece.
        last: bool,
    },
    /// A whole message, as LangChain's JSON.
    Whole(Value),
}

/// A task begins.
#[derive(Clone, Debug)]
pub struct TaskStart {
    /// What the node is given.
    pub input: Value,
    /// The task.
    pub meta: Arc<TaskMeta>,
    /// When.
    pub time: SystemTime,
}

/// A task has ended.
#[derive(Clone, Debug)]
pub struct TaskEnd {
    /// The task.
    pub meta: Arc<TaskMeta>,
    /// What it wrote, by channel; a channel written more than once holds `{"$writes": […]}`.
    pub result: Value,
    /// Why it failed, where it did.
    pub error: Option<NodeFailure>,
    /// What it asked, where it did.
    pub interrupts: Vec<Interrupt>,
    /// When.
    pub time: SystemTime,
}

impl Update {
    /// The writes folded by channel: `{"$writes": […]}` for a channel written more than once.
    pub fn folded(&self) -> Value {
        let mut folded = Object::default();
        for (channel, value) in &self.writes {
            let value = match folded.get(channel) {
                None => value.clone(),
                Some(before) => {
                    let mut writes = match before.get("$writes") {
                        Some(Value::List(list)) => list.clone(),
                        _ => [before.clone()].into_iter().collect(),
                    };
                    writes.push(value.clone());
                    Value::Object([("$writes", writes)].into_iter().collect())
                }
            };
            folded.insert(channel.clone(), value);
        }
        Value::Object(folded)
    }
}
