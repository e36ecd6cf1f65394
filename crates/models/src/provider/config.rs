//! What a provider's model is made of.

use std::{sync::Arc, time::Duration};

use super::{ChatOptions, KeySource, ProviderKind};
use crate::Error;

/// A provider's model, as it is configured.
#[derive(Clone, Debug)]
pub struct ProviderConfig {
    /// Whose wire it speaks.
    pub kind: ProviderKind,
    /// The model's name at the provider.
    pub model: Arc<str>,
    /// The address of its API; the provider's own where there is none.
    pub base_url: Option<Arc<str>>,
    /// Where its key is.
    pub key: KeySource,
    /// What it is asked with: temperature, a limit of tokens.
    pub options: ChatOptions,
    /// How long is waited for what.
    pub waits: Waits,
    /// How often a call is tried again that failed before its first token.
    pub max_retries: u32,
    /// The most bytes of one answer: text, reasoning, arguments, images.
    pub max_message_bytes: usize,
}

/// How long a call waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waits {
    /// For a connection.
    pub connect: Duration,
    /// For the first piece of an answer, from the request on.
    pub first_token: Duration,
    /// For anything at all, once an answer has begun.
    pub silence: Duration,
}

impl Default for Waits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            first_token: Duration::from_secs(120),
            silence: Duration::from_secs(60),
        }
    }
}

impl ProviderConfig {
    /// A model with its provider's own address, usual key and defaults.
    pub fn new(kind: ProviderKind, model: impl Into<Arc<str>>) -> Self {
        Self {
            kind,
            model: model.into(),
            base_url: None,
            key: KeySource::Usual,
            options: ChatOptions::default(),
            waits: Waits::default(),
            max_retries: 2,
            max_message_bytes: 16 << 20,
        }
    }

    /// With an API elsewhere.
    #[must_use]
    pub fn base_url(mut self, url: impl Into<Arc<str>>) -> Self {
        self.base_url = Some(url.into());
        self
    }

    /// With a key from elsewhere.
    #[must_use]
    pub fn key(mut self, key: KeySource) -> Self {
        self.key = key;
        self
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        // Some providers have it in the path of what is called: it must not lead elsewhere at them.
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "._:/@+-".contains(c);
        if !self.model.chars().all(is_plain) || self.model.split('/').any(|part| ["", ".", ".."].contains(&part)) {
            return Err(Error::ModelName { name: self.model.to_string() });
        }
        if let Some(url) = &self.base_url {
            check_url(url)?;
        }
        Ok(())
    }

    /// The address that is called, with a slash at its end, and whether it is what the document or program named.
    pub(crate) fn address(&self) -> Result<String, Error> {
        let named = self.base_url.as_deref().map(str::to_owned);
        let set =
            || self.kind.url_variables().iter().find_map(|name| std::env::var(name).ok().filter(|v| !v.is_empty()));
        let Some(url) = named.or_else(set) else { return Ok(self.kind.url().to_owned()) };
        // Ollama's variable may be a host and a port.
        let url = if url.contains("://") { url } else { format!("http://{url}") };
        let mut url = check_url(&url)?;
        if url.path() == "/" {
            url.set_path(&format!("/{}", self.kind.version()));
        } else if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        Ok(url.into())
    }
}

/// An address that may be called. What it says goes into errors, so it holds no password.
pub(crate) fn check_url(url: &str) -> Result<reqwest::Url, Error> {
    let wrong = |why: &str| Error::BaseUrl { why: why.to_owned() };
    let parsed = reqwest::Url::parse(url).map_err(|e| wrong(&format!("it is no URL: {e}")))?;
    if !matches!(parsed.scheme(), "http" | "https") {
        return Err(wrong("it has to begin with http:// or https://"));
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err(wrong("it names a user or a password; a key belongs into the environment (`api_key_env`)"));
    }
    if parsed.query().is_some() || parsed.fragment().is_some() {
        return Err(wrong("it has a query or a fragment; write it up to the path, as in http://127.0.0.1:8000/v1"));
    }
    Ok(parsed)
}
