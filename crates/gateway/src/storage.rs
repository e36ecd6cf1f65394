//! How much a thread stores: its checkpoints, the values in them, and the writes of tasks.

use std::{collections::HashMap, sync::Arc};

use http::StatusCode;
use runloom_engine::{Object, Value, checkpoint::CheckpointFilter};

use crate::face::{Api, Call, Reply, json, text};

/// How many checkpoints are looked at together.
const PAGE: usize = 20;

/// The values of one channel, over the checkpoints of a thread.
#[derive(Default)]
struct Channel {
    latest: Option<Value>,
    versions: u64,
    bytes: u64,
}

/// `GET /threads/{thread_id}/storage`. Bytes are those of the JSON of what is stored: a value counts once for each
/// checkpoint that changed it, however the store keeps it.
pub(crate) async fn storage(api: Api, call: Call) -> Reply {
    let thread = call.thread()?;
    let mut channels: HashMap<Arc<str>, Channel> = HashMap::new();
    let (mut checkpoints, mut checkpoint_bytes, mut writes, mut write_bytes) = (0u64, 0u64, 0u64, 0u64);
    let mut token: Option<String> = None;
    loop {
        let filter = CheckpointFilter { limit: Some(PAGE), ..CheckpointFilter::default() };
        let page = api.core.list_checkpoints(thread, "", filter, token.as_deref()).await?;
        for view in &page.items {
            checkpoints += 1;
            checkpoint_bytes += size(&Value::Object(view.metadata.clone()));
            for (name, value) in view.values.iter() {
                let channel = channels.entry(name.clone()).or_default();
                if channel.latest.as_ref() != Some(value) {
                    let bytes = size(value);
                    channel.versions += 1;
                    channel.bytes += bytes;
                    checkpoint_bytes += bytes;
                    channel.latest = Some(value.clone());
                }
            }
            for task in view.tasks.iter().filter(|task| task.result.is_some() || !task.interrupts.is_empty()) {
                writes += 1;
                write_bytes += task.result.as_ref().map_or(0, size);
                write_bytes += task.interrupts.iter().map(|interrupt| size(&interrupt.to_value())).sum::<u64>();
            }
        }
        token = page.next;
        if token.is_none() {
            break;
        }
    }
    let values: u64 = channels.values().map(|channel| channel.bytes).sum();
    let versions: u64 = channels.values().map(|channel| channel.versions).sum();
    let mut names: Vec<_> = channels.into_iter().collect();
    names.sort_by(|a, b| a.0.cmp(&b.0));
    let by_channel: Object = names
        .into_iter()
        .map(|(name, channel)| {
            (name, Value::Object(object! { "versions" => channel.versions, "bytes" => channel.bytes }))
        })
        .collect();
    let answer = object! {
        "thread_id" => thread.to_string(),
        "total_bytes" => checkpoint_bytes + write_bytes,
        "checkpoints" => object! { "count" => checkpoints, "bytes" => checkpoint_bytes },
        "channel_values" => object! { "count" => versions, "bytes" => values, "by_channel" => by_channel },
        "pending_writes" => object! { "count" => writes, "bytes" => write_bytes },
    };
    Ok(json(StatusCode::OK, answer))
}

fn size(value: &Value) -> u64 {
    text(value).len() as u64
}
