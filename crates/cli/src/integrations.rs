//! What graph documents may use outside the process: hosts, secrets, models, MCP servers, and a vector database. The operator configures
//! all of it; a document can only refer to it.

use std::{path::PathBuf, sync::Arc};

use clap::Args;
use runloom_document::{Allowed, Registry};
use runloom_pgvector::PgVector;
use runloom_tools::{Allow, Egress, HttpClient, McpConfig, McpServers, Secret};

use crate::failure::{Failure, Result};

/// The options for them.
#[derive(Args, Clone, Debug, Default)]
pub struct Integrations {
    /// Allow HTTP requests of documents to this destination, in addition to the public internet: a network (10.0.0.0/8), a
    /// host, host:port, or `private` for every private network. Can be repeated, or separated by commas
    #[arg(long, env = "RUNLOOM_EGRESS_ALLOW", value_name = "DESTINATION", value_delimiter = ',')]
    egress_allow: Vec<Allow>,
    /// Allow documents to send this environment variable in a header, to this host only: WEATHER_TOKEN@api.example.org. Uses
    /// https, unless written as NAME@http://host. Can be repeated, or separated by commas
    #[arg(long, env = "RUNLOOM_HTTP_SECRETS", value_name = "NAME@HOST", value_delimiter = ',')]
    http_secret: Vec<Secret>,
    /// Allow models in documents that are registered through the API to call this address, and to send it the key in this
    /// environment variable: https://api.groq.com/openai/v1=GROQ_API_KEY, or only an address. Each provider at its own address
    /// with its usual key is always allowed; documents of --graphs may name any address. Can be repeated, or separated by commas
    #[arg(long, env = "RUNLOOM_ALLOW_MODEL", value_name = "URL[=NAME]", value_delimiter = ',', value_parser = allowed_model)]
    allow_model: Vec<Allowed>,
    #[command(flatten)]
    mcp: Mcp,
    /// Postgres database with the extension pgvector whose tables documents may search: postgres://user:password@host/database.
    /// Prefer the environment variable: other users of the machine can see a command line
    #[arg(long, env = "RUNLOOM_PGVECTOR", value_name = "URL", hide_env_values = true)]
    pgvector: Option<String>,
}

/// The option for MCP servers.
#[derive(Args, Clone, Debug, Default)]
pub struct Mcp {
    /// File with the MCP servers whose tools documents may call, in the form that other MCP clients use: {"mcpServers":
    /// {"NAME": {"command": …}}}. The command starts and stops them
    #[arg(long, env = "RUNLOOM_MCP", value_name = "FILE")]
    mcp: Option<PathBuf>,
}

/// Integrations with their MCP servers running.
pub struct StartedIntegrations {
    /// What documents may refer to.
    pub registry: Registry,
    mcp: McpServers,
}

impl Integrations {
    /// The allowed destinations in addition to the public internet.
    pub fn allowed(&self) -> impl Iterator<Item = Allow> {
        self.egress_allow.iter().cloned()
    }

    /// Starts the MCP servers and opens the database.
    pub async fn start(&self) -> Result<StartedIntegrations> {
        let http = HttpClient::new(Egress::new(self.allowed()), self.http_secret.iter().cloned());
        let vectors = self.pgvector.as_deref().map(PgVector::open).transpose();
        let vectors = vectors.map_err(|reason| Failure::usage(format!("invalid --pgvector: {reason}")))?;
        let mcp = self.mcp.start().await?.unwrap_or_default();
        let registry = Registry::new().http(http).mcp(mcp.clone()).allow_models(self.allow_model.clone().into());
        let registry = match vectors {
            Some(vectors) => registry.vectors(Arc::new(vectors)),
            None => registry,
        };
        Ok(StartedIntegrations { registry, mcp })
    }
}

impl Mcp {
    /// Starts the servers of the file; none without a file.
    pub async fn start(&self) -> Result<Option<McpServers>> {
        let Some(file) = &self.mcp else { return Ok(None) };
        let config = McpConfig::read(file)
            .map_err(|reason| Failure::usage(format!("invalid --mcp {}: {reason}", file.display())))?;
        Ok(Some(McpServers::start(config).await))
    }
}

impl StartedIntegrations {
    /// Stops the MCP servers.
    pub async fn stop(self) {
        self.mcp.close().await;
    }
}

/// Parses `URL[=NAME]`.
fn allowed_model(text: &str) -> std::result::Result<Allowed, String> {
    Allowed::read(text).map_err(|error| error.to_string())
}
