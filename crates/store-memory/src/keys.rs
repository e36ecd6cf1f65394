//! API keys in memory.

use async_trait::async_trait;

use runloom_store::{ApiKey, ApiKeys, Error, Result, TenantId, What};

use crate::MemoryStore;

#[async_trait]
impl ApiKeys for MemoryStore {
    async fn put_key(&self, key: ApiKey) -> Result<()> {
        self.write(|tables| {
            if tables.keys.iter().any(|known| known.id == key.id) {
                return Err(Error::AlreadyExists { what: What::ApiKey, id: key.id });
            }
            tables.keys.push(key);
            Ok(())
        })
    }

    async fn get_key(&self, id: &str) -> Result<Option<ApiKey>> {
        Ok(self.read(|tables| tables.keys.iter().find(|key| key.id == id).cloned()))
    }

    async fn list_keys(&self, tenant: Option<&TenantId>) -> Result<Vec<ApiKey>> {
        let is_listed = |key: &&ApiKey| tenant.is_none_or(|tenant| key.tenant == *tenant);
        Ok(self.read(|tables| tables.keys.iter().filter(is_listed).cloned().collect()))
    }

    async fn delete_key(&self, tenant: Option<&TenantId>, id: &str) -> Result<bool> {
        self.write(|tables| {
            let before = tables.keys.len();
            tables.keys.retain(|key| key.id != id || tenant.is_some_and(|tenant| key.tenant != *tenant));
            Ok(tables.keys.len() < before)
        })
    }
}
