//! Runs that are there: read, listed, joined, deleted.

use http::StatusCode;
use runloom_core::{
    Reason, RunSpec,
    store::{CancelAction, PageRequest, Run, RunFilter, RunStatus, contains},
};
use runloom_engine::{RunId, ThreadId, Value};

use super::{Feed, Place, event_filter, outcome::outcome, stream_modes};
use crate::{
    face::{Api, Call, Fail, Reply, chosen, empty, json, selected, sse, until_told, with_location},
    langgraph::{
        StreamMode,
        records::{self, modes, statuses},
    },
};

/// A run of a thread.
pub(crate) async fn find(api: &Api, thread: ThreadId, run: RunId) -> Result<Run, Fail> {
    match api.core.get_run(run).await {
        Ok(found) if found.thread == thread => Ok(found),
        Ok(_) => Err(Fail::not_found(format!("Run with ID {run} not found on thread {thread}"))),
        Err(error) if error.reason == Reason::RunNotFound => {
            Err(Fail::not_found(format!("Run with ID {run} not found")))
        }
        Err(error) => Err(error.into()),
    }
}

pub(crate) async fn get(api: Api, call: Call) -> Reply {
    let run = find(&api, call.thread()?, call.run()?).await?;
    Ok(json(StatusCode::OK, records::run(&run)))
}

pub(crate) async fn list(api: Api, call: Call) -> Reply {
    let thread = call.thread()?;
    api.core.get_thread(thread).await?;
    let limit = call.query_number("limit", 1..=1000)?.unwrap_or(10);
    let skip = call.query_number("offset", 0..=i64::MAX as usize)?.unwrap_or(0);
    let status = match call.query("status") {
        None => Vec::new(),
        Some(word) => statuses(word).ok_or_else(|| {
            let known = "pending, running, success, error, timeout, interrupted";
            Fail::invalid(format!("status: must be one of {known}, not `{word}`"))
        })?,
    };
    let metadata = match call.query("metadata").map(Value::parse) {
        None => Value::Null,
        Some(Ok(value @ Value::Object(_))) => value,
        Some(_) => return Err(Fail::invalid("metadata: must be a JSON object")),
    };
    let fields = chosen(call.query_all(&["select"]), records::RUN_FIELDS)?;
    let filter = RunFilter { thread: Some(thread), status, ..RunFilter::default() };
    let (mut items, mut page) = (Vec::new(), PageRequest { size: limit, token: None, skip });
    // Metadata is looked at here: the store does not know of it.
    let has = metadata.as_object().filter(|m| !m.is_empty());
    if has.is_some() {
        page = PageRequest::first(1000);
    }
    let mut to_skip = if has.is_some() { skip } else { 0 };
    loop {
        let found = api.core.list_runs(filter.clone(), page).await?;
        for run in &found.items {
            if has.is_some_and(|has| !contains(&RunSpec::of(run).options.metadata, has)) {
                continue;
            }
            if to_skip > 0 {
                to_skip -= 1;
            } else if items.len() < limit {
                items.push(selected(records::run(run), &fields));
            }
        }
        match found.next {
            Some(token) if has.is_some() && items.len() < limit => page = PageRequest::after(1000, token),
            _ => break,
        }
    }
    Ok(json(StatusCode::OK, items))
}

pub(crate) async fn join(api: Api, call: Call) -> Reply {
    let run = find(&api, call.thread()?, call.run()?).await?;
    let (core, awaited) = (api.core.clone(), run.clone());
    let response = until_told(async move { outcome(&core, &awaited).await }, api.options.heartbeat);
    Ok(with_location(response, run.thread, run.id, "join"))
}

pub(crate) async fn join_stream(api: Api, call: Call) -> Reply {
    let run = find(&api, call.thread()?, call.run()?).await?;
    joined(&api, &call, run).await
}

/// The stream of a run by its id alone, as stateless runs are known.
pub(crate) async fn join_stream_stateless(api: Api, call: Call) -> Reply {
    let run = api.core.get_run(call.run()?).await?;
    joined(&api, &call, run).await
}

async fn joined(api: &Api, call: &Call, run: Run) -> Reply {
    let place = Place::read(call.header("last-event-id").or(call.query("last_event_id")))?;
    let asked = stream_modes(&call.query_all(&["stream_mode", "stream_modes"]))?;
    let has_named = !asked.is_empty();
    let modes: Vec<StreamMode> = if has_named { asked } else { modes(&RunSpec::of(&run)) };
    let mut feed = Feed::open(&api.core, &run, modes, place, &event_filter(call)?).await?;
    if has_named {
        feed = feed.without_openings();
    }
    let feed = match call.query_flag("cancel_on_disconnect")? {
        true if !run.status.is_end() => feed.cancelling(api.core.clone(), &run),
        _ => feed,
    };
    // Clients go on where they are told to, with nothing but the last id: what was asked for is told with the place.
    let then = call.with_query("stream", "last_event_id");
    Ok(with_location(sse(feed, api), run.thread, run.id, &then))
}

/// Deletes a run; one that has not ended is cancelled first.
pub(crate) async fn delete(api: Api, call: Call) -> Reply {
    let run = find(&api, call.thread()?, call.run()?).await?;
    if run.status == RunStatus::Running {
        let by = "the deletion of the run".into();
        let stop = api.core.cancel_run(run.id, CancelAction::Interrupt, by, true);
        if tokio::time::timeout(std::time::Duration::from_secs(10), stop).await.is_err() {
            return Err(Fail::new(StatusCode::CONFLICT, format!("run {} does not stop; ask again", run.id)));
        }
    }
    api.core.delete_run(run.id).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}
