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
    Result, TenantId, Topic,
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
    fn forget_item(&mut self, tenant: &TenantId, namespace: &[String], key: &str) {
        let Some(spaces) = self.items.get_mut(tenant) else { return };
        if let Some(items) = spaces.get_mut(namespace) {
            items.remove(key);
            if items.is_empty() {
                spaces.remove(namespace);
            }
        }
    }

    /// When the next item goes.
    pub(crate) fn next_item_expiry(&self) -> Option<SystemTime> {
        self.items
            .values()
            .flat_map(BTreeMap::values)
            .flat_map(BTreeMap::values)
            .filter_map(|kept| kept.item.expires_at)
            .min()
    }

    /// Takes away items whose time is over.
    pub(crate) fn sweep_items(&mut self, now: SystemTime, limit: usize) -> u64 {
        let all = self
            .items
            .iter()
            .flat_map(|(tenant, spaces)| spaces.values().flat_map(BTreeMap::values).map(move |kept| (tenant, kept)));
        let gone = all.filter(|(_, kept)| !kept.is_there(now)).take(limit);
        let gone: Vec<_> =
            gone.map(|(tenant, k)| (tenant.clone(), k.item.namespace.clone(), k.item.key.clone())).collect();
        gone.iter().for_each(|(tenant, namespace, key)| self.forget_item(tenant, namespace, key));
        gone.len() as u64
    }
}

/// A cached result of a node.
pub(crate) struct Cached {
    pub value: Value,
    pub until: Option<SystemTime>,
}

pub(crate) struct MemoryItems {
    pub store: MemoryStore,
    pub tenant: TenantId,
}

#[async_trait]
impl ItemStore for MemoryItems {
    async fn put_for(
        &self,
        namespace: &[String],
        key: &str,
        value: Object,
        ttl: Option<Duration>,
    ) -> Result<(), CheckpointError> {
        let now = self.store.now();
        self.store.write(|tables| {
            let next = tables.next();
            tables.hints.extend(ttl.map(|_| Topic::Schedules));
            let items = tables.items.entry(self.tenant.clone()).or_default().entry(namespace.to_vec()).or_default();
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
        let now = self.store.now();
        let mut tables = self.store.inner.tables.lock();
        let spaces = tables.items.get_mut(&self.tenant);
        let kept = spaces.and_then(|spaces| spaces.get_mut(namespace)).and_then(|items| items.get_mut(key));
        Ok(kept.filter(|kept| kept.is_there(now)).map(|kept| {
            if refresh {
                kept.refresh(now);
            }
            kept.item.clone()
        }))
    }

    async fn delete(&self, namespace: &[String], key: &str) -> Result<(), CheckpointError> {
        self.store.write(|tables| {
            tables.forget_item(&self.tenant, namespace, key);
            Ok(())
        })?;
        Ok(())
    }

    async fn search(&self, query: ItemQuery) -> Result<Vec<Item>, CheckpointError> {
        let now = self.store.now();
        let mut tables = self.store.inner.tables.lock();
        let mut found: Vec<(i64, &mut Kept)> = Vec::new();
        let spaces = tables.items.get_mut(&self.tenant).into_iter().flatten();
        for (_, items) in spaces.filter(|(namespace, _)| namespace.starts_with(&query.prefix)) {
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
        let now = self.store.now();
        Ok(self.store.read(|tables| {
            let spaces = tables.items.get(&self.tenant).into_iter().flatten();
            let all = spaces.filter(|(_, items)| items.values().any(|kept| kept.is_there(now)));
            list(all.map(|(namespace, _)| namespace.clone()), &query)
        }))
    }
}

pub(crate) struct MemoryCache {
    pub store: MemoryStore,
    pub tenant: TenantId,
}

#[async_trait]
impl NodeCache for MemoryCache {
    async fn get(&self, key: &str) -> Option<Value> {
        let now = self.store.now();
        self.store.read(|tables| {
            let cached = tables.cache.get(&(self.tenant.clone(), key.to_owned()))?;
            cached.until.is_none_or(|until| until > now).then(|| cached.value.clone())
        })
    }

    async fn put(&self, key: &str, value: Value, until: Option<SystemTime>) {
        let _always_works = self.store.write(|tables| {
            tables.cache.insert((self.tenant.clone(), key.to_owned()), Cached { value, until });
            Ok(())
        });
    }
}
