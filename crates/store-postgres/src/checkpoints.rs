//! Checkpoints in Postgres: the checkpointers, and what is done beside a run.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use parking_lot::Mutex;
use runloom_engine::{
    CheckpointError, CheckpointId, RunId, ThreadId,
    checkpoint::{
        Ack, Checkpoint, CheckpointFilter, CheckpointWrite, Checkpointer, Control, Saved, Source, TaskRecord,
    },
};
use runloom_store::{
    Attempt, Checkpoints, Error, Result, SeenCheckpoint, TenantId, Topic,
    delta::{Chain, encode, encode_changes, encode_state},
    time::nanos,
};
use uuid::Uuid;

use crate::{
    PostgresStore, chain,
    fault::Done,
    lanes::Work,
    run_rows,
    sql::{Columns, Db, args, object_text, safe},
    threads::{self, Lock},
    tx::{Tx, snapshot, transact},
    upkeep,
};

const SOURCES: [Source; 4] = [Source::Input, Source::Loop, Source::Update, Source::Fork];

/// Of a checkpoint `c` joined with what it has in common with others, `m`.
const COLUMNS: &str = "c.id, c.parent, c.step, c.source, c.created, m.run, m.revision, m.metadata, c.control \
    FROM runloom.checkpoints c JOIN runloom.checkpoint_meta m ON m.n = c.meta";

/// How many rows of a filtered list are read at once.
const BATCH: usize = 200;

/// A checkpoint without its state.
fn checkpoint(row: &mut Columns<'_>, ns: &Arc<str>) -> Done<Checkpoint> {
    Ok(Checkpoint {
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
    })
}

/// Gives checkpoints their states, and the records of their tasks: of each task the last written, in the order of writing.
async fn filled(db: &mut Db, thread: i64, ns: &str, rows: Vec<Checkpoint>) -> Done<Vec<Saved>> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id.0).collect();
    let mut states = chain::states(db, thread, ns, &ids).await?;
    let sql = "SELECT checkpoint, body FROM (SELECT DISTINCT ON (checkpoint, task) checkpoint, n, body FROM runloom.tasks \
        WHERE thread = $1 AND ns = $2 AND checkpoint = ANY($3) ORDER BY checkpoint, task, n DESC) AS latest ORDER BY n";
    let mut tasks: BTreeMap<Uuid, Vec<TaskRecord>> = BTreeMap::new();
    let records = db.all(sql, args![thread, ns, ids], |row| {
        let of = row.uuid()?;
        let record = row.json()?.ok_or_else(|| Error::Corrupt("the record of a task is empty".into()))?;
        Ok((of, record))
    });
    for (of, record) in records.await? {
        tasks.entry(of).or_default().push(record);
    }
    let filled = rows.into_iter().map(|row| {
        let (values, tasks) = (states.remove(&row.id.0), tasks.remove(&row.id.0));
        Saved { checkpoint: Checkpoint { values: values.unwrap_or_default(), ..row }, tasks: tasks.unwrap_or_default() }
    });
    Ok(filled.collect())
}

/// A checkpoint to be written, with what can be prepared before the transaction.
pub(crate) struct Prepared {
    write: CheckpointWrite,
    changes: String,
    control: Option<String>,
    metadata: Option<String>,
}

/// A row that is there already: its chain, and what it has in common with others.
struct Known {
    id: Uuid,
    chain: Chain,
    meta: i64,
    is_alike: bool,
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

    pub fn thread(&self) -> ThreadId {
        self.write.thread
    }

    pub async fn put(&self, tx: &mut Tx, thread: i64) -> Done<()> {
        let c = &self.write.checkpoint;
        let run = c.run_id.map(|run| run.0);
        let ids: Vec<Uuid> = [Some(c.id), c.parent].into_iter().flatten().map(|id| id.0).collect();
        let sql = "SELECT c.id, c.base_bytes, c.chain_bytes, c.meta, m.run IS NOT DISTINCT FROM $4 AND m.revision = $5 \
            AND m.metadata IS NOT DISTINCT FROM $6 FROM runloom.checkpoints c \
            JOIN runloom.checkpoint_meta m ON m.n = c.meta WHERE c.thread = $1 AND c.ns = $2 AND c.id = ANY($3)";
        let args = args![thread, &*c.ns, ids, run, &*c.revision, &self.metadata];
        let known = tx.all(sql, args, |row| {
            let id = row.uuid()?;
            let chain = Chain { base: row.number()?, since: row.number()? };
            Ok(Known { id, chain, meta: row.get()?, is_alike: row.get()? })
        });
        let known = known.await?;
        if known.iter().any(|row| row.id == c.id.0) {
            // The same write has come twice: ids are never given twice.
            return Ok(());
        }
        let parent = known.into_iter().next();
        let chain = parent.as_ref().map(|parent| parent.chain.next(self.bytes())).filter(|chain| !chain.snapshot_due());
        let snapshot = if chain.is_none() { Some(encode_state(self.write.state.iter())?) } else { None };
        let body = snapshot.as_ref().unwrap_or(&self.changes);
        let stored = chain.unwrap_or(Chain::base(body.len()));
        let alike = parent.as_ref().filter(|parent| parent.is_alike).map(|parent| parent.meta);
        let meta = match alike {
            Some(meta) => meta,
            None => self.meta(tx, thread).await?,
        };
        let sql = "INSERT INTO runloom.checkpoints (thread, ns, id, parent, whole, base_bytes, chain_bytes, step, \
            source, created, meta, control, body) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
        let args = args![
            thread,
            &*c.ns,
            c.id.0,
            parent.map(|parent| parent.id),
            snapshot.is_some(),
            stored.base as i64,
            stored.since as i64,
            c.step,
            c.source as i64,
            nanos(c.created_at),
            meta,
            &self.control,
            body,
        ];
        tx.run(sql, args).await?;
        tx.stats.checkpoints += 1;
        tx.stats.checkpoint_bytes += self.control.as_ref().map_or(0, String::len) as u64;
        match &snapshot {
            None => tx.stats.checkpoint_bytes += self.changes.len() as u64,
            Some(state) => {
                tx.stats.snapshots += 1;
                tx.stats.snapshot_bytes += state.len() as u64;
            }
        }
        Ok(())
    }

    /// Adds the row of what the checkpoint has in common with those of its run.
    async fn meta(&self, tx: &mut Tx, thread: i64) -> Done<i64> {
        let c = &self.write.checkpoint;
        let sql =
            "INSERT INTO runloom.checkpoint_meta (thread, run, revision, metadata) VALUES ($1, $2, $3, $4) RETURNING n";
        let args = args![thread, c.run_id.map(|run| run.0), &*c.revision, &self.metadata];
        let n = tx.one(sql, args, |row| row.get()).await?;
        tx.stats.checkpoint_bytes += (c.revision.len() + self.metadata.as_ref().map_or(0, String::len)) as u64;
        Ok(n.ok_or_else(|| Error::Corrupt("a checkpoint's run was inserted without a row".into()))?)
    }
}

/// The record of a task to be written.
pub(crate) struct Task {
    ns: Arc<str>,
    checkpoint: CheckpointId,
    task: Uuid,
    body: String,
}

impl Task {
    /// Writes it, as of a run; nil is by hand.
    pub async fn put(&self, tx: &mut Tx, thread: i64, run: Uuid) -> Done<()> {
        let sql = "INSERT INTO runloom.tasks (thread, ns, checkpoint, task, run, body) VALUES ($1, $2, $3, $4, $5, $6) \
            ON CONFLICT (thread, ns, checkpoint, task, run) DO UPDATE SET n = DEFAULT, body = excluded.body";
        tx.run(sql, args![thread, &*self.ns, self.checkpoint.0, self.task, run, &self.body]).await?;
        tx.stats.tasks += 1;
        tx.stats.task_bytes += self.body.len() as u64;
        Ok(())
    }
}

/// A write by hand, and the checkpoint that it expects to be the latest.
pub(crate) struct ByHand {
    tenant: TenantId,
    thread: ThreadId,
    write: ByHandWrite,
    seen: Option<Arc<Mutex<SeenCheckpoint>>>,
}

enum ByHandWrite {
    Put(Prepared),
    Task(Task),
}

impl ByHand {
    pub fn thread(&self) -> ThreadId {
        self.thread
    }

    /// Notes the latest checkpoint after the write.
    pub fn saw(&self, latest: SeenCheckpoint) {
        if let (Some(seen), ByHandWrite::Put(_)) = (&self.seen, &self.write) {
            *seen.lock() = latest;
        }
    }
}

/// Writes by hand, and returns what is the latest checkpoint of the graph itself then.
pub(crate) async fn put_by_hand(tx: &mut Tx, by_hand: &ByHand) -> Done<SeenCheckpoint> {
    // Locked: no run begins meanwhile, and of two that saw the same one is refused.
    let thread = by_hand.thread;
    let n = threads::known(tx, &by_hand.tenant, thread, Lock::Change).await?;
    if let Some(run) = run_rows::running(tx, n).await? {
        return Err(Error::Busy { thread, run }.into());
    }
    match &by_hand.write {
        ByHandWrite::Task(task) => {
            task.put(tx, n, Uuid::nil()).await?;
            Ok(None)
        }
        ByHandWrite::Put(prepared) => {
            let mut latest = None;
            if let Some(seen) = &by_hand.seen {
                let sql = "SELECT id FROM runloom.checkpoints WHERE thread = $1 AND ns = '' ORDER BY id DESC LIMIT 1";
                latest = tx.one(sql, args![n], |row| Ok(CheckpointId(row.uuid()?))).await?;
                if latest != *seen.lock() {
                    return Err(Error::Moved { thread, latest }.into());
                }
            }
            prepared.put(tx, n).await?;
            tx.hint([Topic::Thread(thread)]);
            let put = &prepared.write.checkpoint;
            Ok(if put.ns.is_empty() { Some(put.id) } else { latest })
        }
    }
}

/// A checkpointer, of an attempt or for writing by hand.
struct PostgresCheckpointer {
    store: PostgresStore,
    tenant: TenantId,
    attempt: Option<Attempt>,
    /// The latest checkpoint that a put by hand expects.
    seen: Option<Arc<Mutex<SeenCheckpoint>>>,
}

fn refused(error: Error) -> Ack {
    Box::pin(std::future::ready(Err(error.into())))
}

#[async_trait]
impl Checkpointer for PostgresCheckpointer {
    fn put(&self, write: CheckpointWrite) -> Ack {
        let prepared = match Prepared::new(write) {
            Ok(prepared) => prepared,
            Err(error) => return refused(error),
        };
        let (bytes, tenant, thread) = (prepared.bytes(), self.tenant.clone(), prepared.thread());
        let work = match self.attempt {
            Some(attempt) => Work::Put { tenant, attempt, prepared },
            None => Work::ByHand(ByHand { tenant, thread, write: ByHandWrite::Put(prepared), seen: self.seen.clone() }),
        };
        let put = self.store.begin(bytes, work);
        Box::pin(async move { Ok(put.await?) })
    }

    fn put_task(&self, thread: ThreadId, ns: &Arc<str>, checkpoint: CheckpointId, record: TaskRecord) -> Ack {
        let body = match encode(&record) {
            Ok(body) => body,
            Err(error) => return refused(error),
        };
        let bytes = body.len();
        let task = Task { ns: ns.clone(), checkpoint, task: record.task.0, body };
        let tenant = self.tenant.clone();
        let work = match self.attempt {
            Some(attempt) => Work::PutTask { tenant, attempt, thread, task },
            None => Work::ByHand(ByHand { tenant, thread, write: ByHandWrite::Task(task), seen: None }),
        };
        let put = self.store.begin(bytes, work);
        Box::pin(async move { Ok(put.await?) })
    }

    async fn get(
        &self,
        thread: ThreadId,
        ns: &str,
        id: Option<CheckpointId>,
    ) -> Result<Option<Saved>, CheckpointError> {
        let name: Arc<str> = ns.into();
        let found: Result<_> = snapshot!(self.store, |db| {
            let Some(thread) = threads::place(db, &self.tenant, thread, Lock::No).await? else { return Ok(None) };
            let sql = format!(
                "SELECT {COLUMNS} WHERE c.thread = $1 AND c.ns = $2 AND ($3::uuid IS NULL OR c.id = $3) \
                 ORDER BY c.id DESC LIMIT 1"
            );
            let args = args![thread, ns, id.map(|id| id.0)];
            let found = db.one(safe(sql), args, |row| checkpoint(row, &name)).await?;
            Ok(filled(db, thread, ns, found.into_iter().collect()).await?.pop())
        });
        Ok(found?)
    }

    async fn list(&self, thread: ThreadId, ns: &str, filter: CheckpointFilter) -> Result<Vec<Saved>, CheckpointError> {
        let name: Arc<str> = ns.into();
        let found: Result<_> = snapshot!(self.store, |db| {
            let Some(thread) = threads::place(db, &self.tenant, thread, Lock::No).await? else { return Ok(Vec::new()) };
            let limit = filter.limit.unwrap_or(usize::MAX);
            let mut before = filter.before.map(|id| id.0);
            let mut rows: Vec<Checkpoint> = Vec::new();
            let sql = format!(
                "SELECT {COLUMNS} WHERE c.thread = $1 AND c.ns = $2 AND ($3::uuid IS NULL OR c.id < $3) \
                 ORDER BY c.id DESC LIMIT {BATCH}"
            );
            while rows.len() < limit {
                let args = args![thread, ns, before];
                let batch = db.all(safe(sql.clone()), args, |row| checkpoint(row, &name)).await?;
                let is_last = batch.len() < BATCH;
                before = batch.last().map(|row| row.id.0);
                let meant = batch.into_iter().filter(|row| row.matches(&filter.metadata));
                rows.extend(meant.take(limit - rows.len()));
                if is_last {
                    break;
                }
            }
            filled(db, thread, ns, rows).await
        });
        Ok(found?)
    }
}

#[async_trait]
impl Checkpoints for PostgresStore {
    fn checkpointer(&self, tenant: &TenantId, attempt: Attempt) -> Arc<dyn Checkpointer> {
        let (store, tenant) = (self.clone(), tenant.clone());
        Arc::new(PostgresCheckpointer { store, tenant, attempt: Some(attempt), seen: None })
    }

    fn checkpointer_by_hand(&self, tenant: &TenantId, seen: Option<SeenCheckpoint>) -> Arc<dyn Checkpointer> {
        let seen = seen.map(|seen| Arc::new(Mutex::new(seen)));
        Arc::new(PostgresCheckpointer { store: self.clone(), tenant: tenant.clone(), attempt: None, seen })
    }

    async fn delete_run_checkpoints(&self, tenant: &TenantId, run: RunId) -> Result<u64> {
        self.inner.lanes.settled(run.0).await;
        transact!(self, |tx| {
            let (_, record) = run_rows::get(tx, tenant, run, run_rows::Lock::Whole).await?;
            record.check_deletable()?;
            let thread = threads::known(tx, tenant, record.thread, Lock::No).await?;
            upkeep::remove_run(tx, run, thread).await
        })
    }

    async fn prune_checkpoints(&self, tenant: &TenantId, thread: ThreadId, keep: usize) -> Result<u64> {
        self.inner.lanes.flush().await;
        transact!(self, |tx| {
            let thread = threads::known(tx, tenant, thread, Lock::Whole).await?;
            upkeep::prune(tx, thread, keep).await
        })
    }
}
