//! `runloom serve`: runs a server.

mod auth;
mod banner;
mod limits;
mod tls;
mod watch;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use clap::Args;
use runloom_auth::Authenticator;
use runloom_core::Reason;
use runloom_document::Registry;
use runloom_gateway::{Cors, Figures, WebhookClient, WebhookOptions};
use runloom_net::{ListenError, Tls, listen};
use runloom_tools::{Allow, Egress};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::{
    auth::AuthArgs,
    banner::{Banner, Security},
    limits::Limits,
    tls::TlsArgs,
};
use crate::{
    backend::{DEFAULT_ADDRESS, DEFAULT_HTTP},
    embedded::builder,
    exit::{self, Exit},
    failure::{Failure, Result, other_port},
    integrations::Integrations,
    options,
    signals::Signals,
    store::StoreOptions,
    telemetry::{LogFormat, install_metrics},
};

const EXAMPLES: &str = "\
Examples:
  runloom serve                                the examples: gRPC on port 50051, HTTP on port 8123
  runloom serve --graphs ./graphs              your documents; reloads a file when it changes
  runloom serve --data /var/lib/runloom        store data in another folder than ./data
  runloom serve --data :memory:                store nothing
  runloom serve --store postgres://host/db     share a database with other servers
  runloom serve --http off                     gRPC only
  runloom serve --webhook-allow-private        allow webhooks to this machine, for tests
  runloom serve --egress-allow localhost:8080  allow documents to call a local service
  runloom serve --mcp servers.json             allow documents to call tools of MCP servers
  runloom serve --tls-cert tls.crt --tls-key tls.key
                                               TLS on both ports
  runloom serve --log-format json              JSON logs; RUST_LOG=debug logs more

Without --tls-cert and authentication (RUNLOOM_ADMIN_KEY, --auth) the server listens on loopback \
only, unless --insecure is set. docs/guides/authentication.md explains keys, tokens and tenants.

SIGINT and SIGTERM drain the server: it starts no new run, gives active runs --drain-timeout to end, \
and tells clients to rejoin. Runs that do not end continue when the server starts again. A second \
signal stops the server immediately.";

/// Serve graphs over gRPC, and over LangGraph's HTTP API
#[derive(Args, Debug)]
#[command(after_help = format!("{EXAMPLES}\n\n{}", exit::HELP))]
pub struct Serve {
    /// Folder of the graph documents; reloads a document when its file changes. Default: the examples
    #[arg(long, env = "RUNLOOM_GRAPHS", value_name = "DIR")]
    graphs: Option<PathBuf>,
    #[command(flatten)]
    store: StoreOptions,
    /// Address of the gRPC API: host:port. Port 0 selects a free port
    #[arg(long, env = "RUNLOOM_GRPC", value_name = "ADDR", default_value = DEFAULT_ADDRESS)]
    grpc: String,
    /// Address of LangGraph's HTTP API: host:port, or `off`
    #[arg(long, env = "RUNLOOM_HTTP", value_name = "ADDR", default_value = DEFAULT_HTTP)]
    http: String,
    /// Origins of web pages that may use the HTTP API: https://app.example.com, `*` for all, or `off`. Can be repeated, or
    /// separated by commas. Default: pages of this machine if the API listens on loopback, otherwise `off`
    #[arg(long, env = "RUNLOOM_CORS", value_name = "ORIGIN", value_delimiter = ',', value_parser = origin)]
    cors: Vec<String>,
    /// How long active runs may take to end when the server stops
    #[arg(long, env = "RUNLOOM_DRAIN_TIMEOUT", value_name = "TIME", default_value = "30s", value_parser = options::duration)]
    drain_timeout: Duration,
    #[command(flatten)]
    limits: Limits,
    #[command(flatten)]
    tls: TlsArgs,
    #[command(flatten)]
    auth: AuthArgs,
    #[command(flatten)]
    integrations: Integrations,
    /// Secret to sign webhook calls with (Standard Webhooks): whsec_ and base64, or any text. Default: calls are not signed.
    /// Prefer the environment variable: other users of the machine can see a command line
    #[arg(long, env = "RUNLOOM_WEBHOOK_SECRET", value_name = "SECRET", hide_env_values = true)]
    webhook_secret: Option<String>,
    /// Allow webhooks to private networks and to this machine. Everyone who can create runs chooses their URLs. Destinations
    /// of --egress-allow are always allowed
    #[arg(long, env = "RUNLOOM_WEBHOOK_ALLOW_PRIVATE", value_parser = clap::builder::FalseyValueParser::new())]
    webhook_allow_private: bool,
    /// How long to retry a webhook call that fails, from the end of the run; the pauses grow from 1 s to 1 h
    #[arg(long, alias = "webhook-patience", env = "RUNLOOM_WEBHOOK_RETRY_WINDOW", value_name = "TIME", default_value = "24h", value_parser = options::duration)]
    webhook_retry_window: Duration,
    /// Format of the log on standard error
    #[arg(long, env = "RUNLOOM_LOG_FORMAT", value_enum, value_name = "FORMAT", default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

impl Serve {
    /// The format of the log.
    pub fn log_format(&self) -> LogFormat {
        self.log_format
    }

    /// Runs the command.
    pub async fn run(self) -> Result {
        let metrics = install_metrics()?;
        let mut signals = Signals::new()?;
        // First, so that a second server on the same port changes nothing.
        let listener = listen(&self.grpc).await?;
        let http = match &*self.http {
            "off" => None,
            address => Some(listen(address).await.map_err(|error| http_failure(error, address))?),
        };
        let (tls, auth) = (self.tls.load()?, self.auth.load()?);
        let addresses = [Some(listener.local_addr()?), http.as_ref().map(TcpListener::local_addr).transpose()?];
        let addresses: Vec<SocketAddr> = addresses.into_iter().flatten().collect();
        self.auth.check(&addresses, tls.as_ref(), auth.is_some())?;
        let webhooks = Arc::new(self.webhooks()?);
        let integrations = tokio::select! {
            opened = self.integrations.start() => opened?,
            _ = signals.next() => return Ok(Exit::Interrupted),
        };
        let brought = integrations.registry.clone();
        let result = self.serve(brought, webhooks, (listener, http), (tls, auth, metrics), &mut signals).await;
        integrations.stop().await;
        result
    }

    async fn serve(
        &self,
        brought: Registry,
        webhooks: Arc<WebhookClient>,
        (listener, http): (TcpListener, Option<TcpListener>),
        (tls, auth, metrics): (Option<Tls>, Option<Authenticator>, Figures),
        signals: &mut Signals,
    ) -> Result {
        let (drain_timeout, webhook_retry_window, limits) =
            (self.drain_timeout, self.webhook_retry_window, self.limits.clone());
        let mut options = limits.server();
        options.connections.tls = tls.clone();
        options.auth = auth.clone();
        options.cors = cors(&self.cors, listener.local_addr()?.ip().is_loopback());
        let store = tokio::select! {
            opened = self.store.open_postgres() => opened?,
            _ = signals.next() => return Ok(Exit::Interrupted),
        };
        let mut builder = builder(self.graphs.as_deref(), Some(&self.store.data))?;
        if let Some(store) = store {
            builder = builder.store(store);
        }
        let builder = builder.options(options).core(move |core| {
            core.drain_timeout = drain_timeout;
            core.brought = brought;
            core.webhooks = Some(webhooks);
            core.webhook_retry_window = webhook_retry_window;
            limits.set(core);
        });
        let server = tokio::select! {
            server = builder.start() => server.map_err(|error| self.start_failure(error))?,
            _ = signals.next() => return Ok(Exit::Interrupted),
        };
        // The folder is watched until this is dropped.
        let _watch = match &self.graphs {
            Some(folder) => Some(watch::graphs::start(folder, server.core().clone())?),
            None => None,
        };
        // So are the files of TLS.
        let _tls_watch = tls.as_ref().map(tls::watch).transpose()?;
        let _auth_watch = auth.as_ref().map(|auth| self.auth.watch(auth)).transpose()?;
        let address = listener.local_addr()?;
        let http_address = http.as_ref().map(|http| http.local_addr()).transpose()?;
        let security = Security { has_tls: tls.is_some(), has_auth: auth.is_some() };
        Banner::of(server.core(), (address, http_address), security, self.log_format)
            .await?
            .print(&self.store.place(), self.graphs.as_deref());

        let stop = CancellationToken::new();
        let core = server.core().clone();
        let http_core = core.clone();
        let grpc = server.serve(listener, stop.clone().cancelled_owned());
        let http = async {
            match http {
                None => {}
                Some(http) => {
                    let options = self.http_options(http_address, (tls, auth), metrics);
                    runloom_gateway::serve(http, http_core, options, stop.clone().cancelled_owned()).await;
                }
            }
        };
        let mut serving = std::pin::pin!(async { tokio::join!(grpc, http) });
        tokio::select! {
            _ = &mut serving => return Ok(Exit::Ok),
            signal = signals.next() => {
                tracing::info!(signal, timeout = ?self.drain_timeout, "draining; a second signal stops the server immediately");
                stop.cancel();
            }
        }
        tokio::select! {
            _ = serving => {
                core.close().await;
                tracing::info!("stopped");
                Ok(Exit::Ok)
            }
            signal = signals.next() => {
                tracing::warn!(signal, "stopped without a drain; active runs continue when the server starts again");
                Ok(Exit::Interrupted)
            }
        }
    }

    /// The options of the HTTP API.
    fn http_options(
        &self,
        address: Option<SocketAddr>,
        (tls, auth): (Option<Tls>, Option<Authenticator>),
        figures: Figures,
    ) -> runloom_gateway::Options {
        let default = runloom_gateway::Options::default();
        runloom_gateway::Options {
            auth,
            cors: cors(&self.cors, address.is_some_and(|address| address.ip().is_loopback())),
            max_body_bytes: default.max_body_bytes.max(self.limits.request_bytes()),
            compressed_streams: self.limits.compressed_streams,
            figures: Some(figures),
            connections: runloom_net::Options { tls, ..self.limits.http_connections() },
            ..default
        }
    }

    /// The client for webhook calls.
    fn webhooks(&self) -> Result<WebhookClient, Failure> {
        let options = WebhookOptions {
            egress: Egress::new(
                self.integrations.allowed().chain(self.webhook_allow_private.then_some(Allow::Private)),
            ),
            secret: self.webhook_secret.clone(),
            timeout: None,
        };
        WebhookClient::new(options).map_err(|reason| Failure::usage(format!("invalid --webhook-secret: {reason}")))
    }

    /// The failure of a server that does not start, with a hint.
    fn start_failure(&self, error: runloom_service::Error) -> Failure {
        let is_of_graphs =
            matches!(&error, runloom_service::Error::Core(error) if error.reason == Reason::GraphInvalid);
        let failure = Failure::from(error);
        match &self.graphs {
            Some(folder) if is_of_graphs => {
                failure.or_hint(format!("check the documents with: runloom graph check {}", folder.display()))
            }
            _ if self.store.folder().is_none() => failure,
            _ => failure.or_hint("use another folder with --data DIR, or no storage with --data :memory:"),
        }
    }
}

/// The origins that may use the HTTP API: as configured; by default those of this machine if it listens on loopback.
fn cors(origins: &[String], is_local: bool) -> Cors {
    match origins {
        [] if is_local => Cors::Loopback,
        [] => Cors::Closed,
        [one] if one == "off" => Cors::Closed,
        [one] if one == "*" => Cors::Any,
        origins => Cors::Origins(origins.to_vec()),
    }
}

/// Parses an origin, `*` or `off`.
fn origin(text: &str) -> Result<String, String> {
    let host = text.split_once("://").map(|(_, host)| host);
    let is_origin = host.is_some_and(|host| !host.is_empty() && !host.contains('/'));
    if is_origin || ["*", "off"].contains(&text) {
        return Ok(text.to_owned());
    }
    Err("an origin has a scheme and a host and no path, such as https://app.example.com; or use `*` or `off`"
        .to_owned())
}

/// The failure of listening for HTTP, with a hint that names the option of the HTTP API.
fn http_failure(error: ListenError, address: &str) -> Failure {
    match error {
        ListenError::PortTaken { .. } => Failure::failed(error.to_string())
            .hint(format!("{}, or turn the API off with --http off", other_port("--http", address))),
        error => error.into(),
    }
}
