//! What a run tells while it goes: modes, parts, events, and the filter that decides before anything is built.

mod blocks;
mod event;
mod filter;
mod modes;
mod part;
mod queue;

pub use blocks::{BlockPlace, BlockPlaces, BlockTracker};
pub use event::{Event, EventData, EventKind, TaskMeta};
pub use filter::{EventFilter, FilterError, Patterns};
pub use modes::{Mode, ModeRow, Modes, TABLE as MODES};
pub use part::{
    AskedIn, Chunk, Interrupt, MessagePart, Part, Payload, Snapshot, SnapshotRef, TaskEnd, TaskRef, TaskStart,
    UpdatePart, ValuesPart,
};
pub(crate) use queue::Queue;
