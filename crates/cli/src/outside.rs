//! What documents reach outside, as the operator has it: where calls may go, which secrets go along, which MCP servers and
//! which database of vectors there are.

use std::{path::PathBuf, sync::Arc};

use clap::Args;
use runloom_document::{Allowed, Registry};
use runloom_pgvector::PgVector;
use runloom_tools::{Allow, Egress, HttpClient, McpConfig, McpServers, Secret};

use crate::failure::{Failure, Result};

/// What an operator may say about it.
#[derive(Args, Clone, Debug, Default)]
pub struct Outside {
    /// Where calls that documents make may go beside the public internet: a network such as 10.0.0.0/8, a host, host:port,
    /// or private for all of them. Repeat it, or separate with commas
    #[arg(long, env = "RUNLOOM_EGRESS_ALLOW", value_name = "WHERE", value_delimiter = ',')]
    egress_allow: Vec<Allow>,
    /// A variable of the environment that documents may have sent in a header, and where to: WEATHER_TOKEN@api.example.org.
    /// Over https, unless it says http://host. Repeat it, or separate with commas
    #[arg(long, env = "RUNLOOM_HTTP_SECRETS", value_name = "NAME@HOST", value_delimiter = ',')]
    http_secret: Vec<Secret>,
    /// Let models of documents that callers register call this address, and send it the key in this variable:
    /// https://api.groq.com/openai/v1=GROQ_API_KEY, or an address alone. They may call each provider at its own address
    /// with its usual key anyhow; the operator's own documents may name any. Repeat it, or separate with commas
    #[arg(long, env = "RUNLOOM_ALLOW_MODEL", value_name = "URL[=NAME]", value_delimiter = ',', value_parser = allowed)]
    allow_model: Vec<Allowed>,
    #[command(flatten)]
    mcp: Mcp,
    /// The database whose tables documents may search by vectors, with the extension pgvector:
    /// postgres://user:password@host/database. Other users of the machine see what stands on a command line: better set the
    /// variable
    #[arg(long, env = "RUNLOOM_PGVECTOR", value_name = "URL", hide_env_values = true)]
    pgvector: Option<String>,
}

/// The MCP servers.
#[derive(Args, Clone, Debug, Default)]
pub struct Mcp {
    /// The file of the MCP servers whose tools documents may call, as other clients have it: {"mcpServers": {"name":
    /// {"command": …}}}. They are started with this command
    #[arg(long, env = "RUNLOOM_MCP", value_name = "FILE")]
    mcp: Option<PathBuf>,
}

/// What documents may use, started.
pub struct Opened {
    /// What documents may use.
    pub registry: Registry,
    mcp: McpServers,
}

impl Outside {
    /// Where calls may go beside the public internet.
    pub fn allowed(&self) -> impl Iterator<Item = Allow> {
        self.egress_allow.iter().cloned()
    }

    /// Starts what there is to start.
    pub async fn open(&self) -> Result<Opened> {
        let http = HttpClient::new(Egress::new(self.allowed()), self.http_secret.iter().cloned());
        let vectors = self.pgvector.as_deref().map(PgVector::open).transpose();
        let vectors = vectors.map_err(|what| Failure::usage(format!("--pgvector cannot be used: {what}")))?;
        let mcp = self.mcp.start().await?.unwrap_or_default();
        let registry = Registry::new().http(http).mcp(mcp.clone()).allow_models(self.allow_model.clone().into());
        let registry = match vectors {
            Some(vectors) => registry.vectors(Arc::new(vectors)),
            None => registry,
        };
        Ok(Opened { registry, mcp })
    }
}

impl Mcp {
    /// Starts them, where there is a file.
    pub async fn start(&self) -> Result<Option<McpServers>> {
        let Some(file) = &self.mcp else { return Ok(None) };
        let config = McpConfig::read(file)
            .map_err(|what| Failure::usage(format!("--mcp {} cannot be used: {what}", file.display())))?;
        Ok(Some(McpServers::start(config).await))
    }
}

impl Opened {
    /// Ends what was started.
    pub async fn close(self) {
        self.mcp.close().await;
    }
}

/// An address that models may call, and a key's variable.
fn allowed(text: &str) -> std::result::Result<Allowed, String> {
    Allowed::read(text).map_err(|error| error.to_string())
}
