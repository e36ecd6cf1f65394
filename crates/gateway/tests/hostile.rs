//! Requests that make no sense, to every endpoint: each is answered, in time, and never with a 500.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/http.rs"]
mod http;

use std::{sync::Arc, time::Duration};

use http::Server;
use runloom_gateway::{Options, WebhookClient, WebhookOptions};
use runloom_store_sqlite::{OpenOptions, SqliteStore};
use serde_json::{Value as Json, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

fn fill(path: &str, id: &str) -> String {
    let parts = path.split('/').map(|part| if part.starts_with('{') { id } else { part });
    parts.collect::<Vec<_>>().join("/")
}

#[tokio::test]
async fn every_endpoint_answers_nonsense() {
    let server = Server::start_with(Options { max_body_bytes: 100_000, ..Options::default() }, |core| {
        let webhooks = WebhookClient::new(WebhookOptions::default()).unwrap();
        core.webhooks = Some(std::sync::Arc::new(webhooks));
    })
    .await;
    let (_, api) = server.get("/openapi.json").await;
    let thread = server.thread().await;
    let deep = "[".repeat(20_000) + &"]".repeat(20_000);
    let large = vec![b' '; 200_000];
    let bodies: [&[u8]; 10] =
        [b"", b"{", b"null", b"[]", b"[1]", b"\"x\"", b"\xff\xfe", deep.as_bytes(), b"{\"a\":\"\\ud800\"}", &large];
    let wrong =
        [json!(null), json!(true), json!(-1), json!(1e300), json!("x"), json!([]), json!([null]), json!({"a": null})];
    for (path, ways) in api["paths"].as_object().unwrap() {
        for (method, way) in ways.as_object().unwrap() {
            let method = method.to_uppercase();
            for id in ["x", "%00", "%ff", "00000000-0000-4000-8000-000000000000", &thread] {
                // What reads a thread that is there does not end by itself.
                if path.ends_with("/stream") && method == "GET" && id == thread || method == "DELETE" && id == thread {
                    continue;
                }
                for body in if method == "GET" { &bodies[..1] } else { &bodies[..] } {
                    let mut answer = server.open(&method, &fill(path, id), &[], body).await;
                    answer.rest().await;
                    let (status, told) = (answer.status, serde_json::from_str::<Json>(&answer.text));
                    let what = format!("{method} {path} {id}: {status} {}", answer.text);
                    assert!(status < 500 || status == 501, "{what}");
                    // The event protocol has an envelope of its own.
                    let key = if path.ends_with("/commands") && status == 400 { "message" } else { "detail" };
                    let explains = |told: Json| told[key].is_string() || told["detail"].is_string();
                    assert!(status < 400 || told.is_ok_and(explains), "{what}");
                    let is_read = method != "GET" && body.len() == large.len() && status != 501 && status != 404;
                    assert!(!is_read || status == 413, "{what}");
                }
            }
            let schema =
                way["requestBody"]["content"]["application/json"]["schema"]["$ref"].as_str().unwrap_or_default();
            let schema = &api["components"]["schemas"][schema.rsplit('/').next().unwrap()];
            for field in schema["properties"].as_object().into_iter().flat_map(|p| p.keys()) {
                for value in &wrong {
                    let mut body = json!({"assistant_id": "count", "graph_id": "count", "namespace": ["a"], "key": "k", "value": {}});
                    body[field] = value.clone();
                    let (status, told) = server.json(&method, &fill(path, &thread), body).await;
                    assert!(status < 500, "{method} {path} {field}={value}: {status} {told}");
                }
            }
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn every_way_to_fail_has_its_status() {
    let server = Server::start(Options::default()).await;
    let thread = server.thread().await;
    let none = "00000000-0000-4000-8000-000000000000";
    let run = |body: Json| (format!("/threads/{thread}/runs/wait"), body);
    let cases = [
        (404, format!("/threads/{none}/runs/wait"), json!({"assistant_id": "count"})),
        (422, "/threads/x/runs/wait".into(), json!({"assistant_id": "count"})),
        (404, run(json!({"assistant_id": none})).0, json!({"assistant_id": none})),
        (422, run(json!({})).0, json!({"assistant_id": "nope"})),
        (422, run(json!({})).0, json!({"input": {}})),
        (422, run(json!({})).0, json!({"assistant_id": "count", "stream_mode": "nope"})),
        (
            400,
            run(json!({})).0,
            json!({"assistant_id": "count", "config": {"configurable": {"a": 1}}, "context": {"b": 1}}),
        ),
        (400, "/runs/wait".into(), json!({"assistant_id": "ask", "command": {"resume": 1}})),
        (404, "/assistants".into(), json!({"graph_id": "nope"})),
        (409, "/threads".into(), json!({"thread_id": thread})),
        (400, format!("/threads/{thread}/state"), json!({"values": {"n": 1}})),
        (422, "/runs/crons".into(), json!({})),
        (501, "/runs".into(), json!({"assistant_id": "count", "input": {"n": 0}, "webhook": "https://example.test"})),
    ];
    for (want, path, body) in cases {
        let (status, told) = server.json("POST", &path, body.clone()).await;
        assert_eq!(status, want, "{path} {body}: {told}");
        assert!(told["detail"].is_string());
    }
    let (status, told) = server.get("/store/items?namespace=a.b&key=none").await;
    assert_eq!((status, told), (200, Json::Null));
    server.stop().await;
}

#[tokio::test]
async fn what_is_not_known_or_out_of_bounds_is_refused_by_its_name() {
    let server = Server::start(Options::default()).await;
    let thread = server.thread().await;
    for (path, body, told) in [
        ("/threads/search", json!({"select": ["nope"]}), "select: there is no field `nope`"),
        ("/assistants/search", json!({"select": ["values"]}), "select: there is no field `values`"),
        ("/runs/crons/search", json!({"select": [""]}), "select: there is no field ``"),
        ("/threads", json!({"ttl": 1e18}), "at most 525960000"),
        ("/threads", json!({"ttl": 0}), "more than 0"),
        (
            "/runs/crons",
            json!({"assistant_id": "count", "schedule": "* * * * *", "end_time": "0001-01-01T00:00:00Z"}),
            "end_time: must be a time from 1970 on",
        ),
    ] {
        let (status, answer) = server.json("POST", path, body).await;
        assert_eq!((status, answer["detail"].as_str().is_some_and(|d| d.contains(told))), (422, true), "{answer}");
    }
    let (status, answer) = server.get(&format!("/threads/{thread}/runs?select=nope")).await;
    assert_eq!(status, 422, "{answer}");
    let twice = json!({"thread_ids": [thread, thread], "strategy": "keep_latest"});
    assert_eq!(server.json("POST", "/threads/prune", twice).await.1["pruned_count"], 1);
    server.stop().await;
}

#[tokio::test]
async fn half_open_connections_are_closed_while_others_are_served() {
    let short = Duration::from_millis(300);
    let mut options = Options { body_timeout: short, ..Options::default() };
    options.connections.handshake_timeout = short;
    options.connections.header_timeout = short;
    options.connections.keepalive_interval = Some(short);
    options.connections.keepalive_timeout = short;
    let server = Server::start(options).await;
    let begun: [&[u8]; 6] = [
        b"",
        b"GET /ok HT",
        b"GET /ok HTTP/1.1\r\nhost: x\r\nx-long-header: ",
        b"PRI * HTTP/2.0",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        b"POST /threads HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\ncontent-type: application/json\r\n\r\n{",
    ];
    let mut sockets = Vec::new();
    for bytes in begun {
        for _ in 0..20 {
            let mut socket = TcpStream::connect(server.at).await.unwrap();
            socket.write_all(bytes).await.unwrap();
            sockets.push((bytes, socket));
        }
    }
    assert_eq!(server.get("/ok").await.0, 200);
    for (bytes, mut socket) in sockets {
        let mut answer = Vec::new();
        // A reset is a close as well.
        let _ = tokio::time::timeout(Duration::from_secs(20), socket.read_to_end(&mut answer)).await.unwrap();
        let answer = String::from_utf8_lossy(&answer);
        assert!(!bytes.starts_with(b"POST") || answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
    assert_eq!(server.get("/ok").await.0, 200);
    server.stop().await;
}

#[tokio::test]
async fn event_streams_that_are_not_read_disturb_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(OpenOptions::new(folder.path())).unwrap();
    let server = Server::start_with(Options::default(), |core| core.store = Arc::new(store)).await;
    let thread = server.thread().await;
    let body = json!({"assistant_id": "count", "input": {"n": 0, "max": 400, "ms": 0}, "stream_mode": ["debug", "values"],
        "config": {"recursion_limit": 1000}});
    let (status, run) = server.json("POST", &format!("/threads/{thread}/runs"), body).await;
    assert_eq!(status, 200, "{run}");
    let run = run["run_id"].as_str().unwrap();
    server.get(&format!("/threads/{thread}/runs/{run}/join")).await;
    let mut held = Vec::new();
    for _ in 0..200 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut socket = socket.connect(server.at).await.unwrap();
        let request =
            format!("GET /threads/{thread}/runs/{run}/stream HTTP/1.1\r\nhost: x\r\nlast-event-id: 0\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        // The stream has begun.
        tokio::time::timeout(Duration::from_secs(20), socket.readable()).await.unwrap().unwrap();
        held.push(socket);
    }
    for _ in 0..10 {
        let others = async {
            assert_eq!(server.get(&format!("/threads/{thread}/runs/{run}")).await.0, 200);
            let body = json!({"assistant_id": "count", "input": {"n": 0, "max": 1, "ms": 0}});
            assert_eq!(server.json("POST", "/runs/wait", body).await.0, 200);
        };
        tokio::time::timeout(Duration::from_secs(20), others).await.expect("others wait");
    }
    drop(held);
    server.stop().await;
}

#[tokio::test]
async fn the_first_page_says_where_to_go() {
    let server = Server::start(Options::default()).await;
    let (status, links) = server.get("/").await;
    assert_eq!(status, 200);
    for link in ["docs", "info", "openapi", "health"] {
        let answer = server.open("GET", links[link].as_str().unwrap(), &[], b"").await;
        assert_eq!(answer.status, 200, "{link}");
    }
    server.stop().await;
}

#[tokio::test]
async fn an_update_that_a_route_cannot_follow_is_the_callers_fault() {
    let text = r#"
runloom: v1
name: fork
state: { to: {} }
nodes: { a: { update: { to: state.to } } }
edges:
  - { from: START, to: a }
  - { from: a, route: 'state.to', to: [a, END] }
"#;
    let server = Server::start_with(Options::default(), |core| {
        core.documents.push(("fork.yaml".to_owned(), text.to_owned()));
    })
    .await;
    let thread = server.thread().await;
    let body = json!({"assistant_id": "fork", "input": {"to": "END"}});
    assert_eq!(server.json("POST", &format!("/threads/{thread}/runs/wait"), body).await.0, 200);
    for to in [json!("nowhere"), json!(7), json!({"a": 1})] {
        let update = json!({"values": {"to": to}, "as_node": "a"});
        let (status, told) = server.json("POST", &format!("/threads/{thread}/state"), update).await;
        assert_eq!(status, 422, "{to}: {told}");
    }
    server.stop().await;
}
