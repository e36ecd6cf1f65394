//! What is inside, as messages of the contract. Small things here; larger ones each in a file.

pub(crate) mod checkpoint;
pub(crate) mod crons;
pub(crate) mod event;
pub(crate) mod message;
pub(crate) mod record;
pub(crate) mod resources;

use std::time::{SystemTime, UNIX_EPOCH};

use runloom::{
    json::NotExact,
    v1::{self, JsonEncoding, RunState, StreamMode},
};
use runloom_engine::{
    NodeFailure,
    stream::{Interrupt, Mode, Modes, TaskRef},
};
use runloom_store::RunStatus;

use crate::json::encode;

/// A time, in whole microseconds: what every store keeps, so that it is the same whenever it is read.
pub(crate) fn timestamp(time: SystemTime) -> prost_types::Timestamp {
    let timestamp = match time.duration_since(UNIX_EPOCH) {
        Ok(after) => prost_types::Timestamp {
            seconds: i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
            // Below 10^9, by `Duration`'s own promise.
            nanos: after.subsec_nanos() as i32,
        },
        Err(_) => prost_types::Timestamp::from(time),
    };
    prost_types::Timestamp { nanos: timestamp.nanos / 1000 * 1000, ..timestamp }
}

/// The segments of a namespace.
pub(crate) fn namespace(joined: &str) -> Vec<String> {
    if joined.is_empty() { Vec::new() } else { joined.split('|').map(str::to_owned).collect() }
}

/// The state of a run.
pub(crate) fn run_state(status: RunStatus) -> RunState {
    match status {
        RunStatus::Pending => RunState::Pending,
        RunStatus::Running => RunState::Running,
        RunStatus::Succeeded => RunState::Succeeded,
        RunStatus::AwaitingInput => RunState::AwaitingInput,
        RunStatus::Failed => RunState::Failed,
        RunStatus::Cancelled => RunState::Cancelled,
        RunStatus::TimedOut => RunState::TimedOut,
    }
}

/// A mode of the contract.
pub(crate) fn stream_mode(mode: Mode) -> StreamMode {
    StreamMode::from_str_name(mode.row().grpc).unwrap_or_default()
}

/// A list of modes, as a message holds it.
pub(crate) fn stream_modes(modes: Modes) -> Vec<i32> {
    modes.iter().map(|mode| stream_mode(mode).into()).collect()
}

/// How a node failed.
pub(crate) fn node_error(failure: &NodeFailure) -> v1::NodeError {
    v1::NodeError { r#type: failure.kind.to_string(), message: failure.message.to_string() }
}

/// A question, with what is known of where it was asked. Without an encoding what it asks is left out.
pub(crate) fn interrupt(
    question: &Interrupt,
    namespace: &[String],
    task: Option<&TaskRef>,
    encoding: Option<JsonEncoding>,
) -> Result<v1::Interrupt, NotExact> {
    let asked_in = question.asked_in.as_deref();
    Ok(v1::Interrupt {
        id: question.id.to_string(),
        value: encoding.map(|encoding| encode(&question.value, encoding)).transpose()?,
        response_schema: match (encoding, &question.response_schema) {
            (Some(encoding), Some(schema)) => Some(encode(schema, encoding)?),
            _ => None,
        },
        // Where it was asked: the question itself knows, unless it is an old one.
        namespace: asked_in.map_or_else(|| namespace.to_vec(), |at| self::namespace(&at.namespace)),
        task_id: asked_in.map(|at| at.task).or(task.map(|task| task.id)).map(|id| id.to_string()).unwrap_or_default(),
        node: asked_in.map(|at| &at.node).or(task.map(|task| &task.node)).map(ToString::to_string).unwrap_or_default(),
    })
}

/// Questions, all of the same task.
pub(crate) fn interrupts(
    questions: &[Interrupt],
    namespace: &[String],
    task: Option<&TaskRef>,
    encoding: Option<JsonEncoding>,
) -> Result<Vec<v1::Interrupt>, NotExact> {
    questions.iter().map(|question| interrupt(question, namespace, task, encoding)).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_before_and_after_1970() {
        for (time, seconds, nanos) in [
            (UNIX_EPOCH + Duration::new(5, 7_999), 5, 7_000),
            (UNIX_EPOCH, 0, 0),
            (UNIX_EPOCH - Duration::from_millis(1500), -2, 500_000_000),
        ] {
            assert_eq!(timestamp(time), prost_types::Timestamp { seconds, nanos });
        }
    }

    #[test]
    fn namespaces_come_apart() {
        assert!(namespace("").is_empty());
        assert_eq!(namespace("a:1|b:2"), ["a:1", "b:2"]);
    }
}
