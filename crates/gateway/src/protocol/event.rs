//! An event of the protocol, before and after it has its number.

use std::{sync::Arc, time::UNIX_EPOCH};

use runloom_core::Record;
use runloom_engine::{Object, Value};

/// What a client subscribes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channel {
    Values,
    Updates,
    Messages,
    Tools,
    Lifecycle,
    Input,
    Checkpoints,
    Tasks,
    Custom,
}

impl Channel {
    pub const ALL: [Self; 9] = [
        Self::Values,
        Self::Updates,
        Self::Messages,
        Self::Tools,
        Self::Lifecycle,
        Self::Input,
        Self::Checkpoints,
        Self::Tasks,
        Self::Custom,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Values => "values",
            Self::Updates => "updates",
            Self::Messages => "messages",
            Self::Tools => "tools",
            Self::Lifecycle => "lifecycle",
            Self::Input => "input",
            Self::Checkpoints => "checkpoints",
            Self::Tasks => "tasks",
            Self::Custom => "custom",
        }
    }
}

/// What an event carries. States are built only for readers that want them.
#[derive(Clone)]
pub(super) enum Data {
    Ready(Value),
    Lazy(Arc<Record>, fn(&Record) -> Value),
}

/// An event. Its place among those of its run is fixed by the run's log.
#[derive(Clone)]
pub(super) struct Event {
    pub channel: Channel,
    pub method: &'static str,
    pub namespace: Arc<[Arc<str>]>,
    /// Milliseconds since 1970.
    pub timestamp: u64,
    /// Set for lifecycle events of the graph itself; else the id follows from the record.
    pub id: Option<String>,
    pub data: Data,
}

impl Event {
    pub fn data(&self) -> Value {
        match &self.data {
            Data::Ready(value) => value.clone(),
            Data::Lazy(record, render) => render(record),
        }
    }
}

/// An event with the number that it has for every reader of the thread.
#[derive(Clone)]
pub(super) struct Numbered {
    pub seq: u64,
    pub id: String,
    pub event: Event,
}

impl Numbered {
    /// The event as it is sent.
    pub fn to_value(&self) -> Value {
        let event = &self.event;
        let params = object! {
            "namespace" => event.namespace.iter().map(Value::from).collect::<Vec<_>>(),
            "timestamp" => event.timestamp,
            "data" => event.data(),
        };
        let whole: Object = object! {
            "type" => "event",
            "event_id" => self.id.as_str(),
            "seq" => self.seq,
            "method" => event.method,
            "params" => params,
        };
        Value::Object(whole)
    }
}

/// When a record was made, in milliseconds.
pub(super) fn millis(record: &Record) -> u64 {
    record.emit_time.duration_since(UNIX_EPOCH).map_or(0, |t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX))
}

/// A namespace as the protocol writes it: its segments.
pub(super) fn segments(namespace: &str) -> Arc<[Arc<str>]> {
    namespace.split('|').filter(|s| !s.is_empty()).map(Arc::from).collect()
}
