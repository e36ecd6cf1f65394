//! Checkpoints: what is kept of a graph between two supersteps, and the trait of what keeps it.

mod memory;
mod patch;
mod types;

pub use memory::MemoryCheckpointer;
pub use patch::Patch;
pub use types::{
    Ack, Change, Checkpoint, CheckpointConfig, CheckpointFilter, CheckpointView, CheckpointWrite, Checkpointer,
    Control, Durability, ListEdit, Outcome, Saved, Source, TaskRecord, TaskView, Write, WriteKind,
};
