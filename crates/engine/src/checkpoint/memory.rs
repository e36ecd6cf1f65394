//! A checkpointer in memory: for programs that need no more, and for tests.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{Ack, Checkpoint, CheckpointFilter, CheckpointWrite, Checkpointer, Saved, TaskRecord};
use crate::{CheckpointError, CheckpointId, Object, ThreadId, Value, stream::SnapshotRef};

/// Keeps checkpoints in memory. States are shared with the run that made them: a checkpoint costs what its step wrote.
#[derive(Default)]
pub struct MemoryCheckpointer {
    threads: Mutex<HashMap<(ThreadId, Arc<str>), BTreeMap<CheckpointId, Kept>>>,
}

struct Kept {
    checkpoint: Arc<Checkpoint>,
    state: SnapshotRef,
    tasks: Vec<TaskRecord>,
}

impl Kept {
    fn saved(&self) -> Saved {
        let values = self.state.iter().map(|(n, v)| (n.clone(), v.clone())).collect();
        Saved { checkpoint: Checkpoint { values, ..(*self.checkpoint).clone() }, tasks: self.tasks.clone() }
    }
}

impl Checkpoint {
    /// Whether its metadata has these fields; `source`, `step` and `run_id` count as fields.
    pub fn matches(&self, filter: &Object) -> bool {
        filter.iter().all(|(key, wanted)| match &**key {
            "source" => wanted.as_str() == Some(self.source.name()),
            "step" => wanted.as_i64() == Some(self.step),
            "run_id" => self.run_id.map(|r| r.to_string()).as_deref() == wanted.as_str(),
            key => {
                self.metadata.get(key) == Some(wanted) || (self.metadata.get(key).is_none() && *wanted == Value::Null)
            }
        })
    }
}

#[async_trait]
impl Checkpointer for MemoryCheckpointer {
    fn put(&self, write: CheckpointWrite) -> Ack {
        let CheckpointWrite { thread, checkpoint, state, .. } = write;
        let key = (thread, checkpoint.ns.clone());
        let kept = Kept { state, tasks: Vec::new(), checkpoint };
        self.threads.lock().entry(key).or_default().insert(kept.checkpoint.id, kept);
        Box::pin(std::future::ready(Ok(())))
    }

    fn put_task(&self, thread: ThreadId, ns: &Arc<str>, checkpoint: CheckpointId, record: TaskRecord) -> Ack {
        if let Some(kept) = self.threads.lock().get_mut(&(thread, ns.clone())).and_then(|t| t.get_mut(&checkpoint)) {
            match kept.tasks.iter_mut().find(|r| r.task == record.task) {
                Some(old) => *old = record,
                None => kept.tasks.push(record),
            }
        }
        Box::pin(std::future::ready(Ok(())))
    }

    async fn get(
        &self,
        thread: ThreadId,
        ns: &str,
        id: Option<CheckpointId>,
    ) -> Result<Option<Saved>, CheckpointError> {
        let threads = self.threads.lock();
        let Some(kept) = threads.get(&(thread, ns.into())) else { return Ok(None) };
        Ok(match id {
            Some(id) => kept.get(&id),
            None => kept.values().next_back(),
        }
        .map(Kept::saved))
    }

    async fn list(&self, thread: ThreadId, ns: &str, filter: CheckpointFilter) -> Result<Vec<Saved>, CheckpointError> {
        let threads = self.threads.lock();
        let Some(kept) = threads.get(&(thread, ns.into())) else { return Ok(Vec::new()) };
        Ok(kept
            .values()
            .rev()
            .filter(|k| filter.before.is_none_or(|b| k.checkpoint.id < b) && k.checkpoint.matches(&filter.metadata))
            .take(filter.limit.unwrap_or(usize::MAX))
            .map(Kept::saved)
            .collect())
    }
}
