//! The stream modes of LangGraph's API.

use runloom_engine::stream::{Mode, Modes};

/// A stream mode as LangGraph's clients name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum StreamMode {
    Values,
    Updates,
    Messages,
    MessagesTuple,
    Custom,
    Tasks,
    Checkpoints,
    Debug,
    Events,
    /// Calls of tools: what a run records of `events` for them.
    Tools,
    /// Beginnings and ends of subgraphs, as the updates of a run show them.
    Lifecycle,
}

impl StreamMode {
    /// The mode of a name.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "values" => Self::Values,
            "updates" => Self::Updates,
            "messages" => Self::Messages,
            "messages-tuple" => Self::MessagesTuple,
            "custom" => Self::Custom,
            "tasks" => Self::Tasks,
            "checkpoints" => Self::Checkpoints,
            "debug" => Self::Debug,
            "events" => Self::Events,
            "tools" => Self::Tools,
            "lifecycle" => Self::Lifecycle,
            _ => return None,
        })
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Values => "values",
            Self::Updates => "updates",
            Self::Messages => "messages",
            Self::MessagesTuple => "messages-tuple",
            Self::Custom => "custom",
            Self::Tasks => "tasks",
            Self::Checkpoints => "checkpoints",
            Self::Debug => "debug",
            Self::Events => "events",
            Self::Tools => "tools",
            Self::Lifecycle => "lifecycle",
        }
    }

    /// What a run has to record for it.
    pub fn records(self) -> Modes {
        Mode::of_http(self.name()).map_or(Modes::NONE, Modes::from)
    }
}
