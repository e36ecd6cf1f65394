//! Calls of tools and retrievers, with their events.

use std::{future::Future, sync::Arc};

use tracing::Instrument;

use super::context::Context;
use crate::{
    NodeError, Value,
    stream::{EventData, EventKind, Mode},
    trace, value,
};

impl Context {
    /// Runs a tool with its events. `call` is the work; what it gives is the tool's output, as the events show it.
    pub async fn tool<F>(&self, name: impl Into<Arc<str>>, input: Value, call: F) -> Result<Value, NodeError>
    where
        F: Future<Output = Result<Value, NodeError>>,
    {
        self.tool_called(name, None, input, call).await
    }

    /// The same, for a model's call of a tool: its id is told with an error.
    pub async fn tool_called<F>(
        &self,
        name: impl Into<Arc<str>>,
        id: Option<Arc<str>>,
        input: Value,
        call: F,
    ) -> Result<Value, NodeError>
    where
        F: Future<Output = Result<Value, NodeError>>,
    {
        let kinds = [EventKind::ToolStart, EventKind::ToolEnd, EventKind::ToolError];
        let name = name.into();
        let span = trace::tool(&name);
        let result = self.told(kinds, name.clone(), id, input, call).instrument(span.clone()).await;
        trace::noted(&span, &result);
        let outcome = if result.is_ok() { "ok" } else { "error" };
        metrics::counter!("runloom_tool_calls_total", "tool" => name.to_string(), "outcome" => outcome).increment(1);
        result
    }

    /// Runs a retriever with its events: `query` in, documents out.
    pub async fn retriever<F>(&self, name: impl Into<Arc<str>>, query: &str, call: F) -> Result<Value, NodeError>
    where
        F: Future<Output = Result<Value, NodeError>>,
    {
        let kinds = [EventKind::RetrieverStart, EventKind::RetrieverEnd, EventKind::ToolError];
        let name = name.into();
        let span = trace::retriever(&name);
        let result = self.told(kinds, name, None, value!({"query": query}), call).instrument(span.clone()).await;
        trace::noted(&span, &result);
        result
    }

    async fn told<F>(
        &self,
        [start, end, error]: [EventKind; 3],
        name: Arc<str>,
        tool_call: Option<Arc<str>>,
        input: Value,
        call: F,
    ) -> Result<Value, NodeError>
    where
        F: Future<Output = Result<Value, NodeError>>,
    {
        let task = &self.task;
        if !task.level.run.modes.has(Mode::Events) {
            return call.await;
        }
        let id = task.level.run.clock.uuid();
        task.tell_event(start, &name, id, &[], || EventData {
            input: Some(input.clone()),
            tool_call: tool_call.clone(),
            ..EventData::default()
        });
        let result = call.await;
        match &result {
            Ok(output) => task.tell_event(end, &name, id, &[], || EventData {
                input: Some(input),
                output: Some(output.clone()),
                tool_call,
                ..EventData::default()
            }),
            Err(NodeError::Failed(failure)) => task.tell_event(error, &name, id, &[], || EventData {
                input: Some(input),
                error: Some(failure.clone()),
                tool_call,
                ..EventData::default()
            }),
            Err(_) => {}
        }
        result
    }
}
