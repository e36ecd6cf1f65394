//! Records of a run as events of the protocol. The same log always gives the same events in the same order: their numbers
//! are counted on it.

use std::{collections::HashSet, sync::Arc};

use runloom_core::{Body, CommandSpec, End, Opening, Record, RunSpec, Start, store::RunStatus};
use runloom_engine::{
    Object, Value,
    stream::{Event as EngineEvent, EventKind, Interrupt, Payload, TaskRef, UpdatePart},
    value,
};

use super::{
    blocks::{Messages, tool_message},
    event::{Channel, Data, Event, millis, segments},
    messages::compact,
};
use crate::langgraph;

/// Turns the records of one run into events.
#[derive(Default)]
pub(super) struct Translator {
    graph: String,
    has_begun: bool,
    /// Set once the graph's `interrupted` has been reported.
    is_interrupted: bool,
    /// Ids of interrupts that have been reported.
    requested: HashSet<Arc<str>>,
    /// Subgraphs under way, in the order in which they began.
    scopes: Vec<Scope>,
    messages: Messages,
    /// Answers that the run starts with, by interrupt id.
    answers: Vec<(String, Value)>,
}

/// A subgraph under way.
struct Scope {
    namespace: Arc<str>,
    node: Arc<str>,
    task: Arc<str>,
}

/// The events of one record, as they are gathered.
struct Out<'a> {
    record: &'a Arc<Record>,
    events: Vec<Event>,
}

impl Out<'_> {
    fn push(&mut self, channel: Channel, data: impl Into<Value>) {
        self.push_at(channel, channel.name(), segments(&self.record.namespace), None, Data::Ready(data.into()));
    }

    fn push_lazy(&mut self, channel: Channel, render: fn(&Record) -> Value) {
        let data = Data::Lazy(self.record.clone(), render);
        self.push_at(channel, channel.name(), segments(&self.record.namespace), None, data);
    }

    fn push_at(
        &mut self,
        channel: Channel,
        method: &'static str,
        namespace: Arc<[Arc<str>]>,
        id: Option<String>,
        data: Data,
    ) {
        self.events.push(Event { channel, method, namespace, timestamp: millis(self.record), id, data });
    }

    /// A change of the graph itself.
    fn root(&mut self, event: &str, mut data: Object) {
        data.insert("event", event);
        let id = format!("synth:{}:lc||{event}", self.record.run_id);
        self.push_at(Channel::Lifecycle, "lifecycle", segments(""), Some(id), Data::Ready(data.into()));
    }
}

impl Translator {
    /// For a run that was requested with `spec`.
    pub fn new(spec: &RunSpec) -> Self {
        let answers = match &spec.options.start {
            Start::Command(CommandSpec { resume_by_id, .. }) => resume_by_id.clone(),
            _ => Vec::new(),
        };
        Self { answers, ..Self::default() }
    }

    /// The events of the next record.
    pub fn events(&mut self, record: &Arc<Record>) -> Vec<Event> {
        let mut out = Out { record, events: Vec::new() };
        match &record.body {
            Body::Opening(opening) => self.begin(opening, &mut out),
            Body::End(end) => self.end(end, &mut out),
            Body::Part(payload) => self.part(payload, &mut out),
        }
        out.events
    }

    fn begin(&mut self, opening: &Opening, out: &mut Out<'_>) {
        // A further attempt goes on where the one before it was cut off.
        self.messages.clear();
        if std::mem::replace(&mut self.has_begun, true) {
            return;
        }
        self.graph.clone_from(&opening.graph);
        out.root("running", self.named());
        for (id, answer) in std::mem::take(&mut self.answers) {
            let data = object! { "interrupt_id" => id, "response" => answer };
            out.push_at(Channel::Input, "input.answered", segments(""), None, Data::Ready(data.into()));
        }
    }

    fn named(&self) -> Object {
        object! { "graph_name" => self.graph.as_str() }
    }

    fn part(&mut self, payload: &Payload, out: &mut Out<'_>) {
        match payload {
            Payload::Values(values) => {
                if let Some(interrupts) = &values.interrupts {
                    self.request(interrupts, out);
                }
                out.push_lazy(Channel::Values, values_of);
                // The first state of a subgraph comes before its beginning, as LangGraph's server has it.
                self.enter(out);
            }
            Payload::Update(update) => {
                self.enter(out);
                out.push_lazy(Channel::Updates, update_of);
                match update {
                    UpdatePart::Interrupt(interrupts) => self.request(interrupts, out),
                    UpdatePart::Node { .. } => self.leave(None, out),
                }
            }
            Payload::Message(part) => {
                self.enter(out);
                let attempt = out.record.task.as_ref().map_or(1, |task| task.attempt);
                for data in self.messages.push(&part.chunk, attempt) {
                    out.push(Channel::Messages, data);
                }
            }
            Payload::Custom(data) => {
                self.enter(out);
                out.push(Channel::Custom, data.clone());
            }
            Payload::TaskStart(_) => out.push_lazy(Channel::Tasks, task_of),
            Payload::TaskEnd(end) => {
                out.push_lazy(Channel::Tasks, task_of);
                if let Some(error) = &end.error {
                    self.leave(Some(&error.message), out);
                }
            }
            Payload::Checkpoint(_) => out.push_lazy(Channel::Checkpoints, checkpoint_of),
            Payload::Event(event) => self.tool(event, out),
        }
    }

    fn tool(&mut self, event: &EngineEvent, out: &mut Out<'_>) {
        let call = event.data.tool_call.clone().unwrap_or_else(|| event.run_id.to_string().into());
        let mut data = object! { "tool_call_id" => &call };
        match event.kind {
            EventKind::ToolStart => {
                data.insert("event", "tool-started");
                data.insert("tool_name", &event.name);
                data.insert("input", event.data.input.clone().unwrap_or_default());
            }
            EventKind::ToolEnd => {
                data.insert("event", "tool-finished");
                data.insert("output", event.data.output.clone().unwrap_or_default());
            }
            EventKind::ToolError => {
                data.insert("event", "tool-error");
                data.insert("message", event.data.error.as_ref().map(|e| e.message.to_string()).unwrap_or_default());
            }
            _ => return,
        }
        self.enter(out);
        out.push(Channel::Tools, data);
        if let (EventKind::ToolEnd, Some(Value::Object(output))) = (event.kind, &event.data.output)
            && output.get_str("type") == Some("tool")
        {
            let within = format!("{}|tools:{call}", out.record.namespace);
            for data in tool_message(output, &call) {
                out.push_at(Channel::Messages, "messages", segments(&within), None, Data::Ready(data));
            }
        }
    }

    /// Reports interrupts that have not been, and then that the graph is interrupted.
    fn request(&mut self, interrupts: &[Interrupt], out: &mut Out<'_>) {
        for interrupt in interrupts {
            if !self.requested.insert(interrupt.id.clone()) {
                continue;
            }
            let data = object! {
                "interrupt_id" => &interrupt.id,
                "payload" => interrupt.value.clone(),
                "value" => interrupt.value.clone(),
            };
            let at = segments(&out.record.namespace);
            out.push_at(Channel::Input, "input.requested", at, None, Data::Ready(data.into()));
            if !std::mem::replace(&mut self.is_interrupted, true) {
                out.root("interrupted", self.named());
            }
        }
    }

    /// Reports the beginning of the record's subgraph, and of those around it.
    fn enter(&mut self, out: &mut Out<'_>) {
        let namespace = out.record.namespace.clone();
        if namespace.is_empty() || self.scopes.iter().any(|s| *s.namespace == *namespace) {
            return;
        }
        let ends = namespace.match_indices('|').map(|(at, _)| at).chain([namespace.len()]);
        for end in ends {
            let around = &namespace[..end];
            let last = around.rsplit('|').next().unwrap_or(around);
            let Some((node, task)) = last.split_once(':') else { continue };
            if self.scopes.iter().any(|s| *s.namespace == *around) {
                continue;
            }
            let at = segments(around);
            let data = object! {
                "event" => "started",
                "namespace" => at.iter().map(Value::from).collect::<Vec<_>>(),
                "graph_name" => node,
                "trigger_call_id" => task,
            };
            out.push_at(Channel::Lifecycle, "lifecycle", at, None, Data::Ready(data.into()));
            self.scopes.push(Scope { namespace: around.into(), node: node.into(), task: task.into() });
        }
    }

    /// Reports the end of the subgraphs that the record's task ran.
    fn leave(&mut self, error: Option<&str>, out: &mut Out<'_>) {
        let Some(TaskRef { id, .. }) = &out.record.task else { return };
        let (task, outer) = (id.to_string(), &out.record.namespace);
        let ended = |scope: &Scope| *scope.task == *task && parent(&scope.namespace) == &**outer;
        for scope in self.scopes.extract_if(.., |scope| ended(scope)).collect::<Vec<_>>() {
            closed(&scope, if error.is_some() { "failed" } else { "completed" }, error, out);
        }
    }

    fn end(&mut self, end: &End, out: &mut Out<'_>) {
        self.request(&end.interrupts, out);
        let error = end.error.as_ref().map(|e| e.message.clone());
        let (event, error) = match end.status {
            RunStatus::Failed | RunStatus::TimedOut => ("failed", error),
            RunStatus::Cancelled => ("interrupted", None),
            RunStatus::AwaitingInput if self.is_interrupted => ("interrupted", None),
            _ => ("completed", None),
        };
        for scope in self.scopes.drain(..).rev() {
            closed(&scope, event, error.as_deref(), out);
        }
        let is_reported = event == "interrupted" && self.is_interrupted;
        if !is_reported {
            let mut data = self.named();
            if let Some(error) = error {
                data.insert("error", error);
            }
            out.root(event, data);
        }
    }
}

fn closed(scope: &Scope, event: &str, error: Option<&str>, out: &mut Out<'_>) {
    let mut data = object! { "event" => event, "graph_name" => &scope.node };
    if let Some(error) = error {
        data.insert("error", error);
    }
    out.push_at(Channel::Lifecycle, "lifecycle", segments(&scope.namespace), None, Data::Ready(data.into()));
}

/// The namespace around one.
fn parent(namespace: &str) -> &str {
    namespace.rsplit_once('|').map_or("", |(outer, _)| outer)
}

fn values_of(record: &Record) -> Value {
    match &record.body {
        Body::Part(Payload::Values(values)) => compact(&Value::Object(values.to_object())),
        _ => Value::Null,
    }
}

/// An update. Interrupts have a channel of their own: here they are an empty one.
fn update_of(record: &Record) -> Value {
    match &record.body {
        Body::Part(Payload::Update(node @ UpdatePart::Node { .. })) => compact(&Value::Object(node.to_object())),
        _ => Value::object(),
    }
}

fn task_of(record: &Record) -> Value {
    match &record.body {
        Body::Part(payload) => compact(&Value::Object(langgraph::task(payload).1)),
        _ => Value::Null,
    }
}

fn checkpoint_of(record: &Record) -> Value {
    let Body::Part(Payload::Checkpoint(view)) = &record.body else { return Value::Null };
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
