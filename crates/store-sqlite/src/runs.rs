//! Runs in SQLite.

use std::{ops::ControlFlow, time::SystemTime};

use async_trait::async_trait;
use runloom_engine::{RunId, ThreadId};
use rusqlite::{Connection, params, params_from_iter};

use crate::{
    SqliteStore,
    run_rows::{COLUMNS, by_request, delete, get, insert, run, write},
    sql::{Columns, Sql, Where, first},
    threads,
    writer::Tx,
};
use runloom_store::{
    BegunAt, CancelAction, Canceller, CreatedRun, Direction, Error, Multitask, NewRun, Page, PageRequest, Result, Run,
    RunFilter, RunThread, Runs, TenantId, Thread, Topic, What,
    page::{Key, Position},
    runs::order_of_runs,
    time::nanos,
};

/// Makes a run, and its thread where that is asked for.
pub(crate) fn create(
    tx: &Tx<'_>,
    tenant: &TenantId,
    id: RunId,
    thread: ThreadId,
    new: NewRun,
    now: SystemTime,
) -> Result<CreatedRun> {
    if let Some(key) = &new.request_key
        && let Some(run) = by_request(tx, tenant, &key.id)?
    {
        return run.again(key);
    }
    if tx.one("SELECT 1 FROM runs WHERE id = ?1", [id.0.into_bytes()], |_| Ok(()))?.is_some() {
        return Err(Error::exists(What::Run, id));
    }
    let place = match (threads::place(tx, tenant, thread)?, &new.thread) {
        (Some(place), _) => place,
        (None, RunThread::Existing(_)) => return Err(Error::not_found(What::Thread, thread)),
        (None, RunThread::Create(made)) => {
            threads::insert(tx, &Thread::new(tenant.clone(), thread, made.clone(), now))?
        }
    };
    if new.multitask == Multitask::Reject {
        let open = "SELECT id FROM runs WHERE thread = ?1 AND status < 2 \
            AND (status = 1 OR start_at IS NULL OR start_at <= ?2) ORDER BY n LIMIT 1";
        if let Some(run) = tx.one(open, params![place, nanos(now)], |row| row.uuid())? {
            return Err(Error::Busy { thread, run: RunId(run) });
        }
    }
    let run = Run::new(tenant.clone(), id, thread, new, now);
    insert(tx, place, &run)?;
    Ok(CreatedRun { run, new: true })
}

fn conditions(tenant: &TenantId, filter: &RunFilter) -> Where {
    let mut conditions = Where::default();
    conditions.and("r.tenant = ?", tenant.to_string());
    if let Some(thread) = filter.thread {
        conditions
            .and("r.thread = (SELECT n FROM threads WHERE tenant = r.tenant AND id = ?)", thread.0.as_bytes().to_vec());
    }
    if !filter.status.is_empty() {
        conditions.among("r.status", filter.status.iter().map(|status| *status as i64));
        if filter.status.iter().all(|status| !status.is_end()) {
            // There is an index of those.
            conditions.plain("r.status < 2");
        }
    }
    if let Some(assistant) = filter.assistant {
        conditions.and("r.assistant = ?", assistant.0.as_bytes().to_vec());
    }
    if let Some(graph) = &filter.graph {
        conditions.and("r.graph = ?", graph.clone());
    }
    conditions
}

fn list(
    db: &Connection,
    tenant: &TenantId,
    filter: &RunFilter,
    direction: Direction,
    request: &PageRequest,
) -> Result<Page<Run>> {
    let tag = order_of_runs(direction);
    let (past, order) = match direction {
        Direction::Ascending => (">", "ASC"),
        Direction::Descending => ("<", "DESC"),
    };
    let mut conditions = conditions(tenant, filter);
    if let Some(token) = &request.token {
        conditions.and(&format!("r.n {past} ?"), Position::parse(token, tag)?.ordinal);
    }
    let sql = format!(
        "SELECT {COLUMNS} {} ORDER BY r.n {order} LIMIT {} OFFSET {}",
        conditions.sql(),
        request.size() + 1,
        request.skip
    );
    let mut page = Page { items: Vec::new(), next: None };
    let mut last = 0;
    db.each(&sql, params_from_iter(&conditions.params), |row| {
        if page.items.len() == request.size() {
            page.next = Some(Position { key: Key::Int(last), ordinal: last }.token(tag));
            return Ok(ControlFlow::Break(()));
        }
        let (n, run) = run(row)?;
        last = n;
        page.items.push(run);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(page)
}

fn begun(db: &Connection, thread: i64, from: Option<BegunAt>, order: Direction, limit: usize) -> Result<Vec<Run>> {
    const AT: &str = "ifnull(r.started, r.ended)";
    let (past, order) = match order {
        Direction::Ascending => (">", "ASC"),
        Direction::Descending => ("<", "DESC"),
    };
    let from_there = from.map_or_else(String::new, |_| format!("AND ({AT}, r.id) {past} (?2, ?3)"));
    let sql = format!(
        "SELECT {COLUMNS} WHERE r.thread = ?1 AND {AT} IS NOT NULL {from_there} ORDER BY {AT} {order}, r.id {order} LIMIT {limit}"
    );
    let read = |row: &mut Columns<'_>| Ok(run(row)?.1);
    match from {
        None => db.all(&sql, [thread], read),
        Some(from) => db.all(&sql, params![thread, nanos(from.at), from.run.0.into_bytes()], read),
    }
}

#[async_trait]
impl Runs for SqliteStore {
    async fn create_run(&self, tenant: &TenantId, mut new: NewRun) -> Result<CreatedRun> {
        let now = self.now();
        let id = new.id.unwrap_or_else(|| RunId(self.uuid()));
        let thread = match &mut new.thread {
            RunThread::Existing(id) => *id,
            RunThread::Create(thread) => *thread.id.get_or_insert_with(|| ThreadId(self.uuid())),
        };
        let tenant = tenant.clone();
        self.write(move |tx| create(tx, &tenant, id, thread, new, now)).await
    }

    async fn get_run(&self, tenant: &TenantId, id: RunId) -> Result<Run> {
        let tenant = tenant.clone();
        self.read(move |db| Ok(get(db, &tenant, id)?.1)).await
    }

    async fn list_runs(
        &self,
        tenant: &TenantId,
        filter: RunFilter,
        order: Direction,
        page: PageRequest,
    ) -> Result<Page<Run>> {
        let tenant = tenant.clone();
        self.read(move |db| list(db, &tenant, &filter, order, &page)).await
    }

    async fn count_runs(&self, tenant: &TenantId, filter: RunFilter) -> Result<u64> {
        let tenant = tenant.clone();
        self.read(move |db| {
            let conditions = conditions(&tenant, &filter);
            let sql = format!("SELECT count(*) FROM runs r {}", conditions.sql());
            let count: Option<i64> = db.one(&sql, params_from_iter(&conditions.params), first)?;
            Ok(count.unwrap_or_default().unsigned_abs())
        })
        .await
    }

    async fn find_request(&self, tenant: &TenantId, request_id: &str) -> Result<Option<Run>> {
        let (tenant, id) = (tenant.clone(), request_id.to_owned());
        self.read(move |db| by_request(db, &tenant, &id)).await
    }

    async fn begun_runs(
        &self,
        tenant: &TenantId,
        thread: ThreadId,
        from: Option<BegunAt>,
        order: Direction,
        limit: usize,
    ) -> Result<Vec<Run>> {
        let tenant = tenant.clone();
        self.read(move |db| {
            let place = threads::place(db, &tenant, thread)?;
            begun(db, place.ok_or_else(|| Error::not_found(What::Thread, thread))?, from, order, limit)
        })
        .await
    }

    async fn request_cancel(&self, tenant: &TenantId, run: RunId, action: CancelAction, by: Canceller) -> Result<Run> {
        let (tenant, now) = (tenant.clone(), self.now());
        self.write(move |tx| {
            let (n, mut run) = get(tx, &tenant, run)?;
            if !run.status.is_end() {
                run.cancel(action, by, now);
                write(tx, n, &run)?;
                tx.hint(run.server.map(Topic::Cancels));
            }
            Ok(run)
        })
        .await
    }

    async fn delete_run(&self, tenant: &TenantId, id: RunId) -> Result<()> {
        let tenant = tenant.clone();
        self.write(move |tx| {
            let (n, run) = get(tx, &tenant, id)?;
            run.check_deletable()?;
            delete(tx, n)?;
            tx.hint([Topic::Thread(run.thread)]);
            Ok(())
        })
        .await
    }
}
