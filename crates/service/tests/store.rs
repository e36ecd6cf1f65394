//! Service Store over a real socket.
#![allow(missing_docs, clippy::unwrap_used)]

use std::time::Duration;

use runloom::{
    Client, Error,
    v1::{
        DeleteItemRequest, ErrorReason, GetItemRequest, Item, Json, JsonEncoding, ListNamespacesRequest,
        PutItemRequest, SearchItemsRequest,
    },
};
use runloom_service::{Handle, Server, listen};
use serde_json::{Value, json};

async fn start() -> (Handle, Client) {
    let server = Server::builder().start().await.unwrap();
    let handle = server.spawn(listen("127.0.0.1:0").await.unwrap()).unwrap();
    let client = Client::connect(handle.address().to_string()).await.unwrap();
    (handle, client)
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn put(namespace: &[&str], key: &str, value: Value) -> PutItemRequest {
    PutItemRequest {
        namespace: names(namespace),
        key: key.to_owned(),
        value: Some(Json::text(&value)),
        ..PutItemRequest::default()
    }
}

fn get(namespace: &[&str], key: &str) -> GetItemRequest {
    GetItemRequest { namespace: names(namespace), key: key.to_owned(), ..GetItemRequest::default() }
}

fn keys(items: &[Item]) -> Vec<&str> {
    items.iter().map(|item| item.key.as_str()).collect()
}

fn field(error: &Error) -> &str {
    &error.violations()[0].field
}

#[tokio::test]
async fn items_are_put_got_found_page_by_page_and_deleted() {
    let (server, client) = start().await;
    for n in 0..5 {
        client
            .put_item(put(&["docs", "a"], &format!("k{n}"), json!({"n": n, "big": 9007199254740993u64})))
            .await
            .unwrap();
    }
    client.put_item(put(&["docs", "b"], "x", json!({"n": 9}))).await.unwrap();
    let item = client.get_item(get(&["docs", "a"], "k3")).await.unwrap().unwrap();
    assert_eq!((item.namespace, &*item.key, item.expire_time), (names(&["docs", "a"]), "k3", None));
    assert_eq!(item.value.unwrap().decode().unwrap(), json!({"n": 3, "big": 9007199254740993u64}));
    assert!(item.create_time.is_some() && item.update_time.is_some());
    assert_eq!(client.get_item(get(&["docs", "a"], "none")).await.unwrap(), None);
    let inexact = GetItemRequest { json_encoding: JsonEncoding::Value.into(), ..get(&["docs", "a"], "k3") };
    assert_eq!(client.get_item(inexact).await.unwrap_err().reason(), Some(ErrorReason::JsonNotExact));

    let search = |filter: Value, page_size, page_token: &str| {
        client.search_items(SearchItemsRequest {
            namespace_prefix: names(&["docs"]),
            filter: Some(Json::text(&filter)),
            page_size,
            page_token: page_token.to_owned(),
            ..SearchItemsRequest::default()
        })
    };
    let first = search(json!({"n": {"$gte": 1, "$lt": 9}}), 3, "").await.unwrap();
    assert_eq!(keys(&first.items), ["k1", "k2", "k3"]);
    let second = search(json!({"n": {"$gte": 1, "$lt": 9}}), 3, &first.next_page_token).await.unwrap();
    assert_eq!((keys(&second.items), &*second.next_page_token), (vec!["k4"], ""));
    assert_eq!(search(json!({}), 3, "nonsense").await.unwrap_err().reason(), Some(ErrorReason::PageTokenInvalid));

    let list = |max_depth, page_size, page_token: String| {
        client.list_namespaces(ListNamespacesRequest {
            prefix: names(&["docs"]),
            max_depth,
            page_size,
            page_token,
            ..ListNamespacesRequest::default()
        })
    };
    let page = list(0, 1, String::new()).await.unwrap();
    assert_eq!(page.namespaces[0].names, names(&["docs", "a"]));
    let token = page.next_page_token.clone();
    let rest = list(0, 1, page.next_page_token).await.unwrap();
    assert_eq!((rest.namespaces[0].names.clone(), &*rest.next_page_token), (names(&["docs", "b"]), ""));
    assert_eq!(list(1, 0, String::new()).await.unwrap().namespaces.len(), 1);
    assert!(search(json!({}), 1, &token).await.is_err(), "a token of another list");

    let one = DeleteItemRequest { namespace: names(&["docs", "a"]), key: "k3".to_owned() };
    client.delete_item(one.clone()).await.unwrap();
    client.delete_item(one).await.unwrap();
    assert_eq!(client.get_item(get(&["docs", "a"], "k3")).await.unwrap(), None);
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn an_item_goes_after_its_ttl_and_wrong_ones_are_refused() {
    let (server, client) = start().await;
    let ttl = |ms: i32| Some(prost_types::Duration { seconds: 0, nanos: ms * 1_000_000 });
    client.put_item(PutItemRequest { ttl: ttl(200), ..put(&["a"], "k", json!({})) }).await.unwrap();
    let there = client.get_item(GetItemRequest { keep_expire_time: true, ..get(&["a"], "k") }).await.unwrap().unwrap();
    let refreshed = client.get_item(get(&["a"], "k")).await.unwrap().unwrap();
    let nanos = |item: &Item| item.expire_time.as_ref().map(|t| (t.seconds, t.nanos));
    assert!(nanos(&refreshed) > nanos(&there), "a read has its time begin anew");
    let gone = async {
        while client.get_item(GetItemRequest { keep_expire_time: true, ..get(&["a"], "k") }).await.unwrap().is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.expect("it does not go");

    let refused = async |request| client.put_item(request).await.unwrap_err();
    assert_eq!(field(&refused(put(&[], "k", json!({}))).await), "namespace");
    assert_eq!(field(&refused(put(&["a.b"], "k", json!({}))).await), "namespace[0]");
    assert_eq!(field(&refused(put(&["a"], "", json!({}))).await), "key");
    assert_eq!(field(&refused(put(&["a"], "k", json!([]))).await), "value");
    assert_eq!(field(&refused(PutItemRequest { value: None, ..put(&["a"], "k", json!({})) }).await), "value");
    assert_eq!(field(&refused(PutItemRequest { ttl: ttl(0), ..put(&["a"], "k", json!({})) }).await), "ttl");
    server.shutdown().await.unwrap();
}
