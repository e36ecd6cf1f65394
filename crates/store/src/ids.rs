//! The ids that the store adds to the engine's.

use std::{fmt, str::FromStr};

use runloom_engine::RunId;
use uuid::Uuid;

/// An assistant: a graph with a configuration, a context and a name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct AssistantId(pub Uuid);

impl fmt::Display for AssistantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for AssistantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for AssistantId {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        Uuid::from_str(text).map(Self)
    }
}

impl From<Uuid> for AssistantId {
    fn from(id: Uuid) -> Self {
        Self(id)
    }
}

/// A cron: a run that is made again and again, on a schedule.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct CronId(pub Uuid);

impl fmt::Display for CronId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for CronId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for CronId {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        Uuid::from_str(text).map(Self)
    }
}

impl From<Uuid> for CronId {
    fn from(id: Uuid) -> Self {
        Self(id)
    }
}

/// A run and the attempt at it that writes. Every write of a run names its attempt, and the store refuses it with
/// [`Superseded`](crate::Error::Superseded) unless that attempt holds the run, checked in the write's own transaction.
///
/// A run that has not begun is at attempt 0, which may write too (its log, its end) until the first one begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Attempt {
    /// The run.
    pub run: RunId,
    /// Counted from 1; 0 before the first.
    pub number: u32,
}

impl Attempt {
    /// An attempt at a run.
    pub fn new(run: RunId, number: u32) -> Self {
        Self { run, number }
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.run, self.number)
    }
}
