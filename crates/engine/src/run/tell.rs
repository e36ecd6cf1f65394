//! What is told of a task beside what its node tells: its events, its start, its update, its end.

use std::sync::Arc;

use uuid::Uuid;

use super::{
    calls::NO_STREAM,
    leave::goto_one,
    scope::StepTag,
    superstep::{Superstep, task_modes},
    task::{Ended, Task},
    taskscope::TaskScope,
    writes::TaskWrites,
};
use crate::{
    Answer, Input, NodeFailure, Value,
    channel::Reducer,
    stream::{
        Chunk, Event, EventData, EventKind, MessagePart, Mode, Payload, SnapshotRef, TaskEnd, TaskStart, UpdatePart,
    },
    value,
};

impl TaskScope {
    /// An event of the node itself.
    pub(super) fn chain(&self, kind: EventKind, name: &Arc<str>, tags: Arc<[Arc<str>]>, data: EventData) {
        self.tell(Payload::from(Event {
            kind,
            name: name.clone(),
            run_id: self.event_id,
            parent_ids: self.level.parents.clone(),
            tags,
            meta: self.meta(),
            model: None,
            data,
        }));
    }

    pub(super) fn chain_error(&self, failure: &NodeFailure) {
        let step = StepTag::Step(self.step);
        if self.wants_event(EventKind::ChainError, self.name(), step, &[]) {
            let data = EventData { error: Some(failure.clone()), ..EventData::default() };
            self.chain(EventKind::ChainError, self.name(), step.with(self.tags()), data);
        }
    }

    pub(super) fn route_event(&self, kind: EventKind, (step, name): (StepTag, &Arc<str>), id: Uuid, data: EventData) {
        self.tell(Payload::from(Event {
            kind,
            name: name.clone(),
            run_id: id,
            parent_ids: self.child_parents(),
            tags: step.with(self.tags()),
            meta: self.meta(),
            model: None,
            data,
        }));
    }

    /// Whole messages among what a node wrote, but for those already told and those it was given.
    pub(super) fn tell_messages(&self, writes: &TaskWrites) {
        let inner = &self.level.graph.inner;
        // A whole message has no model's name and no call's tags any more. One that is left out counts as told, so that
        // no graph around this one tells it.
        let filter = &self.level.run.config.events;
        let admits = filter.admits_message("", Some(self.name()), &self.level.ns, self.tags())
            && self.tags().all(|tag| &**tag != NO_STREAM);
        for (channel, value) in writes.channels() {
            if !matches!(inner.channels[channel].reducer, Reducer::Messages) {
                continue;
            }
            let one = [value.clone()];
            let messages: Vec<&Value> = match value {
                Value::List(list) => list.iter().collect(),
                _ => one.iter().collect(),
            };
            for message in messages {
                // What a person wrote as `{role, content}` is input for the reducer, not yet a message.
                let (Some(Value::String(id)), true) = (message.get("id"), message.get("response_metadata").is_some())
                else {
                    continue;
                };
                let held = self.base.values[channel].as_ref().and_then(Value::as_list);
                let is_given = held.is_some_and(|l| l.iter().any(|m| m.get_str("id") == Some(id)));
                if is_given || !self.level.run.told.lock().insert(id.clone()) || !admits {
                    continue;
                }
                self.tell(Payload::Message(MessagePart {
                    chunk: Arc::new(Chunk::Whole(message.clone())),
                    meta: self.meta(),
                    model: None,
                    name: None,
                    tags: Arc::default(),
                }));
            }
        }
    }
}

impl Superstep {
    /// Tells that tasks begin, where that is wanted.
    pub async fn tell_starts(&mut self, tasks: &[Task]) {
        if !self.level.wants_any(task_modes()) {
            return;
        }
        for task in tasks {
            let scope = self.scope_of(task);
            scope.tell(Payload::TaskStart(TaskStart {
                input: task.input.to_value(),
                meta: scope.meta(),
                time: self.level.run.clock.now(),
            }));
            self.pacer.pause().await;
        }
    }

    /// Tells how a task ended: its update, then its end.
    pub fn tell_end(&self, task: &Task, base: &SnapshotRef) {
        let level = &self.level;
        let graph = &level.graph;
        let node = graph.inner.nodes[task.node].name.clone();
        let part = |payload| {
            let task = crate::stream::TaskRef { id: task.id, node: node.clone(), attempt: task.tries };
            level.tell(self.step, Some(task), Some(base.clone()), payload);
        };
        match &task.ended {
            // What it hands over is shown as the parent's.
            Some(Ended::Done(writes)) if writes.has_parent_command() => return,
            Some(Ended::Done(writes)) if level.wants(Mode::Updates) => {
                let (value, cached) = (writes.update(graph), task.cached || writes.cached);
                part(Payload::Update(UpdatePart::Node { node: node.clone(), value, cached }));
            }
            Some(Ended::Asked(questions)) => {
                if level.wants(Mode::Updates) {
                    part(Payload::Update(UpdatePart::Interrupt(questions.as_slice().into())));
                }
                // A breakpoint in a graph within has nothing to ask.
                if !questions.is_empty() {
                    self.tell_values(Some(questions.clone()));
                }
            }
            _ => {}
        }
        let is_cached = task.cached || matches!(&task.ended, Some(Ended::Done(writes)) if writes.cached);
        if is_cached || !level.wants_any(task_modes()) {
            return;
        }
        let scope = self.scope_of(task);
        let (result, error, interrupts) = match &task.ended {
            Some(Ended::Done(writes)) => (writes.result(graph), None, Vec::new()),
            Some(Ended::Asked(q)) => (Value::object(), None, q.clone()),
            Some(Ended::Failed(f)) => match f.share().told() {
                Some(failure) => (Value::object(), Some(failure), Vec::new()),
                None => return,
            },
            Some(Ended::Handled(failure)) => (Value::object(), Some(failure.clone()), Vec::new()),
            None => return,
        };
        scope.tell(Payload::from(TaskEnd {
            meta: scope.meta(),
            result,
            error,
            interrupts,
            time: level.run.clock.now(),
        }));
    }

    /// A scope by which parts of a task are told from outside it.
    fn scope_of(&self, task: &Task) -> TaskScope {
        TaskScope {
            tries: task.tries,
            handles: task.handles.clone(),
            ..TaskScope::new(&self.level, (task.id, Some(task.node), task.path), self.step, self.channels.snapshot())
        }
    }
}

/// A run's input, as the event of its beginning shows it.
pub(super) fn input_value(input: &Input) -> Value {
    match input {
        Input::Values(values) => values.clone(),
        Input::Resume => Value::Null,
        Input::Command(command) => {
            let answer = command.resume.as_ref().map_or(Value::Null, |answer| match answer {
                Answer::One(value) => value.clone(),
                Answer::ById(all) => Value::Object(all.iter().cloned().collect()),
            });
            let goto = match &command.goto[..] {
                [] => Value::Null,
                some => Value::from(some.iter().map(goto_one).collect::<Vec<_>>()),
            };
            value!({
                "graph": null,
                "update": command.update.as_ref().map_or(Value::Null, crate::Update::to_value),
                "resume": answer,
                "goto": goto,
            })
        }
    }
}
