//! What a run is asked for with, as it is kept: enough to take the run up again after a crash.

use std::time::{Duration, SystemTime};

use runloom_engine::{
    Answer, Breakpoints, CheckpointId, Command, Goto, Input, Object, RunConfig, RunId, ThreadId, Update, Value,
    checkpoint::Durability,
    command::Send,
    stream::{EventFilter, EventKind, Mode, Modes, Patterns},
};
use runloom_store::{AssistantId, Multitask, Run, Thread};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What a run is asked for with. [`RunRequest::default`] is a stateless run without input of no graph: fill it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunRequest {
    /// The run's id; a new one where there is none.
    pub run_id: Option<RunId>,
    /// The thread; none makes a stateless run.
    pub thread_id: Option<ThreadId>,
    /// Makes the thread where it is not there.
    pub create_thread: bool,
    /// What to run.
    pub target: Target,
    /// What a thread that is made has in its metadata, over the graph's and the assistant's.
    pub thread_metadata: Object,
    /// The owner of a thread that is made.
    pub owner: Option<String>,
    /// All that the run itself needs: what is kept.
    pub spec: RunSpec,
    /// What happens where the thread is busy.
    pub multitask: Multitask,
    /// Before which the run does not begin.
    pub start_time: Option<SystemTime>,
    /// The same id and the same request is the same run.
    pub request_id: Option<String>,
    /// Refuses a command unless this is the thread's latest checkpoint.
    pub expected_checkpoint_id: Option<CheckpointId>,
    /// The trace that the caller's work is part of: `traceparent`, `tracestate`. It does not make another request of one.
    pub trace: Object,
}

/// What to run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Target {
    /// An assistant.
    Assistant(AssistantId),
    /// A graph, by the name of its default assistant.
    Graph(String),
}

impl Default for Target {
    fn default() -> Self {
        Self::Graph(String::new())
    }
}

/// What a run needs to go, and to go again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunSpec {
    /// How it starts.
    #[serde(skip_serializing_if = "Start::is_resume")]
    pub start: Start,
    /// The context; the assistant's where there is none. Null is none.
    pub context: Value,
    /// The most supersteps; 0 is the assistant's or the server's.
    pub recursion_limit: u32,
    /// The most tasks at once; 0 is no limit.
    pub max_concurrency: u32,
    /// Tags of the run.
    pub tags: Vec<String>,
    /// Settings for nodes.
    pub configurable: Object,
    /// Metadata; merged over the assistant's and the thread's when the run is made.
    pub metadata: Object,
    /// The modes that are recorded, as bits of [`Modes`]. 0 is `values`.
    pub modes: u8,
    /// Whether subgraphs are recorded too.
    pub subgraphs: bool,
    /// Which events are recorded.
    pub filter: FilterSpec,
    /// Stop before these; `*` is all.
    pub interrupt_before: Vec<String>,
    /// Stop after these; `*` is all.
    pub interrupt_after: Vec<String>,
    /// The checkpoint to start from.
    pub checkpoint_id: Option<CheckpointId>,
    /// `sync`, `async`, `exit`; empty is `async`.
    pub durability: String,
    /// Whether the run is cancelled when its last reader has left and none has come back for the grace.
    pub cancel_on_disconnect: bool,
    /// That grace, in milliseconds; 0 is 5,000.
    pub disconnect_grace_ms: u64,
    /// The longest it may take, in milliseconds, through all attempts; 0 is the server's limit, or none.
    pub run_timeout_ms: u64,
    /// The checkpoint that the thread has to stand at when the run begins.
    pub expected_checkpoint_id: Option<CheckpointId>,
    /// What the face that made the run notes with it: shown by that face only, and not to nodes.
    #[serde(skip_serializing_if = "Object::is_empty")]
    pub noted: Object,
    /// What the run replaced in its thread's metadata when it was made, null for a key that was not there: put back by a
    /// rollback.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub marked_over: Option<Object>,
    /// Puts chunks of messages together: so many at most; 0 with no delay is off.
    pub coalesce_chunks: u32,
    /// And at most so long, in milliseconds.
    pub coalesce_ms: u64,
    /// Refuses answers to questions that are not open, and a run that has nothing to go on with (gRPC); or passes over the
    /// first and ends the second at once (LangGraph's way).
    #[serde(alias = "strict_answers")]
    pub strict: bool,
    /// The trace that the run is part of, in each of its attempts.
    #[serde(skip_serializing_if = "Object::is_empty")]
    pub trace: Object,
    /// The address that is told when the run has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<String>,
}

/// How a run starts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// It goes on where the thread stands.
    #[default]
    Resume,
    /// With an input.
    Input(Value),
    /// With a command.
    Command(CommandSpec),
}

impl Start {
    fn is_resume(&self) -> bool {
        matches!(self, Self::Resume)
    }
}

/// A command, as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CommandSpec {
    /// The answer to the one open question.
    pub resume: Option<Value>,
    /// Answers by question id.
    pub resume_by_id: Vec<(String, Value)>,
    /// Objects by channel, in order.
    pub update: Vec<Object>,
    /// Where to go: a node, with an input of its own or without.
    pub goto: Vec<(String, Option<Value>)>,
}

/// Which events are recorded, as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FilterSpec {
    /// What is included.
    pub include: Selector,
    /// What is left out.
    pub exclude: Selector,
    /// Leaves out chunks that carry nothing.
    pub skip_empty_chunks: bool,
}

/// Names and kinds; empty lists say nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Selector {
    /// `on_chat_model_stream`, …
    pub kinds: Vec<String>,
    /// Globs over the event's name.
    pub names: Vec<String>,
    /// Globs over its node.
    pub nodes: Vec<String>,
    /// Globs over its tags.
    pub tags: Vec<String>,
    /// Globs over its namespace.
    pub namespaces: Vec<String>,
}

impl FilterSpec {
    /// The filter itself. An error names the field.
    pub fn compile(&self) -> Result<EventFilter> {
        let kinds = |names: &[String], field: &str| {
            names
                .iter()
                .map(|n| n.parse::<EventKind>().map_err(|e| Error::field(format!("event_filter.{field}.kinds"), e)))
                .collect::<Result<Vec<_>>>()
        };
        let (i, e) = (&self.include, &self.exclude);
        let patterns = |include: &[String], exclude: &[String], field: &str| {
            Patterns::new(include, exclude).map_err(|e| Error::field(format!("event_filter.{field}"), e.to_string()))
        };
        Ok(EventFilter {
            include_kinds: kinds(&i.kinds, "include")?,
            exclude_kinds: kinds(&e.kinds, "exclude")?,
            names: patterns(&i.names, &e.names, "names")?,
            nodes: patterns(&i.nodes, &e.nodes, "nodes")?,
            tags: patterns(&i.tags, &e.tags, "tags")?,
            namespaces: patterns(&i.namespaces, &e.namespaces, "namespaces")?,
            skip_empty_chunks: self.skip_empty_chunks,
        })
    }
}

/// The modes that bits stand for; `values` where there are none.
fn modes_of(bits: u8) -> Modes {
    if bits == 0 { Mode::Values.into() } else { Modes::from_bits(bits) }
}

impl RunSpec {
    /// What a run was asked for with, as it was kept.
    pub fn of(run: &Run) -> Self {
        runloom_engine::from_value(&run.request).unwrap_or_default()
    }

    /// The modes that a run records, without reading the rest of what it was asked for with.
    pub fn modes_of(run: &Run) -> Modes {
        let bits = run.request.get("modes").and_then(Value::as_u64);
        modes_of(bits.and_then(|bits| u8::try_from(bits).ok()).unwrap_or_default())
    }

    /// The modes that are recorded.
    pub fn modes(&self) -> Modes {
        modes_of(self.modes)
    }

    /// When checkpoints have to be on disk.
    pub fn durability(&self) -> Result<Durability> {
        match &*self.durability {
            "" => Ok(Durability::default()),
            name => name.parse().map_err(|e: String| Error::field("durability", e)),
        }
    }

    /// How long readers may be gone.
    pub fn grace(&self) -> Duration {
        Duration::from_millis(if self.disconnect_grace_ms == 0 { 5_000 } else { self.disconnect_grace_ms })
    }

    /// The engine's input.
    pub fn input(&self) -> Input {
        match &self.start {
            Start::Resume => Input::Resume,
            Start::Input(values) => Input::Values(values.clone()),
            Start::Command(c) => Input::Command(c.command()),
        }
    }

    /// The engine's configuration. `cancel`, `timeout` and what the server adds are the caller's to fill.
    pub fn config(&self, thread: &Thread, run: RunId, attempt: u32, default_limit: u32) -> Result<RunConfig> {
        let points = |names: &[String]| match names {
            [] => None,
            names if names.iter().any(|n| n == "*") => Some(Breakpoints::All),
            names => Some(Breakpoints::Nodes(names.iter().map(|n| n.as_str().into()).collect())),
        };
        Ok(RunConfig {
            thread_id: Some(thread.id),
            run_id: Some(run),
            attempt,
            checkpoint_id: self.checkpoint_id,
            recursion_limit: if self.recursion_limit == 0 { default_limit } else { self.recursion_limit },
            max_concurrency: (self.max_concurrency > 0).then_some(self.max_concurrency as usize),
            tags: self.tags.iter().map(|t| t.as_str().into()).collect(),
            metadata: self.metadata.clone(),
            configurable: self.configurable.clone(),
            context: self.context.clone(),
            interrupt_before: points(&self.interrupt_before),
            interrupt_after: points(&self.interrupt_after),
            durability: self.durability()?,
            modes: self.modes(),
            subgraphs: self.subgraphs,
            events: self.filter.compile()?,
            strict: self.strict,
            ..RunConfig::default()
        })
    }
}

impl CommandSpec {
    /// The engine's command.
    pub fn command(&self) -> Command {
        let mut update = Update::new();
        for fields in &self.update {
            for (channel, value) in fields.iter() {
                update = update.set(channel.clone(), value.clone());
            }
        }
        let goto = self.goto.iter().map(|(node, input)| match input {
            None => Goto::from(node.as_str()),
            Some(input) => Goto::Send(Send { node: node.as_str().into(), input: input.clone() }),
        });
        let resume = match &self.resume {
            Some(one) => Some(Answer::One(one.clone())),
            None if self.resume_by_id.is_empty() => None,
            None => {
                Some(Answer::ById(self.resume_by_id.iter().map(|(id, v)| (id.as_str().into(), v.clone())).collect()))
            }
        };
        Command { update: (!self.update.is_empty()).then_some(update), goto: goto.collect(), resume, parent: false }
    }
}
