//! States of threads: the latest, one of the past, the history, and writes by hand.

use http::StatusCode;
use runloom_core::{Reason, StateQuery, StateUpdateRequest};
use runloom_engine::{CheckpointId, Object, StateUpdate, ThreadId, Value, checkpoint::CheckpointFilter};

use crate::{
    face::{Api, Call, Fail, Fields, Reply, json},
    langgraph::{history as shown_history, state},
    runs::checkpoint_id,
    threads::find,
};

/// A checkpoint as clients name it: its id, and the namespace it is of.
fn place(fields: &Fields<'_>) -> Result<(Option<CheckpointId>, String), Fail> {
    let none = Object::default();
    let place = Fields::within(fields.object("checkpoint")?.unwrap_or(&none));
    let id = match place.text("checkpoint_id")? {
        Some(id) => Some(id),
        None => fields.text("checkpoint_id")?,
    };
    Ok((id.map(checkpoint_id).transpose()?, place.text("checkpoint_ns")?.unwrap_or_default().to_owned()))
}

async fn answer(api: &Api, query: StateQuery) -> Reply {
    find(api, query.thread).await?;
    Ok(json(StatusCode::OK, state(&api.core.get_state(query).await?)))
}

pub(crate) async fn latest(api: Api, call: Call) -> Reply {
    let subgraphs = call.query_flag("subgraphs")?;
    answer(&api, StateQuery { subgraphs, ..StateQuery::latest(call.thread()?) }).await
}

pub(crate) async fn at(api: Api, call: Call) -> Reply {
    let query = StateQuery {
        checkpoint_id: Some(checkpoint_id(call.param("checkpoint_id"))?),
        subgraphs: call.query_flag("subgraphs")?,
        ..StateQuery::latest(call.thread()?)
    };
    answer(&api, query).await
}

/// The state at a checkpoint that is named in the body.
pub(crate) async fn at_place(api: Api, call: Call) -> Reply {
    let fields = call.fields()?;
    if fields.value("checkpoint").is_none() {
        return Err(Fail::invalid("checkpoint: is required"));
    }
    let (checkpoint_id, namespace) = place(&fields)?;
    let subgraphs = fields.flag("subgraphs")?;
    answer(&api, StateQuery { thread: call.thread()?, checkpoint_id, namespace, subgraphs }).await
}

pub(crate) async fn update(api: Api, call: Call) -> Reply {
    let id = call.thread()?;
    let fields = call.fields()?;
    let (checkpoint, namespace) = place(&fields)?;
    let as_node = fields.text("as_node")?.map(str::to_owned);
    let values = fields.value("values").cloned();
    match &values {
        None | Some(Value::Object(_)) => {}
        Some(Value::List(_)) => {
            let detail =
                "values: must be an object by channel, not a list; many updates are supersteps of a new thread";
            return Err(Fail::new(StatusCode::BAD_REQUEST, detail));
        }
        Some(other) => {
            return Err(Fail::invalid(format!("values: must be an object by channel, not {}", other.kind())));
        }
    }
    let updates = vec![StateUpdate { values, as_node }];
    let thread = find(&api, id).await?;
    if thread.graph.is_none() && !thread.metadata.contains_key("graph_id") {
        let detail = format!(
            "Thread '{id}' has no assigned graph ID. This usually occurs when no runs have been made on this particular \
             thread. This operation requires a graph ID. Please ensure a run has been made for the thread or manually update \
             the thread metadata (by setting the 'graph_id' field) before running this operation."
        );
        return Err(Fail::new(StatusCode::BAD_REQUEST, detail));
    }
    let request = StateUpdateRequest {
        thread: id,
        checkpoint_id: checkpoint,
        namespace,
        updates,
        expected_checkpoint_id: None,
        graph: None,
    };
    let made = api.core.update_state(request).await.map_err(|error| match error.reason {
        // A route or a reducer fails on what was written: the update is well-formed.
        Reason::InvalidUpdate if error.metadata.contains_key("node") => error.into(),
        Reason::InvalidUpdate | Reason::NodeUnknown => Fail::from(error).with_status(StatusCode::BAD_REQUEST),
        _ => error.into(),
    })?;
    let checkpoint = object! {
        "thread_id" => id.to_string(),
        "checkpoint_ns" => &made.ns,
        "checkpoint_id" => Value::from(made.id.map(|id| id.to_string())),
    };
    let answer = object! {
        "checkpoint" => checkpoint.clone(),
        "configurable" => checkpoint.clone(),
        "checkpoint_id" => checkpoint.get("checkpoint_id").cloned().unwrap_or_default(),
    };
    Ok(json(StatusCode::OK, answer))
}

pub(crate) async fn history(api: Api, call: Call) -> Reply {
    let limit = call.query_number("limit", 1..=1000)?;
    let before = call.query("before").map(checkpoint_id).transpose()?;
    let filter = CheckpointFilter { before, limit, ..CheckpointFilter::default() };
    listed(&api, call.thread()?, "", filter).await
}

pub(crate) async fn search_history(api: Api, call: Call) -> Reply {
    let fields = call.fields()?;
    let before = match fields.value("before") {
        None => None,
        Some(Value::String(id)) => Some(checkpoint_id(id)?),
        Some(Value::Object(place)) => {
            let inner = place.get("configurable").and_then(Value::as_object).unwrap_or(place);
            Fields::within(inner).text("checkpoint_id")?.map(checkpoint_id).transpose()?
        }
        Some(other) => return Err(Fail::invalid(format!("before: must be a checkpoint, not {}", other.kind()))),
    };
    let (_, namespace) = place(&fields)?;
    let filter = CheckpointFilter {
        before,
        metadata: fields.object("metadata")?.cloned().unwrap_or_default(),
        limit: fields.number("limit", 1..=1000)?.map(|n| n as usize),
    };
    listed(&api, call.thread()?, &namespace, filter).await
}

async fn listed(api: &Api, thread: ThreadId, namespace: &str, mut filter: CheckpointFilter) -> Reply {
    find(api, thread).await?;
    filter.limit = Some(filter.limit.unwrap_or(10));
    let views = api.core.list_checkpoints(thread, namespace, filter, None).await?;
    Ok(json(StatusCode::OK, shown_history(&views.items)))
}
