//! What a node is given beside the state: a way to tell, to ask, to call models and tools, to be cancelled.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{
    scope::{StepTag, question_id},
    taskscope::{HandledError, TaskScope},
};
use crate::{
    NodeError, Object, RunId, TaskId, ThreadId, Value,
    items::ItemStore,
    stream::{AskedIn, Event, EventData, EventKind, Interrupt, Mode, Payload},
};

/// A node's way to the run it is in. Cheap to clone; valid as long as the node runs.
#[derive(Clone)]
pub struct Context {
    pub(crate) task: Arc<TaskScope>,
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
        self.interrupt_at_with(index, value, None)
    }

    /// The same, with the JSON Schema of the answer. Clients see the schema; an answer that does not match it is refused, and
    /// the question stays open.
    pub fn interrupt_with(&self, value: impl Into<Value>, response_schema: Value) -> Result<Value, NodeError> {
        let index = self.task.asked.lock().count;
        self.interrupt_at_with(index, value, Some(response_schema))
    }

    /// The question of a number, counted from 0 in the order in which the node asks: for a node that asks on behalf of
    /// another process, which may ask again after its connection broke.
    pub fn interrupt_at(&self, index: usize, value: impl Into<Value>) -> Result<Value, NodeError> {
        self.interrupt_at_with(index, value, None)
    }

    /// The same, with the JSON Schema of the answer.
    pub fn interrupt_at_with(
        &self,
        index: usize,
        value: impl Into<Value>,
        response_schema: Option<Value>,
    ) -> Result<Value, NodeError> {
        let task = &self.task;
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
        let id = question_id(&task.ns(), index);
        if let Some(answer) = task.take_answer(&mut asked, &id, response_schema.as_ref())? {
            drop(asked);
            // Kept at once: an answer is given once, however often the run is taken up again.
            task.keep_so_far();
            return Ok(answer);
        }
        let asked_in = AskedIn { namespace: task.level.ns.clone(), node: task.name().clone(), task: task.id };
        let question = Interrupt { id, value: value.into(), response_schema, asked_in: Some(Arc::new(asked_in)) };
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

    /// The error that the node handles, where it is an [error handler](crate::NodeSpec::error_handler).
    pub fn error(&self) -> Option<&HandledError> {
        self.task.handles.as_deref()
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
