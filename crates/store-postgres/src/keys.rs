//! API keys in Postgres.

use async_trait::async_trait;
use runloom_store::{ApiKey, ApiKeys, Error, Result, TenantId, What, time::nanos};

use crate::{
    PostgresStore,
    fault::Done,
    sql::{Columns, args},
    tx::{read, transact},
};

fn key(row: &mut Columns<'_>) -> Done<ApiKey> {
    let (id, hash): (String, &[u8]) = (row.get()?, row.get()?);
    let hash = hash.try_into().map_err(|_| Error::Corrupt(format!("the hash of API key {id} is not of 32 bytes")))?;
    let (tenant, name) = (row.tenant()?, row.get()?);
    let scopes: &str = row.get()?;
    let scopes = scopes.split_whitespace().map(str::to_owned).collect();
    Ok(ApiKey { id, hash, tenant, name, scopes, created_at: row.time()?, expires_at: row.maybe_time()? })
}

#[async_trait]
impl ApiKeys for PostgresStore {
    async fn put_key(&self, key: ApiKey) -> Result<()> {
        transact!(self, |tx| {
            let sql = "INSERT INTO runloom.api_keys (id, hash, tenant, name, scopes, created, expires) \
                VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING";
            let args = args![
                &key.id,
                &key.hash[..],
                key.tenant.as_str(),
                &key.name,
                key.scopes.join(" "),
                nanos(key.created_at),
                key.expires_at.map(nanos),
            ];
            match tx.run(sql, args).await? {
                0 => Err(Error::exists(What::ApiKey, &key.id).into()),
                _ => Ok(()),
            }
        })
    }

    async fn get_key(&self, id: &str) -> Result<Option<ApiKey>> {
        read!(self, |db| {
            let sql = "SELECT id, hash, tenant, name, scopes, created, expires FROM runloom.api_keys WHERE id = $1";
            db.one(sql, args![id], key).await
        })
    }

    async fn list_keys(&self, tenant: Option<&TenantId>) -> Result<Vec<ApiKey>> {
        read!(self, |db| {
            let sql = "SELECT id, hash, tenant, name, scopes, created, expires FROM runloom.api_keys \
                WHERE $1::text IS NULL OR tenant = $1 ORDER BY created, id";
            db.all(sql, args![tenant.map(TenantId::as_str)], key).await
        })
    }

    async fn delete_key(&self, tenant: Option<&TenantId>, id: &str) -> Result<bool> {
        transact!(self, |tx| {
            let sql = "DELETE FROM runloom.api_keys WHERE id = $1 AND tenant = coalesce($2, tenant)";
            Ok(tx.run(sql, args![id, tenant.map(TenantId::as_str)]).await? > 0)
        })
    }
}
