//! Registered graphs in SQLite.

use async_trait::async_trait;
use rusqlite::params;

use crate::{
    SqliteStore,
    sql::{Columns, Sql},
};
use runloom_store::{Error, Graphs, RegisteredGraph, Result, TenantId, Topic, What, time::nanos};

const COLUMNS: &str = "name, revision, text, created";

fn graph(row: &mut Columns<'_>) -> Result<RegisteredGraph> {
    Ok(RegisteredGraph { name: row.get()?, revision: row.get()?, text: row.get()?, created_at: row.time()? })
}

#[async_trait]
impl Graphs for SqliteStore {
    async fn put_graph(&self, tenant: &TenantId, name: &str, revision: &str, text: &str) -> Result<RegisteredGraph> {
        let new = RegisteredGraph {
            name: name.to_owned(),
            revision: revision.to_owned(),
            text: text.to_owned(),
            created_at: self.now(),
        };
        let tenant = tenant.clone();
        self.write_sized(text.len(), move |tx| {
            tx.hint([Topic::Graphs]);
            let sql =
                format!("DELETE FROM graphs WHERE tenant = ?1 AND name = ?2 AND revision = ?3 RETURNING {COLUMNS}");
            // The newest text stands: what it says beside the revision (a description) may have changed.
            let put = match tx.one(&sql, params![tenant.as_str(), new.name, new.revision], graph)? {
                Some(known) => RegisteredGraph { text: new.text, ..known },
                None => new,
            };
            let sql = format!("INSERT INTO graphs ({COLUMNS}, tenant) VALUES (?1, ?2, ?3, ?4, ?5)");
            tx.run(&sql, params![put.name, put.revision, put.text, nanos(put.created_at), tenant.as_str()])?;
            Ok(put)
        })
        .await
    }

    async fn get_graph(&self, tenant: &TenantId, name: &str, revision: Option<&str>) -> Result<RegisteredGraph> {
        let named = runloom_store::graphs::named(name, revision);
        let (tenant, name, revision) = (tenant.clone(), name.to_owned(), revision.map(str::to_owned));
        let found = self.read(move |db| {
            let sql = format!("SELECT {COLUMNS} FROM graphs WHERE tenant = ?1 AND name = ?2");
            match revision {
                None => db.one(&format!("{sql} ORDER BY n DESC LIMIT 1"), params![tenant.as_str(), name], graph),
                Some(revision) => {
                    db.one(&format!("{sql} AND revision = ?3"), params![tenant.as_str(), name, revision], graph)
                }
            }
        });
        found.await?.ok_or_else(|| Error::not_found(What::Graph, named))
    }

    async fn list_graphs(&self, tenant: &TenantId) -> Result<Vec<RegisteredGraph>> {
        let tenant = tenant.clone();
        self.read(move |db| {
            let latest = "SELECT max(n) FROM graphs WHERE tenant = ?1 GROUP BY name";
            db.all(
                &format!("SELECT {COLUMNS} FROM graphs WHERE n IN ({latest}) ORDER BY name"),
                [tenant.as_str()],
                graph,
            )
        })
        .await
    }

    async fn delete_graph(&self, tenant: &TenantId, name: &str) -> Result<()> {
        let (tenant, name) = (tenant.clone(), name.to_owned());
        self.write(move |tx| {
            if tx
                .one("SELECT 1 FROM graphs WHERE tenant = ?1 AND name = ?2", [tenant.as_str(), &name], |_| Ok(()))?
                .is_none()
            {
                return Err(Error::not_found(What::Graph, name));
            }
            let using = "SELECT id FROM runs INDEXED BY runs_open WHERE status < 2 AND tenant = ?1 AND graph = ?2 ORDER BY n LIMIT 1";
            if let Some(run) = tx.one(using, [tenant.as_str(), &name], |row| row.uuid())? {
                return Err(Error::InUse { what: What::Graph, id: name, by: format!("run {run}") });
            }
            tx.hint([Topic::Graphs]);
            tx.run("DELETE FROM graphs WHERE tenant = ?1 AND name = ?2", [tenant.as_str(), &name]).map(|_| ())
        })
        .await
    }
}
