//! Checkpoints, as GetState, ListCheckpoints and the stream show them alike.

use runloom::{
    json::NotExact,
    v1::{self, CheckpointRef, JsonEncoding},
};
use runloom_engine::{
    checkpoint::{CheckpointConfig, CheckpointView, Source, TaskView},
    stream::TaskRef,
};

use super::{interrupts, namespace, node_error, timestamp};
use crate::json::{encode, encode_object};

/// A checkpoint. Without an encoding its data is left out; `values` says whether its state and the results
/// of its tasks are wanted.
pub(crate) fn checkpoint(
    view: &CheckpointView,
    values: bool,
    encoding: Option<JsonEncoding>,
) -> Result<v1::Checkpoint, NotExact> {
    let at = view.config.as_ref();
    let segments = at.map(|at| namespace(&at.ns)).unwrap_or_default();
    let mut out = v1::Checkpoint {
        checkpoint_id: at.and_then(|at| at.id).map(|id| id.to_string()).unwrap_or_default(),
        thread_id: at.and_then(|at| at.thread).map(|id| id.to_string()).unwrap_or_default(),
        parent_checkpoint_id: view.parent.as_ref().and_then(|p| p.id).map(|id| id.to_string()).unwrap_or_default(),
        create_time: view.created_at.map(timestamp),
        source: view.source.map(source).unwrap_or_default().into(),
        step: step(view.step),
        run_id: view.run_id.map(|id| id.to_string()).unwrap_or_default(),
        next: view.next.iter().map(ToString::to_string).collect(),
        ..v1::Checkpoint::default()
    };
    for view in &view.tasks {
        let task = task(view, &segments, values, encoding)?;
        out.interrupts.extend(task.interrupts.iter().cloned());
        out.tasks.push(task);
    }
    out.namespace = segments;
    if let Some(encoding) = encoding {
        if values {
            out.values = Some(encode_object(&view.values_object(), encoding)?);
        }
        if !view.metadata.is_empty() {
            out.metadata = Some(encode_object(&view.metadata, encoding)?);
        }
    }
    Ok(out)
}

fn task(
    view: &TaskView,
    segments: &[String],
    values: bool,
    encoding: Option<JsonEncoding>,
) -> Result<v1::CheckpointTask, NotExact> {
    let named = TaskRef { id: view.id, node: view.name.clone(), attempt: 0 };
    let result =
        view.result.as_ref().filter(|_| values).zip(encoding).map(|(result, encoding)| encode(result, encoding));
    let inner = view.state.as_ref().and_then(|state| state.config.as_ref()).or(view.checkpoint.as_ref());
    Ok(v1::CheckpointTask {
        task_id: view.id.to_string(),
        node: view.name.to_string(),
        error: view.error.as_ref().map(node_error),
        interrupts: interrupts(&view.interrupts, segments, Some(&named), encoding)?,
        result: result.transpose()?,
        subgraph_checkpoint: inner.map(reference),
        waiting_for: String::new(),
    })
}

/// The checkpoints of the subgraphs that a checkpoint's tasks are in, outer ones first.
pub(crate) fn subgraphs(view: &CheckpointView, encoding: JsonEncoding) -> Result<Vec<v1::Checkpoint>, NotExact> {
    let mut level: Vec<&CheckpointView> = view.tasks.iter().filter_map(|task| task.state.as_deref()).collect();
    let mut all = Vec::new();
    while !level.is_empty() {
        for view in &level {
            all.push(checkpoint(view, true, Some(encoding))?);
        }
        level = level.into_iter().flat_map(|view| view.tasks.iter().filter_map(|task| task.state.as_deref())).collect();
    }
    Ok(all)
}

/// Where a checkpoint is.
pub(crate) fn reference(at: &CheckpointConfig) -> CheckpointRef {
    CheckpointRef { checkpoint_id: at.id.map(|id| id.to_string()).unwrap_or_default(), namespace: namespace(&at.ns) }
}

fn source(source: Source) -> v1::CheckpointSource {
    match source {
        Source::Input => v1::CheckpointSource::Input,
        Source::Loop => v1::CheckpointSource::Loop,
        Source::Update => v1::CheckpointSource::Update,
        Source::Fork => v1::CheckpointSource::Fork,
    }
}

/// A step, which no run takes 2^31 of.
pub(crate) fn step(step: i64) -> i32 {
    i32::try_from(step).unwrap_or(i32::MAX)
}
