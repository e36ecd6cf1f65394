//! What a node needs of its host beside what [`Context`] gives every node: for one whose work runs in another process, and
//! who hands on what that process sends.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use uuid::Uuid;

use super::{
    calls::NO_STREAM,
    context::Context,
    scope::{StepTag, question_id},
};
use crate::{
    NodeError, Object, Value,
    model::ModelInfo,
    stream::{Chunk, Event, EventData, EventKind, MessagePart, Mode, Modes, Part, Payload, TaskMeta},
    trace,
};

/// What made a piece of a message.
#[derive(Clone, Debug, Default)]
pub struct ChunkSource {
    /// The model, where one made it.
    pub model: Option<Arc<ModelInfo>>,
    /// The name by which events and filters know that model: `ChatOpenAI`.
    pub name: Option<Arc<str>>,
    /// Tags of the model's call beside the task's.
    pub tags: Arc<[Arc<str>]>,
}

/// Something that starts, streams or ends inside a node that runs elsewhere.
#[derive(Clone, Debug)]
pub struct NestedEvent {
    /// What happened.
    pub kind: EventKind,
    /// To what.
    pub name: Arc<str>,
    /// The id of the execution.
    pub id: Uuid,
    /// The executions around it inside the node, outermost first.
    pub parents: Vec<Uuid>,
    /// Its tags, beside the task's.
    pub tags: Vec<Arc<str>>,
    /// Its metadata, over the task's.
    pub metadata: Object,
    /// Its data.
    pub data: EventData,
}

impl Context {
    /// Sends an event of something inside the node that another process reports, where the run's filter lets it through.
    pub fn event_elsewhere(&self, event: NestedEvent) {
        let task = &self.task;
        task.beat();
        let inherited: Vec<Arc<str>> = task.tags().filter(|tag| !event.tags.contains(tag)).cloned().collect();
        if !task.wants_event(event.kind, &event.name, StepTag::None, &event.tags) {
            return;
        }
        let mut meta = (*task.meta()).clone();
        event.metadata.iter().for_each(|(key, value)| meta.metadata.insert(key.clone(), value.clone()));
        let parents = task.child_parents();
        task.tell(Payload::from(Event {
            kind: event.kind,
            name: event.name,
            run_id: event.id,
            parent_ids: parents.iter().copied().chain(event.parents).collect(),
            tags: event.tags.into_iter().chain(inherited).collect(),
            meta: Arc::new(meta),
            model: None,
            data: event.data,
        }));
    }

    /// Shows that the node is at work: restarts its idle timeout, and those of the nodes it runs in. With
    /// [`RefreshOn::Heartbeat`](crate::RefreshOn) nothing else does.
    pub fn heartbeat(&self) {
        self.task.heartbeat();
    }

    /// When this attempt times out by the node's own timeout; none where it has none.
    pub fn deadline(&self) -> Option<Instant> {
        self.task.deadline
    }

    /// Sends a piece of a message that the node received from elsewhere (mode `messages`), unless a tag or the run's filter
    /// keeps it out of the stream. Pieces of one message have one id.
    pub fn chunk(&self, chunk: Arc<Chunk>, source: &ChunkSource) {
        let task = &self.task;
        let level = &task.level;
        task.beat();
        if !level.run.modes.has(Mode::Messages) {
            return;
        }
        let filter = &level.run.config.events;
        let name = source.name.as_deref().unwrap_or("");
        let tags = || task.tags().chain(source.tags.iter());
        let admits =
            filter.admits_message(name, Some(task.name()), &level.ns, tags()) && tags().all(|tag| &**tag != NO_STREAM);
        if chunk.is_last()
            && let Chunk::Delta { id, .. } = &*chunk
        {
            // The node's own write of the whole message does not send it again.
            level.run.told.lock().insert(id.clone());
        }
        if !admits || !level.wants(Mode::Messages) || (filter.skips(&chunk) && !chunk.is_last()) {
            return;
        }
        task.tell(Payload::Message(MessagePart {
            chunk,
            meta: task.meta(),
            model: source.model.clone(),
            name: source.name.clone(),
            tags: source.tags.clone(),
        }));
    }

    /// Sends an event of something inside the node (mode `events`), where the run's filter lets it through. `id` is that of
    /// what started, streams or ended; `data` is built only where the event is sent.
    pub fn nested_event(
        &self,
        kind: EventKind,
        name: &Arc<str>,
        id: Uuid,
        tags: &[Arc<str>],
        data: impl FnOnce() -> EventData,
    ) {
        self.task.beat();
        self.task.tell_event(kind, name, id, tags, data);
    }

    /// A part of the stream of a graph that the node runs in another process, under a namespace inside the task. It is sent
    /// where the run streams subgraphs and records the part's mode.
    pub fn nested_part(&self, namespace: &str, mode: Mode, payload: Payload) {
        let task = &self.task;
        let level = &task.level;
        task.beat();
        if !level.run.config.subgraphs || !level.wants(mode) {
            return;
        }
        let namespace = if namespace.is_empty() { task.ns() } else { format!("{}|{namespace}", task.ns()) };
        level.run.queue.push(Part {
            namespace: namespace.into(),
            step: task.step,
            task: Some(task.task_ref()),
            base: None,
            payload,
        });
    }

    /// The answers to the node's questions so far, from the next question that it would ask: those of earlier runs, and this
    /// run's answer to the question at which the task stopped.
    pub fn answers(&self) -> Result<Vec<Value>, NodeError> {
        let task = &self.task;
        let mut asked = task.asked.lock();
        let id = question_id(&task.ns(), asked.answers.len());
        if let Some(open) = asked.interrupts.last().filter(|question| question.id == id).cloned()
            && task.take_answer(&mut asked, &id, open.response_schema.as_ref())?.is_some()
        {
            drop(asked);
            task.keep_so_far();
            asked = task.asked.lock();
        }
        let answers = asked.answers.get(asked.count..).unwrap_or_default().to_vec();
        if !answers.is_empty() {
            task.is_now_personal();
        }
        Ok(answers)
    }

    /// How many questions the node has asked in this try: the number of its next one.
    pub fn questions(&self) -> usize {
        self.task.asked.lock().count
    }

    /// Calls `hook` once what the task did is stored: `true`; or could not be: `false`. With durability `exit` that is when
    /// the run stops. It is dropped where the task runs again, or the run ends before.
    pub fn when_stored(&self, hook: impl FnOnce(bool) + Send + 'static) {
        self.task.hooks.lock().push(Box::new(hook));
    }

    /// The modes in which something wants parts from inside the node.
    pub fn modes(&self) -> Modes {
        let level = &self.task.level;
        level.run.modes.iter().filter(|mode| *mode == Mode::Events || level.wants(*mode)).collect()
    }

    /// Whether the run streams subgraphs.
    pub fn streams_subgraphs(&self) -> bool {
        self.task.level.run.config.subgraphs
    }

    /// The name of the graph in which the node is.
    pub fn graph_name(&self) -> &Arc<str> {
        self.task.level.graph.name()
    }

    /// The namespace of that graph: empty for the outermost, else `node:task_id` segments joined by `|`.
    pub fn namespace(&self) -> &Arc<str> {
        &self.task.level.ns
    }

    /// What all parts of the task share: triggers, path, namespace, metadata and tags.
    pub fn task_meta(&self) -> Arc<TaskMeta> {
        self.task.meta()
    }

    /// Which try of the task this is, from 1, through all attempts at the run.
    pub fn tries(&self) -> u32 {
        self.task.tries
    }

    /// Which attempt at the run this is, from 1.
    pub fn run_attempt(&self) -> u32 {
        self.task.level.run.config.attempt
    }

    /// The most supersteps of the run.
    pub fn recursion_limit(&self) -> u32 {
        self.task.level.run.config.recursion_limit
    }

    /// How many supersteps may follow this one before the limit, as LangGraph counts them.
    pub fn remaining_steps(&self) -> u32 {
        let last = self.task.level.last_step.load(Ordering::Relaxed);
        u32::try_from(last.saturating_sub(self.task.step)).unwrap_or(u32::MAX)
    }

    /// The longest that the node may be silent; none where it may be for as long as it runs.
    pub fn idle_timeout(&self) -> Option<Duration> {
        self.task.spec().and_then(|node| node.spec.idle_timeout)
    }

    /// The trace in which the node runs, as headers of W3C Trace Context; empty where nothing is traced.
    pub fn trace_context(&self) -> Object {
        trace::carried()
    }
}
