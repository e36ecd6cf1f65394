//! What is done with a thread's checkpoints beside a run, in Postgres: copied, rolled back, pruned; and the trash of deleted
//! threads and runs, which is emptied in small steps.

use std::collections::{BTreeMap, HashSet};

use runloom_engine::{CheckpointId, RunId};
use runloom_store::{Result, checkpoints::made_in};
use uuid::Uuid;

use crate::{
    PostgresStore, chain,
    fault::Done,
    sql::args,
    tx::{Tx, transact},
};

/// How many rows of the trash one transaction deletes.
const STEP: i64 = 500;

/// Copies all checkpoints of a thread to another.
pub(crate) async fn copy(tx: &mut Tx, from: i64, to: i64) -> Done<()> {
    let sql = "SELECT n FROM runloom.checkpoint_meta WHERE thread = $1 ORDER BY n";
    let old: Vec<i64> = tx.all(sql, args![from], |row| row.get()).await?;
    let sql = "INSERT INTO runloom.checkpoint_meta (thread, run, revision, metadata) \
        SELECT $2, run, revision, metadata FROM runloom.checkpoint_meta WHERE thread = $1 ORDER BY n RETURNING n";
    let mut new: Vec<i64> = tx.all(sql, args![from, to], |row| row.get()).await?;
    // Numbers are given in the order of the rows.
    new.sort_unstable();
    let sql = "INSERT INTO runloom.checkpoints (thread, ns, id, parent, whole, base_bytes, chain_bytes, step, source, \
        created, meta, control, body) SELECT $2, ns, id, parent, whole, base_bytes, chain_bytes, step, source, created, \
        metas.new, control, body FROM runloom.checkpoints c \
        JOIN unnest($3::bigint[], $4::bigint[]) AS metas (old, new) ON metas.old = c.meta WHERE thread = $1";
    tx.run(sql, args![from, to, old, new]).await?;
    let sql = "INSERT INTO runloom.tasks (thread, ns, checkpoint, task, run, body) \
        SELECT $2, ns, checkpoint, task, run, body FROM runloom.tasks WHERE thread = $1 ORDER BY n";
    tx.run(sql, args![from, to]).await.map(|_| ())
}

/// Deletes what was common to checkpoints that are not there any more.
async fn sweep_meta(tx: &mut Tx, thread: i64) -> Done<()> {
    let sql = "DELETE FROM runloom.checkpoint_meta m WHERE m.thread = $1 \
        AND NOT EXISTS (SELECT 1 FROM runloom.checkpoints c WHERE c.thread = $1 AND c.meta = m.n)";
    tx.run(sql, args![thread]).await.map(|_| ())
}

/// Deletes what a run wrote, and returns how many checkpoints.
pub(crate) async fn remove_run(tx: &mut Tx, run: RunId, thread: i64) -> Done<u64> {
    let sql = "SELECT c.ns, c.id FROM runloom.checkpoints c JOIN runloom.checkpoint_meta m ON m.n = c.meta \
        WHERE c.thread = $1 AND m.run = $2";
    let rows: Vec<(String, Uuid)> = tx.all(sql, args![thread, run.0], |row| Ok((row.get()?, row.get()?))).await?;
    let mut gone: BTreeMap<String, Vec<Uuid>> = BTreeMap::new();
    for (ns, id) in rows {
        gone.entry(ns).or_default().push(id);
    }
    for (ns, gone) in &gone {
        chain::remove(tx, thread, ns, gone).await?;
    }
    tx.run("DELETE FROM runloom.tasks WHERE thread = $1 AND run = $2", args![thread, run.0]).await?;
    sweep_meta(tx, thread).await?;
    Ok(gone.values().map(|gone| gone.len() as u64).sum())
}

/// Keeps the newest checkpoints of each namespace, and returns how many others there were.
pub(crate) async fn prune(tx: &mut Tx, thread: i64, keep: usize) -> Done<u64> {
    let mut removed = 0;
    // The graph itself comes first: its namespace is the empty one.
    let sql = "SELECT DISTINCT ns FROM runloom.checkpoints WHERE thread = $1 ORDER BY ns";
    let namespaces: Vec<String> = tx.all(sql, args![thread], |row| row.get()).await?;
    let mut graph: Option<HashSet<CheckpointId>> = None;
    for ns in namespaces {
        let sql = "SELECT id FROM runloom.checkpoints WHERE thread = $1 AND ns = $2 ORDER BY id DESC";
        let rows: Vec<Uuid> = tx.all(sql, args![thread, &ns], |row| row.get()).await?;
        let newest = "SELECT m.metadata FROM runloom.checkpoints c JOIN runloom.checkpoint_meta m ON m.n = c.meta \
            WHERE c.thread = $1 AND c.ns = $2 ORDER BY c.id DESC LIMIT 1";
        let metadata = tx.one(newest, args![thread, &ns], |row| row.object()).await?.unwrap_or_default();
        let orphan = made_in(&ns, &metadata).zip(graph.as_ref()).is_some_and(|(at, graph)| !graph.contains(&at));
        let keep = if orphan { 0 } else { keep.max(1) };
        let gone = rows.get(keep..).unwrap_or_default();
        if !gone.is_empty() {
            chain::remove(tx, thread, &ns, gone).await?;
        }
        if ns.is_empty() {
            graph = Some(rows.iter().take(keep).map(|id| CheckpointId(*id)).collect());
        }
        removed += gone.len() as u64;
    }
    sweep_meta(tx, thread).await?;
    Ok(removed)
}

/// Deletes up to a number of rows that belonged to something deleted. Returns whether there may be more.
async fn empty_step(tx: &mut Tx) -> Done<bool> {
    // Each entry by one server at a time.
    let sql = "SELECT n, thread, run FROM runloom.trash ORDER BY n LIMIT 1 FOR UPDATE SKIP LOCKED";
    let entry = tx.one(sql, args![], |row| Ok((row.get()?, row.get()?, row.get()?))).await?;
    let Some((n, thread, run)): Option<(i64, Option<i64>, Option<i64>)> = entry else { return Ok(false) };
    let mut deleted = 0;
    if let Some(run) = run {
        let sql = "DELETE FROM runloom.log WHERE run = $1 AND seq IN \
            (SELECT seq FROM runloom.log WHERE run = $1 ORDER BY seq LIMIT $2)";
        deleted += tx.run(sql, args![run, STEP]).await?;
        tx.run("DELETE FROM runloom.log_state WHERE run = $1", args![run]).await?;
    }
    if let Some(thread) = thread {
        for table in ["checkpoints", "tasks", "checkpoint_meta"] {
            let sql = format!(
                "DELETE FROM runloom.{table} WHERE ctid = ANY(ARRAY(SELECT ctid FROM runloom.{table} WHERE thread = $1 LIMIT $2))"
            );
            deleted += tx.run(crate::sql::safe(sql), args![thread, STEP]).await?;
        }
    }
    if deleted == 0 {
        tx.run("DELETE FROM runloom.trash WHERE n = $1", args![n]).await?;
    }
    Ok(true)
}

impl PostgresStore {
    /// Empties the trash in the background.
    pub(crate) fn empty_trash(&self) {
        let store = self.clone();
        tokio::spawn(async move {
            if let Err(error) = store.empty_trash_now().await {
                tracing::debug!(%error, "the trash was not emptied; the next sweep does it");
            }
        });
    }

    /// Empties the trash, a small step in a transaction.
    pub(crate) async fn empty_trash_now(&self) -> Result<()> {
        while transact!(self, |tx| empty_step(tx).await)? {}
        Ok(())
    }
}
