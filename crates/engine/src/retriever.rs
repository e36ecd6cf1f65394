//! Retrievers, as the engine sees them: texts become vectors, vectors find documents.

use futures_util::future::BoxFuture;

use crate::{Object, Value, value};

/// What turns texts into vectors that lie close together where the texts mean the like. One value serves any number of
/// calls at once.
pub trait Embeddings: Send + Sync + 'static {
    /// The vectors of texts, in their order, all of the same length. Dropping the future cancels the call.
    fn embed(&self, texts: Vec<String>) -> BoxFuture<'static, Result<Vec<Vec<f32>>, RetrieveError>>;
}

/// Documents with their vectors. One value serves any number of calls at once.
pub trait VectorIndex: Send + Sync + 'static {
    /// The documents that are closest to a vector, the closest first.
    fn search(&self, search: Search) -> BoxFuture<'static, Result<Vec<Document>, RetrieveError>>;
}

/// What is searched for.
#[derive(Clone, Debug, PartialEq)]
pub struct Search {
    /// What is to be close.
    pub vector: Vec<f32>,
    /// The most documents to find.
    pub k: usize,
    /// What a document's metadata has to hold, values and all.
    pub filter: Object,
}

/// A document that was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Document {
    /// Its id, where it has one.
    pub id: Option<String>,
    /// Its text.
    pub page_content: String,
    /// What is known of it.
    pub metadata: Object,
}

impl Document {
    /// In LangChain's JSON.
    pub fn to_value(&self) -> Value {
        value!({
            "id": self.id.as_deref().map(Value::from).unwrap_or_default(),
            "metadata": Value::Object(self.metadata.clone()),
            "page_content": self.page_content.as_str(),
            "type": "Document",
        })
    }
}

/// Why nothing could be found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RetrieveError {
    /// What went wrong, and what to do.
    pub message: String,
    /// True where the same call may succeed later.
    pub retryable: bool,
}

impl RetrieveError {
    /// An error that stays one.
    pub fn lasting(message: impl Into<String>) -> Self {
        Self { message: message.into(), retryable: false }
    }

    /// An error that may pass.
    pub fn passing(message: impl Into<String>) -> Self {
        Self { message: message.into(), retryable: true }
    }
}
