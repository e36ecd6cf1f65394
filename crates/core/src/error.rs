//! What an operation answers where it does not succeed: a reason that programs can tell apart, and words for people.

use std::{collections::BTreeMap, time::Duration};

use runloom_engine::{self as engine, Object, Value};
use runloom_store as store;

/// The result of an operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation failed. Each has its own gRPC status and HTTP status at the faces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Reason {
    ThreadNotFound,
    RunNotFound,
    AssistantNotFound,
    AssistantVersionNotFound,
    CheckpointNotFound,
    CronNotFound,
    KeyNotFound,
    Unauthenticated,
    ScopeMissing,
    GraphUnknown,
    GraphInvalid,
    GraphInUse,
    GraphNameTaken,
    GraphNotRegistered,
    GraphIncompatible,
    NodeUnknown,
    FieldInvalid,
    InputInvalid,
    ContextInvalid,
    JsonInvalid,
    JsonTooDeep,
    InputTooLarge,
    PageTokenInvalid,
    ThreadExists,
    AssistantExists,
    AssistantIsDefault,
    ThreadBusy,
    RunActive,
    RequestIdReused,
    ModesNotRecorded,
    CursorInvalid,
    CursorExpired,
    QuestionAmbiguous,
    QuestionUnknown,
    NothingToResume,
    CheckpointChanged,
    InvalidUpdate,
    NodeFailed,
    NodeTimeout,
    RecursionLimit,
    RunTimeout,
    Cancelled,
    AttemptsExhausted,
    StoreUnavailable,
    ServerDraining,
    NotSupported,
    LimitReached,
    WorkerNotFound,
    WorkerLost,
    Internal,
}

impl Reason {
    /// Every reason, with its name on disk. A name never changes: logs and runs hold it.
    const NAMES: [(Self, &str); 50] = [
        (Self::ThreadNotFound, "ThreadNotFound"),
        (Self::RunNotFound, "RunNotFound"),
        (Self::AssistantNotFound, "AssistantNotFound"),
        (Self::AssistantVersionNotFound, "AssistantVersionNotFound"),
        (Self::CheckpointNotFound, "CheckpointNotFound"),
        (Self::CronNotFound, "CronNotFound"),
        (Self::KeyNotFound, "KeyNotFound"),
        (Self::Unauthenticated, "Unauthenticated"),
        (Self::ScopeMissing, "ScopeMissing"),
        (Self::GraphUnknown, "GraphUnknown"),
        (Self::GraphInvalid, "GraphInvalid"),
        (Self::GraphInUse, "GraphInUse"),
        (Self::GraphNameTaken, "GraphNameTaken"),
        (Self::GraphNotRegistered, "GraphNotRegistered"),
        (Self::GraphIncompatible, "GraphIncompatible"),
        (Self::NodeUnknown, "NodeUnknown"),
        (Self::FieldInvalid, "FieldInvalid"),
        (Self::InputInvalid, "InputInvalid"),
        (Self::ContextInvalid, "ContextInvalid"),
        (Self::JsonInvalid, "JsonInvalid"),
        (Self::JsonTooDeep, "JsonTooDeep"),
        (Self::InputTooLarge, "InputTooLarge"),
        (Self::PageTokenInvalid, "PageTokenInvalid"),
        (Self::ThreadExists, "ThreadExists"),
        (Self::AssistantExists, "AssistantExists"),
        (Self::AssistantIsDefault, "AssistantIsDefault"),
        (Self::ThreadBusy, "ThreadBusy"),
        (Self::RunActive, "RunActive"),
        (Self::RequestIdReused, "RequestIdReused"),
        (Self::ModesNotRecorded, "ModesNotRecorded"),
        (Self::CursorInvalid, "CursorInvalid"),
        (Self::CursorExpired, "CursorExpired"),
        (Self::QuestionAmbiguous, "QuestionAmbiguous"),
        (Self::QuestionUnknown, "QuestionUnknown"),
        (Self::NothingToResume, "NothingToResume"),
        (Self::CheckpointChanged, "CheckpointChanged"),
        (Self::InvalidUpdate, "InvalidUpdate"),
        (Self::NodeFailed, "NodeFailed"),
        (Self::NodeTimeout, "NodeTimeout"),
        (Self::RecursionLimit, "RecursionLimit"),
        (Self::RunTimeout, "RunTimeout"),
        (Self::Cancelled, "Cancelled"),
        (Self::AttemptsExhausted, "AttemptsExhausted"),
        (Self::StoreUnavailable, "StoreUnavailable"),
        (Self::ServerDraining, "ServerDraining"),
        (Self::NotSupported, "NotSupported"),
        (Self::LimitReached, "LimitReached"),
        (Self::WorkerNotFound, "WorkerNotFound"),
        (Self::WorkerLost, "WorkerLost"),
        (Self::Internal, "Internal"),
    ];

    /// The name of the reason where it is stored or counted.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(reason, _)| *reason == self).map_or("Internal", |(_, name)| name)
    }

    /// The reason of a stored name; `Internal` for a name that this version does not know.
    pub(crate) fn from_name(name: &str) -> Self {
        Self::NAMES.iter().find(|(_, known)| *known == name).map_or(Self::Internal, |(reason, _)| *reason)
    }
}

/// The keys of [`Error::metadata`], for errors that are read back.
pub(crate) fn known_key(key: &str) -> Option<&'static str> {
    const KEYS: &[&str] = &[
        "graph",
        "node",
        "channel",
        "type",
        "limit",
        "maximum",
        "thread_id",
        "run_id",
        "assistant_id",
        "checkpoint_id",
        "version",
        "open_questions",
        "question_id",
        "requester",
        "state",
        "id",
        "request_id",
        "oldest_seq",
        "feature",
        "field",
        "attempts",
        "known",
        "revision",
        "checkpoint_revision",
        "changes",
        "expected_checkpoint_id",
        "size_bytes",
        "maximum_bytes",
        "source",
        "runs",
        "assistants",
        "graphs",
        "line",
        "column",
        "timeout",
        "cron_id",
        "task_id",
        "namespace",
    ];
    KEYS.iter().copied().find(|k| *k == key)
}

/// An error of an operation, or of a run.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What programs tell apart.
    pub reason: Reason,
    /// What went wrong, and what to do.
    pub message: String,
    /// The fields that are wrong, all of them: path and what is wrong with it.
    pub fields: Vec<(String, String)>,
    /// More for programs: `graph`, `node`, `thread_id`, `open_questions`.
    pub metadata: BTreeMap<&'static str, String>,
    /// How long to wait before trying again, where that helps.
    pub retry_after: Option<Duration>,
    /// The error's type as LangGraph's clients know it, where the run failed with one.
    pub kind: Option<String>,
}

impl Error {
    /// An error with a reason and words.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            fields: Vec::new(),
            metadata: BTreeMap::new(),
            retry_after: None,
            kind: None,
        }
    }

    /// A field is wrong.
    pub fn field(path: impl Into<String>, what: impl Into<String>) -> Self {
        let (path, what) = (path.into(), what.into());
        let mut error = Self::new(Reason::FieldInvalid, format!("{path}: {what}"));
        error.fields.push((path, what));
        error
    }

    /// With metadata for programs.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl ToString) -> Self {
        self.metadata.insert(key, value.to_string());
        self
    }

    /// With a time to wait.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }
}

/// A time as ProtoJSON has it: `1.5s`.
fn seconds(time: Duration) -> String {
    format!("{}s", time.as_secs_f64())
}

impl From<engine::Error> for Error {
    fn from(error: engine::Error) -> Self {
        use engine::Error as E;
        let kind = Some(error.kind().to_owned());
        let message = error.to_string();
        let new = |reason| Self { kind: kind.clone(), ..Self::new(reason, message.clone()) };
        match &error {
            E::GraphInvalid { graph, .. } => new(Reason::GraphInvalid).with("graph", graph),
            E::InvalidInput { graph, field, .. } => {
                let mut e = new(Reason::InputInvalid).with("graph", graph);
                let path = field.as_ref().map_or_else(|| "input".to_owned(), |f| format!("input.{f}"));
                e.fields.push((path, message.clone()));
                e
            }
            E::EmptyInput { graph } => new(Reason::NothingToResume).with("graph", graph),
            E::InvalidUpdate { graph, channel, nodes, .. } => {
                let error = new(Reason::InvalidUpdate).with("graph", graph).with("channel", channel);
                if nodes.is_empty() { error } else { error.with("node", nodes.join(",")) }
            }
            E::InvalidStateUpdate { graph, .. } => new(Reason::InvalidUpdate).with("graph", graph),
            E::RecursionLimit { graph, limit } => new(Reason::RecursionLimit).with("graph", graph).with("limit", limit),
            E::LimitReached { graph, node, name, limit, .. } => {
                let error = new(Reason::LimitReached).with("graph", graph).with("limit", name).with("maximum", limit);
                if node.is_empty() { error } else { error.with("node", node) }
            }
            E::Node { graph, node, error } => {
                let reason = if &*error.kind == "NodeTimeoutError" { Reason::NodeTimeout } else { Reason::NodeFailed };
                let new = new(reason).with("graph", graph).with("node", node).with("type", &error.kind);
                error.timeout.iter().fold(new, |new, limit| new.with("timeout", seconds(*limit)))
            }
            E::RunTimeout { graph, after } => {
                new(Reason::RunTimeout).with("graph", graph).with("timeout", seconds(*after))
            }
            E::Cancelled { graph } => new(Reason::Cancelled).with("graph", graph),
            E::CheckpointNotFound(id) => new(Reason::CheckpointNotFound).with("checkpoint_id", id),
            E::NoCheckpointer { graph, .. } => new(Reason::Internal).with("graph", graph),
            E::AmbiguousAnswer { open } => {
                let ids: Vec<&str> = open.iter().map(|q| &*q.id).collect();
                new(Reason::QuestionAmbiguous).with("open_questions", ids.join(","))
            }
            E::UnknownQuestion { id, open } => {
                new(Reason::QuestionUnknown).with("question_id", id).with("open_questions", open.join(","))
            }
            E::NoQuestion { graph } => new(Reason::QuestionUnknown).with("graph", graph),
            E::NoParent { graph, node } => new(Reason::InvalidUpdate).with("graph", graph).with("node", node),
            E::Incompatible { graph, .. } => new(Reason::GraphIncompatible).with("graph", graph),
            E::Checkpointer { graph, .. } => {
                new(Reason::StoreUnavailable).with("graph", graph).retry_after(Duration::from_secs(1))
            }
            _ => new(Reason::Internal),
        }
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        use store::{Error as E, What};
        let message = error.to_string();
        let new = |reason| Self::new(reason, message.clone());
        match &error {
            E::NotFound { what, id } => match what {
                What::Thread => new(Reason::ThreadNotFound).with("thread_id", id),
                What::Run => new(Reason::RunNotFound).with("run_id", id),
                What::Assistant => new(Reason::AssistantNotFound).with("assistant_id", id),
                What::Version => new(Reason::AssistantVersionNotFound).with("version", id),
                What::Graph => new(Reason::GraphNotRegistered).with("graph", id),
                What::Cron => new(Reason::CronNotFound).with("cron_id", id),
                What::ApiKey => new(Reason::KeyNotFound).with("key_id", id),
            },
            E::AlreadyExists { what, id } => match what {
                What::Thread => new(Reason::ThreadExists).with("thread_id", id),
                What::Assistant => new(Reason::AssistantExists).with("assistant_id", id),
                _ => new(Reason::GraphNameTaken).with("id", id),
            },
            E::RequestReused { request_id, run } => {
                new(Reason::RequestIdReused).with("request_id", request_id).with("run_id", run)
            }
            E::Superseded { run, .. } => new(Reason::RunActive).with("run_id", run),
            E::RunState { run, status, .. } => new(Reason::RunActive).with("run_id", run).with("state", status),
            E::Busy { thread, run } => new(Reason::ThreadBusy)
                .with("thread_id", thread)
                .with("run_id", run)
                .retry_after(Duration::from_secs(1)),
            E::LeaseLost { .. } => new(Reason::StoreUnavailable).retry_after(Duration::from_secs(1)),
            E::Moved { thread, latest } => {
                let error = new(Reason::CheckpointChanged).with("thread_id", thread);
                latest.iter().fold(error, |error, id| error.with("checkpoint_id", id))
            }
            E::InUse { id, .. } => new(Reason::GraphInUse).with("id", id),
            E::Invalid(text) if text.contains("nested deeper than") => new(Reason::JsonTooDeep),
            E::Invalid(text) if text.contains("page token") => new(Reason::PageTokenInvalid),
            E::Invalid(_) => new(Reason::FieldInvalid),
            E::Unavailable(_) => new(Reason::StoreUnavailable).retry_after(Duration::from_secs(1)),
            _ => new(Reason::Internal),
        }
    }
}

impl Error {
    /// As it is kept with a run.
    pub(crate) fn to_value(&self) -> Value {
        let metadata: Object = self.metadata.iter().map(|(k, v)| (*k, Value::from(v.as_str()))).collect();
        let fields: Vec<Value> = self.fields.iter().map(|(f, w)| Value::from(vec![f.as_str(), w.as_str()])).collect();
        let mut o = Object::default();
        o.insert("reason", self.reason.name());
        o.insert("message", self.message.as_str());
        o.insert("kind", Value::from(self.kind.clone()));
        o.insert("metadata", metadata);
        o.insert("fields", fields);
        Value::Object(o)
    }

    /// From what was kept with a run.
    pub fn from_value(value: &Value) -> Self {
        let text = |key: &str| value.get_str(key).unwrap_or_default().to_owned();
        let mut error = Self::new(Reason::from_name(&text("reason")), text("message"));
        error.kind = value.get_str("kind").map(str::to_owned);
        for (key, v) in value.get("metadata").and_then(Value::as_object).into_iter().flat_map(Object::iter) {
            if let (Some(key), Some(v)) = (known_key(key), v.as_str()) {
                error.metadata.insert(key, v.to_owned());
            }
        }
        for pair in value.get("fields").and_then(Value::as_list).into_iter().flat_map(|l| l.iter()) {
            if let Some([Some(f), Some(w)]) =
                pair.as_list().map(|p| [p.get(0).and_then(Value::as_str), p.get(1).and_then(Value::as_str)])
            {
                error.fields.push((f.to_owned(), w.to_owned()));
            }
        }
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_name_of_its_own_that_is_read_back() {
        for (reason, name) in Reason::NAMES {
            // Today's names are those that the first release wrote.
            assert_eq!(format!("{reason:?}"), name);
            let stored = Error::new(reason, "what").with("run_id", "r").to_value();
            assert_eq!((stored.get_str("reason"), Error::from_value(&stored).reason), (Some(name), reason));
        }
        // A reason without a row in the table would be stored as `Internal`.
        assert_eq!(Reason::NAMES.len(), Reason::Internal as usize + 1);
    }
}
