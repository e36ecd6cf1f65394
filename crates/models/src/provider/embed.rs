//! Embeddings of providers: texts in, vectors out, over the same addresses and with the same keys as their chat models.

use std::{sync::Arc, time::Duration};

use futures_util::future::{BoxFuture, FutureExt};
use runloom_engine::retriever::{Embeddings, RetrieveError};
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::{Inner, Provider, ProviderConfig, ProviderKind, client, fault::Fault, key::Secret, retry};
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
        async move { tried(&model, texts, dimensions).await.map_err(|fault| told(fault, &model.config)) }.boxed()
    }
}

fn told(fault: Fault, config: &ProviderConfig) -> RetrieveError {
    let error = fault.of(config);
    RetrieveError { message: error.to_string(), retryable: error.retryable }
}

/// Calls, and calls again what may pass.
async fn tried(model: &Inner, texts: Vec<String>, dimensions: Option<usize>) -> Result<Vec<Vec<f32>>, Fault> {
    let config = &model.config;
    let (client, secret) = (model.client()?, config.secret().await?);
    let (path, body) = request(config, &texts, dimensions);
    let mut attempt = 1;
    loop {
        let call = once(config, client, secret.as_ref(), &path, &body, texts.len());
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

/// The path and the body of a request.
fn request(config: &ProviderConfig, texts: &[String], dimensions: Option<usize>) -> (String, Json) {
    let model = &*config.model;
    match config.kind {
        ProviderKind::Gemini => {
            let requests = texts.iter().map(|text| {
                // Gemini refuses an empty text.
                let text = if text.trim().is_empty() { " " } else { text };
                let mut one = json!({
                    "model": format!("models/{model}"), "content": {"parts": [{"text": text}]},
                    "taskType": "SEMANTIC_SIMILARITY",
                });
                if let Some(dimensions) = dimensions {
                    one["outputDimensionality"] = json!(dimensions);
                }
                one
            });
            (format!("models/{model}:batchEmbedContents"), json!({"requests": Json::from_iter(requests)}))
        }
        kind => {
            let path = if kind == ProviderKind::Ollama { "api/embed" } else { "embeddings" };
            let mut body = json!({"model": model, "input": texts});
            if let Some(dimensions) = dimensions {
                body["dimensions"] = json!(dimensions);
            }
            (path.to_owned(), body)
        }
    }
}

/// The vectors of an answer, in any provider's form.
#[derive(Deserialize)]
struct Vectors {
    /// OpenAI's.
    #[serde(default)]
    data: Vec<Indexed>,
    /// Gemini's and Ollama's.
    #[serde(default)]
    embeddings: Vec<Vector>,
}

#[derive(Deserialize)]
struct Indexed {
    index: usize,
    embedding: Vec<f32>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Vector {
    Plain(Vec<f32>),
    Named { values: Vec<f32> },
}

/// The most bytes of an answer.
const MAX_ANSWER: usize = 256 << 20;

async fn once(
    config: &ProviderConfig,
    client: &reqwest::Client,
    secret: Option<&Secret>,
    path: &str,
    body: &Json,
    count: usize,
) -> Result<Vec<Vec<f32>>, Fault> {
    let sent = client::request(client, config, secret, path, body)?.send().await;
    let mut response = sent.map_err(|error| Fault::of_connection(&error))?;
    let (status, headers) = (response.status(), response.headers().clone());
    let limit = if status.is_success() { MAX_ANSWER } else { config.max_message_bytes };
    let Some(body) = client::body(&mut response, limit).await? else {
        return Err(Fault::lasting(format!("its answer is longer than {limit} bytes")));
    };
    if !status.is_success() {
        return Err(Fault::of_answer(status, &String::from_utf8_lossy(&body), &headers));
    }
    let mut vectors: Vectors = serde_json::from_slice(&body).map_err(|_| {
        Fault::lasting("what it sent is not what this provider sends; does `base_url` name the right server?")
    })?;
    vectors.data.sort_by_key(|vector| vector.index);
    let indexed = vectors.data.into_iter().map(|vector| vector.embedding);
    let others = vectors.embeddings.into_iter().map(|vector| match vector {
        Vector::Plain(values) | Vector::Named { values } => values,
    });
    let vectors: Vec<Vec<f32>> = indexed.chain(others).collect();
    if vectors.len() != count {
        return Err(Fault::lasting(format!("it gave {} vectors for {count} texts", vectors.len())));
    }
    Ok(vectors)
}
