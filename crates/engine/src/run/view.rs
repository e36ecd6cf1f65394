//! Looking at a thread: its state, the tasks that come next, its history.

use std::sync::Arc;

use super::{
    channels::Channels,
    control::Next,
    pending,
    subgraph::inner_ns,
    superstep::{Superstep, task_id},
    taskscope::TaskPath,
    writes::TaskWrites,
};
use crate::{
    CheckpointId, Error, Graph, NodeFailure, Object, START, TaskId, ThreadId, Value,
    checkpoint::{
        Checkpoint, CheckpointConfig, CheckpointFilter, CheckpointView, Control, Outcome, Saved, TaskRecord, TaskView,
    },
    stream::{Snapshot, SnapshotRef},
};

/// A task of the coming step, as a view names it.
struct Coming {
    id: TaskId,
    name: Arc<str>,
    path: Value,
    node: Option<usize>,
    order: TaskPath,
    /// Whether its error handler runs in its place.
    is_handled: bool,
}

/// The tasks of the coming step, the open error handlers of failed ones included; with `done` those too that have ended.
fn coming(graph: &Graph, at: (&str, uuid::Uuid, i64), next: &Next, records: &[TaskRecord], done: bool) -> Vec<Coming> {
    let inner = &graph.inner;
    let (ns, checkpoint, step) = at;
    let outcome = |id: TaskId| records.iter().find(|r| r.task == id)?.outcome.as_ref();
    let task = |node: Option<usize>, order: TaskPath| {
        let name = node.map_or_else(|| START.into(), |n| inner.nodes[n].name.clone());
        let handled = node.and_then(|n| inner.nodes[n].handles).map(|n| &inner.nodes[n].name);
        let id = task_id(ns, checkpoint, step, &name, order);
        let path = order.to_value(handled.unwrap_or(&name));
        Coming { id, path, node, order, is_handled: matches!(outcome(id), Some(Outcome::Handled(_))), name }
    };
    if next.input.is_some() {
        return vec![task(None, TaskPath::START)];
    }
    let sends = next.sends.iter().enumerate().map(|(i, (n, _))| task(Some(*n), TaskPath::push(i)));
    let pulls = next.triggered.iter().map(|n| task(Some(*n), TaskPath::pull(*n)));
    let mut all: Vec<Coming> = sends.chain(pulls).collect();
    let handlers = all.iter().filter(|t| t.is_handled).filter_map(|t| {
        let handler = task(Some(inner.nodes[t.node?].handler?), t.order.handler());
        (done || !matches!(outcome(handler.id), Some(Outcome::Done(_)))).then_some(handler)
    });
    let handlers: Vec<Coming> = handlers.collect();
    all.extend(handlers);
    all
}

fn config(thread: Option<ThreadId>, ns: &Arc<str>, id: CheckpointId) -> CheckpointConfig {
    CheckpointConfig { thread, ns: ns.clone(), id: Some(id) }
}

/// What a view shows of a task.
fn task_view(
    graph: &Graph,
    ns: &str,
    thread: Option<ThreadId>,
    task: &Coming,
    record: Option<&TaskRecord>,
    live: bool,
    failed: Option<&TaskRecord>,
) -> TaskView {
    let outcome = record.and_then(|r| r.outcome.as_ref());
    let result = match outcome {
        Some(Outcome::Done(kept)) => Some(TaskWrites::restore(graph, task.node, kept).result(graph)),
        _ => None,
    };
    let checkpoint = task.node.and_then(|n| graph.inner.nodes[n].keeps_state.first()).map(|_| {
        // One that keeps its own state is known by its task too, as LangGraph's clients name it.
        let ns = inner_ns(ns, &task.name, Some(task.id), record.map_or(0, |r| r.graphs));
        CheckpointConfig { thread, ns: ns.into(), id: None }
    });
    TaskView {
        id: task.id,
        name: task.name.clone(),
        path: task.path.clone(),
        error: match outcome {
            Some(Outcome::Failed(failure) | Outcome::Handled(failure)) => Some(failure.clone()),
            None if record.is_none_or(|r| r.interrupts.is_empty()) => failed.map(cancelled),
            _ => None,
        },
        interrupts: record.map_or_else(Vec::new, |r| if live { r.open().to_vec() } else { r.interrupts.clone() }),
        result,
        checkpoint,
        state: None,
        by_join: false,
    }
}

/// The task of a step that failed, which cancelled those that had not ended.
fn failed(records: &[TaskRecord]) -> Option<&TaskRecord> {
    records.iter().find(|r| matches!(r.outcome, Some(Outcome::Failed(_))))
}

fn cancelled(failed: &TaskRecord) -> NodeFailure {
    NodeFailure::new("CancelledError", format!("cancelled, for node `{}` of the same step failed", failed.node))
}

/// The parents of a checkpoint, and its metadata without them.
fn split(metadata: &Object) -> (Object, Object) {
    let mut metadata = metadata.clone();
    let parents = match metadata.remove("parents") {
        Some(Value::Object(parents)) => parents,
        _ => Object::default(),
    };
    (parents, metadata)
}

impl Superstep {
    /// The checkpoint before the coming step, as modes `checkpoints` and `debug` tell it.
    pub fn view(&self) -> CheckpointView {
        let level = &self.level;
        let graph = &level.graph;
        let thread = level.run.config.thread_id;
        let at = (&*level.ns, self.saver.identity(), self.step);
        let tasks: Vec<TaskView> = coming(graph, at, &self.next, &self.records, false)
            .iter()
            .map(|t| {
                let record = self.records.iter().find(|r| r.task == t.id);
                task_view(graph, &level.ns, thread, t, record, false, failed(&self.records))
            })
            .collect();
        let last = self.saver.last.as_ref();
        let (parents, metadata) = last.map(|c| split(&c.metadata)).unwrap_or_default();
        CheckpointView {
            config: self.saver.current.map(|id| config(thread, &level.ns, id)),
            parent: last.and_then(|c| c.parent).map(|id| config(thread, &level.ns, id)),
            values: self.channels.snapshot().clone(),
            shown: graph.inner.names.clone(),
            next: tasks.iter().map(|t| t.name.clone()).collect(),
            source: last.map(|c| c.source),
            step: self.step - 1,
            run_id: last.and_then(|c| c.run_id),
            metadata,
            parents,
            created_at: last.map(|c| c.created_at),
            tasks,
        }
    }
}

impl Graph {
    fn saver(&self, what: &'static str) -> Result<&Arc<dyn crate::checkpoint::Checkpointer>, Error> {
        self.runtime.checkpointer.as_ref().ok_or_else(|| Error::NoCheckpointer { graph: self.name().to_string(), what })
    }

    /// The state of a thread: the latest, or at a checkpoint; with the states of stopped subgraphs where asked for.
    ///
    /// The latest shows what has finished of a stopped step; a checkpoint asked for by id is shown as it was.
    pub async fn get_state(
        &self,
        thread: ThreadId,
        checkpoint: Option<CheckpointId>,
        subgraphs: bool,
    ) -> Result<CheckpointView, Error> {
        self.state_of(thread, "".into(), checkpoint, subgraphs).await
    }

    /// The state of a subgraph by its namespace.
    pub async fn get_subgraph_state(
        &self,
        thread: ThreadId,
        ns: &str,
        checkpoint: Option<CheckpointId>,
        subgraphs: bool,
    ) -> Result<CheckpointView, Error> {
        match self.subgraph_place(ns) {
            Some((graph, ns)) => graph.state_of(thread, ns, checkpoint, subgraphs).await,
            None => Err(Error::InvalidStateUpdate {
                graph: self.name().to_string(),
                message: format!("there is no subgraph at namespace `{ns}`"),
            }),
        }
    }

    /// The graph whose checkpoints have a namespace: `node:task_id` segments joined by `|`.
    pub fn subgraph_at(&self, ns: &str) -> Option<Graph> {
        Some(self.subgraph_place(ns)?.0)
    }

    /// The namespace under which the checkpoints of a subgraph are stored, from the one by which clients know it.
    pub fn stored_namespace(&self, ns: &str) -> Arc<str> {
        self.subgraph_place(ns).map_or_else(|| ns.into(), |(_, place)| place)
    }

    /// The graph, and its namespace as it is kept: one that keeps its own state is known by its task too, as LangGraph's
    /// clients name it.
    pub(super) fn subgraph_place(&self, ns: &str) -> Option<(Graph, Arc<str>)> {
        let (mut graph, mut place) = (self.clone(), String::new());
        let mut segments = ns.split('|').filter(|s| !s.is_empty()).peekable();
        while let Some(segment) = segments.next() {
            let node = segment.split(':').next().unwrap_or(segment);
            let count = segments.next_if(|s| s.bytes().all(|b| b.is_ascii_digit()));
            let at = count.and_then(|s| s.parse().ok()).unwrap_or(0);
            let compiled = &graph.inner.nodes[*graph.inner.node_ids.get(node)?];
            let keeps = compiled.keeps_state.get(at).or(compiled.keeps_state.first())?;
            for part in [Some(if *keeps { node } else { segment }), count].into_iter().flatten() {
                place.push_str(if place.is_empty() { "" } else { "|" });
                place.push_str(part);
            }
            let graphs = compiled.spec.node.subgraphs();
            let inner = graphs.get(at).or_else(|| graphs.first())?.with_runtime((*self.runtime).clone());
            graph = inner;
        }
        Some((graph, place.into()))
    }

    /// The state of a graph within a task: of those that the node runs, the one that has stopped, else the last to have run.
    async fn inner_state(
        &self,
        thread: ThreadId,
        ns: &str,
        task: &TaskView,
        graphs: u32,
    ) -> Result<Option<CheckpointView>, Error> {
        let Some(node) = self.inner.node_ids.get(&task.name) else { return Ok(None) };
        let node = &self.inner.nodes[*node];
        let mut found = None;
        for (at, graph) in (0u32..).zip(node.spec.node.subgraphs()) {
            let keeps = node.keeps_state.get(at as usize).copied().unwrap_or_default();
            let ns = match keeps {
                true => inner_ns(ns, &task.name, None, at),
                false => inner_ns(ns, &task.name, Some(task.id), graphs + at),
            };
            let graph = graph.with_runtime((*self.runtime).clone());
            let state = graph.state_of(thread, ns.into(), None, true).await?;
            if !state.next.is_empty() {
                return Ok(Some(state));
            }
            found = Some(state).filter(|state| state.config.is_some()).or(found);
        }
        Ok(found)
    }

    fn state_of<'a>(
        &'a self,
        thread: ThreadId,
        ns: Arc<str>,
        checkpoint: Option<CheckpointId>,
        subgraphs: bool,
    ) -> futures_util::future::BoxFuture<'a, Result<CheckpointView, Error>> {
        Box::pin(async move {
            let saver = self.saver("a thread's state")?;
            let fail = |error| Error::Checkpointer { graph: self.name().to_string(), error };
            let saved = saver.get(thread, &ns, checkpoint).await.map_err(fail)?;
            let Some(saved) = saved else {
                return match checkpoint {
                    Some(id) => Err(Error::CheckpointNotFound(id)),
                    None => Ok(self.empty_view()),
                };
            };
            let mut view = self.view_of(thread, &saved, checkpoint.is_none())?;
            if subgraphs {
                for task in &mut view.tasks {
                    if task.checkpoint.is_none() {
                        continue;
                    }
                    let record = saved.tasks.iter().find(|r| r.task == task.id);
                    let graphs = record.map_or(0, |r| r.graphs);
                    if let Some(state) = self.inner_state(thread, &ns, task, graphs).await? {
                        task.checkpoint = None;
                        task.state = Some(Box::new(state));
                    }
                }
            }
            Ok(view)
        })
    }

    /// Whether a node is to run because a join came together, and for no other reason.
    fn is_by_join(&self, node: usize, control: &Control) -> bool {
        let inner = &self.inner;
        let wrote = if control.by_hand.is_empty() { &control.last } else { &control.by_hand };
        let wrote: Vec<usize> = wrote.iter().filter_map(|n| inner.node_ids.get(n).copied()).collect();
        let leads = |n: usize| {
            let from = &inner.nodes[n];
            let is_it = |name: &Arc<str>| *name == inner.nodes[node].name;
            from.out.to.contains(&node)
                || from.out.routes.iter().any(|r| r.targets.as_ref().is_none_or(|all| all.iter().any(is_it)))
                || from.spec.destinations.as_ref().is_some_and(|all| all.iter().any(is_it))
        };
        inner.joins.iter().any(|j| j.to == node && j.from.iter().any(|n| wrote.contains(n)))
            && !wrote.into_iter().any(leads)
    }

    fn empty_view(&self) -> CheckpointView {
        let names: Arc<[Arc<str>]> = Arc::default();
        CheckpointView {
            config: None,
            parent: None,
            values: Arc::new(Snapshot { checkpoint: None, names: names.clone(), values: Vec::new() }),
            shown: names,
            next: Vec::new(),
            source: None,
            step: -1,
            run_id: None,
            metadata: Object::default(),
            parents: Object::default(),
            created_at: None,
            tasks: Vec::new(),
        }
    }

    /// The history of a thread, newest first: each step as it was, with all its tasks and the questions they asked.
    pub async fn state_history(
        &self,
        thread: ThreadId,
        filter: CheckpointFilter,
    ) -> Result<Vec<CheckpointView>, Error> {
        let saver = self.saver("a thread's history")?;
        let list = saver.list(thread, "", filter).await;
        let list = list.map_err(|error| Error::Checkpointer { graph: self.name().to_string(), error })?;
        list.iter().map(|saved| self.view_of(thread, saved, false)).collect()
    }

    /// A stored checkpoint as it is shown. `live` applies what finished tasks of the stopped step wrote.
    fn view_of(&self, thread: ThreadId, saved: &Saved, live: bool) -> Result<CheckpointView, Error> {
        let at: &Checkpoint = &saved.checkpoint;
        let inner = &self.inner;
        let mut next = Next::restore(self, &at.control).unwrap_or_else(|_| Next::new(self));
        let channels = Channels::restore(self, at);
        let mut state: SnapshotRef = channels.snapshot().clone();
        let find = |id: TaskId| saved.tasks.iter().find(|r| r.task == id);
        for writes in pending::writes(self, &saved.tasks) {
            state = Channels::borrowed(self, &state).with(self, &writes.refs())?;
            next.follow(self, &writes);
        }
        let mut all = coming(self, (&at.ns, at.id.0, at.step + 1), &next, &saved.tasks, live);
        // A state lists its tasks in the order in which the nodes were added.
        all.sort_by_key(|t| {
            let node = t.node.map(|n| inner.nodes[n].handles.unwrap_or(n));
            let place = t.order.send().map(|i| (0, i));
            (place.unwrap_or_else(|| (1, node.map_or(0, |n| inner.nodes[n].rank))), t.order.is_handler())
        });
        let mut done: Vec<(TaskPath, TaskWrites)> = Vec::new();
        if live {
            for task in &all {
                if let Some(Outcome::Done(kept)) = find(task.id).and_then(|r| r.outcome.as_ref()) {
                    done.push((task.order, TaskWrites::restore(self, task.node, kept)));
                }
            }
            done.sort_by_key(|(order, _)| *order);
            let writes: Vec<_> = done.iter().flat_map(|(_, w)| w.channels()).collect();
            if !writes.is_empty() {
                state = Channels::borrowed(self, &state).with(self, &writes)?;
            }
        }
        let tasks: Vec<TaskView> = all
            .iter()
            .map(|t| TaskView {
                by_join: t.node.is_some_and(|n| self.is_by_join(n, &at.control)),
                ..task_view(self, &at.ns, Some(thread), t, find(t.id), live, failed(&saved.tasks))
            })
            .collect();
        let is_finished = |(task, view): &(&Coming, &TaskView)| live && (view.result.is_some() || task.is_handled);
        let (parents, mut metadata) = split(&at.metadata);
        // A copy of a thread has the checkpoints of the first.
        if metadata.contains_key("thread_id") {
            metadata.insert("thread_id", thread.to_string());
        }
        Ok(CheckpointView {
            config: Some(config(Some(thread), &at.ns, at.id)),
            parent: at.parent.map(|id| config(Some(thread), &at.ns, id)),
            values: state,
            shown: inner.names.clone(),
            next: all.iter().zip(&tasks).filter(|t| !is_finished(t)).map(|(t, _)| t.name.clone()).collect(),
            source: Some(at.source),
            step: at.step,
            run_id: at.run_id,
            metadata,
            parents,
            created_at: Some(at.created_at),
            tasks,
        })
    }
}

impl CheckpointView {
    /// The state as an object.
    pub fn values_object(&self) -> Object {
        self.shown.iter().filter_map(|n| Some((n.clone(), self.values.get(n)?.clone()))).collect()
    }

    /// All questions of its tasks.
    pub fn interrupts(&self) -> impl Iterator<Item = &crate::stream::Interrupt> {
        self.tasks.iter().flat_map(|t| &t.interrupts)
    }
}
