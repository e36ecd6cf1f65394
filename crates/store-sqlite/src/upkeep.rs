//! What is done with a thread's checkpoints beside a run, in SQLite: deleted, copied, taken back, pruned.

use std::{
    collections::{BTreeMap, HashSet},
    ops::ControlFlow,
};

use runloom_engine::{CheckpointId, RunId};
use rusqlite::params;

use crate::{
    chain,
    sql::{Sql, first},
    writer::Tx,
};
use runloom_store::{Error, Result, checkpoints::made_in};

/// Deletes all checkpoints of a thread.
pub(crate) fn delete(tx: &Tx<'_>, thread: i64) -> Result<()> {
    tx.run("DELETE FROM checkpoints WHERE thread = ?1", [thread])?;
    tx.run("DELETE FROM checkpoint_meta WHERE thread = ?1", [thread])?;
    tx.run("DELETE FROM tasks WHERE thread = ?1", [thread]).map(|_| ())
}

/// Copies all checkpoints of a thread to another: every row to one as far further on as the first is past the last.
pub(crate) fn copy(tx: &Tx<'_>, from: i64, to: i64) -> Result<()> {
    let shift = |table: &str| {
        let sql = format!("SELECT (SELECT max(n) FROM {table}) - min(n) + 1 FROM {table} WHERE thread = ?1");
        Ok::<i64, Error>(tx.one(&sql, [from], first::<Option<i64>>)?.flatten().unwrap_or_default())
    };
    let (rows, metas) = (shift("checkpoints")?, shift("checkpoint_meta")?);
    tx.run(
        "INSERT INTO checkpoint_meta (n, thread, run, revision, metadata) \
         SELECT n + ?3, ?2, run, revision, metadata FROM checkpoint_meta WHERE thread = ?1 ORDER BY n",
        [from, to, metas],
    )?;
    tx.run(
        "INSERT INTO checkpoints (n, thread, ns, id, parent, whole, base_bytes, chain_bytes, step, source, \
         created, meta, control, body) SELECT n + ?3, ?2, ns, id, parent + ?3, whole, base_bytes, \
         chain_bytes, step, source, created, meta + ?4, control, body FROM checkpoints WHERE thread = ?1 ORDER BY n",
        [from, to, rows, metas],
    )?;
    tx.run(
        "INSERT INTO tasks (thread, ns, checkpoint, task, run, body) \
         SELECT ?2, ns, checkpoint, task, run, body FROM tasks WHERE thread = ?1 ORDER BY n",
        [from, to],
    )?;
    Ok(())
}

/// Deletes what is common to checkpoints that are gone.
fn sweep_meta(tx: &Tx<'_>, thread: i64) -> Result<()> {
    let sql = "DELETE FROM checkpoint_meta WHERE thread = ?1 \
        AND n NOT IN (SELECT meta FROM checkpoints WHERE thread = ?1)";
    tx.run(sql, [thread]).map(|_| ())
}

/// Deletes what a run wrote, and tells how many checkpoints.
pub(crate) fn remove_run(tx: &Tx<'_>, run: i64, id: RunId, thread: i64) -> Result<u64> {
    let sql = "SELECT c.ns, c.n FROM checkpoints c JOIN checkpoint_meta m ON m.n = c.meta \
        WHERE c.thread = ?1 AND m.run = ?2";
    let mut gone: BTreeMap<String, HashSet<i64>> = BTreeMap::new();
    tx.each(sql, params![thread, id.0.into_bytes()], |row| {
        gone.entry(row.get()?).or_default().insert(row.get()?);
        Ok(ControlFlow::Continue(()))
    })?;
    for (ns, gone) in &gone {
        chain::remove(tx, thread, ns, gone)?;
    }
    tx.run("DELETE FROM tasks WHERE thread = ?1 AND run = ?2", [thread, run])?;
    sweep_meta(tx, thread)?;
    Ok(gone.values().map(|gone| gone.len() as u64).sum())
}

/// Keeps the newest checkpoints of each namespace, and tells how many others there were.
pub(crate) fn prune(tx: &Tx<'_>, thread: i64, keep: usize) -> Result<u64> {
    let mut removed = 0;
    let in_order = "SELECT c.n, c.id FROM checkpoints c WHERE c.thread = ?1 AND c.ns = ?2 ORDER BY c.id DESC";
    // The graph itself comes first: its namespace is the empty one.
    let namespaces: Vec<String> =
        tx.all("SELECT DISTINCT ns FROM checkpoints WHERE thread = ?1 ORDER BY ns", [thread], first)?;
    let mut graph: Option<HashSet<CheckpointId>> = None;
    for ns in namespaces {
        let rows = tx.all(in_order, params![thread, ns], |row| Ok((row.get()?, CheckpointId(row.uuid()?))))?;
        let newest = "SELECT m.metadata FROM checkpoints c JOIN checkpoint_meta m ON m.n = c.meta \
            WHERE c.thread = ?1 AND c.ns = ?2 ORDER BY c.id DESC LIMIT 1";
        let metadata = tx.one(newest, params![thread, ns], |row| row.object())?.unwrap_or_default();
        let orphan = made_in(&ns, &metadata).zip(graph.as_ref()).is_some_and(|(at, graph)| !graph.contains(&at));
        let keep = if orphan { 0 } else { keep.max(1) };
        let gone: HashSet<i64> = rows.iter().skip(keep).map(|(n, _)| *n).collect();
        if !gone.is_empty() {
            chain::remove(tx, thread, &ns, &gone)?;
        }
        if ns.is_empty() {
            graph = Some(rows.iter().take(keep).map(|(_, id)| *id).collect());
        }
        removed += gone.len() as u64;
    }
    sweep_meta(tx, thread)?;
    Ok(removed)
}
