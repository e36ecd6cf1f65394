//! What a level tells of its state: values, checkpoints, and where it stopped.

use std::sync::Arc;

use super::{Ended, Level, Questions, Superstep, Task};
use crate::{
    Value,
    checkpoint::CheckpointView,
    stream::{Mode, Payload, SnapshotRef, UpdatePart, ValuesPart},
};

impl Superstep {
    /// Tells the state, where it is wanted.
    pub fn tell_values(&self, interrupts: Option<Questions>) {
        if self.level.wants(Mode::Values) {
            let step = if interrupts.is_some() { self.step } else { self.step.max(-1) };
            tell_values(&self.level, step, self.channels.snapshot().clone(), interrupts);
        }
    }

    /// At a stop: the state with what finished siblings wrote, once more.
    pub(super) fn show_finished(&mut self, tasks: &[Task]) {
        let graph = &self.level.graph;
        let mut writes: Vec<_> = Vec::new();
        for task in tasks {
            if let Some(Ended::Done(w)) = &task.ended {
                writes.extend(w.channels());
            }
        }
        if writes.iter().any(|(c, _)| graph.inner.is_output[*c])
            && let Ok(snapshot) = self.channels.with(graph, &writes)
        {
            let mut snapshot = Arc::unwrap_or_clone(snapshot);
            // No checkpoint holds this state.
            snapshot.checkpoint = None;
            let output = graph.inner.output.iter();
            self.shown = Some(
                output.filter_map(|c| Some((graph.inner.names[*c].clone(), snapshot.values[*c].clone()?))).collect(),
            );
            if self.level.wants(Mode::Values) && self.level.depth == 0 {
                tell_values(&self.level, self.step, Arc::new(snapshot), None);
            }
        }
    }

    pub(super) fn tell_breakpoint(&self) {
        if self.level.wants(Mode::Updates) && self.level.depth == 0 {
            self.level.tell(self.step, None, None, Payload::Update(UpdatePart::Interrupt(Arc::default())));
        }
    }

    /// Tells the checkpoint before the coming step, where it is wanted.
    pub(super) fn tell_checkpoint(&self) {
        if self.level.wants_any([Mode::Checkpoints, Mode::Debug].into()) && self.saver.keeps() {
            let view = self.view();
            self.tell_view(view);
        }
    }

    pub(super) fn tell_checkpoint_of_input(&mut self, input: &Value) {
        if self.level.wants_any([Mode::Checkpoints, Mode::Debug].into()) && self.saver.keeps() {
            self.next.input = Some(input.clone());
            let view = self.view();
            self.next.input = None;
            self.tell_view(view);
        }
    }

    pub(super) fn tell_view(&self, view: CheckpointView) {
        let base = Some(self.channels.snapshot().clone());
        self.level.tell(self.step - 1, None, base, Payload::Checkpoint(Arc::new(view)));
    }
}

fn tell_values(level: &Level, step: i64, snapshot: SnapshotRef, interrupts: Option<Questions>) {
    let payload = Payload::Values(ValuesPart {
        snapshot: snapshot.clone(),
        output: level.graph.inner.output_names.clone(),
        interrupts: interrupts.map(Into::into),
    });
    level.tell(step, None, Some(snapshot), payload);
}
