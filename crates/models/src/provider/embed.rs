//! Embeddings of providers: texts in, vectors out, over the same addresses and with the same keys as their chat models.

use std::{sync::Arc, time::Duration};

use futures_util::future::{BoxFuture, FutureExt};
use genai::{
    Headers, ModelIden, ServiceTarget,
    embed::{EmbedOptions, EmbedRequest},
    resolver::{AuthData, Endpoint},
};
use runloom_engine::retriever::{Embeddings, RetrieveError};
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use super::{Inner, Provider, ProviderConfig, ProviderKind, fault::Fault, key::Secret, retry};
use crate::Error;

/// A provider's embeddings: a model whose name is that of embeddings.
#[derive(Clone, Debug)]
pub struct ProviderEmbeddings {
    inner: Arc<Inner>,
    dimensions: Option<usize>,
}

impl ProviderEmbeddings {
    /// Embeddings of a configuration, of which the options of chat models do not count. `dimensions` asks for shorter vectors
    /// than the model's own, where it can make them.
    pub fn new(config: ProviderConfig, dimensions: Option<usize>) -> Result<Self, Error> {
        if config.kind == ProviderKind::Anthropic {
            return Err(Error::NoEmbeddings { provider: config.kind.name() });
        }
        Ok(Self { inner: Provider::new(config)?.inner, dimensions })
    }
}

impl Embeddings for ProviderEmbeddings {
    fn embed(&self, texts: Vec<String>) -> BoxFuture<'static, Result<Vec<Vec<f32>>, RetrieveError>> {
        let (model, dimensions) = (self.inner.clone(), self.dimensions);
        async move {
            let line = model.line().map_err(|fault| told(fault, &model.config))?.clone();
            let on = model.clone();
            let work = async move { tried(&on, &line.client, texts, dimensions).await }.in_current_span();
            // Dropping it ends the call.
            let call = AbortOnDropHandle::new(line.lane.spawn(work));
            match call.await {
                Ok(result) => result.map_err(|fault| told(fault, &model.config)),
                Err(error) => Err(RetrieveError::passing(format!("the call broke off: {error}"))),
            }
        }
        .boxed()
    }
}

fn told(fault: Fault, config: &ProviderConfig) -> RetrieveError {
    let error = fault.of(config);
    RetrieveError { message: error.to_string(), retryable: error.retryable }
}

/// Calls, and calls again what may pass.
async fn tried(
    model: &Inner,
    client: &genai::Client,
    texts: Vec<String>,
    dimensions: Option<usize>,
) -> Result<Vec<Vec<f32>>, Fault> {
    let config = &model.config;
    let secret = config.secret().await?;
    let mut attempt = 1;
    loop {
        let call = once(config, client, texts.clone(), dimensions, secret.as_ref());
        let mut fault = match tokio::time::timeout(config.waits.first_token, call).await {
            Ok(Ok(vectors)) => return Ok(vectors),
            Ok(Err(fault)) => fault,
            Err(_) => Fault::passing(format!("no answer within {:?} (`timeout_ms`)", config.waits.first_token)),
        };
        if let Some(secret) = &secret {
            fault.message = secret.hide_in(fault.message);
        }
        let pause: Duration = retry::pause(attempt + 1, fault.retry_after);
        if !fault.try_again || attempt > config.max_retries || pause > retry::LONGEST_WAIT {
            return Err(fault);
        }
        tracing::warn!(
            model = &*config.model,
            attempt,
            error = fault.what(),
            ?pause,
            "embedding failed and is tried again"
        );
        tokio::time::sleep(pause).await;
        attempt += 1;
    }
}

async fn once(
    config: &ProviderConfig,
    client: &genai::Client,
    texts: Vec<String>,
    dimensions: Option<usize>,
    secret: Option<&Secret>,
) -> Result<Vec<Vec<f32>>, Fault> {
    let kind = config.kind;
    let address = config.address().map_err(|e| Fault::lasting(e.to_string()))?;
    let mut options = EmbedOptions::new();
    if let Some(dimensions) = dimensions {
        options = options.with_dimensions(dimensions);
    }
    let auth = match (secret, kind) {
        (Some(key), ProviderKind::Ollama) => {
            options = options
                .with_headers(Headers::from(vec![("Authorization".to_owned(), format!("Bearer {}", key.expose()))]));
            AuthData::None
        }
        (Some(key), _) => AuthData::from_single(key.expose()),
        (None, ProviderKind::OpenAi) => {
            // The library knows no call without a key but this.
            AuthData::RequestOverride { url: format!("{address}embeddings"), headers: Headers::default() }
        }
        (None, _) => AuthData::from_single(""),
    };
    let target = ServiceTarget {
        endpoint: Endpoint::from_owned(address),
        auth,
        model: ModelIden::new(kind.adapter(), &*config.model),
    };
    let count = texts.len();
    let answer = client.exec_embed(target, EmbedRequest::new_batch(texts), Some(&options)).await;
    let answer = answer.map_err(|error| Fault::read(&error))?;
    let mut made = answer.embeddings;
    made.sort_by_key(|embedding| embedding.index());
    if made.len() != count {
        return Err(Fault::lasting(format!("it gave {} vectors for {count} texts", made.len())));
    }
    Ok(made.into_iter().map(|embedding| embedding.into_vector()).collect())
}
