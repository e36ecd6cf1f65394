//! Which pages of other origins may use an API.

use http::HeaderValue;

/// Which pages of other origins may use an API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Cors {
    /// None.
    Closed,
    /// Pages of this machine: `http://localhost:3000`, `http://127.0.0.1:5173`.
    #[default]
    Loopback,
    /// Pages of these origins, each as a browser names it: `https://app.example.com`.
    Origins(Vec<String>),
    /// All.
    Any,
}

impl Cors {
    /// Whether a page of this origin may use the API.
    pub fn allows(&self, origin: &str) -> bool {
        match self {
            Self::Closed => false,
            Self::Loopback => is_loopback(origin),
            Self::Origins(all) => all.iter().any(|known| known.trim_end_matches('/').eq_ignore_ascii_case(origin)),
            Self::Any => true,
        }
    }

    /// Whether a page may use the API whose request has this header `Origin`.
    pub fn allows_header(&self, origin: &HeaderValue) -> bool {
        origin.to_str().is_ok_and(|origin| self.allows(origin))
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
