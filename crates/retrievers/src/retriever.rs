//! A retriever: embeddings and an index, which belong together.

use std::{fmt, sync::Arc};

use runloom_engine::{
    Object,
    retriever::{Document, Embeddings, RetrieveError, Search, VectorIndex},
};

/// How many documents are found where nobody says.
pub const DEFAULT_K: usize = 4;
/// The most that may be asked for.
pub const MAX_K: usize = 1000;

/// Embeddings and an index whose vectors were made by them.
#[derive(Clone)]
pub struct Retriever {
    /// What turns a question into a vector.
    pub embeddings: Arc<dyn Embeddings>,
    /// Where it is looked for.
    pub index: Arc<dyn VectorIndex>,
    /// How many documents are found where a call does not say.
    pub k: usize,
}

impl fmt::Debug for Retriever {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retriever").field("k", &self.k).finish_non_exhaustive()
    }
}

impl Retriever {
    /// The documents closest to a question, the closest first.
    pub async fn retrieve(
        &self,
        query: &str,
        k: Option<usize>,
        filter: Object,
    ) -> Result<Vec<Document>, RetrieveError> {
        let k = k.unwrap_or(self.k).min(MAX_K);
        if k == 0 {
            return Ok(Vec::new());
        }
        let vectors = self.embeddings.embed(vec![query.to_owned()]).await?;
        let vector = vectors.into_iter().next();
        let vector = vector.ok_or_else(|| RetrieveError::passing("the embeddings gave no vector for the question"))?;
        self.index.search(Search { vector, k, filter }).await
    }
}
