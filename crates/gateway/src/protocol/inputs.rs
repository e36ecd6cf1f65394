//! Answers to interrupts, and messages put into a state.

use std::time::Duration;

use runloom_core::{Reason, StateQuery, StateUpdateRequest};
use runloom_engine::{Object, StateUpdate, ThreadId, Value};

use super::commands::{Answer, Refused, active, begin, copy, run_of};
use crate::face::{Api, Fields};

/// How long an answer waits for the run that asked to reach its end.
const ENDING: Duration = Duration::from_secs(10);

/// How long an input waits for a run with an open interrupt: one that has asked ends at once, one that was resumed goes on.
const ASKING: Duration = Duration::from_secs(1);

/// The ids of the interrupts that a thread waits on.
async fn open_interrupts(api: &Api, thread: ThreadId) -> Result<Vec<String>, Refused> {
    let query = StateQuery { subgraphs: true, ..StateQuery::latest(thread) };
    match api.core.get_state(query).await {
        Ok(view) => Ok(view.interrupts().map(|i| i.id.to_string()).collect()),
        Err(error) if error.reason == Reason::ThreadNotFound => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// Whether a thread waits for an answer. A client may answer as soon as it has received the interrupt, before the run that asked has quite ended.
pub(super) async fn is_waiting(api: &Api, thread: ThreadId) -> Result<bool, Refused> {
    let is_open = !open_interrupts(api, thread).await?.is_empty();
    match active(api, thread).await? {
        None => Ok(is_open),
        Some(run) if is_open => {
            let _ = tokio::time::timeout(ASKING, api.core.wait_run(run.id)).await;
            Ok(active(api, thread).await?.is_none() && !open_interrupts(api, thread).await?.is_empty())
        }
        Some(_) => Ok(false),
    }
}

/// `input.respond`: answers one interrupt, or several at once, with an update and a place to go on beside.
pub(super) async fn respond(api: &Api, thread: ThreadId, params: &Fields<'_>) -> Answer {
    let invalid = |what: &str| Refused::new("invalid_argument", what);
    let mut answers = Object::default();
    let needs = "input.respond requires an interrupt_id and a response, or a list of responses.";
    match params.list("responses")? {
        Some(all) => {
            for one in all.iter() {
                let id = one.get_str("interrupt_id").ok_or_else(|| invalid(needs))?;
                answers.insert(id, one.get("response").cloned().unwrap_or_default());
            }
        }
        None => {
            let id = params.text("interrupt_id")?.ok_or_else(|| invalid(needs))?;
            answers.insert(id, params.value("response").cloned().unwrap_or_default());
        }
    }
    if answers.is_empty() {
        return Err(invalid(needs));
    }
    if let Some(unknown) = unknown(api, thread, &answers).await? {
        let what = format!("Unknown or already-consumed interrupt: {unknown}");
        return Err(Refused::new("no_such_interrupt", what));
    }
    let mut command = object! { "resume" => answers };
    copy(params, "update", "update", &mut command);
    copy(params, "goto", "goto", &mut command);
    let mut body = object! { "command" => command, "assistant_id" => assistant(api, thread).await? };
    copy(params, "config", "config", &mut body);
    copy(params, "metadata", "metadata", &mut body);
    copy(params, "strict_resume", "strict_resume", &mut body);
    begin(api, thread, body).await?;
    Ok(Object::default())
}

/// The first of some interrupts that is not open. A client may answer before the run that asked has quite ended.
async fn unknown(api: &Api, thread: ThreadId, answers: &Object) -> Result<Option<String>, Refused> {
    let missing =
        |open: &[String]| answers.keys().find(|id| !open.iter().any(|o| **o == ***id)).map(|id| id.to_string());
    let lacks = missing(&open_interrupts(api, thread).await?);
    let (Some(_), Some(run)) = (&lacks, active(api, thread).await?) else { return Ok(lacks) };
    if let Ok(Err(error)) = tokio::time::timeout(ENDING, api.core.wait_run(run.id)).await {
        tracing::debug!(run = %run.id, %error, "an answer does not wait for the run any longer");
    }
    Ok(missing(&open_interrupts(api, thread).await?))
}

/// The assistant of a thread's last run.
pub(super) async fn assistant(api: &Api, thread: ThreadId) -> Result<Value, Refused> {
    let run = run_of(api, thread, None).await?;
    Ok(run.assistant.map_or_else(|| Value::from(run.graph.as_str()), |id| id.to_string().into()))
}

/// `input.inject`: appends a message to the state, between runs.
pub(super) async fn inject(api: &Api, thread: ThreadId, params: &Fields<'_>) -> Answer {
    let Some(message) = params.object("message")? else {
        return Err(Refused::new("invalid_argument", "input.inject requires a message."));
    };
    let values = object! { "messages" => vec![Value::Object(message.clone())] };
    let request = StateUpdateRequest {
        thread,
        checkpoint_id: None,
        namespace: super::states::namespace(params)?,
        updates: vec![StateUpdate { values: Some(values.into()), as_node: None }],
        expected_checkpoint_id: None,
        graph: None,
    };
    api.core.update_state(request).await?;
    Ok(Object::default())
}
