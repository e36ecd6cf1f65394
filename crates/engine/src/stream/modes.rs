//! The stream modes: one table, from which every API, the command line and the error texts take them.

use std::{fmt, str::FromStr};

/// A stream mode. Its number is its place in [`TABLE`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
#[repr(u8)]
pub enum Mode {
    /// The whole state, after each step that wrote to it.
    Values,
    /// What each node wrote.
    Updates,
    /// Messages, token by token.
    Messages,
    /// What nodes and tools emit.
    Custom,
    /// Starts and ends of tasks.
    Tasks,
    /// Checkpoints as they are made.
    Checkpoints,
    /// Tasks and checkpoints, with step and time.
    Debug,
    /// Typed events of everything that starts, streams and ends.
    Events,
}

/// What is known of a mode.
#[derive(Clone, Copy, Debug)]
pub struct ModeRow {
    /// The mode.
    pub mode: Mode,
    /// Its name in requests and answers.
    pub name: &'static str,
    /// Its bit in stored sets: never changed, never used again.
    pub bit: u32,
    /// What it records, in a few words.
    pub records: &'static str,
    /// Its name in the gRPC contract.
    pub grpc: &'static str,
    /// Its names in LangGraph's API, each a form of its own; the first is the form of what the engine records.
    pub http: &'static [&'static str],
}

const fn row(mode: Mode, bit: u32, [name, grpc, records]: [&'static str; 3], http: &'static [&'static str]) -> ModeRow {
    ModeRow { mode, name, bit, records, grpc, http }
}

/// Every mode, in the order of the enum.
pub const TABLE: [ModeRow; 8] = [
    row(Mode::Values, 1, ["values", "STREAM_MODE_VALUES", "the state after each step"], &["values"]),
    row(
        Mode::Updates,
        1 << 1,
        ["updates", "STREAM_MODE_UPDATES", "the update of each node"],
        &["updates", "lifecycle"],
    ),
    row(
        Mode::Messages,
        1 << 2,
        ["messages", "STREAM_MODE_MESSAGES", "tokens and messages"],
        &["messages-tuple", "messages"],
    ),
    row(Mode::Custom, 1 << 3, ["custom", "STREAM_MODE_CUSTOM", "data that nodes and tools emit"], &["custom"]),
    row(Mode::Tasks, 1 << 4, ["tasks", "STREAM_MODE_TASKS", "the start and end of each task"], &["tasks"]),
    row(Mode::Checkpoints, 1 << 5, ["checkpoints", "STREAM_MODE_CHECKPOINTS", "each checkpoint"], &["checkpoints"]),
    row(Mode::Debug, 1 << 6, ["debug", "STREAM_MODE_DEBUG", "tasks and checkpoints, with step and time"], &["debug"]),
    row(
        Mode::Events,
        1 << 7,
        ["events", "STREAM_MODE_EVENTS", "LangChain's events: everything that starts, streams and ends"],
        &["events", "tools"],
    ),
];

impl Mode {
    /// All of them.
    pub const ALL: [Mode; TABLE.len()] = {
        let mut all = [Mode::Values; TABLE.len()];
        let mut at = 0;
        while at < all.len() {
            all[at] = TABLE[at].mode;
            at += 1;
        }
        all
    };

    /// Its row of the table.
    pub const fn row(self) -> &'static ModeRow {
        &TABLE[self as usize]
    }

    /// The name in requests and answers.
    pub const fn name(self) -> &'static str {
        self.row().name
    }

    /// The mode of a name in LangGraph's API.
    pub fn of_http(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.http.contains(&name)).map(|row| row.mode)
    }

    /// The mode of a name in the gRPC contract.
    pub fn of_grpc(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.grpc == name).map(|row| row.mode)
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
pub struct Modes(u32);

impl Modes {
    /// None: the run goes without telling.
    pub const NONE: Modes = Modes(0);

    /// The set as bits, for storage.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// A set from its bits.
    pub fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// True where the mode is in it.
    pub fn has(self, mode: Mode) -> bool {
        self.0 & mode.row().bit != 0
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
        Self(mode.row().bit)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_enum_and_its_bits_are_those_on_disk() {
        for (at, row) in TABLE.iter().enumerate() {
            assert_eq!(row.mode as usize, at);
            assert_eq!(row.mode.row().name, row.name);
            assert_eq!((row.name.parse(), Mode::of_grpc(row.grpc)), (Ok(row.mode), Some(row.mode)));
            assert!(row.http.iter().all(|name| Mode::of_http(name) == Some(row.mode)));
        }
        let bits: Vec<_> = Mode::ALL.map(|mode| (mode.name(), Modes::from(mode).bits())).into();
        let on_disk = [
            ("values", 1),
            ("updates", 2),
            ("messages", 4),
            ("custom", 8),
            ("tasks", 16),
            ("checkpoints", 32),
            ("debug", 64),
            ("events", 128),
        ];
        assert_eq!(bits, on_disk);
    }
}
