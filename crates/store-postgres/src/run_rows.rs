//! Rows of runs in Postgres: how they are read and written, and what an attempt is checked against.

use runloom_engine::{RunId, ThreadId};
use runloom_store::{
    AssistantId, Attempt, CancelAction, CancelRequest, Canceller, Error, Multitask, RequestKey, Run, RunStatus,
    ServerId, TenantId, Topic, What, delta,
    time::nanos,
    transitions::{Fence, superseded},
};

use crate::{
    fault::Done,
    sql::{Columns, Db, args, safe, value_text},
    tx::Tx,
};

/// Of a run joined with its thread: `t` and `r`. The thread comes first, so that it is locked first.
pub(crate) const COLUMNS: &str = "r.n, r.id, t.id, r.tenant, r.server, r.assistant, r.graph, r.revision, r.status, r.attempt, \
    r.multitask, r.created, r.updated, r.started, r.ended, r.start_at, r.expires, r.stateless, r.last_seq, r.events_before, r.given_back, \
    r.cancel, r.cancel_cause, r.cancel_by, r.cancel_at, r.request_id, r.request_hash, r.usage, r.error, r.request \
    FROM runloom.threads t JOIN runloom.runs r ON r.thread = t.n";

const ACTIONS: [CancelAction; 2] = [CancelAction::Interrupt, CancelAction::Rollback];

/// What led to a cancel, as it is stored beside the requester.
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
pub(crate) fn run(row: &mut Columns<'_>) -> Done<(i64, Run)> {
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
        attempt: row.number()?,
        multitask: row.state(&Multitask::ALL)?,
        created_at: row.time()?,
        updated_at: row.time()?,
        started_at: row.maybe_time()?,
        ended_at: row.maybe_time()?,
        start_at: row.maybe_time()?,
        expires_at: row.maybe_time()?,
        stateless: row.get()?,
        last_seq: row.number()?,
        events_before: row.get::<Option<i64>>()?.map(i64::unsigned_abs),
        given_back: row.number()?,
        cancel: None,
        request_key: None,
        usage: None,
        error: None,
        request: Default::default(),
    };
    let (cancel, cause, by): (Option<i64>, i64, Option<String>) = (row.get()?, row.get()?, row.get()?);
    run.cancel = cancel.zip(by).zip(row.maybe_time()?).map(|((action, by), at)| {
        let action = usize::try_from(action).ok().and_then(|at| ACTIONS.get(at)).copied().unwrap_or_default();
        CancelRequest { action, by: canceller(cause, by), at }
    });
    let (id, hash): (Option<String>, Option<Vec<u8>>) = (row.get()?, row.get()?);
    run.request_key = id.zip(hash).map(|(id, hash)| RequestKey { id, hash });
    run.usage = row.json()?;
    run.error = row.json()?;
    run.request = row.json()?.unwrap_or_default();
    Ok((n, run))
}

/// How a run's row is locked, and its thread's with it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lock {
    No,
    /// The run alone: nothing of its thread changes.
    Run,
    /// The thread, then the run.
    Thread,
    /// The thread against attempts as well, then the run.
    Whole,
}

impl Lock {
    fn sql(self) -> &'static str {
        match self {
            Self::No => "",
            Self::Run => "FOR NO KEY UPDATE OF r",
            Self::Thread => "FOR NO KEY UPDATE OF t FOR UPDATE OF r",
            Self::Whole => "FOR UPDATE OF t FOR UPDATE OF r",
        }
    }
}

/// A run of a tenant with its place.
pub(crate) async fn get(db: &mut Db, tenant: &TenantId, id: RunId, lock: Lock) -> Done<(i64, Run)> {
    let found = get_any(db, id, lock).await?;
    if found.1.tenant == *tenant { Ok(found) } else { Err(Error::not_found(What::Run, id).into()) }
}

/// A run with its place, whosever it is.
pub(crate) async fn get_any(db: &mut Db, id: RunId, lock: Lock) -> Done<(i64, Run)> {
    let sql = format!("SELECT {COLUMNS} WHERE r.id = $1 {}", lock.sql());
    let found = db.one(safe(sql), args![id.0], run).await?;
    Ok(found.ok_or_else(|| Error::not_found(What::Run, id))?)
}

/// The run that a request created.
pub(crate) async fn by_request(db: &mut Db, tenant: &TenantId, id: &str) -> Done<Option<Run>> {
    let sql = format!("SELECT {COLUMNS} WHERE r.tenant = $1 AND r.request_id = $2");
    Ok(db.one(safe(sql), args![tenant.as_str(), id], run).await?.map(|(_, run)| run))
}

/// What the writes of an attempt need to know of its run.
pub(crate) struct Held {
    pub run: i64,
    pub thread: i64,
    pub thread_id: ThreadId,
    pub tenant: TenantId,
    /// The number of the last record that is or was in the log.
    pub last: u64,
    pub fence: Fence,
}

/// Locks the run of an attempt that is about to write, and keeps the thread's checkpoints from being pruned meanwhile.
pub(crate) async fn hold(tx: &mut Tx, attempt: Attempt) -> Done<Option<Held>> {
    let sql = "SELECT r.n, t.n, t.id, r.tenant, r.attempt, r.status, \
        (SELECT l.seq FROM runloom.log l WHERE l.run = r.n ORDER BY l.seq DESC LIMIT 1), \
        (SELECT s.oldest FROM runloom.log_state s WHERE s.run = r.n) \
        FROM runloom.threads t JOIN runloom.runs r ON r.thread = t.n WHERE r.id = $1 \
        FOR KEY SHARE OF t FOR NO KEY UPDATE OF r";
    tx.one(sql, args![attempt.run.0], |row| {
        let (run, thread, thread_id, tenant) = (row.get()?, row.get()?, ThreadId(row.uuid()?), row.tenant()?);
        let fence = Fence { attempt: row.number()?, status: row.state(&RunStatus::ALL)? };
        let (last, oldest): (Option<i64>, Option<i64>) = (row.get()?, row.get()?);
        let last = last.unwrap_or(0).max(oldest.unwrap_or(0) - 1).max(0).unsigned_abs();
        Ok(Held { run, thread, thread_id, tenant, last, fence })
    })
    .await
}

/// The refusal of an attempt at a run that is not there.
pub(crate) fn lost(attempt: Attempt) -> Error {
    superseded(attempt, None)
}

/// The running run of a thread.
pub(crate) async fn running(tx: &mut Tx, thread: i64) -> Done<Option<RunId>> {
    let sql = "SELECT id FROM runloom.runs WHERE thread = $1 AND status = 1 LIMIT 1";
    tx.one(sql, args![thread], |row| Ok(RunId(row.uuid()?))).await
}

/// Adds a run that is new.
pub(crate) async fn insert(tx: &mut Tx, thread: i64, run: &Run) -> Done<()> {
    let due = if run.start_at.is_some() { Topic::Schedules } else { Topic::Pending };
    tx.hint([Topic::Thread(run.thread), due]);
    let key = run.request_key.as_ref();
    let sql = "INSERT INTO runloom.runs (id, thread, tenant, assistant, graph, revision, multitask, stateless, created, \
        updated, start_at, request_id, request_hash, request, attempt, status, logged, last_seq, given_back, cancel_cause) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10, $11, $12, $13, 0, 0, false, 0, 0, 0)";
    let args = args![
        run.id.0,
        thread,
        run.tenant.as_str(),
        run.assistant.map(|id| id.0),
        &run.graph,
        &run.revision,
        run.multitask as i64,
        run.stateless,
        nanos(run.created_at),
        run.start_at.map(nanos),
        key.map(|key| &*key.id),
        key.map(|key| &*key.hash),
        delta::encode(&run.request)?,
    ];
    tx.run(sql, args).await.map(|_| ())
}

/// Writes all of a run that can change.
pub(crate) async fn write(tx: &mut Tx, n: i64, run: &Run) -> Done<()> {
    tx.hint([Topic::Run(run.id), Topic::Thread(run.thread)]);
    let cancel = run.cancel.as_ref();
    let sql = "UPDATE runloom.runs SET attempt = $2, status = $3, updated = $4, started = $5, ended = $6, expires = $7, \
        last_seq = $8, cancel = $9, cancel_by = $10, cancel_at = $11, usage = $12, error = $13, logged = $14, \
        cancel_cause = $15, given_back = $16, server = $17, events_before = $18 WHERE n = $1";
    let args = args![
        n,
        i64::from(run.attempt),
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
        i64::from(run.given_back),
        run.server.map(|server| server.0),
        run.events_before.map(|events| events as i64),
    ];
    tx.run(sql, args).await.map(|_| ())
}
