//! Keeping checkpoints as a graph runs: when they are written, when they are waited for, what is kept at the end.

use std::{collections::VecDeque, sync::Arc};

use futures_util::FutureExt;
use uuid::Uuid;

use super::{channels::Channels, control::Next, scope::Level, superstep::Stopped, taskscope::StoredHook};
use crate::{
    CheckpointError, CheckpointId, Error, List, NodeError, RunId, ThreadId, Value,
    channel::Reducer,
    checkpoint::{Ack, Change, Checkpoint, CheckpointWrite, Durability, ListEdit, Source, TaskRecord},
    graph::ChannelId,
    ids::{from_upper, later, upper},
    stream::{Snapshot, SnapshotRef},
};

/// How many writes may be under way before the loop waits for the oldest.
const MOST_UNDER_WAY: usize = 32;

/// Settings that say where a run stands, and not what it was set to.
const PLACE: [&str; 4] = ["thread_id", "checkpoint_id", "checkpoint_ns", "checkpoint_map"];

/// In a subgraph's metadata, the namespace of the task that it runs in.
pub(super) const WITHIN_NS: &str = "langgraph_checkpoint_ns";

/// Keeps one graph's checkpoints.
pub(crate) struct Saver {
    thread: Option<ThreadId>,
    /// Stands for a checkpoint's id where none is kept, so that task ids are the run's own.
    nonce: Uuid,
    /// The checkpoint that holds the state as it is.
    pub current: Option<CheckpointId>,
    /// The one before it.
    pub parent: Option<CheckpointId>,
    /// The last one made, but for its values.
    pub last: Option<Arc<Checkpoint>>,
    /// Whether the thread has moved past the checkpoint the run was told to start from.
    pub superseded: bool,
    /// The thread's latest checkpoint when the run began: new ones sort after it.
    pub floor: Option<CheckpointId>,
    coming: Option<CheckpointId>,
    /// Changes applied since the last checkpoint that the next one has to carry.
    unsaved: Vec<(ChannelId, Change)>,
    acks: VecDeque<Ack>,
    /// With durability `exit`: how the state has changed since the last checkpoint kept, and what tasks did.
    held: Option<Held>,
}

#[derive(Default)]
struct Held {
    base: Option<CheckpointId>,
    changes: Vec<(ChannelId, Change)>,
    write: Option<(i64, Source)>,
    records: Vec<TaskRecord>,
    /// Who waits for these records, or for the checkpoint that has what they wrote.
    hooks: Vec<StoredHook>,
}

impl Saver {
    /// For a level whose latest checkpoint is `current`.
    pub fn new(level: &Level, current: Option<CheckpointId>, parent: Option<CheckpointId>) -> Self {
        let keeps = level.graph.runtime.checkpointer.is_some();
        let thread = level.run.config.thread_id.filter(|_| keeps);
        let is_exit = level.run.keeps_only_the_end() && thread.is_some();
        Self {
            thread,
            nonce: level.event_id,
            current,
            parent,
            last: None,
            superseded: false,
            floor: None,
            coming: None,
            unsaved: Vec::new(),
            acks: VecDeque::new(),
            held: is_exit.then(|| Held { base: current, ..Held::default() }),
        }
    }

    /// Whether checkpoints are made.
    pub fn keeps(&self) -> bool {
        self.thread.is_some()
    }

    /// What task ids hash: the checkpoint before the step, or the run's own id where none is kept.
    pub fn identity(&self) -> Uuid {
        self.current.map_or(self.nonce, |c| c.0)
    }

    /// Gives the state the id of the checkpoint that will hold it, before it is told.
    pub fn prepare(&mut self, level: &Level, channels: &mut Channels) {
        if self.keeps() {
            self.coming = Some(self.next_id(level));
            channels.set_checkpoint(self.coming);
        }
    }

    /// The id of the next checkpoint: the same when a later attempt at the run makes the same step again, so that tasks,
    /// whose ids are made of it, keep theirs. It has the form of a UUID of version 7 and sorts after those before it: its
    /// upper part counts on from theirs, or begins with the run's, its lower part is a hash of what came before.
    fn next_id(&self, level: &Level) -> CheckpointId {
        let run = level.run.run_id;
        let before = [self.current, self.floor].into_iter().flatten().max().map(|id| id.0);
        if run.get_version_num() != 7 {
            return CheckpointId(later(&*level.run.clock, before));
        }
        let count = before.map_or(0, |id| upper(id) + 1).max(upper(run));
        let mut h = xxhash_rust::xxh3::Xxh3::new();
        h.update(run.as_bytes());
        h.update(level.ns.as_bytes());
        h.update(self.current.map_or(Uuid::nil(), |id| id.0).as_bytes());
        CheckpointId(from_upper(count, h.digest()))
    }

    /// Makes the next checkpoint the first of its namespace: the state came from another one.
    pub fn leave(&mut self) {
        self.current = None;
        if let Some(held) = &mut self.held {
            held.base = None;
        }
    }

    /// Notes changes that no checkpoint holds yet.
    pub fn dirty(&mut self, channels: &Channels, changes: &[(ChannelId, Change)]) {
        if self.keeps() {
            changes.iter().cloned().for_each(|(c, change)| merge(&mut self.unsaved, c, change, channels));
        }
    }

    /// Begins to keep a checkpoint of the state as it is.
    pub fn put(
        &mut self,
        level: &Level,
        channels: &Channels,
        next: &Next,
        step: i64,
        source: Source,
        changes: Vec<(ChannelId, Change)>,
    ) {
        let Some(thread) = self.thread else { return };
        let changes = if self.unsaved.is_empty() {
            changes
        } else {
            let mut all = std::mem::take(&mut self.unsaved);
            changes.into_iter().for_each(|(c, change)| merge(&mut all, c, change, channels));
            all
        };
        let id = self.coming.take().unwrap_or_else(|| self.next_id(level));
        self.parent = self.current;
        self.current = Some(id);
        // Those before it that are not stored are nobody's parents.
        let parent = self.held.as_ref().map_or(self.parent, |held| held.base);
        let checkpoint = Arc::new(self.checkpoint(level, next, step, source, parent));
        self.last = Some(checkpoint.clone());
        if let Some(held) = &mut self.held {
            held.write = Some((step, source));
            held.records.clear();
            changes.into_iter().for_each(|(c, change)| merge(&mut held.changes, c, change, channels));
            return;
        }
        self.write(level, thread, checkpoint, changes, channels);
    }

    fn checkpoint(
        &self,
        level: &Level,
        next: &Next,
        step: i64,
        source: Source,
        parent: Option<CheckpointId>,
    ) -> Checkpoint {
        let mut metadata = level.metadata.clone();
        // What the run was set to is found again by it, as with LangGraph; what is private to a server is not.
        for (key, value) in level.run.config.configurable.iter() {
            let is_plain = !key.starts_with("__") && !matches!(value, Value::Null | Value::List(_) | Value::Object(_));
            if is_plain && !PLACE.contains(&&**key) && !metadata.contains_key(key) {
                metadata.insert(key.clone(), value.clone());
            }
        }
        if let Some(within) = &level.within
            && let Some(task) = &within.task
        {
            // Where in the graph above this one runs: what LangGraph's clients look for in a subgraph's state.
            metadata.insert("langgraph_node", &task.node);
            metadata.insert("langgraph_step", within.step);
            metadata.insert("langgraph_path", within.path.clone());
            metadata.insert("langgraph_triggers", within.triggers.iter().map(Value::from).collect::<Vec<_>>());
            metadata.insert(WITHIN_NS, &within.checkpoint_ns);
        }
        if !level.parent_checkpoints.is_empty() {
            metadata.insert("parents", level.parent_checkpoints.clone());
        }
        Checkpoint {
            id: self.current.unwrap_or(CheckpointId(self.nonce)),
            ns: level.ns.clone(),
            parent,
            step,
            source,
            created_at: level.run.clock.now(),
            run_id: Some(RunId(level.run.run_id)),
            metadata,
            revision: level.graph.revision().clone(),
            values: Default::default(),
            control: next.save(&level.graph),
        }
    }

    fn write(
        &mut self,
        level: &Level,
        thread: ThreadId,
        checkpoint: Arc<Checkpoint>,
        changes: Vec<(ChannelId, Change)>,
        channels: &Channels,
    ) {
        let Some(saver) = &level.graph.runtime.checkpointer else { return };
        let inner = &level.graph.inner;
        let is_kept = |c: ChannelId| !matches!(inner.channels[c].reducer, Reducer::Untracked);
        let changes =
            changes.into_iter().filter(|(c, _)| is_kept(*c)).map(|(c, ch)| (inner.names[c].clone(), ch)).collect();
        let write = CheckpointWrite { thread, checkpoint, changes, state: kept_state(level, channels, is_kept) };
        self.acks.push_back(saver.put(write));
    }

    /// The same, and calls the hooks once the record is stored. With durability `exit` that is when the run is over.
    pub fn put_task_then(&mut self, level: &Level, record: TaskRecord, hooks: Vec<StoredHook>) {
        if hooks.is_empty() {
            return self.put_task(level, record);
        }
        let before = self.acks.len();
        self.put_task(level, record);
        match &mut self.held {
            Some(held) => held.hooks.extend(hooks),
            None if self.acks.len() > before => self.hook_last(hooks),
            // Nothing of this graph is stored.
            None => hooks.into_iter().for_each(|hook| hook(true)),
        }
    }

    /// Calls hooks once the last write under way is stored, whoever waits for it.
    fn hook_last(&mut self, hooks: Vec<StoredHook>) {
        let Some(ack) = self.acks.pop_back() else { return };
        let ack = ack.shared();
        let waiting = ack.clone();
        tokio::spawn(async move {
            let is_stored = waiting.await.is_ok();
            hooks.into_iter().for_each(|hook| hook(is_stored));
        });
        self.acks.push_back(Box::pin(ack));
    }

    /// Begins to keep what a task did, against the checkpoint before its step.
    pub fn put_task(&mut self, level: &Level, record: TaskRecord) {
        let (Some(thread), Some(checkpoint), Some(saver)) =
            (self.thread, self.current, &level.graph.runtime.checkpointer)
        else {
            return;
        };
        if let Some(held) = &mut self.held {
            held.records.retain(|r| r.task != record.task);
            held.records.push(record);
            return;
        }
        self.acks.push_back(saver.put_task(thread, &level.ns, checkpoint, record));
    }

    /// Waits as the run's durability asks, after a step.
    pub async fn pace(&mut self, level: &Level) -> Result<(), Error> {
        let most = if level.run.config.durability == Durability::Sync { 0 } else { MOST_UNDER_WAY };
        while self.acks.len() > most
            && let Some(ack) = self.acks.pop_front()
        {
            ack.await.map_err(|e| fail(level, e))?;
        }
        Ok(())
    }

    /// The run of the graph is over: all is kept that has to be.
    pub async fn finish(
        &mut self,
        level: &Level,
        channels: &Channels,
        next: &Next,
        stopped: &Result<Stopped, NodeError>,
    ) -> Result<(), Error> {
        if let (Some(held), Some(thread)) = (self.held.take(), self.thread) {
            // A subgraph that is done leaves nothing to go on from.
            let is_needed = level.depth == 0 || !matches!(stopped, Ok(Stopped::Done));
            if let (Some((step, source)), true) = (held.write, is_needed) {
                let checkpoint = self.checkpoint(level, next, step, source, held.base);
                self.write(level, thread, Arc::new(checkpoint), held.changes, channels);
            }
            if is_needed {
                for record in held.records {
                    self.put_task(level, record);
                }
            }
            // The last write is stored after those before it.
            match held.hooks {
                hooks if hooks.is_empty() => {}
                hooks if is_needed && !self.acks.is_empty() => self.hook_last(hooks),
                hooks => hooks.into_iter().for_each(|hook| hook(true)),
            }
        }
        while let Some(ack) = self.acks.pop_front() {
            ack.await.map_err(|e| fail(level, e))?;
        }
        Ok(())
    }
}

fn fail(level: &Level, error: CheckpointError) -> Error {
    Error::Checkpointer { graph: level.graph.name().to_string(), error }
}

/// The state without the channels that are never stored.
pub(crate) fn kept_state(level: &Level, channels: &Channels, is_kept: impl Fn(ChannelId) -> bool) -> SnapshotRef {
    let state = channels.snapshot();
    if level.graph.inner.channels.iter().all(|c| !matches!(c.reducer, Reducer::Untracked)) {
        return state.clone();
    }
    let values = state.values.iter().enumerate().map(|(c, v)| v.clone().filter(|_| is_kept(c))).collect();
    Arc::new(Snapshot { values, ..(**state).clone() })
}

/// Adds a change to those of the same channel before it.
fn merge(changes: &mut Vec<(ChannelId, Change)>, channel: ChannelId, new: Change, channels: &Channels) {
    let Some((_, old)) = changes.iter_mut().find(|(c, _)| *c == channel) else {
        changes.push((channel, new));
        return;
    };
    let pushes = |items: &List| items.iter().cloned().map(ListEdit::Push).collect::<Vec<_>>();
    let merged = match (&*old, new) {
        (_, new @ (Change::Set(_) | Change::Clear)) => new,
        (Change::Append(crate::Value::List(a)), Change::Append(crate::Value::List(b))) => {
            let mut all = a.clone();
            all.append(&b);
            Change::Append(crate::Value::List(all))
        }
        (Change::Append(crate::Value::List(a)), Change::Edit(b)) => {
            Change::Edit(pushes(a).into_iter().chain(b).collect())
        }
        (Change::Edit(a), Change::Append(crate::Value::List(b))) => {
            Change::Edit(a.iter().cloned().chain(pushes(&b)).collect())
        }
        (Change::Patch(a), Change::Patch(b)) => Change::Patch(a.iter().cloned().chain(b).collect()),
        (Change::Edit(a), Change::Edit(b)) => Change::Edit(a.iter().cloned().chain(b).collect()),
        // After a whole value, the whole value again.
        _ => channels.snapshot().values[channel].clone().map_or(Change::Clear, Change::Set),
    };
    *old = merged;
}
