//! Items: checked for the faces, shared with nodes, and swept when their time is over.

use std::time::Duration;

use runloom_engine::{
    CheckpointError, Object, Value,
    items::{Item, ItemQuery, NamespaceQuery},
};
use runloom_store::{SweepKind, Topic, check_item_filter};

use crate::{Core, Error, Reason, Result, Session, claims::Sweeper, timer};

/// How many items are swept in one transaction.
const SWEEP: usize = 1000;
/// How long to wait before the store is asked again after a failure.
const RETRY: Duration = Duration::from_secs(5);
/// The longest that an item may be put for: a hundred years.
const LONGEST: Duration = Duration::from_secs(100 * 366 * 24 * 60 * 60);
/// The most bytes of a namespace, or of a key.
const MAX_NAME: usize = 4096;

fn failed(error: CheckpointError) -> Error {
    match error {
        CheckpointError::Corrupt(text) => Error::new(Reason::Internal, format!("an item cannot be read: {text}")),
        other => Error::new(Reason::StoreUnavailable, format!("the store of items does not answer: {other}"))
            .retry_after(Duration::from_secs(1)),
    }
}

fn check_names(field: &str, names: &[String]) -> Result<()> {
    for (at, name) in names.iter().enumerate() {
        if name.is_empty() || name.contains('.') {
            let what = format!("`{name}` is no name of a namespace: it must not be empty, and have no dots");
            return Err(Error::field(format!("{field}[{at}]"), what));
        }
    }
    if names.iter().map(String::len).sum::<usize>() > MAX_NAME {
        return Err(Error::field(field, format!("is longer than {MAX_NAME} bytes")));
    }
    Ok(())
}

fn check_place(namespace: &[String], key: &str) -> Result<()> {
    if namespace.is_empty() {
        return Err(Error::field("namespace", "must have at least one name"));
    }
    check_names("namespace", namespace)?;
    if key.is_empty() || key.len() > MAX_NAME {
        return Err(Error::field("key", format!("must not be empty, and have at most {MAX_NAME} bytes")));
    }
    Ok(())
}

impl Session {
    /// Puts an item, for good or for a time that begins anew with each read; an item of that key is replaced. A
    /// namespace has one name at least; names are not empty and have no dots.
    pub async fn put_item(&self, namespace: &[String], key: &str, value: Object, ttl: Option<Duration>) -> Result<()> {
        check_place(namespace, key)?;
        self.check_size("value", &Value::Object(value.clone()))?;
        if ttl.is_some_and(|ttl| ttl.is_zero() || ttl > LONGEST) {
            return Err(Error::field("ttl", "must be more than nothing, and at most a hundred years"));
        }
        self.inner.store.items(self.tenant()).put_for(namespace, key, value, ttl).await.map_err(failed)
    }

    /// An item, or none. With `refresh` the time of one that was put for a time begins anew.
    pub async fn get_item(&self, namespace: &[String], key: &str, refresh: bool) -> Result<Option<Item>> {
        check_place(namespace, key)?;
        self.inner.store.items(self.tenant()).look_up(namespace, key, refresh).await.map_err(failed)
    }

    /// Deletes an item; one that is not there is no error.
    pub async fn delete_item(&self, namespace: &[String], key: &str) -> Result<()> {
        check_place(namespace, key)?;
        self.inner.store.items(self.tenant()).delete(namespace, key).await.map_err(failed)
    }

    /// The items of a query: by namespace, that of the oldest item first; in each the first put first. Put again, an item
    /// keeps its place.
    pub async fn search_items(&self, query: ItemQuery) -> Result<Vec<Item>> {
        check_names("namespace_prefix", &query.prefix)?;
        check_item_filter(&query.filter).map_err(|error| Error::field("filter", error.to_string()))?;
        self.inner.store.items(self.tenant()).search(query).await.map_err(failed)
    }

    /// The namespaces of a query, sorted.
    pub async fn list_namespaces(&self, query: NamespaceQuery) -> Result<Vec<Vec<String>>> {
        check_names("prefix", &query.prefix)?;
        check_names("suffix", &query.suffix)?;
        self.inner.store.items(self.tenant()).namespaces(query).await.map_err(failed)
    }
}

impl Core {
    /// Takes items away when their time is over. They are not found from then on as it is: this frees their room.
    pub(crate) async fn sweep_items(&self) {
        let (store, clock) = (&self.inner.store, &*self.inner.clock);
        let mut hints = store.watch(Topic::Schedules);
        let mut sweeper = Sweeper::new(SweepKind::Items);
        loop {
            let now = clock.now();
            let next = async {
                match store.next_item_expiry().await? {
                    Some(at) if at <= now => {
                        let is_swept = sweeper.claim(self).await? && store.sweep_items(now, SWEEP).await? > 0;
                        Ok::<_, Error>(Some(if is_swept { now } else { now + self.inner.runner.lease.ttl }))
                    }
                    next => Ok(next),
                }
            };
            let next = next.await.unwrap_or_else(|error| {
                tracing::warn!(%error, "cannot sweep items whose time is over; trying again");
                Some(now + RETRY)
            });
            if next.is_none_or(|at| at > now) {
                timer::until(clock, next, &mut hints).await;
            }
        }
    }
}
