//! Every endpoint, called by a tenant on what belongs to another: it answers as if that did not exist.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::{collections::BTreeSet, time::Duration};

use http::{Request, StatusCode};
use http_body_util::BodyExt;
use runloom_core::Session;
use runloom_gateway::{Options, router};
use runloom_testing::tenants::{Ids, World, fill, plain};
use serde_json::{Value as Json, json};
use tower::ServiceExt;

/// A call: the method and the path as the API describes them, what follows the path, and the body.
type Call = (&'static str, &'static str, &'static str, Json);

/// Every endpoint, on what is A's. `{thread_id}`, `{run_id}` and so on stand for A's, and `$THREAD` in bodies.
fn calls() -> Vec<Call> {
    let run = || json!({"assistant_id": "$ASSISTANT", "input": {"q": 1}});
    let cron = || json!({"assistant_id": "echo", "schedule": "0 0 1 1 *", "input": {"q": 1}});
    let item = || json!({"namespace": ["ns"], "key": "key", "value": {"x": "b"}});
    let none = || Json::Null;
    vec![
        ("post", "/assistants", "", json!({"assistant_id": "$ASSISTANT", "graph_id": "echo"})),
        ("post", "/assistants/search", "", json!({})),
        ("post", "/assistants/count", "", json!({})),
        ("get", "/assistants/{assistant_id}", "", none()),
        ("patch", "/assistants/{assistant_id}", "", json!({"name": "b"})),
        ("delete", "/assistants/{assistant_id}", "?delete_threads=true", none()),
        ("get", "/assistants/{assistant_id}/graph", "", none()),
        ("get", "/assistants/{assistant_id}/schemas", "", none()),
        ("get", "/assistants/{assistant_id}/subgraphs", "", none()),
        ("get", "/assistants/{assistant_id}/subgraphs/{namespace}", "", none()),
        ("post", "/assistants/{assistant_id}/versions", "", json!({})),
        ("post", "/assistants/{assistant_id}/latest", "", json!({"version": 1})),
        ("post", "/threads", "", json!({"thread_id": "$THREAD"})),
        ("post", "/threads/search", "", json!({"ids": ["$THREAD"]})),
        ("post", "/threads/count", "", json!({})),
        ("post", "/threads/prune", "", json!({"thread_ids": ["$THREAD"]})),
        ("get", "/threads/{thread_id}", "?include=ttl", none()),
        ("patch", "/threads/{thread_id}", "", json!({"metadata": {"b": 1}})),
        ("delete", "/threads/{thread_id}", "", none()),
        ("get", "/threads/{thread_id}/state", "", none()),
        ("post", "/threads/{thread_id}/state", "", json!({"values": {"a": 1}, "as_node": "say"})),
        ("get", "/threads/{thread_id}/state/{checkpoint_id}", "", none()),
        ("post", "/threads/{thread_id}/state/checkpoint", "", json!({"checkpoint": {"checkpoint_id": "$CHECKPOINT"}})),
        ("get", "/threads/{thread_id}/history", "", none()),
        ("post", "/threads/{thread_id}/history", "", json!({})),
        ("post", "/threads/{thread_id}/copy", "", json!({})),
        ("get", "/threads/{thread_id}/storage", "", none()),
        ("get", "/threads/{thread_id}/stream", "", none()),
        (
            "post",
            "/threads/{thread_id}/commands",
            "",
            json!({"id": 1, "method": "state.get", "params": {"namespace": []}}),
        ),
        ("post", "/threads/{thread_id}/stream/events", "", json!({"channels": ["lifecycle"], "since": 0})),
        ("get", "/threads/{thread_id}/stream/events", "", none()),
        ("post", "/threads/{thread_id}/runs", "", run()),
        ("post", "/threads/{thread_id}/runs/stream", "", run()),
        ("post", "/threads/{thread_id}/runs/wait", "", run()),
        ("get", "/threads/{thread_id}/runs", "", none()),
        ("get", "/threads/{thread_id}/runs/{run_id}", "", none()),
        ("delete", "/threads/{thread_id}/runs/{run_id}", "", none()),
        ("get", "/threads/{thread_id}/runs/{run_id}/join", "", none()),
        ("get", "/threads/{thread_id}/runs/{run_id}/stream", "", none()),
        ("post", "/threads/{thread_id}/runs/{run_id}/cancel", "?wait=true", none()),
        ("post", "/runs", "", run()),
        ("post", "/runs/stream", "", run()),
        ("post", "/runs/wait", "", run()),
        ("post", "/runs/batch", "", json!([run()])),
        ("post", "/runs/cancel", "", json!({"thread_id": "$THREAD", "run_ids": ["$RUN"]})),
        ("get", "/runs/{run_id}/stream", "", none()),
        ("post", "/runs/crons", "", json!({"assistant_id": "$ASSISTANT", "schedule": "0 0 1 1 *", "input": {"q": 1}})),
        ("post", "/runs/crons/search", "", json!({})),
        ("post", "/runs/crons/count", "", json!({})),
        ("get", "/runs/crons/{cron_id}", "", none()),
        ("patch", "/runs/crons/{cron_id}", "", json!({"enabled": false})),
        ("delete", "/runs/crons/{cron_id}", "", none()),
        ("post", "/threads/{thread_id}/runs/crons", "", cron()),
        ("put", "/store/items", "", item()),
        ("get", "/store/items", "?namespace=ns&key=key", none()),
        ("delete", "/store/items", "", json!({"namespace": ["ns"], "key": "key"})),
        ("post", "/store/items/search", "", json!({"namespace_prefix": []})),
        ("post", "/store/namespaces", "", json!({})),
        ("get", "/threads/{thread_id}/runs/{run_id}/events", "", none()),
        ("get", "/ws/threads/{thread_id}", "", none()),
    ]
}

/// Endpoints that answer the same whether there was something or not. The WebSocket of the event protocol opens for any
/// thread, for one can follow a thread before it is created; what it sends is that of `POST .../stream/events`.
const BLIND: [(&str, &str); 3] =
    [("put", "/store/items"), ("delete", "/store/items"), ("get", "/threads/{thread_id}/stream/events")];
/// Endpoints about the server, which has no tenant.
const SERVER: [(&str, &str); 6] =
    [("get", "/"), ("get", "/ok"), ("get", "/info"), ("get", "/metrics"), ("get", "/openapi.json"), ("get", "/docs")];

fn named(text: &str, ids: &Ids) -> String {
    let all = [
        ("thread_id", "$THREAD", ids.thread.to_string()),
        ("run_id", "$RUN", ids.run.id.to_string()),
        ("assistant_id", "$ASSISTANT", ids.assistant.to_string()),
        ("cron_id", "$CRON", ids.cron.to_string()),
        ("checkpoint_id", "$CHECKPOINT", ids.checkpoint.to_string()),
        ("namespace", "$NAMESPACE", "say".to_owned()),
    ];
    all.iter()
        .fold(text.to_owned(), |text, (param, name, id)| text.replace(&format!("{{{param}}}"), id).replace(name, id))
}

/// The status and what the body has at once.
async fn answer(session: &Session, (method, path, query, body): &Call, ids: &Ids) -> (StatusCode, String) {
    let options = Options { caller: session.caller().clone(), ..Options::default() };
    let body = if body.is_null() { String::new() } else { named(&body.to_string(), ids) };
    let request = Request::builder()
        .method(method.to_uppercase().as_str())
        .uri(format!("{}{query}", named(path, ids)))
        .header("content-type", "application/json")
        .body(axum::body::Body::from(body))
        .unwrap();
    let response = router(session.core(), options).oneshot(request).await.unwrap();
    let status = response.status();
    let (mut body, mut bytes) = (response.into_body(), Vec::new());
    while let Ok(Some(Ok(frame))) = tokio::time::timeout(Duration::from_millis(100), body.frame()).await {
        bytes.extend(frame.into_data().unwrap_or_default());
    }
    (status, plain(&String::from_utf8_lossy(&bytes), ids))
}

// G39
#[tokio::test]
async fn every_endpoint_answers_as_if_the_objects_of_another_tenant_did_not_exist() {
    for call in calls() {
        let name = (call.0, call.1);
        let (with, without) = (World::new().await, World::new().await);
        let ids = fill(&with.a).await;
        let (there, not_there) = (answer(&with.b, &call, &ids).await, answer(&without.b, &call, &ids).await);
        assert_eq!(there, not_there, "{name:?} shows B something of A's");
        let (mine, none) = (answer(&with.a, &call, &ids).await, answer(&without.a, &call, &ids).await);
        assert_ne!(mine.0, StatusCode::UNPROCESSABLE_ENTITY, "{name:?}: {}", mine.1);
        if !BLIND.contains(&name) {
            assert_ne!(mine, none, "{name:?} does not look at what is A's");
        }
    }
}

#[tokio::test]
async fn every_endpoint_is_called() {
    let session = World::new().await.a;
    let ids = fill(&session).await;
    let description = answer(&session, &("get", "/openapi.json", "", Json::Null), &ids).await.1;
    let description: Json = serde_json::from_str(&description).unwrap();
    let mut found = BTreeSet::new();
    for (path, methods) in description["paths"].as_object().unwrap() {
        found.extend(methods.as_object().unwrap().keys().map(|method| (method.clone(), path.clone())));
    }
    let called = calls().into_iter().map(|call| (call.0, call.1)).chain(SERVER);
    let called: BTreeSet<_> = called.map(|(method, path)| (method.to_owned(), path.to_owned())).collect();
    assert_eq!(found, called, "list each endpoint in this test, with a call on what is A's");
}
