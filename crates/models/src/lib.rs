//! Chat models behind the engine's trait: those of providers, and the scripted one, for tests, demonstrations and documents
//! without a key.

mod dumps;
mod error;
mod provider;
mod scripted;

pub use dumps::dumps;
pub use error::Error;
pub use provider::{
    Allowed, ChatOptions, KeySource, ModelAccess, Provider, ProviderConfig, ProviderEmbeddings, ProviderKind, Secret,
    Waits, init_chat_model,
};
pub use scripted::{ChunkBy, Response, Scripted, ToolCall};
