//! The ids of what the engine handles, as types, and where time and new ids come from.

use std::{fmt, str::FromStr, time::SystemTime};

use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                Uuid::from_str(text).map(Self)
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }
    )* };
}

ids! {
    /// A thread: a state that runs follow one another on.
    ThreadId,
    /// A run of a graph.
    RunId,
    /// A checkpoint. Later ones of a thread sort after earlier ones.
    CheckpointId,
    /// A task: one node's work in one superstep. The same after a restart.
    TaskId,
}

/// Where time and new ids come from, so that tests can hold them.
pub trait Clock: Send + Sync + 'static {
    /// The time.
    fn now(&self) -> SystemTime;
    /// A new id; one asked for later sorts later (UUID version 7).
    fn uuid(&self) -> Uuid;
}

/// What an id of version 7 is sorted by first: 48 bits of milliseconds and 12 more, with the version's four taken out
/// between them.
pub(crate) fn upper(id: Uuid) -> u64 {
    let high = id.as_u64_pair().0;
    (high >> 16) << 12 | high & 0xfff
}

/// The id of version 7 with this upper part; `low` fills the rest.
pub(crate) fn from_upper(upper: u64, low: u64) -> Uuid {
    Uuid::from_u64_pair((upper >> 12) << 16 | 7 << 12 | upper & 0xfff, low >> 2 | 1 << 63)
}

/// A new id that sorts after another one, though ids may have been counted on past the clock.
pub(crate) fn later(clock: &dyn Clock, before: Option<Uuid>) -> Uuid {
    let id = clock.uuid();
    match before {
        Some(before) if id <= before => from_upper(upper(before) + 1, id.as_u64_pair().1 << 2),
        _ => id,
    }
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn uuid(&self) -> Uuid {
        Uuid::now_v7()
    }
}
