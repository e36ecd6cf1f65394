//! Rows of runs in SQLite: how they are read and written, and what an attempt is checked against.

use runloom_engine::{RunId, ThreadId};
use rusqlite::{Connection, params};

use crate::{
    log,
    sql::{Columns, Sql, value_text},
    threads,
    writer::Tx,
};
use runloom_store::{
    AssistantId, Attempt, CancelAction, CancelRequest, Canceller, Error, Multitask, RequestKey, Result, Run, RunStatus,
    ServerId, TenantId, Topic, What, delta,
    time::nanos,
    transitions::{Fence, superseded},
};

/// Of a run joined with its thread: `r` and `t`.
pub(crate) const COLUMNS: &str = "r.n, r.id, t.id, r.tenant, r.server, r.assistant, r.graph, r.revision, r.status, r.attempt, r.multitask, \
    r.created, r.updated, r.started, r.ended, r.start_at, r.expires, r.stateless, r.last_seq, r.events_before, r.given_back, r.cancel, \
    r.cancel_cause, r.cancel_by, r.cancel_at, r.request_id, r.request_hash, r.usage, r.error, r.request FROM runs r JOIN threads t ON t.n = r.thread";

const ACTIONS: [CancelAction; 2] = [CancelAction::Interrupt, CancelAction::Rollback];

/// What led to a cancel, as it is kept beside who asked.
fn cause(by: &Canceller) -> i64 {
    match by {
        Canceller::Caller(_) => 0,
        Canceller::Readers => 1,
        Canceller::NewerRun(_) => 2,
        Canceller::ThreadDeleted => 3,
    }
}

fn canceller(cause: i64, by: String) -> Canceller {
    match (cause, by.parse()) {
        (1, _) => Canceller::Readers,
        (2, Ok(run)) => Canceller::NewerRun(run),
        (3, _) => Canceller::ThreadDeleted,
        _ => Canceller::Caller(by),
    }
}

/// A run with its place.
pub(crate) fn run(row: &mut Columns<'_>) -> Result<(i64, Run)> {
    let n = row.get()?;
    let mut run = Run {
        id: RunId(row.uuid()?),
        thread: ThreadId(row.uuid()?),
        tenant: row.tenant()?,
        server: row.maybe_uuid()?.map(ServerId),
        assistant: row.maybe_uuid()?.map(AssistantId),
        graph: row.get()?,
        revision: row.get()?,
        status: row.state(&RunStatus::ALL)?,
        attempt: row.get()?,
        multitask: row.state(&Multitask::ALL)?,
        created_at: row.time()?,
        updated_at: row.time()?,
        started_at: row.maybe_time()?,
        ended_at: row.maybe_time()?,
        start_at: row.maybe_time()?,
        expires_at: row.maybe_time()?,
        stateless: row.get()?,
        last_seq: row.get::<i64>()?.unsigned_abs(),
        events_before: row.get::<Option<i64>>()?.map(i64::unsigned_abs),
        given_back: row.get()?,
        cancel: None,
        request_key: None,
        usage: None,
        error: None,
        request: Default::default(),
    };
    let (cancel, cause, by): (_, i64, Option<String>) = (row.maybe_state(&ACTIONS)?, row.get()?, row.get()?);
    run.cancel = cancel.zip(by).zip(row.maybe_time()?).map(|((action, by), at)| CancelRequest {
        action,
        by: canceller(cause, by),
        at,
    });
    let (id, hash): (Option<String>, Option<Vec<u8>>) = (row.get()?, row.get()?);
    run.request_key = id.zip(hash).map(|(id, hash)| RequestKey { id, hash });
    run.usage = row.json()?;
    run.error = row.json()?;
    run.request = row.some_json()?;
    Ok((n, run))
}

/// A run of a tenant with its place.
pub(crate) fn get(db: &Connection, tenant: &TenantId, id: RunId) -> Result<(i64, Run)> {
    let found = get_any(db, id)?;
    if found.1.tenant == *tenant { Ok(found) } else { Err(Error::not_found(What::Run, id)) }
}

/// A run with its place, whosever it is.
pub(crate) fn get_any(db: &Connection, id: RunId) -> Result<(i64, Run)> {
    let found = db.one(&format!("SELECT {COLUMNS} WHERE r.id = ?1"), [id.0.into_bytes()], run)?;
    found.ok_or_else(|| Error::not_found(What::Run, id))
}

/// The places of a run and its thread, and the run.
pub(crate) fn get_with_thread(db: &Connection, tenant: &TenantId, id: RunId) -> Result<(i64, i64, Run)> {
    let (n, run) = get(db, tenant, id)?;
    let thread = threads::place(db, tenant, run.thread)?.ok_or_else(|| Error::not_found(What::Thread, run.thread))?;
    Ok((n, thread, run))
}

/// The run that a request made.
pub(crate) fn by_request(db: &Connection, tenant: &TenantId, id: &str) -> Result<Option<Run>> {
    let sql = format!("SELECT {COLUMNS} WHERE r.tenant = ?1 AND r.request_id = ?2");
    Ok(db.one(&sql, params![tenant.as_str(), id], run)?.map(|(_, run)| run))
}

/// The places of the run and the thread of an attempt that is about to write.
pub(crate) fn held(tx: &Tx<'_>, attempt: Attempt) -> Result<(i64, i64)> {
    let sql = "SELECT n, thread, attempt, status FROM runs WHERE id = ?1";
    let found = tx.one(sql, [attempt.run.0.into_bytes()], |row| {
        let (n, thread) = (row.get()?, row.get()?);
        Ok((n, thread, Fence { attempt: row.get()?, status: row.state(&RunStatus::ALL)? }))
    })?;
    let (n, thread, fence) = found.ok_or_else(|| superseded(attempt, None))?;
    fence.check(attempt)?;
    Ok((n, thread))
}

/// The running run of a thread.
pub(crate) fn running(tx: &Tx<'_>, thread: i64) -> Result<Option<RunId>> {
    let sql = "SELECT id FROM runs WHERE thread = ?1 AND status < 2 AND status = 1 LIMIT 1";
    tx.one(sql, [thread], |row| Ok(RunId(row.uuid()?)))
}

/// Adds a run that is new.
pub(crate) fn insert(tx: &Tx<'_>, thread: i64, run: &Run) -> Result<()> {
    let due = if run.start_at.is_some() { Topic::Schedules } else { Topic::Pending };
    tx.hint([Topic::Thread(run.thread), due]);
    let key = run.request_key.as_ref();
    tx.run(
        "INSERT INTO runs (id, thread, tenant, assistant, graph, revision, multitask, stateless, created, updated, \
         start_at, request_id, request_hash, request, attempt, status, logged, last_seq) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9, ?10, ?11, ?12, ?13, 0, 0, 0, 0)",
        params![
            run.id.0.into_bytes(),
            thread,
            run.tenant.as_str(),
            run.assistant.map(|id| id.0.into_bytes()),
            run.graph,
            run.revision,
            run.multitask as i64,
            run.stateless,
            nanos(run.created_at),
            run.start_at.map(nanos),
            key.map(|key| &key.id),
            key.map(|key| &key.hash),
            delta::encode(&run.request)?
        ],
    )?;
    Ok(())
}

/// Writes all of a run that can change.
pub(crate) fn write(tx: &Tx<'_>, n: i64, run: &Run) -> Result<()> {
    tx.hint([Topic::Run(run.id), Topic::Thread(run.thread)]);
    let cancel = run.cancel.as_ref();
    tx.run(
        "UPDATE runs SET attempt = ?2, status = ?3, updated = ?4, started = ?5, ended = ?6, expires = ?7, \
         last_seq = ?8, cancel = ?9, cancel_by = ?10, cancel_at = ?11, usage = ?12, error = ?13, \
         logged = ?14, cancel_cause = ?15, given_back = ?16, server = ?17, events_before = ?18 WHERE n = ?1",
        params![
            n,
            run.attempt,
            run.status as i64,
            nanos(run.updated_at),
            run.started_at.map(nanos),
            run.ended_at.map(nanos),
            run.expires_at.map(nanos),
            run.last_seq as i64,
            cancel.map(|cancel| cancel.action as i64),
            cancel.map(|cancel| cancel.by.requester()),
            cancel.map(|cancel| nanos(cancel.at)),
            value_text(run.usage.as_ref())?,
            value_text(run.error.as_ref())?,
            run.status.is_end() && run.last_seq > 0,
            cancel.map_or(0, |cancel| cause(&cancel.by)),
            run.given_back,
            run.server.map(|server| server.0.into_bytes()),
            run.events_before.map(|events| events as i64)
        ],
    )?;
    Ok(())
}

/// Deletes a run with its log.
pub(crate) fn delete(tx: &Tx<'_>, n: i64) -> Result<()> {
    log::delete(tx, n)?;
    let id = tx.one("DELETE FROM runs WHERE n = ?1 RETURNING id", [n], |row| row.uuid())?;
    tx.hint(id.map(|id| Topic::Run(RunId(id))));
    Ok(())
}
