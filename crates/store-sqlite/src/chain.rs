//! Chains of checkpoints in SQLite: states read along them, and chains mended where checkpoints are deleted.

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, params};

use crate::{sql::Sql, writer::Tx};
use runloom_store::{
    Error, Result,
    delta::{State, apply, decode, decode_changes, encode_state},
};

/// A row on the way to a base.
struct Link {
    /// None for a base.
    parent: Option<i64>,
    body: String,
    /// How many need its state.
    wanted: usize,
}

/// The states of some checkpoints, by row. Every row on the way is read once, whatever the number of those asked for.
pub(crate) fn states(db: &Connection, rows: &[i64]) -> Result<HashMap<i64, State>> {
    let mut links: HashMap<i64, Link> = HashMap::new();
    for row in rows {
        let mut at = *row;
        loop {
            if let Some(link) = links.get_mut(&at) {
                link.wanted += 1;
                break;
            }
            let link = db.one("SELECT parent, whole, body FROM checkpoints WHERE n = ?1", [at], |columns| {
                let (parent, whole): (Option<i64>, bool) = (columns.get()?, columns.get()?);
                Ok(Link { parent: parent.filter(|_| !whole), body: columns.get()?, wanted: 1 })
            })?;
            let link = link.ok_or_else(|| Error::Corrupt(format!("checkpoint row {row} hangs on a lost one, {at}")))?;
            let parent = link.parent;
            links.insert(at, link);
            match parent {
                Some(parent) => at = parent,
                None => break,
            }
        }
    }
    // A parent's row is always older than its children's.
    let mut order: Vec<i64> = links.keys().copied().collect();
    order.sort_unstable();
    let mut states: HashMap<i64, State> = HashMap::new();
    for at in order {
        let Some(link) = links.remove(&at) else { continue };
        let state = match link.parent {
            None => decode(link.body.as_bytes())?,
            Some(parent) => {
                let mut state = taken(&mut states, &mut links, parent)?;
                apply(&mut state, &decode_changes(link.body.as_bytes())?)?;
                state
            }
        };
        states.insert(at, state);
        links.insert(at, Link { body: String::new(), ..link });
    }
    let wanted: HashSet<i64> = rows.iter().copied().collect();
    states.retain(|at, _| wanted.contains(at));
    Ok(states)
}

/// The state of a parent: the thing itself for the last who needs it.
fn taken(states: &mut HashMap<i64, State>, links: &mut HashMap<i64, Link>, parent: i64) -> Result<State> {
    let lost = || Error::Corrupt(format!("checkpoint row {parent} is newer than one that hangs on it"));
    let link = links.get_mut(&parent).ok_or_else(lost)?;
    link.wanted -= 1;
    if link.wanted == 0 { states.remove(&parent) } else { states.get(&parent).cloned() }.ok_or_else(lost)
}

/// Deletes checkpoints of a namespace, with the records of their tasks. Those that hung on them become snapshots
/// without a parent. What hangs on these keeps its count of bytes since the base: its next snapshot comes the sooner.
pub(crate) fn remove(tx: &Tx<'_>, thread: i64, ns: &str, gone: &HashSet<i64>) -> Result<()> {
    let sql = "SELECT n, parent, whole FROM checkpoints WHERE thread = ?1 AND ns = ?2 AND parent IS NOT NULL";
    let mut orphans: Vec<(i64, i64, bool)> =
        tx.all(sql, params![thread, ns], |row| Ok((row.get()?, row.get()?, row.get()?)))?;
    orphans.retain(|(n, parent, _)| !gone.contains(n) && gone.contains(parent));
    let hanging: Vec<i64> = orphans.iter().filter(|(.., whole)| !whole).map(|(n, ..)| *n).collect();
    for (n, state) in states(tx, &hanging)? {
        let body = encode_state(state.iter())?;
        let sql = "UPDATE checkpoints SET whole = 1, base_bytes = ?2, chain_bytes = 0, body = ?3 WHERE n = ?1";
        tx.run(sql, params![n, body.len() as i64, body])?;
        let mut stats = tx.stats.borrow_mut();
        stats.snapshots += 1;
        stats.snapshot_bytes += body.len() as u64;
    }
    for (n, ..) in &orphans {
        tx.run("UPDATE checkpoints SET parent = NULL WHERE n = ?1", [n])?;
    }
    for n in gone {
        let sql = "DELETE FROM checkpoints WHERE n = ?1 RETURNING id";
        if let Some(id) = tx.one(sql, [n], |row| row.uuid())? {
            let sql = "DELETE FROM tasks WHERE thread = ?1 AND ns = ?2 AND checkpoint = ?3";
            tx.run(sql, params![thread, ns, id.into_bytes()])?;
        }
    }
    Ok(())
}
