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
    AssistantId, Direction, Error, Expiry, IfExists, NewThread, Page, PageRequest, Result, Thread, ThreadFilter,
    ThreadSort, ThreadStatus, ThreadUpdate, Threads, What,
    page::{Key, Position},
    time::{nanos, time},
};

const COLUMNS: &str = "n, id, owner, created, updated, state_updated, status, stateless, graph, assistant, metadata, \
    config, error, interrupts, expires, keep_latest";

/// In `state_updated`.
const NEVER: i64 = i64::MIN;

/// The most ids that a filter may name.
const IDS: usize = 10_000;

fn thread(row: &mut Columns<'_>) -> Result<(i64, Thread)> {
    let n = row.get()?;
    let (id, owner, created_at, updated_at) = (ThreadId(row.uuid()?), row.get()?, row.time()?, row.time()?);
    let state_updated: i64 = row.get()?;
    let (status, stateless) = (row.state(&ThreadStatus::ALL)?, row.get()?);
    Ok((
        n,
        Thread {
            id,
            owner,
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
        },
    ))
}

fn expiry(row: &mut Columns<'_>) -> Result<Option<Expiry>> {
    let (at, keep_latest): (_, Option<bool>) = (row.maybe_time()?, row.get()?);
    Ok(at.map(|at| Expiry { at, keep_latest: keep_latest.unwrap_or_default() }))
}

pub(crate) fn find(db: &Connection, id: ThreadId) -> Result<Option<(i64, Thread)>> {
    db.one(&format!("SELECT {COLUMNS} FROM threads WHERE id = ?1"), [id.0.into_bytes()], thread)
}

/// A thread with its place.
pub(crate) fn get(db: &Connection, id: ThreadId) -> Result<(i64, Thread)> {
    find(db, id)?.ok_or_else(|| Error::not_found(What::Thread, id))
}

/// The place of a thread.
pub(crate) fn place(db: &Connection, id: ThreadId) -> Result<Option<i64>> {
    db.one("SELECT n FROM threads WHERE id = ?1", [id.0.into_bytes()], first)
}

pub(crate) fn insert(tx: &Tx<'_>, thread: &Thread) -> Result<i64> {
    let sql =
        "INSERT INTO threads (id, created, updated, state_updated, status, stateless) VALUES (?1, 0, 0, 0, 0, ?2)";
    tx.run(sql, params![thread.id.0.into_bytes(), thread.stateless])?;
    let n = tx.last_insert_rowid();
    write(tx, n, thread)?;
    Ok(n)
}

/// Writes all of a thread that can change.
pub(crate) fn write(tx: &Tx<'_>, n: i64, thread: &Thread) -> Result<()> {
    let sql = "UPDATE threads SET owner = ?2, created = ?3, updated = ?4, state_updated = ?5, status = ?6, graph = ?7, \
        assistant = ?8, metadata = ?9, config = ?10, error = ?11, interrupts = ?12, expires = ?13, keep_latest = ?14 WHERE n = ?1";
    tx.run(
        sql,
        params![
            n,
            thread.owner,
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
            thread.expiry.map(|expiry| expiry.keep_latest)
        ],
    )?;
    Ok(())
}

/// Changes a thread.
pub(crate) fn update(tx: &Tx<'_>, id: ThreadId, update: ThreadUpdate, now: std::time::SystemTime) -> Result<Thread> {
    let (n, mut thread) = get(tx, id)?;
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
    tx.run("DELETE FROM threads WHERE n = ?1", [n]).map(|_| ())
}

/// The conditions of a filter that SQL looks at; [`ThreadFilter::matches`] looks at all of them.
fn conditions(filter: &ThreadFilter) -> Result<Where> {
    let mut conditions = Where::default();
    if !filter.stateless {
        conditions.plain("stateless = 0");
    }
    if let Some(ids) = &filter.ids {
        if ids.len() > IDS {
            return Err(Error::Invalid(format!("a filter names at most {IDS} threads; this one names {}", ids.len())));
        }
        conditions.among("id", ids.iter().map(|id| id.0.as_bytes().to_vec()));
    }
    if let Some(owner) = &filter.owner {
        conditions.and("owner = ?", owner.clone());
    }
    if let Some(status) = filter.status {
        conditions.and("status = ?", status as i64);
    }
    Ok(conditions)
}

fn list(
    db: &Connection,
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
    let mut conditions = conditions(filter)?;
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
    async fn create_thread(&self, new: NewThread) -> Result<Thread> {
        let now = self.now();
        let id = new.id.unwrap_or_else(|| ThreadId(self.uuid()));
        self.write(move |tx| match find(tx, id)? {
            Some((_, found)) if new.if_exists == IfExists::Keep => Ok(found),
            Some(_) => Err(Error::exists(What::Thread, id)),
            None => {
                let thread = Thread::new(id, new, now);
                insert(tx, &thread)?;
                Ok(thread)
            }
        })
        .await
    }

    async fn get_thread(&self, id: ThreadId) -> Result<Thread> {
        self.read(move |db| Ok(get(db, id)?.1)).await
    }

    async fn update_thread(&self, id: ThreadId, change: ThreadUpdate) -> Result<Thread> {
        let now = self.now();
        self.write(move |tx| update(tx, id, change, now)).await
    }

    async fn delete_thread(&self, id: ThreadId) -> Result<()> {
        self.write(move |tx| {
            let n = place(tx, id)?.ok_or_else(|| Error::not_found(What::Thread, id))?;
            delete(tx, n)
        })
        .await
    }

    async fn expiring_threads(&self, limit: usize) -> Result<Vec<(ThreadId, Expiry)>> {
        self.read(move |db| {
            let sql =
                "SELECT id, expires, keep_latest FROM threads WHERE expires IS NOT NULL ORDER BY expires, id LIMIT ?1";
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let mut expiring = Vec::new();
            db.each(sql, [limit], |row| {
                let id = ThreadId(row.uuid()?);
                expiring.extend(expiry(row)?.map(|expiry| (id, expiry)));
                Ok(ControlFlow::Continue(()))
            })?;
            Ok(expiring)
        })
        .await
    }

    async fn list_threads(
        &self,
        filter: ThreadFilter,
        sort: (ThreadSort, Direction),
        page: PageRequest,
    ) -> Result<Page<Thread>> {
        self.read(move |db| list(db, &filter, sort, &page)).await
    }

    async fn count_threads(&self, filter: ThreadFilter) -> Result<u64> {
        self.read(move |db| {
            let conditions = conditions(&filter)?;
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

    async fn copy_thread(&self, from: ThreadId, to: Option<ThreadId>) -> Result<Thread> {
        let now = self.now();
        let to = to.unwrap_or_else(|| ThreadId(self.uuid()));
        self.write(move |tx| {
            let (n, thread) = get(tx, from)?;
            if place(tx, to)?.is_some() {
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
