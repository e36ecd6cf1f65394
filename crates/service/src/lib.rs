//! The tonic services over the core: conversions, errors as statuses, limits; and the server that serves them.
//!
//! ```text
//! server/    the services behind one listener; health; drain
//! connection what a call knows beside its message
//! routes     the streams, with a codec of their own; all else goes to the generated servers
//! services/  each RPC: check → core → answer
//! check, requests, filters   requests, with every fault they have
//! stream, parts     a reader's stream, and a record as a part of it
//! convert/   what is inside as messages
//! json, cursor, pages, shared, status   one thing each, in one place
//! ```

mod check;
mod connection;
mod convert;
mod cursor;
mod filters;
mod fit;
mod frames;
mod json;
mod pages;
mod parts;
mod requests;
mod routes;
mod server;
mod services;
mod shared;
mod status;
mod stream;

pub use runloom_net::listen;
pub use server::{Builder, Error, Handle, Options, Server};
