//! What the face is served with.

use std::{fmt, sync::Arc, time::Duration};

/// How the face behaves. The default is for a server on loopback.
#[derive(Clone, Debug)]
pub struct Options {
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

/// Which pages of other origins may use the face. A page of its own origin always may.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Cors {
    /// None.
    Closed,
    /// Pages of this machine: `http://localhost:3000`, `http://127.0.0.1:5173`.
    #[default]
    Loopback,
    /// Those of these origins, each as a browser names it: `https://app.example.com`.
    Origins(Vec<String>),
    /// All.
    Any,
}

impl Cors {
    /// Whether a page of this origin may use the face.
    pub fn allows(&self, origin: &str) -> bool {
        match self {
            Self::Closed => false,
            Self::Loopback => is_loopback(origin),
            Self::Origins(all) => all.iter().any(|known| known.trim_end_matches('/').eq_ignore_ascii_case(origin)),
            Self::Any => true,
        }
    }
}

fn is_loopback(origin: &str) -> bool {
    let Some((_, rest)) = origin.split_once("://") else { return false };
    let host = match rest.strip_prefix('[') {
        Some(v6) => return v6.split(']').next() == Some("::1"),
        None => rest.split(':').next().unwrap_or_default(),
    };
    host.eq_ignore_ascii_case("localhost")
        || host.to_ascii_lowercase().ends_with(".localhost")
        || host.parse::<std::net::Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_this_machine_only() {
        for near in ["http://localhost:3000", "http://127.0.0.1", "http://[::1]:80", "https://app.localhost"] {
            assert!(Cors::Loopback.allows(near), "{near}");
        }
        for far in ["http://localhost.evil.test", "http://127.0.0.1.evil.test", "null", "http://10.0.0.1", "", "x"] {
            assert!(!Cors::Loopback.allows(far), "{far}");
        }
        assert!(Cors::Origins(vec!["https://a.test/".into()]).allows("https://a.test"));
        assert!(!Cors::Closed.allows("http://localhost"));
    }
}
