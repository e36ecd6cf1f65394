//! Tables of a database that hold documents and their vectors: what a document says of one.

use std::sync::Arc;

use runloom_engine::retriever::VectorIndex;

/// A database with tables of vectors, which the operator has named.
pub trait VectorTables: Send + Sync + 'static {
    /// The index over a table. Nothing is asked of the database for it.
    fn table(&self, table: VectorTable) -> Arc<dyn VectorIndex>;
}

/// A table and its columns, as SQL names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VectorTable {
    /// The table, with its schema where it has one: `docs`, `public.docs`.
    pub table: String,
    /// The column of ids.
    pub id: String,
    /// The column of texts.
    pub content: String,
    /// The column of metadata, a `jsonb`.
    pub metadata: String,
    /// The column of vectors.
    pub embedding: String,
    /// How near two vectors are.
    pub distance: Distance,
}

impl VectorTable {
    /// A table with the usual columns: `id`, `content`, `metadata`, `embedding`, compared by cosine.
    pub fn new(table: impl Into<String>) -> Self {
        Self {
            table: table.into(),
            id: "id".to_owned(),
            content: "content".to_owned(),
            metadata: "metadata".to_owned(),
            embedding: "embedding".to_owned(),
            distance: Distance::Cosine,
        }
    }
}

/// How near two vectors are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Distance {
    /// By the angle between them.
    #[default]
    Cosine,
    /// By the way from one to the other.
    Euclidean,
    /// By their inner product.
    InnerProduct,
}
