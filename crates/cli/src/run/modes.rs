//! Which parts of a run to stream.

use clap::ValueEnum;
use runloom::v1::{EventFilter, EventKind, EventSelector, StreamMode};

/// A stream mode, by LangGraph's name.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The state, after each step
    Values,
    /// What each node wrote
    Updates,
    /// Tokens and messages
    Messages,
    /// What nodes and tools emit
    Custom,
    /// The start and end of each task
    Tasks,
    /// Each checkpoint
    Checkpoints,
    /// Tasks and checkpoints
    Debug,
    /// Everything that starts, streams and ends
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

/// What a person sees where nothing else was asked for.
pub const FOR_PEOPLE: [StreamMode; 4] =
    [StreamMode::Messages, StreamMode::Custom, StreamMode::Tasks, StreamMode::Events];

/// The same for programs.
pub const FOR_PROGRAMS: [StreamMode; 3] = [StreamMode::Messages, StreamMode::Updates, StreamMode::Custom];

/// Of the events, those that a person sees: tools, and what nodes send of their own.
pub fn events_for_people() -> EventFilter {
    let kinds = [EventKind::ToolStart, EventKind::ToolEnd, EventKind::ToolError, EventKind::Custom];
    EventFilter {
        include: Some(EventSelector { kinds: kinds.map(Into::into).to_vec(), ..Default::default() }),
        ..Default::default()
    }
}
