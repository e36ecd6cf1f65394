//! Chains of checkpoints in Postgres: states read along them, and chains mended where checkpoints are deleted.

use std::collections::{HashMap, HashSet};

use runloom_store::{
    Error,
    delta::{State, apply, decode, decode_changes, encode_state},
};
use uuid::Uuid;

use crate::{
    fault::Done,
    sql::{Db, args},
    tx::Tx,
};

/// A row on the way to a base.
struct Link {
    /// None for a base.
    parent: Option<Uuid>,
    body: String,
    /// How many need its state.
    wanted: usize,
}

/// The states of some checkpoints of a namespace. Every row on the way is read once, whatever the number of those asked for.
pub(crate) async fn states(db: &mut Db, thread: i64, ns: &str, wanted: &[Uuid]) -> Done<HashMap<Uuid, State>> {
    let sql = "WITH RECURSIVE up (id, parent, whole) AS (\
        SELECT id, parent, whole FROM runloom.checkpoints WHERE thread = $1 AND ns = $2 AND id = ANY($3) \
        UNION SELECT c.id, c.parent, c.whole FROM up JOIN runloom.checkpoints c \
        ON c.thread = $1 AND c.ns = $2 AND c.id = up.parent WHERE NOT up.whole) \
        SELECT c.id, c.parent, c.whole, c.body FROM up JOIN runloom.checkpoints c \
        ON c.thread = $1 AND c.ns = $2 AND c.id = up.id";
    let rows = db.all(sql, args![thread, ns, wanted], |row| {
        let (id, parent, whole): (Uuid, Option<Uuid>, bool) = (row.get()?, row.get()?, row.get()?);
        Ok((id, Link { parent: parent.filter(|_| !whole), body: row.get()?, wanted: 0 }))
    });
    let mut links: HashMap<Uuid, Link> = rows.await?.into_iter().collect();
    let wanted: HashSet<Uuid> = wanted.iter().copied().collect();
    count(&mut links, &wanted);
    let mut states: HashMap<Uuid, State> = HashMap::new();
    for id in order(&links)? {
        let Some((parent, body)) = links.get_mut(&id).map(|link| (link.parent, std::mem::take(&mut link.body))) else {
            continue;
        };
        let state = match parent {
            None => decode(body.as_bytes())?,
            Some(parent) => {
                let mut state = taken(&mut states, &mut links, parent)?;
                apply(&mut state, &decode_changes(body.as_bytes())?)?;
                state
            }
        };
        states.insert(id, state);
    }
    states.retain(|id, _| wanted.contains(id));
    Ok(states)
}

/// Counts how many need the state of each row.
fn count(links: &mut HashMap<Uuid, Link>, wanted: &HashSet<Uuid>) {
    let parents: Vec<Uuid> = links.values().filter_map(|link| link.parent).collect();
    for id in parents.iter().chain(wanted) {
        if let Some(link) = links.get_mut(id) {
            link.wanted += 1;
        }
    }
}

/// The rows, each after its parent.
fn order(links: &HashMap<Uuid, Link>) -> Done<Vec<Uuid>> {
    let mut children: HashMap<Uuid, Vec<Uuid>> = HashMap::new();
    let mut order = Vec::with_capacity(links.len());
    for (id, link) in links {
        match link.parent {
            None => order.push(*id),
            Some(parent) if links.contains_key(&parent) => children.entry(parent).or_default().push(*id),
            Some(parent) => {
                return Err(Error::Corrupt(format!("checkpoint {id} refers to a lost one, {parent}")).into());
            }
        }
    }
    let mut at = 0;
    while let Some(id) = order.get(at).copied() {
        order.extend(children.remove(&id).unwrap_or_default());
        at += 1;
    }
    Ok(order)
}

/// The state of a parent: the thing itself for the last who needs it.
fn taken(states: &mut HashMap<Uuid, State>, links: &mut HashMap<Uuid, Link>, parent: Uuid) -> Done<State> {
    let lost = || Error::Corrupt(format!("checkpoint {parent} was not read before one that refers to it"));
    let link = links.get_mut(&parent).ok_or_else(lost)?;
    link.wanted = link.wanted.saturating_sub(1);
    let state = if link.wanted == 0 { states.remove(&parent) } else { states.get(&parent).cloned() };
    Ok(state.ok_or_else(lost)?)
}

/// Deletes checkpoints of a namespace, with the records of their tasks. Those whose parents they were become snapshots
/// without a parent. What depends on these keeps its count of bytes since the base: its next snapshot comes the sooner.
pub(crate) async fn remove(tx: &mut Tx, thread: i64, ns: &str, gone: &[Uuid]) -> Done<()> {
    let sql = "SELECT id, whole FROM runloom.checkpoints \
        WHERE thread = $1 AND ns = $2 AND parent = ANY($3) AND id <> ALL($3)";
    let orphans: Vec<(Uuid, bool)> = tx.all(sql, args![thread, ns, gone], |row| Ok((row.get()?, row.get()?))).await?;
    let hanging: Vec<Uuid> = orphans.iter().filter(|(_, whole)| !whole).map(|(id, _)| *id).collect();
    for (id, state) in states(tx, thread, ns, &hanging).await? {
        let body = encode_state(state.iter())?;
        let sql = "UPDATE runloom.checkpoints SET whole = true, base_bytes = $4, chain_bytes = 0, body = $5 \
            WHERE thread = $1 AND ns = $2 AND id = $3";
        tx.run(sql, args![thread, ns, id, body.len() as i64, &body]).await?;
        tx.stats.snapshots += 1;
        tx.stats.snapshot_bytes += body.len() as u64;
    }
    let orphans: Vec<Uuid> = orphans.into_iter().map(|(id, _)| id).collect();
    let sql = "UPDATE runloom.checkpoints SET parent = NULL WHERE thread = $1 AND ns = $2 AND id = ANY($3)";
    tx.run(sql, args![thread, ns, orphans]).await?;
    let sql = "DELETE FROM runloom.checkpoints WHERE thread = $1 AND ns = $2 AND id = ANY($3)";
    tx.run(sql, args![thread, ns, gone]).await?;
    let sql = "DELETE FROM runloom.tasks WHERE thread = $1 AND ns = $2 AND checkpoint = ANY($3)";
    tx.run(sql, args![thread, ns, gone]).await.map(|_| ())
}
