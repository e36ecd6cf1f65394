//! Running from a checkpoint of a subgraph: the graphs around it fork at the checkpoints from which it came, keep what
//! finished siblings wrote, and run the one task that leads to it again.

use std::sync::Arc;

use super::{
    finish::WITHIN_NS,
    subgraph::inner_ns,
    superstep::{Superstep, task_id},
    taskscope::TaskPath,
};
use crate::{
    CheckpointId, Error, Graph, TaskId, ThreadId,
    checkpoint::{Change, Checkpoint, Checkpointer, Outcome, Saved, Source, TaskRecord},
};

/// The checkpoints that a run goes on from, the outermost graph's first.
pub(crate) struct Replay {
    places: Vec<Place>,
}

/// The checkpoint of one graph.
struct Place {
    /// The namespace of the graph.
    ns: Arc<str>,
    checkpoint: CheckpointId,
    /// The namespace of the task in which the graph ran; empty for the outermost.
    task: Arc<str>,
}

/// Where the tasks of a forked step come from.
pub(crate) struct Origin {
    /// The namespace of the graph, and the identity and number of the step there: what the ids of its tasks were made of.
    ns: Arc<str>,
    identity: uuid::Uuid,
    step: i64,
    /// What those tasks did.
    records: Vec<TaskRecord>,
}

/// The task that a task of a forked step repeats.
#[derive(Clone)]
pub(crate) struct RepeatedTask {
    /// Its namespace.
    ns: Arc<str>,
    /// The namespace of its graph.
    graph_ns: Arc<str>,
    node: Arc<str>,
    id: TaskId,
    /// How many graphs its earlier tries had run.
    graphs: u32,
}

/// Where a graph inside a repeated task starts.
pub(crate) struct Start {
    /// The namespace of the graph that it goes on from.
    pub ns: Arc<str>,
    pub saved: Saved,
}

impl Replay {
    /// Finds the checkpoints around one of a subgraph. Returns the outermost graph's with it.
    pub async fn load(
        graph: &Graph,
        (saver, thread): (&dyn Checkpointer, ThreadId),
        ns: &str,
        id: CheckpointId,
    ) -> Result<(Saved, Self), Error> {
        let mut ns: Arc<str> = graph.stored_namespace(ns);
        let mut id = id;
        let mut places = Vec::new();
        loop {
            let found = saver.get(thread, &ns, Some(id)).await;
            let found = found.map_err(|error| Error::Checkpointer { graph: graph.name().to_string(), error })?;
            let saved = found.ok_or(Error::CheckpointNotFound(id))?;
            if ns.is_empty() {
                places.push(Place { ns, checkpoint: id, task: Arc::default() });
                places.reverse();
                return Ok((saved, Self { places }));
            }
            let unknown = || Error::InvalidInput {
                graph: graph.name().to_string(),
                field: Some("checkpoint_ns".to_owned()),
                message: format!(
                    "checkpoint {id} of namespace `{ns}` does not name the checkpoints of the graphs around it"
                ),
            };
            let task = task_of(saver, thread, &saved.checkpoint).await.ok_or_else(unknown)?;
            let outer: Arc<str> = task.rsplit_once('|').map_or("", |(outer, _)| outer).into();
            let parents = saved.checkpoint.metadata.get("parents");
            let parent = parents.and_then(|parents| parents.get_str(&outer)?.parse().ok()).ok_or_else(unknown)?;
            places.push(Place { ns, checkpoint: id, task });
            (ns, id) = (outer, parent);
        }
    }

    fn place(&self, ns: &str) -> Option<&Place> {
        self.places.iter().find(|place| *place.ns == *ns)
    }

    /// The place within a task, and its index among the graphs that the task runs.
    fn within(&self, task: &RepeatedTask) -> Option<(&Place, u32)> {
        let place = self.places.iter().find(|place| !place.ns.is_empty() && place.task == task.ns)?;
        let number = place.ns.rsplit('|').next().and_then(|last| last.parse::<u32>().ok()).unwrap_or(0);
        let persistent = inner_ns(&task.graph_ns, &task.node, None, number);
        let before = if *place.ns == *persistent { 0 } else { task.graphs };
        Some((place, number.saturating_sub(before)))
    }

    /// Where a graph inside a repeated task starts, by its index among the graphs that the task runs: at its checkpoint on
    /// the way; before that one, where it ended; none for one that had not begun.
    pub async fn start(
        &self,
        (saver, thread): (&dyn Checkpointer, ThreadId),
        task: &RepeatedTask,
        index: u32,
        persistent: bool,
    ) -> Result<Option<Start>, crate::CheckpointError> {
        let Some((place, at)) = self.within(task) else { return Ok(None) };
        let (ns, id): (Arc<str>, _) = match index.cmp(&at) {
            std::cmp::Ordering::Equal => (place.ns.clone(), Some(place.checkpoint)),
            // One that keeps its own state has nothing to be taken from elsewhere.
            std::cmp::Ordering::Less if !persistent => {
                (inner_ns(&task.graph_ns, &task.node, Some(task.id), task.graphs + index).into(), None)
            }
            _ => return Ok(None),
        };
        Ok(saver.get(thread, &ns, id).await?.map(|saved| Start { ns, saved }))
    }

    /// Whether a run from the checkpoint of a namespace runs all tasks of the step there again.
    fn ends_at(&self, ns: &str) -> bool {
        self.places.last().is_none_or(|place| *place.ns == *ns)
    }
}

/// The namespace of the task in which a subgraph made a checkpoint.
async fn task_of(saver: &dyn Checkpointer, thread: ThreadId, checkpoint: &Checkpoint) -> Option<Arc<str>> {
    // One written by hand has no such metadata: a namespace names its task, unless the graph keeps its own state.
    let numbered = checkpoint.ns.rsplit_once('|').filter(|(_, last)| last.bytes().all(|b| b.is_ascii_digit()));
    let ns = numbered.map_or(&*checkpoint.ns, |(ns, _)| ns);
    if ns.rsplit('|').next().is_some_and(|last| last.contains(':')) {
        return Some(ns.into());
    }
    let within = |checkpoint: &Checkpoint| checkpoint.metadata.get_str(WITHIN_NS).map(Arc::from);
    let mut found = within(checkpoint);
    let mut parent = checkpoint.parent;
    while let (None, Some(id)) = (&found, parent) {
        let saved = saver.get(thread, &checkpoint.ns, Some(id)).await.ok()??;
        (found, parent) = (within(&saved.checkpoint), saved.checkpoint.parent);
    }
    found
}

impl Superstep {
    /// Forks at a checkpoint of the replay, in the graph's own namespace or from that of an earlier task.
    pub(super) fn fork_for_replay(&mut self, replay: &Replay, ns: &Arc<str>) {
        let is_moved = **ns != *self.level.ns;
        let mut records = std::mem::take(&mut self.records);
        let old = (self.saver.identity(), self.step);
        let mut changes = Vec::new();
        if is_moved {
            self.saver.leave();
            let values = self.channels.snapshot().values.iter().enumerate();
            changes = values.filter_map(|(c, value)| Some((c, Change::Set(value.clone()?)))).collect();
        }
        self.saver.prepare(&self.level, &mut self.channels);
        self.saver.put(&self.level, &self.channels, &self.next, self.step, Source::Fork, changes);
        self.step += 1;
        if replay.ends_at(ns) {
            return;
        }
        let origin = Origin { ns: ns.clone(), identity: old.0, step: old.1, records: Vec::new() };
        for (node, path) in self.places() {
            let Some(record) = records.iter().find(|record| record.task == self.old_id(&origin, node, path)) else {
                continue;
            };
            let is_repeated = replay.within(&self.repeated(&origin, &records, node, path)).is_some();
            if !is_repeated && matches!(record.outcome, Some(Outcome::Done(_) | Outcome::Handled(_))) {
                let name = &self.level.graph.inner.nodes[node].name;
                let kept = TaskRecord { task: self.task_id(name, path), ..record.clone() };
                self.saver.put_task(&self.level, kept.clone());
                self.records.push(kept);
            }
        }
        records.retain(|record| record.graphs > 0);
        self.origin = Some(Origin { records, ..origin });
    }

    /// After a crash: the step that an earlier attempt at the run has forked.
    pub(super) fn find_origin(&mut self, replay: &Replay, ns: &Arc<str>) {
        if let (Some(last), Some(place), false) = (&self.saver.last, replay.place(ns), replay.ends_at(ns))
            && last.source == Source::Fork
            && last.run_id == Some(crate::RunId(self.level.run.run_id))
        {
            let (identity, step) = (place.checkpoint.0, last.step);
            self.origin = Some(Origin { ns: ns.clone(), identity, step, records: Vec::new() });
        }
    }

    /// The nodes and positions of the coming step's tasks, their error handlers with them.
    fn places(&self) -> Vec<(usize, TaskPath)> {
        let sends = self.next.sends.iter().enumerate().map(|(at, (node, _))| (*node, TaskPath::push(at)));
        let tasks = sends.chain(self.next.triggered.iter().map(|node| (*node, TaskPath::pull(*node))));
        let nodes = &self.level.graph.inner.nodes;
        tasks
            .flat_map(|(node, path)| [Some((node, path)), nodes[node].handler.map(|h| (h, path.handler()))])
            .flatten()
            .collect()
    }

    fn old_id(&self, origin: &Origin, node: usize, path: TaskPath) -> TaskId {
        task_id(&origin.ns, origin.identity, origin.step, &self.level.graph.inner.nodes[node].name, path)
    }

    fn repeated(&self, origin: &Origin, records: &[TaskRecord], node: usize, path: TaskPath) -> RepeatedTask {
        let id = self.old_id(origin, node, path);
        let node = self.level.graph.inner.nodes[node].name.clone();
        let graphs = records.iter().find(|record| record.task == id).map_or(0, |record| record.graphs);
        let ns = inner_ns(&origin.ns, &node, Some(id), 0).into();
        RepeatedTask { ns, graph_ns: origin.ns.clone(), node, id, graphs }
    }

    /// The task that a task of this step repeats, where the step was forked for a replay.
    pub(super) fn repeats(&self, node: usize, path: TaskPath) -> Option<Arc<RepeatedTask>> {
        let origin = self.origin.as_ref()?;
        Some(Arc::new(self.repeated(origin, &origin.records, node, path)))
    }
}
