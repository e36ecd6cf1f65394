//! One document: read, checked, compiled.

use std::{collections::BTreeMap, sync::Arc};

use runloom_engine::{Error as EngineError, Graph, GraphBuilder, Value};

use crate::{
    error::{Error, Problem},
    read::{Reader, given::Scope},
    schema::{Checks, Schemas},
    set::Registry,
    tree::{At, Data},
    written::Written,
};

/// The keys of a document.
const KEYS: [&str; 15] = [
    "runloom",
    "name",
    "description",
    "state",
    "input",
    "output",
    "context",
    "models",
    "retrievers",
    "tools",
    "nodes",
    "edges",
    "interrupt_before",
    "interrupt_after",
    "hidden",
];

/// A graph document that has been loaded.
#[derive(Clone, Debug)]
pub struct Document {
    pub(crate) file: Arc<str>,
    pub(crate) hidden: bool,
    pub(crate) graph: Graph,
    pub(crate) warnings: Vec<Problem>,
    pub(crate) subgraphs: Vec<Arc<str>>,
    pub(crate) checks: Checks,
}

impl Document {
    /// The graph's name.
    pub fn name(&self) -> &Arc<str> {
        self.graph.name()
    }

    /// The file it came from, or what its caller called it.
    pub fn file(&self) -> &Arc<str> {
        &self.file
    }

    /// What the graph is for.
    pub fn description(&self) -> &str {
        self.graph.description()
    }

    /// True where it is a subgraph only, and not listed as an assistant.
    pub fn is_hidden(&self) -> bool {
        self.hidden
    }

    /// The compiled graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The hash of what the graph is, its subgraphs included. Neither its layout nor its description counts.
    pub fn revision(&self) -> &Arc<str> {
        self.graph.revision()
    }

    /// What looks wrong but does not stop it.
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// The graphs that it runs inside, by name.
    pub fn subgraphs(&self) -> &[Arc<str>] {
        &self.subgraphs
    }

    /// The JSON Schemas of its input, output, state and context.
    pub fn schemas(&self) -> Schemas {
        Schemas::of(&self.graph)
    }

    /// Whether a run's input fits. The error names the channel.
    pub fn check_input(&self, input: &Value) -> Result<(), Error> {
        self.checks.input(input)
    }

    /// Whether a run's context fits.
    pub fn check_context(&self, context: &Value) -> Result<(), Error> {
        self.checks.context(context)
    }
}

impl Reader<'_> {
    pub(crate) fn document(
        &mut self,
        written: &Written,
        graphs: &BTreeMap<Arc<str>, Graph>,
        registry: &Registry,
    ) -> Option<Document> {
        let tree = &written.tree;
        let fields = self.fields(tree, &KEYS);
        for (key, what) in [("state", "the channels"), ("nodes", "the nodes"), ("edges", "a list, from START on")] {
            if fields.get(key).is_none() {
                self.fault(tree.at, format!("a graph document needs `{key}`: {what}"));
            }
        }
        let mut graph = GraphBuilder::new(&*written.name);
        let mut scope = Scope {
            channels: fields.get("state").map(|s| self.state(s)).unwrap_or_default(),
            nodes: match fields.get("nodes").map(|n| &n.data) {
                Some(Data::Map(nodes)) => nodes.iter().map(|(key, _)| key.name.clone()).collect(),
                _ => Vec::new(),
            },
            models: registry.models.clone(),
            retrievers: registry.retrievers.clone(),
            tools: BTreeMap::new(),
            http: &registry.http,
            mcp: registry.mcp.as_ref(),
            graphs,
            workers: &registry.workers,
        };
        scope.channels.iter().for_each(|c| {
            graph.add_channel(c.clone());
        });
        if let Some(names) = fields.get("input") {
            graph.input(self.within("input", |r| r.channel_names(names, &scope.channels)));
        }
        if let Some(names) = fields.get("output") {
            graph.output(self.within("output", |r| r.channel_names(names, &scope.channels)));
        }
        if let Some(schema) = fields.get("context").and_then(|c| self.within("context", |r| r.context(c))) {
            graph.context_schema(schema);
        }
        if let Some(text) = self.field(&fields, "description", |r, t| r.text(t)) {
            graph.description(&**text);
        }
        let hidden = self.field(&fields, "hidden", |r, t| r.bool(t)).unwrap_or(false);
        if let Some(models) = fields.get("models") {
            let access = registry.access(&written.file);
            scope.models.extend(self.models(models, &access));
        }
        if let Some(retrievers) = fields.get("retrievers") {
            scope.retrievers.extend(self.retrievers(retrievers, registry));
        }
        if let Some(tools) = fields.get("tools") {
            scope.tools = self.tools(tools, &scope);
        }
        let nodes = fields.get("nodes").map(|n| self.nodes(n, &scope)).unwrap_or_default();
        let places: Vec<(Arc<str>, At)> = nodes.iter().map(|n| (n.name.clone(), n.at)).collect();
        for node in nodes {
            graph.add_node(node.name, node.spec);
        }
        if let Some(edges) = fields.get("edges") {
            self.edges(edges, &scope, &mut graph);
        }
        if let Some(points) = fields.get("interrupt_before") {
            graph.interrupt_before(self.within("interrupt_before", |r| r.breakpoints(points, &scope)));
        }
        if let Some(points) = fields.get("interrupt_after") {
            graph.interrupt_after(self.within("interrupt_after", |r| r.breakpoints(points, &scope)));
        }
        let mut subgraphs: Vec<Arc<str>> = written.references().into_iter().map(|(name, ..)| name).collect();
        subgraphs.sort();
        subgraphs.dedup();
        let within: Vec<&Graph> = subgraphs.iter().filter_map(|name| graphs.get(name)).collect();
        graph.revision(written.revision(&within));
        if !self.problems.is_empty() {
            return None;
        }
        let graph = self.compiled(graph, written.name_at)?;
        self.look_again(&graph, &places);
        let checks = Checks::of(&graph).map_err(|e| self.fault(tree.at, e.to_string())).ok()?;
        Some(Document { file: written.file.clone(), hidden, graph, warnings: Vec::new(), subgraphs, checks })
    }

    fn compiled(&mut self, graph: GraphBuilder, at: At) -> Option<Graph> {
        match graph.compile() {
            Ok(graph) => Some(graph),
            Err(EngineError::GraphInvalid { problems, .. }) => {
                problems.into_iter().for_each(|p| self.fault(at, p));
                None
            }
            Err(error) => {
                self.fault(at, error.to_string());
                None
            }
        }
    }

    /// Warns of what looks wrong in a graph that holds together.
    fn look_again(&mut self, graph: &Graph, places: &[(Arc<str>, At)]) {
        for warning in graph.warnings() {
            let about = places.iter().find(|(name, _)| warning.contains(&format!("`{name}`")));
            if about.is_some_and(|(name, _)| self.may_send || self.gone_to.contains(name)) {
                continue;
            }
            self.warn(about.map_or(At::default(), |(_, at)| *at), warning.clone());
        }
        if self.may_send {
            // A node may be sent an input of any shape.
            return;
        }
        let known: Vec<&str> = graph.channels().iter().map(|c| &*c.name).collect();
        for (field, note) in std::mem::take(&mut self.strangers) {
            let near = crate::suggest::or_known(&field, known.iter().copied());
            self.warnings.push(Problem { message: format!("the state has no channel `{field}`{near}"), ..note });
        }
    }
}
