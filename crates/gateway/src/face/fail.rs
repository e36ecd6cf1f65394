//! Errors as LangGraph's clients read them: `{"detail": …}` with a status. One table says which reason has which.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use runloom_core::{Error, Reason};

/// What an endpoint answers.
pub(crate) type Reply = Result<Response, Fail>;

/// An answer that is an error.
#[derive(Debug)]
pub(crate) struct Fail {
    pub status: StatusCode,
    pub detail: String,
    pub retry_after: Option<Duration>,
}

impl Fail {
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), retry_after: None }
    }

    /// A field that cannot be used.
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    }

    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// With another status.
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }
}

/// The status of a reason.
fn status(reason: Reason) -> StatusCode {
    use Reason as R;
    match reason {
        R::ThreadNotFound
        | R::RunNotFound
        | R::AssistantNotFound
        | R::AssistantVersionNotFound
        | R::CheckpointNotFound
        | R::CronNotFound
        | R::KeyNotFound
        | R::WorkerNotFound
        | R::GraphNotRegistered => StatusCode::NOT_FOUND,
        R::GraphUnknown
        | R::GraphInvalid
        | R::NodeUnknown
        | R::FieldInvalid
        | R::InputInvalid
        | R::ContextInvalid
        | R::JsonInvalid
        | R::JsonTooDeep
        | R::PageTokenInvalid
        | R::ModesNotRecorded
        | R::CursorInvalid
        | R::QuestionAmbiguous
        | R::QuestionUnknown
        | R::NothingToResume
        | R::InvalidUpdate => StatusCode::UNPROCESSABLE_ENTITY,
        R::InputTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        R::GraphInUse
        | R::GraphNameTaken
        | R::GraphIncompatible
        | R::ThreadExists
        | R::AssistantExists
        | R::AssistantIsDefault
        | R::ThreadBusy
        | R::RunActive
        | R::RequestIdReused
        | R::CheckpointChanged
        | R::WorkerLost
        | R::Cancelled => StatusCode::CONFLICT,
        R::CursorExpired => StatusCode::GONE,
        R::Unauthenticated => StatusCode::UNAUTHORIZED,
        R::ScopeMissing => StatusCode::FORBIDDEN,
        R::LimitReached => StatusCode::TOO_MANY_REQUESTS,
        R::NotSupported => StatusCode::NOT_IMPLEMENTED,
        R::StoreUnavailable | R::ServerDraining => StatusCode::SERVICE_UNAVAILABLE,
        R::NodeFailed | R::NodeTimeout | R::RecursionLimit | R::RunTimeout | R::AttemptsExhausted | R::Internal => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

impl From<Error> for Fail {
    fn from(error: Error) -> Self {
        if error.reason == Reason::Internal {
            tracing::error!(%error, "an operation failed");
        }
        // All that is wrong, not the first only.
        let rest: Vec<String> = match &error.fields[..] {
            [_, _, ..] => error.fields.iter().map(|(field, what)| format!("{field}: {what}")).collect(),
            _ => Vec::new(),
        };
        let detail = if rest.is_empty() { error.message } else { rest.join("\n") };
        Self { status: status(error.reason), detail, retry_after: error.retry_after }
    }
}

impl From<runloom_core::store::Error> for Fail {
    fn from(error: runloom_core::store::Error) -> Self {
        Error::from(error).into()
    }
}

impl IntoResponse for Fail {
    fn into_response(self) -> Response {
        let body = object! { "detail" => self.detail };
        let mut response = super::json(self.status, body);
        if let Some(wait) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
        }
        response
    }
}
