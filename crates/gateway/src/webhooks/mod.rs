//! Webhooks: the run, as LangGraph's server shows it, posted over HTTP when it has ended.
//!
//! No redirect is followed, no proxy is asked, and unless it is allowed no address of a private network is called: names
//! are looked up by this client itself, and what they stand for is looked at before it is connected to. With a secret each
//! call is signed as [Standard Webhooks](https://www.standardwebhooks.com) has it.

mod address;
mod sign;

use std::{error::Error as StdError, sync::OnceLock, time::Duration, time::SystemTime};

use async_trait::async_trait;
use reqwest::{Client, Url, header, redirect};
use runloom_core::{
    Error, Posted, Webhooks,
    store::{Delivery, Run},
};
use runloom_engine::Value;

use self::{
    address::{Lookup, Private, is_public},
    sign::Key,
};
use crate::{
    face::text,
    langgraph::{error_object, iso, records},
};

/// The longest an address may be, in bytes.
const MAX_URL: usize = 4096;
/// How long it may take to connect.
const CONNECT: Duration = Duration::from_secs(10);

/// How webhooks are called.
#[derive(Clone, Default)]
pub struct WebhookOptions {
    /// Calls addresses of private networks too, and of this machine.
    pub allow_private: bool,
    /// What calls are signed with: `whsec_` and base64, or any text. Without it they are not signed.
    pub secret: Option<String>,
    /// How long a call may take; 30 s where there is none.
    pub timeout: Option<Duration>,
}

/// Calls webhooks.
pub struct WebhookClient {
    allow_private: bool,
    key: Option<Key>,
    timeout: Duration,
    /// Made with the first call: it reads the system's certificates.
    client: OnceLock<Result<Client, String>>,
}

impl WebhookClient {
    /// A client. An error says what is wrong with the secret.
    pub fn new(options: WebhookOptions) -> Result<Self, String> {
        let key = options.secret.as_deref().map(Key::read).transpose()?;
        let timeout = options.timeout.unwrap_or(Duration::from_secs(30));
        Ok(Self { allow_private: options.allow_private, key, timeout, client: OnceLock::new() })
    }

    fn client(&self) -> Result<&Client, String> {
        let made = self.client.get_or_init(|| {
            // Another part of the program may have chosen one.
            let _ = rustls::crypto::ring::default_provider().install_default();
            let client = Client::builder()
                .user_agent(concat!("runloom/", env!("CARGO_PKG_VERSION")))
                .redirect(redirect::Policy::none())
                .no_proxy()
                .dns_resolver(std::sync::Arc::new(Lookup { allow_private: self.allow_private }))
                .connect_timeout(CONNECT)
                .timeout(self.timeout);
            client.build().map_err(|error| format!("no HTTP client can be made: {}", told(&error)))
        });
        made.as_ref().map_err(String::clone)
    }

    fn checked(&self, url: &str) -> Result<Url, String> {
        if url.len() > MAX_URL {
            return Err(format!("is longer than {MAX_URL} bytes"));
        }
        let url = Url::parse(url).map_err(|error| format!("is no address ({error}); it takes http:// or https://"))?;
        if !["http", "https"].contains(&url.scheme()) {
            return Err(format!("takes http:// or https://, not {}://", url.scheme()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must not hold a password; calls are signed instead".to_owned());
        }
        let host = url.host_str().unwrap_or_default().trim_end_matches('.');
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse();
        let is_local = host == "localhost" || host.ends_with(".localhost");
        if !self.allow_private && (is_local || literal.is_ok_and(|ip| !is_public(ip))) {
            return Err(Private { host: host.to_owned() }.to_string());
        }
        Ok(url)
    }

    async fn call(&self, delivery: &Delivery) -> Result<reqwest::StatusCode, Posted> {
        let url = self.checked(&delivery.url).map_err(Posted::Refused)?;
        let now = SystemTime::now();
        let body = with_time(&delivery.body, now);
        let id = delivery.run.to_string();
        let mut request =
            self.client().map_err(Posted::Failed)?.post(url).header(header::CONTENT_TYPE, "application/json");
        let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        request = request.header(sign::ID, &id).header(sign::TIMESTAMP, seconds);
        if let Some(key) = &self.key {
            request = request.header(sign::SIGNATURE, key.sign(&id, seconds, &body));
        }
        match request.body(body).send().await {
            Ok(answer) => Ok(answer.status()),
            Err(error) => Err(match private(&error) {
                Some(private) => Posted::Refused(private.to_string()),
                None if error.is_timeout() => Posted::Failed(format!("no answer within {:?}", self.timeout)),
                None => Posted::Failed(told(&error.without_url())),
            }),
        }
    }
}

#[async_trait]
impl Webhooks for WebhookClient {
    fn check(&self, url: &str) -> Result<(), String> {
        self.checked(url).map(drop)
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

/// That a call failed because of where it was to go.
fn private<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e Private> {
    causes(error).find_map(|error| error.downcast_ref())
}

/// An error with what it came from.
fn told(error: &(dyn StdError + 'static)) -> String {
    causes(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn causes<'e>(error: &'e (dyn StdError + 'static)) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_cannot_be_called_are_told_before() {
        let strict = WebhookClient::new(WebhookOptions::default()).unwrap();
        for bad in [
            "/ok",
            "ftp://example.org",
            "http://",
            "https://user:pass@example.org",
            "http://localhost:8123/x",
            "http://api.localhost.",
            "http://127.0.0.1/",
            // The same in other spellings.
            "http://2130706433/",
            "http://0x7f.1/",
            "http://[::1]/",
            "http://[::ffff:10.0.0.1]/",
            "http://169.254.169.254/latest/meta-data",
        ] {
            assert!(strict.check(bad).is_err(), "{bad}");
        }
        assert!(strict.check(&format!("http://example.org/{}", "x".repeat(5000))).is_err());
        for good in ["https://example.org/hook?a=b", "http://93.184.216.34:8080/", "http://[2606:2800:220:1::1]/"] {
            assert_eq!(strict.check(good), Ok(()), "{good}");
        }
        let open = WebhookClient::new(WebhookOptions { allow_private: true, ..Default::default() }).unwrap();
        assert_eq!(open.check("http://127.0.0.1:1/"), Ok(()));
    }
}
