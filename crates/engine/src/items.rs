//! Items: JSON kept beside the threads, by namespace and key, which nodes can read and write.

use std::{sync::Arc, time::SystemTime};

use async_trait::async_trait;

use crate::{CheckpointError, Object, Value};

/// An item.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Its namespace: a path of names.
    pub namespace: Vec<String>,
    /// Its key in the namespace.
    pub key: String,
    /// What it holds.
    pub value: Object,
    /// When it was first put.
    pub created_at: SystemTime,
    /// When it was last put.
    pub updated_at: SystemTime,
}

/// Which items to find.
#[derive(Clone, Debug, Default)]
pub struct ItemQuery {
    /// Only under this namespace.
    pub prefix: Vec<String>,
    /// Only those whose value has these fields with these values.
    pub filter: Object,
    /// At most so many. 0 is 10.
    pub limit: usize,
    /// Leave out so many first.
    pub offset: usize,
}

/// Where items are kept.
#[async_trait]
pub trait ItemStore: Send + Sync + 'static {
    /// Puts an item; an item of that key is replaced.
    async fn put(&self, namespace: &[String], key: &str, value: Object) -> Result<(), CheckpointError>;
    /// An item, or none.
    async fn get(&self, namespace: &[String], key: &str) -> Result<Option<Item>, CheckpointError>;
    /// Deletes an item; one that is not there is no error.
    async fn delete(&self, namespace: &[String], key: &str) -> Result<(), CheckpointError>;
    /// The items of a query, last updated first.
    async fn search(&self, query: ItemQuery) -> Result<Vec<Item>, CheckpointError>;
    /// The namespaces under a prefix, sorted.
    async fn namespaces(&self, prefix: &[String]) -> Result<Vec<Vec<String>>, CheckpointError>;
}

/// Where nodes' results are kept for a time: see [`CachePolicy`](crate::CachePolicy).
#[async_trait]
pub trait NodeCache: Send + Sync + 'static {
    /// What was kept under a key, unless its time has passed.
    async fn get(&self, key: &str) -> Option<Value>;
    /// Keeps a value, until a time or for good.
    async fn put(&self, key: &str, value: Value, until: Option<SystemTime>);
}

/// Shared handles to both.
pub type SharedItems = Arc<dyn ItemStore>;
