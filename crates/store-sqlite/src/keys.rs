//! API keys in SQLite.

use async_trait::async_trait;
use rusqlite::params;

use runloom_store::{ApiKey, ApiKeys, Error, Result, TenantId, What, time::nanos};

use crate::{
    SqliteStore,
    sql::{Columns, Sql},
};

const COLUMNS: &str = "id, hash, tenant, name, scopes, created, expires";

fn key(row: &mut Columns<'_>) -> Result<ApiKey> {
    let (id, hash) = (row.get()?, row.get()?);
    let (tenant, name) = (row.tenant()?, row.get()?);
    let scopes: String = row.get()?;
    let scopes = scopes.split_whitespace().map(str::to_owned).collect();
    Ok(ApiKey { id, hash, tenant, name, scopes, created_at: row.time()?, expires_at: row.maybe_time()? })
}

#[async_trait]
impl ApiKeys for SqliteStore {
    async fn put_key(&self, key: ApiKey) -> Result<()> {
        self.write(move |tx| {
            let scopes = key.scopes.join(" ");
            let sql =
                format!("INSERT INTO api_keys ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING");
            let put = tx.run(
                &sql,
                params![
                    key.id,
                    key.hash,
                    key.tenant.as_str(),
                    key.name,
                    scopes,
                    nanos(key.created_at),
                    key.expires_at.map(nanos)
                ],
            )?;
            if put == 0 { Err(Error::AlreadyExists { what: What::ApiKey, id: key.id }) } else { Ok(()) }
        })
        .await
    }

    async fn get_key(&self, id: &str) -> Result<Option<ApiKey>> {
        let id = id.to_owned();
        self.read(move |db| db.one(&format!("SELECT {COLUMNS} FROM api_keys WHERE id = ?1"), [id], key)).await
    }

    async fn list_keys(&self, tenant: Option<&TenantId>) -> Result<Vec<ApiKey>> {
        let tenant = tenant.cloned();
        self.read(move |db| match tenant {
            None => db.all(&format!("SELECT {COLUMNS} FROM api_keys ORDER BY created, id"), [], key),
            Some(tenant) => {
                let sql = format!("SELECT {COLUMNS} FROM api_keys WHERE tenant = ?1 ORDER BY created, id");
                db.all(&sql, [tenant.as_str()], key)
            }
        })
        .await
    }

    async fn delete_key(&self, tenant: Option<&TenantId>, id: &str) -> Result<bool> {
        let (tenant, id) = (tenant.map(ToString::to_string), id.to_owned());
        self.write(move |tx| {
            let sql = "DELETE FROM api_keys WHERE id = ?1 AND tenant = coalesce(?2, tenant)";
            Ok(tx.run(sql, params![id, tenant])? > 0)
        })
        .await
    }
}
