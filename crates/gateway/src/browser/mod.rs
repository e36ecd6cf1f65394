//! For browsers without a client: events by their own kind, and a WebSocket.

mod events;
mod socket;

pub(crate) use events::events;
pub(crate) use socket::socket;

use runloom_engine::Value;

use crate::face::Told;

/// An event by its own kind: what it is, the name of what it is about, and its data.
struct Kinded {
    kind: String,
    name: String,
    data: Value,
    id: String,
}

impl From<Told> for Kinded {
    fn from(told: Told) -> Self {
        if told.name == "events"
            && let Some(event) = told.data.as_object()
        {
            let text = |key: &str| event.get_str(key).unwrap_or_default().to_owned();
            let data = event.get("data").cloned().unwrap_or_default();
            return Self { kind: text("event"), name: text("name"), data, id: told.id };
        }
        // A part of another mode: its subgraph, where it has one, is what it is about.
        let (kind, name) = told.name.split_once('|').unwrap_or((&told.name, ""));
        Self { kind: kind.to_owned(), name: name.to_owned(), data: told.data, id: told.id }
    }
}
