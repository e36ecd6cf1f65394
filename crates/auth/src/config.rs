//! The file of `--auth`.

use std::path::{Path, PathBuf};

use runloom_core::{scopes::check_grant, store::TenantId};
use serde::Deserialize;

/// Who is accepted beside callers with API keys.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Identity providers whose tokens are accepted.
    #[serde(default)]
    pub issuers: Vec<Issuer>,
    /// Client certificates that are accepted, with mutual TLS. The first entry that matches decides.
    #[serde(default)]
    pub certificates: Vec<Certificate>,
}

/// An OpenID Connect provider.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Issuer {
    /// The `iss` of its tokens: an https URL, or http on this machine.
    pub issuer: String,
    /// The `aud` that tokens must have.
    pub audience: String,
    /// Where its keys are. Default: as its `/.well-known/openid-configuration` says.
    pub jwks_uri: Option<String>,
    /// The tenant, as a CEL expression of `claims` that returns a string. Default: `claims.tenant`.
    #[serde(default = "default_tenant")]
    pub tenant: String,
    /// The scopes, as a CEL expression of `claims` that returns a list, or a string with spaces. Default: `claims.scope`.
    #[serde(default = "default_scopes")]
    pub scopes: String,
}

impl Issuer {
    /// A provider whose tokens have the tenant in the claim `tenant`, and the scopes in `scope`.
    pub fn new(issuer: String, audience: String) -> Self {
        Self { issuer, audience, jwks_uri: None, tenant: default_tenant(), scopes: default_scopes() }
    }
}

/// Which certificate is which caller.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// The URI (`spiffe://acme/ns/orders/*`) or the DNS name (`*.orders.internal`) in the certificate; `*` matches any characters.
    pub name: String,
    /// Its tenant. Default: `default`.
    #[serde(default)]
    pub tenant: Option<String>,
    /// What it may do.
    pub scopes: Vec<String>,
}

fn default_tenant() -> String {
    "claims.tenant".to_owned()
}

fn default_scopes() -> String {
    "claims.scope".to_owned()
}

/// Why authentication cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not valid.
    #[error("{path}: {reason}", path = path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why not, with the line.
        reason: String,
    },
    /// An entry is not valid.
    #[error("{entry}: {reason}")]
    Invalid {
        /// The entry: `issuers[0].tenant`.
        entry: String,
        /// Why not.
        reason: String,
    },
}

impl Config {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
        serde_saphyr::from_str(&text)
            .map_err(|error| ConfigError::Parse { path: path.into(), reason: error.to_string() })
    }
}

/// The error of an entry.
pub(crate) fn invalid(entry: impl Into<String>, reason: impl ToString) -> ConfigError {
    ConfigError::Invalid { entry: entry.into(), reason: reason.to_string() }
}

/// A tenant of the file.
pub(crate) fn tenant(entry: &str, name: Option<&str>) -> Result<TenantId, ConfigError> {
    name.map_or_else(|| Ok(TenantId::default()), |name| TenantId::new(name).map_err(|error| invalid(entry, error)))
}

/// Scopes of the file.
pub(crate) fn check_scopes(entry: &str, scopes: &[String]) -> Result<(), ConfigError> {
    scopes.iter().try_for_each(|scope| check_grant(scope).map_err(|reason| invalid(entry, reason)))
}
