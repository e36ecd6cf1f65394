//! Records as the events of LangGraph's stream.

use std::{collections::HashMap, sync::Arc};

use runloom_core::{
    Body, End, Error, Reason, Record,
    events::{EventBody, Translator},
};
use runloom_engine::{
    NodeFailure, Object, Value,
    model::ModelInfo,
    stream::{Chunk, Event as EngineEvent, EventKind, Interrupt, MessagePart, Payload, TaskMeta, UpdatePart},
};
use runloom_store::RunStatus;

use super::{
    activity::{lifecycle, tool},
    messages::{self, Partial},
    mode::StreamMode,
    state,
    time::iso,
};

/// An event of the stream: its name and its data.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Which it is of those that the run's own modes make of the record, from 1 on.
    pub number: u32,
    /// `values`, `updates|child:…`, `error`.
    pub name: String,
    /// What it carries.
    pub data: Value,
}

/// What a record is to a reader.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Events {
    /// How many events the run's own modes make of the record, whoever reads.
    pub all: u32,
    /// Those that the reader wants, in order.
    pub wanted: Vec<Event>,
}

/// Turns the records of one stream into LangGraph's events.
pub struct Dialect {
    modes: Vec<StreamMode>,
    /// Those of the run and of the reader: what the numbers of events count.
    own: Vec<StreamMode>,
    /// What the server adds to a run's configuration.
    configurable: Object,
    /// By id and by the attempt of the task that says it.
    messages: HashMap<(Arc<str>, u32), Partial>,
    tells_openings: bool,
    tells_checkpoints: bool,
    /// Follows the subgraphs, for a reader of their lifecycle.
    subgraphs: Option<Translator>,
    /// Whether what subgraphs record is for their lifecycle alone.
    hides_subgraphs: bool,
}

impl Dialect {
    /// For a reader of these modes, of a run that was asked for with `own`. `configurable` is what streamed checkpoints
    /// show beside the place.
    pub fn new(modes: Vec<StreamMode>, mut own: Vec<StreamMode>, configurable: Object) -> Self {
        own.extend(&modes);
        let subgraphs = modes.contains(&StreamMode::Lifecycle).then(Translator::default);
        Self {
            modes,
            own,
            configurable,
            messages: HashMap::new(),
            tells_openings: true,
            tells_checkpoints: true,
            subgraphs,
            hides_subgraphs: false,
        }
    }

    /// For a run whose client did not ask for subgraphs: of them, only their lifecycle is shown.
    #[must_use]
    pub fn without_subgraphs(mut self, is_without: bool) -> Self {
        self.hides_subgraphs = is_without;
        self
    }

    /// For a run without a thread of its own: there is no checkpoint to go back to, so none is told.
    #[must_use]
    pub fn without_checkpoints(mut self) -> Self {
        self.modes.retain(|mode| *mode != StreamMode::Checkpoints);
        self.own.retain(|mode| *mode != StreamMode::Checkpoints);
        self.tells_checkpoints = false;
        self
    }

    /// For a reader who named what it wants: attempts are not told.
    #[must_use]
    pub fn without_openings(mut self) -> Self {
        self.tells_openings = false;
        self
    }

    /// What a record is. One record may be several events, or none.
    pub fn events(&mut self, record: &Record) -> Events {
        let ns = &record.namespace;
        let changes = self.subgraphs.as_mut().map(|translator| translator.events(record)).unwrap_or_default();
        let mut tell = Telling { modes: &self.modes, own: &self.own, ns, events: Events::default() };
        match &record.body {
            // One for each attempt; how a waiting run stands is told by the head of the answer.
            Body::Opening(_) if record.seq == 0 || !self.tells_openings => {}
            Body::Opening(_) => {
                let mut o = Object::default();
                o.insert("run_id", record.run_id.to_string());
                o.insert("attempt", record.attempt);
                tell.always("metadata", Value::Object(o));
            }
            Body::End(end) => {
                if let Some(error) = failure(end) {
                    tell.always("error", error_object(error));
                }
                tell.always("end", Value::Null);
            }
            Body::Part(_) if self.hides_subgraphs && !ns.is_empty() => {}
            Body::Part(payload) => match payload {
                Payload::Values(v) => tell.mode(StreamMode::Values, "values", || {
                    let mut o = v.to_object();
                    if let Some(asked) = &v.interrupts {
                        o.insert("__interrupt__", interrupts(asked));
                    }
                    Value::Object(o)
                }),
                Payload::Update(u) => tell.mode(StreamMode::Updates, "updates", || match u {
                    UpdatePart::Interrupt(asked) => Value::Object(object! { "__interrupt__" => interrupts(asked) }),
                    node => Value::Object(node.to_object()),
                }),
                Payload::Custom(data) => tell.mode(StreamMode::Custom, "custom", || data.clone()),
                Payload::Message(m) => {
                    let attempt = record.task.as_ref().map_or(1, |task| task.attempt);
                    message(m, attempt, &mut self.messages, &mut tell);
                }
                Payload::TaskStart(_) | Payload::TaskEnd(_) => {
                    tell.mode(StreamMode::Tasks, "tasks", || Value::Object(task(payload).1));
                    tell.mode(StreamMode::Debug, "debug", || {
                        let (kind, o) = task(payload);
                        debug(record, kind, o)
                    });
                }
                Payload::Checkpoint(view) => {
                    let shown = || state::streamed(view, record.run_id, &self.configurable);
                    if self.tells_checkpoints {
                        tell.mode(StreamMode::Debug, "debug", || {
                            debug(record, "checkpoint", state::with_places(shown(), view))
                        });
                    }
                    tell.mode(StreamMode::Checkpoints, "checkpoints", || Value::Object(shown()));
                }
                Payload::Event(e) => {
                    tell.mode(StreamMode::Events, "events", || event(e, ns));
                    if let Some(data) = tool(e) {
                        tell.mode(StreamMode::Tools, "tools", || data.into());
                    }
                }
            },
        }
        // After what has numbers for every reader: only readers of the lifecycle follow the subgraphs.
        for change in &changes {
            if let EventBody::Subgraph { change: kind, of, error } = &change.body {
                tell.ns = &change.namespace;
                tell.mode(StreamMode::Lifecycle, "lifecycle", || lifecycle(kind.name(), of, error.as_ref()));
            }
        }
        tell.events
    }
}

/// The events of one record, as they are told.
struct Telling<'a> {
    modes: &'a [StreamMode],
    own: &'a [StreamMode],
    ns: &'a str,
    events: Events,
}

impl Telling<'_> {
    /// Tells what every reader is told.
    fn always(&mut self, name: &str, data: Value) {
        self.events.all += 1;
        // LangGraph puts the messages of all places together: their ids tell them apart. Events of subgraphs have their
        // place in their metadata, and a run ends as a whole.
        let is_apart =
            self.ns.is_empty() || name.starts_with("messages/") || ["events", "error", "end"].contains(&name);
        let name = if is_apart { name.to_owned() } else { format!("{name}|{}", self.ns) };
        self.events.wanted.push(Event { number: self.events.all, name, data });
    }

    /// Tells what is of a mode, and counts it where the run has that mode and this reader does not want it.
    fn mode(&mut self, mode: StreamMode, name: &str, data: impl FnOnce() -> Value) {
        if self.modes.contains(&mode) {
            self.always(name, data());
        } else if self.own.contains(&mode) {
            self.events.all += 1;
        }
    }
}

/// A piece of a message: alone, and as the message so far.
fn message(m: &MessagePart, attempt: u32, messages: &mut HashMap<(Arc<str>, u32), Partial>, tell: &mut Telling<'_>) {
    let ns = tell.ns;
    let meta = || Value::Object(metadata(&m.meta, m.model.as_ref(), &m.tags, ns));
    tell.mode(StreamMode::MessagesTuple, "messages", || Value::from(vec![messages::chunk(&m.chunk), meta()]));
    if !tell.modes.contains(&StreamMode::Messages) {
        // What is put together for another reader comes after this.
        tell.mode(StreamMode::Messages, "messages/partial", Value::default);
        return;
    }
    let id: Arc<str> = match &*m.chunk {
        Chunk::Delta { id, .. } => id.clone(),
        Chunk::Whole(message) => message.get_str("id").unwrap_or_default().into(),
    };
    let key = (id.clone(), attempt);
    if !messages.contains_key(&key) {
        let inner = object! { "metadata" => meta() };
        tell.mode(StreamMode::Messages, "messages/metadata", || {
            Value::Object([(id.clone(), inner)].into_iter().collect())
        });
    }
    let so_far = messages.entry(key).or_default();
    let name = if matches!(*m.chunk, Chunk::Whole(_)) { "messages/complete" } else { "messages/partial" };
    tell.mode(StreamMode::Messages, name, || Value::from(vec![messages::partial(so_far, &m.chunk)]));
}

fn interrupts(asked: &[Interrupt]) -> Value {
    state::interrupts(asked)
}

/// Why the run failed, where a stream says so.
fn failure(end: &End) -> Option<&Error> {
    match end.status {
        RunStatus::Failed | RunStatus::TimedOut | RunStatus::Cancelled => end.error.as_ref(),
        _ => None,
    }
}

/// How a cancel by LangGraph's API is called in what it leaves behind.
pub const CANCEL_CALL: &str = "POST /threads/{thread_id}/runs/{run_id}/cancel";

/// And a cancel of many.
pub const CANCEL_MANY: &str = "POST /runs/cancel";

/// `{error: type, message}`.
pub fn error_object(error: &Error) -> Value {
    let mut o = Object::default();
    o.insert("error", error.kind.clone().unwrap_or_else(|| format!("{:?}", error.reason)));
    // Who cancelled by LangGraph's API is told in that server's words.
    let message = match error.metadata.get("requester") {
        Some(by) if error.reason == Reason::Cancelled && [CANCEL_CALL, CANCEL_MANY].contains(&by.as_str()) => {
            format!("interrupt requested via {by}")
        }
        _ => error.message.clone(),
    };
    o.insert("message", message);
    Value::Object(o)
}

/// A task's start or end.
pub(crate) fn task(payload: &Payload) -> (&'static str, Object) {
    let mut o = Object::default();
    let name = |meta: &TaskMeta, o: &mut Object| {
        if let Some(task) = &meta.task {
            o.insert("id", task.id.to_string());
            o.insert("name", &task.node);
        }
    };
    match payload {
        Payload::TaskStart(t) => {
            name(&t.meta, &mut o);
            o.insert("input", t.input.clone());
            o.insert("triggers", t.meta.triggers.iter().map(Value::from).collect::<Vec<_>>());
            let mut metadata = t.meta.metadata.clone();
            metadata.remove("thread_id");
            o.insert("metadata", metadata);
            ("task", o)
        }
        Payload::TaskEnd(t) => {
            name(&t.meta, &mut o);
            let error = |e: &NodeFailure| Value::Object(object! { "error" => &*e.kind, "message" => &*e.message });
            o.insert("error", t.error.as_ref().map_or(Value::Null, error));
            o.insert("result", t.result.clone());
            o.insert("interrupts", interrupts(&t.interrupts));
            ("task_result", o)
        }
        _ => ("", o),
    }
}

fn debug(record: &Record, kind: &str, payload: Object) -> Value {
    let mut o = Object::default();
    o.insert("step", record.step.unwrap_or(-1));
    o.insert("timestamp", iso(record.emit_time));
    o.insert("type", kind);
    o.insert("payload", payload);
    Value::Object(o)
}

/// `checkpoint_ns` of what a task made in a graph with namespace `ns`: LangGraph hands down the first that it meets, which is
/// the outermost subgraph's, or else the task's own.
fn place<'a>(ns: &'a str, meta: &'a TaskMeta) -> &'a str {
    if ns.is_empty() { &meta.checkpoint_ns } else { state::outermost(ns) }
}

/// The metadata of a message or an event: the run's, and where in the graph it was made.
fn metadata(meta: &TaskMeta, model: Option<&Arc<ModelInfo>>, tags: &[Arc<str>], ns: &str) -> Object {
    let mut o = meta.metadata.clone();
    if let Some(task) = &meta.task {
        o.insert("langgraph_step", meta.step);
        o.insert("langgraph_node", &task.node);
        o.insert("langgraph_triggers", meta.triggers.iter().map(Value::from).collect::<Vec<_>>());
        o.insert("langgraph_path", meta.path.clone());
        o.insert("langgraph_checkpoint_ns", &meta.checkpoint_ns);
    }
    if let Some(info) = model {
        o.insert("checkpoint_ns", place(ns, meta));
        o.insert("ls_provider", &info.provider);
        o.insert("ls_model_name", &info.model);
        o.insert("ls_model_type", "chat");
    }
    let all: Vec<Value> = meta.tags.iter().chain(tags).map(Value::from).collect();
    if !all.is_empty() {
        o.insert("tags", all);
    }
    o
}

/// An event of `astream_events` version 2.
fn event(e: &EngineEvent, ns: &str) -> Value {
    let mut meta = metadata(&e.meta, e.model.as_ref(), &[], ns);
    meta.remove("tags");
    // Graphs, nodes and routes of the outermost graph are nowhere within.
    if !ns.is_empty() || !e.kind.name().starts_with("on_chain") {
        meta.insert("checkpoint_ns", place(ns, &e.meta));
    }
    let mut data = Object::default();
    let d = &e.data;
    if let Some(custom) = &d.custom {
        // A custom event's data is its own, not wrapped.
        return wrapped(e, meta, custom.clone());
    }
    if let Some(input) = &d.input {
        data.insert("input", input.clone());
    }
    if let Some(output) = &d.output {
        data.insert("output", output.clone());
    }
    if let Some(piece) = &d.chunk {
        data.insert("chunk", messages::chunk(piece));
    }
    if let Some(update) = &d.update {
        data.insert("chunk", update.clone());
    }
    if let Some(error) = &d.error {
        state::add_error(&mut data, e, error);
    }
    // What gave nothing says so.
    if matches!(e.kind, EventKind::ChainEnd | EventKind::ToolEnd) && d.output.is_none() {
        data.insert("output", Value::Null);
    }
    if e.kind == EventKind::ChainStream && d.update.is_none() {
        data.insert("chunk", Value::Null);
    }
    wrapped(e, meta, Value::Object(data))
}

fn wrapped(e: &EngineEvent, meta: Object, data: Value) -> Value {
    let mut o = Object::default();
    o.insert("event", e.kind.name());
    o.insert("data", data);
    o.insert("run_id", e.run_id.to_string());
    o.insert("name", &e.name);
    o.insert("tags", e.tags.iter().map(Value::from).collect::<Vec<_>>());
    o.insert("metadata", meta);
    o.insert("parent_ids", e.parent_ids.iter().map(|p| p.to_string()).collect::<Vec<_>>());
    Value::Object(o)
}
