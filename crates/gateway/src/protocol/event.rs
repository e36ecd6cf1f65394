//! An event of a thread as the protocol writes it.

use std::{sync::Arc, time::UNIX_EPOCH};

use runloom_core::{
    Body, Record,
    events::{Channel, Delta, Event, EventBody, Lifecycle, MessageEvent, Subgraph},
};
use runloom_engine::{
    Object, Value,
    model::Usage,
    stream::{Event as EngineEvent, EventKind, Payload, UpdatePart},
    value,
};

use super::messages::compact;
use crate::langgraph;

/// An event with the number that it has for every reader of the thread.
pub(super) struct Numbered {
    pub seq: u64,
    /// Its place among the events of its record, from 1.
    place: usize,
    event: Event,
    record: Arc<Record>,
}

impl Numbered {
    pub fn new(seq: u64, place: usize, event: Event, record: Arc<Record>) -> Self {
        Self { seq, place, event, record }
    }

    pub fn channel(&self) -> Channel {
        self.event.body.channel()
    }

    /// The segments of its namespace.
    pub fn namespace(&self) -> impl Iterator<Item = &str> {
        self.event.namespace.split('|').filter(|segment| !segment.is_empty())
    }

    /// The name of the event: that of its channel, except in channel `input`.
    pub fn method(&self) -> &'static str {
        match &self.event.body {
            EventBody::Requested(_) => "input.requested",
            EventBody::Answered { .. } => "input.answered",
            body => body.channel().name(),
        }
    }

    /// What was emitted, for an event of channel `custom`.
    pub fn emitted(&self) -> Option<&Value> {
        match (&self.event.body, &self.record.body) {
            (EventBody::Custom, Body::Part(Payload::Custom(data))) => Some(data),
            _ => None,
        }
    }

    /// Unique among the events of the thread, and the same for every reader.
    fn id(&self) -> String {
        let run = self.record.run_id;
        match &self.event.body {
            EventBody::Graph { change, .. } => format!("synth:{run}:lc||{}", change.name()),
            EventBody::Subgraph { change, of, .. } if *change != Lifecycle::Started => {
                format!("synth:{run}:lc|{}|{}", of.namespace, change.name())
            }
            EventBody::Requested(interrupt) => {
                format!("synth:{run}:input|{}|{}", self.event.namespace, interrupt.id)
            }
            _ => format!("{run}:{}.{}", self.record.seq, self.place),
        }
    }

    /// What it carries.
    pub fn data(&self) -> Value {
        let record = &self.record;
        match &self.event.body {
            EventBody::Message { part, .. } => message_event(part),
            EventBody::Graph { change, graph, error } => changed(change.name(), graph, error.as_ref()),
            EventBody::Subgraph { change: Lifecycle::Started, of, .. } => started(of),
            EventBody::Subgraph { change, of, error } => changed(change.name(), &of.node, error.as_ref()),
            EventBody::Requested(interrupt) => {
                let mut data = object! {
                    "interrupt_id" => &interrupt.id,
                    "payload" => interrupt.value.clone(),
                    "value" => interrupt.value.clone(),
                };
                if let Some(schema) = &interrupt.response_schema {
                    data.insert("response_schema", schema.clone());
                }
                data.into()
            }
            EventBody::Answered { id, answer } => {
                value!({"interrupt_id": id.to_string(), "response": answer.clone()})
            }
            EventBody::Values
            | EventBody::Update
            | EventBody::Task
            | EventBody::Checkpoint
            | EventBody::Custom
            | EventBody::Tool => match &record.body {
                Body::Part(payload) => of_payload(payload),
                Body::Opening(_) | Body::End(_) => Value::Null,
            },
        }
    }

    /// The event as it is sent.
    pub fn to_value(&self) -> Value {
        let params = object! {
            "namespace" => self.namespace().map(Value::from).collect::<Vec<_>>(),
            "timestamp" => millis(&self.record),
            "data" => self.data(),
        };
        let whole: Object = object! {
            "type" => "event",
            "event_id" => self.id(),
            "seq" => self.seq,
            "method" => self.method(),
            "params" => params,
        };
        Value::Object(whole)
    }
}

fn of_payload(payload: &Payload) -> Value {
    match payload {
        Payload::Values(values) => compact(&Value::Object(values.to_object())),
        // Interrupts have a channel of their own: here they are an empty update.
        Payload::Update(UpdatePart::Interrupt(_)) => Value::object(),
        Payload::Update(node @ UpdatePart::Node { .. }) => compact(&Value::Object(node.to_object())),
        Payload::TaskStart(_) | Payload::TaskEnd(_) => compact(&Value::Object(langgraph::task(payload).1)),
        Payload::Custom(data) => data.clone(),
        Payload::Event(event) => tool(event),
        Payload::Checkpoint(view) => {
            let id = |c: &Option<runloom_engine::checkpoint::CheckpointConfig>| {
                Value::from(c.as_ref().and_then(|c| c.id).map(|id| id.to_string()))
            };
            value!({
                "id": id(&view.config),
                "parent_id": id(&view.parent),
                "step": view.step,
                "source": view.source.map(|s| s.name().to_owned()),
            })
        }
        Payload::Message(_) => Value::Null,
    }
}

fn changed(event: &str, graph: &str, error: Option<&Arc<str>>) -> Value {
    let mut data = object! { "event" => event, "graph_name" => graph };
    if let Some(error) = error {
        data.insert("error", error);
    }
    data.into()
}

fn started(of: &Subgraph) -> Value {
    let mut data = object! {
        "event" => "started",
        "namespace" => of.namespace.split('|').map(Value::from).collect::<Vec<_>>(),
        "graph_name" => &of.node,
        "trigger_call_id" => &of.task,
    };
    if let Some(call) = &of.tool_call {
        data.insert("cause", object! { "type" => "toolCall", "tool_call_id" => call });
    }
    data.into()
}

fn tool(event: &EngineEvent) -> Value {
    let call = event.data.tool_call.clone().unwrap_or_else(|| event.run_id.to_string().into());
    match event.kind {
        EventKind::ToolStart => object! {
            "event" => "tool-started",
            "tool_call_id" => call,
            "tool_name" => &event.name,
            "input" => event.data.input.clone().unwrap_or_default(),
        },
        EventKind::ToolEnd => object! {
            "event" => "tool-finished",
            "tool_call_id" => call,
            "output" => event.data.output.clone().unwrap_or_default(),
        },
        _ => object! {
            "event" => "tool-error",
            "tool_call_id" => call,
            "message" => event.data.error.as_ref().map(|e| e.message.to_string()).unwrap_or_default(),
        },
    }
    .into()
}

fn message_event(event: &MessageEvent) -> Value {
    match event {
        MessageEvent::Start { id, tool_call } => {
            let role = if tool_call.is_some() { "tool" } else { "ai" };
            let mut start = object! { "event" => "message-start", "role" => role, "id" => id };
            if let Some(call) = tool_call {
                start.insert("tool_call_id", call);
            }
            start.into()
        }
        MessageEvent::BlockStart { index, content } => block("content-block-start", *index, "content", content.clone()),
        MessageEvent::BlockDelta { index, delta } => {
            let (key, delta) = match delta {
                Delta::Text(text) => ("delta", value!({"type": "text-delta", "text": text.to_string()})),
                Delta::Reasoning(text) => ("delta", value!({"type": "reasoning-delta", "reasoning": text.to_string()})),
                Delta::Args(args) => ("delta", value!({"type": "tool-call-delta", "args": args.to_string()})),
                // LangGraph's server calls the piece of a tool's message `content`, where the published types say `delta`.
                Delta::ToolText(text) => ("content", value!({"type": "text", "text": text.to_string()})),
            };
            block("content-block-delta", *index, key, delta)
        }
        MessageEvent::BlockFinish { index, content } => {
            block("content-block-finish", *index, "content", content.clone())
        }
        MessageEvent::Finish { usage: tokens, metadata } => {
            let mut finish = object! { "event" => "message-finish" };
            if let Some(tokens) = tokens {
                finish.insert("usage", usage(*tokens));
            }
            if let Some(metadata) = metadata {
                finish.insert("metadata", metadata.clone());
            }
            finish.into()
        }
    }
}

/// Tokens, with the details that there are.
fn usage(tokens: Usage) -> Object {
    let mut usage = object! {
        "input_tokens" => tokens.input_tokens,
        "output_tokens" => tokens.output_tokens,
        "total_tokens" => tokens.input_tokens + tokens.output_tokens,
    };
    if tokens.cached_tokens > 0 {
        usage.insert("input_token_details", object! { "cache_read" => tokens.cached_tokens });
    }
    if tokens.reasoning_tokens > 0 {
        usage.insert("output_token_details", object! { "reasoning" => tokens.reasoning_tokens });
    }
    usage
}

fn block(event: &str, index: usize, key: &'static str, value: Value) -> Value {
    let mut o = object! { "event" => event, "index" => index as u64 };
    o.insert(key, value);
    o.into()
}

/// When a record was made, in milliseconds since 1970.
fn millis(record: &Record) -> u64 {
    record.emit_time.duration_since(UNIX_EPOCH).map_or(0, |t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX))
}
