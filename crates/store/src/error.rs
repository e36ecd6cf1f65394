//! What can go wrong in a store, and what to do about it.

use std::{fmt, path::PathBuf};

use runloom_engine::{CheckpointError, CheckpointId, RunId, ThreadId};

use crate::{RunStatus, ServerId};

/// The result of a store's operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of a store. What a driver said in full is in the log, not here.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It is not there.
    #[error("there is no {what} {id}")]
    NotFound {
        /// The kind of thing.
        what: What,
        /// Its id or name.
        id: String,
    },
    /// It is there already.
    #[error("{what} {id} exists already; leave the id out, or ask for the existing one")]
    AlreadyExists {
        /// The kind of thing.
        what: What,
        /// Its id or name.
        id: String,
    },
    /// The request's id has been used for another request. Give every request an id of its own.
    #[error("request id `{request_id}` was used for another request, which made run {run}; use a new id")]
    RequestReused {
        /// The request's id.
        request_id: String,
        /// The run that the first request made.
        run: RunId,
    },
    /// The write names an attempt that is not the run's current one: another server has taken the run over, or the run
    /// has been deleted. Stop that attempt; nothing of the write was kept.
    #[error("attempt {attempt} of run {run} has been superseded{}", .current.map(|c| format!(" by attempt {c}")).unwrap_or_default())]
    Superseded {
        /// The run.
        run: RunId,
        /// The attempt that the write named.
        attempt: u32,
        /// The attempt that may write now; none where the run is gone or no attempt holds it.
        current: Option<u32>,
    },
    /// The run is in a state in which this cannot be done.
    #[error("run {run} is {status}: {hint}")]
    RunState {
        /// The run.
        run: RunId,
        /// Its state.
        status: RunStatus,
        /// Why that is in the way, and what to do.
        hint: &'static str,
    },
    /// The thread has a run that is not over. Wait for it, or cancel it.
    #[error("thread {thread} is busy with run {run}; wait for that run, or cancel it")]
    Busy {
        /// The thread.
        thread: ThreadId,
        /// The run in the way.
        run: RunId,
    },
    /// The server's lease is over and the store does not know the server any more. Stop its runs and register again.
    #[error("the lease of server {server} is over; register again")]
    LeaseLost {
        /// The server.
        server: ServerId,
    },
    /// The thread is at another checkpoint than the one that an update by hand started from. Read it again.
    #[error("thread {thread} is at checkpoint {}, not at the one that the update started from", .latest.map_or_else(|| "none".to_owned(), |id| id.to_string()))]
    Moved {
        /// The thread.
        thread: ThreadId,
        /// Its latest checkpoint.
        latest: Option<CheckpointId>,
    },
    /// It cannot be deleted while something uses it.
    #[error("{what} {id} is in use by {by}; end that first")]
    InUse {
        /// The kind of thing.
        what: What,
        /// Its id or name.
        id: String,
        /// What uses it.
        by: String,
    },
    /// An argument makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The store does not take or give anything now: a full disk, a failing one, a store that is closing, a queue of
    /// writes without room. Nothing of a write that was answered so was kept; try again later.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// Something stored cannot be read back.
    #[error("stored data cannot be read: {0}")]
    Corrupt(String),
    /// Another server has the data folder open.
    #[error(
        "the data folder {} is in use by another server; stop that one, or give this one a folder of its own",
        .folder.display()
    )]
    Locked {
        /// The folder.
        folder: PathBuf,
    },
    /// The data folder cannot be made or written.
    #[error("the data folder {} cannot be written: {reason}; make it writable, or choose another", .folder.display())]
    NotWritable {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// A store over a network cannot be opened: it does not answer, or does not let the user in.
    #[error("cannot open the {target}: {reason}")]
    Connect {
        /// The database and its hosts, without the password.
        target: String,
        /// What the driver or the database said, and what to do.
        reason: String,
    },
    /// The file or database was written by a newer version of this program.
    #[error(
        "{} has schema version {found}, and this program knows versions up to {known}; use a newer program, or another \
         store",
        .file.display()
    )]
    Newer {
        /// The file, or the name of the database.
        file: PathBuf,
        /// The version found in it.
        found: i64,
        /// The newest version this program knows.
        known: i64,
    },
}

/// What an error speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A thread.
    Thread,
    /// A run.
    Run,
    /// An assistant.
    Assistant,
    /// A version of an assistant.
    Version,
    /// A registered graph.
    Graph,
    /// A cron.
    Cron,
    /// An API key.
    ApiKey,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Thread => "thread",
            Self::Run => "run",
            Self::Assistant => "assistant",
            Self::Version => "assistant version",
            Self::Graph => "graph",
            Self::Cron => "cron",
            Self::ApiKey => "API key",
        })
    }
}

impl Error {
    /// There is no such thing.
    pub fn not_found(what: What, id: impl fmt::Display) -> Self {
        Self::NotFound { what, id: id.to_string() }
    }

    /// There is such a thing already.
    pub fn exists(what: What, id: impl fmt::Display) -> Self {
        Self::AlreadyExists { what, id: id.to_string() }
    }

    /// The store has stopped.
    pub fn stopped() -> Self {
        Self::Unavailable("it has been closed".into())
    }
}

/// As the engine sees it: an attempt that may not write any more stops; all else is the store's trouble.
impl From<Error> for CheckpointError {
    fn from(error: Error) -> Self {
        match error {
            Error::Superseded { .. } | Error::RunState { .. } => Self::Superseded,
            Error::Moved { latest, .. } => Self::Moved { latest },
            Error::Corrupt(message) => Self::Corrupt(message),
            Error::Unavailable(message) => Self::Unavailable(message),
            other => Self::Unavailable(other.to_string()),
        }
    }
}
