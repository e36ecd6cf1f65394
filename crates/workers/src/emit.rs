//! Parts that a worker sends, as parts of the run's stream.

use std::{sync::Arc, time::SystemTime};

use runloom_engine::{
    ChunkSource, Context, NestedEvent, NodeFailure, Object, TaskId, Value,
    stream::{
        Interrupt, MessagePart, Mode, Payload, Snapshot, TaskEnd, TaskMeta, TaskRef, TaskStart, UpdatePart, ValuesPart,
    },
};

use crate::types::{Event, Part};

/// Sends a part that a worker sent.
pub(crate) fn apply(cx: &Context, part: Part) {
    match part {
        Part::Custom(value) => cx.emit(value),
        Part::Chunk { chunk, model, tags, namespace } if namespace.is_empty() => {
            cx.chunk(chunk, &ChunkSource { model: None, name: model, tags });
        }
        Part::Chunk { chunk, model, tags, namespace } => {
            let meta = meta_of(cx, &namespace);
            let part = MessagePart { chunk, meta, model: None, name: model, tags };
            cx.nested_part(&namespace, Mode::Messages, Payload::Message(part));
        }
        Part::Event(event) => {
            let Event { kind, name, id, parents, tags, metadata, data } = *event;
            cx.event_elsewhere(NestedEvent { kind, name, id, parents, tags, metadata, data });
        }
        Part::Nested { namespace, mode, payload } => nested(cx, &namespace, mode, payload),
    }
}

/// What the parts of the innermost task of a namespace share.
fn meta_of(cx: &Context, namespace: &str) -> Arc<TaskMeta> {
    let outer = cx.task_meta();
    let innermost = namespace.rsplit('|').find_map(|segment| segment.split_once(':'));
    let task = innermost.and_then(|(node, id)| Some(TaskRef { id: id.parse().ok()?, node: node.into(), attempt: 1 }));
    let checkpoint_ns = format!("{}|{namespace}", outer.checkpoint_ns).into();
    Arc::new(TaskMeta { task: task.or_else(|| outer.task.clone()), checkpoint_ns, ..(*outer).clone() })
}

/// A part of a graph that runs inside the task, in LangGraph's form. One that does not have it is left out.
fn nested(cx: &Context, namespace: &str, mode: Mode, payload: Value) {
    let send = |payload| cx.nested_part(namespace, mode, payload);
    match (mode, payload) {
        (Mode::Custom, payload) => send(Payload::Custom(payload)),
        (Mode::Updates, Value::Object(updates)) => {
            for (node, value) in updates.iter().filter(|(name, _)| &***name != "__metadata__") {
                send(Payload::Update(match &**node {
                    "__interrupt__" => UpdatePart::Interrupt(interrupts(value).into()),
                    _ => UpdatePart::Node { node: node.clone(), value: value.clone(), cached: false },
                }));
            }
        }
        (Mode::Values, Value::Object(mut fields)) => {
            let asked = fields.remove("__interrupt__").map(|value| interrupts(&value).into());
            let names: Arc<[Arc<str>]> = fields.keys().cloned().collect();
            let values = fields.iter().map(|(_, value)| Some(value.clone())).collect();
            let snapshot = Arc::new(Snapshot { checkpoint: None, names: names.clone(), values });
            send(Payload::Values(ValuesPart { snapshot, output: names, interrupts: asked }));
        }
        (Mode::Tasks, Value::Object(fields)) => {
            if let Some(payload) = task(cx, namespace, &fields) {
                send(payload);
            }
        }
        _ => {}
    }
}

fn interrupts(value: &Value) -> Vec<Interrupt> {
    let one = |value: &Value| {
        Some(Interrupt {
            id: value.get_str("id")?.into(),
            value: value.get("value").cloned().unwrap_or_default(),
            asked_in: None,
            response_schema: value.get("response_schema").cloned(),
        })
    };
    value.as_list().into_iter().flat_map(|list| list.iter()).filter_map(one).collect()
}

/// The start or the end of a task: `{id, name, input, triggers}` or `{id, name, error, interrupts, result}`.
fn task(cx: &Context, namespace: &str, fields: &Object) -> Option<Payload> {
    let text = |key: &str| fields.get(key).and_then(Value::as_str);
    let id: TaskId = text("id")?.parse().ok()?;
    let node: Arc<str> = text("name")?.into();
    let inner = if namespace.is_empty() { format!("{node}:{id}") } else { format!("{namespace}|{node}:{id}") };
    let triggers = fields.get("triggers").and_then(Value::as_list);
    let triggers = triggers.into_iter().flat_map(|list| list.iter()).filter_map(|t| Some(Arc::from(t.as_str()?)));
    let meta = Arc::new(TaskMeta { triggers: triggers.collect(), path: Value::Null, ..(*meta_of(cx, &inner)).clone() });
    let time = SystemTime::now();
    if !fields.contains_key("result") && !fields.contains_key("error") {
        let input = fields.get("input").cloned().unwrap_or_default();
        return Some(Payload::TaskStart(TaskStart { input, meta, time }));
    }
    let error = fields.get("error").filter(|error| !error.is_null()).map(|error| match error.as_str() {
        Some(text) => NodeFailure::new("Error", text),
        None => NodeFailure::new(
            error.get_str("type").or_else(|| error.get_str("error")).unwrap_or("Error"),
            error.get_str("message").unwrap_or_default(),
        ),
    });
    Some(Payload::from(TaskEnd {
        meta,
        result: fields.get("result").cloned().unwrap_or_else(Value::object),
        error,
        interrupts: fields.get("interrupts").map(interrupts).unwrap_or_default(),
        time,
    }))
}
