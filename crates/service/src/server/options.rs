//! What an operator may set of the server itself. What runs and graphs go by is set in the core's own options.

use std::time::Duration;

use runloom_auth::Authenticator;
use runloom_core::Caller;
use runloom_net::Cors;

/// Limits and timings of the server.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who may call. `None`, the default: every call has the caller of [`caller`](Self::caller).
    pub auth: Option<Authenticator>,
    /// The caller of requests that carry no [`Caller`] in their extensions. Default: the default tenant, anonymous.
    pub caller: Caller,
    /// The largest request, in bytes. Default: 32 MiB, which leaves room around the largest input.
    pub max_request_bytes: usize,
    /// Which pages in a browser may use the API, over gRPC-Web. Default: those of this machine.
    pub cors: Cors,
    /// Limits and deadlines of connections.
    pub connections: runloom_net::Options,
    /// How long a request may take to arrive once its head has; larger ones have longer, by 16 KiB a second. Default: 30 s.
    pub body_timeout: Duration,
    /// How long a stream may be silent before it shows that it lives. Default: 15 s, which clients rely on.
    pub progress_interval: Duration,
    /// Whether answers are compressed for callers that ask for it. Default: true.
    pub gzip: bool,
    /// Whether clients may ask what services there are. Default: true.
    pub reflection: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            auth: None,
            caller: Caller::default(),
            max_request_bytes: 32 << 20,
            cors: Cors::Loopback,
            connections: runloom_net::Options::default(),
            body_timeout: Duration::from_secs(30),
            progress_interval: Duration::from_secs(15),
            gzip: true,
            reflection: true,
        }
    }
}
