//! Retrievers: a question becomes a vector, and the documents close to it are found. The index for small data, and
//! embeddings that need no key.

mod embedded;
mod hashed;
mod retriever;
mod table;

pub use embedded::EmbeddedIndex;
pub use hashed::HashedEmbeddings;
pub use retriever::{DEFAULT_K, MAX_K, Retriever};
pub use table::{Distance, VectorTable, VectorTables};
