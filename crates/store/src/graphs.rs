//! Graph documents that were registered over the API.

use std::time::SystemTime;

use async_trait::async_trait;

use crate::{Result, TenantId};

/// A graph document, in one revision, of a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisteredGraph {
    /// The graph's name.
    pub name: String,
    /// The hash of what it is.
    pub revision: String,
    /// The document as it came.
    pub text: String,
    /// When this revision was first registered.
    pub created_at: SystemTime,
}

/// Registered graphs. All revisions of a graph are kept until it is deleted: a run keeps its revision through every
/// attempt, a restart included.
#[async_trait]
pub trait Graphs: Send + Sync {
    /// Registers a revision, and makes it the latest. One that is there already becomes the latest again.
    async fn put_graph(&self, tenant: &TenantId, name: &str, revision: &str, text: &str) -> Result<RegisteredGraph>;

    /// A revision of a graph, or its latest.
    async fn get_graph(&self, tenant: &TenantId, name: &str, revision: Option<&str>) -> Result<RegisteredGraph>;

    /// The latest revision of every graph, by name.
    async fn list_graphs(&self, tenant: &TenantId) -> Result<Vec<RegisteredGraph>>;

    /// Deletes a graph with its revisions; refused with [`InUse`](crate::Error::InUse) while a run of it is not over.
    async fn delete_graph(&self, tenant: &TenantId, name: &str) -> Result<()>;
}

/// A graph, or a revision of it, as an error names it.
pub fn named(name: &str, revision: Option<&str>) -> String {
    revision.map_or_else(|| name.to_owned(), |revision| format!("{name} at revision {revision}"))
}
