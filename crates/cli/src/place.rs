//! Where a command works: at a server, or in this process.

use std::path::PathBuf;

use clap::Args;
use runloom::{Client, ClientOptions};
use tonic::Code;

use crate::{
    embedded::{Embedded, is_memory},
    exit::Exit,
    failure::{Failure, Result},
    outside::Outside,
};

/// Where servers listen unless told otherwise.
pub const DEFAULT_ADDRESS: &str = "127.0.0.1:50051";
/// The same for LangGraph's HTTP API.
pub const DEFAULT_HTTP: &str = "127.0.0.1:8123";

/// A server.
#[derive(Args, Clone, Debug)]
pub struct Remote {
    /// The server's address: host:port
    #[arg(long, env = "RUNLOOM_ADDR", value_name = "ADDR", default_value = DEFAULT_ADDRESS, global = true)]
    pub addr: String,
}

/// A server, or this process.
#[derive(Args, Clone, Debug, Default)]
pub struct Place {
    /// Works at a server: host:port. Without it: in this process. --graphs and --data count for more
    #[arg(long, env = "RUNLOOM_ADDR", value_name = "ADDR")]
    pub addr: Option<String>,
    /// In this process, the folder of the graph documents. Without it: the examples
    #[arg(long, value_name = "DIR")]
    pub graphs: Option<PathBuf>,
    /// In this process, the folder to keep things in. Without it: in memory, until the command ends
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// In this process, what documents reach outside
    #[command(flatten)]
    pub outside: Outside,
}

/// A connection, and the server behind it where that is this process.
pub struct Session {
    /// The connection.
    pub client: Client,
    embedded: Option<Embedded>,
}

impl Remote {
    /// Connects.
    pub async fn connect(&self) -> Result<Client> {
        connect(&self.addr).await
    }
}

impl Place {
    /// The server's address, where it is one: folders are this process's own.
    fn server(&self) -> Option<&str> {
        self.addr.as_deref().filter(|_| self.graphs.is_none() && self.data.is_none())
    }

    /// Opens it.
    pub async fn open(&self) -> Result<Session> {
        if let Some(address) = self.server() {
            return Ok(Session { client: connect(address).await?, embedded: None });
        }
        let embedded = Embedded::start(self.graphs.as_deref(), self.data.as_deref(), &self.outside).await?;
        Ok(Session { client: embedded.client(), embedded: Some(embedded) })
    }

    /// What a command line says to work at the same place: ` --data ./data`.
    pub fn flags(&self) -> String {
        let folder = |flag: &str, folder: &Option<PathBuf>| {
            folder.as_ref().map(|f| format!(" {flag} {}", quoted(&f.to_string_lossy()))).unwrap_or_default()
        };
        let addr = self.server().map(|address| format!(" --addr {address}")).unwrap_or_default();
        format!("{addr}{}{}", folder("--graphs", &self.graphs), folder("--data", &self.data))
    }

    /// Whether what a run leaves is there for the next command.
    pub fn is_kept(&self) -> bool {
        self.server().is_some() || self.data.as_deref().is_some_and(|data| !is_memory(data))
    }
}

impl Session {
    /// Closes it. A server in the process drains.
    pub async fn close(self) {
        if let Some(embedded) = self.embedded {
            embedded.stop().await;
        }
    }
}

/// Connects to a server.
pub async fn connect(address: &str) -> Result<Client> {
    Client::connect_with(address, ClientOptions::default()).await.map_err(|error| cannot_connect(address, &error))
}

/// Why there is no connection, and what to do.
pub fn cannot_connect(address: &str, error: &runloom::Error) -> Failure {
    if error.code() == Code::InvalidArgument {
        return Failure::usage(error.message().to_owned());
    }
    let port = address.rsplit_once(':').map_or("", |(_, port)| port.trim_end_matches('/'));
    let start = match port {
        "50051" => "runloom serve".to_owned(),
        port => format!("runloom serve --grpc 127.0.0.1:{port}"),
    };
    Failure::new(Exit::CannotConnect, format!("no server answers at {address}: {}", cause(error.message())))
        .hint(format!("start one with `{start}`, or name another with --addr host:port"))
}

/// The last and plainest of the causes that a transport error strings together.
fn cause(message: &str) -> &str {
    let last = message.rsplit(": ").next().unwrap_or(message);
    last.split(" (os error").next().unwrap_or(last)
}

/// A word as a shell takes it.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_needs_it() {
        assert_eq!(quoted("./data"), "./data");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn folders_count_for_more_than_an_address() {
        let server = Place { addr: Some("x:1".into()), ..Place::default() };
        let folder = Place { data: Some("./data".into()), ..server.clone() };
        assert_eq!((server.server(), folder.server()), (Some("x:1"), None));
        assert!(folder.is_kept() && server.is_kept() && !Place::default().is_kept());
        assert!(!Place { data: Some(":memory:".into()), ..Place::default() }.is_kept());
        assert_eq!((folder.flags().as_str(), server.flags().as_str()), (" --data ./data", " --addr x:1"));
    }
}
