//! `runloom serve`: the server.

mod banner;
mod limits;
mod watch;

use std::{path::PathBuf, sync::Arc, time::Duration};

use clap::Args;
use runloom_core::Reason;
use runloom_document::Registry;
use runloom_gateway::{Cors, Figures, WebhookClient, WebhookOptions};
use runloom_service::listen;
use runloom_tools::{Allow, Egress};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::{banner::Banner, limits::Limits};
use crate::{
    embedded::{builder, is_memory},
    exit::{self, Exit},
    failure::{Failure, Result},
    options,
    outside::Outside,
    place::{DEFAULT_ADDRESS, DEFAULT_HTTP},
    signals::Signals,
    telemetry::{LogFormat, figures},
};

const EXAMPLES: &str = "\
Examples:
  runloom serve                                    the examples, kept in ./data: gRPC on port 50051,
                                                   and for LangGraph's clients on 8123
  runloom serve --graphs ./graphs                  your documents, read again when they change
  runloom serve --grpc 0.0.0.0:50051 --data /data  for other machines too
  runloom serve --http off                         over gRPC only
  runloom serve --data :memory:                    forgets everything when it stops
  runloom serve --webhook-allow-private            calls webhooks on this machine too, to try them
  runloom serve --egress-allow localhost:8080      documents may call a service of this machine
  runloom serve --mcp servers.json                 documents may call the tools of these MCP servers
  runloom serve --log-format json                  logs for a collector; RUST_LOG=debug for more

SIGINT and SIGTERM drain: no run begins any more, running ones have --drain-timeout to end and are taken up again by the \
next server otherwise, and clients are told to rejoin. A second signal stops at once.";

/// Serve graphs over gRPC, and over LangGraph's HTTP API
#[derive(Args, Debug)]
#[command(after_help = format!("{EXAMPLES}\n\n{}", exit::HELP))]
pub struct Serve {
    /// The folder of the graph documents, which is watched. Without it: the examples
    #[arg(long, env = "RUNLOOM_GRAPHS", value_name = "DIR")]
    graphs: Option<PathBuf>,
    /// The folder to keep threads, runs and logs in; made if it does not exist. `:memory:` keeps nothing
    #[arg(long, env = "RUNLOOM_DATA", value_name = "DIR", default_value = "./data")]
    data: PathBuf,
    /// Where to listen: host:port. Port 0 takes a free one
    #[arg(long, env = "RUNLOOM_GRPC", value_name = "ADDR", default_value = DEFAULT_ADDRESS)]
    grpc: String,
    /// Where to serve LangGraph's HTTP API too: host:port, or off
    #[arg(long, env = "RUNLOOM_HTTP", value_name = "ADDR", default_value = DEFAULT_HTTP)]
    http: String,
    /// Which pages in a browser may use that API: origins such as https://app.example.com, * for all, off for none.
    /// Without it: those of this machine, where it listens on loopback
    #[arg(long, env = "RUNLOOM_CORS", value_name = "ORIGIN", value_delimiter = ',', value_parser = origin)]
    cors: Vec<String>,
    /// How long running runs have to end when the server stops
    #[arg(long, env = "RUNLOOM_DRAIN_TIMEOUT", value_name = "TIME", default_value = "30s", value_parser = options::duration)]
    drain_timeout: Duration,
    #[command(flatten)]
    limits: Limits,
    #[command(flatten)]
    outside: Outside,
    /// What calls of webhooks are signed with (Standard Webhooks): whsec_ and base64, or any text. Without it they are not
    /// signed. Other users of the machine see what stands on a command line: better set the variable
    #[arg(long, env = "RUNLOOM_WEBHOOK_SECRET", value_name = "SECRET", hide_env_values = true)]
    webhook_secret: Option<String>,
    /// Call webhooks at addresses of private networks and of this machine too: whoever may make runs can then have this
    /// server call them. What --egress-allow allows is allowed to webhooks as well
    #[arg(long, env = "RUNLOOM_WEBHOOK_ALLOW_PRIVATE", value_parser = clap::builder::FalseyValueParser::new())]
    webhook_allow_private: bool,
    /// How long after its run a webhook that fails is called again, ever more rarely
    #[arg(long, env = "RUNLOOM_WEBHOOK_PATIENCE", value_name = "TIME", default_value = "24h", value_parser = options::duration)]
    webhook_patience: Duration,
    /// How to write the log, which goes to the standard error
    #[arg(long, env = "RUNLOOM_LOG_FORMAT", value_enum, value_name = "FORMAT", default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

impl Serve {
    /// How its log is written.
    pub fn log_format(&self) -> LogFormat {
        self.log_format
    }

    /// Runs it.
    pub async fn run(self) -> Result {
        let figures = figures()?;
        let mut signals = Signals::new()?;
        // Before anything else is touched: a second server of the same port should leave no trace.
        let listener = listen(&self.grpc).await?;
        let http = match &*self.http {
            "off" => None,
            address => Some(listen(address).await?),
        };
        let webhooks = Arc::new(self.webhooks()?);
        let outside = tokio::select! {
            opened = self.outside.open() => opened?,
            _ = signals.next() => return Ok(Exit::Interrupted),
        };
        let brought = outside.registry.clone();
        let result = self.serve(brought, webhooks, (listener, http), figures, &mut signals).await;
        outside.close().await;
        result
    }

    async fn serve(
        &self,
        brought: Registry,
        webhooks: Arc<WebhookClient>,
        (listener, http): (TcpListener, Option<TcpListener>),
        figures: Figures,
        signals: &mut Signals,
    ) -> Result {
        let (drain_timeout, webhook_patience, limits) =
            (self.drain_timeout, self.webhook_patience, self.limits.clone());
        let builder = builder(self.graphs.as_deref(), Some(&self.data))?.options(limits.server()).core(move |core| {
            core.drain_timeout = drain_timeout;
            core.brought = brought;
            core.webhooks = Some(webhooks);
            core.webhook_patience = webhook_patience;
            limits.set(core);
        });
        let server = tokio::select! {
            server = builder.start() => server.map_err(|error| self.why_not(error))?,
            _ = signals.next() => return Ok(Exit::Interrupted),
        };
        // Held as long as the folder is watched.
        let _watch = match &self.graphs {
            Some(folder) => Some(watch::start(folder, server.core().clone())?),
            None => None,
        };
        let address = listener.local_addr()?;
        let http_address = http.as_ref().map(|http| http.local_addr()).transpose()?;
        Banner::of(server.core(), (address, http_address), self.log_format)
            .await?
            .print(&self.data, self.graphs.as_deref());

        let stop = CancellationToken::new();
        let core = server.core().clone();
        let grpc = async { server.serve(listener, stop.clone().cancelled_owned()).await.map_err(Failure::from) };
        let http = async {
            match http {
                None => Ok(()),
                Some(http) => serve_http(http, core, (&self.limits, &self.cors, figures), stop.clone()).await,
            }
        };
        let mut serving = std::pin::pin!(async { tokio::try_join!(grpc, http) });
        tokio::select! {
            ended = &mut serving => return ended.map(|_| Exit::Ok),
            signal = signals.next() => {
                let patience = self.drain_timeout;
                tracing::info!(signal, ?patience, "draining; a second signal stops at once");
                stop.cancel();
            }
        }
        tokio::select! {
            ended = serving => {
                ended?;
                tracing::info!("stopped");
                Ok(Exit::Ok)
            }
            signal = signals.next() => {
                tracing::warn!(signal, "stopped at once; the next server takes up what ran");
                Ok(Exit::Interrupted)
            }
        }
    }

    /// Who calls webhooks.
    fn webhooks(&self) -> Result<WebhookClient, Failure> {
        let options = WebhookOptions {
            egress: Egress::new(self.outside.allowed().chain(self.webhook_allow_private.then_some(Allow::Private))),
            secret: self.webhook_secret.clone(),
            timeout: None,
        };
        WebhookClient::new(options).map_err(|what| Failure::usage(format!("--webhook-secret cannot be used: {what}")))
    }

    /// Why the server does not start, with what this command can do about it.
    fn why_not(&self, error: runloom_service::Error) -> Failure {
        let is_of_graphs =
            matches!(&error, runloom_service::Error::Core(error) if error.reason == Reason::GraphInvalid);
        let failure = Failure::from(error);
        match &self.graphs {
            Some(folder) if is_of_graphs => {
                failure.or_hint(format!("runloom graph check {} checks documents without a server", folder.display()))
            }
            _ if is_memory(&self.data) => failure,
            _ => failure.or_hint("--data DIR keeps things elsewhere, --data :memory: nowhere"),
        }
    }
}

/// Who may use LangGraph's API from pages in a browser: as asked, else those of this machine where it is on loopback.
fn cors(asked: &[String], is_local: bool) -> Cors {
    match asked {
        [] if is_local => Cors::Loopback,
        [] => Cors::Closed,
        [one] if one == "off" => Cors::Closed,
        [one] if one == "*" => Cors::Any,
        origins => Cors::Origins(origins.to_vec()),
    }
}

/// An origin as a browser names it, `*`, or `off`.
fn origin(text: &str) -> Result<String, String> {
    let host = text.split_once("://").map(|(_, host)| host);
    let is_origin = host.is_some_and(|host| !host.is_empty() && !host.contains('/'));
    if is_origin || ["*", "off"].contains(&text) {
        return Ok(text.to_owned());
    }
    Err("an origin is a scheme and a host without a path, such as https://app.example.com; or *, or off".to_owned())
}

/// Serves LangGraph's API.
async fn serve_http(
    listener: TcpListener,
    core: runloom_core::Core,
    (limits, origins, figures): (&Limits, &[String], Figures),
    stop: CancellationToken,
) -> Result<(), Failure> {
    let cors = cors(origins, listener.local_addr()?.ip().is_loopback());
    let default = runloom_gateway::Options::default();
    let max_body_bytes = default.max_body_bytes.max(limits.request_bytes());
    let compressed_streams = limits.compressed_streams;
    let figures = Some(figures);
    let options = runloom_gateway::Options { cors, max_body_bytes, compressed_streams, figures, ..default };
    let served = runloom_gateway::serve(listener, core, options, stop.cancelled_owned()).await;
    served.map_err(|error| Failure::failed(error.to_string()))
}
