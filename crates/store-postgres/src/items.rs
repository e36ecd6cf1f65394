//! Items and cached results of nodes, in Postgres.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use runloom_engine::{
    CheckpointError, Object, Value,
    items::{Item, ItemQuery, ItemStore, NamespaceQuery, NodeCache},
};
use runloom_store::{
    Error, Result, TenantId, Topic, delta,
    items::{expiry, known_prefix, list, matches},
    time::{nanos, time},
};

use crate::{
    PostgresStore,
    fault::Done,
    sql::{Columns, Db, args, object_text},
    tx::{Tx, read, snapshot, transact},
};

pub(crate) struct PostgresItems {
    pub store: PostgresStore,
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

/// An item, and for how many nanoseconds it was put.
fn item(row: &mut Columns<'_>) -> Done<(Item, Option<i64>)> {
    let (namespace, key) = (namespace_of(row.get::<&[u8]>()?)?, row.get()?);
    let (created_at, updated_at, expires_at) = (row.time()?, row.time()?, row.maybe_time()?);
    let ttl = row.get()?;
    Ok((Item { namespace, key, created_at, updated_at, expires_at, value: row.object()? }, ttl))
}

fn past_ttl(now: i64, ttl: i64) -> i64 {
    nanos(expiry(time(now), Duration::from_nanos(ttl.unsigned_abs())))
}

/// How many items of a search are read at once.
const BATCH: usize = 200;

/// Items under a prefix that are there at a time: by namespace, the one put first first.
async fn search(db: &mut Db, tenant: &TenantId, query: &ItemQuery, now: i64) -> Done<Vec<(Item, Option<i64>)>> {
    let (limit, mut skip) = (if query.limit == 0 { 10 } else { query.limit }, query.offset);
    let from = namespace_key(&query.prefix);
    let past = past(from.clone());
    // Numbers first, in their order: of the items themselves no more are read than are needed.
    let sql = "WITH under AS (SELECT ns, n FROM runloom.items WHERE tenant = $1 AND ns >= $2 \
        AND ($3::bytea IS NULL OR ns < $3) AND (expires IS NULL OR expires > $4)) \
        SELECT n FROM under ORDER BY min(n) OVER (PARTITION BY ns), n";
    let numbers: Vec<i64> = db.all(sql, args![tenant.as_str(), &from, &past, now], |row| row.get()).await?;
    let mut found = Vec::new();
    for numbers in numbers.chunks(BATCH) {
        let sql = "SELECT i.ns, i.key, i.created, i.updated, i.expires, i.ttl, i.value \
            FROM unnest($1::bigint[]) WITH ORDINALITY AS wanted (n, place) JOIN runloom.items i ON i.n = wanted.n \
            ORDER BY wanted.place";
        for (item, ttl) in db.all(sql, args![numbers], item).await? {
            if !matches(&item.value, &query.filter) {
                continue;
            }
            if skip > 0 {
                skip -= 1;
                continue;
            }
            found.push((item, ttl));
            if found.len() >= limit {
                return Ok(found);
            }
        }
    }
    Ok(found)
}

impl PostgresItems {
    /// Has the time of items begin anew, where they were put for one.
    async fn refresh(&self, now: i64, items: impl Iterator<Item = (&mut Item, Option<i64>)>) -> Result<()> {
        let (mut spaces, mut keys, mut times) = (Vec::new(), Vec::new(), Vec::new());
        for (item, ttl) in items {
            let Some(ttl) = ttl else { continue };
            let expires = past_ttl(now, ttl);
            item.expires_at = Some(time(expires));
            spaces.push(namespace_key(&item.namespace));
            keys.push(item.key.clone());
            times.push(expires);
        }
        if spaces.is_empty() {
            return Ok(());
        }
        transact!(self.store, |tx| {
            // It may have been deleted, or put for good, since it was read.
            let sql = "UPDATE runloom.items i SET expires = fresh.expires \
                FROM unnest($2::bytea[], $3::text[], $4::bigint[]) AS fresh (ns, key, expires) \
                WHERE i.tenant = $1 AND i.ns = fresh.ns AND i.key = fresh.key AND i.expires IS NOT NULL";
            tx.run(sql, args![self.tenant.as_str(), &spaces, &keys, &times]).await.map(|_| ())
        })
    }
}

/// When the next item expires.
pub(crate) async fn next_expiry(db: &mut Db) -> Done<Option<SystemTime>> {
    let sql = "SELECT min(expires) FROM runloom.items WHERE expires IS NOT NULL";
    Ok(db.one(sql, args![], |row| row.maybe_time()).await?.flatten())
}

/// Deletes items whose time is over.
pub(crate) async fn sweep(tx: &mut Tx, now: i64, limit: i64) -> Done<u64> {
    let sql = "DELETE FROM runloom.items WHERE n IN (SELECT n FROM runloom.items \
        WHERE expires IS NOT NULL AND expires <= $1 ORDER BY expires LIMIT $2 FOR UPDATE SKIP LOCKED)";
    tx.run(sql, args![now, limit]).await
}

#[async_trait]
impl ItemStore for PostgresItems {
    async fn put_for(
        &self,
        namespace: &[String],
        key: &str,
        value: Object,
        ttl: Option<Duration>,
    ) -> Result<(), CheckpointError> {
        let (ns, now) = (namespace_key(namespace), nanos(self.store.now()));
        let ttl = ttl.map(|ttl| i64::try_from(ttl.as_nanos()).unwrap_or(i64::MAX));
        let value = object_text(&value)?;
        let expires = ttl.map(|ttl| past_ttl(now, ttl));
        let put: Result<()> = transact!(self.store, |tx| {
            // One whose time is over is not the one that is put now.
            let sql = "DELETE FROM runloom.items WHERE tenant = $1 AND ns = $2 AND key = $3 AND expires <= $4";
            tx.run(sql, args![self.tenant.as_str(), &ns, key, now]).await?;
            tx.hint(ttl.map(|_| Topic::Schedules));
            let sql = "INSERT INTO runloom.items (tenant, ns, key, created, updated, expires, ttl, value) \
                VALUES ($1, $2, $3, $4, $4, $5, $6, $7) ON CONFLICT (tenant, ns, key) DO UPDATE \
                SET updated = excluded.updated, expires = excluded.expires, ttl = excluded.ttl, value = excluded.value";
            tx.run(sql, args![self.tenant.as_str(), &ns, key, now, expires, ttl, &value]).await.map(|_| ())
        });
        Ok(put?)
    }

    async fn look_up(&self, namespace: &[String], key: &str, refresh: bool) -> Result<Option<Item>, CheckpointError> {
        let (ns, now) = (namespace_key(namespace), nanos(self.store.now()));
        let found: Result<_> = read!(self.store, |db| {
            let sql = "SELECT ns, key, created, updated, expires, ttl, value FROM runloom.items \
                WHERE tenant = $1 AND ns = $2 AND key = $3 AND (expires IS NULL OR expires > $4)";
            db.one(sql, args![self.tenant.as_str(), &ns, key, now], item).await
        });
        let Some((mut found, ttl)) = found? else { return Ok(None) };
        if refresh {
            self.refresh(now, [(&mut found, ttl)].into_iter()).await?;
        }
        Ok(Some(found))
    }

    async fn delete(&self, namespace: &[String], key: &str) -> Result<(), CheckpointError> {
        let ns = namespace_key(namespace);
        let deleted: Result<()> = transact!(self.store, |tx| {
            let sql = "DELETE FROM runloom.items WHERE tenant = $1 AND ns = $2 AND key = $3";
            tx.run(sql, args![self.tenant.as_str(), &ns, key]).await.map(|_| ())
        });
        Ok(deleted?)
    }

    async fn search(&self, query: ItemQuery) -> Result<Vec<Item>, CheckpointError> {
        let now = nanos(self.store.now());
        let found: Result<_> = snapshot!(self.store, |db| search(db, &self.tenant, &query, now).await);
        let mut found = found?;
        if !query.keep_expiry {
            self.refresh(now, found.iter_mut().map(|(item, ttl)| (item, *ttl))).await?;
        }
        Ok(found.into_iter().map(|(item, _)| item).collect())
    }

    async fn namespaces(&self, query: NamespaceQuery) -> Result<Vec<Vec<String>>, CheckpointError> {
        let (from, now) = (namespace_key(&known_prefix(&query)), nanos(self.store.now()));
        let past = past(from.clone());
        let found: Result<Vec<Vec<String>>> = read!(self.store, |db| {
            let sql = "SELECT DISTINCT ns FROM runloom.items WHERE tenant = $1 AND ns >= $2 \
                AND ($3::bytea IS NULL OR ns < $3) AND (expires IS NULL OR expires > $4)";
            let args = args![self.tenant.as_str(), &from, &past, now];
            db.all(sql, args, |row| Ok(namespace_of(row.get::<&[u8]>()?)?)).await
        });
        let mut found = found?;
        found.sort();
        Ok(list(found.into_iter(), &query))
    }
}

pub(crate) struct PostgresCache {
    pub store: PostgresStore,
    pub tenant: TenantId,
}

#[async_trait]
impl NodeCache for PostgresCache {
    async fn get(&self, key: &str) -> Option<Value> {
        let now = nanos(self.store.now());
        let found: Result<Option<Option<Value>>> = read!(self.store, |db| {
            let sql =
                "SELECT value FROM runloom.node_cache WHERE tenant = $1 AND key = $2 AND (until IS NULL OR until > $3)";
            db.one(sql, args![self.tenant.as_str(), key, now], |row| row.json()).await
        });
        found.unwrap_or_else(|error| {
            tracing::warn!(%error, "a cached result cannot be read; the node runs instead");
            None
        })?
    }

    async fn put(&self, key: &str, value: Value, until: Option<SystemTime>) {
        let until = until.map(nanos);
        let put = async {
            let value = delta::encode(&value)?;
            transact!(self.store, |tx| {
                let sql = "INSERT INTO runloom.node_cache (tenant, key, until, value) VALUES ($1, $2, $3, $4) \
                    ON CONFLICT (tenant, key) DO UPDATE SET until = excluded.until, value = excluded.value";
                tx.run(sql, args![self.tenant.as_str(), key, until, &value]).await.map(|_| ())
            })
        };
        if let Err(error) = put.await {
            let error: Error = error;
            tracing::warn!(%error, "the result of a node was not cached");
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
