//! Items: what nodes put is what faces get, and what was put for a time goes by itself.

use runloom_core::engine::items::{ItemQuery, NamespaceQuery};

use super::*;

on_every_store!(nodes_and_faces_have_the_same_items, an_item_is_swept_when_its_time_is_over, wrong_items_are_refused);

fn ns(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// A graph that counts its runs in an item.
fn counting() -> Graph {
    let count = node(|_: StateView, ctx: runloom_core::engine::Context| async move {
        let items = ctx.items().expect("a server has items").clone();
        let place = ns(&["counts"]);
        let before = items.get(&place, "n").await.unwrap();
        let n = before.and_then(|item| item.value.get("n").and_then(Value::as_i64)).unwrap_or(0) + 1;
        items.put_for(&place, "n", object(value!({"n": n})), Some(Duration::from_secs(3600))).await.unwrap();
        Ok(Update::new().set("n", n))
    });
    let mut graph = GraphBuilder::new("counting");
    graph.add_channel(ChannelSpec::new("n"));
    graph.add_node("count", count);
    graph.add_edge(START, "count");
    graph.compile().unwrap()
}

async fn nodes_and_faces_have_the_same_items(store: Arc<dyn Store>) {
    let graphs = vec![("counting".to_owned(), counting())];
    let core = Core::start(CoreOptions { graphs, ..CoreOptions::new(store) }).await.unwrap().session(Caller::default());
    let place = ns(&["counts"]);
    core.put_item(&place, "n", object(value!({"n": 41})), None).await.unwrap();
    let values = run(&core, request(None, "counting", Start::Input(value!({"n": 0})))).await;
    assert_eq!(values.get("n"), Some(&Value::Int(42)));
    let item = core.get_item(&place, "n", false).await.unwrap().unwrap();
    assert_eq!(item.value, object(value!({"n": 42})));
    assert!(item.expires_at.is_some());
    let found = core.search_items(ItemQuery { filter: object(value!({"n": {"$gt": 41}})), ..Default::default() }).await;
    assert_eq!(found.unwrap().len(), 1);
    assert_eq!(core.list_namespaces(NamespaceQuery::default()).await.unwrap(), std::slice::from_ref(&place));
    core.delete_item(&place, "n").await.unwrap();
    assert_eq!(core.get_item(&place, "n", false).await.unwrap(), None);
}

async fn an_item_is_swept_when_its_time_is_over(store: Arc<dyn Store>) {
    // One from before the start, that waits for its time; one put after, which is sooner.
    let long = Duration::from_millis(400);
    store
        .items(&runloom_store::TenantId::default())
        .put_for(&ns(&["a"]), "old", object(value!({})), Some(long))
        .await
        .unwrap();
    let core = start(store.clone(), all()).await;
    let since = std::time::Instant::now();
    core.put_item(&ns(&["a"]), "new", object(value!({})), Some(Duration::from_millis(50))).await.unwrap();
    assert!(core.get_item(&ns(&["a"]), "new", false).await.unwrap().is_some());
    let first = store.next_item_expiry().await.unwrap();
    let swept = async {
        while store.next_item_expiry().await.unwrap() == first {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let at = since.elapsed();
        while store.next_item_expiry().await.unwrap().is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        at
    };
    let first = tokio::time::timeout(Duration::from_secs(10), swept).await.expect("nothing was swept");
    assert!(first < long, "the sooner one waited for the later one: {first:?}");
}

async fn wrong_items_are_refused(store: Arc<dyn Store>) {
    let core = start(store, all()).await;
    let put = async |names: &[&str], key: &str, ttl| {
        let put = core.put_item(&ns(names), key, object(value!({})), ttl).await;
        let error = put.unwrap_err();
        assert_eq!(error.reason, Reason::FieldInvalid);
        error.fields[0].0.clone()
    };
    assert_eq!(put(&[], "k", None).await, "namespace");
    assert_eq!(put(&["a", ""], "k", None).await, "namespace[1]");
    assert_eq!(put(&["a.b"], "k", None).await, "namespace[0]");
    assert_eq!(put(&["a"], "", None).await, "key");
    assert_eq!(put(&["a"], "k", Some(Duration::ZERO)).await, "ttl");
    assert_eq!(put(&["a"], "k", Some(Duration::MAX)).await, "ttl");
    let query = ItemQuery { filter: object(value!({"a": {"$near": 1}})), ..Default::default() };
    assert_eq!(named(&core.search_items(query).await.unwrap_err()), (Reason::FieldInvalid, vec!["filter"]));
    let large = object(value!({"x": "y".repeat(17 << 20)}));
    assert_eq!(core.put_item(&ns(&["a"]), "k", large, None).await.unwrap_err().reason, Reason::InputTooLarge);
}
