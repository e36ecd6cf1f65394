//! Errors of calls and runs, parsed from a status and its details.

use std::{collections::HashMap, fmt, time::Duration};

use tonic::Code;
use tonic_types::{ErrorDetails, RpcStatusExt, StatusExt};

use crate::{
    reason::{CURSOR, DOMAIN, OLDEST_CURSOR},
    v1::ErrorReason,
};

/// The error of a call ([`From<tonic::Status>`]) or of a run ([`From<tonic_types::Status>`], from `End.error`).
///
/// `Display` writes one line with the message, the reason, and every invalid field.
#[derive(Debug, Clone)]
pub struct Error(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    code: Code,
    message: String,
    reason: Option<ErrorReason>,
    /// Whether the error comes from Runloom, and not from the transport or a proxy.
    from_runloom: bool,
    metadata: HashMap<String, String>,
    violations: Vec<FieldViolation>,
    retry_delay: Option<Duration>,
}

/// A missing or invalid field of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldViolation {
    /// The path of the field: `run.config.recursion_limit`.
    pub field: String,
    /// The error.
    pub description: String,
}

impl Error {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self::from_parts(code, message.into(), ErrorDetails::new())
    }

    fn from_parts(code: Code, message: String, details: ErrorDetails) -> Self {
        let info = details.error_info().filter(|info| info.domain == DOMAIN);
        Self(Box::new(Inner {
            code,
            message,
            reason: info.and_then(|info| ErrorReason::from_name(&info.reason)),
            from_runloom: info.is_some(),
            metadata: info.map(|info| info.metadata.clone()).unwrap_or_default(),
            violations: details.bad_request().map_or_else(Vec::new, |bad| {
                let fields = bad.field_violations.iter();
                fields.map(|v| FieldViolation { field: v.field.clone(), description: v.description.clone() }).collect()
            }),
            retry_delay: details.retry_info().and_then(|info| info.retry_delay),
        }))
    }

    /// The gRPC status code.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The message.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The reason. `None` if the error does not come from Runloom (a broken connection, a proxy), or this client does not know the reason.
    pub fn reason(&self) -> Option<ErrorReason> {
        self.0.reason
    }

    /// The details of the reason; see [`ErrorReason`].
    pub fn metadata(&self) -> &HashMap<String, String> {
        &self.0.metadata
    }

    /// All missing or invalid fields.
    pub fn violations(&self) -> &[FieldViolation] {
        &self.0.violations
    }

    /// The delay that the server names for a retry.
    pub fn retry_delay(&self) -> Option<Duration> {
        self.0.retry_delay
    }

    /// The cursor to join again, if the error ended a stream.
    pub fn cursor(&self) -> Option<&str> {
        self.0.metadata.get(CURSOR).map(String::as_str)
    }

    /// The oldest cursor of the log, for CURSOR_EXPIRED.
    pub fn oldest_cursor(&self) -> Option<&str> {
        self.0.metadata.get(OLDEST_CURSOR).map(String::as_str)
    }

    /// Whether the failure is temporary: the server named a delay, or the connection broke. The call may have had an effect.
    pub fn is_transient(&self) -> bool {
        let broken = !self.0.from_runloom && matches!(self.0.code, Code::Unknown | Code::Internal | Code::Cancelled);
        broken || self.0.code == Code::Unavailable || self.0.retry_delay.is_some()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { code, message, reason, violations, .. } = &*self.0;
        match reason {
            Some(reason) => write!(f, "{message} ({})", reason.name())?,
            None => write!(f, "{message} ({code:?})")?,
        }
        for FieldViolation { field, description } in violations {
            write!(f, "; {field}: {description}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Self {
        let details = status.get_error_details();
        let mut message = status.message().to_owned();
        // The reason of a broken connection is only in its sources.
        let mut source = std::error::Error::source(&status);
        while let Some(error) = source {
            let text = error.to_string();
            if !message.contains(&text) {
                message = format!("{message}: {text}");
            }
            source = error.source();
        }
        Self::from_parts(status.code(), message, details)
    }
}

impl From<tonic_types::Status> for Error {
    fn from(status: tonic_types::Status) -> Self {
        let details = status.get_error_details();
        Self::from_parts(Code::from(status.code), status.message, details)
    }
}

impl From<tonic::transport::Error> for Error {
    fn from(error: tonic::transport::Error) -> Self {
        // The outer error alone says "transport error".
        let message = causes(&error);
        let status = tonic::Status::from_error(Box::new(error));
        Self::from(tonic::Status::new(status.code(), message))
    }
}

/// An error with its causes, joined by colons.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_says_it_all() {
        let mut details = ErrorDetails::with_error_info("FIELD_INVALID", DOMAIN, HashMap::new());
        details.add_bad_request_violation("run.thread_id", "not a UUID");
        details.add_bad_request_violation("run.target", "missing");
        let status = tonic::Status::with_error_details(Code::InvalidArgument, "2 fields are wrong", details);
        let error = Error::from(status);
        assert_eq!(
            error.to_string(),
            "2 fields are wrong (FIELD_INVALID); run.thread_id: not a UUID; run.target: missing"
        );
        assert_eq!(error.reason(), Some(ErrorReason::FieldInvalid));
        assert!(!error.is_transient());
    }

    #[test]
    fn what_is_worth_another_try() {
        let of = |code, reason: Option<&str>, delay| {
            let mut details = ErrorDetails::new();
            if let Some(reason) = reason {
                details.set_error_info(reason, DOMAIN, HashMap::new());
            }
            if delay {
                details.set_retry_info(Some(Duration::from_millis(5)));
            }
            Error::from(tonic::Status::with_error_details(code, "", details)).is_transient()
        };
        assert!(of(Code::Unavailable, None, false));
        assert!(of(Code::Unavailable, Some("SERVER_DRAINING"), true));
        assert!(of(Code::ResourceExhausted, Some("LIMIT_REACHED"), true));
        assert!(of(Code::Internal, None, false), "a stream that was reset");
        assert!(!of(Code::Internal, Some("INTERNAL"), false));
        assert!(!of(Code::Unknown, Some("A_REASON_OF_NEXT_YEAR"), false));
        assert!(!of(Code::NotFound, None, false));
        assert!(!of(Code::OutOfRange, Some("CURSOR_EXPIRED"), false));
    }
}
