//! Where calls may go that somebody else decided on: to the public internet, and to what the operator allows beside it.
//!
//! Names are looked up here, and the addresses that were looked at are those that are connected to: a name cannot stand
//! for one address when it is checked and for another when it is called.

mod address;
mod allow;

use std::{
    error::Error as StdError,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, OnceLock},
    time::Duration,
};

use reqwest::{
    Client, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect,
};

pub use self::allow::Allow;
use self::{address::is_public, allow::plain};

/// The longest a URL may be, in bytes.
const MAX_URL: usize = 8192;
/// How long it may take to connect.
const CONNECT: Duration = Duration::from_secs(10);

/// What `localhost` stands for.
const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// A URL that is not called, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It cannot be called by anyone.
    #[error("{0}")]
    Url(String),
    /// It is, or stands for, an address that is not allowed.
    #[error(
        "{host} is an address of this machine or of a private network, which is not called here; the operator may allow \
         it: --egress-allow {host}"
    )]
    Private {
        /// The host, as the URL has it.
        host: String,
    },
}

/// The rule, and the clients that keep to it. Cheap to clone.
///
/// Without anything allowed only addresses of the public internet are called: none of this machine, of private or
/// link-local networks, of carriers, of documentation, and so none where clouds keep their metadata.
#[derive(Clone, Debug, Default)]
pub struct Egress {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    allow: Vec<Allow>,
    /// Made with the first call: they read the system's certificates.
    guarded: OnceLock<Result<Client, String>>,
    open: OnceLock<Result<Client, String>>,
}

impl Egress {
    /// The rule with what is allowed beside the public internet.
    pub fn new(allow: impl IntoIterator<Item = Allow>) -> Self {
        Self { inner: Arc::new(Inner { allow: allow.into_iter().collect(), ..Inner::default() }) }
    }

    /// Reads a URL, and says whether it may be called. A name is not looked up for that: what it stands for is looked at
    /// when it is connected to.
    pub fn check(&self, url: &str) -> Result<Url, Refused> {
        let wrong = |text: String| Refused::Url(text);
        if url.len() > MAX_URL {
            return Err(wrong(format!("the address is longer than {MAX_URL} bytes")));
        }
        let url =
            Url::parse(url).map_err(|e| wrong(format!("this is no address ({e}); it takes http:// or https://")))?;
        self.check_url(&url)?;
        Ok(url)
    }

    /// Whether a URL may be called.
    pub fn check_url(&self, url: &Url) -> Result<(), Refused> {
        let wrong = |text: String| Refused::Url(text);
        if !["http", "https"].contains(&url.scheme()) {
            return Err(wrong(format!("the address takes http:// or https://, not {}://", url.scheme())));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("the address must not hold a user or a password".to_owned()));
        }
        let host = plain(url.host_str().unwrap_or_default());
        let is_local = host == "localhost" || host.ends_with(".localhost");
        let literal: Option<IpAddr> = host.parse().ok();
        let is_closed = match literal {
            Some(ip) => !self.admits(ip),
            None => is_local && !LOOPBACK.iter().any(|ip| self.admits(*ip)),
        };
        if is_closed && !self.names(url) { Err(Refused::Private { host }) } else { Ok(()) }
    }

    /// The client that calls a URL which has been checked: it follows no redirect, asks no proxy, and connects to no
    /// address that is not allowed.
    pub fn client(&self, url: &Url) -> Result<&Client, String> {
        let made = if self.names(url) {
            self.inner.open.get_or_init(|| client(None))
        } else {
            self.inner.guarded.get_or_init(|| client(Some(self.clone())))
        };
        made.as_ref().map_err(String::clone)
    }

    /// Whether the operator named the very host of a URL.
    fn names(&self, url: &Url) -> bool {
        let host = plain(url.host_str().unwrap_or_default());
        self.inner.allow.iter().any(|allow| match allow {
            Allow::Host { host: named, port } => {
                *named == host && port.is_none_or(|port| url.port_or_known_default() == Some(port))
            }
            _ => false,
        })
    }

    /// Whether an address may be connected to under any name.
    fn admits(&self, ip: IpAddr) -> bool {
        // A mapped address is the IPv4 address that it holds.
        let real = ip.to_canonical();
        is_public(ip)
            || self.inner.allow.iter().any(|allow| match allow {
                Allow::Private => true,
                Allow::Net(net) => net.contains(&real),
                Allow::Host { .. } => false,
            })
    }
}

fn client(egress: Option<Egress>) -> Result<Client, String> {
    // Another part of the program may have chosen one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut client = Client::builder()
        .user_agent(concat!("runloom/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT);
    if let Some(egress) = egress {
        client = client.dns_resolver(Arc::new(Lookup { egress }));
    }
    client.build().map_err(|error| format!("no HTTP client can be made: {}", told(&error)))
}

/// Looks names up, and gives of their addresses those that may be connected to.
struct Lookup {
    egress: Egress,
}

impl Resolve for Lookup {
    fn resolve(&self, name: Name) -> Resolving {
        let egress = self.egress.clone();
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let open: Vec<SocketAddr> = found.iter().filter(|at| egress.admits(at.ip())).copied().collect();
            if open.is_empty() && !found.is_empty() {
                return Err(Refused::Private { host: name.as_str().to_owned() }.into());
            }
            Ok(Box::new(open.into_iter()) as Addrs)
        })
    }
}

/// That a call failed because of where it was to go.
pub fn refusal<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e Refused> {
    causes(error).find_map(|error| error.downcast_ref())
}

/// An error with what it came from. An error of reqwest wants `without_url` first: URLs hold secrets.
pub fn told(error: &(dyn StdError + 'static)) -> String {
    causes(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// What is at the bottom of an error, which is what went wrong.
pub fn innermost(error: &(dyn StdError + 'static)) -> String {
    causes(error).last().map(ToString::to_string).unwrap_or_default()
}

fn causes<'e>(error: &'e (dyn StdError + 'static)) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowing(allow: &[&str]) -> Egress {
        Egress::new(allow.iter().map(|text| text.parse().unwrap()))
    }

    async fn looked_up(egress: Egress, name: &str) -> Result<usize, Refused> {
        match (Lookup { egress }).resolve(name.parse().unwrap()).await {
            Ok(found) => Ok(found.count()),
            Err(error) => Err(error.downcast_ref::<Refused>().unwrap().clone()),
        }
    }

    #[tokio::test]
    async fn a_name_that_stands_for_a_private_address_is_not_connected_to() {
        let refused = looked_up(Egress::default(), "localhost").await.unwrap_err();
        assert!(refused.to_string().starts_with("localhost is an address"), "{refused}");
        // The port is not known here: hosts are let through by `names`, which knows it.
        assert!(looked_up(allowing(&["localhost:80"]), "localhost").await.is_err());
        assert!(looked_up(allowing(&["private"]), "localhost").await.unwrap() > 0);
        assert!(looked_up(allowing(&["127.0.0.0/8"]), "localhost").await.unwrap() > 0);
    }

    #[test]
    fn what_cannot_be_called_is_refused_before() {
        let strict = Egress::default();
        for bad in [
            "/ok",
            "ftp://example.org",
            "file:///etc/passwd",
            "http://",
            "https://user:pass@example.org",
            "http://localhost:8123/x",
            "http://api.localhost.",
            "http://127.0.0.1/",
            // The same in other spellings.
            "http://2130706433/",
            "http://0x7f.1/",
            "http://017700000001/",
            "http://127。0。0。1/",
            "http://0/",
            "http://[::1]/",
            "http://[::]/",
            "http://[::ffff:10.0.0.1]/",
            "http://[::ffff:a9fe:a9fe]/",
            "http://169.254.169.254/latest/meta-data",
            "http://[fd00:ec2::254]/latest/meta-data",
            "http://100.100.100.200/latest/meta-data",
        ] {
            assert!(strict.check(bad).is_err(), "{bad}");
        }
        assert!(strict.check(&format!("http://example.org/{}", "x".repeat(9000))).is_err());
        for good in ["https://example.org/hook?a=b", "http://93.184.216.34:8080/", "http://[2606:2800:220:1::1]/"] {
            assert!(strict.check(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn what_the_operator_allows_is_open_and_nothing_beside_it() {
        let open = |allow: &[&str], url: &str| allowing(allow).check(url).is_ok();
        assert!(open(&["private"], "http://127.0.0.1:1/") && open(&["private"], "http://localhost/"));
        assert!(open(&["10.0.0.0/8"], "http://10.1.2.3/") && open(&["10.0.0.0/8"], "http://[::ffff:10.1.2.3]/"));
        assert!(!open(&["10.0.0.0/8"], "http://127.0.0.1/") && !open(&["10.0.0.0/8"], "http://localhost/"));
        assert!(open(&["127.0.0.1:80"], "http://127.0.0.1/") && !open(&["127.0.0.1:80"], "https://127.0.0.1/"));
        assert!(open(&["localhost:8080"], "http://LocalHost.:8080/x"));
        assert!(!open(&["localhost:8080"], "http://localhost:8081/"));
        assert!(!open(&["localhost"], "http://sub.localhost/"));
        assert!(!open(&["private"], "https://user@example.org"), "a password is never sent that way");
    }
}
