//! How a client reaches a server: the address, TLS, and the credentials of its calls.

use std::time::Duration;

use tonic::{
    Code, Request, Status,
    metadata::{Ascii, MetadataValue},
    service::Interceptor,
    transport::{Certificate, ClientTlsConfig, Endpoint, Identity},
};

use super::RetryPolicy;
use crate::{Error, error::causes};

/// How a client connects and keeps its connection.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// TLS of an `https://` address. Default: the authorities of the system, and no client certificate.
    pub tls: ClientTls,
    /// An API key or a token, sent with each call as `authorization: Bearer`. Not sent over a connection without TLS, unless the address is on
    /// this machine. Default: none.
    pub api_key: Option<String>,
    /// Timeout of connecting. Default: 10 s.
    pub connect_timeout: Duration,
    /// Interval of keepalive pings on a silent connection. Default: 30 s.
    pub keep_alive_interval: Duration,
    /// Timeout of a keepalive ping, after which the connection is closed. Default: 20 s.
    pub keep_alive_timeout: Duration,
    /// Maximum size of a message in bytes; larger parts of a stream arrive without their data. Default: 64 MiB.
    pub max_message_bytes: usize,
    /// Retries.
    pub retry: RetryPolicy,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            tls: ClientTls::default(),
            api_key: None,
            connect_timeout: Duration::from_secs(10),
            keep_alive_interval: Duration::from_secs(30),
            keep_alive_timeout: Duration::from_secs(20),
            max_message_bytes: 64 << 20,
            retry: RetryPolicy::default(),
        }
    }
}

/// TLS of a client.
#[derive(Clone, Default)]
pub struct ClientTls {
    /// The authorities of the server's certificate, in PEM, instead of those of the system.
    pub ca: Option<Vec<u8>>,
    /// The client's own certificate chain and private key, in PEM, for servers with mutual TLS.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
    /// The name in the server's certificate, if it is not the host of the address.
    pub server_name: Option<String>,
}

impl std::fmt::Debug for ClientTls {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientTls")
            .field("ca", &self.ca.is_some())
            .field("identity", &self.identity.is_some())
            .field("server_name", &self.server_name)
            .finish()
    }
}

impl ClientTls {
    fn config(&self) -> ClientTlsConfig {
        let mut config = ClientTlsConfig::new();
        config = match &self.ca {
            Some(ca) => config.ca_certificate(Certificate::from_pem(ca)),
            None => config.with_native_roots(),
        };
        if let Some((certificate, key)) = &self.identity {
            config = config.identity(Identity::from_pem(certificate, key));
        }
        match &self.server_name {
            Some(name) => config.domain_name(name),
            None => config,
        }
    }
}

impl ClientOptions {
    /// The endpoint of a server at `host:port`, `http://host:port` or `https://host:port`. Without a scheme it is `https` if [`tls`](Self::tls)
    /// has a CA or an identity, and `http` otherwise.
    pub fn endpoint(&self, address: &str) -> Result<Endpoint, Error> {
        let has_tls = self.tls.ca.is_some() || self.tls.identity.is_some();
        let uri = match address.contains("://") {
            true => address.to_owned(),
            false => format!("{}://{address}", if has_tls { "https" } else { "http" }),
        };
        let invalid = |reason: String| {
            Error::new(Code::InvalidArgument, format!("not an address of a server, `{address}`: {reason}"))
        };
        let endpoint = Endpoint::from_shared(uri).map_err(|error| invalid(error.to_string()))?;
        let endpoint = match endpoint.uri().scheme_str() {
            Some("http") if has_tls => return Err(invalid("a CA or a client certificate needs https://".to_owned())),
            Some("http") => endpoint,
            Some("https") => endpoint.tls_config(self.tls.config()).map_err(|error| invalid(causes(&error)))?,
            _ => return Err(invalid("use host:port, http:// or https://".to_owned())),
        };
        if self.api_key.is_some() && endpoint.uri().scheme_str() == Some("http") && !is_local(endpoint.uri().host()) {
            return Err(invalid("an API key is not sent without TLS to another machine; use https://".to_owned()));
        }
        Ok(endpoint
            .connect_timeout(self.connect_timeout)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(self.keep_alive_interval)
            .keep_alive_timeout(self.keep_alive_timeout)
            .keep_alive_while_idle(true))
    }

    /// The credentials of each call.
    pub fn credentials(&self) -> Result<Credentials, Error> {
        let bearer = match &self.api_key {
            None => None,
            Some(key) => {
                let mut value: MetadataValue<Ascii> = format!("Bearer {}", key.trim()).parse().map_err(|_| {
                    Error::new(Code::InvalidArgument, "the API key has characters that a header cannot have".to_owned())
                })?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        Ok(Credentials { bearer })
    }
}

/// Adds the credentials to each call.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    bearer: Option<MetadataValue<Ascii>>,
}

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(bearer) = &self.bearer {
            request.metadata_mut().insert("authorization", bearer.clone());
        }
        Ok(request)
    }
}

fn is_local(host: Option<&str>) -> bool {
    let Some(host) = host else { return false };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_follows_the_options() {
        let plain = ClientOptions::default();
        assert_eq!(plain.endpoint("localhost:1").unwrap().uri().scheme_str(), Some("http"));
        assert_eq!(plain.endpoint("https://localhost:1").unwrap().uri().scheme_str(), Some("https"));
        assert!(plain.endpoint("ftp://localhost").is_err());
        let tls = ClientOptions { tls: ClientTls { ca: Some(Vec::new()), ..ClientTls::default() }, ..plain };
        assert_eq!(tls.endpoint("localhost:1").unwrap().uri().scheme_str(), Some("https"));
        assert!(tls.endpoint("http://localhost:1").is_err());
    }

    #[test]
    fn a_key_is_not_sent_in_the_clear_to_another_machine() {
        let options = ClientOptions { api_key: Some("rl_x".into()), ..ClientOptions::default() };
        for local in ["localhost:1", "127.0.0.1:1", "[::1]:1"] {
            assert!(options.endpoint(local).is_ok(), "{local}");
        }
        let error = options.endpoint("example.org:1").unwrap_err();
        assert!(error.message().contains("https://"), "{error}");
        assert!(ClientOptions { api_key: Some("a\nb".into()), ..ClientOptions::default() }.credentials().is_err());
    }
}
