//! A server inside this process, for commands that work without one elsewhere.

use std::{path::Path, time::Duration};

use runloom::{Client, ClientOptions};
use runloom_service::{Builder, Server};

use crate::{
    examples,
    failure::Result,
    integrations::{Integrations, StartedIntegrations},
};

/// The value of `--data` for storage in memory.
pub const MEMORY: &str = ":memory:";

/// How long active runs may take to end when the command ends. A run that does not end continues when the data folder is opened again.
const DRAIN: Duration = Duration::from_secs(2);

/// A server that listens on no port.
pub struct Embedded {
    server: Server,
    integrations: StartedIntegrations,
}

impl Embedded {
    /// Starts a server. `graphs`: the folder of the documents, by default the examples. `data`: the folder of the store, by default memory.
    pub async fn start(graphs: Option<&Path>, data: Option<&Path>, integrations: &Integrations) -> Result<Self> {
        let integrations = integrations.start().await?;
        let brought = integrations.registry.clone();
        let builder = builder(graphs, data)?.core(|core| {
            core.drain_timeout = DRAIN;
            core.brought = brought;
        });
        match builder.start().await {
            Ok(server) => Ok(Self { server, integrations }),
            Err(error) => {
                integrations.stop().await;
                Err(error.into())
            }
        }
    }

    /// A client of this server.
    pub fn client(&self) -> Client {
        Client::from_channel(self.server.in_process(), ClientOptions::default())
    }

    /// Drains the server and closes its store.
    pub async fn stop(self) {
        self.server.drain().await;
        self.server.core().close().await;
        self.integrations.stop().await;
    }
}

/// A server builder with the documents and the store that the options name.
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

/// Whether `--data` names storage in memory.
pub fn is_memory(data: &Path) -> bool {
    data.as_os_str() == MEMORY
}
