//! Writing a thread's state by hand: as a node, from any checkpoint.

use std::sync::Arc;

use super::{
    channels::Channels,
    control::Next,
    finish::kept_state,
    leave,
    scope::{Level, RunScope},
    superstep::task_id,
    task,
    taskscope::{TaskPath, TaskScope},
    writes::TaskWrites,
};
use crate::{
    CheckpointId, END, Error, Graph, NodeError, Object, RunConfig, START, TaskId, ThreadId, Update, Value,
    channel::Reducer,
    checkpoint::{Change, Checkpoint, CheckpointConfig, CheckpointWrite, Control, Outcome, Source, TaskRecord},
    graph::StateView,
    ids::later,
};

/// The node that an update is taken as which waits to be applied as an input.
const INPUT: &str = "__input__";

/// The node that an update is taken as which copies the checkpoint, with what is to run next.
const COPY: &str = "__copy__";

/// An update of a thread's state by hand.
#[derive(Clone, Debug, Default)]
pub struct StateUpdate {
    /// What to write: an object by channel. None, as [`END`], only drops what was to run.
    pub values: Option<Value>,
    /// As which node; left out, as the one that ran last. As [`INPUT`], the values are the input of the run that comes next;
    /// as [`COPY`], without values, the checkpoint is copied beside itself.
    pub as_node: Option<String>,
}

impl Graph {
    /// Writes a thread's state by hand, as if a node had: its edges and routes decide what runs next. From an older
    /// checkpoint this starts a branch. Gives the checkpoint made.
    pub async fn update_state(
        &self,
        thread: ThreadId,
        checkpoint: Option<CheckpointId>,
        ns: &str,
        updates: Vec<StateUpdate>,
        metadata: Object,
    ) -> Result<CheckpointConfig, Error> {
        let (graph, ns) =
            self.subgraph_place(ns).ok_or_else(|| self.refuse(format!("there is no subgraph at namespace `{ns}`")))?;
        let what = "an update of a thread's state";
        let saver = graph
            .runtime
            .checkpointer
            .clone()
            .ok_or_else(|| Error::NoCheckpointer { graph: self.name().to_string(), what })?;
        let fail = |error| Error::Checkpointer { graph: self.name().to_string(), error };
        let saved = saver.get(thread, &ns, checkpoint).await.map_err(fail)?;
        if let (None, Some(id)) = (&saved, checkpoint) {
            return Err(Error::CheckpointNotFound(id));
        }
        let is_first = saved.is_none();
        let level = by_hand(&graph, thread, &ns, metadata);
        let at = saved.as_ref().map(|s| s.checkpoint.id);
        let mut step = saved.as_ref().map_or(-1, |s| s.checkpoint.step) + 1;
        let (mut channels, mut next) = match &saved {
            Some(s) => (Channels::restore(&graph, &s.checkpoint), Next::restore(&graph, &s.checkpoint.control)?),
            None => (Channels::start(&graph), Next::new(&graph)),
        };
        let records = saved.as_ref().map(|s| s.tasks.clone()).unwrap_or_default();
        let identity = at.map_or_else(|| level.event_id, |c| c.0);

        // Updates by hand do not count as having run; a thread that never ran was entered.
        let ran = if next.last.is_empty() { vec![None] } else { next.last.clone() };
        let mut source = Source::Update;
        let changes;
        let mut kept: Vec<TaskRecord> = Vec::new();
        let mut by_hand: Vec<Arc<str>> = Vec::new();
        let mut parent = at;
        let mut metadata = level.metadata.clone();
        let is_clear =
            matches!(&updates[..], [StateUpdate { values: None, as_node: Some(n) }] if n == END || n == "END");
        if is_clear {
            let id = |node: usize, path| task_id(&ns, identity, step, &graph.inner.nodes[node].name, path);
            let done = finished(&graph, &records, &next, id);
            let refs: Vec<_> = done.iter().flat_map(TaskWrites::channels).collect();
            changes = channels.apply(&graph, &refs)?.changes;
            next.begin_step();
            next.deferred.clear();
        } else if graph.as_copy(&updates)? {
            let Some(saved) = &saved else {
                return Err(self.refuse("there is no checkpoint to copy".to_owned()));
            };
            // Against the parent, of which is not known what it held.
            let values = channels.snapshot().values.iter().cloned();
            changes = values.map(|v| v.map_or(Change::Clear, Change::Set)).enumerate().collect();
            parent = saved.checkpoint.parent;
            source = Source::Fork;
            metadata = Object::default();
        } else if let Some(input) = graph.as_input(&updates)? {
            let mut applied = super::channels::Applied::default();
            channels.expire(&graph, &mut applied);
            changes = applied.changes;
            next.begin_step();
            next.deferred.clear();
            next.input = Some(input);
            source = Source::Input;
            step -= i64::from(is_first);
        } else {
            let mut ended = Vec::new();
            for update in &updates {
                let node = graph.as_node(update, &next, is_first, updates.len())?;
                let (name, id) = match node {
                    Some(n) => (graph.inner.nodes[n].name.clone(), prepared(&graph, &ns, identity, step, &next, n)),
                    None => (START.into(), task_id(&ns, identity, step, START, TaskPath::START)),
                };
                let own = own_writes(&graph, &name, update, node.is_none())?;
                let leaves = leaves(&level, node, &name, id, step, &channels, &own).await?;
                by_hand.extend(node.is_some().then(|| name.clone()));
                let before = records.iter().find(|r| r.task == id);
                let mut wrote = own.save(&graph);
                // A task that had ended has written both, as a history shows it.
                if let Some(Outcome::Done(earlier)) = before.and_then(|r| r.outcome.as_ref()) {
                    wrote.extend(earlier.iter().cloned());
                }
                kept.push(TaskRecord {
                    task: id,
                    node: name,
                    outcome: Some(Outcome::Done(wrote)),
                    interrupts: before.map(|r| r.interrupts.clone()).unwrap_or_default(),
                    answers: Vec::new(),
                    answered_by: None,
                    tries: 0,
                    graphs: 0,
                });
                ended.push((node, own, leaves));
            }
            let refs: Vec<_> = ended.iter().flat_map(|(_, own, _)| own.channels()).collect();
            let mut applied = channels.apply(&graph, &refs)?;
            channels.expire(&graph, &mut applied);
            changes = applied.changes;
            next.begin_step();
            for (_, _, leaves) in &ended {
                next.follow(&graph, leaves);
            }
            next.settle();
        }
        next.last = if source == Source::Fork { next.last } else { ran };
        let latest = match checkpoint {
            None => at,
            Some(_) => saver.get(thread, &ns, None).await.map_err(fail)?.map(|s| s.checkpoint.id),
        };
        // Runs count their checkpoints on from one another, past the clock where they are quick.
        let id = CheckpointId(later(&*level.run.clock, latest.map(|id| id.0)));
        channels.set_checkpoint(Some(id));
        let is_kept = |c: usize| !matches!(graph.inner.channels[c].reducer, Reducer::Untracked);
        if let Some(Value::Object(parents)) = saved.as_ref().and_then(|s| s.checkpoint.metadata.get("parents")) {
            metadata.insert("parents", parents.clone());
        }
        let new = Checkpoint {
            id,
            ns: ns.clone(),
            parent,
            step,
            source,
            created_at: level.run.clock.now(),
            run_id: None,
            metadata,
            revision: graph.revision().clone(),
            values: Default::default(),
            control: Control { by_hand, ..next.save(&graph) },
        };
        let write = CheckpointWrite {
            thread,
            checkpoint: Arc::new(new),
            changes: changes
                .into_iter()
                .filter(|(c, _)| is_kept(*c))
                .map(|(c, ch)| (graph.inner.names[c].clone(), ch))
                .collect(),
            state: kept_state(&level, &channels, is_kept),
        };
        let mut acks = Vec::new();
        if let Some(at) = at {
            acks.extend(kept.into_iter().map(|record| saver.put_task(thread, &ns, at, record)));
        }
        acks.push(saver.put(write));
        for ack in acks {
            ack.await.map_err(fail)?;
        }
        Ok(CheckpointConfig { thread: Some(thread), ns, id: Some(id) })
    }

    fn refuse(&self, message: String) -> Error {
        Error::InvalidStateUpdate { graph: self.name().to_string(), message }
    }

    /// Whether the updates are one as [`COPY`].
    fn as_copy(&self, updates: &[StateUpdate]) -> Result<bool, Error> {
        match updates {
            [StateUpdate { values: None | Some(Value::Null), as_node: Some(node) }] if node == COPY => Ok(true),
            _ if updates.iter().all(|u| u.as_node.as_deref() != Some(COPY)) => Ok(false),
            [_] => Err(self.refuse(format!("an update as {COPY} takes no values; write them to the copy"))),
            _ => Err(self.refuse(format!("an update as {COPY} stands alone in its superstep"))),
        }
    }

    /// The input, where the updates are one as [`INPUT`].
    fn as_input(&self, updates: &[StateUpdate]) -> Result<Option<Value>, Error> {
        if updates.iter().all(|u| u.as_node.as_deref() != Some(INPUT)) {
            return Ok(None);
        }
        match updates {
            [StateUpdate { values: Some(input @ Value::Object(_)), .. }] => Ok(Some(input.clone())),
            [StateUpdate { values: None | Some(Value::Null), .. }] => {
                Err(self.refuse(format!("an update as {INPUT} needs values: an object by channel")))
            }
            [StateUpdate { values: Some(other), .. }] => {
                Err(self.refuse(format!("an update is an object by channel, not {}", other.kind())))
            }
            _ => Err(self.refuse(format!("an update as {INPUT} stands alone in its superstep"))),
        }
    }

    /// The node an update is taken as; `None` is `__start__`.
    fn as_node(&self, update: &StateUpdate, next: &Next, is_first: bool, of: usize) -> Result<Option<usize>, Error> {
        let inner = &self.inner;
        match &update.as_node {
            Some(name) if name == START || name == "START" => Ok(None),
            Some(name) => inner.node_ids.get(&**name).copied().map(Some).ok_or_else(|| {
                let near = crate::graph::nearest(name, inner.node_ids.keys());
                self.refuse(format!("Node {name} does not exist{near}"))
            }),
            None if of > 1 => Err(self.refuse("as_node is required when applying multiple updates".to_owned())),
            None if is_first => Ok(None),
            None => match &next.last[..] {
                [one] => Ok(*one),
                _ if inner.nodes.len() == 1 => Ok(Some(0)),
                many => {
                    let names: Vec<_> = many.iter().flatten().map(|n| inner.nodes[*n].name.to_string()).collect();
                    Err(self.refuse(format!(
                        "Ambiguous update, specify as_node: the last step was written by {}",
                        if names.is_empty() { "nobody".to_owned() } else { names.join(", ") }
                    )))
                }
            },
        }
    }
}

/// A level that is no run's: for routes to be asked in.
fn by_hand(graph: &Graph, thread: ThreadId, ns: &Arc<str>, mut metadata: Object) -> Arc<Level> {
    let clock = graph.runtime.clock.clone();
    let run_id = clock.uuid();
    metadata.insert("thread_id", thread.to_string());
    let config = RunConfig { modes: crate::stream::Modes::NONE, ..RunConfig::thread(thread) };
    let run = Arc::new(RunScope {
        queue: Default::default(),
        modes: config.modes,
        run_id,
        cancel: config.cancel.clone(),
        clock,
        answers: Default::default(),
        told: Default::default(),
        usage: Default::default(),
        tags: Arc::default(),
        replay: Default::default(),
        config,
    });
    Arc::new(Level {
        shares: false,
        graph: graph.clone(),
        ns: ns.clone(),
        depth: 0,
        origin: None,
        event_id: run_id,
        parents: [run_id].into(),
        tells: false,
        tags: Arc::default(),
        metadata,
        parent_checkpoints: Object::default(),
        within: None,
        above: None,
        last_step: i64::MAX.into(),
        run,
    })
}

/// The id of the task that the node would have run as, so that a history shows the update as its result.
fn prepared(graph: &Graph, ns: &str, identity: uuid::Uuid, step: i64, next: &Next, node: usize) -> TaskId {
    let name = &graph.inner.nodes[node].name;
    if let (false, Some(at)) = (next.triggered.contains(&node), next.sends.iter().position(|(n, _)| *n == node)) {
        return task_id(ns, identity, step, name, TaskPath::push(at));
    }
    task_id(ns, identity, step, name, TaskPath::pull(node))
}

fn own_writes(graph: &Graph, node: &str, update: &StateUpdate, is_input: bool) -> Result<TaskWrites, Error> {
    let mut writes = TaskWrites::default();
    let fields = match &update.values {
        None | Some(Value::Null) => return Ok(writes),
        Some(Value::Object(fields)) => fields,
        Some(other) => {
            return Err(graph.refuse(format!("an update is an object by channel, not {}", other.kind())));
        }
    };
    let inner = &graph.inner;
    let is_wanted = |name: &Arc<str>| !is_input || inner.channel_ids.get(name).is_some_and(|c| inner.input.contains(c));
    let update = Update {
        writes: fields.iter().filter(|(k, _)| is_wanted(k)).map(|(k, v)| (k.clone(), v.clone())).collect(),
        fault: None,
    };
    writes.add_update(graph, node, update).map_err(|e| graph.refuse(text(e)))?;
    Ok(writes)
}

fn text(error: NodeError) -> String {
    match error {
        NodeError::Failed(f) => f.message.to_string(),
        NodeError::Engine(e) => e.to_string(),
        other => format!("{other:?}"),
    }
}

/// Where the node's edges and routes lead after the update.
async fn leaves(
    level: &Arc<Level>,
    node: Option<usize>,
    name: &Arc<str>,
    id: TaskId,
    step: i64,
    channels: &Channels,
    own: &TaskWrites,
) -> Result<TaskWrites, Error> {
    let graph = &level.graph;
    let failed = |e: NodeError| match e {
        NodeError::Engine(e) => *e,
        NodeError::Failed(error) => Error::Node { graph: graph.name().to_string(), node: name.to_string(), error },
        other => graph.refuse(format!("{other:?}")),
    };
    let state = own.seen(graph, channels)?;
    match node {
        None => leave::leave(level, &graph.inner.start, id, step, &state).await.map_err(failed),
        Some(n) => {
            let scope = Arc::new(TaskScope::new(level, (id, Some(n), TaskPath::pull(n)), step, channels.snapshot()));
            let ended = task::Task::new(n, TaskPath::pull(n), id, StateView::Input(Value::Null));
            leave::leave_task(&scope, &graph.inner.nodes[n].out, own, &ended).await.map_err(failed)
        }
    }
}

/// What the tasks of a stopped step have written, in the order of the tasks.
fn finished(
    graph: &Graph,
    records: &[TaskRecord],
    next: &Next,
    task_id: impl Fn(usize, TaskPath) -> TaskId,
) -> Vec<TaskWrites> {
    let pulls = next.triggered.iter().map(|node| (*node, TaskPath::pull(*node)));
    let sends = next.sends.iter().enumerate().map(|(at, (node, _))| (*node, TaskPath::push(at)));
    let outcome = |node, path| {
        let id = task_id(node, path);
        records.iter().find(|record| record.task == id)?.outcome.as_ref()
    };
    let mut done = Vec::new();
    for (node, path) in pulls.chain(sends) {
        let (node, ended) = match (outcome(node, path), graph.inner.nodes[node].handler) {
            (Some(Outcome::Handled(_)), Some(handler)) => (handler, outcome(handler, path.handler())),
            (ended, _) => (node, ended),
        };
        if let Some(Outcome::Done(writes)) = ended {
            done.push(TaskWrites::restore(graph, Some(node), writes));
        }
    }
    done
}
