//! Models of providers: OpenAI and what speaks its wire, Anthropic, Gemini, Ollama.

mod access;
mod call;
mod client;
mod config;
mod content;
mod embed;
mod fault;
mod frames;
mod init;
mod key;
mod kind;
mod lane;
mod options;
mod request;
mod response;
mod retry;

use std::sync::{Arc, OnceLock};

use futures_util::stream::{self, BoxStream, StreamExt};
use runloom_engine::model::{ChatModel, ChatRequest, Delta, ModelError, ModelInfo};
use tokio::{runtime::Handle, sync::mpsc};
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

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
    line: OnceLock<Line>,
}

/// Where calls are made: a client with its connections, and the thread that reads them.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub client: genai::Client,
    lane: Handle,
}

impl Provider {
    /// A model of a configuration. No key is looked for before the first call, so that what has none can be loaded.
    pub fn new(config: ProviderConfig) -> Result<Self, Error> {
        config.check()?;
        Ok(Self { inner: Arc::new(Inner { config, line: OnceLock::new() }) })
    }

    /// What it was made of.
    pub fn config(&self) -> &ProviderConfig {
        &self.inner.config
    }
}

impl Inner {
    /// The client and its thread, made where there are none yet.
    fn line(&self) -> Result<&Line, Fault> {
        if let Some(line) = self.line.get() {
            return Ok(line);
        }
        let client = client::make(&self.config.waits).map_err(Fault::lasting)?;
        let made = Line { client, lane: lane::pick().map_err(Fault::lasting)? };
        Ok(self.line.get_or_init(|| made))
    }
}

/// How many pieces may wait for who asked.
const AHEAD: usize = 64;

/// The pieces of a call as they come from the thread that reads them.
struct Pieces {
    coming: mpsc::Receiver<Result<Delta, ModelError>>,
    /// Dropping it ends the call.
    _call: AbortOnDropHandle<()>,
}

/// A call as it is read: it begins when it is first asked for something.
enum Reading {
    Idle(Arc<Inner>, ChatRequest),
    Begun(Pieces),
    Over,
}

/// Begins a call.
fn begin(model: Arc<Inner>, request: ChatRequest) -> Result<Pieces, ModelError> {
    let line = model.line().map_err(|fault| fault.of(&model.config))?.clone();
    let (pieces, coming) = mpsc::channel(AHEAD);
    let mut call = call::Call::new(model, line.client, request);
    let work = async move {
        while let Some(piece) = call.next().await {
            if pieces.send(piece).await.is_err() {
                return;
            }
        }
    };
    Ok(Pieces { coming, _call: AbortOnDropHandle::new(line.lane.spawn(work.in_current_span())) })
}

impl ChatModel for Provider {
    fn name(&self) -> &str {
        self.inner.config.kind.class()
    }

    fn info(&self) -> ModelInfo {
        ModelInfo { provider: self.inner.config.kind.name().into(), model: self.inner.config.model.clone() }
    }

    fn stream(&self, request: ChatRequest) -> BoxStream<'static, Result<Delta, ModelError>> {
        let model = self.inner.clone();
        stream::unfold(Reading::Idle(model, request), |reading| async move {
            let mut pieces = match reading {
                Reading::Idle(model, request) => match begin(model, request) {
                    Ok(pieces) => pieces,
                    Err(error) => return Some((Err(error), Reading::Over)),
                },
                Reading::Begun(pieces) => pieces,
                Reading::Over => return None,
            };
            pieces.coming.recv().await.map(|piece| (piece, Reading::Begun(pieces)))
        })
        .boxed()
    }
}
