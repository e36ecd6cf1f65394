//! Calls over HTTP, as documents describe them: where they may go, how long they may take, how much they may bring.

mod answer;
mod secret;

use std::time::Duration;

use futures_util::future::BoxFuture;
use reqwest::{
    Client, Method, Url,
    header::{self, HeaderMap, HeaderName, HeaderValue},
};
use runloom_engine::Value;
use tokio::time::Instant;

pub use self::secret::Secret;
use crate::egress::{Egress, Refused, refusal, told};

/// How many redirects are followed.
const MAX_REDIRECTS: usize = 10;
/// How long a call may take where it does not say.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// How many bytes an answer may have where a call does not say.
pub const DEFAULT_MAX_BYTES: usize = 1 << 20;
/// Headers that belong to the connection, not to who calls.
const OWN: [HeaderName; 7] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::UPGRADE,
    header::TE,
    header::PROXY_AUTHORIZATION,
];
/// Headers that go along when a redirect leaves for another origin; whatever else a call has may be a key.
const HARMLESS: [HeaderName; 5] =
    [header::ACCEPT, header::ACCEPT_LANGUAGE, header::CONTENT_TYPE, header::CONTENT_LANGUAGE, header::USER_AGENT];

/// A call.
#[derive(Clone, Debug)]
pub struct HttpRequest {
    /// The method.
    pub method: Method,
    /// The address.
    pub url: String,
    /// What is added to the address's query, encoded.
    pub query: Vec<(String, String)>,
    /// Headers, by name.
    pub headers: Vec<(String, HeaderText)>,
    /// What is sent: a text as it is, anything else as JSON, nothing for null.
    pub body: Value,
    /// The longest it may take, redirects and the answer's body included.
    pub timeout: Duration,
    /// The most bytes that the answer's body may have.
    pub max_bytes: usize,
}

impl HttpRequest {
    /// A `GET` of an address, with the defaults.
    pub fn get(url: impl Into<String>) -> Self {
        Self {
            method: Method::GET,
            url: url.into(),
            query: Vec::new(),
            headers: Vec::new(),
            body: Value::Null,
            timeout: DEFAULT_TIMEOUT,
            max_bytes: DEFAULT_MAX_BYTES,
        }
    }
}

/// The value of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderText {
    /// As it is.
    Text(String),
    /// A variable of the environment, after a prefix such as `Bearer `. Sent where the operator allows it.
    Env {
        /// The variable's name.
        name: String,
        /// What stands before its value.
        prefix: String,
    },
}

/// What came back.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpAnswer {
    /// The status, 200.
    pub status: u16,
    /// The headers, by name in lower case; several of one name joined with a comma.
    pub headers: Vec<(String, String)>,
    /// What JSON holds, or else the text.
    pub body: Value,
}

impl HttpAnswer {
    /// True for a status from 200 to 299.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// `{status, headers, body}`.
    pub fn into_value(self) -> Value {
        let headers: Value = Value::Object(
            self.headers.iter().map(|(name, value)| (name.as_str(), Value::from(value.as_str()))).collect(),
        );
        Value::Object(
            [("status", Value::from(i64::from(self.status))), ("headers", headers), ("body", self.body)]
                .into_iter()
                .collect(),
        )
    }
}

/// Why a call came to nothing. What it says holds the address's host, never its path or query.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{host}{sep}{message}", sep = if host.is_empty() { "" } else { ": " })]
pub struct HttpError {
    /// The host, where there is one.
    pub host: String,
    /// What went wrong, and what to do.
    pub message: String,
    /// True where the same call may succeed later.
    pub retryable: bool,
}

/// Calls over HTTP. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct HttpClient {
    egress: Egress,
    secrets: Vec<Secret>,
}

impl HttpClient {
    /// A client that keeps to a rule of where it may go, and sends these secrets where they may go.
    pub fn new(egress: Egress, secrets: impl IntoIterator<Item = Secret>) -> Self {
        Self { egress, secrets: secrets.into_iter().collect() }
    }

    /// Calls, and follows redirects. Dropping the future closes the connection.
    ///
    /// Any status is an answer, not an error.
    ///
    /// Boxed, so that what a call runs through is compiled in this crate and not in each that calls.
    pub fn call(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpAnswer, HttpError>> {
        Box::pin(self.call_now(request))
    }

    async fn call_now(&self, request: HttpRequest) -> Result<HttpAnswer, HttpError> {
        let mut url = self.egress.check(&request.url).map_err(|refused| match &refused {
            Refused::Private { .. } => failed("", refused.to_string(), false),
            Refused::Url(_) => failed(&host_of(&request.url), refused.to_string(), false),
        })?;
        if !request.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&request.query);
        }
        let host = url.host_str().unwrap_or_default().to_owned();
        let deadline = Instant::now() + request.timeout;
        match tokio::time::timeout_at(deadline, self.follow(&request, url)).await {
            Ok(result) => result,
            Err(_) => {
                let message = format!("no whole answer within {:?}; `timeout_ms` sets another time", request.timeout);
                Err(failed(&host, message, true))
            }
        }
    }

    async fn follow(&self, request: &HttpRequest, start: Url) -> Result<HttpAnswer, HttpError> {
        let (mut url, mut method) = (start, request.method.clone());
        let wrong = |url: &Url, message: String| failed(url.host_str().unwrap_or_default(), message, false);
        let mut headers = self.headers(request, &url).map_err(|message| wrong(&url, message))?;
        let mut body = body(&request.body);
        if body.is_some() && !headers.contains_key(header::CONTENT_TYPE) {
            let kind =
                if matches!(request.body, Value::String(_)) { "text/plain; charset=utf-8" } else { "application/json" };
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        for _ in 0..=MAX_REDIRECTS {
            let client = self.egress.client(&url).map_err(|message| wrong(&url, message))?;
            let response = send(client, &method, &url, &headers, body.clone()).await?;
            let next = match response.status().as_u16() {
                301 | 302 | 303 | 307 | 308 => response.headers().get(header::LOCATION),
                _ => None,
            };
            let Some(location) = next else {
                return answer::read(response, url.host_str().unwrap_or_default(), request.max_bytes).await;
            };
            let there = std::str::from_utf8(location.as_bytes()).ok().and_then(|to| url.join(to).ok());
            let there = there.ok_or_else(|| wrong(&url, "redirects to what is no address".to_owned()))?;
            self.egress.check_url(&there).map_err(|refused| wrong(&url, format!("redirects away, and {refused}")))?;
            let keeps = matches!(response.status().as_u16(), 307 | 308);
            if !keeps && method != Method::HEAD {
                (method, body) = (Method::GET, None);
                headers.remove(header::CONTENT_TYPE);
            }
            if there.origin() != url.origin() {
                let kept = headers.into_iter().filter_map(|(name, value)| Some((name?, value)));
                headers = kept.filter(|(name, _)| HARMLESS.contains(name)).collect();
            }
            url = there;
        }
        Err(wrong(&url, format!("redirects more than {MAX_REDIRECTS} times")))
    }

    fn headers(&self, request: &HttpRequest, url: &Url) -> Result<HeaderMap, String> {
        let mut headers = HeaderMap::new();
        for (name, text) in &request.headers {
            let name: HeaderName = name.parse().map_err(|_| format!("`{name}` is no name of a header"))?;
            if OWN.contains(&name) {
                return Err(format!("the header `{name}` is set by the connection itself; leave it out"));
            }
            let text = match text {
                HeaderText::Text(text) => text.clone(),
                HeaderText::Env { name, prefix } => format!("{prefix}{}", Secret::find(&self.secrets, name, url)?),
            };
            let mut value = HeaderValue::from_str(&text)
                .map_err(|_| format!("what the header `{name}` is to hold is not a line of text"))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(headers)
    }
}

async fn send(
    client: &Client,
    method: &Method,
    url: &Url,
    headers: &HeaderMap,
    body: Option<String>,
) -> Result<reqwest::Response, HttpError> {
    let mut call = client.request(method.clone(), url.clone()).headers(headers.clone());
    if let Some(body) = body {
        call = call.body(body);
    }
    call.send().await.map_err(|error| {
        let host = url.host_str().unwrap_or_default();
        match refusal(&error) {
            Some(refused) => failed("", refused.to_string(), false),
            None if error.is_timeout() => failed(host, "cannot be connected to within 10s".to_owned(), true),
            None if error.is_connect() => {
                failed(host, format!("cannot be connected to: {}", told(&error.without_url())), true)
            }
            None => failed(host, told(&error.without_url()), true),
        }
    })
}

fn body(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.to_string()),
        other => Some(other.to_json().to_string()),
    }
}

fn failed(host: &str, message: String, retryable: bool) -> HttpError {
    HttpError { host: host.to_owned(), message, retryable }
}

fn host_of(url: &str) -> String {
    Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default()
}
