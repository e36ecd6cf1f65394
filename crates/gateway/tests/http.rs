//! LangGraph's API over real sockets: what its clients look at beside the data, byte by byte.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/http.rs"]
mod http;

use std::{collections::HashSet, io::Write, time::Duration};

use http::{Server, count, parse};
use runloom_gateway::{Cors, Options};
use serde_json::{Value as Json, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn hello() -> Json {
    json!({"messages": [{"role": "human", "content": "hi"}]})
}

#[tokio::test]
async fn a_stream_can_be_taken_up_at_every_event() {
    let server = Server::start(Options::default()).await;
    let thread = server.thread().await;
    let modes = json!(["values", "messages", "messages-tuple", "updates", "debug", "events"]);
    let body = json!({"assistant_id": "chat", "input": hello(), "stream_mode": modes});
    let path = format!("/threads/{thread}/runs/stream");
    let mut answer = server.open("POST", &path, &[], body.to_string().as_bytes()).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("text/event-stream; charset=utf-8"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("x-accel-buffering"), Some("no"));
    let place = answer.header("content-location").unwrap().to_owned();
    assert_eq!(answer.header("location").unwrap(), format!("{place}/stream"));
    let all = answer.events().await;
    assert_eq!((all[0].name.as_str(), all.last().unwrap().name.as_str()), ("metadata", "end"));
    let ids: HashSet<_> = all.iter().map(|e| &e.id).collect();
    assert_eq!(ids.len(), all.len(), "an id comes twice");
    assert!(ids.iter().any(|id| id.contains('.')), "no record became several events");
    let whole = all.iter().rfind(|e| e.name == "messages/partial").unwrap();
    assert_eq!(whole.data[0]["content"], "Hello from a scripted model");

    let stream = format!("{place}/stream");
    for from in ["-1", "0"] {
        let again = server.open("GET", &stream, &[("last-event-id", from)], b"").await.events().await;
        assert_eq!(again, all, "from {from}");
    }
    for (i, event) in all.iter().enumerate().take(all.len() - 1) {
        let rest = server.open("GET", &stream, &[("last-event-id", &event.id)], b"").await.events().await;
        assert_eq!(rest, all[i + 1..], "after {}", event.id);
    }
    // A reader of fewer modes is told the same ids, and where to go on as it reads.
    for modes in ["messages", "messages-tuple&stream_mode=updates", "debug", "values,messages"] {
        let filtered = format!("{stream}?last_event_id=0&stream_mode={modes}&exclude_name=nobody");
        let mut answer = server.open("GET", &filtered, &[], b"").await;
        let then = answer.header("location").unwrap().to_owned();
        assert_eq!(then, format!("{stream}?stream_mode={modes}&exclude_name=nobody"));
        let some = answer.events().await;
        assert!(some.len() > 2, "{modes}");
        assert!(some.iter().all(|told| all.contains(told)), "{modes}: {some:?}");
        for (i, event) in some.iter().enumerate().take(some.len() - 1) {
            let rest = server.open("GET", &then, &[("last-event-id", &event.id)], b"").await.events().await;
            assert_eq!(rest, some[i + 1..], "{modes}, after {}", event.id);
        }
    }
    // Fewer modes, in any spelling; those that the run does not have tell nothing.
    for query in ["stream_mode=updates&stream_mode=custom", "stream_mode=updates,tasks", "stream_mode[]=updates"] {
        let some = server.open("GET", &format!("{stream}?{query}"), &[], b"").await.events().await;
        let names: HashSet<_> = some.iter().map(|e| e.name.as_str()).filter(|n| *n != "tasks").collect();
        assert_eq!(names, HashSet::from(["updates", "end"]), "{query}");
    }
    let filtered = format!("{stream}?stream_mode=events&kind=on_chat_model_stream");
    let some = server.open("GET", &filtered, &[], b"").await.events().await;
    let text: String = some.iter().filter_map(|e| e.data["data"]["chunk"]["content"].as_str()).collect();
    assert_eq!(text, "Hello from a scripted model");
    server.stop().await;
}

#[tokio::test]
async fn a_stream_is_compressed_for_who_takes_it_piece_by_piece() {
    fn read(bytes: &[u8]) -> String {
        let (mut text, mut decoder) = (Vec::new(), flate2::write::GzDecoder::new(Vec::new()));
        // What has come so far can be read, though the end has not.
        decoder.write_all(bytes).unwrap();
        decoder.flush().unwrap();
        text.extend_from_slice(decoder.get_ref());
        String::from_utf8(text).unwrap()
    }
    let server = Server::start(Options { compressed_streams: 1, ..Options::default() }).await;
    let thread = server.thread().await;
    let path = format!("/threads/{thread}/runs/stream");
    let gzip = [("accept-encoding", "gzip, deflate")];
    let body = json!({"assistant_id": "count", "input": count(2, 400), "stream_mode": ["values", "debug"]}).to_string();
    let mut squeezed = server.open("POST", &path, &gzip, body.as_bytes()).await;
    assert_eq!((squeezed.status, squeezed.header("content-encoding")), (200, Some("gzip")));
    assert!(squeezed.header("vary").unwrap().contains("accept-encoding"));
    let first = squeezed.bytes(|bytes| read(bytes).contains("event: values")).await;
    assert!(!read(&first).contains("event: end"), "it came as a whole");
    // There is room for one: the next is sent as it is.
    let place = squeezed.header("location").unwrap().to_owned();
    let from = [gzip[0], ("last-event-id", "0")];
    let mut plain = server.open("GET", &place, &from, b"").await;
    assert_eq!(plain.header("content-encoding"), None);
    let plain = plain.rest().await;
    let whole = squeezed.bytes(|_| false).await;
    assert_eq!(parse(&read(&whole)), parse(&plain));
    assert!(whole.len() * 3 < plain.len(), "{} of {} bytes", whole.len(), plain.len());
    drop(squeezed);
    assert_eq!(
        server.open("GET", &place, &[("accept-encoding", "gzip;q=0")], b"").await.header("content-encoding"),
        None
    );
    server.stop().await;
}

#[tokio::test]
async fn what_is_silent_says_that_it_is_there() {
    let server = Server::start(Options { heartbeat: Duration::from_millis(50), ..Options::default() }).await;
    let thread = server.thread().await;
    let body = json!({"assistant_id": "count", "input": count(1, 0), "after_seconds": 0.3}).to_string();
    let path = format!("/threads/{thread}/runs/stream");
    let mut stream = server.open("POST", &path, &[], body.as_bytes()).await;
    let text = stream.rest().await;
    assert!(text.starts_with(": heartbeat\n\n: heartbeat\n\n"), "{text}");
    let path = format!("/threads/{thread}/runs/wait");
    let mut wait = server.open("POST", &path, &[], body.as_bytes()).await;
    let text = wait.rest().await;
    assert!(text.starts_with("\n\n"), "{text:?}");
    assert_eq!(serde_json::from_str::<Json>(&text).unwrap()["n"], 1);
    server.stop().await;
}

#[tokio::test]
async fn a_cancel_and_a_question_are_told() {
    let server = Server::start(Options::default()).await;
    let thread = server.thread().await;
    let body = json!({"assistant_id": "count", "input": count(9, 5_000)}).to_string();
    let mut stream = server.open("POST", &format!("/threads/{thread}/runs/stream"), &[], body.as_bytes()).await;
    stream.until("event: values").await;
    let run = stream.header("content-location").unwrap().to_owned();
    let (status, busy) = server
        .json(
            "POST",
            &format!("/threads/{thread}/runs"),
            json!({"assistant_id": "count", "multitask_strategy": "reject"}),
        )
        .await;
    assert_eq!((status, busy["detail"].is_string()), (409, true));
    let (status, _) = server.json("POST", &format!("{run}/cancel"), Json::Null).await;
    assert_eq!(status, 202);
    let events = stream.events().await;
    let [.., error, end] = &events[..] else { panic!("{events:?}") };
    assert_eq!((error.name.as_str(), end.name.as_str()), ("error", "end"));
    assert_eq!(error.data["error"], "UserInterrupt");
    assert_eq!(server.get(&run).await.1["status"], "interrupted");
    assert_eq!(server.json("POST", &format!("{run}/cancel"), Json::Null).await.0, 404);

    let ask = json!({"assistant_id": "ask", "input": {}});
    let thread = server.thread().await;
    let (_, asked) = server.json("POST", &format!("/threads/{thread}/runs/wait"), ask).await;
    assert_eq!(asked["__interrupt__"][0]["value"], "approve?");
    let (_, seen) = server.get(&format!("/threads/{thread}")).await;
    assert_eq!(seen["status"], "interrupted");
    let id = asked["__interrupt__"][0]["id"].as_str().unwrap();
    let resume = json!({"assistant_id": "ask", "command": {"resume": {id: "yes"}}});
    let (_, done) = server.json("POST", &format!("/threads/{thread}/runs/wait"), resume).await;
    assert_eq!(done, json!({"answer": "yes"}));
    server.stop().await;
}

#[tokio::test]
async fn a_reader_that_leaves_can_end_its_run() {
    let server = Server::start(Options::default()).await;
    let thread = server.thread().await;
    let body = json!({"assistant_id": "count", "input": count(99, 50)});
    let (_, run) = server.json("POST", &format!("/threads/{thread}/runs"), body).await;
    let place = format!("/threads/{thread}/runs/{}", run["run_id"].as_str().unwrap());
    let mut stays = server.open("GET", &format!("{place}/stream"), &[], b"").await;
    stays.until("event: values").await;
    drop(stays);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(server.get(&place).await.1["status"], "running");
    let mut leaves = server.open("GET", &format!("{place}/stream?cancel_on_disconnect=1"), &[], b"").await;
    leaves.until("event: values").await;
    drop(leaves);
    for _ in 0..100 {
        if server.get(&place).await.1["status"] == "interrupted" {
            return server.stop().await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the run goes on");
}

#[tokio::test]
async fn a_server_that_goes_down_sends_its_readers_away() {
    let mut server = Server::start(Options::default()).await;
    let thread = server.thread().await;
    let body = json!({"assistant_id": "count", "input": count(9, 60_000)}).to_string();
    let mut stream = server.open("POST", &format!("/threads/{thread}/runs/stream"), &[], body.as_bytes()).await;
    let mut follows = server.open("GET", &format!("/threads/{thread}/stream"), &[], b"").await;
    stream.until("event: values").await;
    let run = stream.header("content-location").unwrap().to_owned();
    let mut waits = server.open("GET", &format!("{run}/join"), &[], b"").await;
    server.begin_stop();
    let text = stream.rest().await;
    assert!(text.ends_with("retry: 1000\n\n") && !text.contains("event: end"), "{text}");
    assert!(stream.ended, "the stream was cut");
    assert!(follows.rest().await.contains("retry: 1000"));
    // What is waited for breaks off: the client asks again where it was told to.
    assert_eq!((waits.rest().await.trim(), waits.ended), ("", false));
    server.stop().await;
}

#[tokio::test]
async fn a_thread_is_followed_from_run_to_run() {
    let server = Server::start(Options::default()).await;
    let thread = server.thread().await;
    let wait = format!("/threads/{thread}/runs/wait");
    server.json("POST", &wait, json!({"assistant_id": "count", "input": count(2, 0)})).await;
    let mut live = server.open("GET", &format!("/threads/{thread}/stream"), &[], b"").await;
    server.json("POST", &wait, json!({"assistant_id": "count", "input": count(1, 0)})).await;
    live.until("run_done").await;
    let mut all = server.open("GET", &format!("/threads/{thread}/stream"), &[("last-event-id", "-1")], b"").await;
    while parse(&all.text).iter().filter(|e| e.data["status"] == "run_done").count() < 2 {
        assert!(all.more().await);
    }
    let (live, all) = (parse(&live.text), parse(&all.text));
    assert!(live.len() < all.len() && all.ends_with(&live), "{live:?}\n{all:?}");
    let from = &all[2].id;
    let mut rest = server.open("GET", &format!("/threads/{thread}/stream?last_event_id={from}"), &[], b"").await;
    while parse(&rest.text).len() < all.len() - 3 {
        assert!(rest.more().await);
    }
    assert_eq!(parse(&rest.text), all[3..]);
    server.stop().await;
}

#[tokio::test]
async fn a_thread_tells_what_is_written_to_its_state_by_hand() {
    let server = Server::start(Options::default()).await;
    let thread = server.thread().await;
    let run = async || {
        let body = json!({"assistant_id": "count", "input": count(1, 0)});
        server.json("POST", &format!("/threads/{thread}/runs/wait"), body).await;
    };
    let write = async |n: i64| {
        let answer = server.json("POST", &format!("/threads/{thread}/state"), json!({"values": {"n": n}})).await;
        assert_eq!(answer.0, 200, "{}", answer.1);
        answer.1["checkpoint_id"].clone()
    };
    let follow = async |query: &str| {
        server.open("GET", &format!("/threads/{thread}/stream?stream_modes={query}"), &[], b"").await
    };
    run().await;
    write(5).await;
    let mut live = follow("state_update,run_modes").await;
    let mut only = follow("state_update").await;
    let written = [write(7).await, write(8).await];
    run().await;
    let last = write(9).await;
    live.until(last.as_str().unwrap()).await;
    only.until(last.as_str().unwrap()).await;
    let (live, only) = (parse(&live.text), parse(&only.text));
    let is_state = |told: &&http::Sse| told.name == "state_update";
    let states: Vec<_> = live.iter().filter(is_state).cloned().collect();
    assert_eq!(only, states);
    let at: Vec<_> = states.iter().map(|told| &told.data["state"]["checkpoint"]["checkpoint_id"]).collect();
    assert_eq!(at, [&written[0], &written[1], &last]);
    assert_eq!((&states[0].data["state"]["values"]["n"], &states[0].data["thread_id"]), (&json!(7), &json!(thread)));
    // In the order in which it came to be, live or late.
    let places: Vec<_> =
        live.iter().enumerate().filter(|(_, told)| told.name == "state_update").map(|(i, _)| i).collect();
    assert_eq!(places, [0, 1, live.len() - 1]);
    for (i, told) in live.iter().enumerate().take(live.len() - 1) {
        let mut rest = follow(&format!("state_update,run_modes&last_event_id={}", told.id)).await;
        rest.until(last.as_str().unwrap()).await;
        assert_eq!(parse(&rest.text), live[i + 1..], "after {}", told.id);
    }
    let mut all = follow("state_update&last_event_id=-1").await;
    all.until(last.as_str().unwrap()).await;
    assert_eq!(parse(&all.text).len(), 4, "from the beginning");
    server.stop().await;
}

#[tokio::test]
async fn pages_of_other_origins_are_kept_out() {
    let server =
        Server::start(Options { cors: Cors::Origins(vec!["https://app.test".into()]), ..Options::default() }).await;
    let good = server.open("POST", "/threads", &[("origin", "https://app.test")], b"{}").await;
    assert_eq!((good.status, good.header("access-control-allow-origin")), (200, Some("https://app.test")));
    assert!(good.header("access-control-expose-headers").unwrap().contains("content-location"));
    let bad = server.open("POST", "/threads", &[("origin", "https://other.test")], b"{}").await;
    assert_eq!((bad.status, bad.header("access-control-allow-origin")), (403, None));
    let asks = [
        ("origin", "https://app.test"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "x-api-key"),
    ];
    let preflight = server.open("OPTIONS", "/threads", &asks, b"").await;
    assert_eq!((preflight.status, preflight.header("access-control-allow-headers")), (200, Some("x-api-key")));
    let own = format!("http://{}", server.at);
    assert_eq!(server.open("POST", "/threads", &[("origin", &own)], b"{}").await.status, 200);
    let socket = server.open("GET", "/ws/threads/x", &[("origin", "https://other.test")], b"").await;
    assert_eq!(socket.status, 403);
    server.stop().await;
}

#[tokio::test]
async fn a_page_whose_name_stands_for_this_machine_is_kept_out() {
    let server = Server::start(Options::default()).await;
    let ask = async |host: &str, origin: &str| {
        let mut socket = tokio::net::TcpStream::connect(server.at).await.unwrap();
        let head =
            format!("POST /threads HTTP/1.1\r\nhost: {host}\r\norigin: {origin}\r\ncontent-length: 2\r\n\r\n{{}}");
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        socket.read_exact(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer[9..]).into_owned()
    };
    assert_eq!(ask("evil.test:8123", "http://evil.test:8123").await, "403");
    assert_eq!(ask("localhost:8123", "http://localhost:8123").await, "200");
    server.stop().await;
}

#[tokio::test]
async fn a_nodes_settings_are_those_of_the_client_and_no_more() {
    let server = Server::start(Options::default()).await;
    let thread = server.thread().await;
    let settings = json!({"tone": "dry"});
    let body = json!({
        "assistant_id": "settings", "input": {}, "config": {"configurable": settings}, "stream_mode": ["values", "updates"],
        "feedback_keys": ["good"],
    });
    let (status, values) = server.json("POST", &format!("/threads/{thread}/runs/wait"), body).await;
    assert_eq!((status, &values["seen"]), (200, &settings));
    let shown = server.get(&format!("/threads/{thread}")).await.1;
    assert_eq!(shown["config"]["configurable"], settings);
    let run = &server.get(&format!("/threads/{thread}/runs")).await.1[0];
    assert_eq!(run["kwargs"]["stream_mode"], json!(["values", "updates"]), "what was asked for is still known");
    assert_eq!(run["kwargs"]["feedback_keys"], json!(["good"]));
    server.stop().await;
}
