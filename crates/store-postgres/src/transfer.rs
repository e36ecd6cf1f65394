//! The tables of a database, row by row, for a move from or to another store.

use futures_util::TryStreamExt;
use runloom_store::{
    Error, Result,
    dump::{Field, Kind, Row, TABLES, Table},
};
use sqlx::{Arguments, Connection, Executor, Row as _, postgres::PgArguments, postgres::PgConnection, postgres::PgRow};
use uuid::Uuid;

use crate::{
    PostgresStore, connect,
    fault::{Done, Fault},
    options::Target,
    sql::safe,
};

/// How many rows one statement inserts at most.
const ROWS: usize = 200;
/// About how many bytes of them.
const BYTES: usize = 4 << 20;

/// The name of a column in SQL: one of them is a word of SQL.
fn columns(table: &Table) -> String {
    table.columns.iter().map(|(column, _)| format!("\"{column}\"")).collect::<Vec<_>>().join(", ")
}

fn field(row: &PgRow, at: usize, kind: Kind) -> Done<Field> {
    Ok(match kind {
        Kind::Int => row.try_get::<Option<i64>, _>(at)?.map_or(Field::Null, Field::Int),
        Kind::Text => row.try_get::<Option<String>, _>(at)?.map_or(Field::Null, Field::Text),
        Kind::Bool => row.try_get::<Option<bool>, _>(at)?.map_or(Field::Null, Field::Bool),
        Kind::Uuid => row.try_get::<Option<Uuid>, _>(at)?.map_or(Field::Null, Field::Uuid),
        Kind::Bytes => row.try_get::<Option<Vec<u8>>, _>(at)?.map_or(Field::Null, Field::Bytes),
    })
}

fn bind(args: &mut PgArguments, field: Field, kind: Kind) -> Done<()> {
    match (field, kind) {
        (Field::Int(value), _) => args.add(value)?,
        (Field::Text(value), _) => args.add(value)?,
        (Field::Bool(value), _) => args.add(value)?,
        (Field::Uuid(value), _) => args.add(value)?,
        (Field::Bytes(value), _) => args.add(value)?,
        (Field::Null, Kind::Int) => args.add(None::<i64>)?,
        (Field::Null, Kind::Text) => args.add(None::<String>)?,
        (Field::Null, Kind::Bool) => args.add(None::<bool>)?,
        (Field::Null, Kind::Uuid) => args.add(None::<Uuid>)?,
        (Field::Null, Kind::Bytes) => args.add(None::<Vec<u8>>)?,
    }
    Ok(())
}

fn size(row: &Row) -> usize {
    let of = |field: &Field| match field {
        Field::Text(text) => text.len(),
        Field::Bytes(bytes) => bytes.len(),
        _ => 16,
    };
    row.fields.iter().map(of).sum()
}

async fn insert(conn: &mut PgConnection, rows: Vec<Row>) -> Done<()> {
    let Some(table) = rows.first().map(|row| row.table) else { return Ok(()) };
    let mut args = PgArguments::default();
    let mut values = Vec::with_capacity(rows.len());
    for row in rows {
        let mut marks = Vec::with_capacity(row.fields.len());
        for (field, (_, kind)) in row.fields.into_iter().zip(table.columns) {
            bind(&mut args, field, *kind)?;
            marks.push(format!("${}", args.len()));
        }
        values.push(format!("({})", marks.join(", ")));
    }
    let sql = format!("INSERT INTO runloom.{} ({}) VALUES {}", table.name, columns(table), values.join(", "));
    sqlx::query_with(safe(sql), args).persistent(false).execute(conn).await?;
    Ok(())
}

async fn import_rows(conn: &mut PgConnection, rows: &mut dyn Iterator<Item = Result<Row>>) -> Done<u64> {
    let used = "SELECT (EXISTS (SELECT 1 FROM runloom.threads) OR EXISTS (SELECT 1 FROM runloom.runs) \
        OR EXISTS (SELECT 1 FROM runloom.assistants) OR EXISTS (SELECT 1 FROM runloom.items))::text";
    if conn.fetch_one(sqlx::raw_sql(used)).await?.try_get::<String, _>(0)? == "true" {
        return Err(Error::Invalid("the database is not empty; import into an empty one".into()).into());
    }
    let (mut count, mut bytes, mut waiting) = (0, 0, Vec::<Row>::new());
    for row in rows {
        let row = row?;
        let is_other = waiting.last().is_some_and(|last| last.table.name != row.table.name);
        if is_other || waiting.len() >= ROWS || bytes > BYTES {
            insert(conn, std::mem::take(&mut waiting)).await?;
            bytes = 0;
        }
        (count, bytes) = (count + 1, bytes + size(&row));
        waiting.push(row);
    }
    insert(conn, waiting).await?;
    for table in TABLES.iter().filter(|table| table.columns[0].0 == "n") {
        let sql = format!(
            "SELECT setval(pg_get_serial_sequence('runloom.{0}', 'n'), (SELECT coalesce(max(n), 0) + 1 FROM runloom.{0}), false)",
            table.name
        );
        conn.execute(sqlx::raw_sql(safe(sql))).await?;
    }
    Ok(count)
}

impl PostgresStore {
    /// Gives every row of a database to a function, as of one moment.
    pub async fn export(url: &str, mut give: impl FnMut(Row) -> Result<()>) -> Result<()> {
        let (mut conn, _) = connect(&Target::parse(url)?).await?;
        let exported: Done<()> = async {
            conn.execute(sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")).await?;
            for table in TABLES {
                // Records of tasks keep their order: of several of one task the last is read.
                let order = if table.name == "tasks" { "n" } else { "1, 2, 3" };
                let sql = format!("SELECT {} FROM runloom.{} ORDER BY {order}", columns(table), table.name);
                let query = sqlx::query_with(safe(sql), PgArguments::default()).persistent(false);
                let mut rows = query.fetch(&mut conn);
                while let Some(row) = rows.try_next().await? {
                    let fields = table.columns.iter().enumerate().map(|(at, (_, kind))| field(&row, at, *kind));
                    give(Row { table, fields: fields.collect::<Done<_>>()? })?;
                }
            }
            Ok(())
        }
        .await;
        let _ = conn.close().await;
        exported.map_err(Error::from)
    }

    /// Inserts rows into an empty database, all or none, and returns how many. Its schema is brought up to date first.
    pub async fn import(url: &str, rows: &mut (dyn Iterator<Item = Result<Row>> + Send)) -> Result<u64> {
        let target = Target::parse(url)?;
        let (mut conn, _) = connect(&target).await?;
        crate::migrate::run(&mut conn, &target).await.map_err(Error::from)?;
        let imported: Done<u64> = async {
            let mut tx = conn.begin().await?;
            let count = import_rows(&mut tx, rows).await?;
            tx.commit().await.map_err(Fault::from)?;
            Ok(count)
        }
        .await;
        let _ = conn.close().await;
        imported.map_err(Error::from)
    }
}
