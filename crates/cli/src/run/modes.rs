//! The stream modes of the command line.

use clap::ValueEnum;
use runloom::v1::{EventFilter, EventKind, EventSelector, StreamMode};

/// A stream mode, by LangGraph's name.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The state after each step
    Values,
    /// The update of each node
    Updates,
    /// Tokens and messages
    Messages,
    /// Custom data that nodes and tools emit
    Custom,
    /// The start and end of each task
    Tasks,
    /// Each checkpoint
    Checkpoints,
    /// Tasks and checkpoints
    Debug,
    /// LangChain's events: everything that starts, streams and ends
    Events,
}

impl From<Mode> for StreamMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Values => Self::Values,
            Mode::Updates => Self::Updates,
            Mode::Messages => Self::Messages,
            Mode::Custom => Self::Custom,
            Mode::Tasks => Self::Tasks,
            Mode::Checkpoints => Self::Checkpoints,
            Mode::Debug => Self::Debug,
            Mode::Events => Self::Events,
        }
    }
}

/// The modes of the text view, without `--mode`.
pub const DEFAULT_MODES: [StreamMode; 4] =
    [StreamMode::Messages, StreamMode::Custom, StreamMode::Tasks, StreamMode::Events];

/// The modes of `--json`, without `--mode`.
pub const JSON_MODES: [StreamMode; 3] = [StreamMode::Messages, StreamMode::Updates, StreamMode::Custom];

/// The events that the text view shows: tool calls, and custom events.
pub fn default_events() -> EventFilter {
    let kinds = [EventKind::ToolStart, EventKind::ToolEnd, EventKind::ToolError, EventKind::Custom];
    EventFilter {
        include: Some(EventSelector { kinds: kinds.map(Into::into).to_vec(), ..Default::default() }),
        ..Default::default()
    }
}
