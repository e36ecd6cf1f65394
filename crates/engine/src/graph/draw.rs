//! A graph as nodes and edges, and as Mermaid.

use std::{collections::BTreeMap, fmt::Write, sync::Arc};

use super::{Graph, compiled::Out};
use crate::{Breakpoints, END, Object, START};

/// A graph as a picture of nodes and edges.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawing {
    /// The nodes: `__start__`, those of the graph in the order in which they were added, `__end__`, then those of graphs that
    /// are drawn out.
    pub nodes: Vec<DrawnNode>,
    /// The edges: those of the graph by source and target, those to the end that nobody wrote, then those of graphs that are
    /// drawn out.
    pub edges: Vec<DrawnEdge>,
}

/// A node of a drawing.
#[derive(Clone, Debug, PartialEq)]
pub struct DrawnNode {
    /// Its id; a subgraph's nodes are `parent:child`, and `parent:1:child` in the second graph of a node.
    pub id: Arc<str>,
    /// The graph that it runs inside, where it does and is not drawn itself.
    pub subgraph: Option<Arc<str>>,
    /// Waits until nothing else is left.
    pub defer: bool,
    /// Its tags.
    pub tags: Vec<Arc<str>>,
    /// The node's own metadata.
    pub metadata: Object,
    /// Whether the graph stops before it, and after it.
    pub stops: (bool, bool),
}

/// An edge of a drawing.
#[derive(Clone, Debug, PartialEq)]
pub struct DrawnEdge {
    /// From this node.
    pub source: Arc<str>,
    /// To this one.
    pub target: Arc<str>,
    /// Whether a route or a command decides.
    pub conditional: bool,
    /// The route's name, where a route decides that has one of its own.
    pub label: Option<Arc<str>>,
}

/// The most nodes of a drawing; subgraphs beyond it are not drawn out.
const MOST_NODES: usize = 10_000;

impl Graph {
    /// The drawing. `depth` says how many levels of subgraphs to draw within: edges that lead to such a node enter the
    /// graph inside, and those that leave it leave the graph.
    pub fn draw(&self, depth: usize) -> Drawing {
        self.drawn("", depth, &mut { MOST_NODES })
    }

    fn drawn(&self, prefix: &str, depth: usize, left: &mut usize) -> Drawing {
        let g = &self.inner;
        let mut d = Drawing { nodes: Vec::new(), edges: Vec::new() };
        let mut within = Drawing { nodes: Vec::new(), edges: Vec::new() };
        let id = |name: &str| -> Arc<str> {
            if prefix.is_empty() { name.into() } else { format!("{prefix}:{name}").into() }
        };
        let plain = |name: &str| DrawnNode {
            id: id(name),
            subgraph: None,
            defer: false,
            tags: Vec::new(),
            metadata: Object::default(),
            stops: (false, false),
        };
        *left = left.saturating_sub(g.nodes.len());
        // Where a node that is drawn out is entered and left.
        let mut doors: BTreeMap<Arc<str>, (Arc<str>, Arc<str>)> = BTreeMap::new();
        d.nodes.push(plain(START));
        let mut nodes: Vec<_> = g.nodes.iter().collect();
        nodes.sort_by_key(|node| node.rank);
        for node in nodes {
            let inner = node.spec.node.subgraphs();
            if depth == 0 || *left == 0 || inner.is_empty() {
                let subgraph = inner.first().map(|g| g.name().clone());
                let (tags, metadata) = (node.spec.tags.clone(), node.spec.metadata.clone());
                let is_among = |points: &Breakpoints| matches!(points, Breakpoints::Nodes(_)) && points.has(&node.name);
                let stops = (is_among(&g.interrupt_before), is_among(&g.interrupt_after));
                let defer = node.spec.defer;
                d.nodes.push(DrawnNode { id: id(&node.name), subgraph, defer, tags, metadata, stops });
                continue;
            }
            let mut door: Option<(Arc<str>, Arc<str>)> = None;
            for (at, graph) in inner.iter().enumerate() {
                // As their namespaces: the second graph of a node stands under a number.
                let under = if at == 0 { id(&node.name) } else { id(&format!("{}:{at}", node.name)) };
                let ends = [START, END].map(|end| format!("{under}:{end}").into());
                let (inside, enter, leave) = graph.drawn(&under, depth - 1, left).trimmed(ends);
                if let Some((_, before)) = &door {
                    within.edges.push(edge(before, &enter, false, None));
                }
                door = Some((door.map_or(enter, |(first, _)| first), leave));
                within.nodes.extend(inside.nodes);
                within.edges.extend(inside.edges);
            }
            doors.extend(door.map(|door| (id(&node.name), door)));
        }
        let mut own = self.own_edges(&id);
        // A graph within another has an end that its edges can leave by, even where it never ends.
        if !prefix.is_empty() || own.iter().any(|e| e.target == id(END)) {
            d.nodes.push(plain(END));
        }
        for edge in &mut own {
            if let Some((_, leave)) = doors.get(&edge.source) {
                edge.source = leave.clone();
            }
            if let Some((enter, _)) = doors.get(&edge.target) {
                edge.target = enter.clone();
            }
        }
        d.nodes.extend(within.nodes);
        d.edges.extend(own);
        d.edges.extend(within.edges);
        d
    }

    /// The edges of the graph itself.
    fn own_edges(&self, id: &impl Fn(&str) -> Arc<str>) -> Vec<DrawnEdge> {
        let g = &self.inner;
        let named = |to: &Arc<str>| if &**to == "END" { Arc::from(END) } else { to.clone() };
        let (mut edges, mut implied) = (Vec::new(), Vec::new());
        let mut leave = |from: &str, out: &Out, destinations: &[Arc<str>], is_entered: bool| {
            let before = edges.len();
            let joined = out.joins.iter().map(|join| g.joins[*join].to);
            edges.extend(
                out.to.iter().copied().chain(joined).map(|to| edge(&id(from), &id(&g.nodes[to].name), false, None)),
            );
            for route in &out.routes {
                let all: Vec<Arc<str>> = match &route.targets {
                    Some(targets) => targets.iter().map(named).collect(),
                    None => g.nodes.iter().map(|n| n.name.clone()).chain([Arc::from(END)]).collect(),
                };
                edges.extend(all.iter().map(|to| edge(&id(from), &id(to), true, Some(&route.name))));
            }
            edges.extend(destinations.iter().map(|to| edge(&id(from), &id(&named(to)), true, None)));
            if edges.len() == before && is_entered {
                implied.push(edge(&id(from), &id(END), false, None));
            }
        };
        leave(START, &g.start, &[], false);
        for node in &g.nodes {
            let all = node.spec.destinations.as_deref().unwrap_or_default();
            // A destination may be a node of the graph around this one, which is not drawn here.
            let here: Vec<Arc<str>> =
                all.iter().filter(|to| &*named(to) == END || g.node_ids.contains_key(*to)).cloned().collect();
            leave(&node.name, &node.out, &here, node.handles.is_none());
        }
        edges.sort_by(|a, b| (&a.source, &a.target, a.conditional).cmp(&(&b.source, &b.target, b.conditional)));
        edges.extend(implied);
        edges
    }
}

fn edge(source: &Arc<str>, target: &Arc<str>, conditional: bool, route: Option<&Arc<str>>) -> DrawnEdge {
    let label = route.filter(|name| !name.starts_with("route")).cloned();
    DrawnEdge { source: source.clone(), target: target.clone(), conditional, label }
}

impl Drawing {
    /// Without its start and its end, where one edge each says no more than which node is the first and the last; with
    /// where it is entered and left.
    fn trimmed(mut self, [mut enter, mut leave]: [Arc<str>; 2]) -> (Self, Arc<str>, Arc<str>) {
        let alone = |edges: &[DrawnEdge], is_of: &dyn Fn(&DrawnEdge) -> bool| {
            let mut found = edges.iter().filter(|e| is_of(e));
            let one = found.next().filter(|e| !e.conditional && found.next().is_none())?;
            Some((one.source.clone(), one.target.clone()))
        };
        if let Some((_, first)) = alone(&self.edges, &|e| e.source == enter).filter(|(_, to)| *to != leave) {
            self.nodes.retain(|n| n.id != enter);
            self.edges.retain(|e| e.source != enter);
            enter = first;
        }
        if let Some((last, _)) =
            alone(&self.edges, &|e| e.target == leave).filter(|(from, _)| *from != enter || self.nodes.len() == 2)
        {
            self.nodes.retain(|n| n.id != leave);
            self.edges.retain(|e| e.target != leave);
            leave = last;
        }
        (self, enter, leave)
    }

    /// As Mermaid, for pages and editors that draw it.
    pub fn mermaid(&self) -> String {
        let mut text = String::from("graph TD;\n");
        // Each id is its own, as LangChain makes them: other characters by their number.
        let safe = |id: &str| {
            let one = |c: char| match c {
                c if c.is_alphanumeric() || matches!(c, '_' | '-') => c.to_string(),
                c => format!("\\{:x}", u32::from(c)),
            };
            id.chars().map(one).collect::<String>()
        };
        for node in &self.nodes {
            let (id, name) = (safe(&node.id), node.id.trim_matches('_'));
            let _ = match &*node.id {
                START | END => writeln!(text, "\t{id}([{name}])"),
                _ if node.subgraph.is_some() => writeln!(text, "\t{id}[[{}]]", node.id),
                _ => writeln!(text, "\t{id}[{}]", node.id),
            };
        }
        for edge in &self.edges {
            let arrow = match (&edge.label, edge.conditional) {
                (Some(label), true) => format!("-. {label} .->"),
                (None, true) => "-.->".to_owned(),
                _ => "-->".to_owned(),
            };
            let _ = writeln!(text, "\t{} {arrow} {};", safe(&edge.source), safe(&edge.target));
        }
        text
    }
}
