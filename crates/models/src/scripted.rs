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
    pub fn cut(self, text: &str) -> impl Iterator<Item = &str> {
        let mut rest = text;
        std::iter::from_fn(move || {
            let (chunk, after) = rest.split_at(self.first(rest));
            rest = after;
            (!chunk.is_empty()).then_some(chunk)
        })
    }

    /// How long the first chunk of a text is, in bytes.
    fn first(self, text: &str) -> usize {
        let mut chars = text.char_indices();
        let Some((_, first)) = chars.next() else { return 0 };
        let end = match self {
            Self::Words => chars.find(|(_, c)| c.is_whitespace() != first.is_whitespace()),
            Self::Chars => chars.next(),
            Self::Whole => None,
        };
        end.map_or(text.len(), |(at, _)| at)
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

    /// What it says to a prompt, piece by piece: each is made when it is asked for.
    fn deltas(&self, messages: &List) -> impl Iterator<Item = Delta> + Send + 'static {
        let (responses, chunk) = (self.responses.clone(), self.chunk);
        let spoken = messages.iter().filter(|m| is_ai(m)).count();
        let (mut reasoned, mut said, mut called, mut is_over) = (0, 0, 0, false);
        std::iter::from_fn(move || {
            let response = &responses[spoken % responses.len()];
            let next = |text: &str, at: &mut usize| {
                let start = *at;
                *at += chunk.first(&text[start..]);
                text[start..*at].to_owned()
            };
            if reasoned < response.reasoning.len() {
                return Some(Delta { reasoning: next(&response.reasoning, &mut reasoned), ..Delta::default() });
            }
            if said < response.content.len() {
                return Some(Delta::text(next(&response.content, &mut said)));
            }
            if let Some(call) = response.tool_calls.get(called) {
                let id = call.id.clone().unwrap_or_else(|| format!("call_{spoken}_{called}").into());
                let args = dumps(&call.args, true);
                let delta = ToolCallDelta { index: called as u32, id: Some(id), name: Some(call.name.clone()), args };
                called += 1;
                return Some(Delta { tool_calls: vec![delta], ..Delta::default() });
            }
            (!std::mem::replace(&mut is_over, true)).then(|| Delta { usage: response.usage, ..Delta::end() })
        })
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
