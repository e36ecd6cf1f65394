//! The keys of an identity provider: fetched when a token names one that is not known, and again from time to time.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use jsonwebtoken::jwk::{Jwk, JwkSet};
use parking_lot::RwLock;
use reqwest::{Client, redirect};
use serde_json::Value;
use tokio::sync::Mutex;

/// How old keys may be before they are fetched again.
const MAX_AGE: Duration = Duration::from_secs(600);
/// The least time between two fetches, so that tokens with invented key ids cause none.
const MIN_INTERVAL: Duration = Duration::from_secs(10);
/// How long a fetch may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The largest answer of a provider, in bytes.
const MAX_BYTES: usize = 1 << 20;
/// The most keys of a provider.
const MAX_KEYS: usize = 200;

/// The keys of a provider.
pub(crate) struct Jwks {
    client: Client,
    issuer: String,
    uri: Option<String>,
    current: RwLock<Keys>,
    /// When the last fetch began. One fetches; the others wait for it.
    fetching: Mutex<Option<Instant>>,
}

#[derive(Clone, Default)]
struct Keys {
    keys: Arc<Vec<Jwk>>,
    fetched: Option<Instant>,
}

impl Jwks {
    pub fn new(issuer: String, uri: Option<String>) -> Result<Self, String> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().timeout(TIMEOUT).redirect(redirect::Policy::none()).build();
        let client = client.map_err(|error| error.to_string())?;
        Ok(Self { client, issuer, uri, current: RwLock::default(), fetching: Mutex::default() })
    }

    /// The key of this id, or the only key for a token without one. `Err`: the provider does not answer and no keys are known.
    pub async fn key(&self, id: Option<&str>) -> Result<Option<Jwk>, String> {
        let now = Instant::now();
        let known = self.current.read().clone();
        let is_fresh = known.fetched.is_some_and(|at| now.duration_since(at) < MAX_AGE);
        if is_fresh && let Some(key) = find(&known.keys, id) {
            return Ok(Some(key));
        }
        let failure = self.refresh(now).await.err();
        let current = self.current.read().clone();
        match failure {
            // Keys stay valid while the provider is down.
            Some(reason) if current.fetched.is_none() => Err(reason),
            Some(reason) => {
                tracing::warn!(
                    issuer = self.issuer,
                    reason,
                    "cannot fetch the keys of the identity provider; the known ones stay in use"
                );
                Ok(find(&current.keys, id))
            }
            None => Ok(find(&current.keys, id)),
        }
    }

    async fn refresh(&self, since: Instant) -> Result<(), String> {
        let mut last = self.fetching.lock().await;
        // Somebody has fetched while this call waited.
        if self.current.read().fetched.is_some_and(|at| at >= since) {
            return Ok(());
        }
        if last.is_some_and(|at| at.elapsed() < MIN_INTERVAL) {
            return match self.current.read().fetched {
                Some(_) => Ok(()),
                None => Err("its keys could not be fetched; trying again in a few seconds".to_owned()),
            };
        }
        *last = Some(Instant::now());
        let keys = self.fetch().await?;
        *self.current.write() = Keys { keys: Arc::new(keys), fetched: Some(Instant::now()) };
        Ok(())
    }

    async fn fetch(&self) -> Result<Vec<Jwk>, String> {
        let uri = match &self.uri {
            Some(uri) => uri.clone(),
            None => {
                let base = self.issuer.trim_end_matches('/');
                let found = self.get(&format!("{base}/.well-known/openid-configuration")).await?;
                let uri = found.get("jwks_uri").and_then(Value::as_str);
                uri.ok_or("its openid-configuration has no jwks_uri")?.to_owned()
            }
        };
        let set: JwkSet = serde_json::from_value(known_kinds(self.get(&uri).await?))
            .map_err(|error| format!("{uri} is not a JSON Web Key Set: {error}"))?;
        if set.keys.len() > MAX_KEYS {
            return Err(format!("{uri} has more than {MAX_KEYS} keys"));
        }
        Ok(set.keys)
    }

    async fn get(&self, uri: &str) -> Result<Value, String> {
        let failed = |error: reqwest::Error| format!("{uri} does not answer: {}", error.without_url());
        let response = self.client.get(uri).send().await.map_err(failed)?.error_for_status().map_err(failed)?;
        let (mut body, mut bytes) = (response.bytes_stream(), Vec::new());
        while let Some(chunk) = body.next().await {
            bytes.extend_from_slice(&chunk.map_err(failed)?);
            if bytes.len() > MAX_BYTES {
                return Err(format!("the answer of {uri} is larger than {MAX_BYTES} bytes"));
            }
        }
        serde_json::from_slice(&bytes).map_err(|error| format!("{uri} is not JSON: {error}"))
    }
}

/// Drops keys of kinds that the library does not know: one of them would make the whole set invalid.
fn known_kinds(mut set: Value) -> Value {
    if let Some(keys) = set.get_mut("keys").and_then(Value::as_array_mut) {
        keys.retain(|key| serde_json::from_value::<Jwk>(key.clone()).is_ok());
    }
    set
}

fn find(keys: &[Jwk], id: Option<&str>) -> Option<Jwk> {
    match (id, keys) {
        (Some(id), keys) => keys.iter().find(|key| key.common.key_id.as_deref() == Some(id)).cloned(),
        (None, [only]) => Some(only.clone()),
        (None, _) => None,
    }
}
