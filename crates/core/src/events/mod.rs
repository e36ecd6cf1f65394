//! The events of a thread: those of all its runs, one after the other, numbered.
//!
//! [`translate`] turns each record of a run's log into events, [`blocks`] the pieces of messages into content blocks. The same
//! log always gives the same events, so a run's events are counted while its log is written, and the count is stored with the
//! run's end. [`reader`] reads the events of a thread with their numbers: the same for every reader, whatever became of the
//! runs before.

mod blocks;
mod count;
mod event;
mod reader;
mod translate;

pub use event::{Channel, Delta, Event, EventBody, Lifecycle, MessageEvent, Subgraph};
pub use reader::{EventReader, RecordEvents};
pub use translate::Translator;
