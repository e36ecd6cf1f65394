//! Threads in Postgres.

use std::time::SystemTime;

use async_trait::async_trait;
use runloom_engine::ThreadId;
use runloom_store::{
    AssistantId, Direction, Error, Expiry, IfExists, NewThread, Page, PageRequest, Result, TenantId, Thread,
    ThreadFilter, ThreadSort, ThreadStatus, ThreadUpdate, Threads, Topic, What,
    page::{Key, Position},
    time::{nanos, time},
};

use crate::{
    PostgresStore, crons,
    fault::Done,
    sql::{Columns, Db, Where, args, object_text, safe, value_text},
    tx::{Tx, read, snapshot, transact},
    upkeep,
};

const COLUMNS: &str = "n, tenant, id, created, updated, state_updated, status, stateless, graph, assistant, metadata, \
    config, error, interrupts, expires, keep_latest, events";

/// In `state_updated`.
const NEVER: i64 = i64::MIN;

/// The most ids that a filter may name.
const IDS: usize = 10_000;

/// How many rows of a filtered list are read at once.
const BATCH: i64 = 500;

/// How a thread's row is locked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lock {
    /// Not at all.
    No,
    /// Against others that change the row or the runs of the thread.
    Change,
    /// Against all that write to the thread, attempts at its runs included.
    Whole,
}

impl Lock {
    fn sql(self) -> &'static str {
        match self {
            Self::No => "",
            Self::Change => "FOR NO KEY UPDATE",
            Self::Whole => "FOR UPDATE",
        }
    }
}

fn thread(row: &mut Columns<'_>) -> Done<(i64, Thread)> {
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

pub(crate) fn expiry(row: &mut Columns<'_>) -> Done<Option<Expiry>> {
    let (at, keep_latest): (_, Option<bool>) = (row.maybe_time()?, row.get()?);
    Ok(at.map(|at| Expiry { at, keep_latest: keep_latest.unwrap_or_default() }))
}

async fn find(db: &mut Db, tenant: &TenantId, id: ThreadId, lock: Lock) -> Done<Option<(i64, Thread)>> {
    let sql = format!("SELECT {COLUMNS} FROM runloom.threads WHERE tenant = $1 AND id = $2 {}", lock.sql());
    db.one(safe(sql), args![tenant.as_str(), id.0], thread).await
}

/// A thread with its place.
pub(crate) async fn get(db: &mut Db, tenant: &TenantId, id: ThreadId, lock: Lock) -> Done<(i64, Thread)> {
    Ok(find(db, tenant, id, lock).await?.ok_or_else(|| Error::not_found(What::Thread, id))?)
}

/// The place of a thread.
pub(crate) async fn place(db: &mut Db, tenant: &TenantId, id: ThreadId, lock: Lock) -> Done<Option<i64>> {
    let sql = format!("SELECT n FROM runloom.threads WHERE tenant = $1 AND id = $2 {}", lock.sql());
    db.one(safe(sql), args![tenant.as_str(), id.0], |row| row.get()).await
}

/// The place of a thread that must be there.
pub(crate) async fn known(db: &mut Db, tenant: &TenantId, id: ThreadId, lock: Lock) -> Done<i64> {
    Ok(place(db, tenant, id, lock).await?.ok_or_else(|| Error::not_found(What::Thread, id))?)
}

fn hint(tx: &mut Tx, thread: &Thread) {
    tx.hint([Topic::Thread(thread.id)]);
    tx.hint(thread.expiry.map(|_| Topic::Schedules));
}

pub(crate) async fn insert(tx: &mut Tx, thread: &Thread) -> Done<i64> {
    hint(tx, thread);
    let sql = "INSERT INTO runloom.threads (tenant, id, created, updated, state_updated, status, stateless, graph, \
        assistant, metadata, config, error, interrupts, expires, keep_latest, events) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) RETURNING n";
    let args = args![
        thread.tenant.as_str(),
        thread.id.0,
        nanos(thread.created_at),
        nanos(thread.updated_at),
        thread.state_updated_at.map_or(NEVER, nanos),
        thread.status as i64,
        thread.stateless,
        &thread.graph,
        thread.assistant.map(|id| id.0),
        object_text(&thread.metadata)?,
        object_text(&thread.config)?,
        value_text(thread.error.as_ref())?,
        value_text(thread.interrupts.as_ref())?,
        thread.expiry.map(|expiry| nanos(expiry.at)),
        thread.expiry.map(|expiry| expiry.keep_latest),
        thread.events.map(|events| events as i64),
    ];
    let n = tx.one(sql, args, |row| row.get()).await?;
    Ok(n.ok_or_else(|| Error::Corrupt("a thread was inserted without a row".into()))?)
}

/// Writes all of a thread that can change.
pub(crate) async fn write(tx: &mut Tx, n: i64, thread: &Thread) -> Done<()> {
    hint(tx, thread);
    let sql = "UPDATE runloom.threads SET updated = $2, state_updated = $3, status = $4, graph = $5, \
        assistant = $6, metadata = $7, config = $8, error = $9, interrupts = $10, expires = $11, keep_latest = $12, \
        events = $13 WHERE n = $1";
    let args = args![
        n,
        nanos(thread.updated_at),
        thread.state_updated_at.map_or(NEVER, nanos),
        thread.status as i64,
        &thread.graph,
        thread.assistant.map(|id| id.0),
        object_text(&thread.metadata)?,
        object_text(&thread.config)?,
        value_text(thread.error.as_ref())?,
        value_text(thread.interrupts.as_ref())?,
        thread.expiry.map(|expiry| nanos(expiry.at)),
        thread.expiry.map(|expiry| expiry.keep_latest),
        thread.events.map(|events| events as i64),
    ];
    tx.run(sql, args).await.map(|_| ())
}

/// Changes a thread.
pub(crate) async fn update(
    tx: &mut Tx,
    tenant: &TenantId,
    id: ThreadId,
    update: ThreadUpdate,
    now: SystemTime,
) -> Done<Thread> {
    let (n, mut thread) = get(tx, tenant, id, Lock::Change).await?;
    thread.apply(update, now);
    write(tx, n, &thread).await?;
    Ok(thread)
}

/// Deletes a thread, whose row is locked, with all that is its own. Its checkpoints and logs go to the trash: nobody finds
/// them any more, and they are deleted in small steps.
pub(crate) async fn delete(tx: &mut Tx, n: i64) -> Done<()> {
    // Locked before: an attempt that writes ends first, and is refused afterwards.
    tx.run("SELECT 1 FROM runloom.runs WHERE thread = $1 ORDER BY n FOR UPDATE", args![n]).await?;
    let sql = "WITH gone AS (DELETE FROM runloom.runs WHERE thread = $1 RETURNING n, id), \
        logs AS (INSERT INTO runloom.trash (run) SELECT n FROM gone) SELECT id FROM gone";
    let runs = tx.all(sql, args![n], |row| Ok(Topic::Run(runloom_engine::RunId(row.uuid()?)))).await?;
    tx.hint(runs);
    tx.run("INSERT INTO runloom.trash (thread) VALUES ($1)", args![n]).await?;
    crons::delete_of(tx, n).await?;
    let sql = "DELETE FROM runloom.threads WHERE n = $1 RETURNING id";
    let id = tx.one(sql, args![n], |row| row.uuid()).await?;
    tx.hint(id.map(|id| Topic::Thread(ThreadId(id))));
    Ok(())
}

/// The conditions of a filter that SQL decides; [`ThreadFilter::matches`] decides all of them.
fn conditions(tenant: &TenantId, filter: &ThreadFilter) -> Done<Where> {
    let mut conditions = Where::default();
    conditions.and("tenant = ?", tenant.as_str())?;
    if !filter.stateless {
        conditions.plain("NOT stateless");
    }
    if let Some(ids) = &filter.ids {
        if ids.len() > IDS {
            let named = ids.len();
            return Err(Error::Invalid(format!("a filter names at most {IDS} threads; this one names {named}")).into());
        }
        conditions.and("id = ANY(?)", ids.iter().map(|id| id.0).collect::<Vec<_>>())?;
    }
    if let Some(status) = filter.status {
        conditions.and("status = ?", status as i64)?;
    }
    Ok(conditions)
}

/// The place after which a list goes on, as a condition.
fn after(conditions: &mut Where, sort: ThreadSort, past: &str, at: Position) -> Done<()> {
    let column = column(sort);
    match at.key {
        _ if sort == ThreadSort::Created => conditions.and(&format!("n {past} ?"), at.ordinal),
        Key::Int(key) => conditions.and(&format!("({column}, n) {past} (?, {})", at.ordinal), key),
        Key::Bytes(key) => {
            let id = uuid::Uuid::from_slice(&key).map_err(|_| {
                Error::Invalid("the page token is not one that a list gave; start at the first page".into())
            })?;
            conditions.and(&format!("({column}, n) {past} (?, {})", at.ordinal), id)
        }
    }
}

fn column(sort: ThreadSort) -> &'static str {
    match sort {
        ThreadSort::Created => "n",
        ThreadSort::Updated => "updated",
        ThreadSort::StateUpdated => "state_updated",
        ThreadSort::Id => "id",
        ThreadSort::Status => "status",
    }
}

async fn list(
    db: &mut Db,
    tenant: &TenantId,
    filter: &ThreadFilter,
    (sort, direction): (ThreadSort, Direction),
    request: &PageRequest,
) -> Done<Page<Thread>> {
    let tag = sort.tag(direction);
    let (past, order) = match direction {
        Direction::Ascending => (">", "ASC"),
        Direction::Descending => ("<", "DESC"),
    };
    let column = column(sort);
    let mut last = request.token.as_deref().map(|token| Position::parse(token, tag)).transpose()?;
    let mut page = Page { items: Vec::new(), next: None };
    let mut skip = request.skip;
    loop {
        let mut conditions = conditions(tenant, filter)?;
        if let Some(last) = &last {
            after(&mut conditions, sort, past, last.clone())?;
        }
        let sql = format!(
            "SELECT {COLUMNS} FROM runloom.threads {} ORDER BY {column} {order}, n {order} LIMIT {BATCH}",
            conditions.sql()
        );
        let rows = db.all(safe(sql), conditions.args, thread).await?;
        let is_all = (rows.len() as i64) < BATCH;
        for (n, thread) in rows {
            let at = Position { key: sort.key(&thread, n), ordinal: n };
            if filter.matches(&thread) {
                if skip > 0 {
                    skip -= 1;
                } else if page.items.len() == request.size() {
                    // With the token of the last that is on the page.
                    return Ok(page);
                } else {
                    page.items.push(thread);
                    page.next = Some(at.token(tag));
                }
            }
            last = Some(at);
        }
        if is_all {
            page.next = None;
            return Ok(page);
        }
    }
}

async fn count(db: &mut Db, tenant: &TenantId, filter: &ThreadFilter) -> Done<u64> {
    let conditions = conditions(tenant, filter)?;
    if filter.metadata.is_empty() {
        let sql = format!("SELECT count(*) FROM runloom.threads {}", conditions.sql());
        return Ok(db.one(safe(sql), conditions.args, |row| row.number()).await?.unwrap_or_default());
    }
    let mut count = 0;
    let request = PageRequest { size: 1000, ..PageRequest::default() };
    let order = (ThreadSort::Created, Direction::Ascending);
    let mut page = list(db, tenant, filter, order, &request).await?;
    loop {
        count += page.items.len() as u64;
        let Some(token) = page.next else { return Ok(count) };
        page = list(db, tenant, filter, order, &PageRequest::after(1000, token)).await?;
    }
}

#[async_trait]
impl Threads for PostgresStore {
    async fn create_thread(&self, tenant: &TenantId, new: NewThread) -> Result<Thread> {
        let now = self.now();
        let id = new.id.unwrap_or_else(|| ThreadId(self.uuid()));
        transact!(self, |tx| {
            match find(tx, tenant, id, Lock::No).await? {
                Some((_, found)) if new.if_exists == IfExists::Keep => Ok(found),
                Some(_) => Err(Error::exists(What::Thread, id).into()),
                None => {
                    let thread = Thread::new(tenant.clone(), id, new.clone(), now);
                    insert(tx, &thread).await?;
                    Ok(thread)
                }
            }
        })
    }

    async fn get_thread(&self, tenant: &TenantId, id: ThreadId) -> Result<Thread> {
        read!(self, |db| Ok(get(db, tenant, id, Lock::No).await?.1))
    }

    async fn update_thread(&self, tenant: &TenantId, id: ThreadId, change: ThreadUpdate) -> Result<Thread> {
        let now = self.now();
        transact!(self, |tx| update(tx, tenant, id, change.clone(), now).await)
    }

    async fn delete_thread(&self, tenant: &TenantId, id: ThreadId) -> Result<()> {
        self.inner.lanes.flush().await;
        let deleted = transact!(self, |tx| {
            let n = known(tx, tenant, id, Lock::Whole).await?;
            delete(tx, n).await
        });
        if deleted.is_ok() {
            self.empty_trash();
        }
        deleted
    }

    async fn list_threads(
        &self,
        tenant: &TenantId,
        filter: ThreadFilter,
        sort: (ThreadSort, Direction),
        page: PageRequest,
    ) -> Result<Page<Thread>> {
        read!(self, |db| list(db, tenant, &filter, sort, &page).await)
    }

    async fn count_threads(&self, tenant: &TenantId, filter: ThreadFilter) -> Result<u64> {
        snapshot!(self, |db| count(db, tenant, &filter).await)
    }

    async fn copy_thread(&self, tenant: &TenantId, from: ThreadId, to: Option<ThreadId>) -> Result<Thread> {
        self.inner.lanes.flush().await;
        let now = self.now();
        let to = to.unwrap_or_else(|| ThreadId(self.uuid()));
        transact!(self, |tx| {
            let (n, thread) = get(tx, tenant, from, Lock::Whole).await?;
            if place(tx, tenant, to, Lock::No).await?.is_some() {
                return Err(Error::exists(What::Thread, to).into());
            }
            let copy = thread.copied(to, now);
            let copied = insert(tx, &copy).await?;
            upkeep::copy(tx, n, copied).await?;
            Ok(copy)
        })
    }
}
