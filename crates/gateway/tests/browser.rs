//! What browsers use without a client: an EventSource, and a WebSocket.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/http.rs"]
mod http;

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::{Server, count};
use runloom_gateway::Options;
use serde_json::{Value as Json, json};
use tokio_tungstenite::{connect_async, tungstenite::Message};

#[tokio::test]
async fn an_event_source_hears_each_kind_by_its_name() {
    let server = Server::start(Options::default()).await;
    let thread = server.thread().await;
    let input = json!({"messages": [{"role": "human", "content": "hi"}]});
    let body = json!({"assistant_id": "chat", "input": input, "stream_mode": "events"});
    let (_, run) = server.json("POST", &format!("/threads/{thread}/runs"), body).await;
    let path = format!("/threads/{thread}/runs/{}/events", run["run_id"].as_str().unwrap());
    let all = server.open("GET", &path, &[], b"").await.events().await;
    let text: String = all
        .iter()
        .filter(|e| e.name == "on_chat_model_stream")
        .filter_map(|e| e.data["chunk"]["content"].as_str())
        .collect();
    assert_eq!(text, "Hello from a scripted model");
    assert!(all.iter().any(|e| e.name == "on_chain_end"));
    assert_eq!(all.last().unwrap().name, "end");
    // It comes back by itself where it was cut off, and stays away after the end.
    let back = server.open("GET", &path, &[("last-event-id", &all[3].id)], b"").await.events().await;
    assert_eq!(back, all[4..]);
    let after = server.open("GET", &path, &[("last-event-id", &all.last().unwrap().id)], b"").await;
    assert_eq!(after.status, 204);
    server.stop().await;
}

#[tokio::test]
async fn a_web_socket_takes_runs() {
    let server = Server::start(Options::default()).await;
    let thread = server.thread().await;
    let (mut socket, _) = connect_async(format!("ws://{}/ws/threads/{thread}", server.at)).await.unwrap();
    async fn until_end(
        socket: &mut (impl StreamExt<Item = Result<Message, impl std::fmt::Debug>> + Unpin),
    ) -> Vec<Json> {
        let mut all = Vec::new();
        loop {
            let next = tokio::time::timeout(Duration::from_secs(10), socket.next()).await.unwrap().unwrap().unwrap();
            let Message::Text(text) = next else { continue };
            all.push(serde_json::from_str::<Json>(&text).unwrap());
            if ["end", "error"].contains(&all.last().unwrap()["type"].as_str().unwrap()) {
                return all;
            }
        }
    }
    let text = |body: Json| Message::Text(body.to_string().into());
    let input = json!({"messages": [{"role": "human", "content": "hi"}]});
    socket.send(text(json!({"assistant_id": "chat", "input": input}))).await.unwrap();
    let all = until_end(&mut socket).await;
    assert_eq!(all[0]["type"], "metadata");
    let said: String = all
        .iter()
        .filter(|e| e["type"] == "on_chat_model_stream")
        .filter_map(|e| e["data"]["chunk"]["content"].as_str())
        .collect();
    assert_eq!(said, "Hello from a scripted model");
    assert!(all.iter().any(|e| e["type"] == "on_chain_end" && e["name"] == "say"));

    // What makes no sense is told, and the socket stays.
    for wrong in ["{", "[]", "{\"assistant_id\": \"nope\"}", "{\"type\": \"cancel\"}"] {
        socket.send(Message::Text(wrong.into())).await.unwrap();
        assert_eq!(until_end(&mut socket).await[0]["type"], "error", "{wrong}");
    }
    let slow = json!({"assistant_id": "count", "input": count(9, 20_000), "stream_mode": "values"});
    socket.send(text(slow)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    socket.send(text(json!({"type": "cancel"}))).await.unwrap();
    let all = until_end(&mut socket).await;
    assert_eq!(all.last().unwrap()["data"]["error"], "UserInterrupt");
    assert_eq!(until_end(&mut socket).await[0]["type"], "end");
    server.stop().await;
    while let Some(Ok(message)) = socket.next().await {
        if let Message::Close(Some(frame)) = message {
            assert_eq!(u16::from(frame.code), 1012);
            return;
        }
    }
    panic!("the socket was cut");
}

#[tokio::test]
async fn a_socket_that_breaks_the_rules_is_told_which() {
    let server = Server::start(Options { max_body_bytes: 10_000, ..Options::default() }).await;
    let thread = server.thread().await;
    let url = format!("ws://{}/ws/threads/{thread}", server.at);
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    socket.send(Message::Binary(vec![b'"', 0xff, b'"'].into())).await.unwrap();
    let told = tokio::time::timeout(Duration::from_secs(10), socket.next()).await.unwrap().unwrap().unwrap();
    assert!(told.to_text().unwrap().contains("not UTF-8"), "{told}");
    socket.send(Message::Text("x".repeat(20_000).into())).await.unwrap();
    while let Some(message) = tokio::time::timeout(Duration::from_secs(10), socket.next()).await.unwrap() {
        if let Message::Close(Some(frame)) = message.expect("the socket was cut") {
            assert_eq!(u16::from(frame.code), 1009, "{}", frame.reason);
            return server.stop().await;
        }
    }
    panic!("the socket ended without a word");
}
