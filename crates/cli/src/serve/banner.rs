//! The text that the server prints when it is ready: its addresses, its graphs, and commands to try.

use std::{
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

use runloom_core::{Caller, Core, GraphInfo, Target, store::PageRequest};
use serde_json::{Map, Value, json};

use crate::telemetry::LogFormat;
use crate::{
    backend::quoted,
    failure::{Failure, Result},
    style::{DIM, NAME, STRONG, brief, count},
};

/// What protects the server.
#[derive(Clone, Copy)]
pub struct Security {
    pub has_tls: bool,
    pub has_auth: bool,
}

/// The banner. Not printed with `--log-format json`.
pub struct Banner {
    address: SocketAddr,
    http: Option<SocketAddr>,
    graphs: Vec<GraphInfo>,
    /// A graph to try, with an input for it.
    example: Option<(String, Value)>,
    security: Security,
    is_shown: bool,
}

impl Banner {
    /// Collects the graphs of a core.
    pub async fn of(
        core: &Core,
        at: (SocketAddr, Option<SocketAddr>),
        security: Security,
        format: LogFormat,
    ) -> Result<Self> {
        let failed = |error: runloom_core::Error| Failure::failed(error.message);
        let session = core.session(Caller::default());
        let graphs = session.list_graphs(false, PageRequest::first(1000)).await.map_err(failed)?.items;
        let mut example: Option<(String, Value)> = None;
        for graph in &graphs {
            let schemas = session.schemas(&Target::Graph(graph.name.clone())).await.map_err(failed)?;
            let input = input(&schemas.input.to_json());
            // A chat shows most kinds of parts.
            let is_chat = input.get("messages").is_some();
            if example.is_none() || is_chat {
                example = Some((graph.name.clone(), input));
            }
            if is_chat {
                break;
            }
        }
        let (address, http) = (reachable(at.0), at.1.map(reachable));
        Ok(Self { address, http, graphs, example, security, is_shown: format == LogFormat::Text })
    }

    /// Prints the banner. A closed output is not an error.
    pub fn print(&self, stored: &str, folder: Option<&Path>) {
        if self.is_shown
            && let Err(error) = self.write(&mut anstream::stdout().lock(), stored, folder)
        {
            tracing::debug!(%error, "cannot print the banner");
        }
    }

    fn write(&self, out: &mut impl Write, stored: &str, folder: Option<&Path>) -> io::Result<()> {
        let served = count(self.graphs.len() as u64, "graph");
        writeln!(out, "{STRONG}runloom{STRONG:#} serves {served} on {STRONG}{}{STRONG:#}\n", self.address)?;
        if let Some(http) = self.http {
            writeln!(out, "LangGraph's HTTP API: {STRONG}{}://{http}{STRONG:#}\n", self.scheme())?;
        }
        let width = self.graphs.iter().map(|graph| graph.name.len()).max().unwrap_or_default();
        for graph in self.graphs.iter().take(20) {
            writeln!(out, "  {NAME}{:width$}{NAME:#}  {DIM}{}{DIM:#}", graph.name, brief(&graph.description, 80))?;
        }
        match (&self.example, folder) {
            (Some((graph, input)), _) => {
                writeln!(out, "\nTry in another terminal:\n")?;
                writeln!(out, "  {}", run_command(graph, input, &self.server()))?;
                writeln!(out, "  {}", grpcurl_command(graph, input, self.address, self.security.has_tls))?;
            }
            (None, Some(folder)) => {
                writeln!(out, "\nNo graphs yet: add a document to {}", folder.display())?;
            }
            (None, None) => {}
        }
        let watched = folder.map(|folder| format!(" · graphs in {}, watched", folder.display())).unwrap_or_default();
        let tls = if self.security.has_tls { "TLS" } else { "no TLS" };
        let auth = if self.security.has_auth { "authentication" } else { "no authentication" };
        writeln!(out, "\n{DIM}{stored}{watched} · {tls}, {auth} · Ctrl-C drains and stops{DIM:#}\n")?;
        out.flush()
    }
}

impl Banner {
    fn scheme(&self) -> &'static str {
        if self.security.has_tls { "https" } else { "http" }
    }

    /// The address for `--addr`.
    fn server(&self) -> String {
        if self.security.has_tls { format!("https://{}", self.address) } else { self.address.to_string() }
    }
}

/// An input that is valid for a schema.
fn input(schema: &Value) -> Value {
    let empty = Map::new();
    let fields = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
    if fields.contains_key("messages") {
        return json!({"messages": [{"role": "user", "content": "Hello"}]});
    }
    let example = |field: &Value| match (field.get("default"), field.get("type").and_then(Value::as_str)) {
        (Some(default), _) => default.clone(),
        (None, Some("string")) => json!("hello"),
        (None, Some("integer" | "number")) => json!(1),
        (None, Some("boolean")) => json!(true),
        (None, Some("array")) => json!([]),
        (None, _) => json!({}),
    };
    fields.iter().take(3).map(|(name, field)| (name.clone(), example(field))).collect::<Map<_, _>>().into()
}

fn run_command(graph: &str, input: &Value, address: &str) -> String {
    let text = match input["messages"][0]["content"].as_str() {
        Some(text) => quoted(text),
        None => quoted(&input.to_string()),
    };
    format!("{} run {graph} {text} --addr {address}", program())
}

/// The name of this program, or its path if it was started by a path: it may not be on the PATH.
fn program() -> String {
    let called = std::env::args().next().filter(|name| name.contains('/'));
    called.map_or_else(|| "runloom".to_owned(), |path| quoted(&path))
}

fn grpcurl_command(graph: &str, input: &Value, address: SocketAddr, has_tls: bool) -> String {
    let modes = ["STREAM_MODE_MESSAGES", "STREAM_MODE_CUSTOM", "STREAM_MODE_UPDATES"];
    let request = json!({"run": {"graph_name": graph, "input": {"value": input}, "stream_modes": modes}});
    let plaintext = if has_tls { "" } else { "-plaintext " };
    format!("grpcurl {plaintext}-d {} {address} runloom.v1.Runs/StreamRun", quoted(&request.to_string()))
}

/// The address for clients on this machine, if the server listens on all interfaces.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_fit_the_graph() {
        let chat = input(&json!({"properties": {"messages": {}, "order": {"type": "string"}}}));
        let address = reachable("0.0.0.0:50051".parse().unwrap());
        let command = format!("{} run agent Hello --addr 127.0.0.1:50051", program());
        assert_eq!(run_command("agent", &chat, &address.to_string()), command);
        let joke =
            input(&json!({"properties": {"topic": {"type": "string", "default": "tea"}, "n": {"type": "integer"}}}));
        assert_eq!(
            grpcurl_command("joke", &joke, address, false),
            r#"grpcurl -plaintext -d '{"run":{"graph_name":"joke","input":{"value":{"topic":"tea","n":1}},"stream_modes":["STREAM_MODE_MESSAGES","STREAM_MODE_CUSTOM","STREAM_MODE_UPDATES"]}}' 127.0.0.1:50051 runloom.v1.Runs/StreamRun"#
        );
    }
}
