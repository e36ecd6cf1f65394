//! Exit codes. Scripts rely on them.

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The command succeeded.
    Ok = 0,
    /// The run, or the command, failed.
    Failed = 1,
    /// The arguments are invalid.
    Usage = 2,
    /// The run waits for an answer, and no answer was given.
    AwaitsInput = 3,
    /// The server cannot be reached.
    CannotConnect = 4,
    /// The command was interrupted with Ctrl-C.
    Interrupted = 130,
}

/// The list of exit codes at the end of every `--help`.
pub const HELP: &str = "\
Exit codes: 0 success; 1 failure; 2 invalid arguments; 3 the run waits for an answer; 4 the server \
cannot be reached; 130 interrupted with Ctrl-C.";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
