//! A store as lines of JSON, to move what it holds to another one: a line says its table and the columns by name.
//!
//! The tables are those of the contract, not of an implementation: an export reads them from whatever tables it has.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::{Error, Result};

/// The version of the format, in the first line. A later version may have tables and columns that this one does not know.
pub const VERSION: u64 = 1;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kind {
    Int,
    Text,
    Bool,
    Uuid,
    /// Base64 in a line.
    Bytes,
}

/// A table, with its columns in order.
#[derive(Debug)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// The names and kinds of its columns.
    pub columns: &'static [(&'static str, Kind)],
}

/// A value of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Field {
    Null,
    Int(i64),
    Text(String),
    Bool(bool),
    Uuid(Uuid),
    Bytes(Vec<u8>),
}

/// A row of a table.
#[derive(Debug)]
pub struct Row {
    /// The table.
    pub table: &'static Table,
    /// A value for each of its columns.
    pub fields: Vec<Field>,
}

macro_rules! tables {
    ($($name:ident { $($column:ident $kind:ident),* $(,)? })*) => {
        /// All tables, each after those that it refers to.
        pub const TABLES: &[Table] = &[
            $(Table { name: stringify!($name), columns: &[$((stringify!($column), Kind::$kind)),*] }),*
        ];
    };
}

tables! {
    threads {
        n Int, tenant Text, id Uuid, created Int, updated Int, state_updated Int, status Int, stateless Bool, graph Text,
        assistant Uuid, metadata Text, config Text, error Text, interrupts Text, expires Int, keep_latest Bool, events Int,
    }
    runs {
        n Int, id Uuid, thread Int, tenant Text, server Uuid, attempt Int, status Int, logged Bool, assistant Uuid,
        graph Text, revision Text, multitask Int, stateless Bool, created Int, updated Int, started Int, ended Int,
        start_at Int, expires Int, last_seq Int, events_before Int, given_back Int, cancel Int, cancel_cause Int,
        cancel_by Text, cancel_at Int, request_id Text, request_hash Bytes, usage Text, error Text, request Text,
    }
    log { run Int, seq Int, bytes Bytes }
    log_state { run Int, reserved Int, oldest Int }
    checkpoint_meta { n Int, thread Int, run Uuid, revision Text, metadata Text }
    checkpoints {
        thread Int, ns Text, id Uuid, parent Uuid, whole Bool, base_bytes Int, chain_bytes Int, step Int, source Int,
        created Int, meta Int, control Text, body Text,
    }
    tasks { thread Int, ns Text, checkpoint Uuid, task Uuid, run Uuid, body Text }
    assistants { n Int, tenant Text, id Uuid, version Int, created Int, updated Int }
    assistant_versions {
        assistant Int, version Int, created Int, graph Text, name Text, description Text, config Text, context Text,
        metadata Text,
    }
    graphs { n Int, tenant Text, name Text, revision Text, created Int, text Text }
    crons {
        n Int, tenant Text, id Uuid, assistant Uuid, thread Uuid, schedule Text, timezone Text, end_at Int, enabled Bool,
        keep Bool, next_at Int, fired Int, last_run Uuid, created Int, updated Int, error Text, metadata Text, request Text,
    }
    deliveries { run Uuid, tenant Text, next_at Int, created Int, attempts Int, error Text, url Text, body Text }
    items { n Int, tenant Text, ns Bytes, key Text, created Int, updated Int, expires Int, ttl Int, value Text }
    api_keys { id Text, hash Bytes, tenant Text, name Text, scopes Text, created Int, expires Int }
}

/// The first line.
pub fn header() -> String {
    format!("{{\"runloom_export\":{VERSION}}}")
}

/// Checks the first line.
pub fn check_header(line: &str) -> Result<()> {
    let json: Option<Value> = serde_json::from_str(line).ok();
    match json.as_ref().and_then(|json| json.get("runloom_export")).and_then(Value::as_u64) {
        Some(version) if version <= VERSION => Ok(()),
        Some(version) => Err(Error::Invalid(format!(
            "the export has version {version}, and this program reads versions up to {VERSION}; use a newer program"
        ))),
        None => Err(Error::Invalid("this is not an export of runloom: its first line is missing".into())),
    }
}

impl Row {
    /// The row as a line, without its end.
    pub fn to_line(&self) -> String {
        let mut map = Map::new();
        map.insert("table".into(), self.table.name.into());
        for ((name, _), field) in self.table.columns.iter().zip(&self.fields) {
            let value = match field {
                Field::Null => continue,
                Field::Int(number) => (*number).into(),
                Field::Text(text) => text.as_str().into(),
                Field::Bool(is) => (*is).into(),
                Field::Uuid(id) => id.to_string().into(),
                Field::Bytes(bytes) => STANDARD.encode(bytes).into(),
            };
            map.insert((*name).into(), value);
        }
        Value::Object(map).to_string()
    }

    /// Reads a line.
    pub fn parse(line: &str) -> Result<Self> {
        let invalid = |what: String| Error::Invalid(format!("a line of the export is invalid: {what}"));
        let json: Value = serde_json::from_str(line).map_err(|error| invalid(error.to_string()))?;
        let Value::Object(mut map) = json else { return Err(invalid("it is not an object".into())) };
        let name = map.remove("table");
        let name = name.as_ref().and_then(Value::as_str).unwrap_or_default();
        let table = TABLES.iter().find(|table| table.name == name);
        let table = table.ok_or_else(|| invalid(format!("unknown table `{name}`")))?;
        let mut fields = Vec::with_capacity(table.columns.len());
        for (column, kind) in table.columns {
            let value = map.remove(*column).unwrap_or_default();
            fields.push(field(value, *kind).ok_or_else(|| invalid(format!("{name}.{column} is not {kind:?}")))?);
        }
        match map.keys().next() {
            Some(unknown) => Err(invalid(format!("{name} has no column `{unknown}`"))),
            None => Ok(Self { table, fields }),
        }
    }
}

fn field(value: Value, kind: Kind) -> Option<Field> {
    Some(match (kind, value) {
        (_, Value::Null) => Field::Null,
        (Kind::Int, value) => Field::Int(value.as_i64()?),
        (Kind::Text, Value::String(text)) => Field::Text(text),
        (Kind::Bool, value) => Field::Bool(value.as_bool()?),
        (Kind::Uuid, value) => Field::Uuid(value.as_str()?.parse().ok()?),
        (Kind::Bytes, value) => Field::Bytes(STANDARD.decode(value.as_str()?).ok()?),
        (Kind::Text, _) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_reads_back_and_what_is_not_known_is_refused() {
        for table in TABLES {
            let value = |kind: &Kind| match kind {
                Kind::Int => Field::Int(i64::MIN),
                Kind::Text => Field::Text("a\"\n\0ü".into()),
                Kind::Bool => Field::Bool(false),
                Kind::Uuid => Field::Uuid(Uuid::from_u128(7)),
                Kind::Bytes => Field::Bytes(vec![0, 255]),
            };
            let fields: Vec<Field> = table.columns.iter().map(|(_, kind)| value(kind)).collect();
            let row = Row { table, fields };
            assert_eq!(Row::parse(&row.to_line()).unwrap().fields, row.fields);
            let empty = Row { table, fields: vec![Field::Null; table.columns.len()] };
            assert_eq!(Row::parse(&empty.to_line()).unwrap().fields, empty.fields);
        }
        for bad in ["", "[]", r#"{"table":"x"}"#, r#"{"table":"log","x":1}"#, r#"{"table":"log","run":"1"}"#] {
            assert!(matches!(Row::parse(bad), Err(Error::Invalid(_))), "{bad}");
        }
        check_header(&header()).unwrap();
        assert!(check_header(r#"{"runloom_export":9}"#).unwrap_err().to_string().contains("newer program"));
        assert!(check_header(r#"{"table":"log"}"#).is_err());
    }
}
