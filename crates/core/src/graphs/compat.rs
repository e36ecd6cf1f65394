//! Whether a thread's checkpoint fits the graph as it is now.

use std::sync::Arc;

use runloom_engine::{ChannelSpec, Graph, Reducer, Value, checkpoint::Checkpoint};

use runloom_suggest::nearest;

use crate::{Error, Reason, Result, Session};

impl Session {
    /// Refuses a checkpoint that a graph cannot go on from, and says what has changed: every node that is to run next
    /// has to be there, unless what is open is to be discarded, and every channel has to hold what it still is made for.
    pub(crate) fn fits(&self, checkpoint: &Checkpoint, graph: &Graph, discards: bool) -> Result<()> {
        if checkpoint.revision == *graph.revision() {
            return Ok(());
        }
        let mut changes = Vec::new();
        let control = &checkpoint.control;
        let mut pending: Vec<&Arc<str>> = control.triggered.iter().chain(&control.deferred).collect();
        pending.extend(control.sends.iter().map(|send| &send.node));
        pending.sort_unstable();
        pending.dedup();
        if discards {
            pending.clear();
        }
        for node in pending {
            if graph.node_names().all(|name| name != node) {
                let near = nearest(node, graph.node_names().map(|name| &**name));
                let near = near.map(|near| format!(" (did it become `{near}`?)")).unwrap_or_default();
                changes.push(format!("node `{node}`, which is to run next, is gone{near}"));
            }
        }
        for channel in graph.channels() {
            let held = checkpoint.values.get(&channel.name);
            changes.extend(held.and_then(|held| misfit(channel, held)));
        }
        if changes.is_empty() {
            return Ok(());
        }
        let (changes, name) = (changes.join("; "), graph.name());
        let message = format!(
            "the thread stands at checkpoint {}, made by revision {} of its graph, which does not fit graph `{name}` as \
             it is now: {changes}. Bring back what is gone, or start from another checkpoint or on another thread",
            checkpoint.id, checkpoint.revision
        );
        Err(Error::new(Reason::GraphIncompatible, message)
            .with("graph", name)
            .with("revision", graph.revision())
            .with("checkpoint_revision", &checkpoint.revision)
            .with("checkpoint_id", checkpoint.id)
            .with("changes", changes))
    }
}

/// Why a channel cannot go on with what it held.
fn misfit(channel: &ChannelSpec, held: &Value) -> Option<String> {
    let needs = match (&channel.reducer, held) {
        (Reducer::Append | Reducer::Messages, Value::List(_)) | (Reducer::Merge, Value::Object(_)) => None,
        (Reducer::Add, Value::Int(_) | Value::UInt(_) | Value::Float(_)) => None,
        (Reducer::Append | Reducer::Messages, _) => Some("a list"),
        (Reducer::Merge, _) => Some("an object"),
        (Reducer::Add, _) => Some("a number"),
        _ => None,
    };
    let name = &channel.name;
    if let Some(needs) = needs {
        let reducer = channel.reducer.name();
        return Some(format!("channel `{name}` holds {}, and its reducer `{reducer}` needs {needs}", held.kind()));
    }
    let types: Vec<&str> = match channel.schema.as_ref()?.get("type")? {
        Value::String(one) => vec![one],
        Value::List(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => return None,
    };
    let is_one = types.iter().any(|kind| match *kind {
        "null" => held.is_null(),
        "boolean" => matches!(held, Value::Bool(_)),
        "integer" => {
            matches!(held, Value::Int(_) | Value::UInt(_)) || matches!(held, Value::Float(f) if f.fract() == 0.0)
        }
        "number" => held.as_f64().is_some(),
        "string" => held.as_str().is_some(),
        "array" => held.as_list().is_some(),
        "object" => held.as_object().is_some(),
        _ => true,
    });
    (!is_one).then(|| format!("channel `{name}` holds {}, and its schema now says {}", held.kind(), types.join(" or ")))
}
