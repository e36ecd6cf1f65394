//! Service Keys.

use runloom::v1::{
    ApiKey, CreateKeyRequest, CreateKeyResponse, ListKeysRequest, ListKeysResponse, RevokeKeyRequest,
    RevokeKeyResponse, keys_server::Keys,
};
use runloom_core::{Error, NewKey, Reason};
use runloom_store::{self as store, TenantId, time::nanos};
use tonic::{Request, Response, Status};

use super::{Answer, Api, OrStatus};
use crate::{check::Check, status::status};

const DEFAULT_PAGE: usize = 50;
const MAX_PAGE: usize = 1000;

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
        let request = request.into_inner();
        let tenant = tenant(&mut check, &request.tenant);
        check.done()?;
        let after = place_of(&request.page_token)?;
        let mut keys = session.list_keys(tenant.as_ref()).await.or_status()?;
        keys.retain(|key| after.as_ref().is_none_or(|after| place(key) > *after));
        let size = match request.page_size {
            0 => DEFAULT_PAGE,
            size => (size as usize).min(MAX_PAGE),
        };
        let is_last = keys.len() <= size;
        keys.truncate(size);
        let next = keys.last().filter(|_| !is_last).map(place);
        Ok(Response::new(ListKeysResponse {
            keys: keys.into_iter().map(described).collect(),
            next_page_token: next.map(|(at, id)| format!("{at}.{id}")).unwrap_or_default(),
        }))
    }

    async fn revoke_key(&self, request: Request<RevokeKeyRequest>) -> Answer<RevokeKeyResponse> {
        self.session(&request).revoke_key(&request.get_ref().id).await.or_status()?;
        Ok(Response::new(RevokeKeyResponse {}))
    }
}

/// Where a key is in the list: by its time of creation, then its id.
fn place(key: &store::ApiKey) -> (i64, String) {
    (nanos(key.created_at), key.id.clone())
}

/// The place after which a page begins.
fn place_of(token: &str) -> Result<Option<(i64, String)>, Status> {
    if token.is_empty() {
        return Ok(None);
    }
    let place = token.split_once('.').and_then(|(at, id)| Some((at.parse().ok()?, id.to_owned())));
    let invalid = || status(Error::new(Reason::PageTokenInvalid, "the page token is not one of ListKeys"));
    place.ok_or_else(invalid).map(Some)
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
