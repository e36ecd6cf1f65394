//! Chat models behind the engine's trait: the scripted one, for tests, demonstrations and documents without a key.

mod dumps;
mod error;
mod scripted;

pub use dumps::dumps;
pub use error::Error;
pub use scripted::{ChunkBy, Response, Scripted, ToolCall};
