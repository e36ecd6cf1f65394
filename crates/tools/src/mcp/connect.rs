//! A connection to an MCP server: made, and ended with all that it started.

use std::{collections::HashMap, process::Stdio, sync::Arc};

use process_wrap::tokio::{CommandWrap, KillOnDrop};
use rmcp::{
    RoleClient, ServiceExt,
    model::{ClientCapabilities, ClientConfig, Implementation, Tool},
    service::RunningService,
    transport::{
        StreamableHttpClientTransport, TokioChildProcess, Transport,
        streamable_http_client::StreamableHttpClientTransportConfig,
    },
};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio_util::sync::CancellationToken;

use super::{
    config::{Place, ServerConfig},
    wire::{Progress, Tapped},
};
use crate::egress::{innermost, told};

/// What of our environment a server is given beside its own: what programs do not run without, and no keys.
const INHERITED: [&str; 12] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "TERM",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "SYSTEMROOT",
    "APPDATA",
    "USERPROFILE",
];
/// The longest line of a server's standard error that is logged.
const MAX_LINE: usize = 4096;

/// A connection.
pub(super) struct Connection {
    pub service: tokio::sync::Mutex<RunningService<RoleClient, ClientConfig>>,
    pub peer: rmcp::Peer<RoleClient>,
    pub progress: Arc<Progress>,
    /// Cancelled when the server has gone.
    pub gone: CancellationToken,
    pub tools: Vec<Tool>,
}

impl Connection {
    /// Starts or calls a server, and lists its tools.
    pub async fn open(name: &str, config: &ServerConfig) -> Result<Self, String> {
        let opened = async {
            match &config.place {
                Place::Command { command, args, env, cwd } => {
                    let process = start(name, command, args, env, cwd.as_deref())?;
                    Self::over(process).await
                }
                Place::Url { url, headers } => Self::over(call(url, headers)?).await,
            }
        };
        let waited = config.start_timeout;
        let opened = tokio::time::timeout(waited, opened).await.unwrap_or_else(|_| {
            Err(format!("it did not start and list its tools within {waited:?}; `start_timeout_ms` sets another time"))
        });
        opened.map_err(|why| config.place.hidden(why))
    }

    async fn over<T: Transport<RoleClient> + 'static>(transport: T) -> Result<Self, String> {
        let (progress, gone) = (Arc::new(Progress::default()), CancellationToken::new());
        let tapped = Tapped { inner: transport, progress: progress.clone(), gone: gone.clone() };
        let us = Implementation::new("runloom", env!("CARGO_PKG_VERSION"));
        let service = ClientConfig::new(ClientCapabilities::default(), us)
            .serve(tapped)
            .await
            .map_err(|error| format!("it does not begin to speak MCP: {}", innermost(&error)))?;
        let peer = service.peer().clone();
        let tools = peer
            .list_all_tools()
            .await
            .map_err(|error| format!("it does not list its tools: {}", innermost(&error)))?;
        Ok(Self { service: tokio::sync::Mutex::new(service), peer, progress, gone, tools })
    }

    /// Ends it, and waits until its process has.
    pub async fn close(&self) {
        if let Err(error) = self.service.lock().await.close().await {
            tracing::debug!(%error, "an MCP server's connection did not end as it should");
        }
    }
}

fn start(
    name: &str,
    command: &str,
    args: &[String],
    env: &std::collections::BTreeMap<String, String>,
    cwd: Option<&str>,
) -> Result<TokioChildProcess, String> {
    let mut wrapped = CommandWrap::with_new(command, |process| {
        process.args(args).env_clear();
        process.envs(INHERITED.iter().filter_map(|name| Some((name, std::env::var_os(name)?)))).envs(env);
        if let Some(cwd) = cwd {
            process.current_dir(cwd);
        }
    });
    // What it starts itself ends with it.
    #[cfg(unix)]
    wrapped.wrap(process_wrap::tokio::ProcessGroup::leader());
    wrapped.wrap(KillOnDrop);
    let (process, stderr) = TokioChildProcess::builder(wrapped)
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("`{command}` cannot be started: {error}"))?;
    if let Some(stderr) = stderr {
        let server: Arc<str> = name.into();
        tokio::spawn(async move {
            let mut lines = BufReader::new(stderr).split(b'\n');
            while let Ok(Some(mut line)) = lines.next_segment().await {
                line.truncate(MAX_LINE);
                tracing::debug!(%server, "{}", String::from_utf8_lossy(&line).trim_end());
            }
        });
    }
    Ok(process)
}

fn call(
    url: &str,
    headers: &std::collections::BTreeMap<String, String>,
) -> Result<StreamableHttpClientTransport<reqwest::Client>, String> {
    // Another part of the program may have chosen one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .connect_timeout(std::time::Duration::from_secs(10))
        .build()
        .map_err(|error| format!("no HTTP client can be made: {}", told(&error)))?;
    let mut own = HashMap::new();
    for (name, value) in headers {
        let name: http::HeaderName = name.parse().map_err(|_| format!("`{name}` is no name of a header"))?;
        let mut value =
            http::HeaderValue::from_str(value).map_err(|_| format!("the header `{name}` is no line of text"))?;
        value.set_sensitive(true);
        own.insert(name, value);
    }
    let config = StreamableHttpClientTransportConfig::with_uri(url).custom_headers(own);
    Ok(StreamableHttpClientTransport::with_client(client, config))
}
