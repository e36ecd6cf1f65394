//! What runs next: which nodes are triggered, what was sent, what joins have gathered.

use std::{collections::BTreeMap, sync::Arc};

use super::writes::{TaskWrite, TaskWrites};
use crate::{Error, Graph, START, Value, checkpoint::Control, command::Send, graph::NodeId};

/// The control state of a graph while it runs, in numbers.
#[derive(Clone, Default)]
pub(crate) struct Next {
    /// An input that is not applied yet.
    pub input: Option<Value>,
    /// Triggered nodes, sorted.
    pub triggered: Vec<NodeId>,
    /// Deferred nodes that wait until nothing else would run, sorted.
    pub deferred: Vec<NodeId>,
    /// Tasks of their own, in the order they were sent.
    pub sends: Vec<(NodeId, Value)>,
    /// Per join, which of its sources have arrived.
    pub joins: Vec<Vec<NodeId>>,
    /// Whose writes made this state. `None` within is `__start__`.
    pub last: Vec<Option<NodeId>>,
}

impl Next {
    /// Of a graph that nothing has entered.
    pub fn new(graph: &Graph) -> Self {
        Self { joins: vec![Vec::new(); graph.inner.joins.len()], ..Self::default() }
    }

    /// From a checkpoint. A pending node that the graph no longer has is an error: its work would be lost unsaid.
    pub fn restore(graph: &Graph, control: &Control) -> Result<Self, Error> {
        let inner = &graph.inner;
        let node = |name: &Arc<str>| {
            inner.node_ids.get(name).copied().ok_or_else(|| Error::Incompatible {
                graph: inner.name.to_string(),
                message: format!("node `{name}` is to run next, and the graph no longer has it"),
            })
        };
        let nodes = |names: &[Arc<str>]| {
            let mut ids = names.iter().map(node).collect::<Result<Vec<_>, _>>()?;
            ids.sort_unstable();
            Ok::<_, Error>(ids)
        };
        let mut next = Self::new(graph);
        next.input = control.input.clone();
        next.triggered = nodes(&control.triggered)?;
        next.deferred = nodes(&control.deferred)?;
        next.sends =
            control.sends.iter().map(|s| Ok((node(&s.node)?, s.input.clone()))).collect::<Result<_, Error>>()?;
        for (at, join) in inner.joins.iter().enumerate() {
            let arrived = control.joins.get(&*join.name).into_iter().flatten();
            next.joins[at] = arrived.filter_map(|n| inner.node_ids.get(n).copied()).collect();
        }
        next.last =
            control.last.iter().map(|n| if &**n == START { None } else { inner.node_ids.get(n).copied() }).collect();
        Ok(next)
    }

    /// For a checkpoint.
    pub fn save(&self, graph: &Graph) -> Control {
        let inner = &graph.inner;
        let name = |id: &NodeId| inner.nodes[*id].name.clone();
        let names = |ids: &[NodeId]| ids.iter().map(name).collect();
        let joins: BTreeMap<_, _> = inner
            .joins
            .iter()
            .zip(&self.joins)
            .filter(|(_, arrived)| !arrived.is_empty())
            .map(|(join, arrived)| (join.name.to_string(), names(arrived)))
            .collect();
        Control {
            input: self.input.clone(),
            triggered: names(&self.triggered),
            deferred: names(&self.deferred),
            sends: self.sends.iter().map(|(id, input)| Send { node: name(id), input: input.clone() }).collect(),
            joins,
            last: self.last.iter().map(|n| n.as_ref().map_or_else(|| START.into(), name)).collect(),
            by_hand: Vec::new(),
        }
    }

    /// Triggers a node.
    pub fn trigger(&mut self, graph: &Graph, node: NodeId) {
        let list = if graph.inner.nodes[node].spec.defer { &mut self.deferred } else { &mut self.triggered };
        if let Err(at) = list.binary_search(&node) {
            list.insert(at, node);
        }
    }

    /// A node has arrived at a join: once all have, the join's node is triggered and the join starts again.
    pub fn arrive(&mut self, graph: &Graph, join: usize, node: NodeId) {
        let spec = &graph.inner.joins[join];
        if !self.joins[join].contains(&node) {
            self.joins[join].push(node);
        }
        if self.joins[join].len() == spec.from.len() {
            self.joins[join].clear();
            self.trigger(graph, spec.to);
        }
    }

    /// Adds what a task's writes lead to.
    pub fn follow(&mut self, graph: &Graph, writes: &TaskWrites) {
        for write in &writes.list {
            match write {
                TaskWrite::Channel(..) | TaskWrite::Parent(_) => {}
                TaskWrite::Goto(node) => self.trigger(graph, *node),
                TaskWrite::Send(node, input) => self.sends.push((*node, input.clone())),
                TaskWrite::Arrive(join, node) => self.arrive(graph, *join, *node),
            }
        }
    }

    /// A step has ended: what was to run has run.
    pub fn begin_step(&mut self) {
        self.input = None;
        self.triggered.clear();
        self.sends.clear();
        self.last.clear();
    }

    /// Lets the deferred nodes run where nothing else would.
    pub fn settle(&mut self) {
        if self.triggered.is_empty() && self.sends.is_empty() && self.input.is_none() {
            self.triggered = std::mem::take(&mut self.deferred);
        }
    }
}
