//! A model of a fake provider, and all that it says.
#![allow(dead_code, missing_docs, clippy::unwrap_used)]

use std::time::Duration;

use futures_util::StreamExt;
use runloom_engine::{
    List, Object, Value,
    model::{ChatModel, ChatRequest, Delta, ModelError, Usage},
    value,
};
use runloom_fake_provider::FakeProvider;
use runloom_models::{KeySource, Provider, ProviderConfig, ProviderKind};

pub const KEY: &str = "sk-test-0123456789";

/// A model of a provider, at the fake one.
pub fn config(fake: &FakeProvider, kind: ProviderKind, model: &str) -> ProviderConfig {
    let url = if kind == ProviderKind::OpenAi { fake.openai_url() } else { fake.url() };
    ProviderConfig::new(kind, model).base_url(url).key(KeySource::Given(KEY.into()))
}

pub fn model(fake: &FakeProvider, kind: ProviderKind, name: &str) -> Provider {
    Provider::new(config(fake, kind, name)).unwrap()
}

/// A request with these messages.
pub fn ask(messages: Value) -> ChatRequest {
    let Value::List(messages) = messages else { panic!("no list") };
    ChatRequest { messages, ..ChatRequest::default() }
}

pub fn hello() -> ChatRequest {
    ask(value!([{"type": "human", "content": "hello"}]))
}

/// What a call said.
#[derive(Debug, Default)]
pub struct Said {
    pub pieces: Vec<Delta>,
    pub error: Option<ModelError>,
}

impl Said {
    pub fn text(&self) -> String {
        self.pieces.iter().map(|d| d.text.as_str()).collect()
    }

    pub fn texts(&self) -> Vec<&str> {
        self.pieces.iter().map(|d| d.text.as_str()).filter(|t| !t.is_empty()).collect()
    }

    pub fn reasoning(&self) -> String {
        self.pieces.iter().map(|d| d.reasoning.as_str()).collect()
    }

    pub fn blocks(&self) -> List {
        self.pieces.iter().flat_map(|d| d.blocks.iter().cloned()).collect()
    }

    /// Each call: its id, name and arguments put together.
    pub fn calls(&self) -> Vec<(String, String, String)> {
        let mut calls: Vec<(String, String, String)> = Vec::new();
        for piece in self.pieces.iter().flat_map(|d| &d.tool_calls) {
            let at = piece.index as usize;
            calls.resize_with(calls.len().max(at + 1), Default::default);
            calls[at].0.push_str(piece.id.as_deref().unwrap_or_default());
            calls[at].1.push_str(piece.name.as_deref().unwrap_or_default());
            calls[at].2.push_str(&piece.args);
        }
        calls
    }

    pub fn usage(&self) -> Usage {
        self.pieces.iter().filter_map(|d| d.usage).fold(Usage::default(), |mut sum, usage| {
            sum += usage;
            sum
        })
    }

    pub fn metadata(&self) -> Object {
        self.pieces.last().and_then(|d| d.response_metadata.clone()).unwrap_or_default()
    }

    /// Whether it came to its end.
    pub fn is_whole(&self) -> bool {
        self.error.is_none() && self.pieces.last().is_some_and(|d| d.last)
    }

    #[track_caller]
    pub fn fault(&self) -> &ModelError {
        assert!(self.pieces.iter().all(|d| !d.last), "it failed after its end");
        self.error.as_ref().expect("no error")
    }
}

/// Calls a model, and reads to the end.
pub async fn call(model: &Provider, request: ChatRequest) -> Said {
    soon(async {
        let mut stream = model.stream(request);
        let mut said = Said::default();
        while let Some(delta) = stream.next().await {
            assert!(said.error.is_none(), "something came after an error");
            match delta {
                Ok(delta) => said.pieces.push(delta),
                Err(error) => said.error = Some(error),
            }
        }
        said
    })
    .await
}

/// What a test waits for comes soon, or it fails.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), what).await.expect("it did not come")
}
