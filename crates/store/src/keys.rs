//! API keys: who may call, as the server stores it. The key itself is not stored.

use std::time::SystemTime;

use async_trait::async_trait;

use crate::{Result, TenantId};

/// An API key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// The public part of the key, by which it is found: unique among all tenants.
    pub id: String,
    /// SHA-256 of the whole key. The key has 256 random bits, so that a slow hash would add nothing.
    pub hash: [u8; 32],
    /// Whose objects a caller with this key sees.
    pub tenant: TenantId,
    /// What it is for, as its creator has named it.
    pub name: String,
    /// What a caller with this key may do.
    pub scopes: Vec<String>,
    /// When it was created.
    pub created_at: SystemTime,
    /// When it stops being valid. `None`: never.
    pub expires_at: Option<SystemTime>,
}

/// API keys. They are found before a caller has a tenant, so that ids are unique in the whole store.
#[async_trait]
pub trait ApiKeys: Send + Sync {
    /// Stores a key. Refused with [`AlreadyExists`](crate::Error::AlreadyExists) if the id is taken.
    async fn put_key(&self, key: ApiKey) -> Result<()>;

    /// A key by its id, of whatever tenant, expired or not.
    async fn get_key(&self, id: &str) -> Result<Option<ApiKey>>;

    /// The keys of a tenant, or of all tenants, in the order of creation.
    async fn list_keys(&self, tenant: Option<&TenantId>) -> Result<Vec<ApiKey>>;

    /// Deletes a key of a tenant, or of any tenant. Returns whether there was one.
    async fn delete_key(&self, tenant: Option<&TenantId>, id: &str) -> Result<bool>;
}
