//! Items (G33), cached results and health, on every store.

use std::time::Duration;

use runloom_engine::{
    Clock,
    items::{ItemQuery, NamespaceQuery},
    value,
};

use crate::TenantId;

use super::{Fixture, object};

fn ns(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| name.to_string()).collect()
}

async fn namespaces(f: &Fixture, prefix: &[&str]) -> Vec<Vec<String>> {
    let query = NamespaceQuery { prefix: ns(prefix), ..NamespaceQuery::default() };
    f.store.items(&TenantId::default()).namespaces(query).await.unwrap()
}

pub async fn items_are_put_found_and_deleted(f: Fixture) {
    let items = f.store.items(&TenantId::default());
    let put = async |names: &[&str], key, value| {
        items.put(&ns(names), key, object(value)).await.unwrap();
        f.clock.advance(Duration::from_secs(1));
    };
    let start = f.clock.now();
    put(&["users", "ada"], "a", value!({"kind": "note", "n": 1})).await;
    put(&["users", "ada"], "b", value!({"kind": "fact", "n": 2})).await;
    put(&["users", "bob"], "a", value!({"kind": "note", "n": 3, "deep": {"x": [1, 2]}})).await;
    put(&["users"], "a", value!({})).await;
    put(&["users", "ada"], "a", value!({"kind": "note", "n": 4})).await;

    let item = items.get(&ns(&["users", "ada"]), "a").await.unwrap().unwrap();
    assert_eq!((item.value, item.created_at), (object(value!({"kind": "note", "n": 4})), start));
    assert_eq!(item.updated_at, start + Duration::from_secs(4));
    assert_eq!((item.namespace, &*item.key), (ns(&["users", "ada"]), "a"));
    assert!(items.get(&ns(&["users", "ada"]), "c").await.unwrap().is_none());
    assert!(items.get(&ns(&["nobody"]), "a").await.unwrap().is_none());

    let search = async |prefix: &[&str], filter, limit, offset| -> Vec<String> {
        let query = ItemQuery { prefix: ns(prefix), filter: object(filter), limit, offset, ..ItemQuery::default() };
        let found = items.search(query).await.unwrap();
        found.iter().map(|item| format!("{}/{}", item.namespace.join("/"), item.key)).collect()
    };
    put(&["users", "bob"], "0", value!({})).await;
    let all = ["users/ada/a", "users/ada/b", "users/bob/a", "users/bob/0", "users/a"];
    assert_eq!(search(&[], value!({}), 0, 0).await, all, "by namespace, the first put first");
    assert_eq!(search(&["users"], value!({}), 2, 1).await, all[1..3]);
    assert_eq!(search(&["users", "ada"], value!({}), 0, 0).await, ["users/ada/a", "users/ada/b"]);
    assert_eq!(search(&["users"], value!({"kind": "note"}), 0, 1).await, ["users/bob/a"]);
    assert_eq!(search(&[], value!({"deep": {"x": [1, {"$gt": 1}]}}), 0, 0).await, ["users/bob/a"]);
    assert_eq!(search(&["users"], value!({"n": {"$gte": 2, "$lt": 4}}), 0, 1).await, ["users/bob/a"]);

    assert_eq!(namespaces(&f, &[]).await, [ns(&["users"]), ns(&["users", "ada"]), ns(&["users", "bob"])]);
    assert_eq!(namespaces(&f, &["users", "b"]).await, Vec::<Vec<String>>::new());
    for key in ["a", "b", "never there"] {
        items.delete(&ns(&["users", "ada"]), key).await.unwrap();
    }
    assert!(items.get(&ns(&["users", "ada"]), "a").await.unwrap().is_none());
    assert_eq!(namespaces(&f, &["users"]).await, [ns(&["users"]), ns(&["users", "bob"])]);
    for i in 0..12 {
        let key = i.to_string();
        items.put(&ns(&["many"]), &key, object(value!({}))).await.unwrap();
    }
    assert_eq!(search(&["many"], value!({}), 0, 0).await.len(), 10, "unless asked otherwise");
}

pub async fn a_namespace_is_not_its_neighbour(f: Fixture) {
    let items = f.store.items(&TenantId::default());
    let names: [&[&str]; 7] = [&["a"], &["a", ""], &["ab"], &["a", "b"], &["a\0"], &["a\u{1}"], &["a.b"]];
    for names in names {
        items.put(&ns(names), "k", object(value!({"of": names.join("|")}))).await.unwrap();
    }
    for names in names {
        let item = items.get(&ns(names), "k").await.unwrap().unwrap();
        assert_eq!((item.namespace, item.value), (ns(names), object(value!({"of": names.join("|")}))));
    }
    let under = namespaces(&f, &["a"]).await;
    assert_eq!(under, [ns(&["a"]), ns(&["a", ""]), ns(&["a", "b"])]);
}

pub async fn namespaces_are_listed_by_their_beginning_and_end(f: Fixture) {
    let items = f.store.items(&TenantId::default());
    for names in [&["a", "x", "1"][..], &["a", "x", "2"], &["a", "y", "1"], &["b", "x", "1"], &["b"]] {
        items.put(&ns(names), "k", object(value!({}))).await.unwrap();
    }
    let list = async |prefix: &[&str], suffix: &[&str], max_depth, limit, offset| -> Vec<String> {
        let query = NamespaceQuery { prefix: ns(prefix), suffix: ns(suffix), max_depth, limit, offset };
        items.namespaces(query).await.unwrap().iter().map(|names| names.join("/")).collect()
    };
    assert_eq!(list(&["*", "x"], &[], 0, 0, 0).await, ["a/x/1", "a/x/2", "b/x/1"]);
    assert_eq!(list(&[], &["x", "1"], 0, 0, 0).await, ["a/x/1", "b/x/1"]);
    assert_eq!(list(&["a"], &["*", "1"], 0, 0, 0).await, ["a/x/1", "a/y/1"]);
    assert_eq!(list(&[], &[], 2, 0, 0).await, ["a/x", "a/y", "b", "b/x"]);
    assert_eq!(list(&[], &[], 2, 2, 1).await, ["a/y", "b"]);
    assert!(list(&[], &[], 2, 2, 9).await.is_empty());
}

pub async fn an_item_goes_when_its_time_is_over(f: Fixture) {
    let (items, a) = (f.store.items(&TenantId::default()), ns(&["a"]));
    let second = Duration::from_secs(1);
    let put = async |key: &str, ttl: Option<u32>| {
        items.put_for(&a, key, object(value!({"k": key})), ttl.map(|s| second * s)).await.unwrap();
    };
    put("short", Some(10)).await;
    put("read", Some(10)).await;
    put("looked at", Some(10)).await;
    put("replaced", Some(10)).await;
    put("for good", None).await;
    let start = f.clock.now();
    assert_eq!(f.store.next_item_expiry().await.unwrap(), Some(start + second * 10));
    f.clock.advance(second * 6);
    let found = items.get(&a, "read").await.unwrap().unwrap();
    assert_eq!(found.expires_at, Some(start + second * 16), "a read begins its time anew");
    let kept = items.look_up(&a, "looked at", false).await.unwrap().unwrap();
    assert_eq!(kept.expires_at, Some(start + second * 10));
    put("replaced", None).await;
    let query = || ItemQuery { prefix: a.clone(), keep_expiry: true, limit: 99, ..ItemQuery::default() };
    assert_eq!(items.search(query()).await.unwrap().len(), 5);

    f.clock.advance(second * 4);
    // Before anything is swept.
    assert!(items.get(&a, "short").await.unwrap().is_none());
    let left =
        async || -> Vec<String> { items.search(query()).await.unwrap().into_iter().map(|item| item.key).collect() };
    assert_eq!(left().await, ["read", "replaced", "for good"]);
    assert_eq!(f.store.sweep_items(f.clock.now(), 1).await.unwrap(), 1);
    assert_eq!(f.store.sweep_items(f.clock.now(), 9).await.unwrap(), 1);
    assert_eq!(f.store.sweep_items(f.clock.now(), 9).await.unwrap(), 0);
    assert_eq!(f.store.next_item_expiry().await.unwrap(), Some(start + second * 16));
    assert_eq!(left().await, ["read", "replaced", "for good"]);

    let found = items.search(ItemQuery { keep_expiry: false, ..query() }).await.unwrap();
    assert_eq!(found[0].expires_at, Some(start + second * 20), "a search begins their time anew");
    items.put_for(&ns(&["b"]), "k", object(value!({})), Some(second)).await.unwrap();
    f.clock.advance(second * 2);
    assert_eq!(namespaces(&f, &[]).await, std::slice::from_ref(&a), "what is over is in no list");
    let before = f.clock.now();
    items.put(&ns(&["b"]), "k", object(value!({}))).await.unwrap();
    let again = items.get(&ns(&["b"]), "k").await.unwrap().unwrap();
    assert_eq!((again.created_at, again.expires_at), (before, None), "an item put after its time is a new one");
    f.clock.advance(second * 100);
    assert_eq!(f.store.sweep_items(f.clock.now(), 9).await.unwrap(), 1);
    assert_eq!(f.store.next_item_expiry().await.unwrap(), None);
}

pub async fn cached_results_live_until_their_time(f: Fixture) {
    let cache = f.store.node_cache(&TenantId::default());
    let until = f.clock.now() + Duration::from_secs(10);
    cache.put("a", value!({"x": 1.0}), Some(until)).await;
    cache.put("b", value!([null]), None).await;
    assert_eq!(cache.get("a").await, Some(value!({"x": 1.0})));
    assert_eq!(cache.get("b").await, Some(value!([null])));
    assert_eq!(cache.get("c").await, None);
    f.clock.advance(Duration::from_secs(10));
    assert_eq!(cache.get("a").await, None);
    assert_eq!(cache.get("b").await, Some(value!([null])));
    assert_eq!(f.store.sweep(f.clock.now(), 10).await.unwrap().cached, 1);
    cache.put("b", value!(null), None).await;
    assert_eq!(cache.get("b").await, Some(value!(null)), "a null is a result");
}

pub async fn a_store_that_works_says_so(f: Fixture) {
    f.store.ping().await.unwrap();
    f.store.ping().await.unwrap();
    f.store.flush().await.unwrap();
    f.store.room().await;
    assert!(f.store.health().borrow().is_serving());
    let before = f.store.stats();
    f.thread().await;
    let after = f.store.stats();
    assert_eq!((after.writes, after.commits), (before.writes + 1, before.commits + 1));
}
