//! What a record holds, as it is kept: short names, no state, nothing that the run or its graph says already.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use runloom_engine::{
    CheckpointId, NodeFailure, Object, RunId, TaskId, Value,
    checkpoint::{CheckpointConfig, CheckpointView, Source, TaskView},
    model::{ModelInfo, ToolCallDelta, Usage},
    stream::{
        Chunk, Event, EventData, Interrupt, MessagePart, Modes, Payload, Snapshot, SnapshotRef, TaskEnd, TaskMeta,
        TaskRef, TaskStart, UpdatePart, ValuesPart,
    },
};
use runloom_store::{AssistantId, RunStatus};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    codec::Codec,
    pack::{pack, unpack},
    record::{Body, End, Opening},
};
use crate::{Error, Reason};

/// A task.
#[derive(Serialize, Deserialize)]
pub(super) struct KeptTask(TaskId, Arc<str>, u32);

impl KeptTask {
    pub fn of(task: &TaskRef) -> Self {
        Self(task.id, task.node.clone(), task.attempt)
    }

    pub fn task(self) -> TaskRef {
        TaskRef { id: self.0, node: self.1, attempt: self.2 }
    }
}

/// Where a task stands, where the record itself does not say.
#[derive(Serialize, Deserialize, Default)]
pub(super) struct Place {
    /// Its own namespace, where that is not the record's with the record's task.
    #[serde(rename = "n", default, skip_serializing_if = "Option::is_none")]
    ns: Option<Arc<str>>,
    /// Its place among the Sends, where it was sent.
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    push: Option<usize>,
    /// Its step, where that is not the record's.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    step: Option<i64>,
}

fn task_ns(ns: &str, task: Option<&TaskRef>) -> String {
    match task {
        None => String::new(),
        Some(t) if ns.is_empty() => format!("{}:{}", t.node, t.id),
        Some(t) => format!("{ns}|{}:{}", t.node, t.id),
    }
}

impl Place {
    fn of(meta: &TaskMeta, ns: &str, task: Option<&TaskRef>) -> Self {
        let push = meta.path.as_list().filter(|p| p.len() == 3).and_then(|p| p.get(1)?.as_u64()).map(|i| i as usize);
        let is_own = *meta.checkpoint_ns == *task_ns(ns, task);
        Self { ns: (!is_own).then(|| meta.checkpoint_ns.clone()), push, step: (!is_own).then_some(meta.step) }
    }

    fn meta(&self, codec: &Codec, ns: &str, step: Option<i64>, task: Option<&TaskRef>) -> Arc<TaskMeta> {
        let own = match &self.ns {
            Some(ns) => ns.to_string(),
            None => task_ns(ns, task),
        };
        codec.meta(&own, self.step.or(step).unwrap_or(-1), task.map_or(1, |t| t.attempt), self.push)
    }
}

/// The body of a record.
#[derive(Serialize, Deserialize)]
pub(super) enum KeptBody {
    /// An attempt begins.
    O(KeptOpening),
    /// Values: inline, or of the checkpoint the record refers to; with questions.
    V(Option<Value>, #[serde(default)] Option<Vec<Interrupt>>),
    /// A node's update.
    U(Arc<str>, Value, bool),
    /// Questions.
    I(Vec<Interrupt>),
    /// A piece of a message.
    M(KeptChunk, Place, Option<KeptModel>, #[serde(default)] Vec<Arc<str>>),
    /// Custom data.
    C(Value),
    /// A task begins.
    S(Value, Place),
    /// A task has ended.
    E(Value, Option<NodeFailure>, Vec<Interrupt>, Place),
    /// A checkpoint.
    K(Box<KeptView>),
    /// An event.
    X(Box<KeptEvent>),
    /// The end.
    Z(Box<KeptEnd>),
}

#[derive(Serialize, Deserialize)]
pub(super) struct KeptOpening {
    t: runloom_engine::ThreadId,
    a: Option<AssistantId>,
    g: String,
    r: String,
    s: String,
    m: u8,
    u: bool,
}

#[derive(Serialize, Deserialize)]
pub(super) struct KeptModel(Arc<str>, Arc<str>);

/// A piece of a message: what is empty is left out.
#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
pub(super) struct KeptChunk {
    #[serde(skip_serializing_if = "Option::is_none")]
    w: Option<Value>,
    #[serde(skip_serializing_if = "str::is_empty")]
    i: Arc<str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    n: Option<Arc<str>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    t: Arc<str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    r: Arc<str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    b: Vec<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    c: Vec<(u32, Option<Arc<str>>, Option<Arc<str>>, String)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    u: Option<Usage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    m: Option<Object>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    l: bool,
}

impl KeptChunk {
    fn of(chunk: &Chunk) -> Self {
        match chunk {
            Chunk::Whole(message) => Self { w: Some(message.clone()), ..Self::default() },
            Chunk::Delta { id, name, text, reasoning, blocks, tool_calls, usage, response_metadata, last } => Self {
                w: None,
                i: id.clone(),
                n: name.clone(),
                t: text.clone(),
                r: reasoning.clone(),
                b: blocks.clone(),
                c: tool_calls.iter().map(|c| (c.index, c.id.clone(), c.name.clone(), c.args.clone())).collect(),
                u: *usage,
                m: response_metadata.clone(),
                l: *last,
            },
        }
    }

    fn chunk(self) -> Arc<Chunk> {
        Arc::new(match self.w {
            Some(message) => Chunk::Whole(message),
            None => Chunk::Delta {
                id: self.i,
                name: self.n,
                text: self.t,
                reasoning: self.r,
                blocks: self.b,
                tool_calls: self
                    .c
                    .into_iter()
                    .map(|(index, id, name, args)| ToolCallDelta { index, id, name, args })
                    .collect(),
                usage: self.u,
                response_metadata: self.m,
                last: self.l,
            },
        })
    }
}

/// An event: kind, name, id, parents, tags.
#[derive(Serialize, Deserialize)]
pub(super) struct KeptEvent {
    k: String,
    n: Arc<str>,
    i: Uuid,
    p: Arc<[Uuid]>,
    t: Arc<[Arc<str>]>,
    l: Place,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    m: Option<KeptModel>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    d: BTreeMap<String, Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    c: Option<KeptChunk>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    e: Option<NodeFailure>,
}

/// A checkpoint's view without its state.
#[derive(Serialize, Deserialize)]
pub(super) struct KeptView {
    id: Option<CheckpointId>,
    p: Option<CheckpointId>,
    v: Option<Value>,
    n: Vec<Arc<str>>,
    s: Option<Source>,
    st: i64,
    r: Option<RunId>,
    m: Object,
    pa: Object,
    at: Option<u64>,
    t: Vec<KeptTaskView>,
}

#[derive(Serialize, Deserialize)]
struct KeptTaskView {
    id: TaskId,
    n: Arc<str>,
    p: Value,
    e: Option<NodeFailure>,
    i: Vec<Interrupt>,
    r: Option<Value>,
    c: Option<Arc<str>>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct KeptEnd {
    s: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    e: Option<Value>,
    u: Usage,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    i: Vec<Interrupt>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    c: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    v: Option<Value>,
}

impl KeptBody {
    pub fn keep(body: &Body, ns: &str, task: Option<&TaskRef>, base: Option<&Snapshot>, used: &mut bool) -> Self {
        let mut pack = |v: &Value| pack(v, base, used);
        match body {
            Body::Opening(o) => Self::O(KeptOpening {
                t: o.thread_id,
                a: o.assistant_id,
                g: o.graph.clone(),
                r: o.revision.clone(),
                s: o.status.name().to_owned(),
                m: o.modes.bits(),
                u: o.subgraphs,
            }),
            Body::End(e) => Self::Z(Box::new(KeptEnd {
                s: e.status.name().to_owned(),
                e: e.error.as_ref().map(Error::to_value),
                u: e.usage,
                i: e.interrupts.clone(),
                c: e.cancelled_by.clone(),
                v: e.values.as_ref().map(&mut pack),
            })),
            Body::Part(payload) => match payload {
                Payload::Values(v) => {
                    let interrupts = v.interrupts.as_ref().map(|i| i.to_vec());
                    if base.is_some() && v.snapshot.checkpoint.is_some() {
                        *used = true;
                        Self::V(None, interrupts)
                    } else {
                        Self::V(Some(Value::Object(v.to_object())), interrupts)
                    }
                }
                Payload::Update(UpdatePart::Node { node, value, cached }) => {
                    Self::U(node.clone(), pack(value), *cached)
                }
                Payload::Update(UpdatePart::Interrupt(i)) => Self::I(i.to_vec()),
                Payload::Message(m) => Self::M(
                    KeptChunk::of(&m.chunk),
                    Place::of(&m.meta, ns, task),
                    m.model.as_ref().map(|i| KeptModel(i.provider.clone(), i.model.clone())),
                    m.tags.to_vec(),
                ),
                Payload::Custom(value) => Self::C(pack(value)),
                Payload::TaskStart(t) => Self::S(pack(&t.input), Place::of(&t.meta, ns, task)),
                Payload::TaskEnd(t) => {
                    Self::E(pack(&t.result), t.error.clone(), t.interrupts.clone(), Place::of(&t.meta, ns, task))
                }
                Payload::Checkpoint(view) => {
                    let is_held = base.is_some() && view.values.checkpoint.is_some();
                    *used |= is_held;
                    Self::K(Box::new(KeptView::of(view, is_held)))
                }
                Payload::Event(e) => {
                    let mut data = BTreeMap::new();
                    let fields = [
                        ("input", &e.data.input),
                        ("output", &e.data.output),
                        ("update", &e.data.update),
                        ("custom", &e.data.custom),
                    ];
                    for (key, value) in fields {
                        if let Some(value) = value {
                            data.insert(key.to_owned(), pack(value));
                        }
                    }
                    Self::X(Box::new(KeptEvent {
                        k: e.kind.name().to_owned(),
                        n: e.name.clone(),
                        i: e.run_id,
                        p: e.parent_ids.clone(),
                        t: e.tags.clone(),
                        l: Place::of(&e.meta, ns, task),
                        m: e.model.as_ref().map(|i| KeptModel(i.provider.clone(), i.model.clone())),
                        d: data,
                        c: e.data.chunk.as_ref().map(|c| KeptChunk::of(c)),
                        e: e.data.error.clone(),
                    }))
                }
            },
        }
    }

    pub fn read(
        self,
        codec: &Codec,
        ns: &Arc<str>,
        step: Option<i64>,
        task: Option<&TaskRef>,
        base: Option<&SnapshotRef>,
    ) -> Body {
        let unpack = |v: Value| unpack(&v, base.map(|b| &**b));
        let model = |m: Option<KeptModel>| m.map(|KeptModel(provider, model)| Arc::new(ModelInfo { provider, model }));
        let time = std::time::UNIX_EPOCH;
        let payload = match self {
            Self::O(o) => {
                return Body::Opening(Opening {
                    thread_id: o.t,
                    assistant_id: o.a,
                    graph: o.g,
                    revision: o.r,
                    status: o.s.parse().unwrap_or(RunStatus::Running),
                    modes: Modes::from_bits(o.m),
                    subgraphs: o.u,
                });
            }
            Self::Z(e) => {
                return Body::End(End {
                    status: e.s.parse().unwrap_or(RunStatus::Failed),
                    error: e.e.as_ref().map(Error::from_value),
                    usage: e.u,
                    interrupts: e.i,
                    cancelled_by: e.c,
                    values: e.v.map(unpack),
                });
            }
            Self::V(value, interrupts) => Payload::Values(values(codec, ns, value, base, interrupts)),
            Self::U(node, value, cached) => Payload::Update(UpdatePart::Node { node, value: unpack(value), cached }),
            Self::I(interrupts) => Payload::Update(UpdatePart::Interrupt(interrupts.into())),
            Self::M(chunk, place, info, tags) => Payload::Message(MessagePart {
                chunk: chunk.chunk(),
                meta: place.meta(codec, ns, step, task),
                model: model(info),
                tags: tags.into(),
            }),
            Self::C(value) => Payload::Custom(unpack(value)),
            Self::S(input, place) => {
                let meta = place.meta(codec, ns, step, task);
                Payload::TaskStart(TaskStart { input: unpack(input), meta, time })
            }
            Self::E(result, error, interrupts, place) => {
                let meta = place.meta(codec, ns, step, task);
                Payload::TaskEnd(TaskEnd { meta, result: unpack(result), error, interrupts, time })
            }
            Self::K(view) => Payload::Checkpoint(Arc::new(view.view(codec, ns, base))),
            Self::X(e) => {
                let mut data: BTreeMap<String, Value> = e.d;
                let mut take = |key: &str| data.remove(key).map(unpack);
                Payload::Event(Event {
                    kind: e.k.parse().unwrap_or(runloom_engine::stream::EventKind::Custom),
                    name: e.n,
                    run_id: e.i,
                    parent_ids: e.p,
                    tags: e.t,
                    meta: e.l.meta(codec, ns, step, task),
                    model: model(e.m),
                    data: EventData {
                        input: take("input"),
                        output: take("output"),
                        update: take("update"),
                        custom: take("custom"),
                        chunk: e.c.map(KeptChunk::chunk),
                        error: e.e,
                    },
                })
            }
        };
        Body::Part(payload)
    }
}

fn values(
    codec: &Codec,
    ns: &str,
    inline: Option<Value>,
    base: Option<&SnapshotRef>,
    interrupts: Option<Vec<Interrupt>>,
) -> ValuesPart {
    let snapshot = match (inline, base) {
        (Some(Value::Object(o)), _) => Arc::new(Snapshot {
            checkpoint: None,
            names: o.keys().cloned().collect(),
            values: o.iter().map(|(_, v)| Some(v.clone())).collect(),
        }),
        (_, Some(base)) => base.clone(),
        _ => Arc::new(Snapshot { checkpoint: None, names: Arc::default(), values: Vec::new() }),
    };
    ValuesPart { output: codec.output(ns, Some(&snapshot)), snapshot, interrupts: interrupts.map(Into::into) }
}

impl KeptView {
    fn of(view: &CheckpointView, is_held: bool) -> Self {
        Self {
            id: view.config.as_ref().and_then(|c| c.id),
            p: view.parent.as_ref().and_then(|c| c.id),
            v: (!is_held).then(|| Value::Object(view.values_object())),
            n: view.next.clone(),
            s: view.source,
            st: view.step,
            r: view.run_id,
            m: view.metadata.clone(),
            pa: view.parents.clone(),
            at: view
                .created_at
                .and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok())
                .and_then(|d| u64::try_from(d.as_micros()).ok()),
            t: view
                .tasks
                .iter()
                .map(|t| KeptTaskView {
                    id: t.id,
                    n: t.name.clone(),
                    p: t.path.clone(),
                    e: t.error.clone(),
                    i: t.interrupts.clone(),
                    r: t.result.clone(),
                    c: t.checkpoint.as_ref().map(|c| c.ns.clone()),
                })
                .collect(),
        }
    }

    fn view(self, codec: &Codec, ns: &Arc<str>, base: Option<&SnapshotRef>) -> CheckpointView {
        let thread = Some(codec.thread);
        let at = |id| CheckpointConfig { thread, ns: ns.clone(), id: Some(id) };
        let values = values(codec, ns, self.v, base, None).snapshot;
        CheckpointView {
            config: self.id.map(at),
            parent: self.p.map(at),
            shown: values.names.clone(),
            values,
            next: self.n,
            source: self.s,
            step: self.st,
            run_id: self.r,
            metadata: self.m,
            parents: self.pa,
            created_at: self.at.map(|t| std::time::UNIX_EPOCH + Duration::from_micros(t)),
            tasks: self
                .t
                .into_iter()
                .map(|t| TaskView {
                    id: t.id,
                    name: t.n,
                    path: t.p,
                    error: t.e,
                    interrupts: t.i,
                    result: t.r,
                    checkpoint: t.c.map(|ns| CheckpointConfig { thread, ns, id: None }),
                    state: None,
                    by_join: false,
                })
                .collect(),
        }
    }
}

impl Error {
    /// As it is kept with a run.
    pub(crate) fn to_value(&self) -> Value {
        let metadata: Object = self.metadata.iter().map(|(k, v)| (*k, Value::from(v.as_str()))).collect();
        let fields: Vec<Value> =
            self.fields.iter().map(|(f, w)| Value::from(vec![f.as_str(), w.as_str()])).collect();
        let mut o = Object::default();
        o.insert("reason", format!("{:?}", self.reason));
        o.insert("message", self.message.as_str());
        o.insert("kind", Value::from(self.kind.clone()));
        o.insert("metadata", metadata);
        o.insert("fields", fields);
        Value::Object(o)
    }

    /// From what was kept with a run.
    pub fn from_value(value: &Value) -> Self {
        let text = |key: &str| value.get_str(key).unwrap_or_default().to_owned();
        let mut error = Self::new(Reason::from_name(&text("reason")), text("message"));
        error.kind = value.get_str("kind").map(str::to_owned);
        for (key, v) in value.get("metadata").and_then(Value::as_object).into_iter().flat_map(Object::iter) {
            if let (Some(key), Some(v)) = (super::super::error::known_key(key), v.as_str()) {
                error.metadata.insert(key, v.to_owned());
            }
        }
        for pair in value.get("fields").and_then(Value::as_list).into_iter().flat_map(|l| l.iter()) {
            if let Some([Some(f), Some(w)]) =
                pair.as_list().map(|p| [p.get(0).and_then(Value::as_str), p.get(1).and_then(Value::as_str)])
            {
                error.fields.push((f.to_owned(), w.to_owned()));
            }
        }
        error
    }
}
