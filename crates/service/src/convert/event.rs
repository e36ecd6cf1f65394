//! Typed events.

use runloom::{
    json::NotExact,
    v1::{self, EventKind, JsonEncoding},
};
use runloom_engine::{
    Value,
    stream::{Event, EventKind as Kind},
};

use super::{message, node_error};
use crate::json::{encode, encode_object};

/// The kind on the wire.
pub(crate) fn kind(kind: Kind) -> EventKind {
    match kind {
        Kind::ChainStart => EventKind::ChainStart,
        Kind::ChainStream => EventKind::ChainStream,
        Kind::ChainEnd => EventKind::ChainEnd,
        Kind::ChainError => EventKind::ChainError,
        Kind::ChatModelStart => EventKind::ChatModelStart,
        Kind::ChatModelStream => EventKind::ChatModelStream,
        Kind::ChatModelEnd => EventKind::ChatModelEnd,
        Kind::ToolStart => EventKind::ToolStart,
        Kind::ToolEnd => EventKind::ToolEnd,
        Kind::ToolError => EventKind::ToolError,
        Kind::RetrieverStart => EventKind::RetrieverStart,
        Kind::RetrieverEnd => EventKind::RetrieverEnd,
        Kind::Custom => EventKind::Custom,
    }
}

/// The kind inside; none for UNSPECIFIED.
pub(crate) fn kind_inside(kind: EventKind) -> Option<Kind> {
    Kind::ALL.into_iter().find(|k| self::kind(*k) == kind)
}

/// Whether later events of this kind leave out what the first of their run_id said.
pub(crate) fn is_stream(kind: Kind) -> bool {
    matches!(kind, Kind::ChainStream | Kind::ChatModelStream)
}

/// Whether this is the last event of its run_id.
pub(crate) fn is_last(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::ChainEnd | Kind::ChainError | Kind::ChatModelEnd | Kind::ToolEnd | Kind::ToolError | Kind::RetrieverEnd
    )
}

/// A part of mode events. `first` says that the stream has sent nothing of its run_id yet; without an encoding the data is left out.
pub(crate) fn event(
    event: &Event,
    first: bool,
    blocks: u32,
    encoding: Option<JsonEncoding>,
) -> Result<v1::Event, NotExact> {
    let mut out = v1::Event {
        kind: kind(event.kind).into(),
        name: event.name.to_string(),
        run_id: event.run_id.to_string(),
        ..v1::Event::default()
    };
    let is_whole = first || !is_stream(event.kind);
    if is_whole {
        out.node = event.meta.task.as_ref().map(|task| task.node.to_string()).unwrap_or_default();
        out.parent_ids = event.parent_ids.iter().map(ToString::to_string).collect();
        out.tags = event.tags.iter().map(ToString::to_string).collect();
    }
    let Some(encoding) = encoding else { return Ok(out) };
    if is_whole && !event.meta.metadata.is_empty() {
        out.metadata = Some(encode_object(&event.meta.metadata, encoding)?);
    }
    let json = |value: &Option<Value>| value.as_ref().map(|value| encode(value, encoding)).transpose();
    let data = &event.data;
    let mut told = v1::EventData {
        input: json(&data.input)?,
        output: json(&data.output)?,
        chunk: json(&data.update)?,
        custom: json(&data.custom)?,
        message_chunk: None,
        error: data.error.as_ref().map(node_error),
    };
    if let Some(chunk) = &data.chunk {
        let mut chunk = message::chunk(chunk, first, blocks, Some(encoding))?;
        if first {
            chunk.model = event.name.to_string();
        }
        told.message_chunk = Some(Box::new(chunk));
    }
    out.data = Some(told);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_there_and_back() {
        for inside in Kind::ALL {
            assert_eq!(kind_inside(kind(inside)), Some(inside));
            let name = kind(inside).as_str_name().trim_start_matches("EVENT_KIND_").to_lowercase();
            let name = if inside == Kind::Custom { "custom_event".to_owned() } else { name };
            assert_eq!(inside.name(), format!("on_{name}"));
        }
        assert_eq!(kind_inside(EventKind::Unspecified), None);
    }
}
