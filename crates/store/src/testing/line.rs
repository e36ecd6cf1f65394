//! Lines of history: checkpoints as the engine makes them, each with the state that it should read back as.

use std::{collections::BTreeMap, sync::Arc};

use crate::Attempt;
use runloom_engine::{
    CheckpointId, Clock, Object, ThreadId, Value,
    checkpoint::{Change, Checkpoint, CheckpointWrite, Control, Saved, Source},
    stream::Snapshot,
};

use super::{Fixture, TestClock};

/// A state with what it has come from: the next checkpoint of a line of history.
#[derive(Clone)]
pub struct Line {
    pub thread: ThreadId,
    pub ns: Arc<str>,
    pub id: CheckpointId,
    pub parent: Option<CheckpointId>,
    pub step: i64,
    pub state: BTreeMap<Arc<str>, Value>,
    pub changes: Vec<(Arc<str>, Change)>,
    pub metadata: Object,
    pub clock: Arc<TestClock>,
}

impl Line {
    /// The first checkpoint of a namespace.
    pub fn new(fixture: &Fixture, thread: ThreadId, ns: &str) -> Self {
        Self {
            thread,
            ns: ns.into(),
            id: CheckpointId(fixture.clock.uuid()),
            parent: None,
            step: -1,
            state: BTreeMap::new(),
            changes: Vec::new(),
            metadata: Object::default(),
            clock: fixture.clock.clone(),
        }
    }

    /// The checkpoint after this one, with nothing changed.
    pub fn next(&self) -> Self {
        let id = CheckpointId(self.clock.uuid());
        Self { id, parent: Some(self.id), step: self.step + 1, changes: Vec::new(), ..self.clone() }
    }

    /// Changes a channel.
    pub fn with(mut self, channel: &str, change: Change) -> Self {
        match change.apply(self.state.get(channel)).unwrap() {
            Some(value) => self.state.insert(channel.into(), value),
            None => self.state.remove(channel),
        };
        self.changes.push((channel.into(), change));
        self
    }

    pub fn set(self, channel: &str, value: Value) -> Self {
        self.with(channel, Change::Set(value))
    }

    /// The write that keeps it.
    pub fn write(&self, run: Option<Attempt>) -> CheckpointWrite {
        // A channel that is empty stands in the snapshot too, as the engine has it.
        let mut names: Vec<Arc<str>> = self.state.keys().cloned().collect();
        let mut values: Vec<Option<Value>> = self.state.values().cloned().map(Some).collect();
        names.push("always empty".into());
        values.push(None);
        let state = Snapshot { checkpoint: Some(self.id), names: names.into(), values };
        let checkpoint = Checkpoint {
            id: self.id,
            ns: self.ns.clone(),
            parent: self.parent,
            step: self.step,
            source: if self.step < 0 { Source::Input } else { Source::Loop },
            created_at: self.clock.now(),
            run_id: run.map(|attempt| attempt.run),
            metadata: self.metadata.clone(),
            revision: "r1".into(),
            values: BTreeMap::new(),
            control: self.control(),
        };
        CheckpointWrite {
            thread: self.thread,
            checkpoint: Arc::new(checkpoint),
            changes: self.changes.clone(),
            state: Arc::new(state),
        }
    }

    fn control(&self) -> Control {
        if self.step % 2 == 0 {
            Control::default()
        } else {
            Control { triggered: vec!["a".into()], ..Default::default() }
        }
    }

    /// Fails unless it was kept as it is.
    pub fn assert_kept(&self, saved: &Saved, parent: Option<CheckpointId>) {
        let kept = &saved.checkpoint;
        assert_eq!(kept.values, self.state, "the state at step {}", self.step);
        assert_eq!((kept.id, kept.parent, kept.step, &kept.ns), (self.id, parent, self.step, &self.ns));
        assert_eq!((&kept.metadata, &kept.control), (&self.metadata, &self.control()));
    }
}
