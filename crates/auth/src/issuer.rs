//! Tokens of an OpenID Connect provider: signature, issuer, audience and times are checked, then the claims give tenant and scopes.

use std::{collections::HashSet, sync::Arc};

use cel::{Context, Program};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header, jwk::Jwk};
use runloom_core::{Caller, store::TenantId};
use serde_json::Value;

use crate::{
    authenticator::Denied,
    config::{self, ConfigError, invalid},
    jwks::Jwks,
};

/// The algorithms that are accepted. None is symmetric: a public key would be the secret.
const ALGORITHMS: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];
/// How far the clocks of the provider and of this server may differ, in seconds.
const LEEWAY: u64 = 30;
/// The largest token, in bytes.
const MAX_TOKEN: usize = 16 << 10;

/// An identity provider.
pub(crate) struct Issuer {
    pub issuer: String,
    audience: String,
    jwks: Jwks,
    tenant: Program,
    scopes: Program,
}

impl Issuer {
    pub fn new(at: usize, config: &config::Issuer) -> Result<Self, ConfigError> {
        let field = |name: &str| format!("issuers[{at}].{name}");
        for (name, uri) in [("issuer", Some(&config.issuer)), ("jwks_uri", config.jwks_uri.as_ref())] {
            if let Some(uri) = uri {
                check_uri(uri).map_err(|reason| invalid(field(name), reason))?;
            }
        }
        let compile = |name: &str, text: &str| Program::compile(text).map_err(|error| invalid(field(name), error));
        Ok(Self {
            issuer: config.issuer.clone(),
            audience: config.audience.clone(),
            jwks: Jwks::new(config.issuer.clone(), config.jwks_uri.clone())
                .map_err(|reason| invalid(field("issuer"), reason))?,
            tenant: compile("tenant", &config.tenant)?,
            scopes: compile("scopes", &config.scopes)?,
        })
    }

    /// The issuer that a token names, before anything of it is verified.
    pub fn named_by(token: &str) -> Option<String> {
        if token.len() > MAX_TOKEN {
            return None;
        }
        let mut validation = Validation::default();
        validation.insecure_disable_signature_validation();
        validation.validate_aud = false;
        validation.validate_exp = false;
        validation.required_spec_claims = HashSet::new();
        validation.algorithms = ALGORITHMS.to_vec();
        let claims = decode::<Value>(token, &DecodingKey::from_secret(&[]), &validation).ok()?.claims;
        Some(claims.get("iss")?.as_str()?.to_owned())
    }

    /// The caller of a token.
    pub async fn caller(&self, token: &str) -> Result<Caller, Denied> {
        let header = decode_header(token).map_err(|error| refused(&error))?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(Denied::Invalid(format!("the algorithm {:?} of the token is not accepted", header.alg)));
        }
        let key =
            self.jwks.key(header.kid.as_deref()).await.map_err(|reason| {
                Denied::Unavailable(format!("the keys of {} cannot be read: {reason}", self.issuer))
            })?;
        let key = key.ok_or_else(|| Denied::Invalid("the key of the token is not one of its issuer".to_owned()))?;
        let claims = self.verify(token, header.alg, &key)?;
        let subject = claims.get("sub").and_then(Value::as_str).unwrap_or("unknown");
        let principal: Arc<str> = format!("{}#{subject}", self.issuer).into();
        let (tenant, scopes) = self.map(&claims)?;
        Ok(Caller { tenant, principal: Some(principal), scopes: Some(scopes), peer: None })
    }

    fn verify(&self, token: &str, algorithm: Algorithm, key: &Jwk) -> Result<Value, Denied> {
        // What the key says it is for decides, where it says so; its kind always.
        let named = key.common.key_algorithm.map(|named| named.to_string());
        if named.is_some_and(|named| named != format!("{algorithm:?}")) {
            return Err(Denied::Invalid("the algorithm of the token is not that of its key".to_owned()));
        }
        let decoding = DecodingKey::from_jwk(key).map_err(|error| refused(&error))?;
        let mut validation = Validation::new(algorithm);
        validation.leeway = LEEWAY;
        validation.validate_nbf = true;
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[&self.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        Ok(decode::<Value>(token, &decoding, &validation).map_err(|error| refused(&error))?.claims)
    }

    /// The tenant and the scopes of verified claims.
    fn map(&self, claims: &Value) -> Result<(TenantId, Arc<[Arc<str>]>), Denied> {
        let mut context = Context::default();
        context.add_variable("claims", claims).map_err(|error| Denied::Invalid(error.to_string()))?;
        let unfit = |what: &str, why: String| Denied::Invalid(format!("the claims of the token give no {what}: {why}"));
        let tenant = match self.tenant.execute(&context).map_err(|error| unfit("tenant", error.to_string()))? {
            cel::Value::String(name) => TenantId::new(&name).map_err(|error| unfit("tenant", error.to_string()))?,
            other => return Err(unfit("tenant", format!("{:?} is not a string", other.type_of()))),
        };
        let scopes = match self.scopes.execute(&context).map_err(|error| unfit("scopes", error.to_string()))? {
            cel::Value::String(names) => names.split_whitespace().map(Arc::from).collect(),
            cel::Value::List(names) => names
                .iter()
                .map(|name| match name {
                    cel::Value::String(name) => Ok(Arc::from(name.as_str())),
                    other => Err(unfit("scopes", format!("{:?} is not a string", other.type_of()))),
                })
                .collect::<Result<_, _>>()?,
            other => return Err(unfit("scopes", format!("{:?} is not a list", other.type_of()))),
        };
        Ok((tenant, scopes))
    }
}

fn refused(error: &jsonwebtoken::errors::Error) -> Denied {
    use jsonwebtoken::errors::ErrorKind as E;
    Denied::Invalid(match error.kind() {
        E::ExpiredSignature => "the token has expired".to_owned(),
        E::ImmatureSignature => "the token is not valid yet".to_owned(),
        E::InvalidAudience => "the token is for another audience".to_owned(),
        E::InvalidIssuer => "the token has another issuer".to_owned(),
        E::InvalidSignature => "the signature of the token is not valid".to_owned(),
        E::InvalidAlgorithm | E::InvalidAlgorithmName => "the algorithm of the token is not accepted".to_owned(),
        E::MissingRequiredClaim(claim) => format!("the token has no claim `{claim}`"),
        _ => "the token is not valid".to_owned(),
    })
}

/// An issuer is reached by https, so that nobody between can give other keys; by http only on this machine.
fn check_uri(uri: &str) -> Result<(), String> {
    let parsed: http::Uri = uri.parse().map_err(|error| format!("`{uri}` is not a URL: {error}"))?;
    let host = parsed.host().unwrap_or_default();
    let is_local = host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    match parsed.scheme_str() {
        Some("https") => Ok(()),
        Some("http") if is_local => Ok(()),
        _ => Err(format!("`{uri}` must begin with https://")),
    }
}
