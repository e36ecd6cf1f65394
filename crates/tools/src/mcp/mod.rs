//! Tools of MCP servers: the operator says which servers there are, documents name their tools.
//!
//! A server is started, or called, once; its tools are listed then. One that has died is started again by the next call
//! that needs it, later and later if it dies again at once.

mod config;
mod connect;
mod result;
mod wire;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::{BoxFuture, join_all};
use rmcp::{
    RoleClient, ServiceError,
    model::{
        CallToolRequest, CallToolRequestParams, CancelledNotification, CancelledNotificationParam, ClientRequest,
        ProgressNotificationParam, RequestId, RequestMetaObject, ServerResult, Tool,
    },
    service::{PeerRequestOptions, RequestHandle},
};
use runloom_engine::{Object, Value, value};
use tokio::{sync::Mutex, time::Instant};

pub use self::{config::McpConfig, result::McpResult};
use self::{config::ServerConfig, connect::Connection};
use crate::egress::innermost;

/// A server that lived this long did not die of being started.
const HEALTHY: Duration = Duration::from_secs(10);
/// How long the second start in a row waits; each after it twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest that a start waits.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// The MCP servers of an operator. Cheap to clone.
#[derive(Clone, Default)]
pub struct McpServers {
    servers: Arc<BTreeMap<Arc<str>, Server>>,
}

/// A tool as its server describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct McpTool {
    /// What it does.
    pub description: String,
    /// JSON Schema of its arguments.
    pub parameters: Value,
}

/// Why a call came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("MCP server `{server}`: {message}")]
pub struct McpError {
    /// The server.
    pub server: String,
    /// What went wrong, and what to do.
    pub message: String,
    /// True where the same call may succeed later.
    pub retryable: bool,
}

/// A call.
#[derive(Clone, Debug)]
pub struct McpCall<'a> {
    /// The server.
    pub server: &'a str,
    /// The tool, as the server calls it.
    pub tool: &'a str,
    /// An object.
    pub args: &'a Value,
    /// How long it may take without progress, where not as the server's configuration says.
    pub timeout: Option<Duration>,
    /// The trace it is part of: `traceparent`, `tracestate`.
    pub trace: Object,
}

struct Server {
    name: Arc<str>,
    config: ServerConfig,
    state: Mutex<State>,
    /// The tools as they were listed first, or why they were not.
    listed: std::sync::OnceLock<Result<Vec<Tool>, String>>,
}

#[derive(Default)]
struct State {
    connection: Option<Arc<Connection>>,
    opened_at: Option<Instant>,
    /// How often in a row it could not be started, or died at once.
    failures: u32,
    /// When it may be started again.
    not_before: Option<Instant>,
    /// Why it is not there.
    why: String,
}

impl std::fmt::Debug for McpServers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.servers.keys()).finish()
    }
}

impl McpServers {
    /// Starts the servers, all at once, and lists their tools. One that does not start is told in the log, and to
    /// documents that use it.
    pub fn start(config: McpConfig) -> BoxFuture<'static, Self> {
        Box::pin(Self::start_now(config))
    }

    async fn start_now(config: McpConfig) -> Self {
        let servers = config.servers.into_iter().map(|(name, config)| {
            let server = Server { name: name.clone(), config, state: Mutex::default(), listed: Default::default() };
            (name, server)
        });
        let servers = Self { servers: Arc::new(servers.collect()) };
        join_all(servers.servers.values().map(|server| async {
            let listed = server.connection().await.map(|connection| connection.tools.clone());
            match &listed {
                Ok(tools) => tracing::info!(server = %server.name, tools = tools.len(), "an MCP server is there"),
                Err(error) => tracing::error!("{error}"),
            }
            let _ = server.listed.set(listed.map_err(|error| error.message));
        }))
        .await;
        servers
    }

    /// The names of the servers.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> + Clone {
        self.servers.keys()
    }

    /// The names of a server's tools, or why they are not known. None where there is no such server.
    pub fn tools(&self, server: &str) -> Option<Result<Vec<&str>, &str>> {
        let listed = self.servers.get(server)?.listed.get()?;
        Some(listed.as_ref().map(|tools| tools.iter().map(|tool| &*tool.name).collect()).map_err(String::as_str))
    }

    /// A tool as its server describes it.
    pub fn tool(&self, server: &str, tool: &str) -> Option<McpTool> {
        let tools = self.servers.get(server)?.listed.get()?.as_ref().ok()?;
        let tool = tools.iter().find(|listed| listed.name == tool)?;
        Some(McpTool {
            description: tool.description.as_deref().unwrap_or_default().to_owned(),
            parameters: Value::from(&serde_json::Value::Object((*tool.input_schema).clone())),
        })
    }

    /// Calls a tool. `progress` is told what the server says on the way: `{progress, total, message}`. Dropping the future
    /// cancels the call, and tells the server so.
    ///
    /// Boxed, so that what a call runs through is compiled in this crate and not in each that calls.
    pub fn call<'a>(
        &'a self,
        call: McpCall<'a>,
        progress: impl FnMut(Object) + Send + 'a,
    ) -> BoxFuture<'a, Result<McpResult, McpError>> {
        Box::pin(self.call_now(call, Box::new(progress)))
    }

    async fn call_now(
        &self,
        call: McpCall<'_>,
        mut progress: Box<dyn FnMut(Object) + Send + '_>,
    ) -> Result<McpResult, McpError> {
        let Some(server) = self.servers.get(call.server) else {
            let message = "there is no server of that name; the operator's file (--mcp) says which there are";
            return Err(failed(call.server, message.to_owned(), false));
        };
        let connection = server.connection().await?;
        let result = server.call(&connection, &call, &mut *progress).await;
        let mut state = server.state.lock().await;
        match &result {
            Ok(_) => state.failures = 0,
            // Its connection may hang where it did not end: the next call makes another.
            Err((_, true)) => server.lose(&mut state, &connection, "the connection broke"),
            Err(_) => {}
        }
        drop(state);
        result.map_err(|(error, _)| error)
    }

    /// Ends the servers, and waits for it.
    pub fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.close_now())
    }

    async fn close_now(&self) {
        join_all(self.servers.values().map(|server| async {
            let connection = server.state.lock().await.connection.take();
            if let Some(connection) = connection {
                connection.close().await;
            }
        }))
        .await;
    }
}

impl Server {
    /// The connection; made where there is none.
    async fn connection(&self) -> Result<Arc<Connection>, McpError> {
        let mut state = self.state.lock().await;
        if let Some(connection) = state.connection.clone() {
            if !connection.gone.is_cancelled() {
                return Ok(connection);
            }
            self.lose(&mut state, &connection, "it ended by itself");
        }
        let now = Instant::now();
        if let Some(at) = state.not_before.filter(|at| *at > now) {
            let seconds = (at - now).as_secs() + 1;
            return Err(self.failed(format!("{}; it is started again in {seconds} s at the earliest", state.why), true));
        }
        match Connection::open(&self.name, &self.config).await {
            Ok(connection) => {
                let connection = Arc::new(connection);
                if state.opened_at.replace(now).is_some() {
                    tracing::info!(server = %self.name, "an MCP server is there again");
                }
                state.connection = Some(connection.clone());
                Ok(connection)
            }
            Err(why) => {
                self.failed_once_more(&mut state, why.clone());
                Err(self.failed(why, true))
            }
        }
    }

    /// Gives a connection up that is still the present one.
    fn lose(&self, state: &mut State, lost: &Arc<Connection>, why: &str) {
        if !state.connection.as_ref().is_some_and(|present| Arc::ptr_eq(present, lost)) {
            return;
        }
        state.connection = None;
        if state.opened_at.is_some_and(|at| at.elapsed() >= HEALTHY) {
            state.failures = 0;
        }
        self.failed_once_more(state, why.to_owned());
        tracing::warn!(server = %self.name, why, "an MCP server has gone; the next call starts it again");
    }

    /// The first start in a row is made at once, each after it later.
    fn failed_once_more(&self, state: &mut State, why: String) {
        let pause = match state.failures {
            0 => Duration::ZERO,
            n => FIRST_PAUSE.saturating_mul(1 << (n - 1).min(10)).min(MAX_PAUSE),
        };
        state.failures += 1;
        state.not_before = Some(Instant::now() + pause);
        state.why = why;
    }

    /// The result, or an error and whether the connection is broken.
    async fn call(
        &self,
        connection: &Connection,
        call: &McpCall<'_>,
        progress: &mut (dyn FnMut(Object) + Send),
    ) -> Result<McpResult, (McpError, bool)> {
        let mut params = CallToolRequestParams::new(call.tool.to_owned());
        params.arguments = match call.args.to_json() {
            serde_json::Value::Object(args) => Some(args),
            _ => None,
        };
        let timeout = call.timeout.unwrap_or(self.config.timeout);
        let mut options = PeerRequestOptions::with_timeout(timeout).reset_timeout_on_progress();
        if !call.trace.is_empty() {
            let mut meta = RequestMetaObject::new();
            for (name, value) in call.trace.iter() {
                meta.0.insert(name.to_string(), value.to_json());
            }
            options = options.with_meta(meta);
        }
        let request = ClientRequest::CallToolRequest(CallToolRequest::new(params));
        let gone = || (self.failed("it ended while it was called; call it again".to_owned(), true), true);
        let handle = tokio::select! {
            sent = connection.peer.send_cancellable_request(request, options) => {
                sent.map_err(|error| self.explained(error, call.tool))?
            }
            () = connection.gone.cancelled() => return Err(gone()),
        };
        let token = handle.progress_token.0.clone();
        let mut heard = connection.progress.listen(&token);
        // Dropped before it is disarmed, it tells the server that nobody waits any more.
        let mut under_way = UnderWay { connection, token, request: Some((handle.id.clone(), handle.peer.clone())) };
        let mut answer = std::pin::pin!(RequestHandle::await_response(handle));
        let answered = loop {
            tokio::select! {
                biased;
                Some(told) = heard.recv() => progress(shown(told)),
                answered = &mut answer => break answered,
                () = connection.gone.cancelled() => {
                    under_way.request = None;
                    return Err(gone());
                }
            }
        };
        under_way.request = None;
        while let Ok(told) = heard.try_recv() {
            progress(shown(told));
        }
        match answered {
            Ok(ServerResult::CallToolResult(result)) => Ok(result.into()),
            Ok(_) => {
                let message =
                    format!("`{}` wants to be asked more, or to answer later, which is not possible here", call.tool);
                Err((self.failed(message, false), false))
            }
            Err(error) => Err(self.explained(error, call.tool)),
        }
    }

    fn explained(&self, error: ServiceError, tool: &str) -> (McpError, bool) {
        match error {
            ServiceError::McpError(error) => (self.failed(format!("`{tool}`: {}", error.message), false), false),
            ServiceError::Timeout { timeout } => {
                let message =
                    format!("`{tool}` gave no sign of life within {timeout:?}; `timeout_ms` sets another time");
                (self.failed(message, true), false)
            }
            ServiceError::TransportClosed => {
                (self.failed("it ended while it was called; call it again".to_owned(), true), true)
            }
            other => {
                let why = self.config.place.hidden(innermost(&other));
                (self.failed(format!("`{tool}` could not be called: {why}"), true), true)
            }
        }
    }

    fn failed(&self, message: String, retryable: bool) -> McpError {
        failed(&self.name, message, retryable)
    }
}

/// A call that a server works on.
struct UnderWay<'c> {
    connection: &'c Connection,
    token: rmcp::model::NumberOrString,
    request: Option<(RequestId, rmcp::Peer<RoleClient>)>,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.connection.progress.forget(&self.token);
        let (Some((id, peer)), Ok(runtime)) = (self.request.take(), tokio::runtime::Handle::try_current()) else {
            return;
        };
        let params = CancelledNotificationParam::new(Some(id), Some("the run was cancelled".to_owned()));
        runtime.spawn(async move { peer.send_notification(CancelledNotification::new(params).into()).await });
    }
}

fn failed(server: &str, message: String, retryable: bool) -> McpError {
    McpError { server: server.to_owned(), message, retryable }
}

/// Progress as a reader is shown it.
fn shown(told: ProgressNotificationParam) -> Object {
    // A whole number is shown as one.
    let number = |n: f64| match n {
        n if n.fract() == 0.0 && n.abs() < 1e15 => Value::Int(n as i64),
        n => Value::from(n),
    };
    let mut shown = Object::default();
    shown.insert("progress", number(told.progress));
    shown.insert("total", told.total.map(number).unwrap_or_default());
    shown.insert("message", told.message.map_or(Value::Null, |text| value!(text)));
    shown
}
