//! What a request for a run may say beside its input, each over HTTP.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/http.rs"]
mod http;

use std::time::{Duration, Instant};

use http::{Server, count};
use runloom_gateway::Options;
use serde_json::{Value as Json, json};

fn run(more: Json) -> Json {
    let mut body = json!({"assistant_id": "count", "input": count(2, 0)});
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

#[tokio::test]
async fn a_stateless_run_keeps_its_thread_or_not_as_on_completion_says() {
    let server = Server::start_with(Options::default(), |core| core.stateless_ttl = Duration::ZERO).await;
    for (word, is_kept) in [(json!("keep"), true), (json!("delete"), false), (Json::Null, false)] {
        let (status, made) = server.json("POST", "/runs", run(json!({"on_completion": word}))).await;
        assert_eq!(status, 200, "{made}");
        let thread = made["thread_id"].as_str().unwrap();
        assert_eq!(made["kwargs"]["temporary"], !is_kept);
        server.get(&format!("/threads/{thread}/runs/{}/join", made["run_id"].as_str().unwrap())).await;
        let (_, listed) = server.json("POST", "/threads/search", json!({"ids": [thread]})).await;
        assert_eq!(listed.as_array().unwrap().len(), usize::from(is_kept), "{word}");
        server.core.store().sweep(std::time::SystemTime::now(), 99).await.unwrap();
        let (status, state) = server.get(&format!("/threads/{thread}/state")).await;
        assert_eq!(
            (status, state["values"]["n"].as_i64()),
            if is_kept { (200, Some(2)) } else { (404, None) },
            "{word}"
        );
    }
    for path in ["/runs/wait", "/runs/stream"] {
        let mut answer =
            server.open("POST", path, &[], run(json!({"on_completion": "keep"})).to_string().as_bytes()).await;
        answer.rest().await;
        let place = answer.header("content-location").unwrap();
        let thread = place.split('/').nth(2).unwrap();
        assert_eq!(server.get(&format!("/threads/{thread}/state")).await.1["values"]["n"], 2, "{path}");
    }
    let (status, batch) = server.json("POST", "/runs/batch", json!([run(json!({"on_completion": "keep"}))])).await;
    assert_eq!((status, &batch[0]["kwargs"]["temporary"]), (200, &json!(false)));
    assert_eq!(server.json("POST", "/runs", run(json!({"on_completion": "burn"}))).await.0, 422);
    server.stop().await;
}

#[tokio::test]
async fn a_batch_is_made_whole_or_not_at_all() {
    let server = Server::start(Options::default()).await;
    let made = async || server.json("POST", "/threads/count", json!({})).await.1;
    let before = made().await;
    for (wrong, told) in [
        (json!({"assistant_id": "nobody"}), "[1]: Invalid assistant"),
        (json!({"durability": "never"}), "[1]: durability"),
        (json!({"command": {"resume": 1}}), "[1]: You must provide"),
        (json!({"input": {"n": "many"}}), "[1]: "),
        (json!({"interrupt_before": ["nobody"]}), "[1]: "),
    ] {
        let batch = json!([run(json!({})), run(wrong), run(json!({}))]);
        let (status, answer) = server.json("POST", "/runs/batch", batch).await;
        assert!([400, 422].contains(&status), "{status}");
        assert!(answer["detail"].as_str().unwrap().starts_with(told), "{answer}");
    }
    assert_eq!(made().await, before, "a run was made");
    let keep = json!({"on_completion": "keep"});
    let (status, batch) = server.json("POST", "/runs/batch", json!([run(keep.clone()), run(keep)])).await;
    assert_eq!((status, batch.as_array().unwrap().len()), (200, 2));
    assert_eq!(made().await, before.as_i64().unwrap() + 2);
    server.stop().await;
}

#[tokio::test]
async fn a_run_begins_after_its_seconds() {
    let server = Server::start(Options::default()).await;
    let thread = server.thread().await;
    let since = Instant::now();
    let path = format!("/threads/{thread}/runs/wait");
    assert_eq!(server.json("POST", &path, run(json!({"after_seconds": 0.4}))).await.1["n"], 2);
    assert!(since.elapsed() >= Duration::from_millis(400), "{:?}", since.elapsed());
    let (_, made) = server.json("POST", "/runs", run(json!({"after_seconds": 3600}))).await;
    assert_eq!(made["status"], "pending");
    // It does not stand in the way of one without.
    let waits = run(json!({"after_seconds": 3600}));
    server.json("POST", &format!("/threads/{thread}/runs"), waits).await;
    let at_once = run(json!({"multitask_strategy": "reject"}));
    assert_eq!(server.json("POST", &path, at_once).await.1["n"], 2);
    for wrong in [json!(-1), json!("1"), json!(1e12)] {
        assert_eq!(server.json("POST", "/runs", run(json!({"after_seconds": wrong}))).await.0, 422);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_thread_that_is_not_there_is_made_if_that_is_asked_for() {
    let server = Server::start(Options::default()).await;
    let thread = uuid::Uuid::new_v4();
    for word in [json!("reject"), Json::Null] {
        let body = run(json!({"if_not_exists": word}));
        assert_eq!(server.json("POST", &format!("/threads/{thread}/runs/wait"), body).await.0, 404);
    }
    for _ in 0..2 {
        let body = run(json!({"if_not_exists": "create"}));
        assert_eq!(server.json("POST", &format!("/threads/{thread}/runs/wait"), body).await.1["n"], 2);
    }
    assert_eq!(server.get(&format!("/threads/{thread}")).await.1["metadata"]["graph_id"], "count");
    server.stop().await;
}

#[tokio::test]
async fn feedback_keys_and_durability_are_taken_and_shown() {
    let server = Server::start(Options::default()).await;
    let thread = server.thread().await;
    for (given, shown) in [
        (json!({"durability": "sync"}), "sync"),
        (json!({"durability": "async"}), "async"),
        (json!({"durability": "exit"}), "exit"),
        (json!({"checkpoint_during": false}), "exit"),
        (json!({"checkpoint_during": true}), "async"),
        (json!({}), "async"),
    ] {
        let mut body = run(given);
        body["feedback_keys"] = json!(["good"]);
        let (status, made) = server.json("POST", &format!("/threads/{thread}/runs"), body).await;
        assert_eq!((status, &made["kwargs"]["durability"]), (200, &json!(shown)), "{made}");
        assert_eq!(made["kwargs"]["feedback_keys"], json!(["good"]));
        let before = server.get(&format!("/threads/{thread}/history?limit=1000")).await.1;
        let (_, joined) =
            server.get(&format!("/threads/{thread}/runs/{}/join", made["run_id"].as_str().unwrap())).await;
        assert_eq!(joined["n"], 2, "{before}");
        // With `exit` only the end is kept.
        let (_, history) = server.get(&format!("/threads/{thread}/history?limit=1000")).await;
        let of_run = |state: &&Json| state["metadata"]["run_id"] == made["run_id"];
        let kept = history.as_array().unwrap().iter().filter(of_run).count();
        assert_eq!(kept == 1, shown == "exit", "{shown}: {kept} checkpoints");
    }
    assert_eq!(server.json("POST", "/runs", run(json!({"durability": "never"}))).await.0, 422);
    server.stop().await;
}

#[tokio::test]
async fn a_thread_goes_after_its_ttl_or_loses_its_old_checkpoints() {
    let server = Server::start(Options::default()).await;
    // 300 ms, in minutes.
    let (status, goes) = server.json("POST", "/threads", json!({"ttl": {"ttl": 0.005}})).await;
    assert_eq!(status, 200, "{goes}");
    let goes = format!("/threads/{}", goes["thread_id"].as_str().unwrap());
    let (_, told) = server.get(&format!("{goes}?include=ttl")).await;
    assert_eq!(told["ttl"]["strategy"], "delete");
    assert!(told["ttl"]["ttl_minutes"].as_f64().unwrap() <= 0.005);
    let since = Instant::now();
    let kept = format!("/threads/{}", server.thread().await);
    server.json("POST", &format!("{kept}/runs/wait"), run(json!({}))).await;
    let history = async || server.get(&format!("{kept}/history?limit=100")).await.1.as_array().unwrap().len();
    assert!(history().await > 1);
    let patch = json!({"ttl": {"ttl": 0.005, "strategy": "keep_latest"}});
    assert_eq!(server.json("PATCH", &kept, patch).await.0, 200);
    // One whose run is under way goes when that is over.
    let busy = format!("/threads/{}", server.thread().await);
    let mut slow = run(json!({}));
    slow["input"] = count(1, 600);
    server.json("POST", &format!("{busy}/runs"), slow).await;
    server.json("PATCH", &busy, json!({"ttl": 0.001})).await;

    let gone = async {
        while server.get(&goes).await.0 != 404 || history().await != 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(since.elapsed() >= Duration::from_millis(300), "they went too early");
        assert_eq!(server.get(&busy).await.1["status"], "busy");
        while server.get(&busy).await.0 != 404 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.expect("they do not go");
    assert_eq!(server.get(&format!("{kept}/state")).await.1["values"]["n"], 2);
    assert_eq!(server.get(&format!("{kept}?include=ttl")).await.1["ttl"], Json::Null);
    for wrong in [json!(0), json!("x"), json!({"ttl": -1}), json!({"ttl": 1, "strategy": "burn"})] {
        assert_eq!(server.json("POST", "/threads", json!({"ttl": wrong})).await.0, 422);
    }
    server.stop().await;
}
