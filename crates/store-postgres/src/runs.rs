//! Runs in Postgres.

use std::time::SystemTime;

use async_trait::async_trait;
use runloom_engine::{RunId, ThreadId};
use runloom_store::{
    BegunAt, CancelAction, Canceller, CreatedRun, Direction, Error, Multitask, NewRun, Page, PageRequest, Result, Run,
    RunFilter, RunThread, Runs, TenantId, Thread, Topic, What,
    page::{Key, Position},
    runs::order_of_runs,
    time::nanos,
};

use crate::{
    PostgresStore,
    fault::Done,
    run_rows::{COLUMNS, Lock, by_request, get, insert, run, write},
    sql::{Db, Where, args, limit_of, safe},
    threads,
    tx::{Tx, read, transact},
};

/// Creates a run, and its thread where that is requested.
pub(crate) async fn create(
    tx: &mut Tx,
    tenant: &TenantId,
    id: RunId,
    thread: ThreadId,
    new: NewRun,
    now: SystemTime,
) -> Done<CreatedRun> {
    if let Some(key) = &new.request_key
        && let Some(run) = by_request(tx, tenant, &key.id).await?
    {
        return Ok(run.again(key)?);
    }
    if tx.one("SELECT 1 FROM runloom.runs WHERE id = $1", args![id.0], |_| Ok(())).await?.is_some() {
        return Err(Error::exists(What::Run, id).into());
    }
    // Locked, so that of two that are refused while the thread is busy one is not.
    let place = match (threads::place(tx, tenant, thread, threads::Lock::Change).await?, &new.thread) {
        (Some(place), _) => place,
        (None, RunThread::Existing(_)) => return Err(Error::not_found(What::Thread, thread).into()),
        (None, RunThread::Create(made)) => {
            threads::insert(tx, &Thread::new(tenant.clone(), thread, made.clone(), now)).await?
        }
    };
    if new.multitask == Multitask::Reject {
        let open = "SELECT id FROM runloom.runs WHERE thread = $1 AND status < 2 \
            AND (status = 1 OR start_at IS NULL OR start_at <= $2) ORDER BY n LIMIT 1";
        if let Some(run) = tx.one(open, args![place, nanos(now)], |row| row.uuid()).await? {
            return Err(Error::Busy { thread, run: RunId(run) }.into());
        }
    }
    let run = Run::new(tenant.clone(), id, thread, new, now);
    insert(tx, place, &run).await?;
    Ok(CreatedRun { run, new: true })
}

fn conditions(tenant: &TenantId, filter: &RunFilter) -> Done<Where> {
    let mut conditions = Where::default();
    conditions.and("r.tenant = ?", tenant.as_str())?;
    if let Some(thread) = filter.thread {
        conditions.and("r.thread = (SELECT n FROM runloom.threads WHERE tenant = r.tenant AND id = ?)", thread.0)?;
    }
    if !filter.status.is_empty() {
        conditions.and("r.status = ANY(?)", filter.status.iter().map(|status| *status as i64).collect::<Vec<_>>())?;
        if filter.status.iter().all(|status| !status.is_end()) {
            // There is an index of those.
            conditions.plain("r.status < 2");
        }
    }
    if let Some(assistant) = filter.assistant {
        conditions.and("r.assistant = ?", assistant.0)?;
    }
    if let Some(graph) = &filter.graph {
        conditions.and("r.graph = ?", graph)?;
    }
    Ok(conditions)
}

async fn list(
    db: &mut Db,
    tenant: &TenantId,
    filter: &RunFilter,
    direction: Direction,
    request: &PageRequest,
) -> Done<Page<Run>> {
    let tag = order_of_runs(direction);
    let (past, order) = match direction {
        Direction::Ascending => (">", "ASC"),
        Direction::Descending => ("<", "DESC"),
    };
    let mut conditions = conditions(tenant, filter)?;
    if let Some(token) = &request.token {
        conditions.and(&format!("r.n {past} ?"), Position::parse(token, tag)?.ordinal)?;
    }
    let sql = format!(
        "SELECT {COLUMNS} {} ORDER BY r.n {order} LIMIT {} OFFSET {}",
        conditions.sql(),
        request.size() + 1,
        limit_of(request.skip)
    );
    let mut rows = db.all(safe(sql), conditions.args, run).await?;
    let has_more = rows.len() > request.size();
    rows.truncate(request.size());
    let last = rows.last().map(|(n, _)| Position { key: Key::Int(*n), ordinal: *n }.token(tag));
    Ok(Page { next: last.filter(|_| has_more), items: rows.into_iter().map(|(_, run)| run).collect() })
}

async fn begun(db: &mut Db, thread: i64, from: Option<BegunAt>, order: Direction, limit: usize) -> Done<Vec<Run>> {
    const AT: &str = "coalesce(r.started, r.ended)";
    let (past, order) = match order {
        Direction::Ascending => (">", "ASC"),
        Direction::Descending => ("<", "DESC"),
    };
    let mut conditions = Where::default();
    conditions.and("r.thread = ?", thread)?;
    conditions.plain(format!("{AT} IS NOT NULL"));
    if let Some(from) = from {
        let at = nanos(from.at);
        conditions.and(&format!("({AT}, r.id) {past} ({at}, ?)"), from.run.0)?;
    }
    let sql =
        format!("SELECT {COLUMNS} {} ORDER BY {AT} {order}, r.id {order} LIMIT {}", conditions.sql(), limit_of(limit));
    db.all(safe(sql), conditions.args, |row| Ok(run(row)?.1)).await
}

#[async_trait]
impl Runs for PostgresStore {
    async fn create_run(&self, tenant: &TenantId, mut new: NewRun) -> Result<CreatedRun> {
        let now = self.now();
        let id = new.id.unwrap_or_else(|| RunId(self.uuid()));
        let thread = match &mut new.thread {
            RunThread::Existing(id) => *id,
            RunThread::Create(thread) => *thread.id.get_or_insert_with(|| ThreadId(self.uuid())),
        };
        transact!(self, |tx| create(tx, tenant, id, thread, new.clone(), now).await)
    }

    async fn get_run(&self, tenant: &TenantId, id: RunId) -> Result<Run> {
        read!(self, |db| Ok(get(db, tenant, id, Lock::No).await?.1))
    }

    async fn list_runs(
        &self,
        tenant: &TenantId,
        filter: RunFilter,
        order: Direction,
        page: PageRequest,
    ) -> Result<Page<Run>> {
        read!(self, |db| list(db, tenant, &filter, order, &page).await)
    }

    async fn count_runs(&self, tenant: &TenantId, filter: RunFilter) -> Result<u64> {
        read!(self, |db| {
            let conditions = conditions(tenant, &filter)?;
            let sql = format!("SELECT count(*) FROM runloom.runs r {}", conditions.sql());
            Ok(db.one(safe(sql), conditions.args, |row| row.number()).await?.unwrap_or_default())
        })
    }

    async fn find_request(&self, tenant: &TenantId, request_id: &str) -> Result<Option<Run>> {
        read!(self, |db| by_request(db, tenant, request_id).await)
    }

    async fn begun_runs(
        &self,
        tenant: &TenantId,
        thread: ThreadId,
        from: Option<BegunAt>,
        order: Direction,
        limit: usize,
    ) -> Result<Vec<Run>> {
        read!(self, |db| {
            let place = threads::known(db, tenant, thread, threads::Lock::No).await?;
            begun(db, place, from, order, limit).await
        })
    }

    async fn request_cancel(&self, tenant: &TenantId, run: RunId, action: CancelAction, by: Canceller) -> Result<Run> {
        let now = self.now();
        transact!(self, |tx| {
            let (n, mut run) = get(tx, tenant, run, Lock::Run).await?;
            if !run.status.is_end() {
                run.cancel(action, by.clone(), now);
                write(tx, n, &run).await?;
                tx.hint(run.server.map(Topic::Cancels));
            }
            Ok(run)
        })
    }

    async fn delete_run(&self, tenant: &TenantId, id: RunId) -> Result<()> {
        let deleted = transact!(self, |tx| {
            let (n, run) = get(tx, tenant, id, Lock::Thread).await?;
            run.check_deletable()?;
            tx.run("DELETE FROM runloom.runs WHERE n = $1", args![n]).await?;
            tx.run("INSERT INTO runloom.trash (run) VALUES ($1)", args![n]).await?;
            tx.hint([Topic::Run(id), Topic::Thread(run.thread)]);
            Ok(())
        });
        if deleted.is_ok() {
            self.empty_trash();
        }
        deleted
    }
}
