//! Calls over HTTP, of nodes and of tools.

use std::{sync::Arc, time::Duration};

use runloom_engine::{NodeError, NodeFailure, Object, Value, trace};
use runloom_models::dumps;
use runloom_tools::{HttpAnswer, HttpClient, HttpError, HttpRequest, http::HeaderText};

use crate::{expr::Env, read::given::Given};

/// A call as a document describes it.
pub(crate) struct HttpCall {
    pub client: HttpClient,
    /// None for `GET`, or `POST` where there is a body.
    pub method: Option<Given>,
    pub url: Given,
    pub query: Option<Part<Given>>,
    pub headers: Option<Part<HeaderOf>>,
    pub body: Option<Given>,
    pub timeout: Duration,
    pub max_bytes: usize,
}

/// Something of several fields: each by itself, or an expression that makes an object.
#[derive(Debug)]
pub(crate) enum Part<T> {
    Whole(Given),
    Fields(Vec<(Arc<str>, T)>),
}

/// Where a header comes from.
#[derive(Debug)]
pub(crate) enum HeaderOf {
    Given(Given),
    /// A variable of the environment, sent where the operator allows it.
    Env {
        name: Arc<str>,
        prefix: Arc<str>,
    },
}

impl std::fmt::Debug for HttpCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpCall").field("url", &self.url).finish_non_exhaustive()
    }
}

/// The type of the error of a call that came to nothing.
pub(super) const HTTP_ERROR: &str = "HttpError";

/// How much of an answer a model is shown of a failure.
const MAX_SHOWN: usize = 2000;

impl HttpCall {
    /// Calls. Any status is an answer.
    pub async fn call(&self, env: &Env<'_>) -> Result<HttpAnswer, NodeError> {
        let request = self.request(env)?;
        self.client.call(request).await.map_err(failed)
    }

    /// What a model is given: the body. A status that is no success is an error.
    pub async fn answer(&self, env: &Env<'_>) -> Result<Value, NodeError> {
        let answer = self.call(env).await?;
        if answer.is_success() {
            return Ok(answer.body);
        }
        let text = match answer.body {
            Value::Null => String::new(),
            Value::String(text) => format!(": {text}"),
            other => format!(": {}", dumps(&other, false)),
        };
        let text = match text.char_indices().nth(MAX_SHOWN) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text,
        };
        Err(NodeError::new(HTTP_ERROR, format!("the service answered with status {}{text}", answer.status)))
    }

    fn request(&self, env: &Env<'_>) -> Result<HttpRequest, NodeError> {
        let body = self.body.as_ref().map(|body| body.eval(env)).transpose()?.unwrap_or_default();
        let method = match &self.method {
            None if body.is_null() => "GET".to_owned(),
            None => "POST".to_owned(),
            Some(method) => line("method", &method.eval(env)?)?,
        };
        let method = method.parse().map_err(|_| wrong(format!("`method` makes `{method}`, which is no method")))?;
        let mut headers = match &self.headers {
            None => Vec::new(),
            Some(Part::Whole(given)) => {
                let made = object("headers", given.eval(env)?)?;
                let each = made.iter().filter(|(_, value)| !value.is_null());
                each.map(|(name, value)| Ok((name.to_string(), HeaderText::Text(line(name, value)?))))
                    .collect::<Result<_, NodeError>>()?
            }
            Some(Part::Fields(fields)) => {
                let mut headers = Vec::with_capacity(fields.len());
                for (name, header) in fields {
                    let text = match header {
                        HeaderOf::Env { name, prefix } => {
                            HeaderText::Env { name: name.to_string(), prefix: prefix.to_string() }
                        }
                        HeaderOf::Given(given) => match given.eval(env)? {
                            Value::Null => continue,
                            value => HeaderText::Text(line(name, &value)?),
                        },
                    };
                    headers.push((name.to_string(), text));
                }
                headers
            }
        };
        for (name, value) in trace::carried().iter() {
            let is_set = headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
            if let (Some(text), false) = (value.as_str(), is_set) {
                headers.push((name.to_string(), HeaderText::Text(text.to_owned())));
            }
        }
        Ok(HttpRequest {
            method,
            url: line("url", &self.url.eval(env)?)?,
            query: self.query(env)?,
            headers,
            body,
            timeout: self.timeout,
            max_bytes: self.max_bytes,
        })
    }

    /// The query's pairs: a list makes several of one name, null none.
    fn query(&self, env: &Env<'_>) -> Result<Vec<(String, String)>, NodeError> {
        let mut pairs = Vec::new();
        let mut add = |name: &str, value: Value| {
            let values: Vec<Value> = match value {
                Value::Null => Vec::new(),
                Value::List(items) => items.iter().cloned().collect(),
                one => vec![one],
            };
            for value in values {
                pairs.push((name.to_owned(), line(name, &value)?));
            }
            Ok::<(), NodeError>(())
        };
        match &self.query {
            None => {}
            Some(Part::Whole(given)) => {
                object("query", given.eval(env)?)?.iter().try_for_each(|(name, value)| add(name, value.clone()))?;
            }
            Some(Part::Fields(fields)) => {
                for (name, given) in fields {
                    add(name, given.eval(env)?)?;
                }
            }
        }
        Ok(pairs)
    }
}

fn wrong(message: String) -> NodeError {
    NodeError::Failed(NodeFailure { retryable: false, ..NodeFailure::new(HTTP_ERROR, message) })
}

fn failed(error: HttpError) -> NodeError {
    NodeError::Failed(NodeFailure { retryable: error.retryable, ..NodeFailure::new(HTTP_ERROR, error.to_string()) })
}

/// A text, or a number or a truth value as one.
fn line(what: &str, value: &Value) -> Result<String, NodeError> {
    match value {
        Value::String(text) => Ok(text.to_string()),
        Value::Bool(_) | Value::Int(_) | Value::UInt(_) | Value::Float(_) => Ok(value.to_json().to_string()),
        other => Err(wrong(format!("`{what}` of `http` has to be a text, not {}", other.kind()))),
    }
}

fn object(what: &str, value: Value) -> Result<Object, NodeError> {
    match value {
        Value::Object(fields) => Ok(fields),
        other => Err(wrong(format!("`{what}` of `http` has to make an object, not {}", other.kind()))),
    }
}
