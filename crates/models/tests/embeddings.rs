//! Embeddings of a provider, against a server of OpenAI's wire.

#![allow(clippy::unwrap_used)]

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Json, Router,
    http::{HeaderMap, StatusCode},
    response::IntoResponse,
    routing::post,
};
use runloom_engine::retriever::Embeddings;
use runloom_models::{KeySource, ProviderConfig, ProviderEmbeddings, ProviderKind};
use serde_json::{Value, json};

type Calls = Arc<Mutex<Vec<(Option<String>, Value)>>>;

/// Answers with the length of each text, the last first; with these statuses before.
async fn serve(before: &'static [u16]) -> (SocketAddr, Calls) {
    let calls = Calls::default();
    let seen = calls.clone();
    let answer = async move |headers: HeaderMap, Json(asked): Json<Value>| {
        let key = headers.get("authorization").map(|v| v.to_str().unwrap().to_owned());
        let at = {
            let mut seen = seen.lock().unwrap();
            seen.push((key, asked.clone()));
            seen.len() - 1
        };
        if let Some(status) = before.get(at) {
            let body = json!({"error": {"message": "no, not with sk-s3cret"}});
            return (StatusCode::from_u16(*status).unwrap(), [("retry-after-ms", "1")], Json(body)).into_response();
        }
        let texts = asked["input"].as_array().unwrap();
        let vectors = texts.iter().enumerate().rev();
        let data = vectors.map(
            |(i, text)| json!({"object": "embedding", "index": i, "embedding": [text.as_str().unwrap().len(), 1]}),
        );
        let data: Vec<Value> = data.filter(|v| v["embedding"][0] != json!(0)).collect();
        Json(json!({"object": "list", "data": data, "model": "m", "usage": {"prompt_tokens": 1, "total_tokens": 1}}))
            .into_response()
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/v1/embeddings", post(answer))).await });
    (at, calls)
}

fn config(at: SocketAddr) -> ProviderConfig {
    let config =
        ProviderConfig::new(ProviderKind::OpenAi, "text-embedding-3-small").base_url(format!("http://{at}/v1"));
    config.key(KeySource::Given("sk-s3cret".into()))
}

async fn embed(config: ProviderConfig, texts: &[&str]) -> Result<Vec<Vec<f32>>, (String, bool)> {
    let embeddings = ProviderEmbeddings::new(config, Some(2)).unwrap();
    let made = embeddings.embed(texts.iter().map(ToString::to_string).collect()).await;
    made.map_err(|error| (error.message, error.retryable))
}

#[tokio::test]
async fn texts_get_their_vectors_in_their_order() {
    let (at, calls) = serve(&[]).await;
    assert_eq!(embed(config(at), &["a", "bb", "ccc"]).await.unwrap(), [[1.0, 1.0], [2.0, 1.0], [3.0, 1.0]]);
    let (key, asked) = calls.lock().unwrap().pop().unwrap();
    assert_eq!(key.as_deref(), Some("Bearer sk-s3cret"));
    assert_eq!((&asked["model"], &asked["dimensions"]), (&json!("text-embedding-3-small"), &json!(2)));
    embed(config(at).key(KeySource::None), &["a"]).await.unwrap();
    assert_eq!(calls.lock().unwrap().pop().unwrap().0, None);
}

#[tokio::test]
async fn what_may_pass_is_tried_again_and_what_stays_is_told_without_the_key() {
    let (at, calls) = serve(&[429, 503]).await;
    assert_eq!(embed(config(at), &["a"]).await.unwrap(), [[1.0, 1.0]]);
    assert_eq!(calls.lock().unwrap().len(), 3);
    let (at, calls) = serve(&[401]).await;
    let (message, retryable) = embed(config(at), &["a"]).await.unwrap_err();
    assert!(message.contains("401") && message.contains("no, not with") && !message.contains("s3cret"), "{message}");
    assert_eq!((retryable, calls.lock().unwrap().len()), (false, 1));
    let (at, _) = serve(&[]).await;
    let (message, _) = embed(config(at), &["a", ""]).await.unwrap_err();
    assert!(message.contains("1 vectors for 2 texts"), "{message}");
}

#[tokio::test]
async fn a_provider_that_says_nothing_is_not_waited_for() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = config(silent.local_addr().unwrap());
    config.waits.first_token = Duration::from_millis(200);
    let (message, retryable) = embed(config, &["a"]).await.unwrap_err();
    assert!(message.contains("no answer within 200ms") && retryable, "{message}");
}

#[test]
fn a_provider_without_embeddings_is_refused() {
    let config = ProviderConfig::new(ProviderKind::Anthropic, "claude");
    let error = ProviderEmbeddings::new(config, None).unwrap_err();
    assert_eq!(error.to_string(), "anthropic makes no embeddings; openai, gemini and ollama do");
}
