//! Why a server does not start, or stops.

use std::{io, path::PathBuf};

/// Why a server does not start, or stops. What to do about it is said with it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The port cannot be bound.
    #[error(transparent)]
    Listen(#[from] runloom_net::ListenError),
    /// The folder of graph documents cannot be read.
    #[error("cannot read graph documents at {}: {source}", .path.display())]
    Documents {
        /// The folder or file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] runloom_store::Error),
    /// The core does not start: a graph that cannot be loaded, mostly. Its fields name every fault.
    #[error(transparent)]
    Core(#[from] runloom_core::Error),
    /// The task that served is gone.
    #[error("the server stopped: {0}")]
    Stopped(String),
}
