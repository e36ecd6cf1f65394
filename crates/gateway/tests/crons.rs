//! Crons over HTTP, as LangGraph's clients call them.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/http.rs"]
mod http;

use std::time::Duration;

use http::{Server, count};
use runloom_gateway::Options;
use serde_json::{Value as Json, json};

#[tokio::test]
async fn crons_are_made_shown_changed_found_and_deleted() {
    let server = Server::start(Options::default()).await;
    let thread = server.thread().await;
    let body = json!({
        "assistant_id": "count", "schedule": "0 9 * * 1", "timezone": "Europe/Vienna", "input": count(1, 0),
        "metadata": {"team": "red"}, "config": {"tags": ["t"], "configurable": {"x": 1}}, "enabled": true,
        "on_run_completed": "keep", "stream_mode": ["updates"], "interrupt_before": ["tick"], "durability": "sync",
        "end_time": "2999-01-01T00:00:00",
    });
    let (status, made) = server.json("POST", "/runs/crons", body).await;
    assert_eq!(status, 200, "{made}");
    assert_eq!((&made["thread_id"], &made["on_run_completed"]), (&Json::Null, &json!("keep")));
    assert_eq!((&made["schedule"], &made["timezone"]), (&json!("0 9 * * 1"), &json!("Europe/Vienna")));
    assert_eq!((&made["enabled"], &made["metadata"]), (&json!(true), &json!({"team": "red"})));
    assert_eq!(made["end_time"], "2999-01-01T00:00:00.000000+00:00");
    assert!(made["next_run_date"].as_str().unwrap().contains(":00:00.000000+00:00"));
    let payload = &made["payload"];
    assert_eq!((&payload["input"]["max"], &payload["stream_mode"]), (&json!(1), &json!(["updates"])));
    assert_eq!(payload["config"]["configurable"], json!({"x": 1, "cron_id": made["cron_id"]}));
    assert_eq!((&payload["interrupt_before"], &payload["durability"]), (&json!(["tick"]), &json!("sync")));
    assert_eq!(payload["metadata"], json!({"team": "red"}));
    let id = made["cron_id"].as_str().unwrap().to_owned();
    let path = format!("/runs/crons/{id}");
    assert_eq!(server.get(&path).await, (200, made.clone()));

    let (_, changed) = server.json("PATCH", &path, json!({"input": count(3, 0), "metadata": {"n": 1}})).await;
    assert_eq!(changed["payload"]["input"]["max"], 3, "{changed}");
    assert_eq!(changed["metadata"], json!({"team": "red", "n": 1}));
    for kept in ["stream_mode", "config", "interrupt_before", "durability"] {
        assert_eq!(changed["payload"][kept], made["payload"][kept], "{kept}");
    }
    assert_eq!((&changed["next_run_date"], &changed["schedule"]), (&made["next_run_date"], &made["schedule"]));
    let patch = json!({
        "schedule": "0 0 1 1 *", "timezone": "UTC", "end_time": null, "enabled": false, "on_run_completed": "delete",
        "webhook": null, "stream_mode": "values", "config": {"configurable": {"y": 2}},
    });
    let (_, changed) = server.json("PATCH", &path, patch).await;
    assert_eq!((&changed["end_time"], &changed["enabled"]), (&Json::Null, &json!(false)), "{changed}");
    assert!(changed["next_run_date"].as_str().unwrap().contains("-01-01T00:00:00"));
    assert_eq!(changed["payload"]["config"]["configurable"], json!({"y": 2, "cron_id": id}));
    assert_eq!(changed["payload"]["stream_mode"], json!("values"), "in the words that it was asked in");
    assert_eq!(changed["payload"]["input"]["max"], 3);

    let on_thread = format!("/threads/{thread}/runs/crons");
    let body = json!({"assistant_id": "count", "schedule": "@daily", "multitask_strategy": "reject"});
    let (status, other) = server.json("POST", &on_thread, body).await;
    assert_eq!((status, &other["thread_id"]), (200, &json!(thread)), "{other}");
    assert_eq!((&other["on_run_completed"], &other["payload"]["multitask_strategy"]), (&Json::Null, &json!("reject")));

    let mut found = server.open("POST", "/runs/crons/search", &[], br#"{"limit": 1}"#).await;
    assert_eq!((found.header("x-pagination-total"), found.header("x-pagination-next")), (Some("2"), Some("1")));
    let newest: Json = serde_json::from_str(&found.rest().await).unwrap();
    assert_eq!(newest[0]["cron_id"], other["cron_id"], "the newest first");
    let search = async |body: Json| server.json("POST", "/runs/crons/search", body).await.1;
    let found = search(json!({"enabled": false, "select": ["cron_id", "schedule"]})).await;
    assert_eq!(found, json!([{"cron_id": id, "schedule": "0 0 1 1 *"}]));
    let found = search(json!({"thread_id": thread, "assistant_id": other["assistant_id"]})).await;
    assert_eq!(found.as_array().unwrap().len(), 1);
    let found = search(json!({"sort_by": "next_run_date", "sort_order": "asc", "metadata": {"n": 1}})).await;
    assert_eq!(found[0]["cron_id"], json!(id));
    assert_eq!(server.json("POST", "/runs/crons/count", json!({})).await, (200, json!(2)));
    assert_eq!(server.json("POST", "/runs/crons/count", json!({"metadata": {"n": 2}})).await.1, json!(0));

    assert_eq!(server.json("DELETE", &path, Json::Null).await.0, 204);
    assert_eq!(server.json("DELETE", &path, Json::Null).await.0, 404);
    assert_eq!(server.get(&path).await.0, 404);
    server.stop().await;
}

#[tokio::test]
async fn what_cannot_be_a_cron_is_refused() {
    let server = Server::start(Options::default()).await;
    let with = |key: &str, value: Json| {
        let mut body = json!({"assistant_id": "count", "schedule": "* * * * *", "input": count(1, 0)});
        body[key] = value;
        body
    };
    for (key, value) in [
        ("schedule", json!("every day")),
        ("schedule", Json::Null),
        ("timezone", json!("Mars/Olympus")),
        ("end_time", json!("tomorrow")),
        ("assistant_id", json!("nothing")),
        ("on_run_completed", json!("burn")),
        ("enabled", json!("yes")),
        ("input", json!({"n": "x"})),
        ("webhook", json!("http://localhost/x")),
    ] {
        let (status, told) = server.json("POST", "/runs/crons", with(key, value)).await;
        let expected = match key {
            "webhook" => 501,
            "assistant_id" => 404,
            _ => 422,
        };
        assert_eq!(status, expected, "{key}: {told}");
    }
    let nowhere = "/threads/00000000-0000-0000-0000-000000000001/runs/crons";
    assert_eq!(server.json("POST", nowhere, with("enabled", json!(true))).await.0, 404);
    let (_, made) = server.json("POST", "/runs/crons", with("enabled", json!(false))).await;
    let path = format!("/runs/crons/{}", made["cron_id"].as_str().unwrap());
    assert_eq!(server.json("PATCH", &path, json!({})).await.0, 400);
    assert_eq!(server.json("PATCH", &path, json!({"schedule": "x"})).await.0, 422);
    assert_eq!(server.json("PATCH", &path, json!({"input": {"n": "x"}})).await.0, 422);
    assert_eq!(server.json("PATCH", "/runs/crons/x", json!({"enabled": true})).await.0, 422);
    assert_eq!(server.get(&path).await.1, made, "a refused change changed something");
    server.stop().await;
}

#[tokio::test]
async fn a_cron_runs_on_its_thread() {
    let server = Server::start(Options::default()).await;
    let thread = server.thread().await;
    let body = json!({
        "assistant_id": "count", "schedule": "* * * * * *", "input": count(2, 0), "metadata": {"team": "red"},
    });
    let (_, made) = server.json("POST", &format!("/threads/{thread}/runs/crons"), body).await;
    let fired = async {
        loop {
            let (_, runs) = server.get(&format!("/threads/{thread}/runs")).await;
            match runs.as_array().unwrap().last() {
                Some(run) => return run.clone(),
                None => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    let run = tokio::time::timeout(Duration::from_secs(10), fired).await.expect("it does not fire");
    assert_eq!(run["metadata"]["team"], "red");
    assert_eq!(run["kwargs"]["config"]["configurable"]["cron_id"], made["cron_id"]);
    let (_, joined) = server.get(&format!("/threads/{thread}/runs/{}/join", run["run_id"].as_str().unwrap())).await;
    assert_eq!(joined["n"], 2);
    server.stop().await;
}
