//! Records as bytes, and back.
//!
//! A block holds the records that came at once, so that a fast stream of tokens costs one row for many. Its row's number is
//! that of its last record: whoever asks for what follows a number is given the block that holds it.

use std::{
    cell::Cell,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use parking_lot::Mutex;
use runloom_engine::{
    CheckpointId, Graph, Object, RunId, ThreadId, Value,
    checkpoint::Checkpointer,
    model::Usage,
    stream::{Snapshot, SnapshotRef, TaskMeta, TaskRef},
};
use serde::{Deserialize, Serialize, Serializer};

use super::{
    kept::{KeptBody, KeptTask},
    pieces::Pieces,
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
    /// None for a piece that follows another: its number is the one after the record's before.
    #[serde(rename = "q", default, skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    /// Microseconds since 1970; of a piece, since the record before.
    #[serde(rename = "t", default, skip_serializing_if = "is_zero")]
    time: i64,
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

#[derive(Deserialize)]
struct Block {
    #[serde(rename = "a")]
    attempt: u32,
    #[serde(rename = "r")]
    records: Vec<Kept>,
}

/// Of a block, what the run had used.
#[derive(Deserialize)]
struct Used {
    #[serde(rename = "u", default)]
    used: Option<[u64; 4]>,
}

/// A block that is being written: each record is made as it goes out.
#[derive(Serialize)]
struct FreshBlock<R: Serialize> {
    #[serde(rename = "a")]
    attempt: u32,
    #[serde(rename = "r")]
    records: R,
    /// What the run had used by then, where it had used anything: input, output, cached, reasoning.
    #[serde(rename = "u", skip_serializing_if = "Option::is_none")]
    used: Option<[u64; 4]>,
}

/// What is written one after the other, and not again.
struct Once<I>(Cell<Option<I>>);

impl<I: Iterator<Item = Kept>> Serialize for Once<I> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.take().into_iter().flatten())
    }
}

fn is_empty(text: &Arc<str>) -> bool {
    text.is_empty()
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

fn micros(time: SystemTime) -> i64 {
    i64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros()).unwrap_or(i64::MAX)
}

fn time_of(micros: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(micros.try_into().unwrap_or_default())
}

impl Kept {
    /// A piece that follows another record of its block.
    fn piece(record: &Record, before: &Record, body: KeptBody) -> Self {
        let time = micros(record.emit_time) - micros(before.emit_time);
        Self { seq: None, time, namespace: Arc::default(), step: None, task: None, base: None, body }
    }
}

fn unreadable(run: RunId, error: &serde_json::Error) -> Error {
    let message = format!("the stored log of run {run} cannot be read: {error}");
    Error::new(Reason::Internal, message).with("run_id", run)
}

fn goes_on_from_nothing(seq: u64) -> Error {
    let what = format!("part {seq} of the run's log cannot be read: it goes on from one that is not there");
    Error::new(Reason::Internal, what)
}

fn read_piece(body: KeptBody, pieces: &Pieces<Arc<Record>>, seq: u64, time: i64) -> Result<Record> {
    let next = match body {
        KeptBody::P(chunk) => pieces.next_message(chunk),
        KeptBody::Q(chunk) => pieces.next_event(chunk),
        _ => None,
    };
    let (before, payload) = next.ok_or_else(|| goes_on_from_nothing(seq))?;
    Ok(Record {
        seq,
        emit_time: time_of(time),
        run_id: before.run_id,
        attempt: before.attempt,
        namespace: before.namespace.clone(),
        step: before.step,
        task: before.task.clone(),
        body: Body::Part(payload),
    })
}

/// A record on its way into the log, with the state it was made from.
pub(crate) struct Fresh {
    pub record: Arc<Record>,
    pub base: Option<SnapshotRef>,
}

impl Codec {
    /// The block of these records, with what the run has used so far.
    pub fn encode(&self, attempt: u32, used: Usage, fresh: &[Fresh]) -> Result<Bytes> {
        let (mut pieces, mut before) = (Pieces::default(), None);
        let kept = fresh.iter().map(|fresh| {
            let record = &*fresh.record;
            let kept = match (before.replace(record), pieces.shorten(record)) {
                (Some(before), Some(body)) => Kept::piece(record, before, body),
                _ => self.keep(fresh),
            };
            pieces.note(record);
            kept
        });
        let records = Once(Cell::new(Some(kept)));
        let all = [used.input_tokens, used.output_tokens, used.cached_tokens, used.reasoning_tokens];
        let used = all.iter().any(|n| *n > 0).then_some(all);
        let bytes = serde_json::to_vec(&FreshBlock { attempt, records, used })
            .map_err(|e| Error::new(Reason::Internal, format!("a part of the run's log cannot be written: {e}")))?;
        Ok(bytes.into())
    }

    fn keep(&self, fresh: &Fresh) -> Kept {
        let r = &fresh.record;
        let base = fresh.base.as_deref().filter(|_| !self.inline);
        let mut used = false;
        let body = KeptBody::keep(&r.body, &r.namespace, r.task.as_ref(), base, &mut used);
        Kept {
            seq: Some(r.seq),
            time: micros(r.emit_time),
            namespace: r.namespace.clone(),
            step: r.step,
            task: r.task.as_ref().map(KeptTask::of),
            base: base.and_then(|b| b.checkpoint).filter(|_| used),
            body,
        }
    }

    /// What the run had used when a block was written.
    pub fn used(run: RunId, bytes: &[u8]) -> Result<Usage> {
        let mut text = serde_json::Deserializer::from_slice(bytes);
        text.disable_recursion_limit();
        let block = Used::deserialize(&mut text).map_err(|error| unreadable(run, &error))?;
        // Blocks of the first release do not have it.
        let [input_tokens, output_tokens, cached_tokens, reasoning_tokens] = block.used.unwrap_or_default();
        Ok(Usage { input_tokens, output_tokens, cached_tokens, reasoning_tokens })
    }

    /// The records of a block, those after a number, until they weigh `most` bytes; at least one where there is one.
    pub async fn decode(&self, bytes: &[u8], after: u64, most: u64) -> Result<Vec<Arc<Record>>> {
        // What was written is as deep as the engine lets it be, and a little deeper for the block around it.
        let mut text = serde_json::Deserializer::from_slice(bytes);
        text.disable_recursion_limit();
        let block = Block::deserialize(&mut text).map_err(|error| unreadable(self.run, &error))?;
        let (mut records, mut weight) = (Vec::new(), 0);
        let (mut pieces, mut seq, mut time) = (Pieces::default(), 0, 0);
        for kept in block.records {
            let is_piece = kept.seq.is_none();
            (seq, time) = match kept.seq {
                Some(seq) => (seq, kept.time),
                None => (seq + 1, kept.time.saturating_add(time)),
            };
            // What comes too early is read only where something may go on from it.
            if seq <= after && !kept.body.is_piece() {
                continue;
            }
            let record = if is_piece {
                read_piece(kept.body, &pieces, seq, time)?
            } else {
                self.read(kept, block.attempt, seq).await?
            };
            let record = Arc::new(record);
            pieces.note(record.clone());
            if seq > after {
                weight += record.weight();
                records.push(record);
                if weight >= most {
                    break;
                }
            }
        }
        Ok(records)
    }

    async fn read(&self, kept: Kept, attempt: u32, seq: u64) -> Result<Record> {
        let base = match kept.base {
            Some(id) => self.state(&kept.namespace, id).await?,
            None => None,
        };
        let task: Option<TaskRef> = kept.task.map(KeptTask::task);
        let body = kept.body.read(self, &kept.namespace, kept.step, task.as_ref(), base.as_ref());
        let body = body.ok_or_else(|| goes_on_from_nothing(seq))?;
        Ok(Record {
            seq,
            emit_time: time_of(kept.time),
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
