//! How commands reach a server: TLS and the API key.

use std::path::{Path, PathBuf};

use clap::Args;
use runloom::{ClientOptions, ClientTls};

use crate::failure::{Failure, Result};

/// The options of commands that connect to a server.
#[derive(Args, Clone, Debug, Default)]
pub struct RemoteArgs {
    /// Authorities of the server's certificate in PEM, instead of those of the system. Makes https:// the default scheme
    #[arg(long, env = "RUNLOOM_TLS_CA", value_name = "FILE", global = true, help_heading = "Connection")]
    pub tls_ca: Option<PathBuf>,
    /// Certificate of this client in PEM, for servers with mutual TLS
    #[arg(
        long,
        env = "RUNLOOM_TLS_CLIENT_CERT",
        value_name = "FILE",
        requires = "tls_client_key",
        global = true,
        help_heading = "Connection"
    )]
    pub tls_client_cert: Option<PathBuf>,
    /// Private key of that certificate in PEM
    #[arg(
        long,
        env = "RUNLOOM_TLS_CLIENT_KEY",
        value_name = "FILE",
        requires = "tls_client_cert",
        global = true,
        help_heading = "Connection"
    )]
    pub tls_client_key: Option<PathBuf>,
    /// Name in the server's certificate, if it is not the host of the address
    #[arg(long, env = "RUNLOOM_TLS_SERVER_NAME", value_name = "NAME", global = true, help_heading = "Connection")]
    pub tls_server_name: Option<String>,
    /// API key, or a token of the identity provider. Prefer the environment variable: other users of the machine can see a
    /// command line
    #[arg(
        long,
        env = "RUNLOOM_API_KEY",
        value_name = "KEY",
        hide_env_values = true,
        global = true,
        help_heading = "Connection"
    )]
    pub api_key: Option<String>,
}

impl RemoteArgs {
    /// The options of the client.
    pub fn options(&self) -> Result<ClientOptions, Failure> {
        let read = |option: &str, path: &Option<PathBuf>| path.as_deref().map(|path| read(option, path)).transpose();
        let certificate = read("--tls-client-cert", &self.tls_client_cert)?;
        let key = read("--tls-client-key", &self.tls_client_key)?;
        let tls = ClientTls {
            ca: read("--tls-ca", &self.tls_ca)?,
            identity: certificate.zip(key),
            server_name: self.tls_server_name.clone(),
        };
        let api_key = self.api_key.clone().filter(|key| !key.is_empty());
        Ok(ClientOptions { tls, api_key, ..ClientOptions::default() })
    }
}

fn read(option: &str, path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| Failure::usage(format!("cannot read {option} {}: {error}", path.display())))
}
