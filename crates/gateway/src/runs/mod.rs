//! Runs: asked for, streamed, waited for, joined, listed, cancelled.

mod ask;
mod cancel;
mod feed;
mod make;
mod outcome;
mod records;

pub(crate) use ask::{Asked, TOOL_KINDS, checkpoint_id, event_filter, stream_modes};
pub(crate) use cancel::{cancel, cancel_many};
pub(crate) use feed::{Feed, Place, numbered};
pub(crate) use make::{batch, create, create_stateless, made, make, stream, stream_stateless, wait, wait_stateless};
pub(crate) use records::{delete, find, get, join, join_stream, join_stream_stateless, list};
