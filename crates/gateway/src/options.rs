//! What the face is served with.

use std::{fmt, sync::Arc, time::Duration};

use runloom_auth::Authenticator;
use runloom_core::Caller;
pub use runloom_net::Cors;

/// How the face behaves. The default is for a server on loopback.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who may call. `None`, the default: every request has the caller of [`caller`](Self::caller).
    pub auth: Option<Authenticator>,
    /// The caller of requests that carry no [`Caller`] in their extensions. Default: the default tenant, anonymous.
    pub caller: Caller,
    /// Which pages of other origins may use it.
    pub cors: Cors,
    /// The most bytes in the body of a request.
    pub max_body_bytes: usize,
    /// How long a body may take to arrive once its head has; larger ones have longer, by 16 KiB a second.
    pub body_timeout: Duration,
    /// How long a stream, or an answer that is waited for, may be silent before it says that it is there.
    pub heartbeat: Duration,
    /// How many streams may be compressed at once, for clients that accept gzip; 0 for none. Each takes some 450 KB.
    pub compressed_streams: usize,
    /// Gives the figures that the program keeps, in Prometheus' text format. Without it only the runs are counted.
    pub figures: Option<Figures>,
    /// Limits and deadlines of connections.
    pub connections: runloom_net::Options,
}

/// Who gives figures.
#[derive(Clone)]
pub struct Figures(pub Arc<dyn Fn() -> String + Send + Sync>);

impl fmt::Debug for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Figures")
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            auth: None,
            caller: Caller::default(),
            cors: Cors::Loopback,
            max_body_bytes: 32 << 20,
            body_timeout: Duration::from_secs(30),
            heartbeat: Duration::from_secs(5),
            compressed_streams: 256,
            figures: None,
            connections: runloom_net::Options::default(),
        }
    }
}
