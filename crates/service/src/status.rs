//! The core's errors as gRPC statuses: the one place that maps them.

use std::{collections::HashMap, time::Duration};

use runloom::{json::NotExact, reason::DOMAIN, v1::ErrorReason};
use runloom_core::{Error, Reason};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// How much of a status may go into its headers: clients refuse trailers past 8 KiB, and base64 takes a third more.
const MAX_MESSAGE: usize = 512;
/// The longest message of a run's error, which is data: an error of the engine may quote several failures of nodes.
const MAX_RUN_MESSAGE: usize = 256 << 10;
const MAX_METADATA: usize = 1024;
const MAX_VIOLATIONS: usize = 2560;

/// The reason on the wire.
pub(crate) fn reason(reason: Reason) -> ErrorReason {
    use ErrorReason as E;
    use Reason as R;
    match reason {
        R::ThreadNotFound => E::ThreadNotFound,
        R::RunNotFound => E::RunNotFound,
        R::AssistantNotFound => E::AssistantNotFound,
        R::AssistantVersionNotFound => E::AssistantVersionNotFound,
        R::CheckpointNotFound => E::CheckpointNotFound,
        R::CronNotFound => E::CronNotFound,
        R::KeyNotFound => E::KeyNotFound,
        R::Unauthenticated => E::Unauthenticated,
        R::ScopeMissing => E::ScopeMissing,
        R::GraphUnknown => E::GraphUnknown,
        R::GraphInvalid => E::GraphInvalid,
        R::GraphInUse => E::GraphInUse,
        R::GraphNameTaken => E::GraphNameTaken,
        R::GraphNotRegistered => E::GraphNotRegistered,
        R::GraphIncompatible => E::GraphIncompatible,
        R::NodeUnknown => E::NodeUnknown,
        R::FieldInvalid => E::FieldInvalid,
        R::InputInvalid => E::InputInvalid,
        R::ContextInvalid => E::ContextInvalid,
        R::JsonInvalid => E::JsonInvalid,
        R::JsonTooDeep => E::JsonTooDeep,
        R::InputTooLarge => E::InputTooLarge,
        R::PageTokenInvalid => E::PageTokenInvalid,
        R::ThreadExists => E::ThreadExists,
        R::AssistantExists => E::AssistantExists,
        R::AssistantIsDefault => E::AssistantIsDefault,
        R::ThreadBusy => E::ThreadBusy,
        R::RunActive => E::RunActive,
        R::RequestIdReused => E::RequestIdReused,
        R::ModesNotRecorded => E::ModesNotRecorded,
        R::CursorInvalid => E::CursorInvalid,
        R::CursorExpired => E::CursorExpired,
        R::QuestionAmbiguous => E::QuestionAmbiguous,
        R::QuestionUnknown => E::QuestionUnknown,
        R::NothingToResume => E::NothingToResume,
        R::CheckpointChanged => E::CheckpointChanged,
        R::InvalidUpdate => E::InvalidUpdate,
        R::NodeFailed => E::NodeFailed,
        R::NodeTimeout => E::NodeTimeout,
        R::RecursionLimit => E::RecursionLimit,
        R::RunTimeout => E::RunTimeout,
        R::Cancelled => E::Cancelled,
        R::AttemptsExhausted => E::AttemptsExhausted,
        R::StoreUnavailable => E::StoreUnavailable,
        R::ServerDraining => E::ServerDraining,
        R::NotSupported => E::NotSupported,
        R::LimitReached => E::LimitReached,
        R::WorkerNotFound => E::WorkerNotFound,
        R::WorkerLost => E::WorkerLost,
        R::Internal => E::Internal,
    }
}

/// The key under which the contract knows a core's metadata.
fn key(key: &str) -> &str {
    match key {
        "open_questions" => "question_ids",
        "type" => "error_type",
        other => other,
    }
}

/// The status that ends an RPC.
pub(crate) fn status(error: Error) -> Status {
    status_with(error, HashMap::new())
}

/// The same, with more metadata: the cursor of a stream.
pub(crate) fn status_with(error: Error, more: HashMap<String, String>) -> Status {
    let reason = reason(error.reason);
    let message = if reason == ErrorReason::Internal {
        tracing::error!(%error, metadata = ?error.metadata, "a fault of this server");
        "a fault of the server; its log says more"
    } else {
        &error.message
    };
    let mut details = ErrorDetails::new();
    let mut metadata = more;
    let mut room = MAX_METADATA.saturating_sub(metadata.iter().map(|(k, v)| k.len() + v.len()).sum());
    for (name, value) in &error.metadata {
        let name = key(name);
        if room <= name.len() + 4 {
            break;
        }
        let value = cut(value, room - name.len());
        room -= name.len() + value.len();
        metadata.insert(name.to_owned(), value);
    }
    details.set_error_info(reason.name(), DOMAIN, metadata);
    let mut room = MAX_VIOLATIONS;
    for (at, (field, what)) in error.fields.iter().enumerate() {
        let (field, what) = (cut(field, 200), cut(what, 400));
        let size = field.len() + what.len() + 8;
        if size > room {
            let more = error.fields.len() - at;
            details.add_bad_request_violation(String::new(), format!("and {more} more"));
            break;
        }
        room -= size;
        details.add_bad_request_violation(field, what);
    }
    let retry = error.retry_after.or_else(|| helps_to_wait(reason));
    if retry.is_some() {
        details.set_retry_info(retry);
    }
    Status::with_error_details(reason.code(), cut(message, MAX_MESSAGE), details)
}

/// A status that this crate makes itself.
pub(crate) fn refuse(reason: Reason, message: impl Into<String>) -> Status {
    status(Error::new(reason, message))
}

/// An answer that JSON_ENCODING_VALUE cannot hold.
pub(crate) fn not_exact(why: NotExact) -> Status {
    let reason = ErrorReason::JsonNotExact;
    let details = ErrorDetails::with_error_info(reason.name(), DOMAIN, HashMap::new());
    Status::with_error_details(reason.code(), why.to_string(), details)
}

/// The same error, with the paths of its fields as the request has them.
pub(crate) fn within(mut error: Error, path: impl Fn(&str) -> String) -> Error {
    for (field, _) in &mut error.fields {
        *field = path(field);
    }
    error
}

/// Reasons that always come with a delay.
fn helps_to_wait(reason: ErrorReason) -> Option<Duration> {
    match reason {
        ErrorReason::ServerDraining | ErrorReason::StoreUnavailable | ErrorReason::LimitReached => {
            Some(Duration::from_secs(1))
        }
        _ => None,
    }
}

/// What a run failed with, as data: `End.error`, `Run.error`, `Thread.error`.
pub(crate) fn run_status(error: &Error) -> tonic_types::Status {
    let status = status(error.clone());
    // The details are such a status already; what is cut for headers is enough for people.
    let mut whole = <tonic_types::Status as prost::Message>::decode(status.details()).unwrap_or_default();
    whole.code = status.code() as i32;
    whole.message = cut(&error.message, MAX_RUN_MESSAGE);
    whole
}

/// The status of a stream whose RPC has no time left. Its reader has left, which is all that happens.
pub(crate) fn deadline(cursor: String) -> Status {
    let metadata = [(runloom::reason::CURSOR.to_owned(), cursor)];
    let details = ErrorDetails::with_error_info(ErrorReason::Unspecified.name(), DOMAIN, metadata);
    let message = "the deadline of this call is over; the run goes on";
    Status::with_error_details(Code::DeadlineExceeded, message, details)
}

/// A text of at most so many bytes.
fn cut(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let end = (0..=max.saturating_sub(3)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_fits_the_headers_of_any_client() {
        let mut error = Error::new(Reason::FieldInvalid, "é".repeat(4000)).with("known", "x".repeat(9000));
        error.fields = (0..500).map(|i| (format!("run.tags[{i}]"), "y".repeat(i))).collect();
        let status = status_with(error, [("cursor".to_owned(), "c".to_owned())].into());
        assert!(status.message().len() <= MAX_MESSAGE, "{}", status.message().len());
        assert!(status.details().len() * 4 / 3 < 6 << 10, "{}", status.details().len());
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.metadata["cursor"].as_str()), ("FIELD_INVALID", "c"));
        let last = details.bad_request().unwrap().field_violations.last().unwrap();
        assert!(last.description.starts_with("and "), "{last:?}");
    }

    #[test]
    fn what_went_wrong_inside_stays_inside() {
        let status = status(Error::new(Reason::Internal, "SELECT secret FROM table"));
        assert_eq!(status.code(), Code::Internal);
        assert!(!status.message().contains("secret"));
    }

    #[test]
    fn waiting_is_asked_for_where_it_helps() {
        let delay = |error| status(error).get_error_details().retry_info().and_then(|r| r.retry_delay);
        assert_eq!(delay(Error::new(Reason::ServerDraining, "")), Some(Duration::from_secs(1)));
        let later = Duration::from_secs(9);
        assert_eq!(delay(Error::new(Reason::ThreadBusy, "").retry_after(later)), Some(later));
        assert_eq!(delay(Error::new(Reason::RunNotFound, "")), None);
    }

    #[test]
    fn the_contracts_names_are_used() {
        let error = Error::new(Reason::QuestionAmbiguous, "two").with("open_questions", "a,b").with("graph", "g");
        let details = status(error).get_error_details();
        let metadata = &details.error_info().unwrap().metadata;
        assert_eq!(metadata["question_ids"], "a,b");
        assert_eq!(metadata["graph"], "g");
    }
}
