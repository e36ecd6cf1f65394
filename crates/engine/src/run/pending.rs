//! What commands brought to a checkpoint that no step has taken up yet: a record for each, applied in their order.

use uuid::Uuid;

use super::writes::TaskWrites;
use crate::{
    Graph, RunId, START, TaskId,
    checkpoint::{Outcome, TaskRecord},
};

/// How many commands a checkpoint may have: their ids are small numbers, the ids of tasks are hashes.
const MOST: u128 = 1 << 32;

/// Whether the record is of what a command brought, and of no task.
pub(super) fn is_command(record: &TaskRecord) -> bool {
    record.task.0.as_u128() < MOST
}

/// The records of commands, in the order in which they came.
fn in_order(records: &[TaskRecord]) -> Vec<&TaskRecord> {
    let mut commands: Vec<_> = records.iter().filter(|r| is_command(r)).collect();
    commands.sort_unstable_by_key(|r| r.task.0);
    commands
}

/// What each command wrote, in the order in which they came.
pub(super) fn writes(graph: &Graph, records: &[TaskRecord]) -> Vec<TaskWrites> {
    let kept = in_order(records).into_iter().filter_map(|r| match &r.outcome {
        Some(Outcome::Done(kept)) => Some(TaskWrites::restore(graph, None, kept)),
        _ => None,
    });
    kept.collect()
}

/// The record of one command more: none where an earlier attempt at the run has left it.
pub(super) fn record(graph: &Graph, run: RunId, brought: &TaskWrites, records: &[TaskRecord]) -> Option<TaskRecord> {
    let before = in_order(records);
    if before.iter().any(|r| r.answered_by == Some(run)) {
        return None;
    }
    let number = before.last().map_or(0, |r| r.task.0.as_u128() + 1);
    Some(TaskRecord {
        task: TaskId(Uuid::from_u128(number)),
        node: START.into(),
        outcome: Some(Outcome::Done(brought.save(graph))),
        interrupts: Vec::new(),
        answers: Vec::new(),
        answered_by: Some(run),
        tries: 0,
        graphs: 0,
    })
}
