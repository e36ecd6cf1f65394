//! LangGraph's newer streaming protocol: commands over HTTP, and one stream of typed events per thread over SSE or a
//! WebSocket.
//!
//! Data flows one way. [`log::ThreadLog`] reads all runs of a thread in the order in which they ran; [`translate`] turns each
//! record into events, [`blocks`] the pieces of messages into content blocks; every event gets the thread's next `seq`; a
//! [`subscription`] selects what a reader receives; [`stream`] and [`socket`] send it. [`commands`] holds what a client can
//! ask for.

mod blocks;
mod commands;
mod event;
mod inputs;
mod log;
mod messages;
mod socket;
mod states;
mod stream;
mod subscription;
mod translate;
mod tree;

pub(crate) use commands::post as commands;
pub(crate) use log::ThreadLogs;
pub(crate) use socket::socket;
pub(crate) use stream::stream;
