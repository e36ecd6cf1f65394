//! What a record holds, as it is kept: short names, no state, nothing that the run or its graph says already.

use std::{collections::BTreeMap, sync::Arc};

use runloom_engine::{
    NodeFailure, TaskId, Value,
    model::{ModelInfo, Usage},
    stream::{
        Event, EventData, Interrupt, MessagePart, Modes, Payload, Snapshot, SnapshotRef, TaskEnd, TaskMeta, TaskRef,
        TaskStart, UpdatePart, ValuesPart,
    },
};
use runloom_store::{AssistantId, RunStatus};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    codec::Codec,
    kept_chunk::KeptChunk,
    kept_view::KeptView,
    pack::{pack, unpack},
    record::{Body, Cancellation, End, Opening},
};
use crate::Error;

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
        let push = meta.path.as_list().filter(|p| p.len() >= 3).and_then(|p| p.get(1)?.as_u64()).map(|i| i as usize);
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
    /// The next piece of the message before.
    P(KeptChunk),
    /// The same, as an event.
    Q(KeptChunk),
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
    m: u32,
    u: bool,
}

#[derive(Serialize, Deserialize)]
pub(super) struct KeptModel(Arc<str>, Arc<str>, #[serde(default)] Option<Arc<str>>);

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

#[derive(Serialize, Deserialize)]
pub(super) struct KeptEnd {
    s: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    e: Option<Value>,
    u: Usage,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    i: Vec<Interrupt>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    c: Option<Cancellation>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    k: Option<runloom_engine::CheckpointId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    v: Option<Value>,
}

impl KeptBody {
    /// Whether it is a piece of a message, from which others may go on.
    pub fn is_piece(&self) -> bool {
        match self {
            Self::M(..) | Self::P(_) | Self::Q(_) => true,
            Self::X(event) => event.c.is_some(),
            _ => false,
        }
    }

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
                c: e.cancellation.clone(),
                k: e.checkpoint_id,
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
                    m.model.as_ref().map(|i| KeptModel(i.provider.clone(), i.model.clone(), m.name.clone())),
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
                    let tool_call = e.data.tool_call.as_ref().map(Value::from);
                    let mut data = BTreeMap::new();
                    let fields = [
                        ("input", &e.data.input),
                        ("output", &e.data.output),
                        ("update", &e.data.update),
                        ("custom", &e.data.custom),
                        ("tool_call", &tool_call),
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
                        m: e.model.as_ref().map(|i| KeptModel(i.provider.clone(), i.model.clone(), None)),
                        d: data,
                        c: e.data.chunk.as_ref().map(|c| KeptChunk::of(c)),
                        e: e.data.error.clone(),
                    }))
                }
            },
        }
    }

    /// The body again; none of a piece that goes on from another record.
    pub fn read(
        self,
        codec: &Codec,
        ns: &Arc<str>,
        step: Option<i64>,
        task: Option<&TaskRef>,
        base: Option<&SnapshotRef>,
    ) -> Option<Body> {
        let unpack = |v: Value| unpack(&v, base.map(|b| &**b));
        let model =
            |m: Option<KeptModel>| m.map(|KeptModel(provider, model, _)| Arc::new(ModelInfo { provider, model }));
        let time = std::time::UNIX_EPOCH;
        let payload = match self {
            Self::O(o) => {
                return Some(Body::from(Opening {
                    thread_id: o.t,
                    assistant_id: o.a,
                    graph: o.g,
                    revision: o.r,
                    status: o.s.parse().unwrap_or(RunStatus::Running),
                    modes: Modes::from_bits(o.m),
                    subgraphs: o.u,
                }));
            }
            Self::Z(e) => {
                return Some(Body::from(End {
                    status: e.s.parse().unwrap_or(RunStatus::Failed),
                    error: e.e.as_ref().map(Error::from_value),
                    usage: e.u,
                    interrupts: e.i,
                    cancellation: e.c,
                    checkpoint_id: e.k,
                    values: e.v.map(unpack),
                }));
            }
            Self::V(value, interrupts) => Payload::Values(values(codec, ns, value, base, interrupts)),
            Self::U(node, value, cached) => Payload::Update(UpdatePart::Node { node, value: unpack(value), cached }),
            Self::I(interrupts) => Payload::Update(UpdatePart::Interrupt(interrupts.into())),
            Self::M(chunk, place, info, tags) => Payload::Message(MessagePart {
                chunk: chunk.chunk(),
                meta: place.meta(codec, ns, step, task),
                name: info.as_ref().and_then(|i| i.2.clone()),
                model: model(info),
                tags: tags.into(),
            }),
            Self::P(_) | Self::Q(_) => return None,
            Self::C(value) => Payload::Custom(unpack(value)),
            Self::S(input, place) => {
                let meta = place.meta(codec, ns, step, task);
                Payload::TaskStart(TaskStart { input: unpack(input), meta, time })
            }
            Self::E(result, error, interrupts, place) => {
                let meta = place.meta(codec, ns, step, task);
                Payload::from(TaskEnd { meta, result: unpack(result), error, interrupts, time })
            }
            Self::K(view) => Payload::Checkpoint(Arc::new(view.view(codec, ns, base))),
            Self::X(e) => {
                let mut data: BTreeMap<String, Value> = e.d;
                let mut take = |key: &str| data.remove(key).map(unpack);
                Payload::from(Event {
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
                        tool_call: take("tool_call").as_ref().and_then(Value::as_str).map(Arc::from),
                    },
                })
            }
        };
        Some(Body::Part(payload))
    }
}

pub(super) fn values(
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
