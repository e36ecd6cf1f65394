//! Items and cached results of nodes, in memory.

use std::{collections::BTreeMap, time::SystemTime};

use async_trait::async_trait;
use runloom_engine::{
    CheckpointError, Object, Value,
    items::{Item, ItemQuery, ItemStore, NodeCache},
};

use super::MemoryStore;
use crate::{Result, contains};

/// Items by namespace and key, each with its place in the order of putting.
pub(super) type Items = BTreeMap<Vec<String>, BTreeMap<String, (i64, Item)>>;

/// A cached result of a node.
pub(super) struct Cached {
    pub value: Value,
    pub until: Option<SystemTime>,
}

pub(super) struct MemoryItems(pub MemoryStore);

#[async_trait]
impl ItemStore for MemoryItems {
    async fn put(&self, namespace: &[String], key: &str, value: Object) -> Result<(), CheckpointError> {
        let now = self.0.now();
        self.0.write(|tables| {
            let ordinal = tables.next();
            let items = tables.items.entry(namespace.to_vec()).or_default();
            let created_at = items.get(key).map_or(now, |(_, item)| item.created_at);
            let item = Item { namespace: namespace.to_vec(), key: key.to_owned(), value, created_at, updated_at: now };
            items.insert(key.to_owned(), (ordinal, item));
            Ok(())
        })?;
        Ok(())
    }

    async fn get(&self, namespace: &[String], key: &str) -> Result<Option<Item>, CheckpointError> {
        Ok(self.0.read(|tables| Some(tables.items.get(namespace)?.get(key)?.1.clone())))
    }

    async fn delete(&self, namespace: &[String], key: &str) -> Result<(), CheckpointError> {
        self.0.write(|tables| {
            if let Some(items) = tables.items.get_mut(namespace) {
                items.remove(key);
                if items.is_empty() {
                    tables.items.remove(namespace);
                }
            }
            Ok(())
        })?;
        Ok(())
    }

    async fn search(&self, query: ItemQuery) -> Result<Vec<Item>, CheckpointError> {
        let mut found: Vec<(i64, Item)> = self.0.read(|tables| {
            let under = tables.items.iter().filter(|(namespace, _)| namespace.starts_with(&query.prefix));
            let items = under.flat_map(|(_, items)| items.values());
            items.filter(|(_, item)| contains(&item.value, &query.filter)).cloned().collect()
        });
        found.sort_by_key(|(ordinal, _)| std::cmp::Reverse(*ordinal));
        let limit = if query.limit == 0 { 10 } else { query.limit };
        Ok(found.into_iter().skip(query.offset).take(limit).map(|(_, item)| item).collect())
    }

    async fn namespaces(&self, prefix: &[String]) -> Result<Vec<Vec<String>>, CheckpointError> {
        Ok(self.0.read(|tables| tables.items.keys().filter(|ns| ns.starts_with(prefix)).cloned().collect()))
    }
}

pub(super) struct MemoryCache(pub MemoryStore);

#[async_trait]
impl NodeCache for MemoryCache {
    async fn get(&self, key: &str) -> Option<Value> {
        let now = self.0.now();
        self.0.read(|tables| {
            let cached = tables.cache.get(key)?;
            cached.until.is_none_or(|until| until > now).then(|| cached.value.clone())
        })
    }

    async fn put(&self, key: &str, value: Value, until: Option<SystemTime>) {
        let _always_works = self.0.write(|tables| {
            tables.cache.insert(key.to_owned(), Cached { value, until });
            Ok(())
        });
    }
}
