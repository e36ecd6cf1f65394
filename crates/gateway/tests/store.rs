//! The store over HTTP, as LangGraph's clients call it.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/http.rs"]
mod http;

use std::time::Duration;

use http::Server;
use runloom_gateway::Options;
use serde_json::{Value as Json, json};

async fn put(server: &Server, namespace: Json, key: &str, value: Json, ttl: Json) -> u16 {
    let body = json!({"namespace": namespace, "key": key, "value": value, "ttl": ttl, "index": false});
    server.json("PUT", "/store/items", body).await.0
}

async fn keys(server: &Server, body: Json) -> Vec<String> {
    let (status, found) = server.json("POST", "/store/items/search", body).await;
    assert_eq!(status, 200, "{found}");
    let items = found["items"].as_array().unwrap();
    items.iter().map(|item| item["key"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn items_are_put_got_found_and_deleted() {
    let server = Server::start(Options::default()).await;
    for (namespace, key, value) in [
        (json!(["docs", "a"]), "one", json!({"n": 1, "kind": "note"})),
        (json!(["docs", "a"]), "two", json!({"n": 2, "kind": "note"})),
        (json!(["docs", "b"]), "three", json!({"n": 3, "kind": "fact", "deep": {"x": "y"}})),
    ] {
        assert_eq!(put(&server, namespace, key, value, Json::Null).await, 204);
    }
    let (status, item) = server.get("/store/items?namespace=docs.b&key=three&refresh_ttl=true").await;
    assert_eq!(status, 200);
    assert_eq!((&item["namespace"], &item["key"]), (&json!(["docs", "b"]), &json!("three")));
    assert_eq!(item["value"]["deep"], json!({"x": "y"}));
    assert!(item["created_at"].as_str().unwrap().ends_with("+00:00"));
    assert_eq!(server.get("/store/items?namespace=docs.b&key=none").await, (200, Json::Null));

    let under = |filter: Json| json!({"namespace_prefix": ["docs"], "filter": filter});
    assert_eq!(keys(&server, under(json!({}))).await, ["one", "two", "three"]);
    assert_eq!(keys(&server, under(json!({"kind": "note"}))).await, ["one", "two"]);
    assert_eq!(keys(&server, under(json!({"n": {"$gt": 1, "$ne": 3}}))).await, ["two"]);
    assert_eq!(keys(&server, under(json!({"deep": {"x": {"$gte": "x"}}}))).await, ["three"]);
    let page = json!({"namespace_prefix": ["docs"], "filter": {"n": {"$lte": 3}}, "limit": 1, "offset": 1});
    assert_eq!(keys(&server, page).await, ["two"]);
    assert!(keys(&server, json!({"namespace_prefix": ["doc"], "query": "anything"})).await.is_empty());

    let namespaces = async |body: Json| server.json("POST", "/store/namespaces", body).await.1["namespaces"].clone();
    assert_eq!(namespaces(json!({})).await, json!([["docs", "a"], ["docs", "b"]]));
    assert_eq!(namespaces(json!({"suffix": ["b"]})).await, json!([["docs", "b"]]));
    assert_eq!(namespaces(json!({"prefix": ["*", "a"], "limit": 5})).await, json!([["docs", "a"]]));
    assert_eq!(namespaces(json!({"max_depth": 1})).await, json!([["docs"]]));
    assert_eq!(namespaces(json!({"offset": 1})).await, json!([["docs", "b"]]));

    let one = json!({"namespace": ["docs", "a"], "key": "one"});
    for _ in 0..2 {
        assert_eq!(server.json("DELETE", "/store/items", one.clone()).await.0, 204);
    }
    assert_eq!(keys(&server, under(json!({}))).await, ["two", "three"]);
    server.stop().await;
}

#[tokio::test]
async fn an_item_put_for_a_time_is_gone_after_it_unless_it_is_read() {
    let server = Server::start(Options::default()).await;
    // 300 ms, in minutes.
    let ttl = json!(0.005);
    for key in ["read", "looked-at", "alone"] {
        assert_eq!(put(&server, json!(["a"]), key, json!({}), ttl.clone()).await, 204);
    }
    let since = std::time::Instant::now();
    let all = json!({"namespace_prefix": ["a"], "refresh_ttl": false});
    // Read all the while: it stays. Looked at without that, the others go.
    while !keys(&server, all.clone()).await.iter().all(|key| key == "read") {
        assert_ne!(server.get("/store/items?namespace=a&key=read").await.1, Json::Null, "it went though it was read");
        server.get("/store/items?namespace=a&key=looked-at&refresh_ttl=false").await;
        assert!(since.elapsed() < Duration::from_secs(10), "nothing goes");
    }
    assert!(since.elapsed() >= Duration::from_millis(300), "it went too early");
    assert_eq!(keys(&server, all.clone()).await, ["read"]);
    assert_eq!(server.get("/store/items?namespace=a&key=alone").await.1, Json::Null);
    server.stop().await;
}

#[tokio::test]
async fn what_cannot_be_an_item_is_refused_with_its_field() {
    let server = Server::start(Options::default()).await;
    let refused = async |method: &str, path: &str, body: Json| -> String {
        let wanted = if body["namespace"] == json!([]) { 400 } else { 422 };
        let (status, told) = server.json(method, path, body).await;
        assert_eq!(status, wanted, "{told}");
        told["detail"].as_str().unwrap().split(':').next().unwrap().to_owned()
    };
    let item = |namespace: Json, ttl: Json| json!({"namespace": namespace, "key": "k", "value": {}, "ttl": ttl});
    assert_eq!(refused("PUT", "/store/items", item(json!([]), Json::Null)).await, "namespace");
    assert_eq!(refused("PUT", "/store/items", item(json!(["a.b"]), Json::Null)).await, "namespace[0]");
    assert_eq!(refused("PUT", "/store/items", item(json!("a"), Json::Null)).await, "namespace");
    for ttl in [json!(0), json!(-1), json!("1"), json!(1e300)] {
        assert_eq!(refused("PUT", "/store/items", item(json!(["a"]), ttl)).await, "ttl");
    }
    let search = json!({"filter": {"a": {"$regex": "x"}}});
    assert_eq!(refused("POST", "/store/items/search", search).await, "filter");
    assert_eq!(refused("POST", "/store/namespaces", json!({"max_depth": 0})).await, "max_depth");
    server.stop().await;
}
