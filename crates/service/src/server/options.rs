//! What an operator may set of the server itself. What runs and graphs go by is set in the core's own options.

use std::time::Duration;

/// Limits and timings of the server.
#[derive(Clone, Debug)]
pub struct Options {
    /// The largest request, in bytes. Default: 32 MiB, which leaves room around the largest input.
    pub max_request_bytes: usize,
    /// How many streams may be open on one connection; calls that wait for a run count too. Default: 4096.
    pub max_streams_per_connection: u32,
    /// How often a silent connection is tried. None: never. Default: 30 s.
    pub keepalive_interval: Option<Duration>,
    /// How long the answer to that may take before the connection counts as broken. Default: 20 s.
    pub keepalive_timeout: Duration,
    /// How old a connection may get before its client is asked to make another, so that load spreads over servers that came
    /// later. None: any age, the default.
    pub max_connection_age: Option<Duration>,
    /// How long the streams of such a connection may go on before they are told to join again elsewhere. Default: 30 s.
    pub max_connection_age_grace: Duration,
    /// How long a stream may be silent before it shows that it lives. Default: 15 s, which clients rely on.
    pub progress_interval: Duration,
    /// When the server goes down: how long connections may stay open once all their streams have been told. Default: 5 s.
    pub close_timeout: Duration,
    /// Whether answers are compressed for callers that ask for it. Default: true.
    pub gzip: bool,
    /// Whether clients may ask what services there are. Default: true.
    pub reflection: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_request_bytes: 32 << 20,
            max_streams_per_connection: 4096,
            keepalive_interval: Some(Duration::from_secs(30)),
            keepalive_timeout: Duration::from_secs(20),
            max_connection_age: None,
            max_connection_age_grace: Duration::from_secs(30),
            progress_interval: Duration::from_secs(15),
            close_timeout: Duration::from_secs(5),
            gzip: true,
            reflection: true,
        }
    }
}
