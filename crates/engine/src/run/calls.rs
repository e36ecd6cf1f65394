//! Calls of models that a node makes: streamed, and told with their events.

use std::{sync::Arc, time::Instant};

use futures_util::StreamExt;
use tracing::Instrument;

use super::{
    context::Context,
    scope::{RunScope, StepTag},
};
use crate::{
    List, NodeError, NodeFailure, Value,
    message::{Message, langchain},
    model::{ChatModel, ChatRequest, ModelInfo, Usage},
    stream::{BlockTracker, Chunk, Event, EventData, EventKind, MessagePart, Mode, Payload},
    trace, value,
};

/// The tag of a call or a node whose messages mode `messages` leaves out.
pub(super) const NO_STREAM: &str = "nostream";

impl Chunk {
    /// About how many bytes of JSON it has.
    pub fn weight(&self) -> u64 {
        match self {
            Self::Whole(message) => message.weight(),
            Self::Delta { text, reasoning, blocks, tool_calls, .. } => {
                let own = text.len() + reasoning.len() + tool_calls.iter().map(|c| c.args.len()).sum::<usize>();
                blocks.iter().fold(own as u64 + 32, |sum, block| sum.saturating_add(block.weight()))
            }
        }
    }

    /// True where a piece carries nothing: no text, no reasoning, no tool call, no usage.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Whole(_) => false,
            Self::Delta { text, reasoning, blocks, tool_calls, usage, .. } => {
                text.is_empty() && reasoning.is_empty() && blocks.is_empty() && tool_calls.is_empty() && usage.is_none()
            }
        }
    }
}

impl Context {
    /// Calls a chat model and streams what it says (modes `messages` and `events`). Gives the whole message.
    ///
    /// `tags` are the call's own, beside the node's: what event filters and clients pick it out by.
    pub async fn chat(
        &self,
        model: &dyn ChatModel,
        request: ChatRequest,
        tags: &[Arc<str>],
    ) -> Result<Value, NodeError> {
        let info = Arc::new(model.info());
        let span = trace::chat(&info, self.task.level.run.config.thread_id);
        let mut account =
            Account { run: &self.task.level.run, info: &info, span: &span, used: None, outcome: "cancelled" };
        let answer = self.call_model(model, &mut account, request, tags).instrument(span.clone()).await;
        trace::noted(&span, &answer);
        account.outcome = if answer.is_ok() { "ok" } else { "error" };
        answer
    }

    async fn call_model(
        &self,
        model: &dyn ChatModel,
        account: &mut Account<'_>,
        mut request: ChatRequest,
        tags: &[Arc<str>],
    ) -> Result<Value, NodeError> {
        let info = account.info;
        let task = &self.task;
        let level = &task.level;
        let (call, message) = task.next_call();
        // LangChain's ids: a message that nobody sees streaming has its place among the call's generations too.
        let streams = level.run.modes.any([Mode::Messages, Mode::Events].into());
        let id: Arc<str> = if streams { format!("lc_run--{message}") } else { format!("lc_run--{message}-0") }.into();
        let name: Arc<str> = model.name().into();
        let wants = |kind| task.wants_event(kind, &name, StepTag::Part(1), tags);
        let is_quiet = task.tags().chain(tags).any(|t| &**t == NO_STREAM);
        let has_messages = level.run.modes.has(Mode::Messages);
        let filter = &level.run.config.events;
        let admits =
            !has_messages || filter.admits_message(&name, Some(task.name()), &level.ns, task.tags().chain(tags));
        let wants_tokens = level.wants(Mode::Messages) && !is_quiet && admits;
        let wants_stream = wants(EventKind::ChatModelStream);
        let input = (wants(EventKind::ChatModelStart) || wants(EventKind::ChatModelEnd)).then(|| {
            let mut messages = List::default();
            if let Some(text) = &request.system {
                messages.push(value!({
                    "content": text.as_str(), "additional_kwargs": {}, "response_metadata": {}, "type": "system", "name": null, "id": null,
                }));
            }
            let messages = if messages.is_empty() {
                request.messages.clone()
            } else {
                messages.extend(request.messages.iter().cloned());
                messages
            };
            Value::Object([("messages", Value::from(vec![Value::List(messages)]))].into_iter().collect())
        });
        if wants(EventKind::ChatModelStart) {
            self.model_event(
                EventKind::ChatModelStart,
                &name,
                call,
                tags,
                info,
                EventData { input: input.clone(), ..EventData::default() },
            );
        }
        let call_tags: Arc<[Arc<str>]> = if wants_tokens { tags.into() } else { Arc::default() };
        // For the logs of whoever makes the call, which may be elsewhere.
        request.metadata.insert("run_id", level.run.run_id.to_string());
        if let Some(thread) = level.run.config.thread_id {
            request.metadata.insert("thread_id", thread.to_string());
        }
        let carried = trace::carried();
        if !carried.is_empty() {
            request.metadata.insert("trace_context", carried);
        }
        let began = Instant::now();
        let mut first = true;
        let mut stream = model.stream(request);
        let mut message = Message::default();
        let mut blocks = BlockTracker::default();
        let mut is_complete = false;
        while let Some(delta) = stream.next().await {
            let delta = match delta {
                Ok(delta) => delta,
                Err(error) => {
                    let failure = NodeFailure {
                        kind: "ModelError".into(),
                        message: error.to_string().into(),
                        retryable: error.retryable,
                        timeout: None,
                        retry_after: None,
                    };
                    return Err(NodeError::Failed(failure));
                }
            };
            if std::mem::take(&mut first) {
                let (provider, model) = (info.provider.to_string(), info.model.to_string());
                metrics::histogram!("runloom_model_time_to_first_token_seconds", "provider" => provider, "model" => model)
                    .record(began.elapsed());
            }
            let at = blocks.place(&delta);
            message.add(&delta, &at);
            account.used = message.usage;
            is_complete |= delta.last;
            if wants_tokens || wants_stream {
                let chunk = Arc::new(Chunk::Delta {
                    id: id.clone(),
                    name: None,
                    text: delta.text.into(),
                    reasoning: delta.reasoning.into(),
                    blocks: delta.blocks,
                    tool_calls: delta.tool_calls,
                    at,
                    usage: delta.usage,
                    response_metadata: delta.response_metadata,
                    last: delta.last,
                });
                if !level.run.config.events.skips(&chunk) || chunk.is_last() {
                    if wants_tokens {
                        task.tell(Payload::Message(MessagePart {
                            chunk: chunk.clone(),
                            meta: task.meta(),
                            model: Some(info.clone()),
                            name: Some(name.clone()),
                            tags: call_tags.clone(),
                        }));
                    }
                    if wants_stream && !level.run.config.events.skips(&chunk) {
                        self.model_event(
                            EventKind::ChatModelStream,
                            &name,
                            call,
                            tags,
                            info,
                            EventData { chunk: Some(chunk), ..EventData::default() },
                        );
                    }
                }
                self.breathe().await;
            } else {
                task.beat();
            }
        }
        if !is_complete {
            return Err(NodeError::new("ModelError", format!("{name}: the model's stream ended in the middle")));
        }
        let usage = message.usage;
        message.id = Some(id.clone());
        let whole = langchain::encode(message);
        trace::answered(&tracing::Span::current(), &whole, usage);
        // A quiet message, or one that the filter leaves out, is not sent whole either: by the node's write, or by a graph
        // around this one.
        if wants_tokens || !admits || (is_quiet && has_messages) {
            level.run.told.lock().insert(id);
        }
        if wants(EventKind::ChatModelEnd) {
            self.model_event(
                EventKind::ChatModelEnd,
                &name,
                call,
                tags,
                info,
                EventData { input, output: Some(whole.clone()), ..EventData::default() },
            );
        }
        Ok(whole)
    }

    fn model_event(
        &self,
        kind: EventKind,
        name: &Arc<str>,
        id: uuid::Uuid,
        tags: &[Arc<str>],
        info: &Arc<ModelInfo>,
        data: EventData,
    ) {
        let task = &self.task;
        let payload = Payload::from(Event {
            kind,
            name: name.clone(),
            run_id: id,
            parent_ids: task.child_parents(),
            tags: task.child_tags(tags),
            meta: task.meta(),
            model: Some(info.clone()),
            data,
        });
        task.tell(payload);
    }
}

/// What is counted of a call of a model, however it ends: one that is cancelled has been paid for too.
struct Account<'a> {
    run: &'a RunScope,
    info: &'a Arc<ModelInfo>,
    span: &'a tracing::Span,
    used: Option<Usage>,
    outcome: &'static str,
}

impl Drop for Account<'_> {
    fn drop(&mut self) {
        if let Some(used) = self.used {
            *self.run.usage.lock() += used;
            count(self.info, used);
        }
        if self.outcome == "cancelled" {
            trace::failed(self.span, "cancelled");
        }
        let (provider, model) = (self.info.provider.to_string(), self.info.model.to_string());
        let outcome = self.outcome;
        metrics::counter!("runloom_model_calls_total", "provider" => provider, "model" => model, "outcome" => outcome)
            .increment(1);
    }
}

/// Counts what a call of a model took.
fn count(info: &ModelInfo, usage: Usage) {
    let of = |kind: &'static str, tokens: u64| {
        let (provider, model) = (info.provider.to_string(), info.model.to_string());
        metrics::counter!("runloom_model_tokens_total", "provider" => provider, "model" => model, "kind" => kind)
            .increment(tokens);
    };
    of("input", usage.input_tokens);
    of("output", usage.output_tokens);
    of("cached", usage.cached_tokens);
    of("reasoning", usage.reasoning_tokens);
}

impl Chunk {
    /// True for the last piece of a message, and for a whole one.
    pub fn is_last(&self) -> bool {
        match self {
            Self::Whole(_) => true,
            Self::Delta { last, .. } => *last,
        }
    }
}
