//! A server in this process, for commands that need no other.

use std::{path::Path, time::Duration};

use runloom::{Client, ClientOptions};
use runloom_service::{Builder, Server};

use crate::{
    examples,
    failure::Result,
    outside::{Opened, Outside},
};

/// What `--data` says for no folder at all.
pub const MEMORY: &str = ":memory:";

/// How long what still runs has when the command ends. It is taken up again by who opens the folder next.
const DRAIN: Duration = Duration::from_secs(2);

/// A server without a port.
pub struct Embedded {
    server: Server,
    outside: Opened,
}

impl Embedded {
    /// Starts it: with the documents of a folder, or the examples; keeping things in a folder, or in memory.
    pub async fn start(graphs: Option<&Path>, data: Option<&Path>, outside: &Outside) -> Result<Self> {
        let outside = outside.open().await?;
        let brought = outside.registry.clone();
        let builder = builder(graphs, data)?.core(|core| {
            core.drain_timeout = DRAIN;
            core.brought = brought;
        });
        match builder.start().await {
            Ok(server) => Ok(Self { server, outside }),
            Err(error) => {
                outside.close().await;
                Err(error.into())
            }
        }
    }

    /// A client of it.
    pub fn client(&self) -> Client {
        Client::from_channel(self.server.in_process(), ClientOptions::default())
    }

    /// Stops it. What was written is on disk then.
    pub async fn stop(self) {
        self.server.drain().await;
        self.outside.close().await;
    }
}

/// What servers of this binary are made of.
pub fn builder(graphs: Option<&Path>, data: Option<&Path>) -> Result<Builder> {
    let mut builder = Server::builder();
    for (file, text) in examples::or_folder(graphs)? {
        builder = builder.document(file, text);
    }
    Ok(match data {
        Some(folder) if !is_memory(folder) => builder.data(folder),
        _ => builder,
    })
}

/// Whether things are kept in memory only.
pub fn is_memory(data: &Path) -> bool {
    data.as_os_str() == MEMORY
}
