//! API keys: created, listed, revoked by administrators, and looked up for each call.
//!
//! A key is `rl_ID_SECRET`: ID finds the stored key, SECRET has 244 random bits. The prefix lets scanners of source code find keys.

use std::time::SystemTime;

use runloom_store::{ApiKey, TenantId, What};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use crate::{Core, Error, Result, Session, scopes::check_grant};

/// What every key begins with.
const PREFIX: &str = "rl_";
/// The longest key that is looked at, in bytes.
const MAX_KEY: usize = 256;
/// The longest name of a key, in bytes.
const MAX_NAME: usize = 128;
/// The most scopes of a key.
const MAX_SCOPES: usize = 64;

/// A key to be created.
#[derive(Clone, Debug, Default)]
pub struct NewKey {
    /// What it is for.
    pub name: String,
    /// The tenant of its callers. `None`: that of the session.
    pub tenant: Option<TenantId>,
    /// What its callers may do.
    pub scopes: Vec<String>,
    /// When it stops being valid. `None`: never.
    pub expires_at: Option<SystemTime>,
}

impl Session {
    /// Creates a key, and returns it with what is stored of it. The key cannot be read again.
    pub async fn create_key(&self, new: NewKey) -> Result<(String, ApiKey)> {
        let tenant = new.tenant.unwrap_or_else(|| self.tenant().clone());
        if self.managed().is_some_and(|managed| *managed != tenant) {
            return Err(Error::field(
                "tenant",
                "must be your own: only administrators of the default tenant manage others",
            ));
        }
        if new.name.len() > MAX_NAME {
            return Err(Error::field("name", format!("is longer than {MAX_NAME} bytes")));
        }
        if new.scopes.is_empty() || new.scopes.len() > MAX_SCOPES {
            return Err(Error::field("scopes", format!("must have 1 to {MAX_SCOPES} entries")));
        }
        for (at, scope) in new.scopes.iter().enumerate() {
            check_grant(scope).map_err(|reason| Error::field(format!("scopes[{at}]"), reason))?;
        }
        let now = self.inner.clock.now();
        if new.expires_at.is_some_and(|at| at <= now) {
            return Err(Error::field("expire_time", "must be in the future"));
        }
        let id = Uuid::new_v4().simple().to_string()[..16].to_owned();
        let secret = format!("{PREFIX}{id}_{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        let key = ApiKey {
            id,
            hash: hash(&secret),
            tenant,
            name: new.name,
            scopes: new.scopes,
            created_at: now,
            expires_at: new.expires_at,
        };
        self.inner.store.put_key(key.clone()).await?;
        self.audit("created", &key.id, &key.tenant);
        Ok((secret, key))
    }

    /// The keys of a tenant, or all that the session manages, oldest first.
    pub async fn list_keys(&self, tenant: Option<&TenantId>) -> Result<Vec<ApiKey>> {
        match (self.managed(), tenant) {
            (Some(managed), Some(tenant)) if managed != tenant => Ok(Vec::new()),
            (managed, tenant) => Ok(self.inner.store.list_keys(managed.or(tenant)).await?),
        }
    }

    /// Revokes a key.
    pub async fn revoke_key(&self, id: &str) -> Result<()> {
        if !self.inner.store.delete_key(self.managed(), id).await? {
            return Err(runloom_store::Error::not_found(What::ApiKey, id.chars().take(64).collect::<String>()).into());
        }
        self.audit("revoked", id, self.tenant());
        Ok(())
    }

    /// The tenant whose keys the session manages. `None`: those of all tenants.
    fn managed(&self) -> Option<&TenantId> {
        Some(self.tenant()).filter(|tenant| !tenant.is_default())
    }

    fn audit(&self, change: &str, key: &str, tenant: &TenantId) {
        let caller = self.caller();
        tracing::info!(
            target: "runloom::audit",
            change, key, %tenant, principal = caller.principal.as_deref(), peer = ?caller.peer, "API key {change}"
        );
    }
}

impl Core {
    /// The stored key of a secret. `None` if there is none, or it has expired. Takes the same time whatever part of the secret is wrong.
    pub async fn find_key(&self, secret: &str) -> Result<Option<ApiKey>> {
        let id = secret.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_')).map(|(id, _)| id);
        let Some(id) = id.filter(|_| secret.len() <= MAX_KEY) else { return Ok(None) };
        let Some(key) = self.inner.store.get_key(id).await? else { return Ok(None) };
        let is_same = bool::from(key.hash.ct_eq(&hash(secret)));
        let is_valid = key.expires_at.is_none_or(|at| at > self.inner.clock.now());
        Ok(Some(key).filter(|_| is_same && is_valid))
    }
}

fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}
