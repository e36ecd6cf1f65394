//! The tables of a data folder, row by row, for a move to another store.

use std::path::Path;

use rusqlite::{Row as SqlRow, types::ValueRef};
use uuid::Uuid;

use crate::{admin::reader, open, sql::failed};
use runloom_store::{
    Error, Result,
    dump::{Field, Kind, Row, TABLES, Table},
};

/// The query of a table whose columns SQLite has in another form.
fn query(table: &Table) -> String {
    match table.name {
        "log" => "SELECT at >> 32, at & 4294967295, bytes FROM log ORDER BY at".into(),
        "checkpoints" => "SELECT c.thread, c.ns, c.id, p.id, c.whole, c.base_bytes, c.chain_bytes, c.step, c.source, \
            c.created, c.meta, c.control, c.body FROM checkpoints c LEFT JOIN checkpoints p ON p.n = c.parent ORDER BY c.n"
            .into(),
        // A run's id in place of its number; of one that is deleted, an id made of the number.
        "tasks" => "SELECT t.thread, t.ns, t.checkpoint, t.task, CASE t.run WHEN 0 THEN zeroblob(16) \
            ELSE coalesce(r.id, CAST(printf('%016d', t.run) AS BLOB)) END, t.body \
            FROM tasks t LEFT JOIN runs r ON r.n = t.run ORDER BY t.n"
            .into(),
        name => {
            let columns: Vec<&str> = table.columns.iter().map(|(column, _)| *column).collect();
            format!("SELECT {} FROM {name} ORDER BY 1, 2", columns.join(", "))
        }
    }
}

fn field(row: &SqlRow<'_>, at: usize, kind: Kind) -> Result<Field> {
    let wrong = || Error::Corrupt(format!("column {at} of an exported row is not {kind:?}"));
    Ok(match (kind, row.get_ref(at).map_err(failed)?) {
        (_, ValueRef::Null) => Field::Null,
        (Kind::Int, ValueRef::Integer(number)) => Field::Int(number),
        (Kind::Bool, ValueRef::Integer(number)) => Field::Bool(number != 0),
        (Kind::Text, ValueRef::Text(text)) => Field::Text(std::str::from_utf8(text).map_err(|_| wrong())?.to_owned()),
        (Kind::Uuid, ValueRef::Blob(bytes)) => Field::Uuid(Uuid::from_slice(bytes).map_err(|_| wrong())?),
        (Kind::Bytes, ValueRef::Blob(bytes)) => Field::Bytes(bytes.to_vec()),
        _ => return Err(wrong()),
    })
}

/// Gives every row of a data folder to a function, as of one moment, also while a server has the folder open.
pub fn export(folder: &Path, mut give: impl FnMut(Row) -> Result<()>) -> Result<()> {
    let mut conn = reader(folder)?;
    let tx = conn.transaction().map_err(failed)?;
    let found: i64 = tx.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed)?;
    if found != open::KNOWN {
        return Err(Error::Invalid(format!(
            "the data folder has schema version {found}, and this program exports version {}; start a server of this \
             program on it once",
            open::KNOWN
        )));
    }
    for table in TABLES {
        let mut statement = tx.prepare(&query(table)).map_err(failed)?;
        let mut rows = statement.query([]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let fields = table.columns.iter().enumerate().map(|(at, (_, kind))| field(row, at, *kind));
            give(Row { table, fields: fields.collect::<Result<_>>()? })?;
        }
    }
    Ok(())
}
