//! What an operator opens of what is closed: networks, hosts, or all.

use std::{net::IpAddr, str::FromStr};

use ipnet::IpNet;

/// One thing that an operator allows beside the public internet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allow {
    /// Every address, of private networks and of this machine too: `private`.
    Private,
    /// The addresses of a network, by whatever name: `10.0.0.0/8`.
    Net(IpNet),
    /// A host as URLs write it, whatever it stands for, at one port or at all: `search.internal`, `localhost:8080`.
    Host {
        /// Its name or address, in lower case, without brackets.
        host: String,
        /// The only port; none for all of them.
        port: Option<u16>,
    },
}

impl FromStr for Allow {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let wrong = || format!("`{text}` is none of: private, a network such as 10.0.0.0/8, a host, or host:port");
        if text == "private" {
            return Ok(Self::Private);
        }
        if text.contains('/') {
            return text.parse().map(|net: IpNet| Self::Net(net.trunc())).map_err(|_| wrong());
        }
        // An IPv6 address without brackets holds colons of its own.
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Self::Host { host: ip.to_string(), port: None });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse::<u16>().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let host = plain(host);
        let is_host = host.parse::<IpAddr>().is_ok()
            || !host.is_empty() && host.chars().all(|c| c.is_alphanumeric() || "-._".contains(c));
        if is_host { Ok(Self::Host { host, port }) } else { Err(wrong()) }
    }
}

/// A host as it is compared: in lower case, without brackets and a last dot.
pub(super) fn plain(host: &str) -> String {
    host.trim_end_matches('.').trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allowed_is_read_in_every_form() {
        let read = |text: &str| text.parse::<Allow>();
        let host = |host: &str, port| Ok(Allow::Host { host: host.to_owned(), port });
        assert_eq!(read("private"), Ok(Allow::Private));
        assert_eq!(read("10.1.2.3/8"), Ok(Allow::Net("10.0.0.0/8".parse().unwrap())));
        assert_eq!(read("fd00::/8"), Ok(Allow::Net("fd00::/8".parse().unwrap())));
        assert_eq!(read("Search.Internal"), host("search.internal", None));
        assert_eq!(read("localhost:8080"), host("localhost", Some(8080)));
        assert_eq!(read("127.0.0.1:1"), host("127.0.0.1", Some(1)));
        assert_eq!(read("::1"), host("::1", None));
        assert_eq!(read("[::1]:80"), host("::1", Some(80)));
        for wrong in ["", "10.0.0.0/33", "host:port", "http://host", "a b", "*", "host:99999"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
