//! What a node is given beside the state: a way to tell, to ask, to call models and tools, to be cancelled.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Instant,
};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::scope::{Level, StepTag, question_id};
use crate::{
    CheckpointId, NodeError, Object, RunId, TaskId, ThreadId, Value,
    checkpoint::TaskRecord,
    graph::{CompiledNode, NodeId},
    items::ItemStore,
    stream::{AskedIn, Event, EventData, EventKind, Interrupt, Mode, Payload, SnapshotRef, TaskMeta, TaskRef},
};

/// A node's way to the run it is in. Cheap to clone; valid as long as the node runs.
#[derive(Clone)]
pub struct Context {
    pub(crate) task: Arc<TaskScope>,
}

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
    /// How many subgraphs earlier tries have run: this one's are others, and begin anew.
    pub graphs: u32,
}

/// Where a task stands in its step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TaskPath {
    /// Triggered, by the number of its node.
    Pull(usize),
    /// Sent, by its place among the Sends.
    Push(usize),
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
            graphs: 0,
            pulse: 0.into(),
            deadline: None,
        }
    }

    fn spec(&self) -> Option<&CompiledNode> {
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
        match (self.path, self.spec()) {
            (TaskPath::Push(_), _) => [Arc::from("__pregel_push")].into(),
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
        match self.path {
            TaskPath::Pull(_) => Value::from(vec![Value::from("__pregel_pull"), Value::from(self.name())]),
            TaskPath::Push(i) => Value::from(vec![Value::from("__pregel_push"), Value::from(i), Value::Bool(false)]),
        }
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

    /// Shows that the task lives, and the tasks it runs in.
    pub fn beat(&self) {
        self.pulse.fetch_add(1, Ordering::Relaxed);
        if let Some(task) = &self.level.above {
            task.beat();
        }
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

impl Context {
    /// Emits custom data into the stream, at once (mode `custom`).
    pub fn emit(&self, data: impl Into<Value>) {
        if self.task.level.wants(Mode::Custom) {
            self.task.tell(Payload::Custom(data.into()));
        } else {
            self.task.beat();
        }
    }

    /// Whether anybody wants custom data: what is costly to make can be left out where nobody does.
    pub fn wants_custom(&self) -> bool {
        self.task.level.wants(Mode::Custom)
    }

    /// Sends a custom event (mode `events`, kind `on_custom_event`).
    pub fn event(&self, name: impl Into<Arc<str>>, data: impl Into<Value>) {
        let task = &self.task;
        let name = name.into();
        if !task.wants_event(EventKind::Custom, &name, StepTag::Part(1), &[]) {
            return;
        }
        // A custom event is the node's own: its id is the node's, its parents are the node's.
        let payload = Payload::from(Event {
            kind: EventKind::Custom,
            name,
            run_id: task.event_id,
            parent_ids: task.level.parents.clone(),
            tags: task.child_tags(&[]),
            meta: task.meta(),
            model: None,
            data: EventData { custom: Some(data.into()), ..EventData::default() },
        });
        task.tell(payload);
    }

    /// Asks a person. Without an answer the run stops here, and on resume the node runs again from its start, when
    /// this call gives the answer: `let answer = cx.interrupt(question)?;`
    pub fn interrupt(&self, value: impl Into<Value>) -> Result<Value, NodeError> {
        let index = self.task.asked.lock().count;
        self.interrupt_at(index, value)
    }

    /// The question of a number, counted from 0 in the order in which the node asks: for a node that asks on behalf of
    /// another process, which may ask again after its connection broke.
    pub fn interrupt_at(&self, index: usize, value: impl Into<Value>) -> Result<Value, NodeError> {
        let task = &self.task;
        let run = &task.level.run;
        let mut asked = task.asked.lock();
        if index > asked.answers.len() {
            let text =
                format!("node `{}` asks question {index}, but only {} are answered", task.name(), asked.answers.len());
            return Err(NodeError::msg(text).permanent());
        }
        asked.count = asked.count.max(index + 1);
        task.is_now_personal();
        if let Some(answer) = asked.answers.get(index) {
            return Ok(answer.clone());
        }
        let ns = task.ns();
        let id = question_id(&ns, index);
        let by_id = |id: &str| run.answers.by_id.iter().find(|(i, _)| &**i == id).map(|(_, v)| v.clone());
        let answer = by_id(&id).or_else(|| run.answers.bare.lock().take());
        if let Some(answer) = answer {
            asked.answers.push(answer.clone());
            asked.answered_by = Some(RunId(run.run_id));
            drop(asked);
            // Kept at once: an answer is given once, however often the run is taken up again.
            task.keep_so_far();
            return Ok(answer);
        }
        let asked_in = AskedIn { namespace: task.level.ns.clone(), node: task.name().clone(), task: task.id };
        let question = Interrupt { id, value: value.into(), asked_in: Some(Arc::new(asked_in)) };
        asked.interrupts = vec![question.clone()];
        Err(NodeError::Interrupted(vec![question]))
    }

    /// The items kept beside the threads, where the server keeps any.
    pub fn items(&self) -> Option<&Arc<dyn ItemStore>> {
        self.task.level.graph.runtime.items.as_ref()
    }

    /// True once the run is being cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.task.level.run.cancel.is_cancelled()
    }

    /// Resolves when the run is being cancelled. Not needed to be cancelled: a cancelled run drops its nodes.
    pub async fn cancelled(&self) {
        self.task.level.run.cancel.cancelled().await;
    }

    /// The run's cancellation, for work that is spawned elsewhere.
    pub fn cancellation(&self) -> CancellationToken {
        self.task.level.run.cancel.child_token()
    }

    /// The task's id: the same after a restart, so it serves as an idempotency key for calls outside.
    pub fn task_id(&self) -> TaskId {
        self.task.id
    }

    /// The node's name.
    pub fn node(&self) -> &Arc<str> {
        self.task.name()
    }

    /// The superstep.
    pub fn step(&self) -> i64 {
        self.task.step
    }

    /// 1 for the first try of this node, 2 for the next.
    pub fn attempt(&self) -> u32 {
        self.task.attempt
    }

    /// The thread, where the run has one.
    pub fn thread_id(&self) -> Option<ThreadId> {
        self.task.level.run.config.thread_id
    }

    /// The run.
    pub fn run_id(&self) -> RunId {
        RunId(self.task.level.run.run_id)
    }

    /// The run's context; null where it has none.
    pub fn context(&self) -> &Value {
        &self.task.level.run.config.context
    }

    /// The run's settings.
    pub fn configurable(&self) -> &Object {
        &self.task.level.run.config.configurable
    }

    /// Lets the reader take what has been told, where much has: for loops that tell without waiting for anything.
    pub async fn breathe(&self) {
        if self.task.level.run.queue.len() >= 64 {
            tokio::task::yield_now().await;
        }
    }
}
