//! The channels that a subgraph shares with its parent by name: what it is given, and what it writes back.

use super::{channels::Channels, superstep::Superstep, task::Ended, task::Task, writes::TaskWrite};
use crate::{
    Command, Error, Graph, Object, StateView, ThreadId, Update, Value,
    channel::Reducer,
    checkpoint::{CheckpointFilter, Checkpointer},
    overwrite,
    stream::SnapshotRef,
    value,
};

/// The fields of the state that the graph takes.
pub(super) fn input(graph: &Graph, state: &StateView) -> Value {
    if let StateView::Input(input) = state {
        return input.clone();
    }
    let fields = graph.input_channels().filter_map(|c| Some((c.name.clone(), state.get(&c.name)?.clone())));
    Value::Object(fields.collect())
}

/// What the graph changed of the channels that its parent has too, from the state after its input to the state at its
/// end. A channel that it only read is not written back, so that it does not collide with what a sibling writes.
pub(super) fn changes(parent: &Graph, graph: &Graph, entered: &SnapshotRef, left: &SnapshotRef) -> Update {
    let mut update = Update::new();
    for channel in &graph.inner.output {
        let name = &graph.inner.names[*channel];
        let (Some(to), Some(after)) = (parent.inner.channel_ids.get(name), &left.values[*channel]) else { continue };
        let change = match &entered.values[*channel] {
            None => Some(after.clone()),
            Some(before) if before == after => None,
            Some(before) => {
                let (to, own) = (&parent.inner.channels[*to].reducer, &graph.inner.channels[*channel].reducer);
                Some(change(to, own, before, after))
            }
        };
        update.writes.extend(change.map(|value| (name.clone(), value)));
    }
    update
}

/// The write that takes the parent's channel from `before` to `after`, where its reducer allows that; else `after`. Lists
/// are written back whole, as LangGraph does and its clients expect: the conformance scenarios require it.
fn change(parent: &Reducer, own: &Reducer, before: &Value, after: &Value) -> Value {
    match (parent, before, after) {
        (Reducer::Add, ..) if matches!(own, Reducer::Add) => difference(before, after).unwrap_or_else(|| after.clone()),
        (Reducer::Merge, Value::Object(before), Value::Object(fields)) => {
            if matches!(own, Reducer::Merge) && before.keys().any(|key| !fields.contains_key(key)) {
                return overwrite(after.clone());
            }
            let changed: Object = fields
                .iter()
                .filter(|(key, value)| before.get(key) != Some(value))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect();
            Value::Object(changed)
        }
        _ => after.clone(),
    }
}

fn difference(before: &Value, after: &Value) -> Option<Value> {
    let whole = |v: &Value| match v {
        Value::Int(i) => Some(i128::from(*i)),
        Value::UInt(u) => Some(i128::from(*u)),
        _ => None,
    };
    match (whole(before), whole(after)) {
        (Some(a), Some(b)) => i64::try_from(b - a).ok().map(Value::Int),
        _ => Some(Value::from(after.as_f64()? - before.as_f64()?)),
    }
}

/// The state of a graph after it took its input, for one that went on from a stop: from the checkpoint of its latest
/// input, or from the input it is given now where that checkpoint was not stored.
pub(super) async fn entered(
    graph: &Graph,
    saver: Option<(&dyn Checkpointer, ThreadId)>,
    ns: &str,
    given: &Value,
) -> Result<SnapshotRef, Error> {
    let stored = match saver {
        Some((saver, thread)) => {
            let metadata = match value!({"source": "input"}) {
                Value::Object(fields) => fields,
                _ => Object::default(),
            };
            let filter = CheckpointFilter { before: None, metadata, limit: Some(1) };
            let found = saver.list(thread, ns, filter).await;
            found.map_err(|error| Error::Checkpointer { graph: graph.name().to_string(), error })?.pop()
        }
        None => None,
    };
    let (mut channels, input) = match &stored {
        Some(saved) => {
            let input = saved.checkpoint.control.input.as_ref().unwrap_or(given);
            (Channels::restore(graph, &saved.checkpoint), input)
        }
        None => (Channels::start(graph), given),
    };
    channels.apply(graph, &super::superstep::input_writes(graph, input).refs())?;
    Ok(channels.snapshot().clone())
}

impl Superstep {
    /// What the tasks of a step hand to the parent graph, in the order of the tasks, where any of them sent it a command:
    /// the commands, and what siblings wrote to channels that the two graphs share.
    pub(super) fn handed_over(&self, tasks: &[Task]) -> Option<Vec<Command>> {
        let done = |task: &&Task| matches!(&task.ended, Some(Ended::Done(writes)) if writes.has_parent_command());
        if !tasks.iter().any(|task| done(&task)) {
            return None;
        }
        let mut tasks: Vec<&Task> = tasks.iter().collect();
        tasks.sort_by_key(|task| task.path);
        let inner = &self.level.graph.inner;
        let parent = self.level.above.as_ref().filter(|_| self.level.shares).map(|task| &task.level.graph.inner);
        let mut commands: Vec<Command> = Vec::new();
        for task in tasks {
            let Some(Ended::Done(writes)) = &task.ended else { continue };
            let mut update = Update::new();
            for write in &writes.list {
                match write {
                    TaskWrite::Channel(c, value) if inner.is_output[*c] => {
                        let name = &inner.names[*c];
                        if parent.is_some_and(|parent| parent.channel_ids.contains_key(name)) {
                            update.writes.push((name.clone(), value.clone()));
                        }
                    }
                    TaskWrite::Parent(command) => {
                        if !update.writes.is_empty() {
                            let update = Some(std::mem::take(&mut update));
                            commands.push(Command { update, ..Command::default() });
                        }
                        commands.push((**command).clone());
                    }
                    _ => {}
                }
            }
            if !update.writes.is_empty() {
                commands.push(Command { update: Some(update), ..Command::default() });
            }
        }
        Some(commands)
    }
}
