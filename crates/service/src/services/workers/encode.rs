//! What a worker is sent, as messages.

use runloom::v1::{self, CancelTaskReason, JsonEncoding, attach_response::Message as Out, channel_value, worker_task};
use runloom_engine::Value;
use runloom_workers::{
    Assignment, CancelReason, ChannelState, ChannelValue, HandlerKind, Input, Message, Token, Versions,
};

use super::attach::{duration, until};
use crate::{
    convert::{namespace, stream_modes},
    json::encode,
};

/// How a worker wants its tasks.
#[derive(Clone, Copy)]
pub(super) struct Options {
    pub encoding: JsonEncoding,
    pub caches_state: bool,
}

/// A message to a worker.
pub(super) fn message(message: Message, versions: &mut Versions, options: Options) -> Out {
    match message {
        Message::Task(assignment) => Out::Task(task(*assignment, versions, options)),
        Message::Cancel(token, reason) => Out::Cancel(v1::CancelTask {
            token: bytes(token),
            reason: match reason {
                CancelReason::RunCancelled => CancelTaskReason::RunCancelled,
                CancelReason::TimedOut => CancelTaskReason::TimedOut,
                CancelReason::Fenced => CancelTaskReason::Fenced,
                CancelReason::WorkerLost => CancelTaskReason::WorkerLost,
                CancelReason::StepFailed => CancelTaskReason::StepFailed,
            }
            .into(),
        }),
        Message::Stored(token) => Out::Stored(v1::Stored { token: bytes(token) }),
        Message::Refused(token, message) => Out::Refused(v1::Refused { token: bytes(token), message }),
        Message::Values(token, values) => Out::Values(v1::ChannelValues {
            token: bytes(token),
            values: values
                .into_iter()
                .map(|(channel, value)| v1::ChannelValue {
                    channel: channel.to_string(),
                    version: String::new(),
                    value: Some(channel_value::Value::Whole(json(&value, options))),
                })
                .collect(),
        }),
    }
}

fn bytes(token: Token) -> prost::bytes::Bytes {
    token.to_bytes().to_vec().into()
}

/// The encodings of workers hold every value.
fn json(value: &Value, options: Options) -> v1::Json {
    encode(value, options.encoding).unwrap_or_else(|_| v1::Json::from_text("null".to_owned()))
}

/// The kind on the wire.
pub(super) fn kind(kind: HandlerKind) -> v1::HandlerKind {
    match kind {
        HandlerKind::Node => v1::HandlerKind::Node,
        HandlerKind::Tool => v1::HandlerKind::Tool,
        HandlerKind::Route => v1::HandlerKind::Route,
        HandlerKind::Reducer => v1::HandlerKind::Reducer,
    }
}

fn task(task: Assignment, versions: &mut Versions, options: Options) -> v1::WorkerTask {
    let place = &task.place;
    let state = match &task.state {
        Some(state) if options.caches_state => versions.state(place.thread, &place.namespace, state),
        Some(state) => Versions::whole(state),
        None => Vec::new(),
    };
    let input = match &task.input {
        Input::State => None,
        Input::Send(value) => Some(worker_task::Input::SendInput(json(value, options))),
        Input::Tool { id, name, args } => Some(worker_task::Input::ToolCall(v1::WorkerToolCall {
            id: id.clone(),
            name: name.to_string(),
            args: Some(json(args, options)),
        })),
        Input::Reduction { channel, left, writes } => Some(worker_task::Input::Reduction(v1::Reduction {
            channel: channel.to_string(),
            left: left.as_ref().map(|value| json(value, options)),
            writes: writes.iter().map(|value| json(value, options)).collect(),
        })),
    };
    v1::WorkerTask {
        token: bytes(task.token),
        handler: task.lane.1.to_string(),
        kind: kind(task.lane.0).into(),
        task_id: place.task.to_string(),
        run_id: place.run.to_string(),
        thread_id: place.thread.map(|thread| thread.to_string()).unwrap_or_default(),
        graph_name: place.graph.to_string(),
        node: place.node.to_string(),
        namespace: namespace(&place.namespace),
        step: i32::try_from(place.step).unwrap_or(i32::MAX),
        attempt: place.attempt,
        r#try: place.tries,
        state: state.into_iter().map(|channel| channel_value(channel, options)).collect(),
        input,
        config: Some(json(&task.config, options)),
        context: (!task.context.is_null()).then(|| json(&task.context, options)),
        answers: task.answers.iter().map(|answer| json(answer, options)).collect(),
        heartbeat_details: task.details.as_ref().map(|details| json(details, options)),
        time_limit: task.deadline.map(|deadline| duration(until(deadline.into_std()))),
        trace_context: task
            .trace
            .iter()
            .filter_map(|(name, value)| Some((name.to_string(), value.as_str()?.to_owned())))
            .collect(),
        item_token: String::new(),
        emit_modes: stream_modes(task.modes),
        remaining_steps: task.remaining_steps,
        error: task.error.map(|error| v1::HandledFailure {
            node: error.node.to_string(),
            r#type: error.failure.kind.to_string(),
            message: error.failure.message.to_string(),
        }),
    }
}

fn channel_value(channel: ChannelState, options: Options) -> v1::ChannelValue {
    let value = match channel.value {
        ChannelValue::Whole(value) => channel_value::Value::Whole(json(&value, options)),
        ChannelValue::Unchanged => channel_value::Value::Unchanged(v1::Unchanged {}),
        ChannelValue::Appended { base, keep, items } => channel_value::Value::Appended(v1::Appended {
            base,
            keep: keep as u64,
            items: Some(json(&Value::List(items), options)),
        }),
    };
    v1::ChannelValue { channel: channel.channel.to_string(), version: channel.version, value: Some(value) }
}
