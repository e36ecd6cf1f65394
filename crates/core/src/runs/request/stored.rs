//! How a request is stored with its run. Names and version are explicit: a format is never read as another.

use runloom_engine::{CheckpointId, Object, Value, trace};
use runloom_store::Run;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Delivery, FilterSpec, Notes, Recording, RunOptions, RunRequest, RunSpec, Start};
use crate::{Error, Reason, Result};

/// The version that is written.
const VERSION: u64 = 1;
/// The API whose notes the first format held.
const FIRST_API: &str = "langgraph";

/// A request as it is stored: what the caller set, and what the runner needs beside it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct StoredRequest {
    pub spec: RunSpec,
    pub marks: Marks,
}

/// What the runner stores with a run for itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Marks {
    /// The checkpoint that the thread must stand at when the run begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_checkpoint_id: Option<CheckpointId>,
    /// What the run replaced in its thread's metadata when it was made, null for a key that was not there. A rollback
    /// restores it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaced_metadata: Option<Object>,
    /// The trace that every attempt is part of.
    #[serde(skip_serializing_if = "Object::is_empty")]
    pub trace: Object,
}

impl Marks {
    pub fn of(request: &RunRequest) -> Self {
        Self {
            expected_checkpoint_id: request.expected_checkpoint_id,
            replaced_metadata: None,
            trace: trace::context_of(&request.trace),
        }
    }
}

/// The first format, which had no version and no parts.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Flat {
    start: Start,
    context: Value,
    recursion_limit: u32,
    max_concurrency: u32,
    tags: Vec<String>,
    configurable: Object,
    metadata: Object,
    modes: u32,
    subgraphs: bool,
    filter: FilterSpec,
    interrupt_before: Vec<String>,
    interrupt_after: Vec<String>,
    checkpoint_id: Option<CheckpointId>,
    durability: String,
    cancel_on_disconnect: bool,
    disconnect_grace_ms: u64,
    run_timeout_ms: u64,
    expected_checkpoint_id: Option<CheckpointId>,
    noted: Object,
    marked_over: Option<Object>,
    coalesce_chunks: u32,
    coalesce_ms: u64,
    #[serde(alias = "strict_answers")]
    strict: bool,
    trace: Object,
    webhook: Option<String>,
}

impl StoredRequest {
    /// The stored request of a run.
    pub fn of(run: &Run) -> Result<Self> {
        Self::parse(&run.request).map_err(|what| {
            let message = format!("the stored request of run {} cannot be read: {what}", run.id);
            Error::new(Reason::Internal, message).with("run_id", run.id)
        })
    }

    /// The stored request of a run, for those who read the run or end it. One that cannot be read is empty: an attempt at
    /// the run fails with the reason, and that is all there is to be read.
    pub fn or_empty(run: &Run) -> Self {
        Self::of(run).unwrap_or_else(|error| {
            tracing::warn!(%error, "a run is read without its request");
            Self::default()
        })
    }

    /// Reads a stored request of any version.
    pub fn parse(stored: &Value) -> Result<Self, String> {
        match stored.get("version").map(|version| (version.as_u64(), version)) {
            // Every request of the first format says its modes.
            None if stored.get("modes").is_some() => Ok(part::<Flat>("request", Some(stored))?.into()),
            None => Err("it has no version".to_owned()),
            Some((Some(VERSION), _)) => Ok(Self {
                spec: RunSpec {
                    options: part("options", stored.get("options"))?,
                    recording: part("recording", stored.get("recording"))?,
                    delivery: part("delivery", stored.get("delivery"))?,
                    notes: part("notes", stored.get("notes"))?,
                },
                marks: part("marks", stored.get("marks"))?,
            }),
            Some((_, version)) => {
                Err(format!("its version is {version}, and this server reads versions up to {VERSION}"))
            }
        }
    }

    /// The request as it is stored.
    pub fn to_value(&self) -> Result<Value> {
        let to_value = || -> std::result::Result<Object, serde_json::Error> {
            let mut stored = Object::default();
            stored.insert("version", Value::from(VERSION));
            stored.insert("options", runloom_engine::to_value(&self.spec.options)?);
            stored.insert("recording", runloom_engine::to_value(&self.spec.recording)?);
            stored.insert("delivery", runloom_engine::to_value(&self.spec.delivery)?);
            if !self.spec.notes.all().is_empty() {
                stored.insert("notes", self.spec.notes.all().clone());
            }
            if self.marks != Marks::default() {
                stored.insert("marks", runloom_engine::to_value(&self.marks)?);
            }
            Ok(stored)
        };
        to_value().map(Value::Object).map_err(|error| Error::field("config", format!("cannot be stored: {error}")))
    }
}

fn part<T: DeserializeOwned + Default>(name: &str, stored: Option<&Value>) -> Result<T, String> {
    let Some(stored) = stored else { return Ok(T::default()) };
    runloom_engine::from_value(stored).map_err(|error| format!("{name}: {error}"))
}

impl From<Flat> for StoredRequest {
    fn from(flat: Flat) -> Self {
        let mut notes = Notes::default();
        flat.noted.iter().for_each(|(key, value)| notes.set(FIRST_API, key, value.clone()));
        Self {
            spec: RunSpec {
                options: RunOptions {
                    start: flat.start,
                    context: flat.context,
                    recursion_limit: flat.recursion_limit,
                    max_concurrency: flat.max_concurrency,
                    tags: flat.tags,
                    configurable: flat.configurable,
                    metadata: flat.metadata,
                    interrupt_before: flat.interrupt_before,
                    interrupt_after: flat.interrupt_after,
                    checkpoint_id: flat.checkpoint_id,
                    checkpoint_namespace: String::new(),
                    durability: flat.durability,
                    run_timeout_ms: flat.run_timeout_ms,
                    strict: flat.strict,
                },
                recording: Recording {
                    modes: flat.modes,
                    subgraphs: flat.subgraphs,
                    filter: flat.filter,
                    coalesce_chunks: flat.coalesce_chunks,
                    coalesce_ms: flat.coalesce_ms,
                },
                delivery: Delivery {
                    webhook: flat.webhook,
                    cancel_on_disconnect: flat.cancel_on_disconnect,
                    disconnect_grace_ms: flat.disconnect_grace_ms,
                },
                notes,
            },
            marks: Marks {
                expected_checkpoint_id: flat.expected_checkpoint_id,
                replaced_metadata: flat.marked_over,
                trace: flat.trace,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use runloom_engine::value;

    use super::*;

    #[test]
    fn a_request_is_read_as_it_was_stored() {
        let mut stored = StoredRequest::default();
        stored.spec.options.start = Start::Input(value!({"n": 1}));
        stored.spec.options.strict = true;
        stored.spec.recording.modes = 5;
        stored.spec.delivery.webhook = Some("https://example.test".to_owned());
        stored.spec.notes.set("langgraph", "stream_mode", value!(["values"]));
        stored.marks.replaced_metadata = Some([("graph_id", Value::Null)].into_iter().collect());
        assert_eq!(StoredRequest::parse(&stored.to_value().unwrap()), Ok(stored));
    }

    /// Bytes that the first release wrote.
    #[test]
    fn the_first_format_is_read() {
        let json = r#"{"start":{"input":{"topic":"tea"}},"context":null,"recursion_limit":30,"max_concurrency":0,"tags":["a"],
            "configurable":{"x":1},"metadata":{"graph_id":"joke"},"modes":3,"subgraphs":true,"filter":{"include":{"kinds":[],
            "names":["n*"],"nodes":[],"tags":[],"namespaces":[]},"exclude":{"kinds":[],"names":[],"nodes":[],"tags":[],
            "namespaces":[]},"skip_empty_chunks":false},"interrupt_before":["b"],"interrupt_after":[],"checkpoint_id":null,
            "durability":"sync","cancel_on_disconnect":true,"disconnect_grace_ms":20,"run_timeout_ms":7,
            "expected_checkpoint_id":null,"noted":{"stream_mode":["values"]},"marked_over":{"graph_id":null},
            "coalesce_chunks":2,"coalesce_ms":3,"strict_answers":true,"trace":{"traceparent":"t"},"webhook":"https://h.test"}"#;
        let StoredRequest { spec, marks } = StoredRequest::parse(&Value::parse(json).unwrap()).unwrap();
        assert_eq!(spec.options.start, Start::Input(value!({"topic": "tea"})));
        assert_eq!((spec.options.recursion_limit, spec.options.run_timeout_ms, spec.options.strict), (30, 7, true));
        assert_eq!((&*spec.options.durability, &*spec.options.interrupt_before), ("sync", &["b".to_owned()][..]));
        assert_eq!((spec.recording.modes, spec.recording.subgraphs), (3, true));
        assert_eq!((&*spec.recording.filter.include.names, spec.recording.coalesce_ms), (&["n*".to_owned()][..], 3));
        assert_eq!((spec.delivery.webhook.as_deref(), spec.delivery.disconnect_grace_ms), (Some("https://h.test"), 20));
        assert_eq!(spec.notes.get("langgraph", "stream_mode"), Some(&value!(["values"])));
        assert_eq!(marks.replaced_metadata, Some([("graph_id", Value::Null)].into_iter().collect()));
        assert_eq!(marks.trace.get_str("traceparent"), Some("t"));
    }

    #[test]
    fn what_is_no_request_is_an_error_and_not_an_empty_one() {
        for (stored, says) in [
            (value!({"version": 9}), "version is 9"),
            (value!({"version": "x"}), "version is \"x\""),
            (Value::Null, "no version"),
            (value!({}), "no version"),
            (value!({"version": 1, "options": {"start": 5}}), "options: "),
            (value!({"modes": 1, "recursion_limit": "many"}), "request: "),
        ] {
            let error = StoredRequest::parse(&stored).unwrap_err();
            assert!(error.contains(says), "{stored}: {error}");
        }
    }
}
