//! Service Store.

use runloom::v1::{
    self, DeleteItemRequest, DeleteItemResponse, GetItemRequest, GetItemResponse, ListNamespacesRequest,
    ListNamespacesResponse, Namespace, PutItemRequest, PutItemResponse, SearchItemsRequest, SearchItemsResponse,
    store_server::Store,
};
use runloom_core::Reason;
use runloom_engine::items::{Item, ItemQuery, NamespaceQuery};
use runloom_store::PageRequest;
use tonic::{Request, Response, Status};

use super::{Answer, Api, OrStatus, encoding};
use crate::{check::Check, convert::timestamp, fit::Limit, json::encode_object, pages::Pages, status::refuse};

/// How many were on the pages before the one that is asked for.
fn offset(page: &PageRequest) -> Result<usize, Status> {
    let Some(token) = &page.token else { return Ok(0) };
    token.parse().map_err(|_| refuse(Reason::PageTokenInvalid, "the page token is not one that a list gave"))
}

/// Of one more than a page has, the page, and the token of the next one.
fn paged<T>(pages: &Pages, page: &PageRequest, offset: usize, mut found: Vec<T>) -> (Vec<T>, String) {
    let next = (found.len() > page.size).then(|| (offset + page.size).to_string());
    found.truncate(page.size);
    (found, pages.next(next))
}

fn item(item: &Item, encoding: v1::JsonEncoding) -> Result<v1::Item, Status> {
    Ok(v1::Item {
        namespace: item.namespace.clone(),
        key: item.key.clone(),
        value: Some(encode_object(&item.value, encoding).or_status()?),
        create_time: Some(timestamp(item.created_at)),
        update_time: Some(timestamp(item.updated_at)),
        expire_time: item.expires_at.map(timestamp),
        omitted: None,
    })
}

#[tonic::async_trait]
impl Store for Api {
    async fn put_item(&self, request: Request<PutItemRequest>) -> Answer<PutItemResponse> {
        let session = self.session(&request);
        let request = request.into_inner();
        let mut check = Check::default();
        if request.value.is_none() {
            check.fail("value", "missing: it takes an object");
        }
        let value = check.object("value", request.value).unwrap_or_default();
        let ttl = check.duration("ttl", request.ttl);
        check.done()?;
        session.put_item(&request.namespace, &request.key, value, ttl).await.or_status()?;
        Ok(Response::new(PutItemResponse {}))
    }

    async fn get_item(&self, request: Request<GetItemRequest>) -> Answer<GetItemResponse> {
        let session = self.session(&request);
        let request = request.into_inner();
        let mut check = Check::default();
        let encoding = encoding(&mut check, request.json_encoding);
        check.done()?;
        let found = session.get_item(&request.namespace, &request.key, !request.keep_expire_time).await;
        let found = found.or_status()?.map(|found| item(&found, encoding)).transpose()?;
        let found = found.map(|found| Limit::of(request.max_part_bytes).fit(found));
        Ok(Response::new(GetItemResponse { item: found }))
    }

    async fn delete_item(&self, request: Request<DeleteItemRequest>) -> Answer<DeleteItemResponse> {
        let session = self.session(&request);
        let request = request.into_inner();
        session.delete_item(&request.namespace, &request.key).await.or_status()?;
        Ok(Response::new(DeleteItemResponse {}))
    }

    async fn search_items(&self, request: Request<SearchItemsRequest>) -> Answer<SearchItemsResponse> {
        let session = self.session(&request);
        let request = request.into_inner();
        let mut check = Check::default();
        let (pages, mut page) = Pages::of(&request, 10).or_status()?;
        let encoding = encoding(&mut check, request.json_encoding);
        let filter = check.object("filter", request.filter).unwrap_or_default();
        check.done()?;
        let offset = offset(&page)?;
        let query = ItemQuery {
            prefix: request.namespace_prefix,
            filter,
            limit: page.size + 1,
            offset,
            keep_expiry: request.keep_expire_time,
        };
        let found = session.search_items(query).await.or_status()?;
        let shown = &found[..found.len().min(page.size)];
        let mut items = shown.iter().map(|found| item(found, encoding)).collect::<Result<Vec<_>, _>>()?;
        if let Some(fewer) = Limit::of(request.max_part_bytes).fit_page(&mut items) {
            items.truncate(fewer);
            page.size = fewer;
        }
        let (_, next_page_token) = paged(&pages, &page, offset, found);
        Ok(Response::new(SearchItemsResponse { items, next_page_token }))
    }

    async fn list_namespaces(&self, request: Request<ListNamespacesRequest>) -> Answer<ListNamespacesResponse> {
        let session = self.session(&request);
        let request = request.into_inner();
        let (pages, page) = Pages::of(&request, 100).or_status()?;
        let offset = offset(&page)?;
        let ListNamespacesRequest { prefix, suffix, max_depth, .. } = request;
        let query = NamespaceQuery { prefix, suffix, max_depth: max_depth as usize, limit: page.size + 1, offset };
        let found = session.list_namespaces(query).await.or_status()?;
        let (found, next_page_token) = paged(&pages, &page, offset, found);
        let namespaces = found.into_iter().map(|names| Namespace { names }).collect();
        Ok(Response::new(ListNamespacesResponse { namespaces, next_page_token }))
    }
}
