//! What bounds a step: the limits on its tasks and on the state, and the pauses that let a cancel through.

use std::time::{Duration, Instant};

use super::{channels::Channels, control::Next, writes::TaskWrite, writes::TaskWrites};
use crate::{Error, Graph, Limits};

/// How long a graph may compute before it lets other work of its thread run, a cancel of the run among it.
const SLICE: Duration = Duration::from_millis(1);

/// Yields once a slice of time is used up.
pub(crate) struct Pacer {
    since: Instant,
}

impl Pacer {
    pub fn new() -> Self {
        Self { since: Instant::now() }
    }

    /// Lets other work run, where this one has computed for a slice without a pause.
    pub async fn pause(&mut self) {
        if self.since.elapsed() >= SLICE {
            tokio::task::yield_now().await;
            self.since = Instant::now();
        }
    }
}

/// What the tasks of one step have written so far.
#[derive(Default)]
pub(crate) struct Written {
    sends: u64,
    bytes: u64,
}

impl Written {
    /// Adds what a task wrote. An error where the step's writes are more than the run's limits allow.
    pub fn add(&mut self, graph: &Graph, limits: &Limits, node: &str, writes: &TaskWrites) -> Result<(), Error> {
        for write in &writes.list {
            match write {
                TaskWrite::Channel(_, value) => self.bytes = self.bytes.saturating_add(value.weight()),
                TaskWrite::Send(_, input) => {
                    self.sends += 1;
                    self.bytes = self.bytes.saturating_add(input.weight());
                }
                _ => {}
            }
        }
        if self.sends > limits.step_tasks {
            return Err(too_many_tasks(graph, node, limits, self.sends));
        }
        if self.bytes > limits.state_bytes {
            return Err(too_large(graph, node, limits, self.bytes, "the writes of one step take"));
        }
        Ok(())
    }
}

/// Checks the number of tasks of the coming step.
pub(crate) fn check_tasks(graph: &Graph, limits: &Limits, next: &Next) -> Result<(), Error> {
    let tasks = (next.sends.len() + next.triggered.len()) as u64;
    if tasks <= limits.step_tasks {
        return Ok(());
    }
    let node = next.sends.first().map(|(node, _)| *node).or_else(|| next.triggered.first().copied());
    let name = node.map_or("", |node| &*graph.inner.nodes[node].name);
    Err(too_many_tasks(graph, name, limits, tasks))
}

/// Checks the size of the state and of the Sends that wait beside it. `wrote` gives the nodes that wrote a channel.
pub(crate) fn check_state(
    graph: &Graph,
    limits: &Limits,
    channels: &Channels,
    next: &Next,
    wrote: impl FnOnce(&str) -> Vec<String>,
) -> Result<(), Error> {
    let values = &channels.snapshot().values;
    let weights = values.iter().map(|value| value.as_ref().map_or(0, crate::Value::weight));
    let sends = next.sends.iter().fold(0u64, |sum, (_, input)| sum.saturating_add(input.weight()));
    let total = weights.clone().fold(sends, u64::saturating_add);
    if total <= limits.state_bytes {
        return Ok(());
    }
    let largest = weights.enumerate().max_by_key(|(_, weight)| *weight).map(|(channel, _)| channel);
    let channel = largest.map_or("", |channel| &*graph.inner.names[channel]);
    let what = format!("the state, most of it in channel `{channel}`, takes");
    Err(too_large(graph, &wrote(channel).join("`, `"), limits, total, &what))
}

fn too_many_tasks(graph: &Graph, node: &str, limits: &Limits, tasks: u64) -> Error {
    Error::LimitReached {
        graph: graph.name().to_string(),
        node: node.to_owned(),
        name: "step_tasks",
        limit: limits.step_tasks,
        message: format!("a step would have {tasks} tasks or more; send fewer at a time"),
    }
}

fn too_large(graph: &Graph, node: &str, limits: &Limits, bytes: u64, what: &str) -> Error {
    Error::LimitReached {
        graph: graph.name().to_string(),
        node: node.to_owned(),
        name: "state_bytes",
        limit: limits.state_bytes,
        message: format!("{what} about {bytes} bytes of JSON; store large data elsewhere and keep a reference"),
    }
}
