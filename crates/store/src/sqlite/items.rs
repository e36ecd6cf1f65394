//! Items and cached results of nodes, in SQLite.

use std::{ops::ControlFlow, time::SystemTime};

use async_trait::async_trait;
use runloom_engine::{
    CheckpointError, Object, Value,
    items::{Item, ItemQuery, ItemStore, NodeCache},
};
use rusqlite::params;

use super::{
    SqliteStore,
    sql::{Columns, Sql, first, object_text},
};
use crate::{Error, Result, contains, delta, time::nanos};

pub(super) struct SqliteItems(pub SqliteStore);

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

fn item(row: &mut Columns<'_>) -> Result<Item> {
    Ok(Item {
        namespace: namespace_of(&row.get::<Vec<u8>>()?)?,
        key: row.get()?,
        created_at: row.time()?,
        updated_at: row.time()?,
        value: row.object()?,
    })
}

const COLUMNS: &str = "ns, key, created, updated, value";

#[async_trait]
impl ItemStore for SqliteItems {
    async fn put(&self, namespace: &[String], key: &str, value: Object) -> Result<(), CheckpointError> {
        let (ns, key, now) = (namespace_key(namespace), key.to_owned(), nanos(self.0.now()));
        let value = object_text(&value)?;
        let bytes = value.as_ref().map_or(0, String::len);
        let put = self.0.write_sized(bytes, move |tx| {
            let sql = "SELECT created FROM items WHERE ns = ?1 AND key = ?2";
            let created = tx.one(sql, params![ns, key], first)?.unwrap_or(now);
            let sql = format!("INSERT OR REPLACE INTO items ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5)");
            tx.run(&sql, params![ns, key, created, now, value]).map(|_| ())
        });
        Ok(put.await?)
    }

    async fn get(&self, namespace: &[String], key: &str) -> Result<Option<Item>, CheckpointError> {
        let (ns, key) = (namespace_key(namespace), key.to_owned());
        let sql = format!("SELECT {COLUMNS} FROM items WHERE ns = ?1 AND key = ?2");
        Ok(self.0.read(move |db| db.one(&sql, params![ns, key], item)).await?)
    }

    async fn delete(&self, namespace: &[String], key: &str) -> Result<(), CheckpointError> {
        let (ns, key) = (namespace_key(namespace), key.to_owned());
        let sql = "DELETE FROM items WHERE ns = ?1 AND key = ?2";
        Ok(self.0.write(move |tx| tx.run(sql, params![ns, key]).map(|_| ())).await?)
    }

    async fn search(&self, query: ItemQuery) -> Result<Vec<Item>, CheckpointError> {
        let found = self.0.read(move |db| {
            let (limit, mut skip) = (if query.limit == 0 { 10 } else { query.limit }, query.offset);
            let from = namespace_key(&query.prefix);
            let mut found = Vec::new();
            let sql = format!("SELECT {COLUMNS} FROM items WHERE ns >= ?1 AND (?2 IS NULL OR ns < ?2) ORDER BY n DESC");
            db.each(&sql, params![from, past(from.clone())], |row| {
                let item = item(row)?;
                if contains(&item.value, &query.filter) {
                    if skip > 0 {
                        skip -= 1;
                    } else {
                        found.push(item);
                    }
                }
                Ok(if found.len() >= limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            })?;
            Ok(found)
        });
        Ok(found.await?)
    }

    async fn namespaces(&self, prefix: &[String]) -> Result<Vec<Vec<String>>, CheckpointError> {
        let from = namespace_key(prefix);
        let found = self.0.read(move |db| {
            let sql = "SELECT DISTINCT ns FROM items WHERE ns >= ?1 AND (?2 IS NULL OR ns < ?2)";
            let mut found =
                db.all(sql, params![from, past(from.clone())], |row| namespace_of(&row.get::<Vec<u8>>()?))?;
            found.sort();
            Ok(found)
        });
        Ok(found.await?)
    }
}

pub(super) struct SqliteCache(pub SqliteStore);

#[async_trait]
impl NodeCache for SqliteCache {
    async fn get(&self, key: &str) -> Option<Value> {
        let (key, now) = (key.to_owned(), nanos(self.0.now()));
        let sql = "SELECT value FROM node_cache WHERE key = ?1 AND (until IS NULL OR until > ?2)";
        let found = self.0.read(move |db| db.one(sql, params![key, now], |row| row.json())).await;
        found.unwrap_or_else(|error| {
            tracing::warn!(%error, "a cached result does not read; the node runs instead");
            None
        })?
    }

    async fn put(&self, key: &str, value: Value, until: Option<SystemTime>) {
        let (key, until) = (key.to_owned(), until.map(nanos));
        let put = async {
            let value = delta::encode(&value)?;
            let sql = "INSERT OR REPLACE INTO node_cache (key, until, value) VALUES (?1, ?2, ?3)";
            let put = move |tx: &super::Tx<'_>| tx.run(sql, params![key, until, value]).map(|_| ());
            self.0.write(put).await
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
