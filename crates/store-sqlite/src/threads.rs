//! Threads in SQLite.

use std::ops::ControlFlow;

use async_trait::async_trait;
use runloom_engine::ThreadId;
use rusqlite::{Connection, params, params_from_iter};

use crate::{
    SqliteStore, crons, run_rows,
    sql::{Columns, Sql, Where, first, object_text, value_text},
    upkeep,
    writer::Tx,
};
use runloom_store::{
    AssistantId, Direction, Error, Expiry, IfExists, NewThread, Page, PageRequest, Result, TenantId, Thread,
    ThreadFilter, ThreadSort, ThreadStatus, ThreadUpdate, Threads, Topic, What,
    page::{Key, Position},
    time::{nanos, time},
};

const COLUMNS: &str = "n, tenant, id, created, updated, state_updated, status, stateless, graph, assistant, metadata, \
    config, error, interrupts, expires, keep_latest, events";

/// In `state_updated`.
const NEVER: i64 = i64::MIN;

/// The most ids that a filter may name.
const IDS: usize = 10_000;

fn thread(row: &mut Columns<'_>) -> Result<(i64, Thread)> {
    let n = row.get()?;
    let (tenant, id, created_at, updated_at) = (row.tenant()?, ThreadId(row.uuid()?), row.time()?, row.time()?);
    let state_updated: i64 = row.get()?;
    let (status, stateless) = (row.state(&ThreadStatus::ALL)?, row.get()?);
    Ok((
        n,
        Thread {
            id,
            tenant,
            created_at,
            updated_at,
            state_updated_at: Some(state_updated).filter(|at| *at != NEVER).map(time),
            status,
            stateless,
            graph: row.get()?,
            assistant: row.maybe_uuid()?.map(AssistantId),
            metadata: row.object()?,
            config: row.object()?,
            error: row.json()?,
            interrupts: row.json()?,
            expiry: expiry(row)?,
            events: row.get::<Option<i64>>()?.map(i64::unsigned_abs),
        },
    ))
}

pub(crate) fn expiry(row: &mut Columns<'_>) -> Result<Option<Expiry>> {
    let (at, keep_latest): (_, Option<bool>) = (row.maybe_time()?, row.get()?);
    Ok(at.map(|at| Expiry { at, keep_latest: keep_latest.unwrap_or_default() }))
}

pub(crate) fn find(db: &Connection, tenant: &TenantId, id: ThreadId) -> Result<Option<(i64, Thread)>> {
    db.one(
        &format!("SELECT {COLUMNS} FROM threads WHERE tenant = ?1 AND id = ?2"),
        params![tenant.as_str(), id.0.into_bytes()],
        thread,
    )
}

/// A thread with its place.
pub(crate) fn get(db: &Connection, tenant: &TenantId, id: ThreadId) -> Result<(i64, Thread)> {
    find(db, tenant, id)?.ok_or_else(|| Error::not_found(What::Thread, id))
}

/// The place of a thread.
pub(crate) fn place(db: &Connection, tenant: &TenantId, id: ThreadId) -> Result<Option<i64>> {
    let sql = "SELECT n FROM threads WHERE tenant = ?1 AND id = ?2";
    db.one(sql, params![tenant.as_str(), id.0.into_bytes()], first)
}

pub(crate) fn insert(tx: &Tx<'_>, thread: &Thread) -> Result<i64> {
    let sql = "INSERT INTO threads (tenant, id, created, updated, state_updated, status, stateless) VALUES (?1, ?2, 0, 0, 0, 0, ?3)";
    tx.run(sql, params![thread.tenant.as_str(), thread.id.0.into_bytes(), thread.stateless])?;
    let n = tx.last_insert_rowid();
    write(tx, n, thread)?;
    Ok(n)
}

/// Writes all of a thread that can change.
pub(crate) fn write(tx: &Tx<'_>, n: i64, thread: &Thread) -> Result<()> {
    tx.hint([Topic::Thread(thread.id)]);
    tx.hint(thread.expiry.map(|_| Topic::Schedules));
    let sql = "UPDATE threads SET created = ?2, updated = ?3, state_updated = ?4, status = ?5, graph = ?6, \
        assistant = ?7, metadata = ?8, config = ?9, error = ?10, interrupts = ?11, expires = ?12, keep_latest = ?13, \
        events = ?14 WHERE n = ?1";
    tx.run(
        sql,
        params![
            n,
            nanos(thread.created_at),
            nanos(thread.updated_at),
            thread.state_updated_at.map_or(NEVER, nanos),
            thread.status as i64,
            thread.graph,
            thread.assistant.map(|id| id.0.into_bytes()),
            object_text(&thread.metadata)?,
            object_text(&thread.config)?,
            value_text(thread.error.as_ref())?,
            value_text(thread.interrupts.as_ref())?,
            thread.expiry.map(|expiry| nanos(expiry.at)),
            thread.expiry.map(|expiry| expiry.keep_latest),
            thread.events.map(|events| events as i64)
        ],
    )?;
    Ok(())
}

/// Changes a thread.
pub(crate) fn update(
    tx: &Tx<'_>,
    tenant: &TenantId,
    id: ThreadId,
    update: ThreadUpdate,
    now: std::time::SystemTime,
) -> Result<Thread> {
    let (n, mut thread) = get(tx, tenant, id)?;
    thread.apply(update, now);
    write(tx, n, &thread)?;
    Ok(thread)
}

/// Deletes a thread with all that is its own.
pub(crate) fn delete(tx: &Tx<'_>, n: i64) -> Result<()> {
    for run in tx.all("SELECT n FROM runs WHERE thread = ?1", [n], first)? {
        run_rows::delete(tx, run)?;
    }
    upkeep::delete(tx, n)?;
    crons::delete_of(tx, n)?;
    let id = tx.one("DELETE FROM threads WHERE n = ?1 RETURNING id", [n], |row| row.uuid())?;
    tx.hint(id.map(|id| Topic::Thread(ThreadId(id))));
    Ok(())
}

/// The conditions of a filter that SQL looks at; [`ThreadFilter::matches`] looks at all of them.
fn conditions(tenant: &TenantId, filter: &ThreadFilter) -> Result<Where> {
    let mut conditions = Where::default();
    conditions.and("tenant = ?", tenant.to_string());
    if !filter.stateless {
        conditions.plain("stateless = 0");
    }
    if let Some(ids) = &filter.ids {
        if ids.len() > IDS {
            return Err(Error::Invalid(format!("a filter names at most {IDS} threads; this one names {}", ids.len())));
        }
        conditions.among("id", ids.iter().map(|id| id.0.as_bytes().to_vec()));
    }
    if let Some(status) = filter.status {
        conditions.and("status = ?", status as i64);
    }
    Ok(conditions)
}

fn list(
    db: &Connection,
    tenant: &TenantId,
    filter: &ThreadFilter,
    (sort, direction): (ThreadSort, Direction),
    request: &PageRequest,
) -> Result<Page<Thread>> {
    let column = match sort {
        ThreadSort::Created => "n",
        ThreadSort::Updated => "updated",
        ThreadSort::StateUpdated => "state_updated",
        ThreadSort::Id => "id",
        ThreadSort::Status => "status",
    };
    let (past, order) = match direction {
        Direction::Ascending => (">", "ASC"),
        Direction::Descending => ("<", "DESC"),
    };
    let mut conditions = conditions(tenant, filter)?;
    if let Some(token) = &request.token {
        let after = Position::parse(token, sort.tag(direction))?;
        if sort == ThreadSort::Created {
            conditions.and(&format!("n {past} ?"), after.ordinal);
        } else {
            let key: rusqlite::types::Value = match after.key {
                Key::Int(key) => key.into(),
                Key::Bytes(key) => key.into(),
            };
            conditions.and(&format!("({column}, n) {past} (?, {})", after.ordinal), key);
        }
    }
    let sql = format!("SELECT {COLUMNS} FROM threads {} ORDER BY {column} {order}, n {order}", conditions.sql());
    let mut page = Page { items: Vec::new(), next: None };
    let mut skip = request.skip;
    let mut last = None;
    db.each(&sql, params_from_iter(&conditions.params), |row| {
        let (n, thread) = thread(row)?;
        if !filter.matches(&thread) {
            return Ok(ControlFlow::Continue(()));
        }
        if skip > 0 {
            skip -= 1;
            return Ok(ControlFlow::Continue(()));
        }
        if page.items.len() == request.size() {
            page.next = last.take().map(|last: Position| last.token(sort.tag(direction)));
            return Ok(ControlFlow::Break(()));
        }
        last = Some(Position { key: sort.key(&thread, n), ordinal: n });
        page.items.push(thread);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(page)
}

#[async_trait]
impl Threads for SqliteStore {
    async fn create_thread(&self, tenant: &TenantId, new: NewThread) -> Result<Thread> {
        let now = self.now();
        let id = new.id.unwrap_or_else(|| ThreadId(self.uuid()));
        let tenant = tenant.clone();
        self.write(move |tx| match find(tx, &tenant, id)? {
            Some((_, found)) if new.if_exists == IfExists::Keep => Ok(found),
            Some(_) => Err(Error::exists(What::Thread, id)),
            None => {
                let thread = Thread::new(tenant, id, new, now);
                insert(tx, &thread)?;
                Ok(thread)
            }
        })
        .await
    }

    async fn get_thread(&self, tenant: &TenantId, id: ThreadId) -> Result<Thread> {
        let tenant = tenant.clone();
        self.read(move |db| Ok(get(db, &tenant, id)?.1)).await
    }

    async fn update_thread(&self, tenant: &TenantId, id: ThreadId, change: ThreadUpdate) -> Result<Thread> {
        let now = self.now();
        let tenant = tenant.clone();
        self.write(move |tx| update(tx, &tenant, id, change, now)).await
    }

    async fn delete_thread(&self, tenant: &TenantId, id: ThreadId) -> Result<()> {
        let tenant = tenant.clone();
        self.write(move |tx| {
            let n = place(tx, &tenant, id)?.ok_or_else(|| Error::not_found(What::Thread, id))?;
            delete(tx, n)
        })
        .await
    }

    async fn list_threads(
        &self,
        tenant: &TenantId,
        filter: ThreadFilter,
        sort: (ThreadSort, Direction),
        page: PageRequest,
    ) -> Result<Page<Thread>> {
        let tenant = tenant.clone();
        self.read(move |db| list(db, &tenant, &filter, sort, &page)).await
    }

    async fn count_threads(&self, tenant: &TenantId, filter: ThreadFilter) -> Result<u64> {
        let tenant = tenant.clone();
        self.read(move |db| {
            let conditions = conditions(&tenant, &filter)?;
            if filter.metadata.is_empty() {
                let sql = format!("SELECT count(*) FROM threads {}", conditions.sql());
                let count: Option<i64> = db.one(&sql, params_from_iter(&conditions.params), first)?;
                return Ok(count.unwrap_or_default().unsigned_abs());
            }
            let mut count = 0;
            let sql = format!("SELECT {COLUMNS} FROM threads {}", conditions.sql());
            db.each(&sql, params_from_iter(&conditions.params), |row| {
                count += u64::from(filter.matches(&thread(row)?.1));
                Ok(ControlFlow::Continue(()))
            })?;
            Ok(count)
        })
        .await
    }

    async fn copy_thread(&self, tenant: &TenantId, from: ThreadId, to: Option<ThreadId>) -> Result<Thread> {
        let now = self.now();
        let to = to.unwrap_or_else(|| ThreadId(self.uuid()));
        let tenant = tenant.clone();
        self.write(move |tx| {
            let (n, thread) = get(tx, &tenant, from)?;
            if place(tx, &tenant, to)?.is_some() {
                return Err(Error::exists(What::Thread, to));
            }
            let copy = thread.copied(to, now);
            let copied = insert(tx, &copy)?;
            upkeep::copy(tx, n, copied)?;
            Ok(copy)
        })
        .await
    }
}
