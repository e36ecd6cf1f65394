//! Building a graph: channels, nodes, edges; checked as a whole when it is compiled.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Graph, check,
    compiled::{Edges, Join, RouteSpec},
    node::{NodeSpec, Route},
};
use crate::{Error, channel::ChannelSpec, config::Breakpoints, value::Value};

/// Builds a graph of untyped state. [`StateGraph`](super::StateGraph) is the typed face of it.
#[derive(Default)]
pub struct GraphBuilder {
    pub(super) name: String,
    pub(super) description: String,
    pub(super) channels: Vec<ChannelSpec>,
    pub(super) input: Option<Vec<Arc<str>>>,
    pub(super) output: Option<Vec<Arc<str>>>,
    pub(super) nodes: BTreeMap<Arc<str>, NodeSpec>,
    /// The nodes in the order they were added, which is how a state lists its tasks.
    pub(super) order: Vec<Arc<str>>,
    pub(super) edges: BTreeMap<Arc<str>, Edges>,
    pub(super) joins: Vec<Join>,
    pub(super) interrupt_before: Breakpoints,
    pub(super) interrupt_after: Breakpoints,
    pub(super) context_schema: Option<Value>,
    pub(super) revision: Option<Arc<str>>,
    pub(super) problems: Vec<String>,
}

impl GraphBuilder {
    /// A graph of a name: what runs, assistants and events call it.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// Says what it is for.
    pub fn description(&mut self, text: impl Into<String>) -> &mut Self {
        self.description = text.into();
        self
    }

    /// Adds a channel.
    pub fn add_channel(&mut self, channel: ChannelSpec) -> &mut Self {
        if self.channels.iter().any(|c| c.name == channel.name) {
            self.problems.push(format!("channel `{}` is declared twice", channel.name));
        }
        self.channels.push(channel);
        self
    }

    /// Takes only these channels from a run's input.
    pub fn input(&mut self, channels: impl IntoIterator<Item = impl Into<Arc<str>>>) -> &mut Self {
        self.input = Some(channels.into_iter().map(Into::into).collect());
        self
    }

    /// Gives only these channels.
    pub fn output(&mut self, channels: impl IntoIterator<Item = impl Into<Arc<str>>>) -> &mut Self {
        self.output = Some(channels.into_iter().map(Into::into).collect());
        self
    }

    /// The JSON Schema of a run's context.
    pub fn context_schema(&mut self, schema: Value) -> &mut Self {
        self.context_schema = Some(schema);
        self
    }

    /// Names the revision: the hash of what the graph is. Left out, it is a hash of the graph's shape.
    pub fn revision(&mut self, revision: impl Into<Arc<str>>) -> &mut Self {
        self.revision = Some(revision.into());
        self
    }

    /// Adds a node.
    pub fn add_node(&mut self, name: impl Into<Arc<str>>, node: NodeSpec) -> &mut Self {
        let name = name.into();
        if [crate::START, crate::END, "END", "START"].contains(&&*name) {
            self.problems.push(format!("node `{name}` has a reserved name"));
        }
        if name.is_empty() || name.contains([':', '|']) {
            self.problems.push(format!("node `{name}`: a node's name may not be empty or hold `:` or `|`"));
        }
        self.order.push(name.clone());
        if self.nodes.insert(name.clone(), node).is_some() {
            self.problems.push(format!("node `{name}` is added twice"));
        }
        self
    }

    /// An edge: after `from`, always `to`.
    pub fn add_edge(&mut self, from: impl Into<Arc<str>>, to: impl Into<Arc<str>>) -> &mut Self {
        let to = to.into();
        let edges = self.edges.entry(from.into()).or_default();
        if !edges.to.contains(&to) {
            edges.to.push(to);
        }
        self
    }

    /// A join: `to` runs once all of `from` have.
    pub fn add_join(
        &mut self,
        from: impl IntoIterator<Item = impl Into<Arc<str>>>,
        to: impl Into<Arc<str>>,
    ) -> &mut Self {
        let from: Vec<Arc<str>> = from.into_iter().map(Into::into).collect();
        let to = to.into();
        match &from[..] {
            [] => self.problems.push(format!("a join to `{to}` has no sources")),
            [one] => {
                self.add_edge(one.clone(), to);
            }
            _ => self.joins.push(Join { from, to }),
        }
        self
    }

    /// A route: after `from`, where `route` says. `targets` are all the nodes it may name; none means any.
    pub fn add_route(
        &mut self,
        from: impl Into<Arc<str>>,
        name: impl Into<Arc<str>>,
        route: Arc<dyn Route>,
        targets: Option<Vec<Arc<str>>>,
    ) -> &mut Self {
        let (from, name) = (from.into(), name.into());
        let edges = self.edges.entry(from.clone()).or_default();
        if edges.routes.iter().any(|r| r.name == name) {
            self.problems.push(format!("node `{from}` has two routes named `{name}`"));
        }
        edges.routes.push(RouteSpec { name, route, targets });
        self
    }

    /// Stops before nodes.
    pub fn interrupt_before(&mut self, nodes: Breakpoints) -> &mut Self {
        self.interrupt_before = nodes;
        self
    }

    /// Stops after nodes.
    pub fn interrupt_after(&mut self, nodes: Breakpoints) -> &mut Self {
        self.interrupt_after = nodes;
        self
    }

    /// Checks the whole graph. All that is wrong is in the error.
    pub fn compile(self) -> Result<Graph, Error> {
        check::compile(self)
    }
}
