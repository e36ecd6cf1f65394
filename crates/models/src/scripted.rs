//! A model that says what it was told to say: the same prompt gets the same answer, at any concurrency and after any
//! restart.

use std::{sync::Arc, time::Duration};

use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use runloom_engine::{
    List, Value,
    model::{ChatModel, ChatRequest, Delta, ModelError, ModelInfo, ToolCallDelta, Usage},
};

use crate::{Error, dumps};

/// A chat model with answers written down beforehand.
///
/// It answers with `responses[k mod n]`, `k` being the number of AI messages in the prompt, so that it keeps no state
/// of its own.
#[derive(Clone, Debug)]
pub struct Scripted {
    responses: Arc<[Response]>,
    chunk: ChunkBy,
    delay: Duration,
}

/// One answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Response {
    /// Its text.
    pub content: String,
    /// What it thinks before it speaks, streamed before the text.
    pub reasoning: String,
    /// The tools it calls.
    pub tool_calls: Vec<ToolCall>,
    /// The tokens it says it used.
    pub usage: Option<Usage>,
}

impl Response {
    /// An answer of text.
    pub fn text(content: impl Into<String>) -> Self {
        Self { content: content.into(), ..Self::default() }
    }

    /// The same with a call of a tool.
    #[must_use]
    pub fn call(mut self, call: ToolCall) -> Self {
        self.tool_calls.push(call);
        self
    }
}

/// A call of a tool in an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolCall {
    /// The tool.
    pub name: Arc<str>,
    /// Its arguments: an object.
    pub args: Value,
    /// The call's id; without one it is made from the place of the answer and of the call in it.
    pub id: Option<Arc<str>>,
}

/// How an answer's text is cut into chunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChunkBy {
    /// By words; white space between them is a chunk of its own.
    #[default]
    Words,
    /// By characters.
    Chars,
    /// Not at all.
    Whole,
}

impl ChunkBy {
    /// The chunks of a text, in order; none of an empty one.
    pub fn cut(self, text: &str) -> Vec<&str> {
        let ends = |is_end: &dyn Fn(char, char) -> bool| {
            let mut chunks = Vec::new();
            let mut start = 0;
            let mut before: Option<char> = None;
            for (at, c) in text.char_indices() {
                if before.is_some_and(|b| is_end(b, c)) {
                    chunks.push(&text[start..at]);
                    start = at;
                }
                before = Some(c);
            }
            if start < text.len() {
                chunks.push(&text[start..]);
            }
            chunks
        };
        match self {
            Self::Words => ends(&|a, b| a.is_whitespace() != b.is_whitespace()),
            Self::Chars => ends(&|_, _| true),
            Self::Whole => ends(&|_, _| false),
        }
    }
}

impl Scripted {
    /// A model with these answers, which streams by words and does not wait.
    pub fn new(responses: impl IntoIterator<Item = Response>) -> Result<Self, Error> {
        let responses: Arc<[Response]> = responses.into_iter().collect();
        if responses.is_empty() {
            return Err(Error::NoResponses);
        }
        Ok(Self { responses, chunk: ChunkBy::default(), delay: Duration::ZERO })
    }

    /// Cuts the text otherwise.
    #[must_use]
    pub fn chunk(mut self, chunk: ChunkBy) -> Self {
        self.chunk = chunk;
        self
    }

    /// Waits before each chunk of text.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// What it says to a prompt, piece by piece.
    fn deltas(&self, messages: &List) -> Vec<Delta> {
        let spoken = messages.iter().filter(|m| is_ai(m)).count();
        let response = &self.responses[spoken % self.responses.len()];
        let mut deltas = Vec::new();
        for piece in self.chunk.cut(&response.reasoning) {
            deltas.push(Delta { reasoning: piece.to_owned(), ..Delta::default() });
        }
        for piece in self.chunk.cut(&response.content) {
            deltas.push(Delta::text(piece));
        }
        for (index, call) in response.tool_calls.iter().enumerate() {
            let id = call.id.clone().unwrap_or_else(|| format!("call_{spoken}_{index}").into());
            deltas.push(Delta {
                tool_calls: vec![ToolCallDelta {
                    index: index as u32,
                    id: Some(id),
                    name: Some(call.name.clone()),
                    args: dumps(&call.args, true),
                }],
                ..Delta::default()
            });
        }
        deltas.push(Delta { usage: response.usage, ..Delta::end() });
        deltas
    }
}

fn is_ai(message: &Value) -> bool {
    let role = message.get_str("type").or_else(|| message.get_str("role"));
    matches!(role, Some("ai" | "assistant"))
}

impl ChatModel for Scripted {
    fn name(&self) -> &str {
        "ScriptedModel"
    }

    fn info(&self) -> ModelInfo {
        ModelInfo { provider: "scriptedmodel".into(), model: "scripted".into() }
    }

    fn stream(&self, request: ChatRequest) -> BoxStream<'static, Result<Delta, ModelError>> {
        let delay = self.delay;
        let deltas = stream::iter(self.deltas(&request.messages));
        if delay.is_zero() {
            return deltas.map(Ok).boxed();
        }
        deltas
            .then(move |delta| async move {
                if !delta.text.is_empty() || !delta.reasoning.is_empty() {
                    tokio::time::sleep(delay).await;
                }
                Ok(delta)
            })
            .boxed()
    }
}
