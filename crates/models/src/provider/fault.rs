//! Why a call failed: what the provider and the connection say becomes one error, with whether and when to try again.

use std::time::{Duration, SystemTime};

use reqwest::{StatusCode, header::HeaderMap};
use runloom_engine::model::ModelError;
use serde_json::Value as Json;

use super::ProviderConfig;

/// A failed call, or a failed attempt at one.
#[derive(Debug, PartialEq)]
pub(crate) struct Fault {
    pub message: String,
    /// Whether the same call may succeed later.
    pub may_pass: bool,
    /// Whether it is tried again here, where nothing has been given yet.
    pub try_again: bool,
    /// How long to wait first, where the provider said.
    pub retry_after: Option<Duration>,
}

impl Fault {
    /// One that stays.
    pub fn lasting(message: impl Into<String>) -> Self {
        Self { message: message.into(), may_pass: false, try_again: false, retry_after: None }
    }

    /// One that may pass, but is not tried again here.
    pub fn passing(message: impl Into<String>) -> Self {
        Self { may_pass: true, ..Self::lasting(message) }
    }

    /// One that is tried again here.
    pub fn brief(message: impl Into<String>) -> Self {
        Self { try_again: true, ..Self::passing(message) }
    }

    /// What it is, without what the provider says of it: for a log.
    pub fn what(&self) -> &str {
        self.message.split(": ").next().unwrap_or_default()
    }

    /// The error of a call of a model.
    pub fn of(self, config: &ProviderConfig) -> ModelError {
        ModelError {
            model: format!("{} {}", config.kind.name(), config.model),
            message: self.message,
            retryable: self.may_pass,
            retry_after: self.retry_after,
        }
    }

    /// A connection that could not be made, or broke.
    pub fn of_connection(error: &reqwest::Error) -> Self {
        let why = innermost(error);
        match () {
            () if error.is_builder() => Self::lasting(format!("the request cannot be made: {why}")),
            () if error.is_connect() && error.is_timeout() => Self::brief("it could not be reached in time"),
            () if error.is_connect() => Self::brief(format!("it could not be reached: {why}")),
            () => Self::brief(format!("the connection broke: {why}")),
        }
    }

    /// An answer that is an error.
    pub fn of_answer(status: StatusCode, body: &str, headers: &HeaderMap) -> Self {
        let body: Option<Json> = serde_json::from_str(body).ok();
        let said = body.as_ref().map(Said::read).unwrap_or_default();
        let mut message =
            format!("{} {}", status.as_u16(), status.canonical_reason().unwrap_or("")).trim_end().to_owned();
        if status.is_redirection() {
            message.push_str(": redirects are not followed; let `base_url` name where it leads");
        }
        if let Some(text) = &said.message {
            message.push_str(": ");
            message.push_str(text);
        }
        let header = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
        let may_pass = match (header("x-should-retry"), status.as_u16()) {
            // Out of credit: waiting does not help.
            _ if said.code.as_deref() == Some("insufficient_quota") => false,
            (Some("true"), _) => true,
            (Some("false"), _) => false,
            (_, 408 | 429 | 500 | 502 | 503 | 504 | 529) => true,
            _ => false,
        };
        Self { message, may_pass, try_again: may_pass, retry_after: retry_after(headers, SystemTime::now()) }
    }

    /// An error in the middle of an answer.
    pub fn of_event(body: &Json) -> Self {
        let said = Said::read(body);
        let lasting = [
            "invalid_request_error",
            "authentication_error",
            "permission_error",
            "not_found_error",
            "insufficient_quota",
        ];
        let may_pass = !said.words().any(|word| lasting.contains(&word))
            && !said.status.is_some_and(|s| (400..500).contains(&s) && s != 429);
        let text = said.message.unwrap_or_else(|| short(&body.to_string()));
        Self { try_again: may_pass, may_pass, ..Self::lasting(format!("it broke off with an error: {text}")) }
    }
}

/// What an error's body says, in any provider's form.
#[derive(Default)]
struct Said {
    message: Option<String>,
    kind: Option<String>,
    code: Option<String>,
    status: Option<u64>,
}

impl Said {
    fn read(body: &Json) -> Self {
        // Gemini puts its error into a list where it answers with one.
        let body = body.get(0).unwrap_or(body);
        let error = body.get("error").unwrap_or(body);
        let text = |name: &str| error.get(name).and_then(Json::as_str).map(str::to_owned);
        let said = error.as_str().map(str::to_owned).or_else(|| text("message"));
        Self {
            message: said.map(|m| short(&m)),
            kind: text("type"),
            code: text("code"),
            status: error.get("code").and_then(Json::as_u64),
        }
    }

    fn words(&self) -> impl Iterator<Item = &str> {
        self.kind.iter().chain(&self.code).map(String::as_str)
    }
}

/// How long a provider wants to be left alone: milliseconds, seconds, or a date.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).map(str::trim);
    let number = |text: &str| text.parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0);
    let span = |seconds: f64| Duration::try_from_secs_f64(seconds).ok();
    if let Some(ms) = text("retry-after-ms").and_then(number) {
        return span(ms / 1000.0);
    }
    let after = text("retry-after")?;
    match number(after) {
        Some(seconds) => span(seconds),
        None => Some(httpdate::parse_http_date(after).ok()?.duration_since(now).unwrap_or_default()),
    }
}

/// The reason under an error's reasons, without the address.
fn innermost(error: &reqwest::Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    short(&inner.to_string())
}

/// A text of someone else's in an error: on one line, not too long.
fn short(text: &str) -> String {
    const MOST: usize = 500;
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())])
    }

    #[test]
    fn a_time_to_wait_is_read_as_milliseconds_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Wed, 21 Oct 2026 07:28:00 GMT").unwrap();
        let after = |name, value| retry_after(&headers(name, value), now);
        assert_eq!(after("retry-after-ms", "250"), Some(Duration::from_millis(250)));
        assert_eq!(after("retry-after", "2"), Some(Duration::from_secs(2)));
        assert_eq!(after("retry-after", "Wed, 21 Oct 2026 07:28:09 GMT"), Some(Duration::from_secs(9)));
        assert_eq!(after("retry-after", "Wed, 21 Oct 2026 07:00:00 GMT"), Some(Duration::ZERO));
        for nonsense in ["soon", "-1", "inf", "NaN", "1e400", ""] {
            assert_eq!(after("retry-after", nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn a_log_has_nothing_of_what_the_provider_says() {
        let body = r#"{"error": {"message": "cannot serve prompt: my secret"}}"#;
        let answer = Fault::of_answer(StatusCode::SERVICE_UNAVAILABLE, body, &HeaderMap::new());
        let event = Fault::of_event(&serde_json::from_str(body).unwrap());
        for (fault, what) in [(answer, "503 Service Unavailable"), (event, "it broke off with an error")] {
            assert!(fault.message.contains("my secret"), "its caller is told");
            assert_eq!(fault.what(), what);
        }
    }

    #[test]
    fn what_may_pass_is_told_from_what_stays() {
        let read =
            |status: u16, body: &str| Fault::of_answer(StatusCode::from_u16(status).unwrap(), body, &HeaderMap::new());
        for status in [408, 429, 500, 502, 503, 504, 529] {
            assert!(read(status, "").try_again, "{status}");
        }
        for status in [301, 400, 401, 403, 404, 413, 422, 501] {
            assert!(!read(status, "").may_pass, "{status}");
        }
        let broke = read(429, r#"{"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}"#);
        assert!(!broke.may_pass && broke.message.ends_with("You exceeded your quota"));
        let event = |text: &str| Fault::of_event(&serde_json::from_str(text).unwrap());
        assert!(
            event(r#"{"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}"#).try_again
        );
        assert!(!event(r#"{"type": "invalid_request_error", "message": "no"}"#).may_pass);
    }
}
