//! Tools that reach out: HTTP and MCP, behind one rule of where they may go.

pub mod egress;
pub mod http;
pub mod mcp;

pub use egress::{Allow, Egress};
pub use http::{HttpAnswer, HttpClient, HttpError, HttpRequest, Secret};
pub use mcp::{McpCall, McpConfig, McpError, McpResult, McpServers};
