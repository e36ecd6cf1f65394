//! Chat models, as the engine sees them: a request in, a stream of message deltas out.

use std::{sync::Arc, time::Duration};

use futures_util::stream::BoxStream;

use crate::{List, Object, Value};

/// A chat model. One value serves any number of calls at once.
///
/// A call is a stream of [`Delta`]s. It begins when it is first polled; dropping it cancels the call and closes
/// whatever socket it holds. A stream that ends without a delta whose `last` is set has failed in the middle, and is
/// treated as an error by the caller.
pub trait ChatModel: Send + Sync + 'static {
    /// The name that events carry and users filter on: `ScriptedModel`, `ChatOpenAI`.
    fn name(&self) -> &str;

    /// What it is, for the metadata of events and traces.
    fn info(&self) -> ModelInfo;

    /// Calls the model.
    fn stream(&self, request: ChatRequest) -> BoxStream<'static, Result<Delta, ModelError>>;
}

/// What a model is.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelInfo {
    /// `openai`, `anthropic`, `scriptedmodel`.
    pub provider: Arc<str>,
    /// The model's own name, `gpt-4o-mini`.
    pub model: Arc<str>,
}

/// A call of a model.
#[derive(Clone, Debug, Default)]
pub struct ChatRequest {
    /// The conversation, as LangChain's JSON messages, already normalised.
    pub messages: List,
    /// Instructions that stand before the conversation.
    pub system: Option<String>,
    /// Tools that the model may call.
    pub tools: Vec<ToolSpec>,
    /// What the provider takes beside: temperature, a limit of tokens.
    pub options: Object,
    /// The run's metadata that goes along: task id as an idempotency key, trace context.
    pub metadata: Object,
}

/// A tool as a model is told of it.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolSpec {
    /// Its name.
    pub name: Arc<str>,
    /// What it does.
    pub description: Arc<str>,
    /// JSON Schema of its arguments.
    pub parameters: Value,
}

/// A piece of a message as it comes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Delta {
    /// Text that follows what came before.
    pub text: String,
    /// Reasoning that follows what came before.
    pub reasoning: String,
    /// Whole content blocks that are neither (an image, a file), as LangChain's JSON.
    pub blocks: Vec<Value>,
    /// Pieces of tool calls: true deltas, never what came before again.
    pub tool_calls: Vec<ToolCallDelta>,
    /// Whether the text or the reasoning begins a new content block, though one of its kind came directly before. A change of
    /// the kind begins one by itself.
    pub new_block: bool,
    /// Tokens used; summed over the deltas of a message.
    pub usage: Option<Usage>,
    /// What the provider says about its answer: finish reason, model name.
    pub response_metadata: Option<Object>,
    /// True on the last delta of a message.
    pub last: bool,
}

impl Delta {
    /// A piece of text.
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// The empty delta that ends a message.
    pub fn end() -> Self {
        Self { last: true, ..Self::default() }
    }
}

/// A piece of a tool call. Pieces of one index belong together; their `args` are concatenated.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ToolCallDelta {
    /// Which of the message's calls.
    pub index: u32,
    /// The call's id, on its first piece.
    pub id: Option<Arc<str>>,
    /// The tool's name, on its first piece.
    pub name: Option<Arc<str>>,
    /// A piece of the JSON text of the arguments.
    pub args: String,
}

/// Tokens used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Usage {
    /// Tokens of the prompt.
    pub input_tokens: u64,
    /// Tokens of the answer.
    pub output_tokens: u64,
    /// Of the input, those read from a cache.
    #[serde(default)]
    pub cached_tokens: u64,
    /// Of the output, those of reasoning.
    #[serde(default)]
    pub reasoning_tokens: u64,
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.input_tokens += other.input_tokens;
        self.output_tokens += other.output_tokens;
        self.cached_tokens += other.cached_tokens;
        self.reasoning_tokens += other.reasoning_tokens;
    }
}

/// Why a call of a model failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{model}: {message}")]
pub struct ModelError {
    /// The model's name.
    pub model: String,
    /// What went wrong, without the request's content.
    pub message: String,
    /// True where the same call may succeed later.
    pub retryable: bool,
    /// How long to wait first, where the provider said.
    pub retry_after: Option<Duration>,
}
