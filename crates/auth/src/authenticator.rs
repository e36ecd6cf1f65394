//! A request's credentials to its caller.

use std::sync::Arc;

use http::{HeaderMap, header::AUTHORIZATION};
use parking_lot::RwLock;
use runloom_core::{Caller, Core, Error, Reason, scopes::ADMIN};
use runloom_net::Connection;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::{Config, ConfigError, certificates::Certificates, issuer::Issuer};

/// The header by which LangGraph's clients send a key.
const API_KEY: &str = "x-api-key";
/// The longest credentials that are looked at, in bytes.
const MAX_CREDENTIALS: usize = 16 << 10;

/// Why a call is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// It has no credentials.
    #[error("no credentials: send an API key as `authorization: Bearer`, or as `x-api-key` over HTTP")]
    Missing,
    /// Its credentials are not valid.
    #[error("{0}")]
    Invalid(String),
    /// They cannot be checked now.
    #[error("{0}")]
    Unavailable(String),
}

impl From<Denied> for Error {
    fn from(denied: Denied) -> Self {
        let reason = match denied {
            Denied::Unavailable(_) => Reason::StoreUnavailable,
            Denied::Missing | Denied::Invalid(_) => Reason::Unauthenticated,
        };
        Self::new(reason, denied.to_string())
    }
}

/// A call that is to be admitted.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The API, as metrics name it.
    pub api: &'static str,
    /// What is called: a path or a route.
    pub call: &'a str,
    /// The scope that the call needs.
    pub scope: &'a str,
    /// The headers of the request.
    pub headers: &'a HeaderMap,
    /// Its connection, if it has one.
    pub connection: Option<&'a Connection>,
}

/// Knows who calls. Cheap to clone; clones share the configuration, which can be replaced.
#[derive(Clone)]
pub struct Authenticator(Arc<Shared>);

struct Shared {
    /// SHA-256 of the operator's key.
    root: Option<[u8; 32]>,
    rules: RwLock<Arc<Rules>>,
}

struct Rules {
    issuers: Vec<Issuer>,
    certificates: Certificates,
}

impl Rules {
    fn new(config: &Config) -> Result<Arc<Self>, ConfigError> {
        let issuers = config.issuers.iter().enumerate().map(|(at, issuer)| Issuer::new(at, issuer));
        Ok(Arc::new(Self {
            issuers: issuers.collect::<Result<_, _>>()?,
            certificates: Certificates::new(&config.certificates)?,
        }))
    }
}

impl std::fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authenticator").finish_non_exhaustive()
    }
}

impl Authenticator {
    /// Accepts API keys, what the configuration names, and the operator's own key, which may do everything in every tenant.
    pub fn new(config: &Config, root_key: Option<&str>) -> Result<Self, ConfigError> {
        let root = root_key.map(|key| Sha256::digest(key.as_bytes()).into());
        let rules = RwLock::new(Rules::new(config)?);
        Ok(Self(Arc::new(Shared { root, rules })))
    }

    /// Replaces the configuration. On an error nothing changes.
    pub fn reload(&self, config: &Config) -> Result<(), ConfigError> {
        *self.0.rules.write() = Rules::new(config)?;
        Ok(())
    }

    /// The caller of a request, by its key or token, or else by its client certificate, if a grant of it covers `scope`. Refusals are logged and
    /// counted; `call` names what was called: a path or a route, and `api` the API.
    pub async fn admit(&self, core: &Core, request: Call<'_>) -> Result<Caller, Error> {
        let peer = request.connection.and_then(Connection::peer).map(|peer| peer.ip());
        let caller = self.caller(core, request.headers, request.connection).await;
        let admitted = match &caller {
            Ok(caller) => caller.check(request.scope),
            Err(denied) => Err(denied.clone().into()),
        };
        if let Err(error) = &admitted {
            metrics::counter!("runloom_calls_denied_total", "api" => request.api, "reason" => error.reason.name())
                .increment(1);
            let known = caller.as_ref().ok();
            tracing::warn!(
                target: "runloom::audit",
                api = request.api, call = request.call, ?peer, reason = error.reason.name(),
                principal = known.and_then(|caller| caller.principal.as_deref()),
                tenant = known.map(|caller| caller.tenant.as_str()),
                "call denied: {}", error.message
            );
        }
        admitted?;
        Ok(Caller { peer, ..caller? })
    }

    /// The caller of a request, whatever it may do.
    pub async fn caller(
        &self,
        core: &Core,
        headers: &HeaderMap,
        connection: Option<&Connection>,
    ) -> Result<Caller, Denied> {
        match credentials(headers)? {
            Some(secret) if self.is_root(secret) => Ok(root()),
            Some(secret) if secret.starts_with("rl_") => by_key(core, secret).await,
            Some(token) => self.by_token(token).await,
            None => self.by_certificate(connection),
        }
    }

    fn is_root(&self, secret: &str) -> bool {
        let hash: [u8; 32] = Sha256::digest(secret.as_bytes()).into();
        self.0.root.is_some_and(|root| root.ct_eq(&hash).into())
    }

    async fn by_token(&self, token: &str) -> Result<Caller, Denied> {
        let rules = self.0.rules.read().clone();
        let named = Issuer::named_by(token)
            .ok_or_else(|| Denied::Invalid("the credentials are neither a key nor a token".to_owned()))?;
        let issuer = rules.issuers.iter().find(|issuer| issuer.issuer == named);
        issuer.ok_or_else(|| Denied::Invalid("the issuer of the token is not accepted".to_owned()))?.caller(token).await
    }

    fn by_certificate(&self, connection: Option<&Connection>) -> Result<Caller, Denied> {
        let rules = self.0.rules.read().clone();
        let certificates = connection.map(Connection::certificates).filter(|certificates| !certificates.is_empty());
        match certificates {
            Some(certificates) if !rules.certificates.is_empty() => rules
                .certificates
                .caller(certificates)
                .ok_or_else(|| Denied::Invalid("no entry of `certificates` matches the client certificate".to_owned())),
            _ => Err(Denied::Missing),
        }
    }
}

async fn by_key(core: &Core, secret: &str) -> Result<Caller, Denied> {
    let found = core.find_key(secret).await.map_err(|error| Denied::Unavailable(error.message))?;
    let key = found.ok_or_else(|| Denied::Invalid("the API key is unknown, was revoked, or has expired".to_owned()))?;
    Ok(Caller {
        tenant: key.tenant,
        principal: Some(format!("key:{}", key.id).into()),
        scopes: Some(key.scopes.iter().map(|scope| scope.as_str().into()).collect()),
        peer: None,
    })
}

/// The operator.
fn root() -> Caller {
    Caller { principal: Some("operator".into()), scopes: Some(Arc::new([ADMIN.into()])), ..Caller::default() }
}

/// The key or the token of a request.
fn credentials(headers: &HeaderMap) -> Result<Option<&str>, Denied> {
    let invalid = |what: &str| Denied::Invalid(format!("the header `{what}` is not valid"));
    let (name, secret) = match (headers.get(AUTHORIZATION), headers.get(API_KEY)) {
        (Some(value), _) => {
            let text = value.to_str().map_err(|_| invalid("authorization"))?;
            let (scheme, secret) = text.split_once(' ').ok_or_else(|| invalid("authorization"))?;
            if !scheme.eq_ignore_ascii_case("bearer") {
                return Err(Denied::Invalid(
                    "the header `authorization` must be `Bearer` and a key or a token".to_owned(),
                ));
            }
            ("authorization", secret)
        }
        (None, Some(value)) => (API_KEY, value.to_str().map_err(|_| invalid(API_KEY))?),
        (None, None) => return Ok(None),
    };
    let secret = secret.trim();
    if secret.is_empty() || secret.len() > MAX_CREDENTIALS { Err(invalid(name)) } else { Ok(Some(secret)) }
}
