//! Items and cached results of nodes, in SQLite.

use std::{
    ops::ControlFlow,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use runloom_engine::{
    CheckpointError, Object, Value,
    items::{Item, ItemQuery, ItemStore, NamespaceQuery, NodeCache},
};
use rusqlite::{Connection, params};

use crate::{
    SqliteStore,
    sql::{Columns, Sql, first, object_text},
    writer::Tx,
};
use runloom_store::{
    Error, Result, TenantId, Topic, delta,
    items::{expiry, known_prefix, list, matches},
    time::{nanos, time},
};

pub(crate) struct SqliteItems {
    pub store: SqliteStore,
    pub tenant: TenantId,
}

/// Ends a name in the key of a namespace. Within names it and [`ESCAPE`] are escaped, so that the key of a namespace is
/// the start of the keys of all under it, and of no others.
const END: u8 = 0;
const ESCAPE: u8 = 1;

fn namespace_key(namespace: &[String]) -> Vec<u8> {
    let mut key = Vec::new();
    for name in namespace {
        for byte in name.bytes() {
            match byte {
                END | ESCAPE => key.extend([ESCAPE, byte + 1]),
                other => key.push(other),
            }
        }
        key.push(END);
    }
    key
}

fn namespace_of(key: &[u8]) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let mut name = Vec::new();
    let mut bytes = key.iter();
    while let Some(byte) = bytes.next() {
        match *byte {
            END => {
                let read = String::from_utf8(std::mem::take(&mut name));
                names.push(read.map_err(|_| Error::Corrupt("a namespace is no text".into()))?);
            }
            ESCAPE => name.push(bytes.next().copied().unwrap_or(ESCAPE).saturating_sub(1)),
            other => name.push(other),
        }
    }
    Ok(names)
}

/// The first key past those under a namespace; none where that is all.
fn past(mut key: Vec<u8>) -> Option<Vec<u8>> {
    *key.last_mut()? = END + 1;
    Some(key)
}

const COLUMNS: &str = "ns, key, created, updated, expires, ttl, value";

/// That an item is there at a time, which is the parameter of this number.
const IS_THERE: &str = "(expires IS NULL OR expires > ?1)";

/// An item, and for how many nanoseconds it was put.
fn item(row: &mut Columns<'_>) -> Result<(Item, Option<i64>)> {
    let (namespace, key) = (namespace_of(&row.get::<Vec<u8>>()?)?, row.get()?);
    let (created_at, updated_at, expires_at) = (row.time()?, row.time()?, row.maybe_time()?);
    let ttl = row.get()?;
    Ok((Item { namespace, key, created_at, updated_at, expires_at, value: row.object()? }, ttl))
}

fn past_ttl(now: i64, ttl: i64) -> i64 {
    nanos(expiry(time(now), Duration::from_nanos(ttl.unsigned_abs())))
}

impl SqliteItems {
    /// Has the time of items begin anew, where they were put for one.
    async fn refresh(&self, now: i64, items: impl Iterator<Item = (&mut Item, Option<i64>)>) -> Result<()> {
        let mut refreshed = Vec::new();
        for (item, ttl) in items {
            let Some(ttl) = ttl else { continue };
            let expires = past_ttl(now, ttl);
            item.expires_at = Some(time(expires));
            refreshed.push((namespace_key(&item.namespace), item.key.clone(), expires));
        }
        if refreshed.is_empty() {
            return Ok(());
        }
        let tenant = self.tenant.clone();
        let write = self.store.write(move |tx| {
            for (ns, key, expires) in refreshed {
                // It may have gone, or have been put for good, since it was read.
                let sql =
                    "UPDATE items SET expires = ?3 WHERE tenant = ?4 AND ns = ?1 AND key = ?2 AND expires IS NOT NULL";
                tx.run(sql, params![ns, key, expires, tenant.as_str()])?;
            }
            Ok(())
        });
        write.await
    }
}

/// When the next item goes.
pub(crate) fn next_expiry(db: &Connection) -> Result<Option<SystemTime>> {
    let sql = "SELECT min(expires) FROM items WHERE expires IS NOT NULL";
    Ok(db.one(sql, [], first::<Option<i64>>)?.flatten().map(time))
}

/// Takes away items whose time is over.
pub(crate) fn sweep(tx: &Tx<'_>, now: i64, limit: i64) -> Result<u64> {
    let gone = "SELECT n FROM items WHERE expires IS NOT NULL AND expires <= ?1 LIMIT ?2";
    Ok(tx.run(&format!("DELETE FROM items WHERE n IN ({gone})"), [now, limit])? as u64)
}

#[async_trait]
impl ItemStore for SqliteItems {
    async fn put_for(
        &self,
        namespace: &[String],
        key: &str,
        value: Object,
        ttl: Option<Duration>,
    ) -> Result<(), CheckpointError> {
        let (ns, key, now) = (namespace_key(namespace), key.to_owned(), nanos(self.store.now()));
        let ttl = ttl.map(|ttl| i64::try_from(ttl.as_nanos()).unwrap_or(i64::MAX));
        let value = object_text(&value)?;
        let bytes = value.as_ref().map_or(0, String::len);
        let tenant = self.tenant.clone();
        let put = self.store.write_sized(bytes, move |tx| {
            // One whose time is over is not the one that is put now.
            let sql = format!("DELETE FROM items WHERE tenant = ?4 AND ns = ?2 AND key = ?3 AND NOT {IS_THERE}");
            tx.run(&sql, params![now, ns, key, tenant.as_str()])?;
            tx.hint(ttl.map(|_| Topic::Schedules));
            let sql = format!(
                "INSERT INTO items ({COLUMNS}, tenant) VALUES (?1, ?2, ?3, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (tenant, ns, key) DO UPDATE \
                 SET updated = excluded.updated, expires = excluded.expires, ttl = excluded.ttl, value = excluded.value"
            );
            let expires = ttl.map(|ttl| past_ttl(now, ttl));
            tx.run(&sql, params![ns, key, now, expires, ttl, value, tenant.as_str()]).map(|_| ())
        });
        Ok(put.await?)
    }

    async fn look_up(&self, namespace: &[String], key: &str, refresh: bool) -> Result<Option<Item>, CheckpointError> {
        let (ns, key, now) = (namespace_key(namespace), key.to_owned(), nanos(self.store.now()));
        let tenant = self.tenant.clone();
        let sql = format!("SELECT {COLUMNS} FROM items WHERE tenant = ?4 AND ns = ?2 AND key = ?3 AND {IS_THERE}");
        let Some((mut found, ttl)) =
            self.store.read(move |db| db.one(&sql, params![now, ns, key, tenant.as_str()], item)).await?
        else {
            return Ok(None);
        };
        if refresh {
            self.refresh(now, [(&mut found, ttl)].into_iter()).await?;
        }
        Ok(Some(found))
    }

    async fn delete(&self, namespace: &[String], key: &str) -> Result<(), CheckpointError> {
        let (ns, key) = (namespace_key(namespace), key.to_owned());
        let tenant = self.tenant.clone();
        let sql = "DELETE FROM items WHERE tenant = ?3 AND ns = ?1 AND key = ?2";
        Ok(self.store.write(move |tx| tx.run(sql, params![ns, key, tenant.as_str()]).map(|_| ())).await?)
    }

    async fn search(&self, query: ItemQuery) -> Result<Vec<Item>, CheckpointError> {
        let (keep_expiry, now) = (query.keep_expiry, nanos(self.store.now()));
        let tenant = self.tenant.clone();
        let found = self.store.read(move |db| {
            let (limit, mut skip) = (if query.limit == 0 { 10 } else { query.limit }, query.offset);
            let from = namespace_key(&query.prefix);
            let mut found = Vec::new();
            // Numbers first, in their order: of the items themselves no more are read than are needed.
            let under = format!("tenant = ?4 AND ns >= ?2 AND (?3 IS NULL OR ns < ?3) AND {IS_THERE}");
            let sql = format!(
                "WITH spaces AS (SELECT ns, min(n) AS first FROM items WHERE {under} GROUP BY ns) \
                 SELECT n FROM items JOIN spaces USING (ns) WHERE {under} ORDER BY first, n"
            );
            let of_number = format!("SELECT {COLUMNS} FROM items WHERE n = ?1");
            db.each(&sql, params![now, from, past(from.clone()), tenant.as_str()], |row| {
                let Some((item, ttl)) = db.one(&of_number, [row.get::<i64>()?], item)? else {
                    return Ok(ControlFlow::Continue(()));
                };
                if matches(&item.value, &query.filter) {
                    if skip > 0 {
                        skip -= 1;
                    } else {
                        found.push((item, ttl));
                    }
                }
                Ok(if found.len() >= limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            })?;
            Ok(found)
        });
        let mut found = found.await?;
        if !keep_expiry {
            self.refresh(now, found.iter_mut().map(|(item, ttl)| (item, *ttl))).await?;
        }
        Ok(found.into_iter().map(|(item, _)| item).collect())
    }

    async fn namespaces(&self, query: NamespaceQuery) -> Result<Vec<Vec<String>>, CheckpointError> {
        let (from, now) = (namespace_key(&known_prefix(&query)), nanos(self.store.now()));
        let tenant = self.tenant.clone();
        let found = self.store.read(move |db| {
            let sql =
                format!("SELECT DISTINCT ns FROM items WHERE tenant = ?4 AND ns >= ?2 AND (?3 IS NULL OR ns < ?3) AND {IS_THERE}");
            let mut found =
                db.all(&sql, params![now, from, past(from.clone()), tenant.as_str()], |row| namespace_of(&row.get::<Vec<u8>>()?))?;
            found.sort();
            Ok(list(found.into_iter(), &query))
        });
        Ok(found.await?)
    }
}

pub(crate) struct SqliteCache {
    pub store: SqliteStore,
    pub tenant: TenantId,
}

#[async_trait]
impl NodeCache for SqliteCache {
    async fn get(&self, key: &str) -> Option<Value> {
        let (key, now) = (key.to_owned(), nanos(self.store.now()));
        let tenant = self.tenant.clone();
        let sql = "SELECT value FROM node_cache WHERE tenant = ?3 AND key = ?1 AND (until IS NULL OR until > ?2)";
        let found = self.store.read(move |db| db.one(sql, params![key, now, tenant.as_str()], |row| row.json())).await;
        found.unwrap_or_else(|error| {
            tracing::warn!(%error, "a cached result does not read; the node runs instead");
            None
        })?
    }

    async fn put(&self, key: &str, value: Value, until: Option<SystemTime>) {
        let (key, until) = (key.to_owned(), until.map(nanos));
        let tenant = self.tenant.clone();
        let put = async {
            let value = delta::encode(&value)?;
            let sql = "INSERT OR REPLACE INTO node_cache (key, until, value, tenant) VALUES (?1, ?2, ?3, ?4)";
            let put =
                move |tx: &crate::writer::Tx<'_>| tx.run(sql, params![key, until, value, tenant.as_str()]).map(|_| ());
            self.store.write(put).await
        };
        if let Err(error) = put.await {
            tracing::warn!(%error, "a node's result was not cached");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_reads_back_and_its_range_is_what_is_under_it() {
        let ns = |names: &[&str]| names.iter().map(|n| n.to_string()).collect::<Vec<_>>();
        for namespace in [&["a", "b"][..], &["", "\0\u{1}\u{2}", "ü"], &[]] {
            assert_eq!(namespace_of(&namespace_key(&ns(namespace))).unwrap(), ns(namespace));
        }
        let under = |prefix: &[&str], other: &[&str]| {
            let (from, key) = (namespace_key(&ns(prefix)), namespace_key(&ns(other)));
            key >= from && past(from).is_none_or(|past| key < past)
        };
        assert!(under(&["a"], &["a"]) && under(&["a"], &["a", "z"]) && under(&[], &["a"]));
        assert!(!under(&["a"], &["ab"]) && !under(&["a"], &["a\0", "b"]) && !under(&["a"], &["a\u{1}"]));
    }
}
