//! States and checkpoints by command.

use runloom_core::{Reason, StateQuery};
use runloom_engine::{Object, ThreadId, Value, checkpoint::CheckpointFilter};

use super::{
    commands::{Answer, Refused, begin, copy},
    inputs::assistant,
    messages::compact,
};
use crate::{
    face::{Api, Fields},
    langgraph::iso,
    runs::checkpoint_id,
};

/// The parameter `namespace`, as the engine writes it.
pub(super) fn namespace(params: &Fields<'_>) -> Result<String, Refused> {
    Ok(params.texts("namespace")?.unwrap_or_default().join("|"))
}

fn missing(error: runloom_core::Error) -> Refused {
    match error.reason {
        Reason::CheckpointNotFound => Refused::new("no_such_checkpoint", error.message),
        _ => error.into(),
    }
}

/// `state.get`: the latest state of the graph, or of a subgraph.
pub(super) async fn get(api: &Api, thread: ThreadId, params: &Fields<'_>) -> Answer {
    let namespace = namespace(params)?;
    let query = StateQuery { namespace: namespace.clone(), ..StateQuery::latest(thread) };
    let view = api.core.get_state(query).await.map_err(missing)?;
    let keys = params.texts("keys")?;
    let values = view.values_object();
    let is_wanted = |key: &str| keys.as_ref().is_none_or(|keys| keys.iter().any(|k| k == key));
    let values: Object = values.iter().filter(|(k, _)| is_wanted(k)).map(|(k, v)| (k.clone(), compact(v))).collect();
    let mut out = object! { "values" => values };
    if let Some(id) = view.config.as_ref().and_then(|c| c.id) {
        out.insert("checkpoint", object! { "id" => id.to_string(), "ns" => namespace });
    }
    Ok(out)
}

/// `state.listCheckpoints`: the newest first.
pub(super) async fn list(api: &Api, thread: ThreadId, params: &Fields<'_>) -> Answer {
    let before = params.text("before")?.map(checkpoint_id).transpose()?;
    let limit = params.number("limit", 1..=1000)?.map(|n| n as usize);
    let filter = CheckpointFilter { before, limit, ..CheckpointFilter::default() };
    let page = api.core.list_checkpoints(thread, &namespace(params)?, filter, None).await.map_err(missing)?;
    let shown = page.items.iter().filter_map(|view| {
        let id = view.config.as_ref()?.id?;
        let mut metadata = view.metadata.clone();
        if let Some(source) = view.source {
            metadata.insert("source", source.name());
        }
        Some(Value::Object(object! {
            "id" => id.to_string(),
            "timestamp" => view.created_at.map(iso).unwrap_or_default(),
            "step" => view.step,
            "metadata" => metadata,
        }))
    });
    Ok(object! { "checkpoints" => shown.collect::<Vec<_>>() })
}

/// `state.fork`: a run that goes on from a checkpoint of the past.
pub(super) async fn fork(api: &Api, thread: ThreadId, params: &Fields<'_>) -> Answer {
    let Some(checkpoint) = params.text("checkpoint_id")? else {
        return Err(Refused::new("invalid_argument", "state.fork requires a checkpoint_id."));
    };
    let at = checkpoint_id(checkpoint).map_err(|_| Refused::new("no_such_checkpoint", no_checkpoint(checkpoint)))?;
    api.core.check_checkpoint(thread, "", at).await.map_err(missing)?;
    let mut body = object! { "assistant_id" => assistant(api, thread).await?, "checkpoint_id" => checkpoint };
    copy(params, "input", "input", &mut body);
    copy(params, "config", "config", &mut body);
    let run = begin(api, thread, body).await?;
    Ok(object! { "run_id" => run.id.to_string(), "thread_id" => thread.to_string() })
}

fn no_checkpoint(id: &str) -> String {
    format!("Unknown checkpoint: {id}")
}
