//! What a task wrote, in numbers, and as it is kept and shown.

use std::sync::Arc;

use super::channels::Channels;
use crate::{
    Command, Error, Goto, Graph, NodeError, Output, Update, Value,
    checkpoint::{Write, WriteKind},
    command::{END, Send},
    graph::{ChannelId, NodeId},
};

/// What a task wrote.
#[derive(Clone, Debug, Default)]
pub(crate) struct TaskWrites {
    pub list: Vec<TaskWrite>,
    /// True where they come from a cache.
    pub cached: bool,
}

/// One thing a task wrote.
#[derive(Clone, Debug)]
pub(crate) enum TaskWrite {
    Channel(ChannelId, Value),
    Goto(NodeId),
    Send(NodeId, Value),
    /// At a join, as a node.
    Arrive(usize, NodeId),
    /// A command for the parent graph.
    Parent(Box<Command>),
}

impl TaskWrites {
    /// The values written, by channel.
    pub fn channels(&self) -> impl Iterator<Item = (ChannelId, &Value)> {
        self.list.iter().filter_map(|w| if let TaskWrite::Channel(c, v) = w { Some((*c, v)) } else { None })
    }

    /// Whether a command for the parent graph is among them: then the graph ends with this step.
    pub fn has_parent_command(&self) -> bool {
        self.list.iter().any(|w| matches!(w, TaskWrite::Parent(_)))
    }

    /// The names and values written to channels that `shown` lets through.
    pub fn shown(&self, graph: &Graph, shown: impl Fn(ChannelId) -> bool) -> Update {
        let names = &graph.inner.names;
        Update {
            writes: self.channels().filter(|(c, _)| shown(*c)).map(|(c, v)| (names[c].clone(), v.clone())).collect(),
            fault: None,
        }
    }

    /// For mode `updates`: the writes to the output as one object; a list of objects where a channel was written more
    /// than once; null where none was.
    pub fn update(&self, graph: &Graph) -> Value {
        let shown = self.shown(graph, |c| graph.inner.is_output[c]);
        match &shown.writes[..] {
            [] => Value::Null,
            writes => {
                let repeats = writes.iter().enumerate().any(|(i, (n, _))| writes[..i].iter().any(|(m, _)| m == n));
                if repeats {
                    writes
                        .iter()
                        .map(|(n, v)| Value::Object([(n.clone(), v.clone())].into_iter().collect()))
                        .collect::<Vec<_>>()
                        .into()
                } else {
                    shown.to_value()
                }
            }
        }
    }

    /// For modes `tasks` and `debug`, and for `get_state`: all writes to the state, folded by channel.
    pub fn result(&self, graph: &Graph) -> Value {
        self.shown(graph, |_| true).folded()
    }

    /// As they are kept.
    pub fn save(&self, graph: &Graph) -> Vec<Write> {
        let inner = &graph.inner;
        let node = |id: &NodeId| inner.nodes[*id].name.clone();
        self.list
            .iter()
            .filter(|w| match w {
                TaskWrite::Channel(c, _) => !matches!(inner.channels[*c].reducer, crate::channel::Reducer::Untracked),
                _ => true,
            })
            .map(|w| {
                Write(match w {
                    TaskWrite::Channel(c, v) => WriteKind::Channel(inner.names[*c].clone(), v.clone()),
                    TaskWrite::Goto(id) => WriteKind::Goto(node(id)),
                    TaskWrite::Send(id, input) => WriteKind::Send(Send { node: node(id), input: input.clone() }),
                    TaskWrite::Arrive(join, _) => WriteKind::Arrive(inner.joins[*join].name.clone()),
                    TaskWrite::Parent(command) => WriteKind::Parent {
                        update: command.update.as_ref().map(|update| update.writes.clone()),
                        goto: command.goto.clone(),
                    },
                })
            })
            .collect()
    }

    /// From what was kept, by the node that wrote it. What the graph no longer has is left out.
    pub fn restore(graph: &Graph, by: Option<NodeId>, kept: &[Write]) -> Self {
        let inner = &graph.inner;
        let node = |name: &Arc<str>| inner.node_ids.get(name).copied();
        let list = kept
            .iter()
            .filter_map(|Write(w)| match w {
                WriteKind::Channel(name, v) => Some(TaskWrite::Channel(*inner.channel_ids.get(name)?, v.clone())),
                WriteKind::Goto(name) => node(name).map(TaskWrite::Goto),
                WriteKind::Parent { update, goto } => {
                    let update = update.clone().map(|writes| Update { writes, fault: None });
                    Some(TaskWrite::Parent(Box::new(Command {
                        update,
                        goto: goto.clone(),
                        resume: None,
                        parent: true,
                    })))
                }
                WriteKind::Send(s) => Some(TaskWrite::Send(node(&s.node)?, s.input.clone())),
                WriteKind::Arrive(name) => {
                    Some(TaskWrite::Arrive(inner.joins.iter().position(|j| j.name == *name)?, by?))
                }
            })
            .collect();
        Self { list, cached: false }
    }

    /// Adds an update. A channel that the graph lacks is an error that names the nearest.
    pub fn add_update(&mut self, graph: &Graph, node: &str, update: Update) -> Result<(), NodeError> {
        if let Some(fault) = update.fault {
            return Err(
                NodeError::new("TypeError", format!("graph `{}`: node `{node}`: {fault}", graph.name())).permanent()
            );
        }
        for (name, value) in update.writes {
            let Some(channel) = graph.inner.channel_ids.get(&name) else {
                let near = crate::graph::nearest(&name, graph.inner.channel_ids.keys());
                let is_node = graph.inner.node_ids.contains_key(node);
                return Err(NodeError::Engine(Box::new(Error::InvalidUpdate {
                    graph: graph.name().to_string(),
                    channel: name.to_string(),
                    nodes: is_node.then(|| node.to_owned()).into_iter().collect(),
                    message: format!("the graph has no such channel{near}"),
                })));
            };
            self.list.push(TaskWrite::Channel(*channel, value));
        }
        Ok(())
    }

    /// Adds where to go.
    pub fn add_goto(&mut self, graph: &Graph, from: &str, goto: Goto) -> Result<(), NodeError> {
        let inner = &graph.inner;
        let find = |name: &Arc<str>| {
            let node = inner.node_ids.get(name).copied().filter(|node| inner.nodes[*node].handles.is_none());
            node.ok_or_else(|| {
                let plain = inner.nodes.iter().filter(|node| node.handles.is_none()).map(|node| &node.name);
                let near = crate::graph::nearest(name, plain);
                let text = format!("graph `{}`: `{from}` goes to `{name}`, which is no node{near}", graph.name());
                NodeError::new("InvalidUpdateError", text)
            })
        };
        match goto {
            Goto::Node(name) if matches!(&*name, END | "END") => {}
            Goto::Node(name) => self.list.push(TaskWrite::Goto(find(&name)?)),
            Goto::Send(send) => self.list.push(TaskWrite::Send(find(&send.node)?, send.input)),
        }
        Ok(())
    }

    /// Adds what a node returned.
    pub fn add_output(&mut self, graph: &Graph, node: &str, output: Output) -> Result<(), NodeError> {
        match output {
            Output::Nothing => Ok(()),
            Output::Update(update) => self.add_update(graph, node, update),
            Output::Command(command) if command.parent => {
                self.list.push(TaskWrite::Parent(Box::new(command)));
                Ok(())
            }
            Output::Command(command) => self.add_command(graph, node, command),
            Output::Many(outputs) => outputs.into_iter().try_for_each(|o| self.add_output(graph, node, o)),
        }
    }

    /// Adds an update and where to go.
    pub fn add_command(&mut self, graph: &Graph, node: &str, command: Command) -> Result<(), NodeError> {
        if let Some(update) = command.update {
            self.add_update(graph, node, update)?;
        }
        command.goto.into_iter().try_for_each(|goto| self.add_goto(graph, node, goto))
    }

    /// The writes to channels as an application takes them.
    pub fn refs(&self) -> Vec<(ChannelId, &Value)> {
        self.channels().collect()
    }

    /// The state as a route of the node sees it.
    pub fn seen(&self, graph: &Graph, channels: &Channels) -> Result<crate::stream::SnapshotRef, crate::Error> {
        channels.with(graph, &self.refs())
    }
}
