//! The stream modes, as names and as a set.

use std::{fmt, str::FromStr};

/// A stream mode.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
#[repr(u8)]
pub enum Mode {
    /// The whole state, after each step that wrote to it.
    Values = 1,
    /// What each node wrote.
    Updates = 2,
    /// Messages, token by token.
    Messages = 4,
    /// What nodes and tools emit.
    Custom = 8,
    /// Starts and ends of tasks.
    Tasks = 16,
    /// Checkpoints as they are made.
    Checkpoints = 32,
    /// Tasks and checkpoints, with step and time.
    Debug = 64,
    /// Typed events of everything that starts, streams and ends.
    Events = 128,
}

impl Mode {
    /// All of them.
    pub const ALL: [Mode; 8] = [
        Self::Values,
        Self::Updates,
        Self::Messages,
        Self::Custom,
        Self::Tasks,
        Self::Checkpoints,
        Self::Debug,
        Self::Events,
    ];

    /// The name in requests and answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Values => "values",
            Self::Updates => "updates",
            Self::Messages => "messages",
            Self::Custom => "custom",
            Self::Tasks => "tasks",
            Self::Checkpoints => "checkpoints",
            Self::Debug => "debug",
            Self::Events => "events",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|m| m.name() == name).ok_or_else(|| {
            format!("there is no stream mode `{name}`; there are {}", Self::ALL.map(Self::name).join(", "))
        })
    }
}

/// A set of modes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Modes(u8);

impl Modes {
    /// None: the run goes without telling.
    pub const NONE: Modes = Modes(0);

    /// The set as bits, for storage.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// A set from its bits.
    pub fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    /// True where the mode is in it.
    pub fn has(self, mode: Mode) -> bool {
        self.0 & mode as u8 != 0
    }

    /// True where any of the other's modes is in it.
    pub fn any(self, other: Modes) -> bool {
        self.0 & other.0 != 0
    }

    /// True where all of the other's modes are in it.
    pub fn covers(self, other: Modes) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets.
    #[must_use]
    pub fn with(self, other: impl Into<Modes>) -> Self {
        Self(self.0 | other.into().0)
    }

    /// True where empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The modes in it.
    pub fn iter(self) -> impl Iterator<Item = Mode> {
        Mode::ALL.into_iter().filter(move |m| self.has(*m))
    }
}

impl From<Mode> for Modes {
    fn from(mode: Mode) -> Self {
        Self(mode as u8)
    }
}

impl FromIterator<Mode> for Modes {
    fn from_iter<I: IntoIterator<Item = Mode>>(modes: I) -> Self {
        modes.into_iter().fold(Self::NONE, Modes::with)
    }
}

impl<const N: usize> From<[Mode; N]> for Modes {
    fn from(modes: [Mode; N]) -> Self {
        modes.into_iter().collect()
    }
}

impl fmt::Debug for Modes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}
