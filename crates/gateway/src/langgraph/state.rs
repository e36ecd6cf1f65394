//! States and checkpoints as LangGraph shows them.

use runloom_engine::{
    NodeFailure, Object, RunId, Value,
    checkpoint::{CheckpointConfig, CheckpointView, TaskView},
    stream::{Event, EventKind, Interrupt},
    value,
};

use super::iso;

/// `{thread_id, checkpoint_ns, checkpoint_id}`, with the map of parents for a subgraph's.
fn checkpoint(at: &CheckpointConfig, parents: &Object) -> Value {
    let mut o = Object::default();
    o.insert("thread_id", at.thread.map_or(Value::Null, |t| t.to_string().into()));
    o.insert("checkpoint_ns", &at.ns);
    if let Some(id) = at.id {
        o.insert("checkpoint_id", id.to_string());
        if !at.ns.is_empty() {
            let mut map = parents.clone();
            map.insert(at.ns.clone(), id.to_string());
            o.insert("checkpoint_map", map);
        }
    }
    Value::Object(o)
}

/// Open questions, each `{value, id}`.
pub fn interrupts(all: &[Interrupt]) -> Value {
    all.iter().map(Interrupt::to_value).collect::<Vec<_>>().into()
}

/// A thread's state, as `get_state` and the history give it.
pub fn state(view: &CheckpointView) -> Value {
    let at = |c: &Option<CheckpointConfig>| c.as_ref().map_or(Value::Null, |c| checkpoint(c, &view.parents));
    let id = |c: &Option<CheckpointConfig>| Value::from(c.as_ref().and_then(|c| c.id).map(|id| id.to_string()));
    let mut o = Object::default();
    o.insert("values", view.values_object());
    o.insert("next", view.next.iter().map(Value::from).collect::<Vec<_>>());
    o.insert("tasks", view.tasks.iter().map(task).collect::<Vec<_>>());
    o.insert("metadata", metadata(view));
    o.insert("created_at", view.created_at.map_or(Value::Null, |t| iso(t).into()));
    o.insert("checkpoint", at(&view.config));
    o.insert("parent_checkpoint", at(&view.parent));
    o.insert("interrupts", interrupts(&view.interrupts().cloned().collect::<Vec<_>>()));
    o.insert("checkpoint_id", id(&view.config));
    o.insert("parent_checkpoint_id", id(&view.parent));
    Value::Object(o)
}

/// A thread's history, newest first.
///
/// LangGraph's server does not see a join that came together once it reads it back: a step of the past that it led to is
/// shown as if nothing had followed. That is shown alike; the latest state, from which runs go on, is shown as it is.
pub fn history(views: &[CheckpointView]) -> Vec<Value> {
    let mut all = Vec::with_capacity(views.len());
    for (i, view) in views.iter().enumerate() {
        let is_past = i > 0 && view.tasks.iter().any(|t| t.by_join);
        if is_past {
            let tasks: Vec<TaskView> = view.tasks.iter().filter(|t| !t.by_join).cloned().collect();
            let next = tasks.iter().map(|t| t.name.clone()).collect();
            all.push(state(&CheckpointView { tasks, next, ..view.clone() }));
        } else {
            all.push(state(view));
        }
    }
    all
}

/// The namespace of the outermost subgraph on the way to a namespace: `child:T` of `child:T|say:S`. A number after it tells
/// it from others of the same task.
pub(super) fn outermost(ns: &str) -> &str {
    let mut ends = ns.match_indices('|').map(|(at, _)| at).chain([ns.len()]);
    let first = ends.next().unwrap_or(ns.len());
    match ends.next() {
        Some(second) if second > first + 1 && ns[first + 1..second].bytes().all(|b| b.is_ascii_digit()) => {
            &ns[..second]
        }
        _ => &ns[..first],
    }
}

fn metadata(view: &CheckpointView) -> Value {
    // A thread that never ran has none.
    if view.config.is_none() {
        return Value::Null;
    }
    let mut metadata = view.metadata.clone();
    if let Some(source) = view.source {
        metadata.insert("source", source.name());
        metadata.insert("step", view.step);
        metadata.insert("parents", view.parents.clone());
    }
    if let (Some(at), false) = (&view.config, view.parents.is_empty()) {
        // One that keeps its own state is known by the task in which it ran last.
        let ns = match outermost(&at.ns) {
            node if node.contains(':') => node.to_owned(),
            node => {
                let ran = view.metadata.get_str("langgraph_checkpoint_ns").map(outermost);
                ran.filter(|ran| ran.split(':').next() == Some(node)).unwrap_or(node).to_owned()
            }
        };
        metadata.insert("checkpoint_ns", ns);
        metadata.insert("checkpoint_map", view.parents.clone());
    }
    Value::Object(metadata)
}

/// An error as Python's `repr` shows it: `ValueError('…')`.
pub(super) fn repr(failure: &NodeFailure) -> String {
    // Of a cancelled task LangGraph has no more to say.
    let message = if &*failure.kind == "CancelledError" { String::new() } else { format!("'{}'", failure.message) };
    format!("{}({message})", failure.kind)
}

/// What the event of a failure says of it: of a tool its type and message, and the call it answers.
pub(super) fn add_error(data: &mut Object, event: &Event, error: &NodeFailure) {
    if event.kind == EventKind::ToolError {
        data.insert("error", value!({"error": error.kind.to_string(), "message": error.message.to_string()}));
        data.insert("tool_call_id", event.data.tool_call.as_ref().map_or(Value::Null, Value::from));
    } else {
        data.insert("error", repr(error));
    }
}

fn task(task: &TaskView) -> Value {
    let mut o = Object::default();
    o.insert("id", task.id.to_string());
    o.insert("name", &task.name);
    o.insert("path", task.path.clone());
    o.insert("error", task.error.as_ref().map_or(Value::Null, |e| repr(e).into()));
    o.insert("interrupts", interrupts(&task.interrupts));
    let place = task.checkpoint.as_ref().map_or(Value::Null, |c| checkpoint(c, &Object::default()));
    o.insert("checkpoint", if task.state.is_some() { Value::Null } else { place });
    o.insert("state", task.state.as_ref().map_or(Value::Null, |s| state(s)));
    o.insert("result", task.result.clone().unwrap_or_default());
    Value::Object(o)
}

/// A checkpoint as mode `checkpoints` streams it. `configurable` is the run's own, which the server adds.
pub(super) fn streamed(view: &CheckpointView, run: RunId, configurable: &Object) -> Object {
    let config = |c: &Option<CheckpointConfig>| match c {
        None => Value::Null,
        Some(c) => {
            let mut all = configurable.clone();
            if let Value::Object(place) = checkpoint(c, &view.parents) {
                place.iter().for_each(|(k, v)| all.insert(k.clone(), v.clone()));
            }
            Value::Object([("configurable", all)].into_iter().collect())
        }
    };
    // One that an earlier run left comes with what is kept with it; a new one is told before it is kept.
    let meta = if view.run_id == Some(run) {
        value!({"source": view.source.map(|s| s.name().to_owned()), "step": view.step, "parents": view.parents.clone()})
    } else {
        metadata(view)
    };
    let tasks = view.tasks.iter().map(|t| {
        let mut o = Object::default();
        o.insert("id", t.id.to_string());
        o.insert("name", &t.name);
        if let Some(error) = &t.error {
            o.insert("error", repr(error));
        } else {
            if let Some(result) = &t.result {
                o.insert("result", result.clone());
            }
            o.insert("interrupts", interrupts(&t.interrupts));
        }
        let place = |c: &CheckpointConfig| {
            value!({"configurable": {}}).as_object().cloned().map(|mut o| {
                o.insert("configurable", checkpoint(c, &Object::default()));
                Value::Object(o)
            })
        };
        o.insert("state", t.checkpoint.as_ref().and_then(place).unwrap_or_default());
        Value::Object(o)
    });
    let mut o = Object::default();
    o.insert("config", config(&view.config));
    o.insert("metadata", meta);
    o.insert("values", view.values_object());
    o.insert("next", view.next.iter().map(Value::from).collect::<Vec<_>>());
    o.insert("parent_config", config(&view.parent));
    o.insert("tasks", tasks.collect::<Vec<_>>());
    o
}

/// The same with the places of the checkpoint and its parent, as mode `debug` has them.
pub(super) fn with_places(mut o: Object, view: &CheckpointView) -> Object {
    let at = |c: &Option<CheckpointConfig>| c.as_ref().map_or(Value::Null, |c| checkpoint(c, &view.parents));
    o.insert("checkpoint", at(&view.config));
    o.insert("parent_checkpoint", at(&view.parent));
    if let Some(Value::List(shown)) = o.get("tasks") {
        let with_place = |(task, t): (&Value, &TaskView)| {
            let mut task = task.as_object().cloned().unwrap_or_default();
            if let Some(at) = &t.checkpoint {
                task.insert("checkpoint", checkpoint(at, &Object::default()));
                task.remove("state");
            }
            Value::Object(task)
        };
        let tasks: Vec<Value> = shown.iter().zip(&view.tasks).map(with_place).collect();
        o.insert("tasks", tasks);
    }
    o
}
