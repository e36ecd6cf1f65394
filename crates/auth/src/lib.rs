//! Who calls: API keys, tokens of identity providers, and client certificates become a `runloom_core::Caller`.
//!
//! ```text
//! authenticator  a request's credentials to its caller, and what is refused
//! config         the file of --auth: providers, certificates
//! issuer         tokens of an OpenID Connect provider
//! jwks           its keys, cached and rotated
//! certificates   which client certificate is which caller
//! ```
//!
//! An API asks the [`Authenticator`] once per call and puts the caller into the request's extensions.

mod authenticator;
mod certificates;
mod config;
mod issuer;
mod jwks;

pub use authenticator::{Authenticator, Call, Denied};
pub use config::{Certificate, Config, ConfigError, Issuer};

/// Describes the metrics of authentication to the recorder.
pub fn describe_metrics() {
    metrics::describe_counter!(
        "runloom_calls_denied_total",
        "Calls refused for their credentials or scopes, by API and reason"
    );
}
