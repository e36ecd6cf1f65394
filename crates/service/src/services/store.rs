//! Service Store.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use runloom::v1::{
    self, DeleteItemRequest, DeleteItemResponse, GetItemRequest, GetItemResponse, ListNamespacesRequest,
    ListNamespacesResponse, Namespace, PutItemRequest, PutItemResponse, SearchItemsRequest, SearchItemsResponse,
    store_server::Store,
};
use runloom_core::Reason;
use runloom_engine::items::{Item, ItemQuery, NamespaceQuery};
use tonic::{Request, Response, Status};

use super::{Answer, Api, OrStatus, encoding};
use crate::{
    check::{Check, page},
    convert::timestamp,
    json::encode_object,
    status::refuse,
};

/// What a page token begins with: of which list it is.
const ITEMS: u8 = b'i';
const NAMESPACES: u8 = b'n';

/// How many were on the pages before the one that a token stands for.
fn offset(list: u8, token: &str) -> Result<usize, Status> {
    if token.is_empty() {
        return Ok(0);
    }
    let raw = URL_SAFE_NO_PAD.decode(token).unwrap_or_default();
    let read = || {
        let (found, offset) = raw.split_first()?;
        let offset = u64::from_be_bytes(offset.try_into().ok()?);
        if *found == list { usize::try_from(offset).ok() } else { None }
    };
    read().ok_or_else(|| refuse(Reason::PageTokenInvalid, "the page token is not one that this list gave"))
}

/// Of one more than a page has, the page, and the token of the next one.
fn paged<T>(list: u8, offset: usize, size: usize, mut found: Vec<T>) -> (Vec<T>, String) {
    if found.len() <= size {
        return (found, String::new());
    }
    found.truncate(size);
    let mut raw = vec![list];
    raw.extend(((offset + size) as u64).to_be_bytes());
    (found, URL_SAFE_NO_PAD.encode(raw))
}

fn item(item: &Item, encoding: v1::JsonEncoding) -> Result<v1::Item, Status> {
    Ok(v1::Item {
        namespace: item.namespace.clone(),
        key: item.key.clone(),
        value: Some(encode_object(&item.value, encoding).or_status()?),
        create_time: Some(timestamp(item.created_at)),
        update_time: Some(timestamp(item.updated_at)),
        expire_time: item.expires_at.map(timestamp),
    })
}

#[tonic::async_trait]
impl Store for Api {
    async fn put_item(&self, request: Request<PutItemRequest>) -> Answer<PutItemResponse> {
        let request = request.into_inner();
        let mut check = Check::default();
        if request.value.is_none() {
            check.fail("value", "missing: it takes an object");
        }
        let value = check.object("value", request.value).unwrap_or_default();
        let ttl = check.duration("ttl", request.ttl);
        check.done()?;
        self.core.put_item(&request.namespace, &request.key, value, ttl).await.or_status()?;
        Ok(Response::new(PutItemResponse {}))
    }

    async fn get_item(&self, request: Request<GetItemRequest>) -> Answer<GetItemResponse> {
        let request = request.into_inner();
        let mut check = Check::default();
        let encoding = encoding(&mut check, request.json_encoding);
        check.done()?;
        let found = self.core.get_item(&request.namespace, &request.key, !request.keep_expire_time).await;
        let found = found.or_status()?.map(|found| item(&found, encoding)).transpose()?;
        Ok(Response::new(GetItemResponse { item: found }))
    }

    async fn delete_item(&self, request: Request<DeleteItemRequest>) -> Answer<DeleteItemResponse> {
        let request = request.into_inner();
        self.core.delete_item(&request.namespace, &request.key).await.or_status()?;
        Ok(Response::new(DeleteItemResponse {}))
    }

    async fn search_items(&self, request: Request<SearchItemsRequest>) -> Answer<SearchItemsResponse> {
        let request = request.into_inner();
        let mut check = Check::default();
        let encoding = encoding(&mut check, request.json_encoding);
        let filter = check.object("filter", request.filter).unwrap_or_default();
        check.done()?;
        let size = page(request.page_size, 10, String::new()).size;
        let offset = offset(ITEMS, &request.page_token)?;
        let query = ItemQuery {
            prefix: request.namespace_prefix,
            filter,
            limit: size + 1,
            offset,
            keep_expiry: request.keep_expire_time,
        };
        let found = self.core.search_items(query).await.or_status()?;
        let (found, next_page_token) = paged(ITEMS, offset, size, found);
        let items = found.iter().map(|found| item(found, encoding)).collect::<Result<_, _>>()?;
        Ok(Response::new(SearchItemsResponse { items, next_page_token }))
    }

    async fn list_namespaces(&self, request: Request<ListNamespacesRequest>) -> Answer<ListNamespacesResponse> {
        let ListNamespacesRequest { prefix, suffix, max_depth, page_size, page_token } = request.into_inner();
        let size = page(page_size, 100, String::new()).size;
        let offset = offset(NAMESPACES, &page_token)?;
        let query = NamespaceQuery { prefix, suffix, max_depth: max_depth as usize, limit: size + 1, offset };
        let found = self.core.list_namespaces(query).await.or_status()?;
        let (found, next_page_token) = paged(NAMESPACES, offset, size, found);
        let namespaces = found.into_iter().map(|names| Namespace { names }).collect();
        Ok(Response::new(ListNamespacesResponse { namespaces, next_page_token }))
    }
}
