//! The log of a run: how its parts are numbered, kept, and read, live or late.

mod codec;
mod feed;
mod kept;
mod kept_chunk;
mod kept_view;
mod live;
mod pack;
mod pieces;
mod read;
mod record;
mod thread;
mod write;

pub(crate) use codec::Codec;
pub(crate) use live::{Live, Logs, Reading};
pub use read::RunReader;
pub use record::{Body, Cancellation, End, Opening, Outcome, ReadOptions, Record};
pub use thread::{ThreadPart, ThreadReader};
pub(crate) use write::{LogWriter, Origin};
