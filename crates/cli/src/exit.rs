//! The exit codes: part of what the commands promise to scripts.

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It did what it was asked for.
    Ok = 0,
    /// The run, or the command, failed.
    Failed = 1,
    /// It was called wrongly.
    Usage = 2,
    /// The run waits for an answer, and nobody is there to give one.
    AwaitsInput = 3,
    /// No server answers.
    CannotConnect = 4,
    /// Ctrl-C.
    Interrupted = 130,
}

/// The same for people: the end of every `--help`.
pub const HELP: &str = "\
Exit codes: 0 done; 1 failed; 2 called wrongly; 3 the run waits for an answer; 4 no server answers; \
130 stopped with Ctrl-C.";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
