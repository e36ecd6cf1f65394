//! Spans of what goes on, and the trace context that goes from a caller through a run to whoever the run calls outside
//! (W3C's `traceparent` and `tracestate`).
//!
//! Spans are [`tracing`]'s, with the names that OpenTelemetry has for generative AI, all under one target
//! ([`TARGET`]): nobody who does not ask for it pays for them. The engine knows no exporter. A program that exports spans
//! says once how a context is told ([`carry_with`]) and how a span is made part of one ([`adopt_with`]).

use std::sync::OnceLock;

use tracing::{Span, field::Empty, info_span};

use crate::{
    Error, NodeError, Object, Value,
    model::{ModelInfo, Usage},
    run::Level,
};

/// The target of all spans.
pub const TARGET: &str = "runloom_trace";

/// The headers that tell a trace context.
pub const HEADERS: [&str; 2] = ["traceparent", "tracestate"];

/// Tells the trace context of what is under way where it is called: `traceparent`, and `tracestate` where there is one.
pub type Carrier = fn() -> Object;

/// Makes a span part of the trace that a context tells of.
pub type Adopter = fn(&Span, &Object);

static CARRIER: OnceLock<Carrier> = OnceLock::new();
static ADOPTER: OnceLock<Adopter> = OnceLock::new();

/// Sets how trace context is told, for this process. The first one counts; true for it.
pub fn carry_with(carrier: Carrier) -> bool {
    CARRIER.set(carrier).is_ok()
}

/// Sets how a span is made part of a caller's trace, for this process. The first one counts; true for it.
pub fn adopt_with(adopter: Adopter) -> bool {
    ADOPTER.set(adopter).is_ok()
}

/// The trace context of what is under way here, as headers by name; empty where nothing is traced.
pub fn carried() -> Object {
    CARRIER.get().map(|carrier| context_of(&carrier())).unwrap_or_default()
}

/// Makes a span part of the trace that a context tells of, where there is one.
pub fn adopt(span: &Span, context: &Object) {
    if let (Some(adopter), false, false) = (ADOPTER.get(), span.is_disabled(), context.is_empty()) {
        adopter(span, context);
    }
}

/// What of some headers is trace context.
pub fn context_of(headers: &Object) -> Object {
    let is_header = |name: &str, value: &Value| HEADERS.contains(&name) && value.as_str().is_some();
    let found = headers.iter().filter(|(name, value)| is_header(name, value));
    found.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// One superstep of a graph.
pub(crate) fn superstep(level: &Level, step: i64, tasks: usize) -> Span {
    info_span!(
        target: TARGET, "superstep",
        otel.name = %format_args!("superstep {step}"),
        runloom.graph = &**level.graph.name(),
        runloom.namespace = &*level.ns,
        runloom.step = step,
        runloom.tasks = tasks as i64,
    )
}

/// One try of a task.
pub(crate) fn task(level: &Level, node: &str, id: crate::TaskId, attempt: u32) -> Span {
    info_span!(
        target: TARGET, "task",
        otel.name = %format_args!("task {node}"),
        runloom.graph = &**level.graph.name(),
        runloom.node = node,
        runloom.task.id = %id,
        runloom.task.attempt = i64::from(attempt),
        error.type = Empty,
        otel.status_code = Empty,
    )
}

/// A call of a chat model.
pub(crate) fn chat(info: &ModelInfo, conversation: Option<crate::ThreadId>) -> Span {
    let span = info_span!(
        target: TARGET, "chat",
        otel.name = %format_args!("chat {}", info.model),
        otel.kind = "client",
        gen_ai.operation.name = "chat",
        gen_ai.provider.name = provider(&info.provider),
        gen_ai.request.model = &*info.model,
        gen_ai.conversation.id = Empty,
        gen_ai.response.model = Empty,
        gen_ai.usage.input_tokens = Empty,
        gen_ai.usage.output_tokens = Empty,
        gen_ai.usage.cache_read.input_tokens = Empty,
        gen_ai.usage.reasoning.output_tokens = Empty,
        error.type = Empty,
        otel.status_code = Empty,
    );
    if let (false, Some(thread)) = (span.is_disabled(), conversation) {
        span.record("gen_ai.conversation.id", tracing::field::display(thread));
    }
    span
}

/// Notes the tokens that the work of a span took. Spans know signed integers; others would be texts.
pub fn used(span: &Span, usage: Usage) {
    span.record("gen_ai.usage.input_tokens", usage.input_tokens as i64);
    span.record("gen_ai.usage.output_tokens", usage.output_tokens as i64);
}

/// What a model's answer says of itself, and what it took.
pub(crate) fn answered(span: &Span, message: &Value, usage: Option<Usage>) {
    if span.is_disabled() {
        return;
    }
    if let Some(usage) = usage {
        used(span, usage);
        if usage.cached_tokens > 0 {
            span.record("gen_ai.usage.cache_read.input_tokens", usage.cached_tokens as i64);
        }
        if usage.reasoning_tokens > 0 {
            span.record("gen_ai.usage.reasoning.output_tokens", usage.reasoning_tokens as i64);
        }
    }
    if let Some(model) = message.get("response_metadata").and_then(|told| told.get_str("model_name")) {
        span.record("gen_ai.response.model", model);
    }
}

/// A call of a tool.
pub(crate) fn tool(name: &str) -> Span {
    info_span!(
        target: TARGET, "execute_tool",
        otel.name = %format_args!("execute_tool {name}"),
        gen_ai.operation.name = "execute_tool",
        gen_ai.tool.name = name,
        gen_ai.tool.type = "function",
        error.type = Empty,
        otel.status_code = Empty,
    )
}

/// A search of a retriever.
pub(crate) fn retriever(name: &str) -> Span {
    info_span!(
        target: TARGET, "retrieval",
        otel.name = %format_args!("retrieval {name}"),
        gen_ai.operation.name = "retrieval",
        gen_ai.data_source.id = name,
        error.type = Empty,
        otel.status_code = Empty,
    )
}

/// Notes that the work of a span failed: of which kind the error is, not what it says, which may be a user's.
pub fn failed(span: &Span, kind: &str) {
    span.record("otel.status_code", "ERROR");
    span.record("error.type", kind);
}

/// The same of a node's error; a stop is none.
pub(crate) fn noted<T>(span: &Span, result: &Result<T, NodeError>) {
    if span.is_disabled() {
        return;
    }
    match result {
        Err(NodeError::Failed(failure)) => failed(span, &failure.kind),
        Err(NodeError::Engine(error)) => match &**error {
            Error::Node { error, .. } => failed(span, &error.kind),
            _ => failed(span, "GraphError"),
        },
        Err(NodeError::Cancelled) => failed(span, "cancelled"),
        Ok(_) | Err(NodeError::Interrupted(_) | NodeError::Parent(_) | NodeError::ExecutorLost(_)) => {}
    }
}

/// The provider by OpenTelemetry's name for it.
fn provider(name: &str) -> &str {
    match name {
        "google_genai" | "gemini" => "gcp.gemini",
        "google_vertexai" => "gcp.vertex_ai",
        "mistralai" => "mistral_ai",
        "xai" => "x_ai",
        other => other,
    }
}
