//! Other dialects of the same runs over HTTP: LangGraph's API, as its official clients speak it; events and a WebSocket for
//! browsers.
//!
//! [`WebhookClient`] is what a core calls webhooks with. [`router`] is the whole face over a [`Core`](runloom_core::Core); [`serve`] gives it a port and takes it down in order.
//! The core's [`Record`](runloom_core::Record)s are turned into LangGraph's events and objects in [`langgraph`], and
//! nowhere else.

/// Builds an [`Object`](runloom_engine::Object): `object! { "key" => value, … }`.
macro_rules! object {
    ($($key:literal => $value:expr),* $(,)?) => {{
        #[allow(unused_mut)]
        let mut o = runloom_engine::Object::default();
        $(o.insert($key, $value);)*
        o
    }};
}

mod assistants;
mod browser;
mod crons;
mod face;
pub mod langgraph;
mod options;
mod protocol;
mod routes;
mod runs;
mod scopes;
mod serve;
mod states;
mod storage;
mod store;
mod system;
mod thread_stream;
mod threads;
mod webhooks;

pub use options::{Cors, Figures, Options};
pub use routes::router;
pub use serve::serve;
pub use webhooks::{WebhookClient, WebhookOptions};
