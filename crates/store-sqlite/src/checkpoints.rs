//! Checkpoints in SQLite: the checkpointers, and what is done beside a run.

use std::{collections::BTreeMap, ops::ControlFlow, sync::Arc};

use async_trait::async_trait;
use parking_lot::Mutex;
use runloom_engine::{
    CheckpointError, CheckpointId, RunId, ThreadId,
    checkpoint::{
        Ack, Checkpoint, CheckpointFilter, CheckpointWrite, Checkpointer, Control, Saved, Source, TaskRecord,
    },
};
use rusqlite::{Connection, params};

use crate::{
    SqliteStore, chain, run_rows,
    sql::{Columns, Sql, first, object_text},
    threads, upkeep,
    writer::Tx,
};
use runloom_store::{
    Attempt, Checkpoints, Error, Result, SeenCheckpoint, TenantId, Topic, What,
    delta::{Chain, encode, encode_changes, encode_state},
    time::nanos,
};

const SOURCES: [Source; 4] = [Source::Input, Source::Loop, Source::Update, Source::Fork];

/// Of a checkpoint `c` joined with its parent `p` and what it has in common with others, `m`.
const COLUMNS: &str = "c.n, c.id, p.id, c.step, c.source, c.created, m.run, m.revision, m.metadata, c.control \
    FROM checkpoints c JOIN checkpoint_meta m ON m.n = c.meta LEFT JOIN checkpoints p ON p.n = c.parent";

/// A checkpoint with its place, without its state.
fn checkpoint(row: &mut Columns<'_>, ns: &Arc<str>) -> Result<(i64, Checkpoint)> {
    let n = row.get()?;
    Ok((
        n,
        Checkpoint {
            ns: ns.clone(),
            id: CheckpointId(row.uuid()?),
            parent: row.maybe_uuid()?.map(CheckpointId),
            step: row.get()?,
            source: row.state(&SOURCES)?,
            created_at: row.time()?,
            run_id: row.maybe_uuid()?.map(RunId),
            revision: row.get::<String>()?.into(),
            metadata: row.object()?,
            control: row.json()?.unwrap_or_default(),
            values: BTreeMap::new(),
        },
    ))
}

/// The records of a checkpoint's tasks: of each task the last written, in the order of writing.
fn tasks(db: &Connection, thread: i64, checkpoint: &Checkpoint) -> Result<Vec<TaskRecord>> {
    let sql = "SELECT body FROM tasks WHERE n IN \
        (SELECT max(n) FROM tasks WHERE thread = ?1 AND ns = ?2 AND checkpoint = ?3 GROUP BY task) ORDER BY n";
    db.all(sql, params![thread, &*checkpoint.ns, checkpoint.id.0.into_bytes()], |row| row.some_json())
}

/// Gives checkpoints their states and tasks.
fn filled(db: &Connection, thread: i64, rows: Vec<(i64, Checkpoint)>) -> Result<Vec<Saved>> {
    let places: Vec<i64> = rows.iter().map(|(n, _)| *n).collect();
    let mut states = chain::states(db, &places)?;
    rows.into_iter()
        .map(|(n, checkpoint)| {
            let tasks = tasks(db, thread, &checkpoint)?;
            let values = states.remove(&n).unwrap_or_default();
            Ok(Saved { checkpoint: Checkpoint { values, ..checkpoint }, tasks })
        })
        .collect()
}

/// A checkpoint to be written, with what could be prepared outside of the writer's thread.
struct Prepared {
    write: CheckpointWrite,
    changes: String,
    control: Option<String>,
    metadata: Option<String>,
}

impl Prepared {
    fn new(write: CheckpointWrite) -> Result<Self> {
        let checkpoint = &write.checkpoint;
        let control = (checkpoint.control != Control::default()).then(|| encode(&checkpoint.control));
        Ok(Self {
            changes: encode_changes(&write)?,
            control: control.transpose()?,
            metadata: object_text(&checkpoint.metadata)?,
            write,
        })
    }

    fn bytes(&self) -> usize {
        self.changes.len() + self.control.as_ref().map_or(0, String::len)
    }

    fn put(self, tx: &Tx<'_>, thread: i64) -> Result<()> {
        let c = &self.write.checkpoint;
        let find = "SELECT n, base_bytes, chain_bytes, meta FROM checkpoints WHERE thread = ?1 AND ns = ?2 AND id = ?3";
        let known = |id: CheckpointId| {
            tx.one(find, params![thread, &*c.ns, id.0.into_bytes()], |row| {
                let n: i64 = row.get()?;
                let mut count = || Ok::<u64, Error>(row.get::<i64>()?.unsigned_abs());
                Ok((n, Chain { base: count()?, since: count()? }, row.get::<i64>()?))
            })
        };
        if known(c.id)?.is_some() {
            // The same write has come twice: ids are never given twice.
            return Ok(());
        }
        let parent = c.parent.map(known).transpose()?.flatten();
        let meta = self.meta(tx, thread, parent.map(|(_, _, meta)| meta))?;
        let chain = parent.map(|(_, above, _)| above.next(self.bytes())).filter(|chain| !chain.snapshot_due());
        let snapshot = if chain.is_none() { Some(encode_state(self.write.state.iter())?) } else { None };
        let body = snapshot.as_ref().unwrap_or(&self.changes);
        let sql = "INSERT INTO checkpoints (thread, ns, id, parent, whole, base_bytes, chain_bytes, step, \
            source, created, meta, control, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)";
        let stored = chain.unwrap_or(Chain::base(body.len()));
        tx.run(
            sql,
            params![
                thread,
                &*c.ns,
                c.id.0.into_bytes(),
                parent.map(|(n, ..)| n),
                snapshot.is_some(),
                stored.base as i64,
                stored.since as i64,
                c.step,
                c.source as i64,
                nanos(c.created_at),
                meta,
                self.control,
                body
            ],
        )?;
        let mut stats = tx.stats.borrow_mut();
        stats.checkpoints += 1;
        stats.checkpoint_bytes += self.control.as_ref().map_or(0, String::len) as u64;
        match &snapshot {
            None => stats.checkpoint_bytes += self.changes.len() as u64,
            Some(state) => {
                stats.snapshots += 1;
                stats.snapshot_bytes += state.len() as u64;
            }
        }
        Ok(())
    }

    /// The row of what the checkpoint has in common with others: its parent's, where they do.
    fn meta(&self, tx: &Tx<'_>, thread: i64, parent: Option<i64>) -> Result<i64> {
        let c = &self.write.checkpoint;
        let run = c.run_id.map(|run| run.0.into_bytes());
        if let Some(parent) = parent {
            let sql = "SELECT n FROM checkpoint_meta WHERE n = ?1 AND run IS ?2 AND revision = ?3 AND metadata IS ?4";
            if let Some(n) = tx.one(sql, params![parent, run, &*c.revision, self.metadata], first)? {
                return Ok(n);
            }
        }
        let sql = "INSERT INTO checkpoint_meta (thread, run, revision, metadata) VALUES (?1, ?2, ?3, ?4)";
        tx.run(sql, params![thread, run, &*c.revision, self.metadata])?;
        tx.stats.borrow_mut().checkpoint_bytes +=
            (c.revision.len() + self.metadata.as_ref().map_or(0, String::len)) as u64;
        Ok(tx.last_insert_rowid())
    }
}

/// A checkpointer, of an attempt or for writing by hand.
struct SqliteCheckpointer {
    store: SqliteStore,
    tenant: TenantId,
    attempt: Option<Attempt>,
    /// The latest checkpoint that a put by hand expects.
    seen: Option<Arc<Mutex<SeenCheckpoint>>>,
}

/// Lets an attempt, or the hand, write to a thread. The places of the run (0 for the hand) and the thread.
fn admit(tx: &Tx<'_>, tenant: &TenantId, attempt: Option<Attempt>, id: ThreadId) -> Result<(i64, i64)> {
    let thread = threads::place(tx, tenant, id)?;
    if let Some(attempt) = attempt {
        let (run, of_run) = run_rows::held(tx, attempt)?;
        return match thread {
            Some(thread) if thread == of_run => Ok((run, thread)),
            _ => Err(runloom_store::checkpoints::wrong_thread(attempt, id)),
        };
    }
    let thread = thread.ok_or_else(|| Error::not_found(What::Thread, id))?;
    match run_rows::running(tx, thread)? {
        Some(run) => Err(Error::Busy { thread: id, run }),
        None => Ok((0, thread)),
    }
}

/// Refuses a put by hand where the thread has moved on since it was seen.
fn check_seen(
    tx: &Tx<'_>,
    seen: &mut SeenCheckpoint,
    (n, thread): (i64, ThreadId),
    put: Option<CheckpointId>,
) -> Result<()> {
    let sql = "SELECT id FROM checkpoints WHERE thread = ?1 AND ns = '' ORDER BY id DESC LIMIT 1";
    let latest = tx.one(sql, [n], |row| Ok(CheckpointId(row.uuid()?)))?;
    if latest != *seen {
        return Err(Error::Moved { thread, latest });
    }
    *seen = put.or(latest);
    Ok(())
}

#[async_trait]
impl Checkpointer for SqliteCheckpointer {
    fn put(&self, write: CheckpointWrite) -> Ack {
        let (tenant, attempt, seen, thread) = (self.tenant.clone(), self.attempt, self.seen.clone(), write.thread);
        let prepared = match Prepared::new(write) {
            Ok(prepared) => prepared,
            Err(error) => return Box::pin(std::future::ready(Err(error.into()))),
        };
        let put = self.store.inner.shared.begin(prepared.bytes(), move |tx| {
            let (_, n) = admit(tx, &tenant, attempt, thread)?;
            if let Some(seen) = seen {
                let put = prepared.write.checkpoint.as_ref();
                check_seen(tx, &mut seen.lock(), (n, thread), put.ns.is_empty().then_some(put.id))?;
            }
            tx.hint([Topic::Thread(thread)]);
            prepared.put(tx, n)
        });
        Box::pin(async move { Ok(put.await?) })
    }

    fn put_task(&self, thread: ThreadId, ns: &Arc<str>, checkpoint: CheckpointId, record: TaskRecord) -> Ack {
        let (tenant, attempt, ns, task) = (self.tenant.clone(), self.attempt, ns.clone(), record.task);
        let body = match encode(&record) {
            Ok(body) => body,
            Err(error) => return Box::pin(std::future::ready(Err(error.into()))),
        };
        let put = self.store.inner.shared.begin(body.len(), move |tx| {
            let (run, thread) = admit(tx, &tenant, attempt, thread)?;
            let sql = "INSERT OR REPLACE INTO tasks (thread, ns, checkpoint, task, run, body) \
                VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
            tx.run(sql, params![thread, &*ns, checkpoint.0.into_bytes(), task.0.into_bytes(), run, body])?;
            let mut stats = tx.stats.borrow_mut();
            stats.tasks += 1;
            stats.task_bytes += body.len() as u64;
            Ok(())
        });
        Box::pin(async move { Ok(put.await?) })
    }

    async fn get(
        &self,
        thread: ThreadId,
        ns: &str,
        id: Option<CheckpointId>,
    ) -> Result<Option<Saved>, CheckpointError> {
        let (tenant, ns): (_, Arc<str>) = (self.tenant.clone(), ns.into());
        let found = self.store.read(move |db| {
            let Some(thread) = threads::place(db, &tenant, thread)? else { return Ok(None) };
            let read = |row: &mut Columns<'_>| checkpoint(row, &ns);
            let found = match id {
                Some(id) => {
                    let sql = format!("SELECT {COLUMNS} WHERE c.thread = ?1 AND c.ns = ?2 AND c.id = ?3");
                    db.one(&sql, params![thread, &*ns, id.0.into_bytes()], read)?
                }
                None => {
                    let sql = format!("SELECT {COLUMNS} WHERE c.thread = ?1 AND c.ns = ?2 ORDER BY c.id DESC LIMIT 1");
                    db.one(&sql, params![thread, &*ns], read)?
                }
            };
            Ok(filled(db, thread, found.into_iter().collect())?.pop())
        });
        Ok(found.await?)
    }

    async fn list(&self, thread: ThreadId, ns: &str, filter: CheckpointFilter) -> Result<Vec<Saved>, CheckpointError> {
        let (tenant, ns): (_, Arc<str>) = (self.tenant.clone(), ns.into());
        let found = self.store.read(move |db| {
            let Some(thread) = threads::place(db, &tenant, thread)? else { return Ok(Vec::new()) };
            let (before, limit) = (filter.before.map(|id| id.0.into_bytes()), filter.limit.unwrap_or(usize::MAX));
            let mut rows = Vec::new();
            let sql = format!(
                "SELECT {COLUMNS} WHERE c.thread = ?1 AND c.ns = ?2 AND (?3 IS NULL OR c.id < ?3) ORDER BY c.id DESC"
            );
            db.each(&sql, params![thread, &*ns, before], |row| {
                if rows.len() >= limit {
                    return Ok(ControlFlow::Break(()));
                }
                let row = checkpoint(row, &ns)?;
                if row.1.matches(&filter.metadata) {
                    rows.push(row);
                }
                Ok(ControlFlow::Continue(()))
            })?;
            filled(db, thread, rows)
        });
        Ok(found.await?)
    }
}

#[async_trait]
impl Checkpoints for SqliteStore {
    fn checkpointer(&self, tenant: &TenantId, attempt: Attempt) -> Arc<dyn Checkpointer> {
        Arc::new(SqliteCheckpointer { store: self.clone(), tenant: tenant.clone(), attempt: Some(attempt), seen: None })
    }

    fn checkpointer_by_hand(&self, tenant: &TenantId, seen: Option<SeenCheckpoint>) -> Arc<dyn Checkpointer> {
        let seen = seen.map(|seen| Arc::new(Mutex::new(seen)));
        Arc::new(SqliteCheckpointer { store: self.clone(), tenant: tenant.clone(), attempt: None, seen })
    }

    async fn delete_run_checkpoints(&self, tenant: &TenantId, run: RunId) -> Result<u64> {
        let tenant = tenant.clone();
        self.write(move |tx| {
            let (n, thread, record) = run_rows::get_with_thread(tx, &tenant, run)?;
            record.check_deletable()?;
            upkeep::remove_run(tx, n, run, thread)
        })
        .await
    }

    async fn prune_checkpoints(&self, tenant: &TenantId, thread: ThreadId, keep: usize) -> Result<u64> {
        let tenant = tenant.clone();
        self.write(move |tx| {
            let thread = threads::place(tx, &tenant, thread)?.ok_or_else(|| Error::not_found(What::Thread, thread))?;
            upkeep::prune(tx, thread, keep)
        })
        .await
    }
}
