//! Runs in SQLite.

use std::{ops::ControlFlow, time::SystemTime};

use async_trait::async_trait;
use runloom_engine::{Object, RunId, ThreadId, Value};
use rusqlite::{Connection, params, params_from_iter};

use crate::{
    SqliteStore, crons, log,
    run_rows::{COLUMNS, by_request, delete, get, insert, run, running, write},
    sql::{Sql, Where, first},
    threads,
    writer::Tx,
};
use runloom_store::{
    Attempt, Begun, CancelAction, Canceller, CreatedRun, Delivery, Direction, Error, Multitask, NewRun, Page,
    PageRequest, Result, Run, RunEnd, RunFilter, RunThread, Runs, Swept, Thread, ThreadStatus, ThreadUpdate, What,
    log::check_order,
    page::{Key, Position},
    runs::order_of_runs,
    time::nanos,
};

/// Makes a run, and its thread where that is asked for.
pub(crate) fn create(tx: &Tx<'_>, id: RunId, thread: ThreadId, new: NewRun, now: SystemTime) -> Result<CreatedRun> {
    if let Some(key) = &new.request_key
        && let Some(run) = by_request(tx, new.owner.as_deref(), &key.id)?
    {
        return run.again(key);
    }
    if tx.one("SELECT 1 FROM runs WHERE id = ?1", [id.0.into_bytes()], |_| Ok(()))?.is_some() {
        return Err(Error::exists(What::Run, id));
    }
    let place = match (threads::place(tx, thread)?, &new.thread) {
        (Some(place), _) => place,
        (None, RunThread::Existing(_)) => return Err(Error::not_found(What::Thread, thread)),
        (None, RunThread::Create(made)) => threads::insert(tx, &Thread::new(thread, made.clone(), now))?,
    };
    if new.multitask == Multitask::Reject {
        let open = "SELECT id FROM runs WHERE thread = ?1 AND status < 2 \
            AND (status = 1 OR start_at IS NULL OR start_at <= ?2) ORDER BY n LIMIT 1";
        if let Some(run) = tx.one(open, params![place, nanos(now)], |row| row.uuid())? {
            return Err(Error::Busy { thread, run: RunId(run) });
        }
    }
    let run = Run::new(id, thread, new, now);
    insert(tx, place, &run)?;
    Ok(CreatedRun { run, new: true })
}

fn begin(tx: &Tx<'_>, seen: Attempt, config: Object, reserve: u64, now: SystemTime) -> Result<Begun> {
    let (n, mut run) = get(tx, seen.run)?;
    run.begin(seen, now)?;
    let (place, mut thread) = threads::get(tx, run.thread)?;
    if let Some(other) = running(tx, place)?.filter(|other| *other != run.id) {
        return Err(Error::Busy { thread: run.thread, run: other });
    }
    let first_seq = log::next(tx, n)?;
    let reserved = log::reserve(tx, n, first_seq.saturating_add(reserve))?;
    write(tx, n, &run)?;
    thread.begun(&run, config, now);
    threads::write(tx, place, &thread)?;
    Ok(Begun { attempt: run.current(), run, first_seq, reserved })
}

fn finish(tx: &Tx<'_>, attempt: Attempt, mut end: RunEnd, now: SystemTime) -> Result<Run> {
    let (n, mut run) = get(tx, attempt.run)?;
    let records = std::mem::take(&mut end.records);
    let delivery = end.delivery.take();
    let before = log::last(tx, n)?;
    let last = records.last().map_or(before, |record| record.seq);
    let update = run.finish(attempt, end, last, now)?;
    check_order(&records, before)?;
    log::insert(tx, n, &records)?;
    write(tx, n, &run)?;
    if let Some(new) = delivery {
        crons::deliver(tx, &Delivery::new(run.id, new, now))?;
    }
    if update != ThreadUpdate::default() {
        threads::update(tx, run.thread, update, now)?;
    }
    Ok(run)
}

fn conditions(filter: &RunFilter) -> Where {
    let mut conditions = Where::default();
    if let Some(thread) = filter.thread {
        conditions.and("r.thread = (SELECT n FROM threads WHERE id = ?)", thread.0.as_bytes().to_vec());
    }
    if let Some(owner) = &filter.owner {
        conditions.and("r.owner = ?", owner.clone());
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

fn list(db: &Connection, filter: &RunFilter, direction: Direction, request: &PageRequest) -> Result<Page<Run>> {
    let tag = order_of_runs(direction);
    let (past, order) = match direction {
        Direction::Ascending => (">", "ASC"),
        Direction::Descending => ("<", "DESC"),
    };
    let mut conditions = conditions(filter);
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

#[async_trait]
impl Runs for SqliteStore {
    async fn create_run(&self, mut new: NewRun) -> Result<CreatedRun> {
        let now = self.now();
        let id = new.id.unwrap_or_else(|| RunId(self.uuid()));
        let thread = match &mut new.thread {
            RunThread::Existing(id) => *id,
            RunThread::Create(thread) => *thread.id.get_or_insert_with(|| ThreadId(self.uuid())),
        };
        self.write(move |tx| create(tx, id, thread, new, now)).await
    }

    async fn get_run(&self, id: RunId) -> Result<Run> {
        self.read(move |db| Ok(get(db, id)?.1)).await
    }

    async fn list_runs(&self, filter: RunFilter, order: Direction, page: PageRequest) -> Result<Page<Run>> {
        self.read(move |db| list(db, &filter, order, &page)).await
    }

    async fn count_runs(&self, filter: RunFilter) -> Result<u64> {
        self.read(move |db| {
            let conditions = conditions(&filter);
            let sql = format!("SELECT count(*) FROM runs r {}", conditions.sql());
            let count: Option<i64> = db.one(&sql, params_from_iter(&conditions.params), first)?;
            Ok(count.unwrap_or_default().unsigned_abs())
        })
        .await
    }

    async fn find_request(&self, owner: Option<&str>, request_id: &str) -> Result<Option<Run>> {
        let (owner, id) = (owner.map(str::to_owned), request_id.to_owned());
        self.read(move |db| by_request(db, owner.as_deref(), &id)).await
    }

    async fn next_pending(&self, thread: ThreadId, now: SystemTime) -> Result<Option<Run>> {
        self.read(move |db| {
            let sql = format!(
                "SELECT {COLUMNS} WHERE r.thread = (SELECT n FROM threads WHERE id = ?1) AND r.status < 2 \
                 AND r.status = 0 AND (r.start_at IS NULL OR r.start_at <= ?2) ORDER BY r.n LIMIT 1"
            );
            Ok(db.one(&sql, params![thread.0.into_bytes(), nanos(now)], run)?.map(|(_, run)| run))
        })
        .await
    }

    async fn scheduled_runs(&self, limit: usize) -> Result<Vec<Run>> {
        self.read(move |db| {
            let sql = format!(
                "SELECT {COLUMNS} WHERE r.status = 0 AND r.start_at IS NOT NULL ORDER BY r.start_at, r.n LIMIT {limit}"
            );
            db.all(&sql, [], |row| Ok(run(row)?.1))
        })
        .await
    }

    async fn begin_attempt(&self, seen: Attempt, config: Object, reserve: u64) -> Result<Begun> {
        let now = self.now();
        self.write(move |tx| begin(tx, seen, config, reserve, now)).await
    }

    async fn release_run(&self, attempt: Attempt, usage: Option<Value>) -> Result<Run> {
        let now = self.now();
        self.write(move |tx| {
            let (n, mut run) = get(tx, attempt.run)?;
            run.release(attempt, usage, now)?;
            write(tx, n, &run)?;
            let idle = ThreadUpdate { status: Some(ThreadStatus::Idle), ..ThreadUpdate::default() };
            threads::update(tx, run.thread, idle, now)?;
            Ok(run)
        })
        .await
    }

    async fn finish_run(&self, attempt: Attempt, end: RunEnd) -> Result<Run> {
        let now = self.now();
        let bytes = end.records.iter().map(|record| record.bytes.len()).sum::<usize>();
        let bytes = bytes + end.delivery.as_ref().map_or(0, |delivery| delivery.body.len());
        self.write_sized(bytes, move |tx| finish(tx, attempt, end, now)).await
    }

    async fn request_cancel(&self, run: RunId, action: CancelAction, by: Canceller) -> Result<Run> {
        let now = self.now();
        self.write(move |tx| {
            let (n, mut run) = get(tx, run)?;
            if !run.status.is_end() {
                run.cancel(action, by, now);
                write(tx, n, &run)?;
            }
            Ok(run)
        })
        .await
    }

    async fn delete_run(&self, id: RunId) -> Result<()> {
        self.write(move |tx| {
            let (n, run) = get(tx, id)?;
            run.check_deletable()?;
            delete(tx, n)
        })
        .await
    }

    async fn sweep(&self, now: SystemTime, limit: usize) -> Result<Swept> {
        self.write(move |tx| {
            let sql = "SELECT n, thread FROM runs WHERE expires IS NOT NULL AND expires <= ?1 AND stateless \
                ORDER BY expires, n LIMIT ?2";
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let expired = tx.all(sql, params![nanos(now), limit], |row| Ok((row.get()?, row.get()?)))?;
            let mut swept = Swept::default();
            for (run, thread) in expired {
                let run: i64 = run;
                // Another run of the same thread may have taken it along.
                if tx.one("SELECT 1 FROM runs WHERE n = ?1", [run], |_| Ok(()))?.is_some() {
                    threads::delete(tx, thread)?;
                    swept.runs += 1;
                }
            }
            let sql = "DELETE FROM node_cache WHERE until IS NOT NULL AND until <= ?1";
            swept.cached = tx.run(sql, [nanos(now)])? as u64;
            Ok(swept)
        })
        .await
    }
}
