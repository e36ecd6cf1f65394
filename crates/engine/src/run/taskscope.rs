//! One attempt of a task: what it is, where it stands, and how it is reported.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Instant,
};

use parking_lot::Mutex;
use uuid::Uuid;

use super::{
    replay::RepeatedTask,
    scope::{Level, StepTag},
};
use crate::{
    CheckpointId, NodeError, NodeFailure, RunId, TaskId, Value,
    checkpoint::TaskRecord,
    graph::{CompiledNode, NodeId, RefreshOn},
    ids::{from_upper, upper},
    stream::{Event, EventData, EventKind, Interrupt, Payload, SnapshotRef, TaskMeta, TaskRef},
};

/// One attempt of a task.
pub(crate) struct TaskScope {
    pub level: Arc<Level>,
    pub id: TaskId,
    /// The node, by its number; none is `__start__`. Its name, tags and metadata are looked up when they are told.
    pub node: Option<NodeId>,
    pub step: i64,
    /// 1 for the first try under the retry policy.
    pub attempt: u32,
    /// Which try of the task this is, through all attempts at the run.
    pub tries: u32,
    pub path: TaskPath,
    /// The state before the step.
    pub base: SnapshotRef,
    /// The checkpoint before the step; the state may have more by then, which a command brought.
    pub checkpoint: Option<CheckpointId>,
    /// The task's id in events, made when one is wanted.
    pub event_id: Uuid,
    pub asked: Mutex<Asked>,
    pub meta: Mutex<Option<Arc<TaskMeta>>>,
    /// True where the task runs again after a stop, and its subgraphs go on from their checkpoints.
    pub resuming: bool,
    /// Counts signs of life, for the timeout of a silent node.
    pub pulse: AtomicU64,
    /// When the attempt times out.
    pub deadline: Option<Instant>,
    /// True once it has used what no cache's key holds: an answer, a graph's own state.
    pub is_personal: AtomicBool,
    /// How many subgraphs it has run.
    pub subgraphs: AtomicU32,
    /// How many calls of models it has begun.
    pub calls: AtomicU32,
    /// How many subgraphs earlier tries have run: this one's are others, and begin anew.
    pub graphs: u32,
    /// The error that it handles, where it is an error handler.
    pub handles: Option<Arc<HandledError>>,
    /// The task that it repeats, in a run from a checkpoint of a subgraph.
    pub repeats: Option<Arc<RepeatedTask>>,
    /// Who waits for what the task did to be stored.
    pub hooks: Mutex<Vec<StoredHook>>,
}

/// Called once what a task did is stored, or, with `false`, could not be. Dropped where it never will be.
pub(crate) type StoredHook = Box<dyn FnOnce(bool) + Send>;

/// The error that an error handler handles: what failed, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct HandledError {
    /// The node that failed.
    pub node: Arc<str>,
    /// Its last failure, after all retries.
    pub failure: NodeFailure,
}

/// The position of a task in its step. Writes are applied in the order of positions: triggered nodes by number, then Sends
/// by index; an error handler directly after the task whose error it handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TaskPath {
    place: Place,
    is_handler: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// The number of the triggered node.
    Pull(usize),
    /// The index among the Sends.
    Push(usize),
}

impl TaskPath {
    /// `__start__`.
    pub const START: TaskPath = TaskPath::pull(usize::MAX);

    /// A triggered node.
    pub const fn pull(node: usize) -> Self {
        Self { place: Place::Pull(node), is_handler: false }
    }

    /// A Send.
    pub const fn push(index: usize) -> Self {
        Self { place: Place::Push(index), is_handler: false }
    }

    /// The handler of the error of the task at this position.
    pub const fn handler(self) -> Self {
        Self { is_handler: true, ..self }
    }

    /// The index of the Send, where the task is one.
    pub const fn send(self) -> Option<usize> {
        match self.place {
            Place::Push(index) => Some(index),
            Place::Pull(_) => None,
        }
    }

    /// Whether the task handles an error.
    pub const fn is_handler(self) -> bool {
        self.is_handler
    }

    /// As LangGraph shows it: `["__pregel_pull", node]`; `node` is the name of the triggered node.
    pub fn to_value(self, node: &Arc<str>) -> Value {
        let mut path = match self.place {
            Place::Pull(_) => vec![Value::from("__pregel_pull"), Value::from(node)],
            Place::Push(i) => vec![Value::from("__pregel_push"), Value::from(i), Value::Bool(false)],
        };
        if self.is_handler {
            path.extend([Value::from("node_error_handler"), Value::Bool(false)]);
        }
        Value::from(path)
    }

    /// What the ids of tasks hash.
    pub fn hash(self, h: &mut xxhash_rust::xxh3::Xxh3) {
        match self.place {
            Place::Pull(_) => h.update(b"pull"),
            Place::Push(i) => {
                h.update(b"push");
                h.update(&(i as u64).to_le_bytes());
            }
        }
        if self.is_handler {
            h.update(b"error_handler");
        }
    }
}

/// The questions of a task and their answers.
#[derive(Default)]
pub(crate) struct Asked {
    /// How many this attempt has asked.
    pub count: usize,
    /// The answers so far, in order.
    pub answers: Vec<Value>,
    /// The last question asked, which a history shows even once it is answered.
    pub interrupts: Vec<Interrupt>,
    /// The run that gave the last answer.
    pub answered_by: Option<RunId>,
}

impl TaskScope {
    /// A task's first attempt, of which nothing has been asked.
    pub fn new(level: &Arc<Level>, task: (TaskId, Option<NodeId>, TaskPath), step: i64, base: &SnapshotRef) -> Self {
        let (id, node, path) = task;
        Self {
            level: level.clone(),
            id,
            node,
            step,
            attempt: 1,
            tries: 1,
            path,
            base: base.clone(),
            checkpoint: base.checkpoint,
            event_id: Uuid::nil(),
            asked: Mutex::default(),
            meta: Mutex::default(),
            resuming: false,
            is_personal: false.into(),
            subgraphs: 0.into(),
            calls: 0.into(),
            graphs: 0,
            pulse: 0.into(),
            deadline: None,
            hooks: Mutex::default(),
            handles: None,
            repeats: None,
        }
    }

    /// The id of the next call of a model, and the one in its message's id. A repeated try makes new calls, but its
    /// messages have the ids of the try before: they replace what that one has streamed.
    pub fn next_call(&self) -> (Uuid, Uuid) {
        let run = &self.level.run;
        let mut h = xxhash_rust::xxh3::Xxh3::new();
        h.update(run.run_id.as_bytes());
        h.update(self.id.0.as_bytes());
        h.update(&self.calls.fetch_add(1, Ordering::Relaxed).to_le_bytes());
        let message = from_upper(upper(run.run_id), h.digest());
        (if self.tries == 1 { message } else { run.clock.uuid() }, message)
    }

    pub fn take_hooks(&self) -> Vec<StoredHook> {
        std::mem::take(&mut *self.hooks.lock())
    }

    pub fn spec(&self) -> Option<&CompiledNode> {
        self.node.map(|n| &self.level.graph.inner.nodes[n])
    }

    /// The node's name.
    pub fn name(&self) -> &Arc<str> {
        self.spec().map_or(&self.level.graph.inner.start_name, |n| &n.name)
    }

    /// The node's tags.
    pub fn node_tags(&self) -> &[Arc<str>] {
        self.spec().map_or(&[], |n| &n.spec.tags)
    }

    /// What triggered the task.
    pub fn triggers(&self) -> Arc<[Arc<str>]> {
        match (self.path.send().is_some() || self.path.is_handler(), self.spec()) {
            (true, _) => [Arc::from("__pregel_push")].into(),
            (_, Some(node)) => node.triggers.clone(),
            (_, None) => [self.level.graph.inner.start_name.clone()].into(),
        }
    }

    /// The task's own namespace: `parent|node:id`.
    pub fn ns(&self) -> String {
        if self.level.ns.is_empty() {
            format!("{}:{}", self.name(), self.id)
        } else {
            format!("{}|{}:{}", self.level.ns, self.name(), self.id)
        }
    }

    pub fn path_value(&self) -> Value {
        self.path.to_value(self.handles.as_ref().map_or(self.name(), |handled| &handled.node))
    }

    pub fn task_ref(&self) -> TaskRef {
        TaskRef { id: self.id, node: self.name().clone(), attempt: self.tries }
    }

    /// What the task's parts share, made once.
    pub fn meta(&self) -> Arc<TaskMeta> {
        self.meta
            .lock()
            .get_or_insert_with(|| {
                let mut metadata = self.level.metadata.clone();
                for (key, value) in self.spec().into_iter().flat_map(|n| n.spec.metadata.iter()) {
                    metadata.insert(key.clone(), value.clone());
                }
                Arc::new(TaskMeta {
                    task: Some(self.task_ref()),
                    step: self.step,
                    triggers: self.triggers(),
                    path: self.path_value(),
                    checkpoint_ns: self.ns().into(),
                    metadata,
                    tags: self.level.tags.iter().chain(self.node_tags()).cloned().collect(),
                })
            })
            .clone()
    }

    /// The ids of what is inside this task has as parents.
    pub fn child_parents(&self) -> Arc<[Uuid]> {
        self.level.parents.iter().copied().chain([self.event_id]).collect()
    }

    /// Records progress of the task, and of the tasks that it runs in: restarts their idle timeouts, except those that only
    /// heartbeats refresh.
    pub fn beat(&self) {
        if self.refresh_on() == RefreshOn::Auto {
            self.pulse.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(task) = &self.level.above {
            task.beat();
        }
    }

    /// Restarts the idle timeouts of the task, and of the tasks that it runs in.
    pub fn heartbeat(&self) {
        self.pulse.fetch_add(1, Ordering::Relaxed);
        if let Some(task) = &self.level.above {
            task.heartbeat();
        }
    }

    fn refresh_on(&self) -> RefreshOn {
        self.spec().map_or(RefreshOn::Auto, |node| node.spec.refresh_on)
    }

    /// Says that what the task comes to, and the tasks it runs in, depends on more than their input.
    pub fn is_now_personal(&self) {
        self.is_personal.store(true, Ordering::Relaxed);
        if let Some(task) = &self.level.above {
            task.is_now_personal();
        }
    }

    pub fn tell(&self, payload: Payload) {
        self.beat();
        self.level.tell(self.step, Some(self.task_ref()), Some(self.base.clone()), payload);
    }

    /// Tells an event of something inside the task, where it is wanted.
    pub fn tell_event(
        &self,
        kind: EventKind,
        name: &Arc<str>,
        id: Uuid,
        own_tags: &[Arc<str>],
        data: impl FnOnce() -> EventData,
    ) {
        if !self.wants_event(kind, name, StepTag::Part(1), own_tags) {
            return;
        }
        let payload = Payload::from(Event {
            kind,
            name: name.clone(),
            run_id: id,
            parent_ids: self.child_parents(),
            tags: self.child_tags(own_tags),
            meta: self.meta(),
            model: None,
            data: data(),
        });
        self.tell(payload);
    }

    /// Whether an event of the task, or inside it, is wanted.
    pub fn wants_event(&self, kind: EventKind, name: &str, step: StepTag, own_tags: &[Arc<str>]) -> bool {
        self.level.wants_event(kind, name, Some(self.name()), step, [self.node_tags(), own_tags])
    }

    /// What comes down to what is in the task: the tags of the run, of the graph and of the node.
    pub fn tags(&self) -> impl Iterator<Item = &Arc<str>> + Clone {
        self.level.tags.iter().chain(self.node_tags())
    }

    /// `seq:step:1`, and what comes down from the run and the node.
    pub fn child_tags(&self, own: &[Arc<str>]) -> Arc<[Arc<str>]> {
        StepTag::Part(1).with(self.tags().chain(own))
    }

    /// The run's answer to a question, which is then one of the task's. It has to match the schema that the question has.
    pub fn take_answer(
        &self,
        asked: &mut Asked,
        question: &str,
        schema: Option<&Value>,
    ) -> Result<Option<Value>, NodeError> {
        let run = &self.level.run;
        let by_id = run.answers.by_id.iter().find(|(id, _)| &**id == question).map(|(_, answer)| answer.clone());
        let Some(answer) = by_id.or_else(|| run.answers.bare.lock().take()) else { return Ok(None) };
        if let (Some(schema), Some(check)) = (schema, self.level.graph.runtime.check_answer)
            && let Err(fault) = check(schema, &answer)
        {
            let text =
                format!("node `{}`: the answer to question {question} does not match its schema: {fault}", self.name());
            return Err(NodeError::new("ValidationError", text).permanent());
        }
        asked.answers.push(answer.clone());
        asked.answered_by = Some(RunId(run.run_id));
        Ok(Some(answer))
    }

    /// Begins to keep what is known of the task so far: its answers, how often it was tried.
    pub fn keep_so_far(&self) {
        let level = &self.level;
        let (Some(saver), Some(thread)) = (&level.graph.runtime.checkpointer, level.run.config.thread_id) else {
            return;
        };
        if let (Some(checkpoint), false) = (self.checkpoint, level.run.keeps_only_the_end()) {
            // The acknowledgement comes with that of the task's own record, which is written after it.
            drop(saver.put_task(thread, &level.ns, checkpoint, self.record()));
        }
    }

    /// What is kept of the task's questions and answers.
    pub fn record(&self) -> TaskRecord {
        let asked = self.asked.lock();
        TaskRecord {
            task: self.id,
            node: self.name().clone(),
            outcome: None,
            interrupts: asked.interrupts.clone(),
            answers: asked.answers.clone(),
            answered_by: asked.answered_by,
            tries: if self.tries > 1 { self.tries } else { 0 },
            graphs: self.graphs,
        }
    }
}
