//! Typed events: what LangChain calls `astream_events` version 2.

use std::{fmt, str::FromStr, sync::Arc};

use uuid::Uuid;

use super::Chunk;
use crate::{Object, Value, stream::TaskRef};

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum EventKind {
    ChainStart,
    ChainStream,
    ChainEnd,
    ChainError,
    ChatModelStart,
    ChatModelStream,
    ChatModelEnd,
    ToolStart,
    ToolEnd,
    ToolError,
    RetrieverStart,
    RetrieverEnd,
    Custom,
}

impl EventKind {
    /// All of them.
    pub const ALL: [EventKind; 13] = [
        Self::ChainStart,
        Self::ChainStream,
        Self::ChainEnd,
        Self::ChainError,
        Self::ChatModelStart,
        Self::ChatModelStream,
        Self::ChatModelEnd,
        Self::ToolStart,
        Self::ToolEnd,
        Self::ToolError,
        Self::RetrieverStart,
        Self::RetrieverEnd,
        Self::Custom,
    ];

    /// The name in LangChain's events: `on_chain_start`.
    pub fn name(self) -> &'static str {
        match self {
            Self::ChainStart => "on_chain_start",
            Self::ChainStream => "on_chain_stream",
            Self::ChainEnd => "on_chain_end",
            Self::ChainError => "on_chain_error",
            Self::ChatModelStart => "on_chat_model_start",
            Self::ChatModelStream => "on_chat_model_stream",
            Self::ChatModelEnd => "on_chat_model_end",
            Self::ToolStart => "on_tool_start",
            Self::ToolEnd => "on_tool_end",
            Self::ToolError => "on_tool_error",
            Self::RetrieverStart => "on_retriever_start",
            Self::RetrieverEnd => "on_retriever_end",
            Self::Custom => "on_custom_event",
        }
    }

    pub(super) fn bit(self) -> u16 {
        1 << self as u16
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for EventKind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|k| k.name() == name).ok_or_else(|| {
            format!("there is no event kind `{name}`; there are {}", Self::ALL.map(Self::name).join(", "))
        })
    }
}

/// What all parts of one task share: sent in full once, referred to afterwards.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskMeta {
    /// The task; none for the run itself.
    pub task: Option<TaskRef>,
    /// The superstep.
    pub step: i64,
    /// What triggers the node: `branch:to:agent`, `__pregel_push`.
    pub triggers: Arc<[Arc<str>]>,
    /// Where the task stands in the step: `["__pregel_pull", "agent"]`.
    pub path: Value,
    /// The task's own namespace: `agent:<task id>`, under its parents'.
    pub checkpoint_ns: Arc<str>,
    /// The run's metadata, with the node's own over it.
    pub metadata: Object,
    /// The run's tags and the node's.
    pub tags: Arc<[Arc<str>]>,
}

/// A typed event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// To what: a graph, a node, a model, a tool, a custom event's name.
    pub name: Arc<str>,
    /// The id of what started, streams or ended; a run's own for the graph.
    pub run_id: Uuid,
    /// Ids of what it is within, from the root.
    pub parent_ids: Arc<[Uuid]>,
    /// `graph:step:N`, `seq:step:N`, and the tags of the node, which its children inherit.
    pub tags: Arc<[Arc<str>]>,
    /// The task in which it happened.
    pub meta: Arc<TaskMeta>,
    /// The model, where it is one's event.
    pub model: Option<Arc<crate::model::ModelInfo>>,
    /// What it carries.
    pub data: EventData,
}

/// What an event carries; which of these depends on its kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventData {
    /// On a start, and again on an end.
    pub input: Option<Value>,
    /// On an end.
    pub output: Option<Value>,
    /// On a stream event of a model.
    pub chunk: Option<Arc<Chunk>>,
    /// On a stream event of a chain.
    pub update: Option<Value>,
    /// On a custom event.
    pub custom: Option<Value>,
    /// On an error: type and message.
    pub error: Option<crate::NodeFailure>,
    /// On a tool's error: the id of the model's call that it answers, where it is one.
    pub tool_call: Option<Arc<str>>,
}

impl EventData {
    /// True where it is a piece of a message, and nothing else.
    pub fn is_chunk_alone(&self) -> bool {
        matches!(
            self,
            Self {
                input: None,
                output: None,
                chunk: Some(_),
                update: None,
                custom: None,
                error: None,
                tool_call: None
            }
        )
    }
}
