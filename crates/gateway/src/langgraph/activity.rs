//! What modes `tools` and `lifecycle` show: calls of tools, beginnings and ends of subgraphs.

use std::sync::Arc;

use runloom_core::events::Subgraph;
use runloom_engine::{
    Object, Value,
    stream::{Event as EngineEvent, EventKind},
};

/// An event of a tool, in the form of LangGraph's clients.
pub(super) fn tool(event: &EngineEvent) -> Option<Object> {
    let call = event.data.tool_call.clone().unwrap_or_else(|| event.run_id.to_string().into());
    let mut data = object! { "event" => event.kind.name(), "toolCallId" => call, "name" => &event.name };
    match event.kind {
        EventKind::ToolStart => data.insert("input", event.data.input.clone().unwrap_or_default()),
        EventKind::ToolEnd => data.insert("output", event.data.output.clone().unwrap_or_default()),
        EventKind::ToolError => {
            let message = event.data.error.as_ref().map(|error| error.message.to_string());
            data.insert("error", message.unwrap_or_default())
        }
        _ => return None,
    };
    Some(data)
}

/// A change of a subgraph.
pub(super) fn lifecycle(kind: &str, of: &Subgraph, error: Option<&Arc<str>>) -> Value {
    let mut data = object! {
        "event" => kind,
        "namespace" => of.namespace.split('|').map(Value::from).collect::<Vec<_>>(),
        "graph_name" => &of.node,
        "trigger_call_id" => &of.task,
    };
    if let Some(call) = &of.tool_call {
        data.insert("cause", object! { "type" => "toolCall", "tool_call_id" => call });
    }
    if let Some(error) = error {
        data.insert("error", error);
    }
    data.into()
}
