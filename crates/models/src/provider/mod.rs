//! Models of providers: OpenAI and what speaks its wire, Anthropic, Gemini, Ollama.

mod access;
mod answer;
mod call;
mod client;
mod config;
mod content;
mod embed;
mod fault;
mod init;
mod key;
mod kind;
mod lines;
mod options;
mod request;
mod retry;
mod wire;

use std::sync::{Arc, OnceLock};

use futures_util::stream::{self, BoxStream, StreamExt};
use runloom_engine::model::{ChatModel, ChatRequest, Delta, ModelError, ModelInfo};

pub use access::{Allowed, ModelAccess};
pub use config::{ProviderConfig, Waits};
pub use embed::ProviderEmbeddings;
pub use init::init_chat_model;
pub use key::{KeySource, Secret};
pub use kind::ProviderKind;
pub use options::ChatOptions;

use self::fault::Fault;
use crate::Error;

/// A chat model of a provider, over the network.
///
/// A call takes a connection of the model's own pool. Dropping the call's stream closes it.
#[derive(Clone, Debug)]
pub struct Provider {
    inner: Arc<Inner>,
}

/// What all calls of a model share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub config: ProviderConfig,
    /// Made with the first call.
    client: OnceLock<reqwest::Client>,
}

impl Provider {
    /// A model of a configuration. No key is looked for before the first call, so that what has none can be loaded.
    pub fn new(config: ProviderConfig) -> Result<Self, Error> {
        config.check()?;
        Ok(Self { inner: Arc::new(Inner { config, client: OnceLock::new() }) })
    }

    /// What it was made of.
    pub fn config(&self) -> &ProviderConfig {
        &self.inner.config
    }
}

impl Inner {
    /// The client, made if there is none yet.
    fn client(&self) -> Result<&reqwest::Client, Fault> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let made = client::make(&self.config.waits).map_err(Fault::lasting)?;
        Ok(self.client.get_or_init(|| made))
    }
}

impl ChatModel for Provider {
    fn name(&self) -> &str {
        self.inner.config.kind.class()
    }

    fn info(&self) -> ModelInfo {
        ModelInfo { provider: self.inner.config.kind.name().into(), model: self.inner.config.model.clone() }
    }

    fn stream(&self, request: ChatRequest) -> BoxStream<'static, Result<Delta, ModelError>> {
        let call = call::Call::new(self.inner.clone(), request);
        stream::unfold(call, |mut call| async move { Some((call.next().await?, call)) }).boxed()
    }
}
