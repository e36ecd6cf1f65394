//! Webhooks: the run, as LangGraph's server shows it, posted over HTTP when it has ended.
//!
//! No redirect is followed, no proxy is asked, and unless it is allowed no address of a private network is called:
//! `runloom_tools::egress` sees to that. With a secret each call is signed as
//! [Standard Webhooks](https://www.standardwebhooks.com) has it.

mod sign;

use std::{time::Duration, time::SystemTime};

use async_trait::async_trait;
use reqwest::header;
use runloom_core::{
    Error, Posted, Webhooks,
    store::{Delivery, Run},
};
use runloom_engine::Value;
use runloom_tools::egress::{Egress, refusal, told};

use self::sign::Key;
use crate::{
    face::text,
    langgraph::{error_object, iso, records},
};

/// How webhooks are called.
#[derive(Clone, Default)]
pub struct WebhookOptions {
    /// Where calls may go.
    pub egress: Egress,
    /// What calls are signed with: `whsec_` and base64, or any text. Without it they are not signed.
    pub secret: Option<String>,
    /// How long a call may take; 30 s where there is none.
    pub timeout: Option<Duration>,
}

/// Calls webhooks.
pub struct WebhookClient {
    egress: Egress,
    key: Option<Key>,
    timeout: Duration,
}

impl WebhookClient {
    /// A client. An error says what is wrong with the secret.
    pub fn new(options: WebhookOptions) -> Result<Self, String> {
        let key = options.secret.as_deref().map(Key::read).transpose()?;
        Ok(Self { egress: options.egress, key, timeout: options.timeout.unwrap_or(Duration::from_secs(30)) })
    }

    async fn call(&self, delivery: &Delivery) -> Result<reqwest::StatusCode, Posted> {
        let url = self.egress.check(&delivery.url).map_err(|refused| Posted::Refused(refused.to_string()))?;
        let now = SystemTime::now();
        let body = with_time(&delivery.body, now);
        let id = delivery.run.to_string();
        let client = self.egress.client(&url).map_err(Posted::Failed)?;
        let mut request = client.post(url).timeout(self.timeout).header(header::CONTENT_TYPE, "application/json");
        let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        request = request.header(sign::ID, &id).header(sign::TIMESTAMP, seconds);
        if let Some(key) = &self.key {
            request = request.header(sign::SIGNATURE, key.sign(&id, seconds, &body));
        }
        match request.body(body).send().await {
            Ok(answer) => Ok(answer.status()),
            Err(error) => Err(match refusal(&error) {
                Some(refused) => Posted::Refused(refused.to_string()),
                None if error.is_timeout() => Posted::Failed(format!("no answer within {:?}", self.timeout)),
                None => Posted::Failed(told(&error.without_url())),
            }),
        }
    }
}

#[async_trait]
impl Webhooks for WebhookClient {
    fn check(&self, url: &str) -> Result<(), String> {
        self.egress.check(url).map(drop).map_err(|refused| refused.to_string())
    }

    fn body(&self, run: &Run, values: Option<&Value>, error: Option<&Error>) -> String {
        let mut body = records::run(run);
        body.insert("run_started_at", Value::from(run.started_at.map(iso)));
        body.insert("run_ended_at", Value::from(run.ended_at.map(iso)));
        body.insert("values", values.cloned().unwrap_or_default());
        if let Some(error) = error {
            body.insert("error", error_object(error));
        }
        String::from_utf8(text(&body.into())).unwrap_or_default()
    }

    async fn post(&self, delivery: &Delivery) -> Posted {
        match self.call(delivery).await {
            Ok(status) if status.is_success() => Posted::Taken,
            Ok(status) if status.is_redirection() => {
                Posted::Failed(format!("answered {status}; redirects are not followed"))
            }
            Ok(status) => Posted::Failed(format!("answered {status}")),
            Err(posted) => posted,
        }
    }
}

/// A body, which is an object, with the time at which it is sent.
fn with_time(body: &str, now: SystemTime) -> String {
    match body.strip_suffix('}') {
        Some(open) => format!("{open},\"webhook_sent_at\":\"{}\"}}", iso(now)),
        None => body.to_owned(),
    }
}
