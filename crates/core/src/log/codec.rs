//! Records as bytes, and back.
//!
//! A block holds the records that came at once, so that a fast stream of tokens costs one row for many. Its row's number is
//! that of its last record: whoever asks for what follows a number is given the block that holds it.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use parking_lot::Mutex;
use runloom_engine::{
    CheckpointId, Graph, Object, RunId, ThreadId, Value,
    checkpoint::Checkpointer,
    stream::{Snapshot, SnapshotRef, TaskMeta, TaskRef},
};
use serde::{Deserialize, Serialize};

use super::{
    kept::{KeptBody, KeptTask},
    record::{Body, Record},
};
use crate::{Error, Reason, Result};

/// What is needed to read a run's records: to whom they belong, and what they may leave out.
#[derive(Clone)]
pub(crate) struct Codec {
    pub run: RunId,
    pub thread: ThreadId,
    /// The graph at the run's revision; none where that is gone.
    pub graph: Option<Graph>,
    /// The run's metadata as the engine had it: records leave it out.
    pub metadata: Object,
    pub tags: Arc<[Arc<str>]>,
    /// True where states are written out: the checkpoints that would hold them are not kept.
    pub inline: bool,
    /// Reads checkpoints.
    pub reader: Arc<dyn Checkpointer>,
    pub cache: Arc<Mutex<Cache>>,
}

/// States and tasks that were read lately.
#[derive(Default)]
pub(crate) struct Cache {
    states: Vec<((Arc<str>, CheckpointId), Option<SnapshotRef>)>,
    metas: Vec<((Arc<str>, i64, u32), Arc<TaskMeta>)>,
}

/// A record as it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    #[serde(rename = "q")]
    seq: u64,
    /// Microseconds since 1970.
    #[serde(rename = "t")]
    time: u64,
    #[serde(rename = "n", default, skip_serializing_if = "is_empty")]
    namespace: Arc<str>,
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    step: Option<i64>,
    #[serde(rename = "k", default, skip_serializing_if = "Option::is_none")]
    task: Option<KeptTask>,
    /// The checkpoint that `body` refers to.
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    base: Option<CheckpointId>,
    #[serde(rename = "b")]
    body: KeptBody,
}

#[derive(Serialize, Deserialize)]
struct Block {
    #[serde(rename = "a")]
    attempt: u32,
    #[serde(rename = "r")]
    records: Vec<Kept>,
}

fn is_empty(text: &Arc<str>) -> bool {
    text.is_empty()
}

/// A record on its way into the log, with the state it was made from.
pub(crate) struct Fresh {
    pub record: Arc<Record>,
    pub base: Option<SnapshotRef>,
}

impl Codec {
    /// The block of these records.
    pub fn encode(&self, attempt: u32, fresh: &[Fresh]) -> Result<Bytes> {
        let records = fresh.iter().map(|f| self.keep(f)).collect();
        let bytes = serde_json::to_vec(&Block { attempt, records })
            .map_err(|e| Error::new(Reason::Internal, format!("a part of the run's log cannot be written: {e}")))?;
        Ok(bytes.into())
    }

    fn keep(&self, fresh: &Fresh) -> Kept {
        let r = &fresh.record;
        let base = fresh.base.as_deref().filter(|_| !self.inline);
        let mut used = false;
        let body = KeptBody::keep(&r.body, &r.namespace, r.task.as_ref(), base, &mut used);
        let micros = r.emit_time.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        Kept {
            seq: r.seq,
            time: u64::try_from(micros).unwrap_or(u64::MAX),
            namespace: r.namespace.clone(),
            step: r.step,
            task: r.task.as_ref().map(KeptTask::of),
            base: base.and_then(|b| b.checkpoint).filter(|_| used),
            body,
        }
    }

    /// The records of a block, those after a number.
    pub async fn decode(&self, bytes: &[u8], after: u64) -> Result<Vec<Arc<Record>>> {
        // What was written is as deep as the engine lets it be, and a little deeper for the block around it.
        let mut text = serde_json::Deserializer::from_slice(bytes);
        text.disable_recursion_limit();
        let block = Block::deserialize(&mut text)
            .map_err(|e| Error::new(Reason::Internal, format!("a part of the run's log cannot be read: {e}")))?;
        let mut records = Vec::with_capacity(block.records.len());
        for kept in block.records.into_iter().filter(|k| k.seq > after) {
            records.push(Arc::new(self.read(kept, block.attempt).await?));
        }
        Ok(records)
    }

    async fn read(&self, kept: Kept, attempt: u32) -> Result<Record> {
        let base = match kept.base {
            Some(id) => self.state(&kept.namespace, id).await?,
            None => None,
        };
        let task: Option<TaskRef> = kept.task.map(KeptTask::task);
        let body = kept.body.read(self, &kept.namespace, kept.step, task.as_ref(), base.as_ref());
        Ok(Record {
            seq: kept.seq,
            emit_time: UNIX_EPOCH + Duration::from_micros(kept.time),
            run_id: self.run,
            attempt,
            namespace: kept.namespace,
            step: kept.step,
            task,
            body,
        })
    }

    /// A state as its checkpoint has it; none where that is gone.
    async fn state(&self, ns: &Arc<str>, id: CheckpointId) -> Result<Option<SnapshotRef>> {
        let key = (ns.clone(), id);
        if let Some((_, state)) = self.cache.lock().states.iter().find(|(k, _)| *k == key) {
            return Ok(state.clone());
        }
        let saved = self
            .reader
            .get(self.thread, ns, Some(id))
            .await
            .map_err(|e| Error::new(Reason::StoreUnavailable, e.to_string()).retry_after(Duration::from_secs(1)))?;
        let state = saved.map(|saved| {
            let values = saved.checkpoint.values;
            let names: Arc<[Arc<str>]> = match self.graph.as_ref().and_then(|g| g.subgraph_at(ns)) {
                // In the graph's own order.
                Some(graph) => graph.channels().iter().map(|c| c.name.clone()).collect(),
                None => values.keys().cloned().collect(),
            };
            let values = names.iter().map(|n| values.get(n).cloned()).collect();
            Arc::new(Snapshot { checkpoint: Some(id), names, values })
        });
        let mut cache = self.cache.lock();
        if cache.states.len() >= 8 {
            cache.states.remove(0);
        }
        cache.states.push((key, state.clone()));
        Ok(state)
    }

    /// What the parts of a task share, made again from where the task stands.
    pub fn meta(&self, ns: &str, step: i64, attempt: u32, push: Option<usize>) -> Arc<TaskMeta> {
        let mut cache = self.cache.lock();
        let found = cache.metas.iter().find(|((n, s, a), _)| &**n == ns && *s == step && *a == attempt);
        if let Some((_, meta)) = found {
            return meta.clone();
        }
        let meta = Arc::new(match &self.graph {
            Some(graph) => graph.describe_task(&self.metadata, &self.tags, ns, step, attempt, push),
            None => TaskMeta {
                task: None,
                step,
                triggers: Arc::default(),
                path: Value::Null,
                checkpoint_ns: ns.into(),
                metadata: self.metadata.clone(),
                tags: self.tags.clone(),
            },
        });
        if cache.metas.len() >= 32 {
            cache.metas.remove(0);
        }
        cache.metas.push(((ns.into(), step, attempt), meta.clone()));
        meta
    }

    /// The names of the channels that a graph gives, by its namespace.
    pub fn output(&self, ns: &str, state: Option<&SnapshotRef>) -> Arc<[Arc<str>]> {
        match self.graph.as_ref().and_then(|g| g.subgraph_at(ns)) {
            Some(graph) => graph.output_names().clone(),
            None => state.map(|s| s.names.clone()).unwrap_or_default(),
        }
    }

    /// A record of this run that is not in its log.
    pub fn unlogged(&self, now: SystemTime, attempt: u32, body: Body) -> Record {
        Record {
            seq: 0,
            emit_time: now,
            run_id: self.run,
            attempt,
            namespace: Arc::default(),
            step: None,
            task: None,
            body,
        }
    }
}
