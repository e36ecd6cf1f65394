//! A compiled graph: names turned into numbers, so that a superstep looks nothing up.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
};

use super::{
    builder::GraphBuilder,
    node::{NodeSpec, Route},
};
use crate::{
    END, Error, START, Value,
    channel::ChannelSpec,
    checkpoint::Checkpointer,
    config::Breakpoints,
    ids::{Clock, SystemClock},
    items::{ItemStore, NodeCache},
    stream::{TaskMeta, TaskRef},
    value::Object,
};

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
    /// Whether it runs a graph inside.
    pub has_subgraph: bool,
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
}

impl Default for Runtime {
    fn default() -> Self {
        Self { checkpointer: None, items: None, cache: None, clock: Arc::new(SystemClock) }
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
            triggers = match push {
                Some(_) => [Arc::from("__pregel_push")].into(),
                None => inner.map(|n| n.triggers.clone()).unwrap_or_default(),
            };
            path = match push {
                Some(i) => vec![Value::from("__pregel_push"), Value::from(i), Value::Bool(false)].into(),
                None => vec![Value::from("__pregel_pull"), Value::from(&node)].into(),
            };
            task = id.parse().ok().map(|id| TaskRef { id, node, attempt });
            graph = inner.and_then(|n| n.spec.node.subgraphs().into_iter().next());
        }
        TaskMeta { task, step, triggers, path, checkpoint_ns: checkpoint_ns.into(), metadata, tags: tags.into() }
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

/// Checks a graph and numbers its names.
pub(super) fn compile(b: GraphBuilder) -> Result<Graph, Error> {
    let mut problems = b.problems;
    let channel_ids: HashMap<_, _, foldhash::fast::RandomState> =
        b.channels.iter().enumerate().map(|(i, c)| (c.name.clone(), i)).collect();
    let node_ids: HashMap<_, _, foldhash::fast::RandomState> =
        b.nodes.keys().enumerate().map(|(i, n)| (n.clone(), i)).collect();

    let mut pick = |which: &str, names: Option<Vec<Arc<str>>>| -> Vec<ChannelId> {
        match names {
            None => (0..b.channels.len()).collect(),
            Some(names) => names
                .iter()
                .filter_map(|n| {
                    let id = channel_ids.get(n).copied();
                    if id.is_none() {
                        problems.push(format!(
                            "`{which}` names channel `{n}`, which is not declared{}",
                            nearest(n, channel_ids.keys())
                        ));
                    }
                    id
                })
                .collect(),
        }
    };
    let input = pick("input", b.input);
    let output = pick("output", b.output);

    let mut dangling = Vec::new();
    let mut target = |from: &str, to: &Arc<str>| -> Option<Target> {
        if &**to == END || &**to == "END" {
            return Some(Target::End);
        }
        let id = node_ids.get(to).copied().map(Target::Node);
        if id.is_none() {
            let near = nearest(to, node_ids.keys());
            dangling.push(format!("an edge from `{from}` leads to `{to}`, which is no node{near}"));
        }
        id
    };
    let mut outs: BTreeMap<Arc<str>, Out> = BTreeMap::new();
    for (from, edges) in b.edges {
        let out = outs.entry(from.clone()).or_default();
        for to in &edges.to {
            if let Some(Target::Node(id)) = target(&from, to) {
                out.to.push(id);
            }
        }
        out.to.sort_unstable();
        for route in &edges.routes {
            for to in route.targets.iter().flatten() {
                target(&from, to);
            }
        }
        out.routes = edges.routes;
    }
    let mut joins = Vec::new();
    for join in b.joins {
        let name: Arc<str> = format!("join:{}:{}", join.from.join("+"), join.to).into();
        let Some(Target::Node(to)) = target(&join.from.join(", "), &join.to) else {
            if matches!(&*join.to, END | "END") {
                problems.push(format!("a join of {} leads to END, which needs none", join.from.join(", ")));
            }
            continue;
        };
        let mut from = Vec::new();
        for source in &join.from {
            if let Some(id) = node_ids.get(source) {
                from.push(*id);
                outs.entry(source.clone()).or_default().joins.push(joins.len());
            } else {
                outs.entry(source.clone()).or_default();
            }
        }
        joins.push(CompiledJoin { name, from, to });
    }

    problems.append(&mut dangling);
    let start = outs.remove(START).unwrap_or_default();
    if start.to.is_empty() && start.routes.is_empty() {
        problems.push("the graph cannot be entered: there is no edge from START".to_owned());
    }
    let mut nodes = Vec::new();
    for (id, (name, spec)) in b.nodes.into_iter().enumerate() {
        for to in spec.destinations.iter().flatten() {
            if !node_ids.contains_key(to) && ![END, "END"].contains(&&**to) {
                // A command to the parent names the parent's nodes, which are not known here.
                if !spec.node.subgraphs().is_empty() {
                    continue;
                }
                problems.push(format!("node `{name}` names destination `{to}`, which is no node{}", nearest(to, node_ids.keys())));
            }
        }
        let mut triggers: Vec<Arc<str>> = vec![format!("branch:to:{name}").into()];
        triggers.extend(joins.iter().filter(|j| j.to == id).map(|j| j.name.clone()));
        triggers.sort();
        nodes.push(CompiledNode {
            out: outs.remove(&name).unwrap_or_default(),
            triggers: triggers.into(),
            rank: b.order.iter().position(|n| *n == name).unwrap_or(id),
            has_subgraph: !spec.node.subgraphs().is_empty(),
            name,
            spec,
        });
    }
    for from in outs.keys() {
        problems.push(format!("an edge leaves `{from}`, which is no node{}", nearest(from, node_ids.keys())));
    }
    for (what, points) in [("interrupt_before", &b.interrupt_before), ("interrupt_after", &b.interrupt_after)] {
        if let Breakpoints::Nodes(names) = points {
            for n in names.iter().filter(|n| !node_ids.contains_key(*n)) {
                problems.push(format!("`{what}` names `{n}`, which is no node{}", nearest(n, node_ids.keys())));
            }
        }
    }
    if !problems.is_empty() {
        return Err(Error::GraphInvalid { graph: b.name, problems });
    }
    let warnings = unreached(&start, &nodes, &joins, &node_ids);
    let mut is_output = vec![false; b.channels.len()];
    output.iter().for_each(|c| is_output[*c] = true);
    let revision = b.revision.unwrap_or_else(|| shape(&b.channels, &nodes, &joins));
    Ok(Graph {
        inner: Arc::new(Inner {
            name: b.name.into(),
            description: b.description,
            names: b.channels.iter().map(|c| c.name.clone()).collect(),
            output_names: output.iter().map(|c| b.channels[*c].name.clone()).collect(),
            ephemeral: (0..b.channels.len())
                .filter(|c| matches!(b.channels[*c].reducer, crate::channel::Reducer::Ephemeral))
                .collect(),
            channels: b.channels,
            channel_ids,
            input,
            output,
            is_output,
            nodes,
            node_ids,
            start,
            start_name: START.into(),
            joins,
            interrupt_before: b.interrupt_before,
            interrupt_after: b.interrupt_after,
            context_schema: b.context_schema,
            revision,
            warnings,
        }),
        runtime: Arc::default(),
    })
}

/// A hash of channels, nodes and edges: what a checkpoint depends on.
fn shape(channels: &[ChannelSpec], nodes: &[CompiledNode], joins: &[CompiledJoin]) -> Arc<str> {
    let mut h = xxhash_rust::xxh3::Xxh3::new();
    let mut put = |text: &str| {
        h.update(text.as_bytes());
        h.update(&[0]);
    };
    for c in channels {
        put(&c.name);
        put(c.reducer.name());
        put(&c.default.as_ref().map(ToString::to_string).unwrap_or_default());
        put(&c.schema.as_ref().map(ToString::to_string).unwrap_or_default());
    }
    for n in nodes {
        put(&n.name);
        n.out.to.iter().for_each(|t| put(&t.to_string()));
        n.out.routes.iter().for_each(|r| put(&r.name));
    }
    joins.iter().for_each(|j| put(&j.name));
    format!("{:032x}", h.digest128()).into()
}

/// Nodes that no edge, route or command seems to lead to.
fn unreached(
    start: &Out,
    nodes: &[CompiledNode],
    joins: &[CompiledJoin],
    ids: &HashMap<Arc<str>, NodeId, foldhash::fast::RandomState>,
) -> Vec<String> {
    let mut seen = vec![false; nodes.len()];
    let mut open: Vec<NodeId> = Vec::new();
    let leads = |out: &Out, spec: Option<&NodeSpec>| -> Option<Vec<NodeId>> {
        let mut to = out.to.clone();
        to.extend(out.joins.iter().map(|j| joins[*j].to));
        for route in &out.routes {
            // A route without targets may lead anywhere.
            to.extend(route.targets.as_ref()?.iter().filter_map(|t| ids.get(t).copied()));
        }
        if let Some(spec) = spec {
            to.extend(spec.destinations.iter().flatten().filter_map(|t| ids.get(t).copied()));
        }
        Some(to)
    };
    let Some(first) = leads(start, None) else { return Vec::new() };
    open.extend(first);
    while let Some(id) = open.pop() {
        if std::mem::replace(&mut seen[id], true) {
            continue;
        }
        let Some(next) = leads(&nodes[id].out, Some(&nodes[id].spec)) else { return Vec::new() };
        open.extend(next);
    }
    (0..nodes.len())
        .filter(|id| !seen[*id])
        .map(|id| format!("nothing seems to lead to node `{}`", nodes[id].name))
        .collect()
}

/// `; did you mean …?`, where a known name is near.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a Arc<str>>) -> String {
    known
        .map(|k| (distance(name, k), k))
        .filter(|(d, k)| *d <= 1 + k.len().min(name.len()) / 3)
        .min()
        .map_or_else(String::new, |(_, k)| format!("; did you mean `{k}`?"))
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let cost = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
