//! A compiled graph: names turned into numbers, so that a superstep looks nothing up.

use std::{collections::HashMap, fmt, sync::Arc};

use super::node::{NodeSpec, Route};
use crate::{
    Value,
    channel::ChannelSpec,
    checkpoint::Checkpointer,
    config::Breakpoints,
    ids::{Clock, SystemClock},
    items::{ItemStore, NodeCache},
    run::TaskPath,
    stream::{TaskMeta, TaskRef},
    value::Object,
};

/// How deep graphs may run inside each other: each level takes a part of the stack of the thread that runs it.
pub const MAX_NESTED: usize = 16;

/// The number of a channel.
pub(crate) type ChannelId = usize;
/// The number of a node; nodes are numbered in the order of their names.
pub(crate) type NodeId = usize;

/// Where an edge leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    Node(NodeId),
    End,
}

/// What leaves a node, as built.
#[derive(Clone, Default)]
pub(crate) struct Edges {
    pub to: Vec<Arc<str>>,
    pub routes: Vec<RouteSpec>,
}

#[derive(Clone)]
pub(crate) struct RouteSpec {
    pub name: Arc<str>,
    pub route: Arc<dyn Route>,
    pub targets: Option<Vec<Arc<str>>>,
}

/// `[a, b] → c`.
#[derive(Clone)]
pub(crate) struct Join {
    pub from: Vec<Arc<str>>,
    pub to: Arc<str>,
}

/// A join with numbers for names.
pub(crate) struct CompiledJoin {
    /// `join:a+b:c`: how checkpoints and triggers call it.
    pub name: Arc<str>,
    pub from: Vec<NodeId>,
    pub to: NodeId,
}

/// A node with what leaves it.
pub(crate) struct CompiledNode {
    pub name: Arc<str>,
    pub spec: NodeSpec,
    pub out: Out,
    /// `branch:to:X` and the joins that lead here, sorted.
    pub triggers: Arc<[Arc<str>]>,
    /// Its place in the order in which nodes were added.
    pub rank: usize,
    /// Of the graphs that it runs inside, in their order, whether each keeps its own state.
    pub keeps_state: Vec<bool>,
    /// The node that handles its errors.
    pub handler: Option<NodeId>,
    /// The node whose errors it handles.
    pub handles: Option<NodeId>,
}

/// What leaves a node, with numbers for names.
#[derive(Default)]
pub(crate) struct Out {
    pub to: Vec<NodeId>,
    pub joins: Vec<usize>,
    pub routes: Vec<RouteSpec>,
}

pub(crate) struct Inner {
    pub name: Arc<str>,
    pub description: String,
    pub channels: Vec<ChannelSpec>,
    pub names: Arc<[Arc<str>]>,
    pub channel_ids: HashMap<Arc<str>, ChannelId, foldhash::fast::RandomState>,
    pub input: Vec<ChannelId>,
    pub output: Vec<ChannelId>,
    /// The names of the output channels.
    pub output_names: Arc<[Arc<str>]>,
    /// All channels of the state that a checkpoint shows.
    pub is_output: Vec<bool>,
    pub nodes: Vec<CompiledNode>,
    pub node_ids: HashMap<Arc<str>, NodeId, foldhash::fast::RandomState>,
    pub start: Out,
    /// `__start__`.
    pub start_name: Arc<str>,
    pub joins: Vec<CompiledJoin>,
    pub interrupt_before: Breakpoints,
    pub interrupt_after: Breakpoints,
    pub context_schema: Option<Value>,
    pub revision: Arc<str>,
    pub warnings: Vec<String>,
    /// How deep graphs run inside this one.
    pub nested: usize,
    /// Channels that hold a value for one step.
    pub ephemeral: Vec<ChannelId>,
}

/// What a graph runs with: where its checkpoints, items and cached results go, and where time comes from.
#[derive(Clone)]
pub struct Runtime {
    /// Keeps checkpoints. None: runs leave nothing behind, and cannot be resumed.
    pub checkpointer: Option<Arc<dyn Checkpointer>>,
    /// Keeps items.
    pub items: Option<Arc<dyn ItemStore>>,
    /// Keeps nodes' results.
    pub cache: Option<Arc<dyn NodeCache>>,
    /// Time and ids.
    pub clock: Arc<dyn Clock>,
    /// Checks answers against the schemas of their questions; none accepts all.
    pub check_answer: Option<AnswerCheck>,
}

/// Whether an answer matches a JSON Schema: the schema, then the answer; an error says what does not match.
pub type AnswerCheck = fn(&Value, &Value) -> Result<(), String>;

impl Default for Runtime {
    fn default() -> Self {
        Self { checkpointer: None, items: None, cache: None, clock: Arc::new(SystemClock), check_answer: None }
    }
}

/// A compiled graph. Cheap to clone; one serves any number of runs at once.
#[derive(Clone)]
pub struct Graph {
    pub(crate) inner: Arc<Inner>,
    pub(crate) runtime: Arc<Runtime>,
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Graph({} {})", self.inner.name, self.inner.revision)
    }
}

impl Graph {
    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.inner.name
    }

    /// What it is for.
    pub fn description(&self) -> &str {
        &self.inner.description
    }

    /// The hash of what it is.
    pub fn revision(&self) -> &Arc<str> {
        &self.inner.revision
    }

    /// Its channels.
    pub fn channels(&self) -> &[ChannelSpec] {
        &self.inner.channels
    }

    /// The channels a run's input may set.
    pub fn input_channels(&self) -> impl Iterator<Item = &ChannelSpec> {
        self.inner.input.iter().map(|c| &self.inner.channels[*c])
    }

    /// The channels a run gives.
    pub fn output_channels(&self) -> impl Iterator<Item = &ChannelSpec> {
        self.inner.output.iter().map(|c| &self.inner.channels[*c])
    }

    /// The names of the channels a run gives.
    pub fn output_names(&self) -> &Arc<[Arc<str>]> {
        &self.inner.output_names
    }

    /// Whether the graph, or one inside it, has channels that are never stored.
    pub fn has_untracked(&self) -> bool {
        self.inner.channels.iter().any(|c| matches!(c.reducer, crate::channel::Reducer::Untracked))
            || self.inner.nodes.iter().flat_map(|n| n.spec.node.subgraphs()).any(|g| g.has_untracked())
    }

    /// What all parts of a task share, from where the task stands: for those who read parts back from a log.
    ///
    /// `checkpoint_ns` is the task's own namespace, `node:id` under its parents'; `push` its place among the Sends.
    pub fn describe_task(
        &self,
        run_metadata: &Object,
        run_tags: &[Arc<str>],
        checkpoint_ns: &str,
        step: i64,
        attempt: u32,
        push: Option<usize>,
    ) -> TaskMeta {
        let mut graph = Some(self.clone());
        let (mut metadata, mut tags) = (run_metadata.clone(), run_tags.to_vec());
        let (mut task, mut triggers, mut path) = (None, Arc::default(), Value::Null);
        for segment in checkpoint_ns.split('|').filter(|s| s.contains(':')) {
            let (name, id) = segment.split_once(':').unwrap_or((segment, ""));
            let at = graph.as_ref().and_then(|g| Some((g.clone(), *g.inner.node_ids.get(name)?)));
            let inner = at.as_ref().map(|(g, n)| &g.inner.nodes[*n]);
            if let Some(node) = inner {
                node.spec.metadata.iter().for_each(|(k, v)| metadata.insert(k.clone(), v.clone()));
                tags.extend(node.spec.tags.iter().cloned());
            }
            let node: Arc<str> = inner.map_or_else(|| name.into(), |n| n.name.clone());
            let handles = at.as_ref().zip(inner).and_then(|((g, _), n)| Some(&g.inner.nodes[n.handles?].name));
            triggers = match (push, handles) {
                (None, None) => inner.map(|n| n.triggers.clone()).unwrap_or_default(),
                _ => [Arc::from("__pregel_push")].into(),
            };
            let place = push.map_or(TaskPath::START, TaskPath::push);
            let place = if handles.is_some() { place.handler() } else { place };
            path = place.to_value(handles.unwrap_or(&node));
            task = id.parse().ok().map(|id| TaskRef { id, node, attempt });
            graph = inner.and_then(|n| n.spec.node.subgraphs().into_iter().next());
        }
        TaskMeta { task, step, triggers, path, checkpoint_ns: checkpoint_ns.into(), metadata, tags: tags.into() }
    }

    /// How many levels of graphs run inside it: 0 for one that runs none.
    pub fn nested(&self) -> usize {
        self.inner.nested
    }

    /// The names of its nodes, sorted.
    pub fn node_names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.inner.nodes.iter().map(|n| &n.name)
    }

    /// The graphs that a node runs inside.
    pub fn subgraphs_of(&self, node: &str) -> Vec<Graph> {
        self.inner.node_ids.get(node).map(|n| self.inner.nodes[*n].spec.node.subgraphs()).unwrap_or_default()
    }

    /// The JSON Schema of a run's context.
    pub fn context_schema(&self) -> Option<&Value> {
        self.inner.context_schema.as_ref()
    }

    /// What looks wrong but does not stop it: nodes that nothing seems to reach.
    pub fn warnings(&self) -> &[String] {
        &self.inner.warnings
    }

    /// The same graph with another runtime.
    #[must_use]
    pub fn with_runtime(&self, runtime: Runtime) -> Graph {
        Graph { inner: self.inner.clone(), runtime: Arc::new(runtime) }
    }

    /// The same graph with a checkpointer.
    #[must_use]
    pub fn with_checkpointer(&self, checkpointer: Arc<dyn Checkpointer>) -> Graph {
        self.with_runtime(Runtime { checkpointer: Some(checkpointer), ..(*self.runtime).clone() })
    }

    /// The same graph under another name, for one that a server calls otherwise.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }
}
