//! Items and cached results of nodes, in memory.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use runloom_engine::{
    CheckpointError, Object, Value,
    items::{Item, ItemQuery, ItemStore, NamespaceQuery, NodeCache},
};

use crate::{MemoryStore, Tables};
use runloom_store::{
    Result,
    items::{expiry, list, matches},
};

/// Items by namespace and key.
pub(crate) type Items = BTreeMap<Vec<String>, BTreeMap<String, Kept>>;

/// An item, with its place in the order of first putting, and for how long it was put.
pub(crate) struct Kept {
    ordinal: i64,
    ttl: Option<Duration>,
    item: Item,
}

impl Kept {
    fn is_there(&self, now: SystemTime) -> bool {
        self.item.expires_at.is_none_or(|at| at > now)
    }

    fn refresh(&mut self, now: SystemTime) {
        if let Some(ttl) = self.ttl {
            self.item.expires_at = Some(expiry(now, ttl));
        }
    }
}

impl Tables {
    fn forget_item(&mut self, namespace: &[String], key: &str) {
        if let Some(items) = self.items.get_mut(namespace) {
            items.remove(key);
            if items.is_empty() {
                self.items.remove(namespace);
            }
        }
    }

    /// When the next item goes.
    pub(crate) fn next_item_expiry(&self) -> Option<SystemTime> {
        self.items.values().flat_map(BTreeMap::values).filter_map(|kept| kept.item.expires_at).min()
    }

    /// Takes away items whose time is over.
    pub(crate) fn sweep_items(&mut self, now: SystemTime, limit: usize) -> u64 {
        let all = self.items.values().flat_map(BTreeMap::values);
        let gone = all.filter(|kept| !kept.is_there(now)).take(limit);
        let gone: Vec<_> = gone.map(|kept| (kept.item.namespace.clone(), kept.item.key.clone())).collect();
        gone.iter().for_each(|(namespace, key)| self.forget_item(namespace, key));
        gone.len() as u64
    }
}

/// A cached result of a node.
pub(crate) struct Cached {
    pub value: Value,
    pub until: Option<SystemTime>,
}

pub(crate) struct MemoryItems(pub MemoryStore);

#[async_trait]
impl ItemStore for MemoryItems {
    async fn put_for(
        &self,
        namespace: &[String],
        key: &str,
        value: Object,
        ttl: Option<Duration>,
    ) -> Result<(), CheckpointError> {
        let now = self.0.now();
        self.0.write(|tables| {
            let next = tables.next();
            let items = tables.items.entry(namespace.to_vec()).or_default();
            let before = items.get(key).filter(|kept| kept.is_there(now));
            let ordinal = before.map_or(next, |kept| kept.ordinal);
            let item = Item {
                namespace: namespace.to_vec(),
                key: key.to_owned(),
                value,
                created_at: before.map_or(now, |kept| kept.item.created_at),
                updated_at: now,
                expires_at: ttl.map(|ttl| expiry(now, ttl)),
            };
            items.insert(key.to_owned(), Kept { ordinal, ttl, item });
            Ok(())
        })?;
        Ok(())
    }

    async fn look_up(&self, namespace: &[String], key: &str, refresh: bool) -> Result<Option<Item>, CheckpointError> {
        let now = self.0.now();
        let mut tables = self.0.inner.tables.lock();
        let kept = tables.items.get_mut(namespace).and_then(|items| items.get_mut(key));
        Ok(kept.filter(|kept| kept.is_there(now)).map(|kept| {
            if refresh {
                kept.refresh(now);
            }
            kept.item.clone()
        }))
    }

    async fn delete(&self, namespace: &[String], key: &str) -> Result<(), CheckpointError> {
        self.0.write(|tables| {
            tables.forget_item(namespace, key);
            Ok(())
        })?;
        Ok(())
    }

    async fn search(&self, query: ItemQuery) -> Result<Vec<Item>, CheckpointError> {
        let now = self.0.now();
        let mut tables = self.0.inner.tables.lock();
        let mut found: Vec<(i64, &mut Kept)> = Vec::new();
        for (_, items) in tables.items.iter_mut().filter(|(namespace, _)| namespace.starts_with(&query.prefix)) {
            let first = items.values().filter(|kept| kept.is_there(now)).map(|kept| kept.ordinal).min();
            let these = items.values_mut().filter(|k| k.is_there(now) && matches(&k.item.value, &query.filter));
            found.extend(these.map(|kept| (first.unwrap_or_default(), kept)));
        }
        found.sort_by_key(|(first, kept)| (*first, kept.ordinal));
        let limit = if query.limit == 0 { 10 } else { query.limit };
        let page = found.into_iter().skip(query.offset).take(limit);
        Ok(page
            .map(|(_, kept)| {
                if !query.keep_expiry {
                    kept.refresh(now);
                }
                kept.item.clone()
            })
            .collect())
    }

    async fn namespaces(&self, query: NamespaceQuery) -> Result<Vec<Vec<String>>, CheckpointError> {
        let now = self.0.now();
        Ok(self.0.read(|tables| {
            let all = tables.items.iter().filter(|(_, items)| items.values().any(|kept| kept.is_there(now)));
            list(all.map(|(namespace, _)| namespace.clone()), &query)
        }))
    }
}

pub(crate) struct MemoryCache(pub MemoryStore);

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
