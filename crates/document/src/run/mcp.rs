//! Calls of tools of MCP servers.

use std::{sync::Arc, time::Duration};

use runloom_engine::{Context, NodeError, NodeFailure, Value, trace};
use runloom_tools::{McpCall, McpResult, McpServers};

/// A tool of an MCP server.
#[derive(Debug)]
pub(crate) struct McpWork {
    pub servers: McpServers,
    pub server: Arc<str>,
    pub tool: Arc<str>,
    /// How long a call may take without progress, where not as the server's configuration says.
    pub timeout: Option<Duration>,
}

/// The type of the error of a call that came to nothing.
pub(super) const MCP_ERROR: &str = "McpError";
/// The type of the error of a tool that says itself that it failed, as LangChain calls it.
pub(super) const TOOL_EXCEPTION: &str = "ToolException";

impl McpWork {
    /// Calls it. What it tells on the way is custom data: `{tool, tool_call_id, progress, total, message}`.
    pub async fn call(&self, cx: &Context, name: &Arc<str>, id: &Value, args: &Value) -> Result<McpResult, NodeError> {
        let call =
            McpCall { server: &self.server, tool: &self.tool, args, timeout: self.timeout, trace: trace::carried() };
        let progress = |progress: runloom_engine::Object| {
            let own = [("tool", Value::from(name)), ("tool_call_id", id.clone())].into_iter();
            let own = own.map(|(key, value)| (Arc::from(key), value));
            let all = progress.iter().map(|(key, value)| (key.clone(), value.clone()));
            cx.emit(Value::Object(own.chain(all).collect()));
        };
        let result = self.servers.call(call, progress).await.map_err(|error| {
            NodeError::Failed(NodeFailure {
                retryable: error.retryable,
                ..NodeFailure::new(MCP_ERROR, error.to_string())
            })
        })?;
        if result.is_error {
            let text = result.text();
            let text = if text.is_empty() { format!("`{}` failed, and does not say why", self.tool) } else { text };
            return Err(NodeError::new(TOOL_EXCEPTION, text));
        }
        Ok(result)
    }
}
