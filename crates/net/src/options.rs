//! Limits and deadlines of connections.

use std::time::Duration;

use crate::Tls;

/// Limits and deadlines of the connections to one listener.
#[derive(Clone, Debug)]
pub struct Options {
    /// TLS. `None`, the default: connections are not encrypted.
    pub tls: Option<Tls>,
    /// Open connections. Above it, new ones wait in the kernel's queue. Default: 20,000.
    pub max_connections: usize,
    /// Open connections from one IP address. Above it, new ones are closed at once. Default: 10,000, so that one
    /// address cannot take all.
    pub max_connections_per_peer: usize,
    /// Open streams of a connection, calls that wait for a run included. Default: 4096. HTTP/2 takes 1024 more, so that
    /// short calls get through.
    pub max_streams_per_connection: u32,
    /// From the accepted socket to the first request, or to a complete HTTP/2 preface. Includes TLS. Default: 10 s.
    pub handshake_timeout: Duration,
    /// How long an HTTP/1 connection waits for a complete request head, also between requests. Default: 30 s.
    pub header_timeout: Duration,
    /// How often a silent HTTP/2 connection is pinged. `None`: never. Default: 30 s.
    pub keepalive_interval: Option<Duration>,
    /// How long the answer to a ping may take before the connection is closed. Default: 20 s.
    pub keepalive_timeout: Duration,
    /// The age at which a connection takes no more requests (GOAWAY, `connection: close`), so that clients reconnect
    /// and load spreads. Each connection varies by up to 10 % so that they do not reconnect at once. `None`, the
    /// default: no limit.
    pub max_connection_age: Option<Duration>,
    /// How long the streams of such a connection go on before they end. Default: 30 s.
    pub max_connection_age_grace: Duration,
    /// How long connections may stay open after a drain before they are cut. Default: 5 s.
    pub close_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            tls: None,
            max_connections: 20_000,
            max_connections_per_peer: 10_000,
            max_streams_per_connection: 4096,
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(30),
            keepalive_interval: Some(Duration::from_secs(30)),
            keepalive_timeout: Duration::from_secs(20),
            max_connection_age: None,
            max_connection_age_grace: Duration::from_secs(30),
            close_timeout: Duration::from_secs(5),
        }
    }
}
