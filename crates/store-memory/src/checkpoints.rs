//! Checkpoints in memory: each with its whole state, which shares with the others what they have in common.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    future::ready,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use async_trait::async_trait;
use parking_lot::Mutex;
use runloom_engine::{
    CheckpointError, CheckpointId, RunId, ThreadId,
    checkpoint::{Ack, Checkpoint, CheckpointFilter, CheckpointWrite, Checkpointer, Saved, TaskRecord},
    stream::SnapshotRef,
};

use crate::{MemoryStore, Tables};
use runloom_store::{
    Attempt, Checkpoints, Error, Result, RunStatus, SeenCheckpoint, TenantId, Topic,
    checkpoints::{made_in, wrong_thread},
    delta::state_of,
};

/// A checkpoint, and its state.
type Whole = (Arc<Checkpoint>, SnapshotRef);
/// What a run, or the hand, recorded of a task.
type Record = (Option<RunId>, TaskRecord);

/// The checkpoints of a thread.
#[derive(Clone, Default)]
pub(crate) struct Kept {
    checkpoints: BTreeMap<Arc<str>, BTreeMap<CheckpointId, Whole>>,
    /// Records of tasks with the run that made them, in the order of writing.
    tasks: HashMap<(Arc<str>, CheckpointId), Vec<Record>>,
}

impl Kept {
    fn put(&mut self, write: CheckpointWrite) {
        let CheckpointWrite { mut checkpoint, state, .. } = write;
        let kept = self.checkpoints.entry(checkpoint.ns.clone()).or_default();
        if checkpoint.parent.is_some_and(|parent| !kept.contains_key(&parent)) {
            Arc::make_mut(&mut checkpoint).parent = None;
        }
        kept.entry(checkpoint.id).or_insert((checkpoint, state));
    }

    fn put_task(&mut self, at: (Arc<str>, CheckpointId), run: Option<RunId>, record: TaskRecord) {
        let records = self.tasks.entry(at).or_default();
        records.retain(|(by, other)| *by != run || other.task != record.task);
        records.push((run, record));
    }

    fn saved(&self, (checkpoint, state): &Whole) -> Saved {
        let checkpoint = Checkpoint { values: state_of(state), ..(**checkpoint).clone() };
        let records = self.tasks.get(&(checkpoint.ns.clone(), checkpoint.id)).map_or(&[][..], |records| records);
        let mut seen = HashSet::new();
        let mut tasks: Vec<_> =
            records.iter().rev().filter(|(_, record)| seen.insert(record.task)).map(|(_, r)| r.clone()).collect();
        tasks.reverse();
        Saved { checkpoint, tasks }
    }

    /// Deletes checkpoints of a namespace; the children that remain have no parent.
    fn remove(&mut self, ns: &Arc<str>, gone: &HashSet<CheckpointId>) {
        let Some(kept) = self.checkpoints.get_mut(ns) else { return };
        kept.retain(|id, _| !gone.contains(id));
        for (checkpoint, _) in kept.values_mut() {
            if checkpoint.parent.is_some_and(|parent| gone.contains(&parent)) {
                Arc::make_mut(checkpoint).parent = None;
            }
        }
        if kept.is_empty() {
            self.checkpoints.remove(ns);
        }
        self.tasks.retain(|(of, id), _| of != ns || !gone.contains(id));
    }

    fn remove_run(&mut self, run: RunId) -> u64 {
        let mut removed = 0;
        for ns in self.checkpoints.keys().cloned().collect::<Vec<_>>() {
            let of_run = self.checkpoints[&ns].values().filter(|(c, _)| c.run_id == Some(run));
            let gone: HashSet<_> = of_run.map(|(c, _)| c.id).collect();
            removed += gone.len() as u64;
            self.remove(&ns, &gone);
        }
        self.tasks.retain(|_, records| {
            records.retain(|(by, _)| *by != Some(run));
            !records.is_empty()
        });
        removed
    }

    fn prune(&mut self, keep: usize) -> u64 {
        let mut removed = 0;
        // The graph itself comes first: its namespace is the empty one.
        for ns in self.checkpoints.keys().cloned().collect::<Vec<_>>() {
            let graph = self.checkpoints.get("");
            let kept = &self.checkpoints[&ns];
            let newest = kept.last_key_value().and_then(|(_, (c, _))| made_in(&ns, &c.metadata));
            let orphan = newest.is_some_and(|at| graph.is_some_and(|graph| !graph.contains_key(&at)));
            let keep = if orphan { 0 } else { keep.max(1) };
            let gone: HashSet<_> = kept.keys().rev().skip(keep).copied().collect();
            removed += gone.len() as u64;
            self.remove(&ns, &gone);
        }
        removed
    }
}

/// A checkpointer, of an attempt or for writing by hand.
struct MemoryCheckpointer {
    store: MemoryStore,
    tenant: TenantId,
    attempt: Option<Attempt>,
    /// The latest checkpoint that a put by hand expects.
    seen: Option<Mutex<SeenCheckpoint>>,
}

impl MemoryCheckpointer {
    /// Lets the attempt, or the hand, write to a thread.
    fn admit<'t>(&self, tables: &'t mut Tables, thread: ThreadId) -> Result<&'t mut Kept> {
        match self.attempt {
            Some(attempt) => {
                let run = &tables.held(attempt)?.run;
                if run.thread != thread || run.tenant != self.tenant {
                    return Err(wrong_thread(attempt, thread));
                }
            }
            None => {
                let open = tables.thread(&self.tenant, thread)?.open.values();
                let running = |id: &&RunId| tables.runs.get(id).is_some_and(|r| r.run.status == RunStatus::Running);
                if let Some(run) = { open }.find(running) {
                    return Err(Error::Busy { thread, run: *run });
                }
            }
        }
        Ok(&mut tables.thread_mut(&self.tenant, thread)?.checkpoints)
    }
}

#[async_trait]
impl Checkpointer for MemoryCheckpointer {
    fn put(&self, write: CheckpointWrite) -> Ack {
        let result = self.store.write(|tables| {
            let (thread, put) = (write.thread, (write.checkpoint.ns.is_empty()).then_some(write.checkpoint.id));
            let kept = self.admit(tables, thread)?;
            if let Some(seen) = &self.seen {
                let mut seen = seen.lock();
                let latest = kept.checkpoints.get("").and_then(|of_ns| Some(*of_ns.last_key_value()?.0));
                if latest != *seen {
                    return Err(Error::Moved { thread, latest });
                }
                *seen = put.or(latest);
            }
            kept.put(write);
            tables.hints.push(Topic::Thread(thread));
            Ok(())
        });
        self.store.inner.counters.checkpoints.fetch_add(u64::from(result.is_ok()), Relaxed);
        Box::pin(ready(result.map_err(Into::into)))
    }

    fn put_task(&self, thread: ThreadId, ns: &Arc<str>, checkpoint: CheckpointId, record: TaskRecord) -> Ack {
        let run = self.attempt.map(|attempt| attempt.run);
        let result = self.store.write(|tables| {
            self.admit(tables, thread)?.put_task((ns.clone(), checkpoint), run, record);
            Ok(())
        });
        self.store.inner.counters.tasks.fetch_add(u64::from(result.is_ok()), Relaxed);
        Box::pin(ready(result.map_err(Into::into)))
    }

    async fn get(
        &self,
        thread: ThreadId,
        ns: &str,
        id: Option<CheckpointId>,
    ) -> Result<Option<Saved>, CheckpointError> {
        Ok(self.store.read(|tables| {
            let kept = &tables.threads.get(&(self.tenant.clone(), thread))?.checkpoints;
            let of_ns = kept.checkpoints.get(ns)?;
            let found = match id {
                Some(id) => of_ns.get(&id)?,
                None => of_ns.last_key_value()?.1,
            };
            Some(kept.saved(found))
        }))
    }

    async fn list(&self, thread: ThreadId, ns: &str, filter: CheckpointFilter) -> Result<Vec<Saved>, CheckpointError> {
        Ok(self.store.read(|tables| {
            let Some(kept) = tables.threads.get(&(self.tenant.clone(), thread)).map(|row| &row.checkpoints) else {
                return Vec::new();
            };
            let Some(of_ns) = kept.checkpoints.get(ns) else { return Vec::new() };
            let meant = of_ns.values().rev().filter(|(checkpoint, _)| {
                filter.before.is_none_or(|before| checkpoint.id < before) && checkpoint.matches(&filter.metadata)
            });
            meant.take(filter.limit.unwrap_or(usize::MAX)).map(|found| kept.saved(found)).collect()
        }))
    }
}

#[async_trait]
impl Checkpoints for MemoryStore {
    fn checkpointer(&self, tenant: &TenantId, attempt: Attempt) -> Arc<dyn Checkpointer> {
        Arc::new(MemoryCheckpointer { store: self.clone(), tenant: tenant.clone(), attempt: Some(attempt), seen: None })
    }

    fn checkpointer_by_hand(&self, tenant: &TenantId, seen: Option<SeenCheckpoint>) -> Arc<dyn Checkpointer> {
        let (store, tenant) = (self.clone(), tenant.clone());
        Arc::new(MemoryCheckpointer { store, tenant, attempt: None, seen: seen.map(Mutex::new) })
    }

    async fn delete_run_checkpoints(&self, tenant: &TenantId, run: RunId) -> Result<u64> {
        self.write(|tables| {
            let row = &tables.run(tenant, run)?.run;
            row.check_deletable()?;
            let thread = row.thread;
            Ok(tables.thread_mut(tenant, thread)?.checkpoints.remove_run(run))
        })
    }

    async fn prune_checkpoints(&self, tenant: &TenantId, thread: ThreadId, keep: usize) -> Result<u64> {
        self.write(|tables| Ok(tables.thread_mut(tenant, thread)?.checkpoints.prune(keep)))
    }
}
