//! The HTTP client under the provider's library.

use std::time::Duration;

use reqwest::redirect::Policy;

use super::Waits;

/// A client with a pool of its own.
pub(crate) fn make(waits: &Waits) -> Result<genai::Client, String> {
    // Another part of the program may have done so; either is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .user_agent(concat!("runloom/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(waits.connect)
        .tcp_nodelay(true)
        // A redirect would take the key elsewhere.
        .redirect(Policy::none())
        // A small body that unpacks into a large one would pass every limit.
        .no_gzip()
        .pool_idle_timeout(Duration::from_secs(60))
        .build()
        .map_err(|error| format!("no HTTP client can be made: {error}"))?;
    genai::Client::builder().with_reqwest(client).build().map_err(|error| format!("no client can be made: {error}"))
}
