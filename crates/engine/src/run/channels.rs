//! The state of a graph while it runs: changed in place where nobody else holds it, shared where somebody does.

use std::sync::Arc;

use crate::{
    CheckpointId, Error, Graph, Value,
    channel::{MessageIndex, Reducer},
    checkpoint::{Change, Checkpoint},
    graph::ChannelId,
    stream::{Snapshot, SnapshotRef},
    value::MAX_DEPTH,
};

/// The channels of a graph.
pub(crate) struct Channels {
    state: SnapshotRef,
    indexes: Vec<Option<MessageIndex>>,
}

/// What a step changed.
#[derive(Default)]
pub(crate) struct Applied {
    /// How each channel written changed.
    pub changes: Vec<(ChannelId, Change)>,
    /// Whether a channel of the output was written.
    pub output: bool,
}

impl Channels {
    /// As a graph starts.
    pub fn start(graph: &Graph) -> Self {
        let inner = &graph.inner;
        Self::of(graph, None, inner.channels.iter().map(|c| c.start()).collect())
    }

    /// As a checkpoint has it. A channel that the graph has gained since starts anew.
    pub fn restore(graph: &Graph, checkpoint: &Checkpoint) -> Self {
        let inner = &graph.inner;
        let values =
            inner.channels.iter().map(|c| checkpoint.values.get(&c.name).cloned().or_else(|| c.start())).collect();
        Self::of(graph, Some(checkpoint.id), values)
    }

    fn of(graph: &Graph, checkpoint: Option<CheckpointId>, values: Vec<Option<Value>>) -> Self {
        let indexes = if graph.inner.channels.iter().any(|c| matches!(c.reducer, Reducer::Messages)) {
            vec![None; values.len()]
        } else {
            Vec::new()
        };
        Self { state: Arc::new(Snapshot { checkpoint, names: graph.inner.names.clone(), values }), indexes }
    }

    /// A look at a state that somebody else changes.
    pub fn borrowed(graph: &Graph, state: &SnapshotRef) -> Self {
        Self { state: state.clone(), indexes: vec![None; graph.inner.channels.len()] }
    }

    /// The state as it is, shared.
    pub fn snapshot(&self) -> &SnapshotRef {
        &self.state
    }

    /// The state with writes applied that are not kept: for a route, or for a look at a stopped step.
    pub fn with(&self, graph: &Graph, writes: &[(ChannelId, &Value)]) -> Result<SnapshotRef, Error> {
        let mut copy = Channels { state: self.state.clone(), indexes: vec![None; self.indexes.len()] };
        copy.apply(graph, writes)?;
        Ok(copy.state)
    }

    /// Says which checkpoint holds the state from now on.
    pub fn set_checkpoint(&mut self, id: Option<CheckpointId>) {
        if self.state.checkpoint != id {
            Arc::make_mut(&mut self.state).checkpoint = id;
        }
    }

    /// Applies the writes of a step, in their order. After an error the state is not to be used.
    pub fn apply(&mut self, graph: &Graph, writes: &[(ChannelId, &Value)]) -> Result<Applied, Error> {
        let inner = &graph.inner;
        let mut applied = Applied::default();
        if writes.is_empty() {
            return Ok(applied);
        }
        let mut new: Vec<(ChannelId, Option<Value>)> = Vec::with_capacity(writes.len());
        let mut group: Vec<&Value> = Vec::new();
        for (i, (channel, value)) in writes.iter().enumerate() {
            if i > 0 && writes[..i].iter().any(|(c, _)| c == channel) {
                continue;
            }
            group.clear();
            group.push(value);
            group.extend(writes[i + 1..].iter().filter(|(c, _)| c == channel).map(|(_, v)| *v));
            let spec = &inner.channels[*channel];
            let fail = |message: String| Error::InvalidUpdate {
                graph: inner.name.to_string(),
                channel: spec.name.to_string(),
                message: format!("At key '{}': {message}", spec.name),
            };
            let mut scratch = None;
            let index = self.indexes.get_mut(*channel).unwrap_or(&mut scratch);
            // Taken out where nobody shares the state, so that an append changes the list in place. An error ends the
            // run, and the state with it.
            let held = match Arc::get_mut(&mut self.state) {
                Some(state) => state.values[*channel].take(),
                None => self.state.values[*channel].clone(),
            };
            // A message index is of the state as it is: a write that fails half-way must not leave it changed.
            let reduced = spec.reducer.apply(held, &group, index).map_err(|m| {
                *index = None;
                fail(m)
            })?;
            if reduced.value.as_ref().is_some_and(|v| v.depth() > MAX_DEPTH) {
                return Err(fail(format!("the value nests deeper than {MAX_DEPTH} levels")));
            }
            applied.output |= inner.is_output[*channel];
            applied.changes.push((*channel, reduced.change));
            new.push((*channel, reduced.value));
        }
        let state = Arc::make_mut(&mut self.state);
        for (channel, value) in new {
            state.values[channel] = value;
        }
        Ok(applied)
    }

    /// Empties the channels of one step that this step did not write.
    pub fn expire(&mut self, graph: &Graph, applied: &mut Applied) {
        for channel in &graph.inner.ephemeral {
            if self.state.values[*channel].is_some() && applied.changes.iter().all(|(c, _)| c != channel) {
                Arc::make_mut(&mut self.state).values[*channel] = None;
                applied.changes.push((*channel, Change::Clear));
            }
        }
    }
}
