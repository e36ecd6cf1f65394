//! Registered graphs in Postgres.

use async_trait::async_trait;
use runloom_store::{Error, Graphs, RegisteredGraph, Result, TenantId, Topic, What, time::nanos};

use crate::{
    PostgresStore,
    fault::Done,
    sql::{Columns, args},
    tx::{read, transact},
};

fn graph(row: &mut Columns<'_>) -> Done<RegisteredGraph> {
    Ok(RegisteredGraph { name: row.get()?, revision: row.get()?, text: row.get()?, created_at: row.time()? })
}

#[async_trait]
impl Graphs for PostgresStore {
    async fn put_graph(&self, tenant: &TenantId, name: &str, revision: &str, text: &str) -> Result<RegisteredGraph> {
        let now = self.now();
        transact!(self, |tx| {
            tx.hint([Topic::Graphs]);
            let sql = "DELETE FROM runloom.graphs WHERE tenant = $1 AND name = $2 AND revision = $3 \
                RETURNING name, revision, text, created";
            let known = tx.one(sql, args![tenant.as_str(), name, revision], graph).await?;
            // The newest text stands: what it says beside the revision (a description) may have changed.
            let created_at = known.map_or(now, |known| known.created_at);
            let sql = "INSERT INTO runloom.graphs (tenant, name, revision, text, created) VALUES ($1, $2, $3, $4, $5)";
            tx.run(sql, args![tenant.as_str(), name, revision, text, nanos(created_at)]).await?;
            Ok(RegisteredGraph { name: name.into(), revision: revision.into(), text: text.into(), created_at })
        })
    }

    async fn get_graph(&self, tenant: &TenantId, name: &str, revision: Option<&str>) -> Result<RegisteredGraph> {
        let found: Result<_> = read!(self, |db| {
            let sql = "SELECT name, revision, text, created FROM runloom.graphs \
                WHERE tenant = $1 AND name = $2 AND ($3::text IS NULL OR revision = $3) ORDER BY n DESC LIMIT 1";
            db.one(sql, args![tenant.as_str(), name, revision], graph).await
        });
        found?.ok_or_else(|| Error::not_found(What::Graph, runloom_store::graphs::named(name, revision)))
    }

    async fn list_graphs(&self, tenant: &TenantId) -> Result<Vec<RegisteredGraph>> {
        read!(self, |db| {
            let sql = "SELECT DISTINCT ON (name) name, revision, text, created FROM runloom.graphs \
                WHERE tenant = $1 ORDER BY name, n DESC";
            db.all(sql, args![tenant.as_str()], graph).await
        })
    }

    async fn delete_graph(&self, tenant: &TenantId, name: &str) -> Result<()> {
        transact!(self, |tx| {
            let known = "SELECT 1 FROM runloom.graphs WHERE tenant = $1 AND name = $2 LIMIT 1";
            if tx.one(known, args![tenant.as_str(), name], |_| Ok(())).await?.is_none() {
                return Err(Error::not_found(What::Graph, name).into());
            }
            let using =
                "SELECT id FROM runloom.runs WHERE status < 2 AND tenant = $1 AND graph = $2 ORDER BY n LIMIT 1";
            if let Some(run) = tx.one(using, args![tenant.as_str(), name], |row| row.uuid()).await? {
                return Err(Error::InUse { what: What::Graph, id: name.into(), by: format!("run {run}") }.into());
            }
            tx.hint([Topic::Graphs]);
            let sql = "DELETE FROM runloom.graphs WHERE tenant = $1 AND name = $2";
            tx.run(sql, args![tenant.as_str(), name]).await.map(|_| ())
        })
    }
}
