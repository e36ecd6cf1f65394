//! The methods of service Keys.

use super::{Client, once, repeated};
use crate::{
    Error,
    v1::{CreateKeyRequest, CreateKeyResponse, ListKeysRequest, ListKeysResponse, RevokeKeyRequest},
};

impl Client {
    /// Creates an API key. The secret is in this response only.
    pub async fn create_key(&self, request: CreateKeyRequest) -> Result<CreateKeyResponse, Error> {
        once!(self, keys.create_key(request))
    }

    /// Lists API keys, oldest first, a page at a time.
    pub async fn list_keys(&self, request: ListKeysRequest) -> Result<ListKeysResponse, Error> {
        repeated!(self, keys.list_keys(request))
    }

    /// Revokes an API key, by its id.
    pub async fn revoke_key(&self, id: impl Into<String>) -> Result<(), Error> {
        once!(self, keys.revoke_key(RevokeKeyRequest { id: id.into() })).map(drop)
    }
}
