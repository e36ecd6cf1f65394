//! What a node needs of its host beside what [`Context`] gives every node: for one whose work runs in another process, and
//! who hands on what that process sends.

use std::{sync::Arc, time::Instant};

use uuid::Uuid;

use super::{calls::NO_STREAM, context::Context};
use crate::{
    Object,
    model::ModelInfo,
    stream::{Chunk, EventData, EventKind, MessagePart, Mode, Payload},
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

impl Context {
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

    /// The trace in which the node runs, as headers of W3C Trace Context; empty where nothing is traced.
    pub fn trace_context(&self) -> Object {
        trace::carried()
    }
}
