//! The state of a graph while it runs: changed in place where nobody else holds it, shared where somebody does.

use std::sync::Arc;

use crate::{
    CheckpointId, Error, Graph, Value,
    channel::{MessageIndex, Reducer, Undo},
    checkpoint::{Change, Checkpoint, Patch},
    graph::ChannelId,
    stream::{Snapshot, SnapshotRef},
    value::{MAX_DEPTH, MAX_WEIGHT},
};

/// The channels of a graph.
pub(crate) struct Channels {
    state: SnapshotRef,
    indexes: Vec<Option<MessageIndex>>,
    /// Whether changes are stored: then a value that was set is compared with what it replaced.
    is_stored: bool,
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
        let is_stored = graph.runtime.checkpointer.is_some();
        Self { state: Arc::new(Snapshot { checkpoint, names: graph.inner.names.clone(), values }), indexes, is_stored }
    }

    /// A look at a state that somebody else changes.
    pub fn borrowed(graph: &Graph, state: &SnapshotRef) -> Self {
        Self { state: state.clone(), indexes: vec![None; graph.inner.channels.len()], is_stored: false }
    }

    /// The state as it is, shared.
    pub fn snapshot(&self) -> &SnapshotRef {
        &self.state
    }

    /// The state with writes applied that are not kept: for a route, or for a look at a stopped step.
    pub fn with(&self, graph: &Graph, writes: &[(ChannelId, &Value)]) -> Result<SnapshotRef, Error> {
        let mut copy =
            Channels { state: self.state.clone(), indexes: vec![None; self.indexes.len()], is_stored: false };
        copy.apply(graph, writes)?;
        Ok(copy.state)
    }

    /// Says which checkpoint holds the state from now on.
    pub fn set_checkpoint(&mut self, id: Option<CheckpointId>) {
        if self.state.checkpoint != id {
            Arc::make_mut(&mut self.state).checkpoint = id;
        }
    }

    /// Applies the writes of a step, in their order. Nothing is applied where one of them cannot be.
    pub fn apply(&mut self, graph: &Graph, writes: &[(ChannelId, &Value)]) -> Result<Applied, Error> {
        let mut applied = Applied::default();
        if writes.is_empty() {
            return Ok(applied);
        }
        // A state that nobody shares is changed in place, and changed back after an error; else in a copy of its references.
        let shared = Arc::get_mut(&mut self.state).is_none().then(|| self.state.clone());
        let mut undo: Vec<(ChannelId, Undo)> = Vec::new();
        let result = self.apply_each(graph, writes, &mut applied, &mut undo);
        if result.is_err() {
            match shared {
                Some(before) => self.state = before,
                None => {
                    let state = Arc::make_mut(&mut self.state);
                    undo.into_iter().rev().for_each(|(channel, undo)| undo.apply(&mut state.values[channel]));
                }
            }
            self.indexes.iter_mut().for_each(|index| *index = None);
        }
        result.map(|()| applied)
    }

    fn apply_each(
        &mut self,
        graph: &Graph,
        writes: &[(ChannelId, &Value)],
        applied: &mut Applied,
        undo: &mut Vec<(ChannelId, Undo)>,
    ) -> Result<(), Error> {
        let inner = &graph.inner;
        let state = Arc::make_mut(&mut self.state);
        let mut group: Vec<&Value> = Vec::new();
        for (i, (channel, value)) in writes.iter().enumerate() {
            if applied.changes.iter().any(|(c, _)| c == channel) {
                continue;
            }
            group.clear();
            group.push(value);
            group.extend(writes[i + 1..].iter().filter(|(c, _)| c == channel).map(|(_, v)| *v));
            let spec = &inner.channels[*channel];
            let fail = |message: String| Error::InvalidUpdate {
                graph: inner.name.to_string(),
                channel: spec.name.to_string(),
                nodes: Vec::new(),
                message: format!("At key '{}': {message}", spec.name),
            };
            let mut scratch = None;
            let index = self.indexes.get_mut(*channel).unwrap_or(&mut scratch);
            let held = &mut state.values[*channel];
            let reduced = spec.reducer.apply(held, &group, index).map_err(fail)?;
            let change = match (&reduced.change, &reduced.undo) {
                (Change::Set(after), Undo::Restore(Some(before))) if self.is_stored => {
                    Patch::between(before, after).map_or(reduced.change, |patch| Change::Patch(vec![patch]))
                }
                _ => reduced.change,
            };
            undo.push((*channel, reduced.undo));
            if held.as_ref().is_some_and(|v| v.depth() > MAX_DEPTH) {
                return Err(fail(format!("the value nests deeper than {MAX_DEPTH} levels")));
            }
            if held.as_ref().is_some_and(|v| v.weight() > MAX_WEIGHT) {
                let most = MAX_WEIGHT >> 20;
                return Err(fail(format!("the value would take more than {most} MiB; keep less in one channel")));
            }
            applied.output |= inner.is_output[*channel];
            applied.changes.push((*channel, change));
        }
        Ok(())
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
