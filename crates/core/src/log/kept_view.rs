//! A checkpoint's view as the log keeps it: without its state, which the checkpoint has.

use std::{sync::Arc, time::Duration};

use runloom_engine::{
    CheckpointId, NodeFailure, Object, RunId, TaskId, Value,
    checkpoint::{CheckpointConfig, CheckpointView, Source, TaskView},
    stream::{Interrupt, SnapshotRef},
};
use serde::{Deserialize, Serialize};

use super::{codec::Codec, kept::values};

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

impl KeptView {
    pub fn of(view: &CheckpointView, is_held: bool) -> Self {
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

    pub fn view(self, codec: &Codec, ns: &Arc<str>, base: Option<&SnapshotRef>) -> CheckpointView {
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
