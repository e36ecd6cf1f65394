//! What the newer `useStream` and LangGraph's server said to each other over WebSockets, played against this server.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/exact.rs"]
mod exact;
#[path = "support/http.rs"]
mod http;

use std::{collections::HashSet, path::PathBuf, time::Duration};

use exact::{Exact, adapt};
use futures_util::{SinkExt, StreamExt};
use http::Server;
use runloom_gateway::Options;
use serde_json::{Value as Json, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, tungstenite::Message};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Channels of which the recorded server sends nothing.
const MORE: [&str; 2] = ["checkpoints", "input.answered"];

/// A connection under way: what the recorded one received, and what this one did.
struct Connection {
    case: String,
    socket: Socket,
    want: Vec<Json>,
    got: Vec<Json>,
}

fn is_event(message: &Json) -> bool {
    message["type"] == "event"
}

/// Of a page that stops a run, how many pieces come before is chance.
fn counts(case: &str, event: &Json) -> bool {
    case != "stop" || !event["params"]["data"]["event"].as_str().is_some_and(|kind| kind.starts_with("content-block"))
}

impl Connection {
    /// The events, each once: the recorded server sends some again to a further subscription.
    fn events(&self, all: &[Json]) -> Vec<Json> {
        let mut seen = HashSet::new();
        let events = all.iter().filter(|m| is_event(m) && counts(&self.case, m));
        let events = events.filter(|m| !MORE.contains(&m["method"].as_str().unwrap_or_default()));
        events.filter(|m| seen.insert(m["event_id"].to_string())).cloned().collect()
    }

    fn answers(all: &[Json]) -> Vec<Json> {
        let mut answers: Vec<Json> = all.iter().filter(|m| !is_event(m)).cloned().collect();
        for answer in &mut answers {
            // What is replayed to whom depends on when it is asked for; `meta` counts other channels.
            answer.as_object_mut().unwrap().remove("meta");
            if let Some(result) = answer["result"].as_object_mut() {
                result.remove("replayed_events");
            }
        }
        answers.sort_by_key(|answer| answer["id"].as_i64());
        answers
    }

    /// Reads until everything has come that had come in the recording.
    async fn catch_up(&mut self) {
        let is_there = |connection: &Self| {
            connection.events(&connection.got).len() >= connection.events(&connection.want).len()
                && Self::answers(&connection.got).len() >= Self::answers(&connection.want).len()
        };
        while !is_there(self) {
            let Ok(Some(Ok(next))) = tokio::time::timeout(Duration::from_secs(8), self.socket.next()).await else {
                return;
            };
            if let Message::Text(text) = next {
                self.got.push(serde_json::from_str(&text).unwrap());
            }
        }
    }

    async fn finish(mut self, problems: &mut Vec<String>) {
        self.catch_up().await;
        let case = self.case.clone();
        let (want, got) = (Self::answers(&self.want), Self::answers(&self.got));
        problems.extend(Exact::default().compare(&want.into(), &got.into(), &format!("{case}: answers")).err());
        let (mut want, mut got) = (self.events(&self.want), self.events(&self.got));
        // What came before a further subscription is sent to it when it comes.
        got.sort_by_key(|event| event["seq"].as_u64());
        got.truncate(want.len());
        for event in want.iter_mut().chain(&mut got) {
            let event = event.as_object_mut().unwrap();
            event.retain(|key, _| !["seq", "event_id"].contains(&key.as_str()));
            event["params"].as_object_mut().unwrap().remove("timestamp");
        }
        want.iter_mut().zip(&mut got).for_each(|(want, got)| adapt(want, got));
        problems.extend(Exact::default().compare(&want.into(), &got.into(), &format!("{case}: events")).err());
    }
}

#[tokio::test]
async fn the_newer_hook_is_answered_as_in_the_recording() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/conformance/protocol");
    let text = std::fs::read_to_string(folder.join("browser/use_stream_websocket.json")).unwrap();
    let recorded: Vec<Json> = serde_json::from_str(&text).unwrap();
    let documents = std::fs::read_dir(folder.join("graphs")).unwrap().map(|file| {
        let path = file.unwrap().path();
        (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read_to_string(path).unwrap())
    });
    let documents: Vec<(String, String)> = documents.collect();
    let server = Server::start_with(Options::default(), |core| core.documents = documents).await;
    let (mut now, mut problems): (Option<Connection>, Vec<String>) = (None, Vec::new());
    // Interrupts have ids of their own here.
    let mut interrupt: Option<String> = None;
    for entry in &recorded {
        if let Some(path) = entry["open"].as_str() {
            if let Some(before) = now.take() {
                before.finish(&mut problems).await;
            }
            let at = format!("ws://{}/{path}", server.at);
            let (socket, _) = tokio_tungstenite::connect_async(&at).await.unwrap();
            let case = entry["case"].as_str().unwrap().to_owned();
            now = Some(Connection { case, socket, want: Vec::new(), got: Vec::new() });
        }
        let Some(connection) = &mut now else { continue };
        if let Some(message) = entry.get("received") {
            connection.want.push(message.clone());
        } else if let Some(message) = entry.get("sent") {
            connection.catch_up().await;
            let requested = connection.got.iter().find(|m| m["method"] == "input.requested");
            interrupt =
                requested.and_then(|m| m["params"]["data"]["interrupt_id"].as_str().map(str::to_owned)).or(interrupt);
            let mut message = message.clone();
            if message["method"] == "input.respond" {
                message["params"]["interrupt_id"] = json!(interrupt);
            }
            connection.socket.send(Message::text(message.to_string())).await.unwrap();
        } else if let Some(path) = entry["post"].as_str() {
            connection.catch_up().await;
            let run = connection.got.iter().find_map(|m| m["result"]["run_id"].as_str()).unwrap();
            let recorded = path.split('/').nth(4).unwrap();
            let (status, _) = server.json("POST", &path.replace(recorded, run), Json::Null).await;
            assert_eq!(status, 202);
        }
    }
    now.unwrap().finish(&mut problems).await;
    assert!(problems.is_empty(), "{problems:#?}");
    server.stop().await;
}
