//! Cancelling runs, one or many.

use http::StatusCode;
use runloom_core::{
    Reason,
    store::{CancelAction, PageRequest, Run, RunFilter, RunStatus},
};
use runloom_engine::{RunId, ThreadId, Value};

use super::find;
use crate::{
    face::{Api, Call, Fail, Reply, empty, until_told, uuid, with_location},
    langgraph::{CANCEL_CALL, CANCEL_MANY},
};

fn action(call: &Call) -> Result<CancelAction, Fail> {
    match call.query("action") {
        None | Some("interrupt") => Ok(CancelAction::Interrupt),
        Some("rollback") => Ok(CancelAction::Rollback),
        Some(other) => Err(Fail::invalid(format!("action: must be interrupt or rollback, not `{other}`"))),
    }
}

fn none_to_cancel() -> Fail {
    Fail::not_found(
        "No matching runs to cancel. Please verify the thread ID and run IDs are correct, and the runs haven't been \
         deleted or completed.",
    )
}

/// Cancels a run; with `wait`, answers when it is over.
pub(crate) async fn cancel(api: Api, call: Call) -> Reply {
    let (thread, id) = (call.thread()?, call.run()?);
    let (action, wait) = (action(&call)?, call.query_flag("wait")?);
    let run = find(&api, thread, id).await?;
    if run.status.is_end() {
        return Err(none_to_cancel());
    }
    api.core.cancel_run(id, action, CANCEL_CALL.into(), false).await?;
    if !wait {
        return Ok(empty(StatusCode::ACCEPTED));
    }
    let core = api.core.clone();
    let ended = async move {
        // One that was taken back is not there any more, which is what was asked for.
        if let Err(error) = core.wait_run(id).await
            && error.reason != Reason::RunNotFound
        {
            tracing::debug!(run = %id, %error, "the end of a cancelled run was not seen");
        }
        Some(Value::object())
    };
    Ok(with_location(until_told(ended, api.options.heartbeat), thread, id, "join"))
}

/// Cancels runs of a thread, or all that are in a state.
pub(crate) async fn cancel_many(api: Api, call: Call) -> Reply {
    let action = action(&call)?;
    let fields = call.fields()?;
    let status = fields.word("status", &["pending", "running", "all"])?;
    let thread = fields.uuid("thread_id", "thread ID")?.map(ThreadId);
    let ids = fields.texts("run_ids")?;
    let runs = match (status, thread, ids) {
        (Some(_), Some(_), _) | (Some(_), _, Some(_)) => {
            return Err(Fail::invalid(
                "When providing a 'status', 'thread_id' and 'run_ids' must be omitted. The 'status' parameter cancels all \
                 runs with the given status, regardless of thread or run ID.",
            ));
        }
        (Some(status), None, None) => {
            let status = match status {
                "pending" => vec![RunStatus::Pending],
                "running" => vec![RunStatus::Running],
                _ => RunStatus::UNFINISHED.to_vec(),
            };
            unfinished(&api, status).await?
        }
        (None, Some(thread), Some(ids)) => {
            let mut runs = Vec::new();
            for id in ids {
                let run = find(&api, thread, RunId(uuid(&id, "run ID")?)).await?;
                runs.extend((!run.status.is_end()).then_some(run));
            }
            runs
        }
        (None, ..) => {
            return Err(Fail::invalid("Must provide either a 'status', or both 'thread_id' and 'run_ids'."));
        }
    };
    if runs.is_empty() {
        return Err(none_to_cancel());
    }
    for run in runs {
        match api.core.cancel_run(run.id, action, CANCEL_MANY.into(), false).await {
            Ok(_) => {}
            Err(error) if error.reason == Reason::RunNotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(empty(StatusCode::NO_CONTENT))
}

async fn unfinished(api: &Api, status: Vec<RunStatus>) -> Result<Vec<Run>, Fail> {
    let filter = RunFilter { status, ..RunFilter::default() };
    let (mut runs, mut page) = (Vec::new(), PageRequest::first(1000));
    loop {
        let found = api.core.list_runs(filter.clone(), page).await?;
        runs.extend(found.items);
        match found.next {
            Some(token) => page = PageRequest::after(1000, token),
            None => return Ok(runs),
        }
    }
}
