//! Records of a run as events. The same log always gives the same events in the same order: their numbers are counted on it.

use std::{collections::HashSet, sync::Arc};

use runloom_engine::{
    Value,
    stream::{Event as EngineEvent, EventKind, Interrupt, Payload, TaskRef, UpdatePart},
};
use runloom_store::RunStatus;

use super::{
    blocks::{Messages, Sink, tool_message},
    event::{Event, EventBody, Lifecycle, Subgraph},
};
use crate::{Body, CommandSpec, End, Opening, Record, RunSpec, Start};

/// Turns the records of one run into events. All records must pass through it, in order.
#[derive(Default)]
pub struct Translator {
    graph: Arc<str>,
    has_begun: bool,
    /// Set once the graph's `interrupted` has been reported.
    is_interrupted: bool,
    /// Ids of interrupts that have been reported.
    requested: HashSet<Arc<str>>,
    /// Subgraphs under way, in the order in which they began.
    subgraphs: Vec<Subgraph>,
    /// Calls of tools under way: the task and the call.
    calls: Vec<(Arc<str>, Arc<str>)>,
    messages: Messages,
    /// Answers that the run starts with, by interrupt id.
    answers: Vec<(String, Value)>,
}

/// The events of one record, as they are gathered.
struct Out<'a> {
    record: &'a Record,
    events: Vec<Event>,
    count: u64,
    counts_only: bool,
}

impl<'a> Out<'a> {
    fn new(record: &'a Record, counts_only: bool) -> Self {
        Self { record, events: Vec::new(), count: 0, counts_only }
    }

    fn push(&mut self, body: EventBody) {
        self.push_at(self.record.namespace.clone(), body);
    }

    fn push_at(&mut self, namespace: Arc<str>, body: EventBody) {
        self.count += 1;
        if !self.counts_only {
            self.events.push(Event { namespace, body });
        }
    }

    fn root(&mut self, body: EventBody) {
        self.push_at(Arc::default(), body);
    }

    fn messages(&mut self, namespace: &Arc<str>, pieces: impl FnOnce(&mut Sink)) {
        let mut sink = Sink::new(self.counts_only);
        pieces(&mut sink);
        self.count += sink.count;
        let (id, parts) = (sink.id, sink.events.into_iter());
        let body = |part| EventBody::Message { id: id.clone(), part };
        self.events.extend(parts.map(|part| Event { namespace: namespace.clone(), body: body(part) }));
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
    pub fn events(&mut self, record: &Record) -> Vec<Event> {
        let mut out = Out::new(record, false);
        self.translate(record, &mut out);
        out.events
    }

    /// How many events the next record has. A translator either counts or translates: text is not gathered here.
    pub fn count(&mut self, record: &Record) -> u64 {
        let mut out = Out::new(record, true);
        self.translate(record, &mut out);
        out.count
    }

    fn translate(&mut self, record: &Record, out: &mut Out<'_>) {
        match &record.body {
            Body::Opening(opening) => self.begin(opening, out),
            Body::End(end) => self.end(end, out),
            Body::Part(payload) => self.part(payload, out),
        }
    }

    fn begin(&mut self, opening: &Opening, out: &mut Out<'_>) {
        // A further attempt goes on where the one before it was cut off.
        self.messages.clear();
        self.calls.clear();
        if std::mem::replace(&mut self.has_begun, true) {
            return;
        }
        self.graph = opening.graph.as_str().into();
        out.root(self.changed(Lifecycle::Running, None));
        for (id, answer) in std::mem::take(&mut self.answers) {
            out.root(EventBody::Answered { id: id.into(), answer });
        }
    }

    fn changed(&self, change: Lifecycle, error: Option<Arc<str>>) -> EventBody {
        EventBody::Graph { change, graph: self.graph.clone(), error }
    }

    fn part(&mut self, payload: &Payload, out: &mut Out<'_>) {
        match payload {
            Payload::Values(values) => {
                if let Some(interrupts) = &values.interrupts {
                    self.request(interrupts, out);
                }
                out.push(EventBody::Values);
                // The first state of a subgraph comes before its beginning, as LangGraph's server has it.
                self.enter(out);
            }
            Payload::Update(update) => {
                self.enter(out);
                out.push(EventBody::Update);
                match update {
                    UpdatePart::Interrupt(interrupts) => self.request(interrupts, out),
                    UpdatePart::Node { .. } => self.leave(None, out),
                }
            }
            Payload::Message(part) => {
                self.enter(out);
                let namespace = out.record.namespace.clone();
                let attempt = out.record.task.as_ref().map_or(1, |task| task.attempt);
                out.messages(&namespace, |sink| self.messages.push(&part.chunk, attempt, sink));
            }
            Payload::Custom(_) => {
                self.enter(out);
                out.push(EventBody::Custom);
            }
            Payload::TaskStart(_) => out.push(EventBody::Task),
            Payload::TaskEnd(end) => {
                out.push(EventBody::Task);
                if let Some(error) = &end.error {
                    self.leave(Some(error.message.to_string().into()), out);
                }
            }
            Payload::Checkpoint(_) => out.push(EventBody::Checkpoint),
            Payload::Event(event) => self.tool(event, out),
        }
    }

    fn tool(&mut self, event: &EngineEvent, out: &mut Out<'_>) {
        if !matches!(event.kind, EventKind::ToolStart | EventKind::ToolEnd | EventKind::ToolError) {
            return;
        }
        let call = call_of(event);
        self.enter(out);
        let task: Option<Arc<str>> = out.record.task.as_ref().map(|task| task.id.to_string().into());
        if event.kind == EventKind::ToolStart {
            self.calls.extend(task.map(|task| (task, call.clone())));
        } else {
            self.calls.retain(|(within, open)| Some(within) != task.as_ref() || *open != call);
        }
        out.push(EventBody::Tool);
        if let (EventKind::ToolEnd, Some(Value::Object(output))) = (event.kind, &event.data.output)
            && output.get_str("type") == Some("tool")
        {
            let around = &out.record.namespace;
            let within: Arc<str> =
                if around.is_empty() { format!("tools:{call}") } else { format!("{around}|tools:{call}") }.into();
            out.messages(&within, |sink| tool_message(output, &call, sink));
        }
    }

    /// Reports interrupts that have not been, and then that the graph is interrupted.
    fn request(&mut self, interrupts: &[Interrupt], out: &mut Out<'_>) {
        for interrupt in interrupts {
            if !self.requested.insert(interrupt.id.clone()) {
                continue;
            }
            out.push(EventBody::Requested(interrupt.clone()));
            if !std::mem::replace(&mut self.is_interrupted, true) {
                out.root(self.changed(Lifecycle::Interrupted, None));
            }
        }
    }

    /// Reports the beginning of the record's subgraph, and of those around it.
    fn enter(&mut self, out: &mut Out<'_>) {
        let namespace = out.record.namespace.clone();
        if namespace.is_empty() || self.subgraphs.iter().any(|s| *s.namespace == *namespace) {
            return;
        }
        let ends = namespace.match_indices('|').map(|(at, _)| at).chain([namespace.len()]);
        for end in ends {
            let around = &namespace[..end];
            let last = around.rsplit('|').next().unwrap_or(around);
            let Some((node, task)) = last.split_once(':') else { continue };
            if self.subgraphs.iter().any(|s| *s.namespace == *around) {
                continue;
            }
            let mut calls = self.calls.iter().filter(|(within, _)| **within == *task).map(|(_, call)| call.clone());
            // Where several tools of a task are under way, which of them runs the subgraph is not known.
            let tool_call = calls.next().filter(|_| calls.next().is_none());
            let of = Subgraph { namespace: around.into(), node: node.into(), task: task.into(), tool_call };
            self.subgraphs.push(of.clone());
            let body = EventBody::Subgraph { change: Lifecycle::Started, of, error: None };
            out.push_at(around.into(), body);
        }
    }

    /// Reports the end of the subgraphs that the record's task ran.
    fn leave(&mut self, error: Option<Arc<str>>, out: &mut Out<'_>) {
        if self.subgraphs.is_empty() {
            return;
        }
        let Some(TaskRef { id, .. }) = &out.record.task else { return };
        let (task, outer) = (id.to_string(), &out.record.namespace);
        let has_ended = |of: &Subgraph| *of.task == *task && parent(&of.namespace) == &**outer;
        let change = if error.is_some() { Lifecycle::Failed } else { Lifecycle::Completed };
        for of in self.subgraphs.extract_if(.., |of| has_ended(of)).collect::<Vec<_>>() {
            close(of, change, error.clone(), out);
        }
    }

    fn end(&mut self, end: &End, out: &mut Out<'_>) {
        // A run that has not begun has no events: others of the thread may be under way.
        if !self.has_begun {
            return;
        }
        self.request(&end.interrupts, out);
        let error = end.error.as_ref().map(|e| e.message.as_str().into());
        let (change, error) = match end.status {
            RunStatus::Failed | RunStatus::TimedOut => (Lifecycle::Failed, error),
            RunStatus::Cancelled => (Lifecycle::Interrupted, None),
            RunStatus::AwaitingInput if self.is_interrupted => (Lifecycle::Interrupted, None),
            _ => (Lifecycle::Completed, None),
        };
        for of in self.subgraphs.drain(..).rev() {
            close(of, change, error.clone(), out);
        }
        if change != Lifecycle::Interrupted || !self.is_interrupted {
            out.root(self.changed(change, error));
        }
    }
}

/// The call of a tool that an event is of; its own run where no model called it.
pub(super) fn call_of(event: &EngineEvent) -> Arc<str> {
    event.data.tool_call.clone().unwrap_or_else(|| event.run_id.to_string().into())
}

fn close(of: Subgraph, change: Lifecycle, error: Option<Arc<str>>, out: &mut Out<'_>) {
    out.push_at(of.namespace.clone(), EventBody::Subgraph { change, of, error });
}

/// The namespace around one.
fn parent(namespace: &str) -> &str {
    namespace.rsplit_once('|').map_or("", |(outer, _)| outer)
}
