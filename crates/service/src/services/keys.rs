//! Service Keys.

use runloom::v1::{
    ApiKey, CreateKeyRequest, CreateKeyResponse, ListKeysRequest, ListKeysResponse, RevokeKeyRequest,
    RevokeKeyResponse, keys_server::Keys,
};
use runloom_core::NewKey;
use runloom_store::{self as store, TenantId};
use tonic::{Request, Response};

use super::{Answer, Api, OrStatus};
use crate::check::Check;

#[tonic::async_trait]
impl Keys for Api {
    async fn create_key(&self, request: Request<CreateKeyRequest>) -> Answer<CreateKeyResponse> {
        let session = self.session(&request);
        let request = request.into_inner();
        let mut check = Check::default();
        let new = NewKey {
            tenant: tenant(&mut check, &request.tenant),
            name: request.name,
            scopes: request.scopes,
            expires_at: check.time("expire_time", request.expire_time),
        };
        check.done()?;
        let (secret, key) = session.create_key(new).await.or_status()?;
        Ok(Response::new(CreateKeyResponse { secret, key: Some(described(key)) }))
    }

    async fn list_keys(&self, request: Request<ListKeysRequest>) -> Answer<ListKeysResponse> {
        let session = self.session(&request);
        let mut check = Check::default();
        let tenant = tenant(&mut check, &request.into_inner().tenant);
        check.done()?;
        let keys = session.list_keys(tenant.as_ref()).await.or_status()?;
        Ok(Response::new(ListKeysResponse { keys: keys.into_iter().map(described).collect() }))
    }

    async fn revoke_key(&self, request: Request<RevokeKeyRequest>) -> Answer<RevokeKeyResponse> {
        self.session(&request).revoke_key(&request.get_ref().id).await.or_status()?;
        Ok(Response::new(RevokeKeyResponse {}))
    }
}

/// The tenant that a request names; none where it names none.
fn tenant(check: &mut Check, name: &str) -> Option<TenantId> {
    if name.is_empty() {
        return None;
    }
    TenantId::new(name).map_err(|error| check.fail("tenant", error.to_string())).ok()
}

fn described(key: store::ApiKey) -> ApiKey {
    ApiKey {
        id: key.id,
        name: key.name,
        tenant: key.tenant.to_string(),
        scopes: key.scopes,
        create_time: Some(key.created_at.into()),
        expire_time: key.expires_at.map(Into::into),
    }
}
