//! The HTTP client of a model, and the requests it sends.

use std::time::Duration;

use reqwest::{
    RequestBuilder, Response,
    header::{CONTENT_TYPE, HeaderValue},
    redirect::Policy,
};
use serde_json::Value as Json;

use super::{ProviderConfig, ProviderKind, Waits, fault::Fault, key::Secret, wire};

/// A client with a pool of its own.
pub(crate) fn make(waits: &Waits) -> Result<reqwest::Client, String> {
    // Another part of the program may have done so; either is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .user_agent(concat!("runloom/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(waits.connect)
        .tcp_nodelay(true)
        // A redirect would take the key elsewhere.
        .redirect(Policy::none())
        // A small body that unpacks into a large one would pass every limit.
        .no_gzip()
        .pool_idle_timeout(Duration::from_secs(60))
        .build()
        .map_err(|error| format!("no HTTP client can be made: {error}"))
}

/// A request to a path under the model's address, with its key.
pub(crate) fn request(
    client: &reqwest::Client,
    config: &ProviderConfig,
    secret: Option<&Secret>,
    path: &str,
    body: &Json,
) -> Result<RequestBuilder, Fault> {
    let address = config.address().map_err(|e| Fault::lasting(e.to_string()))?;
    let mut request = client
        .post(format!("{address}{path}"))
        .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
        .body(body.to_string());
    if config.kind == ProviderKind::Anthropic {
        request = request.header("anthropic-version", wire::anthropic::VERSION);
    }
    let Some(secret) = secret else { return Ok(request) };
    let (name, value) = match config.kind {
        ProviderKind::OpenAi | ProviderKind::Ollama => ("authorization", format!("Bearer {}", secret.expose())),
        ProviderKind::Anthropic => ("x-api-key", secret.expose().to_owned()),
        ProviderKind::Gemini => ("x-goog-api-key", secret.expose().to_owned()),
    };
    let mut value = HeaderValue::from_str(&value).map_err(|_| Fault::lasting("the key is not a header value"))?;
    value.set_sensitive(true);
    Ok(request.header(name, value))
}

/// The whole body of an answer; none if it is longer than `limit` bytes.
pub(crate) async fn body(response: &mut Response, limit: usize) -> Result<Option<Vec<u8>>, Fault> {
    let mut body = Vec::new();
    while let Some(more) = response.chunk().await.map_err(|e| Fault::of_connection(&e))? {
        if body.len() + more.len() > limit {
            return Ok(None);
        }
        body.extend_from_slice(&more);
    }
    Ok(Some(body))
}
