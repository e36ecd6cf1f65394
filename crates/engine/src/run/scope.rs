//! What a run, and each graph within it, share: where parts go, who wants them, what cancels it.

use std::{
    collections::HashSet,
    sync::{Arc, OnceLock, atomic::AtomicI64},
};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{replay::Replay, taskscope::TaskScope};
use crate::{
    Graph, Object, RunConfig, Value,
    checkpoint::Durability,
    ids::Clock,
    model::Usage,
    stream::{
        Event, EventData, EventKind, Interrupt, Mode, Modes, Part, Payload, Queue, SnapshotRef, TaskMeta, TaskRef,
    },
};

/// What a whole run shares, subgraphs included.
pub(crate) struct RunScope {
    pub queue: Queue,
    pub modes: Modes,
    pub config: RunConfig,
    pub run_id: Uuid,
    pub cancel: CancellationToken,
    pub clock: Arc<dyn Clock>,
    pub answers: Answers,
    /// Ids of messages that have been told, so that none is told twice.
    pub told: Mutex<HashSet<Arc<str>, foldhash::fast::RandomState>>,
    /// Tokens used so far.
    pub usage: Mutex<Usage>,
    pub tags: Arc<[Arc<str>]>,
    /// The checkpoints to go on from, where the run starts at one of a subgraph. Set as the run begins.
    pub replay: OnceLock<Replay>,
}

impl RunScope {
    /// Whether nothing is kept before the run ends.
    pub fn keeps_only_the_end(&self) -> bool {
        self.config.durability == Durability::Exit
    }
}

/// The answers a run was given.
#[derive(Default)]
pub(crate) struct Answers {
    pub by_id: Vec<(Arc<str>, Value)>,
    /// For the one open question; taken by the first to ask.
    pub bare: Mutex<Option<Value>>,
}

/// The tag that LangChain gives what happens in a graph, by where it stands.
#[derive(Clone, Copy)]
pub(crate) enum StepTag {
    None,
    /// A node, by its superstep.
    Step(i64),
    /// A part of what LangGraph makes of a node: 1 its work, 2 its writes, from 3 on its routes.
    Part(usize),
}

impl StepTag {
    pub fn tag(self) -> Option<Arc<str>> {
        match self {
            Self::None => None,
            Self::Step(step) => Some(format!("graph:step:{step}").into()),
            Self::Part(part) => Some(format!("seq:step:{part}").into()),
        }
    }

    /// The tag, and those that come down to it.
    pub fn with<'a>(self, tags: impl Iterator<Item = &'a Arc<str>>) -> Arc<[Arc<str>]> {
        self.tag().into_iter().chain(tags.cloned()).collect()
    }
}

/// One graph within a run: the outermost, or a subgraph in a task of another.
pub(crate) struct Level {
    pub run: Arc<RunScope>,
    pub graph: Graph,
    /// Its checkpoints' namespace: empty for the outermost.
    pub ns: Arc<str>,
    /// Where its parts go under: the same.
    pub depth: usize,
    /// In a run from a checkpoint of a subgraph, the namespace whose checkpoints this graph goes on from.
    pub origin: Option<Arc<str>>,
    /// Its own id in events.
    pub event_id: Uuid,
    /// What its nodes have as parents: from the root down to this graph.
    pub parents: Arc<[Uuid]>,
    /// Whether it shares channels with its parent by name.
    pub shares: bool,
    /// Whether its parts are told: the outermost's always, a subgraph's where asked for.
    pub tells: bool,
    /// Tags and metadata that come down from the node it runs in.
    pub tags: Arc<[Arc<str>]>,
    pub metadata: Object,
    /// Ids of the parents' checkpoints, by namespace.
    pub parent_checkpoints: Object,
    /// The task's node in the graph above, which events of this level carry.
    pub within: Option<Arc<TaskMeta>>,
    /// That task, which lives as long as this level tells.
    pub above: Option<Arc<TaskScope>>,
    /// The last step that may begin.
    pub last_step: AtomicI64,
}

impl Level {
    /// Whether parts of a mode are wanted from this level.
    #[inline]
    pub fn wants(&self, mode: Mode) -> bool {
        self.tells && self.run.modes.has(mode)
    }

    /// Whether parts of any of the modes are wanted.
    #[inline]
    pub fn wants_any(&self, modes: Modes) -> bool {
        self.tells && self.run.modes.any(modes)
    }

    /// Whether an event is wanted.
    #[inline]
    pub fn wants_event(
        &self,
        kind: EventKind,
        name: &str,
        node: Option<&str>,
        step: StepTag,
        tags: [&[Arc<str>]; 2],
    ) -> bool {
        if !self.run.modes.has(Mode::Events) {
            return false;
        }
        let filter = &self.run.config.events;
        let step = if filter.looks_at_tags() { step.tag() } else { None };
        filter.admits(kind, name, node, &self.ns, self.tags.iter().chain(tags.into_iter().flatten()).chain(&step))
    }

    /// Tells a part.
    pub fn tell(&self, step: i64, task: Option<TaskRef>, base: Option<SnapshotRef>, payload: Payload) {
        if let Some(task) = &self.above {
            task.beat();
        }
        self.run.queue.push(Part { namespace: self.ns.clone(), step, task, base, payload });
    }

    /// Whether an event of this graph itself is wanted.
    pub fn wants_chain(&self, kind: EventKind) -> bool {
        let node = self.within.as_ref().and_then(|m| m.task.as_ref()).map(|t| t.node.clone());
        self.wants_event(kind, self.graph.name(), node.as_deref(), self.part(), [&[], &[]])
    }

    fn part(&self) -> StepTag {
        if self.within.is_some() { StepTag::Part(1) } else { StepTag::None }
    }

    /// Tells an event of this graph itself, where it is wanted.
    pub fn tell_chain(&self, kind: EventKind, step: i64, base: Option<&SnapshotRef>, data: impl FnOnce() -> EventData) {
        let name = self.graph.name();
        if !self.wants_chain(kind) {
            return;
        }
        let parents = self.parents[..self.parents.len() - 1].into();
        let meta = self.within.clone().unwrap_or_else(|| {
            Arc::new(TaskMeta {
                task: None,
                step,
                triggers: Arc::default(),
                path: Value::Null,
                checkpoint_ns: Arc::default(),
                metadata: self.metadata.clone(),
                tags: self.tags.clone(),
            })
        });
        let tags = match self.part().tag() {
            Some(tag) => self.tags.iter().cloned().chain([tag]).collect(),
            None => self.tags.clone(),
        };
        let event = Event {
            kind,
            name: name.clone(),
            run_id: self.event_id,
            parent_ids: parents,
            tags,
            meta,
            model: None,
            data: data(),
        };
        self.tell(step, None, base.cloned(), event.into());
    }
}

/// The id of a question: a hash of its task's namespace and of how many answers the task has had.
pub(crate) fn question_id(task_ns: &str, count: usize) -> Arc<str> {
    let mut h = xxhash_rust::xxh3::Xxh3::new();
    h.update(task_ns.as_bytes());
    if count > 0 {
        h.update(&[0]);
        h.update(count.to_string().as_bytes());
    }
    format!("{:032x}", h.digest128()).into()
}

/// Whether a text has the form of a question's id.
pub fn is_question_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// The questions of a stopped step.
pub(crate) type Questions = Vec<Interrupt>;
