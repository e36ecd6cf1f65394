//! Items, cached results and health, on every store.

use std::time::Duration;

use runloom_engine::{Clock, items::ItemQuery, value};

use super::{Fixture, object};

fn ns(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| name.to_string()).collect()
}

pub async fn items_are_put_found_and_deleted(f: Fixture) {
    let items = f.store.items();
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
        let query = ItemQuery { prefix: ns(prefix), filter: object(filter), limit, offset };
        let found = items.search(query).await.unwrap();
        found.iter().map(|item| format!("{}/{}", item.namespace.join("/"), item.key)).collect()
    };
    let all = ["users/ada/a", "users/a", "users/bob/a", "users/ada/b"];
    assert_eq!(search(&[], value!({}), 0, 0).await, all, "the last put first");
    assert_eq!(search(&["users"], value!({}), 2, 1).await, all[1..3]);
    assert_eq!(search(&["users", "ada"], value!({}), 0, 0).await, ["users/ada/a", "users/ada/b"]);
    assert_eq!(search(&["users"], value!({"kind": "note"}), 0, 1).await, ["users/bob/a"]);
    assert_eq!(search(&[], value!({"deep": {"x": [2]}}), 0, 0).await, ["users/bob/a"]);

    assert_eq!(items.namespaces(&[]).await.unwrap(), [ns(&["users"]), ns(&["users", "ada"]), ns(&["users", "bob"])]);
    assert_eq!(items.namespaces(&ns(&["users", "b"])).await.unwrap(), Vec::<Vec<String>>::new());
    for key in ["a", "b", "never there"] {
        items.delete(&ns(&["users", "ada"]), key).await.unwrap();
    }
    assert!(items.get(&ns(&["users", "ada"]), "a").await.unwrap().is_none());
    assert_eq!(items.namespaces(&ns(&["users"])).await.unwrap(), [ns(&["users"]), ns(&["users", "bob"])]);
    for i in 0..12 {
        let key = i.to_string();
        items.put(&ns(&["many"]), &key, object(value!({}))).await.unwrap();
    }
    assert_eq!(search(&["many"], value!({}), 0, 0).await.len(), 10, "unless asked otherwise");
}

pub async fn a_namespace_is_not_its_neighbour(f: Fixture) {
    let items = f.store.items();
    let names: [&[&str]; 7] = [&["a"], &["a", ""], &["ab"], &["a", "b"], &["a\0"], &["a\u{1}"], &["a.b"]];
    for names in names {
        items.put(&ns(names), "k", object(value!({"of": names.join("|")}))).await.unwrap();
    }
    for names in names {
        let item = items.get(&ns(names), "k").await.unwrap().unwrap();
        assert_eq!((item.namespace, item.value), (ns(names), object(value!({"of": names.join("|")}))));
    }
    let under = items.namespaces(&ns(&["a"])).await.unwrap();
    assert_eq!(under, [ns(&["a"]), ns(&["a", ""]), ns(&["a", "b"])]);
}

pub async fn cached_results_live_until_their_time(f: Fixture) {
    let cache = f.store.node_cache();
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
