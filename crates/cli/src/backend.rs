//! Where a command runs its graphs: on a server, or on one embedded in this process.

use std::path::PathBuf;

use clap::Args;
use runloom::Client;
use tonic::Code;

use crate::{
    embedded::{Embedded, is_memory},
    exit::Exit,
    failure::{Failure, Result},
    integrations::Integrations,
    remote::RemoteArgs,
};

/// The default address of the gRPC API.
pub const DEFAULT_ADDRESS: &str = "127.0.0.1:50051";
/// The default address of LangGraph's HTTP API.
pub const DEFAULT_HTTP: &str = "127.0.0.1:8123";
/// Names a server for commands without `--addr`.
const ADDRESS_VARIABLE: &str = "RUNLOOM_ADDR";

/// The option of commands that need a server.
#[derive(Args, Clone, Debug)]
pub struct ServerArgs {
    /// Address of the server: host:port, or https:// and host:port
    #[arg(long, env = ADDRESS_VARIABLE, value_name = "ADDR", default_value = DEFAULT_ADDRESS, global = true)]
    pub addr: String,
    #[command(flatten)]
    pub remote: RemoteArgs,
}

/// The options of commands that work with or without a server.
#[derive(Args, Clone, Debug, Default)]
pub struct Backend {
    /// Use the server at this address: host:port. Default: RUNLOOM_ADDR, if it is set and neither --graphs nor --data is
    /// given; otherwise the command needs no server
    #[arg(long, value_name = "ADDR", conflicts_with_all = ["graphs", "data"])]
    pub addr: Option<String>,
    /// Folder of the graph documents. Default: the examples. Not with --addr
    #[arg(long, value_name = "DIR")]
    pub graphs: Option<PathBuf>,
    /// Folder to store threads and runs in. Default: memory, until the command ends. Not with --addr
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    #[command(flatten)]
    pub integrations: Integrations,
    #[command(flatten)]
    pub remote: RemoteArgs,
}

/// A client, with the embedded server that it talks to, if there is one.
pub struct Connection {
    /// The client.
    pub client: Client,
    embedded: Option<Embedded>,
}

impl ServerArgs {
    /// Connects to the server.
    pub async fn connect(&self) -> Result<Client> {
        connect(&self.addr, &self.remote).await
    }
}

impl Backend {
    /// The server's address; none if the server is embedded. Folders belong to an embedded server, so that the variable does not count
    /// beside them.
    fn server(&self) -> Option<String> {
        let is_embedded = self.graphs.is_some() || self.data.is_some();
        let variable = || std::env::var(ADDRESS_VARIABLE).ok().filter(|address| !address.is_empty() && !is_embedded);
        self.addr.clone().or_else(variable)
    }

    /// Connects to the server, or starts an embedded one.
    pub async fn open(&self) -> Result<Connection> {
        if let Some(address) = self.server() {
            return Ok(Connection { client: connect(&address, &self.remote).await?, embedded: None });
        }
        let embedded = Embedded::start(self.graphs.as_deref(), self.data.as_deref(), &self.integrations).await?;
        Ok(Connection { client: embedded.client(), embedded: Some(embedded) })
    }

    /// The options that make another command use the same backend: ` --data ./data`.
    pub fn flags(&self) -> String {
        let folder = |flag: &str, folder: &Option<PathBuf>| {
            folder.as_ref().map(|f| format!(" {flag} {}", quoted(&f.to_string_lossy()))).unwrap_or_default()
        };
        let addr = self.server().map(|address| format!(" --addr {address}")).unwrap_or_default();
        format!("{addr}{}{}", folder("--graphs", &self.graphs), folder("--data", &self.data))
    }

    /// Whether threads and runs exist after the command has ended.
    pub fn is_persistent(&self) -> bool {
        self.server().is_some() || self.data.as_deref().is_some_and(|data| !is_memory(data))
    }
}

impl Connection {
    /// Closes the connection, and drains an embedded server.
    pub async fn close(self) {
        if let Some(embedded) = self.embedded {
            embedded.stop().await;
        }
    }
}

/// Connects to a server.
pub async fn connect(address: &str, remote: &RemoteArgs) -> Result<Client> {
    Client::connect_with(address, remote.options()?).await.map_err(|error| cannot_connect(address, &error))
}

/// The failure for a server that cannot be reached.
pub fn cannot_connect(address: &str, error: &runloom::Error) -> Failure {
    if error.code() == Code::InvalidArgument {
        return Failure::usage(error.message().to_owned());
    }
    let port = address.rsplit_once(':').map_or("", |(_, port)| port.trim_end_matches('/'));
    let start = match port {
        "50051" => "runloom serve".to_owned(),
        port => format!("runloom serve --grpc 127.0.0.1:{port}"),
    };
    Failure::new(Exit::CannotConnect, format!("cannot connect to {address}: {}", cause(error.message()))).hint(hint(
        address,
        error.message(),
        &start,
    ))
}

/// What to do about a server that cannot be reached.
fn hint(address: &str, message: &str, start: &str) -> String {
    if message.contains("certificate") {
        return "name the authority of the server's certificate with --tls-ca FILE".to_owned();
    }
    let is_refused = message.contains("refused");
    if address.starts_with("https://") && !is_refused {
        return "the server may have no TLS, or may require a client certificate: --tls-client-cert".to_owned();
    }
    if !is_refused {
        return "if the server has TLS, use https:// and --tls-ca FILE".to_owned();
    }
    format!("start a server with `{start}`, or name another one with --addr HOST:PORT")
}

/// The innermost cause of a transport error, which joins all causes with colons.
fn cause(message: &str) -> &str {
    let last = message.rsplit(": ").next().unwrap_or(message);
    last.split(" (os error").next().unwrap_or(last)
}

/// A word, quoted for a shell if necessary.
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
    fn a_backend_is_a_server_or_a_folder() {
        let server = Backend { addr: Some("x:1".into()), ..Backend::default() };
        let folder = Backend { data: Some("./data".into()), ..Backend::default() };
        assert_eq!((server.server().as_deref(), folder.server()), (Some("x:1"), None));
        assert!(folder.is_persistent() && server.is_persistent());
        assert!(!Backend { data: Some(":memory:".into()), ..Backend::default() }.is_persistent());
        assert_eq!((folder.flags().as_str(), server.flags().as_str()), (" --data ./data", " --addr x:1"));
    }
}
