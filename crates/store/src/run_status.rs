//! The states a run goes through, and what happens to one that is asked for while its thread is busy.

use std::{fmt, str::FromStr};

/// The state of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RunStatus {
    /// It waits for its thread, its time or a server.
    #[default]
    Pending,
    /// An attempt is under way.
    Running,
    /// It came to its end.
    Succeeded,
    /// It ended with a question, or at a breakpoint; another run goes on.
    AwaitingInput,
    /// It failed.
    Failed,
    /// It was cancelled.
    Cancelled,
    /// It took longer than its own limit.
    TimedOut,
}

impl RunStatus {
    /// All states; a stored number is an index into this table, which only grows at its end.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Running,
        Self::Succeeded,
        Self::AwaitingInput,
        Self::Failed,
        Self::Cancelled,
        Self::TimedOut,
    ];

    /// The two states of a run that is not over.
    pub const UNFINISHED: [Self; 2] = [Self::Pending, Self::Running];

    /// True where the run is over.
    pub fn is_end(self) -> bool {
        !matches!(self, Self::Pending | Self::Running)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::AwaitingInput => "awaiting_input",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed_out",
        }
    }
}

impl fmt::Display for RunStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for RunStatus {
    type Err = String;
    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|s| s.name() == name).ok_or_else(|| {
            let all: Vec<_> = Self::ALL.iter().map(|s| s.name()).collect();
            format!("there is no run status `{name}`; there are {}", all.join(", "))
        })
    }
}

/// What happens to a run that is asked for while its thread is busy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Multitask {
    /// It waits.
    #[default]
    Enqueue,
    /// It is refused, with [`Busy`](crate::Error::Busy), in the same transaction in which it would have been made.
    Reject,
    /// The other is interrupted.
    Interrupt,
    /// The other is taken back.
    Rollback,
}

impl Multitask {
    /// All strategies; a stored number is an index into this table, which only grows at its end.
    pub const ALL: [Self; 4] = [Self::Enqueue, Self::Reject, Self::Interrupt, Self::Rollback];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Enqueue => "enqueue",
            Self::Reject => "reject",
            Self::Interrupt => "interrupt",
            Self::Rollback => "rollback",
        }
    }
}

impl FromStr for Multitask {
    type Err = String;
    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|s| s.name() == name).ok_or_else(|| {
            format!("there is no multitask strategy `{name}`; there are enqueue, reject, interrupt, rollback")
        })
    }
}
