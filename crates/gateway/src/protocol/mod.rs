//! LangGraph's newer streaming protocol: commands over HTTP, and one stream of typed events per thread over SSE or a
//! WebSocket.
//!
//! Data flows one way. [`log::ThreadLog`] reads the events of a thread, which the core numbers; a [`subscription`] selects what
//! a reader receives; [`event`] gives it the protocol's form; [`stream`] and [`socket`] send it. [`commands`] holds what a
//! client can request.

mod commands;
mod event;
mod inputs;
mod log;
mod messages;
mod socket;
mod states;
mod stream;
mod subscription;
mod tree;

pub(crate) use commands::post as commands;
pub(crate) use socket::socket;
pub(crate) use stream::stream;
