//! Registered graphs in SQLite.

use async_trait::async_trait;
use rusqlite::params;

use crate::{
    SqliteStore,
    sql::{Columns, Sql},
};
use runloom_store::{Error, Graphs, RegisteredGraph, Result, What, time::nanos};

const COLUMNS: &str = "name, revision, text, created";

fn graph(row: &mut Columns<'_>) -> Result<RegisteredGraph> {
    Ok(RegisteredGraph { name: row.get()?, revision: row.get()?, text: row.get()?, created_at: row.time()? })
}

#[async_trait]
impl Graphs for SqliteStore {
    async fn put_graph(&self, name: &str, revision: &str, text: &str) -> Result<RegisteredGraph> {
        let new = RegisteredGraph {
            name: name.to_owned(),
            revision: revision.to_owned(),
            text: text.to_owned(),
            created_at: self.now(),
        };
        self.write_sized(text.len(), move |tx| {
            let sql = format!("DELETE FROM graphs WHERE name = ?1 AND revision = ?2 RETURNING {COLUMNS}");
            // The newest text stands: what it says beside the revision (a description) may have changed.
            let put = match tx.one(&sql, params![new.name, new.revision], graph)? {
                Some(known) => RegisteredGraph { text: new.text, ..known },
                None => new,
            };
            let sql = format!("INSERT INTO graphs ({COLUMNS}) VALUES (?1, ?2, ?3, ?4)");
            tx.run(&sql, params![put.name, put.revision, put.text, nanos(put.created_at)])?;
            Ok(put)
        })
        .await
    }

    async fn get_graph(&self, name: &str, revision: Option<&str>) -> Result<RegisteredGraph> {
        let named = runloom_store::graphs::named(name, revision);
        let (name, revision) = (name.to_owned(), revision.map(str::to_owned));
        let found = self.read(move |db| {
            let sql = format!(
                "SELECT {COLUMNS} FROM graphs WHERE name = ?1 AND (?2 IS NULL OR revision = ?2) ORDER BY n DESC LIMIT 1"
            );
            db.one(&sql, params![name, revision], graph)
        });
        found.await?.ok_or_else(|| Error::not_found(What::Graph, named))
    }

    async fn list_graphs(&self) -> Result<Vec<RegisteredGraph>> {
        self.read(|db| {
            let latest = "SELECT max(n) FROM graphs GROUP BY name";
            db.all(&format!("SELECT {COLUMNS} FROM graphs WHERE n IN ({latest}) ORDER BY name"), [], graph)
        })
        .await
    }

    async fn delete_graph(&self, name: &str) -> Result<()> {
        let name = name.to_owned();
        self.write(move |tx| {
            if tx.one("SELECT 1 FROM graphs WHERE name = ?1", [&name], |_| Ok(()))?.is_none() {
                return Err(Error::not_found(What::Graph, name));
            }
            let using = "SELECT id FROM runs INDEXED BY runs_open WHERE status < 2 AND graph = ?1 ORDER BY n LIMIT 1";
            if let Some(run) = tx.one(using, [&name], |row| row.uuid())? {
                return Err(Error::InUse { what: What::Graph, id: name, by: format!("run {run}") });
            }
            tx.run("DELETE FROM graphs WHERE name = ?1", [&name]).map(|_| ())
        })
        .await
    }
}
