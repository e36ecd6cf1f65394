//! Tokens of an identity provider whose keys are served over HTTP and rotate.
#![allow(clippy::unwrap_used)]

use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::{Arc, Mutex},
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use http::{HeaderMap, HeaderValue};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{KeyPair, PublicKeyData};
use runloom_auth::{Authenticator, Config, Denied, Issuer};
use runloom_core::{Caller, Core, CoreOptions};
use runloom_store_memory::MemoryStore;
use serde_json::{Value, json};

/// A provider: its address, and what it answers for its keys.
struct Provider {
    issuer: String,
    answer: Arc<Mutex<String>>,
    fetches: Arc<Mutex<u32>>,
}

impl Provider {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let (answer, fetches) = (Arc::new(Mutex::new(String::new())), Arc::new(Mutex::new(0)));
        let (served, counted, base) = (answer.clone(), fetches.clone(), issuer.clone());
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let mut socket = socket.unwrap();
                let mut bytes = [0; 4096];
                let count = socket.read(&mut bytes).unwrap_or_default();
                let body = match String::from_utf8_lossy(&bytes[..count]).contains("openid-configuration") {
                    true => json!({"issuer": base, "jwks_uri": format!("{base}/keys")}).to_string(),
                    false => {
                        *counted.lock().unwrap() += 1;
                        served.lock().unwrap().clone()
                    }
                };
                let _ = write!(
                    socket,
                    "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                );
            }
        });
        Self { issuer, answer, fetches }
    }

    fn keys(&self, keys: &[(&str, &KeyPair)]) {
        let keys: Vec<Value> = keys.iter().map(|(id, key)| jwk(id, key)).collect();
        *self.answer.lock().unwrap() = json!({"keys": keys}).to_string();
    }

    fn authenticator(&self) -> Authenticator {
        let issuer = Issuer::new(self.issuer.clone(), "runloom".to_owned());
        Authenticator::new(&Config { issuers: vec![issuer], ..Config::default() }, None).unwrap()
    }

    fn claims(&self) -> Value {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        json!({
            "iss": self.issuer, "aud": "runloom", "sub": "alice", "exp": now + 600, "nbf": now - 10,
            "tenant": "acme", "scope": "runs:read threads",
        })
    }
}

fn jwk(id: &str, key: &KeyPair) -> Value {
    let point = key.der_bytes();
    let half = |at: usize| BASE64.encode(&point[at..at + 32]);
    json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": id, "x": half(1), "y": half(33)})
}

fn sign(claims: &Value, id: &str, key: &KeyPair) -> String {
    let header = Header { kid: Some(id.to_owned()), ..Header::new(Algorithm::ES256) };
    encode(&header, claims, &EncodingKey::from_ec_der(&key.serialize_der())).unwrap()
}

async fn core() -> Core {
    Core::start(CoreOptions::new(Arc::new(MemoryStore::new()))).await.unwrap()
}

async fn caller(authenticator: &Authenticator, core: &Core, token: &str) -> Result<Caller, Denied> {
    let mut headers = HeaderMap::new();
    headers.insert("authorization", HeaderValue::from_str(&format!("Bearer {token}")).unwrap());
    authenticator.caller(core, &headers, None).await
}

fn with(claims: &Value, name: &str, value: Value) -> Value {
    let mut claims = claims.clone();
    claims[name] = value;
    claims
}

#[tokio::test]
async fn a_token_gives_tenant_and_scopes() {
    let (provider, key, core) = (Provider::start(), KeyPair::generate().unwrap(), core().await);
    provider.keys(&[("one", &key)]);
    let authenticator = provider.authenticator();
    let caller = caller(&authenticator, &core, &sign(&provider.claims(), "one", &key)).await.unwrap();
    assert_eq!(caller.tenant.as_str(), "acme");
    assert_eq!(caller.principal.as_deref(), Some(&*format!("{}#alice", provider.issuer)));
    assert!(caller.may("runs:read") && caller.may("threads:write") && !caller.may("runs:write"));
}

#[tokio::test]
async fn what_is_not_a_valid_token_is_refused() {
    let (provider, key, other, core) =
        (Provider::start(), KeyPair::generate().unwrap(), KeyPair::generate().unwrap(), core().await);
    provider.keys(&[("one", &key)]);
    let authenticator = provider.authenticator();
    let claims = provider.claims();
    let now = claims["exp"].as_u64().unwrap() - 600;
    let part = |value: &Value| BASE64.encode(value.to_string());
    let none = format!("{}.{}.", part(&json!({"alg": "none", "kid": "one"})), part(&claims));
    // Signed with the public key as if it were a secret.
    let header = Header { kid: Some("one".to_owned()), ..Header::new(Algorithm::HS256) };
    let confused = encode(&header, &claims, &EncodingKey::from_secret(key.der_bytes())).unwrap();
    let mut no_expiry = claims.clone();
    no_expiry.as_object_mut().unwrap().remove("exp");
    let good = sign(&claims, "one", &key);
    let changed = {
        let parts: Vec<&str> = good.split('.').collect();
        format!("{}.{}.{}", parts[0], part(&with(&claims, "tenant", json!("other"))), parts[2])
    };
    let cases = [
        ("none", none),
        ("key confusion", confused),
        ("another key", sign(&claims, "one", &other)),
        ("unknown key", sign(&claims, "two", &key)),
        ("changed", changed),
        ("issuer", sign(&with(&claims, "iss", json!("https://elsewhere.example")), "one", &key)),
        ("audience", sign(&with(&claims, "aud", json!("another")), "one", &key)),
        ("expired", sign(&with(&claims, "exp", json!(now - 60)), "one", &key)),
        ("not yet valid", sign(&with(&claims, "nbf", json!(now + 300)), "one", &key)),
        ("no expiry", sign(&no_expiry, "one", &key)),
        ("no tenant", sign(&with(&claims, "tenant", Value::Null), "one", &key)),
        ("bad tenant", sign(&with(&claims, "tenant", json!("a/b")), "one", &key)),
        ("scopes", sign(&with(&claims, "scope", json!(7)), "one", &key)),
        ("no token", "abc".to_owned()),
        ("too long", "a".repeat(20 << 10)),
    ];
    for (case, token) in cases {
        let refused = caller(&authenticator, &core, &token).await;
        assert!(matches!(refused, Err(Denied::Invalid(_))), "{case}: {refused:?}");
    }
    assert!(caller(&authenticator, &core, &good).await.is_ok());
    // The unknown key id did not cause a fetch for each token.
    assert!(*provider.fetches.lock().unwrap() <= 2);
}

#[tokio::test]
async fn a_provider_that_fails_does_not_stop_known_tokens() {
    let (provider, key, core) = (Provider::start(), KeyPair::generate().unwrap(), core().await);
    let authenticator = provider.authenticator();
    let good = sign(&provider.claims(), "one", &key);
    for wrong in ["", "{", "[]", &"x".repeat(2 << 20)] {
        *provider.answer.lock().unwrap() = wrong.to_owned();
        // A new one each time: it waits between fetches.
        let refused = caller(&provider.authenticator(), &core, &good).await;
        assert!(matches!(refused, Err(Denied::Unavailable(_))), "{refused:?}");
    }
    // One key of a kind that is not known does not make the others invalid.
    let keys = json!({"keys": [{"kty": "lattice", "kid": "new"}, jwk("one", &key)]});
    *provider.answer.lock().unwrap() = keys.to_string();
    assert!(caller(&authenticator, &core, &good).await.is_ok());
    *provider.answer.lock().unwrap() = "down".to_owned();
    assert!(caller(&authenticator, &core, &good).await.is_ok());
}

#[test]
fn a_configuration_is_checked() {
    let issuer = |uri: &str| Config { issuers: vec![Issuer::new(uri.to_owned(), "a".to_owned())], ..Config::default() };
    for good in ["https://login.example", "http://localhost:1", "http://127.0.0.1:1"] {
        assert!(Authenticator::new(&issuer(good), None).is_ok(), "{good}");
    }
    let error = Authenticator::new(&issuer("http://login.example"), None).unwrap_err().to_string();
    assert!(error.contains("issuers[0].issuer") && error.contains("https://"), "{error}");
    let mut config = issuer("https://login.example");
    config.issuers[0].tenant = "claims.(".to_owned();
    let error = Authenticator::new(&config, None).unwrap_err().to_string();
    assert!(error.contains("issuers[0].tenant"), "{error}");
}
