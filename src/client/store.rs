//! The methods of service Store.

use super::{Client, encoding, repeated};
use crate::{
    Error,
    v1::{
        DeleteItemRequest, GetItemRequest, Item, ListNamespacesRequest, ListNamespacesResponse, PutItemRequest,
        SearchItemsRequest, SearchItemsResponse,
    },
};

impl Client {
    /// Writes an item.
    pub async fn put_item(&self, request: PutItemRequest) -> Result<(), Error> {
        repeated!(self, store.put_item(request)).map(drop)
    }

    /// Reads an item, if there is one.
    pub async fn get_item(&self, mut request: GetItemRequest) -> Result<Option<Item>, Error> {
        request.json_encoding = encoding(request.json_encoding);
        Ok(repeated!(self, store.get_item(request))?.item)
    }

    /// Deletes an item, if there is one.
    pub async fn delete_item(&self, request: DeleteItemRequest) -> Result<(), Error> {
        repeated!(self, store.delete_item(request)).map(drop)
    }

    /// Finds items, a page at a time.
    pub async fn search_items(&self, mut request: SearchItemsRequest) -> Result<SearchItemsResponse, Error> {
        request.json_encoding = encoding(request.json_encoding);
        repeated!(self, store.search_items(request))
    }

    /// Lists namespaces, a page at a time.
    pub async fn list_namespaces(&self, request: ListNamespacesRequest) -> Result<ListNamespacesResponse, Error> {
        repeated!(self, store.list_namespaces(request))
    }
}
