//! What the engine needs of a request, to run it and to run it again after a crash.

use runloom_engine::{
    Answer, Breakpoints, CheckpointId, Command, Goto, Input, Object, RunConfig, Update, Value, checkpoint::Durability,
    command::Send,
};
use runloom_store::Run;
use serde::{Deserialize, Serialize};

use super::Recording;
use crate::error::{Error, Result};

/// What the engine needs. The only part of a request that is hashed for its id: a field added later with its default does
/// not change the hash of a request made before.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunOptions {
    /// How the run starts.
    #[serde(skip_serializing_if = "Start::is_resume")]
    pub start: Start,
    /// The context; the assistant's where there is none. Null is none.
    pub context: Value,
    /// The most supersteps; 0 is the assistant's or the server's limit.
    pub recursion_limit: u32,
    /// The most tasks at once; 0 is no limit.
    pub max_concurrency: u32,
    /// Tags of the run.
    pub tags: Vec<String>,
    /// Settings for nodes.
    pub configurable: Object,
    /// Metadata; merged over the assistant's and the thread's when the run is made.
    pub metadata: Object,
    /// Stop before these nodes; `*` is all.
    pub interrupt_before: Vec<String>,
    /// Stop after these nodes; `*` is all.
    pub interrupt_after: Vec<String>,
    /// The checkpoint to start from; the latest where there is none.
    pub checkpoint_id: Option<CheckpointId>,
    /// The namespace of that checkpoint: empty for the graph itself, `node:task_id` segments joined by `|` for a subgraph.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub checkpoint_namespace: String,
    /// `sync`, `async`, `exit`; empty is `async`.
    pub durability: String,
    /// The longest the run may take, in milliseconds, through all attempts; 0 is the server's limit, or none.
    pub run_timeout_ms: u64,
    /// Refuses answers to questions that are not open, and a run that has nothing to resume (gRPC). Otherwise the first are
    /// ignored, and the second ends at once (LangGraph).
    pub strict: bool,
}

impl RunOptions {
    /// A stored option of a run, without parsing the rest of its request.
    pub fn stored<'r>(run: &'r Run, name: &str) -> Option<&'r Value> {
        // The first format was flat.
        run.request.get("options").map_or_else(|| run.request.get(name), |options| options.get(name))
    }

    /// When checkpoints have to be on disk.
    pub fn durability(&self) -> Result<Durability> {
        match &*self.durability {
            "" => Ok(Durability::default()),
            name => name.parse().map_err(|e: String| Error::field("durability", e)),
        }
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
    pub fn config(&self, recording: &Recording, default_limit: u32) -> Result<RunConfig> {
        let points = |names: &[String]| match names {
            [] => None,
            names if names.iter().any(|n| n == "*") => Some(Breakpoints::All),
            names => Some(Breakpoints::Nodes(names.iter().map(|n| n.as_str().into()).collect())),
        };
        Ok(RunConfig {
            checkpoint_id: self.checkpoint_id,
            checkpoint_ns: self.checkpoint_namespace.as_str().into(),
            recursion_limit: if self.recursion_limit == 0 { default_limit } else { self.recursion_limit },
            max_concurrency: (self.max_concurrency > 0).then_some(self.max_concurrency as usize),
            tags: self.tags.iter().map(|t| t.as_str().into()).collect(),
            metadata: self.metadata.clone(),
            configurable: self.configurable.clone(),
            context: self.context.clone(),
            interrupt_before: points(&self.interrupt_before),
            interrupt_after: points(&self.interrupt_after),
            durability: self.durability()?,
            modes: recording.modes(),
            subgraphs: recording.subgraphs,
            events: recording.filter.compile()?,
            strict: self.strict,
            ..RunConfig::default()
        })
    }
}

/// How a run starts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// From where the thread stands.
    #[default]
    Resume,
    /// With an input.
    Input(Value),
    /// With a command.
    Command(CommandSpec),
}

impl Start {
    pub(super) fn is_resume(&self) -> bool {
        matches!(self, Self::Resume)
    }
}

/// A command.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CommandSpec {
    /// The answer to the one open question.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resume: Option<Value>,
    /// Answers by question id.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resume_by_id: Vec<(String, Value)>,
    /// Objects by channel, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub update: Vec<Object>,
    /// Where to go: a node, with an input of its own or without.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub goto: Vec<(String, Option<Value>)>,
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
