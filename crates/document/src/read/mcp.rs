//! Reading `mcp`, of a tool.

use std::{sync::Arc, time::Duration};

use runloom_tools::mcp::McpTool;

use super::{Reader, given::Scope};
use crate::{run::McpWork, suggest::or_known, tree::Tree};

impl Reader<'_> {
    /// A tool of an MCP server, and what its server says of it. The tool's name is that in the document where left out.
    pub fn mcp(&mut self, name: &Arc<str>, tree: &Tree, scope: &Scope<'_>) -> Option<(McpWork, Option<McpTool>)> {
        let fields = self.fields(tree, &["server", "tool", "timeout_ms"]);
        let timeout = self.field(&fields, "timeout_ms", |r, t| r.integer(t, 1)).map(Duration::from_millis);
        let Some(at_server) = fields.get("server") else {
            self.fault(tree.at, "`mcp` needs a `server`, one of those in the operator's file (--mcp)");
            return None;
        };
        let server = self.text(at_server)?.clone();
        let (tool, at_tool) = match fields.get("tool") {
            Some(tree) => (self.text(tree)?.clone(), tree.at),
            None => (name.clone(), tree.at),
        };
        let described = match scope.mcp {
            None => {
                let message = "no MCP servers are known here: what the tool is called with is not checked, and a call of it \
                               fails; --mcp names the operator's file of servers";
                self.warn(tree.at, message);
                None
            }
            Some(servers) => match servers.tools(&server) {
                None => {
                    let near = or_known(&server, servers.names().map(|name| &**name));
                    let message = format!("there is no MCP server `{server}` in the operator's file (--mcp){near}");
                    self.fault(at_server.at, message);
                    return None;
                }
                Some(Err(why)) => {
                    self.fault(at_server.at, format!("MCP server `{server}` cannot be used: {why}"));
                    return None;
                }
                Some(Ok(tools)) => match servers.tool(&server, &tool) {
                    None => {
                        let near = or_known(&tool, tools);
                        self.fault(at_tool, format!("MCP server `{server}` has no tool `{tool}`{near}"));
                        return None;
                    }
                    described => described,
                },
            },
        };
        Some((McpWork { servers: scope.mcp.cloned().unwrap_or_default(), server, tool, timeout }, described))
    }
}
