//! Items: JSON kept beside the threads, by namespace and key, which nodes can read and write.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

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
    /// When it goes, where it was put for a time.
    pub expires_at: Option<SystemTime>,
}

/// Which items to find.
#[derive(Clone, Debug, Default)]
pub struct ItemQuery {
    /// Only under this namespace.
    pub prefix: Vec<String>,
    /// Only those whose value has these fields with these values. In place of a value, an object of comparisons:
    /// `{"$gt": 3}`; there are `$eq`, `$ne`, `$gt`, `$gte`, `$lt`, `$lte`.
    pub filter: Object,
    /// At most so many. 0 is 10.
    pub limit: usize,
    /// Leave out so many first.
    pub offset: usize,
    /// Leaves the times at which items go as they are; otherwise the time of each item that is found begins anew.
    pub keep_expiry: bool,
}

/// Which namespaces to list. In the prefix and the suffix a `*` stands for any name.
#[derive(Clone, Debug, Default)]
pub struct NamespaceQuery {
    /// Only those that begin so.
    pub prefix: Vec<String>,
    /// Only those that end so.
    pub suffix: Vec<String>,
    /// Only so many names of each; those that are alike then are one. 0 is all.
    pub max_depth: usize,
    /// At most so many. 0 is 100.
    pub limit: usize,
    /// Leave out so many first.
    pub offset: usize,
}

/// Where items are kept. An item that was put for a time is not found once that is over.
#[async_trait]
pub trait ItemStore: Send + Sync + 'static {
    /// Puts an item for good; an item of that key is replaced.
    async fn put(&self, namespace: &[String], key: &str, value: Object) -> Result<(), CheckpointError> {
        self.put_for(namespace, key, value, None).await
    }
    /// Puts an item for a time, counted from its last put or read; an item of that key is replaced, its time too.
    async fn put_for(
        &self,
        namespace: &[String],
        key: &str,
        value: Object,
        ttl: Option<Duration>,
    ) -> Result<(), CheckpointError>;
    /// An item, or none. The time of one that was put for a time begins anew.
    async fn get(&self, namespace: &[String], key: &str) -> Result<Option<Item>, CheckpointError> {
        self.look_up(namespace, key, true).await
    }
    /// An item, or none; with `refresh` its time begins anew.
    async fn look_up(&self, namespace: &[String], key: &str, refresh: bool) -> Result<Option<Item>, CheckpointError>;
    /// Deletes an item; one that is not there is no error.
    async fn delete(&self, namespace: &[String], key: &str) -> Result<(), CheckpointError>;
    /// The items of a query: by namespace, that of the oldest item first; in each the first put first. Put again, an item
    /// keeps its place.
    async fn search(&self, query: ItemQuery) -> Result<Vec<Item>, CheckpointError>;
    /// The namespaces of a query, sorted.
    async fn namespaces(&self, query: NamespaceQuery) -> Result<Vec<Vec<String>>, CheckpointError>;
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
