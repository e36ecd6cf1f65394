//! A graph as nodes and edges, and as Mermaid.

use std::{fmt::Write, sync::Arc};

use super::{Graph, NodeId, compiled::Out};
use crate::{END, START};

/// A graph as a picture of nodes and edges.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawing {
    /// The nodes, `__start__` first and `__end__` last.
    pub nodes: Vec<DrawnNode>,
    /// The edges.
    pub edges: Vec<DrawnEdge>,
}

/// A node of a drawing.
#[derive(Clone, Debug, PartialEq)]
pub struct DrawnNode {
    /// Its id; a subgraph's nodes are `parent:child`.
    pub id: Arc<str>,
    /// The graph that it runs inside, where it does and is not drawn itself.
    pub subgraph: Option<Arc<str>>,
    /// Waits until nothing else is left.
    pub defer: bool,
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

impl Graph {
    /// The drawing. `depth` says how many levels of subgraphs to draw within.
    pub fn draw(&self, depth: usize) -> Drawing {
        let mut d = Drawing { nodes: Vec::new(), edges: Vec::new() };
        self.draw_into(&mut d, "", depth);
        d
    }

    fn draw_into(&self, d: &mut Drawing, prefix: &str, depth: usize) {
        let g = &self.inner;
        let id = |name: &str| -> Arc<str> {
            if prefix.is_empty() { name.into() } else { format!("{prefix}:{name}").into() }
        };
        let plain = |name: &str| DrawnNode { id: id(name), subgraph: None, defer: false };
        d.nodes.push(plain(START));
        let mut ends = false;
        let node_name = |n: NodeId| g.nodes[n].name.clone();
        let mut leave = |d: &mut Drawing, from: &str, out: &Out, destinations: &[Arc<str>]| {
            let edge = |to: &str, conditional, label: Option<&Arc<str>>| DrawnEdge {
                source: id(from),
                target: id(to),
                conditional,
                label: label.filter(|l| !l.starts_with("route")).cloned(),
            };
            let mut any = false;
            for to in &out.to {
                d.edges.push(edge(&node_name(*to), false, None));
                any = true;
            }
            for join in &out.joins {
                d.edges.push(edge(&node_name(g.joins[*join].to), false, None));
                any = true;
            }
            for route in &out.routes {
                let all: Vec<Arc<str>> = match &route.targets {
                    Some(targets) => targets.clone(),
                    None => g.nodes.iter().map(|n| n.name.clone()).chain([Arc::from(END)]).collect(),
                };
                for to in all {
                    let to = if &*to == "END" { Arc::from(END) } else { to };
                    ends |= &*to == END;
                    d.edges.push(edge(&to, true, Some(&route.name)));
                    any = true;
                }
            }
            for to in destinations {
                let to = if &**to == "END" { END } else { to };
                ends |= to == END;
                d.edges.push(edge(to, true, None));
                any = true;
            }
            if !any && from != START {
                ends = true;
                d.edges.push(edge(END, false, None));
            }
        };
        for node in &g.nodes {
            let inner = node.spec.node.subgraphs();
            match inner.first() {
                Some(graph) if depth > 0 => graph.draw_into(d, &id(&node.name), depth - 1),
                first => d.nodes.push(DrawnNode {
                    id: id(&node.name),
                    subgraph: first.map(|g| g.name().clone()),
                    defer: node.spec.defer,
                }),
            }
        }
        leave(d, START, &g.start, &[]);
        for node in &g.nodes {
            leave(d, &node.name, &node.out, node.spec.destinations.as_deref().unwrap_or_default());
        }
        if ends {
            d.nodes.push(plain(END));
        }
    }
}

impl Drawing {
    /// As Mermaid, for pages and editors that draw it.
    pub fn mermaid(&self) -> String {
        let mut text = String::from("graph TD;\n");
        let safe = |id: &str| id.replace(|c: char| !c.is_alphanumeric() && c != '_', "_");
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
