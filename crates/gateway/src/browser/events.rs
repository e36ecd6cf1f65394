//! A run for `new EventSource(…)`: each event under its own kind.

use futures_util::StreamExt;
use http::StatusCode;
use runloom_core::RunSpec;

use super::Kinded;
use crate::{
    face::{Api, Call, Reply, Told, empty, sse},
    langgraph::{StreamMode, records},
    runs::{Feed, Place, event_filter, find, stream_modes},
};

/// The events of a run, live or late. A browser that comes back after the end is told to stay away.
pub(crate) async fn events(api: Api, call: Call) -> Reply {
    let run = find(&api, call.thread()?, call.run()?).await?;
    let place = Place::read(call.header("last-event-id").or(call.query("last_event_id")))?;
    if run.status.is_end() && place.seq > 0 && place.seq >= run.last_seq {
        return Ok(empty(StatusCode::NO_CONTENT));
    }
    let asked = stream_modes(&call.query_all(&["stream_mode", "stream_modes"]))?;
    let own = records::modes(&RunSpec::of(&run));
    let modes = match asked.is_empty() {
        false => asked,
        // Without events, what the run has.
        true if own.contains(&StreamMode::Events) => vec![StreamMode::Events],
        true => own,
    };
    let feed = Feed::open(&api.core, &run, modes, place, &event_filter(&call)?).await?;
    let events = feed.map(|told| {
        told.map(|told| {
            let Kinded { kind, data, id, .. } = told.into();
            Told { id, name: kind, data }
        })
    });
    Ok(sse(events, &api))
}
