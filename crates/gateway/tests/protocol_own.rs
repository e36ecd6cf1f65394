//! The event protocol where LangGraph's server is no measure: numbers that are the thread's, readers that are cut off, the
//! WebSocket, the commands that work here alone.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/http.rs"]
mod http;

use std::{sync::Arc, time::Duration};

use futures_util::{SinkExt, StreamExt};
use http::{Server, Sse, parse};
use runloom_core::store::Store;
use runloom_gateway::Options;
use runloom_store_memory::MemoryStore;
use serde_json::{Value as Json, json};
use tokio_tungstenite::tungstenite::Message;

const ALL: [&str; 9] =
    ["values", "updates", "messages", "tools", "lifecycle", "input", "checkpoints", "tasks", "custom"];

async fn command(server: &Server, thread: &str, method: &str, params: Json) -> Json {
    let path = format!("/threads/{thread}/commands");
    let (status, answer) = server.json("POST", &path, json!({"id": 7, "method": method, "params": params})).await;
    assert_eq!((status, &answer["id"]), (200, &json!(7)), "{answer}");
    answer
}

/// Starts a run and waits for its end.
async fn run(server: &Server, thread: &str, graph: &str, input: Json) {
    let answer = command(server, thread, "run.start", json!({"assistant_id": graph, "input": input})).await;
    let run = answer["result"]["run_id"].as_str().unwrap();
    let (status, _) = server.get(&format!("/threads/{thread}/runs/{run}/join")).await;
    assert_eq!(status, 200);
}

/// Reads until an event of a kind has come so many times.
async fn read(
    server: &Server,
    thread: &str,
    body: Json,
    headers: &[(&str, &str)],
    kind: &str,
    times: usize,
) -> Vec<Sse> {
    let path = format!("/threads/{thread}/stream/events");
    let mut answer = server.open("POST", &path, headers, body.to_string().as_bytes()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let mut events = Vec::new();
    while events.iter().filter(|e: &&Sse| e.data["params"]["data"]["event"] == kind).count() < times {
        assert!(answer.more().await);
        let whole = answer.text.rfind("\n\n").map_or(0, |at| at + 2);
        events = parse(&answer.text[..whole]);
    }
    events
}

fn seqs(events: &[Sse]) -> Vec<u64> {
    events.iter().map(|e| e.data["seq"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn numbers_are_the_threads_through_runs_and_restarts() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let start = |store: Arc<dyn Store>| Server::start_with(Options::default(), |core| core.store = store);
    let server = start(store.clone()).await;
    let thread = server.thread().await;
    let mut known: Vec<Json> = Vec::new();
    let mut server = server;
    for restart in 0..3 {
        run(&server, &thread, "chat", json!({"messages": [{"role": "user", "content": "hi"}]})).await;
        // One by the older API, which records less.
        let path = format!("/threads/{thread}/runs/wait");
        server.json("POST", &path, json!({"assistant_id": "count", "input": http::count(2, 0)})).await;
        let ends = 2 * (restart + 1);
        let events = read(&server, &thread, json!({"channels": ALL}), &[], "completed", ends).await;
        assert_eq!(seqs(&events), (1..=events.len() as u64).collect::<Vec<_>>());
        let shown: Vec<Json> = events.iter().map(|e| e.data.clone()).collect();
        assert_eq!(shown[..known.len()], known[..], "what was read before the restart is read alike");
        known = shown;
        server.stop().await;
        server = start(store.clone()).await;
    }
    let ids: std::collections::HashSet<&str> = known.iter().map(|e| e["event_id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), known.len(), "ids are unique");
    // Cut all along the way, on a server that has read nothing yet, and on one that has.
    for at in (0..known.len()).step_by(5) {
        let body = json!({"channels": ALL, "since": at});
        let left = known[at..].iter().filter(|e| e["params"]["data"]["event"] == "completed").count();
        let events = read(&server, &thread, body, &[], "completed", left).await;
        let events: Vec<Json> = events.into_iter().map(|e| e.data).collect();
        assert_eq!(events, known[at..], "since {at}");
    }
    let last = known.len() as u64 - 1;
    let header = [("last-event-id", &*last.to_string())];
    let events = read(&server, &thread, json!({"channels": ALL}), &header, "completed", 1).await;
    assert_eq!(seqs(&events), [last + 1]);
    server.stop().await;
}

#[tokio::test]
async fn a_subscription_does_not_change_numbers() {
    let server = Server::start(Options::default()).await;
    let thread = server.thread().await;
    run(&server, &thread, "chat", json!({"messages": [{"role": "user", "content": "hi"}]})).await;
    let all = read(&server, &thread, json!({"channels": ALL}), &[], "completed", 1).await;
    let some = read(&server, &thread, json!({"channels": ["messages", "lifecycle"]}), &[], "completed", 1).await;
    let expected: Vec<&Sse> = all.iter().filter(|e| ["messages", "lifecycle"].contains(&e.name.as_str())).collect();
    assert_eq!(some.iter().collect::<Vec<_>>(), expected);
    for channel in ["tasks", "checkpoints", "updates"] {
        assert!(all.iter().any(|e| e.name == channel), "{channel}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_question_is_answered_and_both_are_events() {
    let server = Server::start(Options::default()).await;
    let thread = server.thread().await;
    run(&server, &thread, "ask", json!({})).await;
    let events = read(&server, &thread, json!({"channels": ["input", "lifecycle"]}), &[], "interrupted", 1).await;
    let asked = &events.iter().find(|e| e.name == "input.requested").unwrap().data["params"]["data"];
    assert_eq!((&asked["payload"], &asked["value"]), (&json!("approve?"), &json!("approve?")));
    let id = &asked["interrupt_id"];
    let wrong = command(&server, &thread, "input.respond", json!({"interrupt_id": "x", "response": 1})).await;
    assert_eq!(wrong["error"], "no_such_interrupt");
    let params = json!({"namespace": [], "interrupt_id": id, "response": "yes"});
    assert_eq!(command(&server, &thread, "input.respond", params.clone()).await["result"], json!({}));
    let events = read(&server, &thread, json!({"channels": ["input", "lifecycle"]}), &[], "completed", 1).await;
    let answered = &events.iter().find(|e| e.name == "input.answered").unwrap().data["params"]["data"];
    assert_eq!((&answered["interrupt_id"], &answered["response"]), (id, &json!("yes")));
    let again = command(&server, &thread, "input.respond", params).await;
    assert_eq!(again["error"], "no_such_interrupt");
    let state = command(&server, &thread, "state.get", json!({"namespace": [], "keys": ["answer"]})).await;
    assert_eq!(state["result"]["values"], json!({"answer": "yes"}));
    server.stop().await;
}

#[tokio::test]
async fn states_and_trees_are_read_and_forked() {
    let server = Server::start(Options::default()).await;
    let thread = server.thread().await;
    assert_eq!(command(&server, &thread, "agent.getTree", json!({})).await["error"], "no_such_run");
    run(&server, &thread, "count", http::count(2, 0)).await;
    let tree = command(&server, &thread, "agent.getTree", json!({})).await;
    assert_eq!(tree["result"]["tree"], json!({"namespace": [], "status": "completed", "graph_name": "count"}));
    let listed = command(&server, &thread, "state.listCheckpoints", json!({"limit": 2})).await;
    let checkpoints = listed["result"]["checkpoints"].as_array().unwrap();
    assert_eq!((checkpoints.len(), &checkpoints[0]["step"]), (2, &json!(2)), "{listed}");
    let params = json!({"checkpoint_id": checkpoints[1]["id"]});
    let forked = command(&server, &thread, "state.fork", params).await;
    let path = format!("/threads/{thread}/runs/{}/join", forked["result"]["run_id"].as_str().unwrap());
    assert_eq!(server.get(&path).await.1["n"], 2);
    let missing = json!({"checkpoint_id": "1f1eba0f-0000-6d4c-8001-000000000000"});
    assert_eq!(command(&server, &thread, "state.fork", missing).await["error"], "no_such_checkpoint");
    server.stop().await;
}

#[tokio::test]
async fn a_socket_carries_commands_and_several_subscriptions() {
    let server = Server::start(Options { heartbeat: Duration::from_millis(200), ..Options::default() }).await;
    let thread = server.thread().await;
    let at = format!("ws://{}/threads/{thread}/stream/events", server.at);
    let (mut socket, _) = tokio_tungstenite::connect_async(&at).await.unwrap();
    let send = |id: u64, method: &str, params: Json| {
        Message::text(json!({"id": id, "method": method, "params": params}).to_string())
    };
    socket.send(send(1, "subscription.subscribe", json!({"channels": ["lifecycle"]}))).await.unwrap();
    let input = json!({"messages": [{"role": "user", "content": "hi"}]});
    socket.send(send(2, "run.start", json!({"assistant_id": "chat", "input": input}))).await.unwrap();
    let mut got: Vec<Json> = Vec::new();
    let mut until = async |socket: &mut tokio_tungstenite::WebSocketStream<_>, is_enough: fn(&Json) -> bool| {
        loop {
            let next = tokio::time::timeout(Duration::from_secs(10), socket.next()).await.unwrap().unwrap().unwrap();
            let Message::Text(text) = next else { continue };
            let value: Json = serde_json::from_str(&text).unwrap();
            got.push(value.clone());
            if is_enough(&value) {
                return std::mem::take(&mut got);
            }
        }
    };
    let first = until(&mut socket, |v| v["params"]["data"]["event"] == "completed").await;
    let names: Vec<&str> = first.iter().filter_map(|v| v["params"]["data"]["event"].as_str()).collect();
    assert_eq!(names, ["running", "completed"]);
    // A later subscription receives what came before it, and nothing twice.
    socket.send(send(3, "subscription.subscribe", json!({"channels": ["messages", "lifecycle"]}))).await.unwrap();
    let past = until(&mut socket, |v| v["params"]["data"]["event"] == "message-finish").await;
    assert_eq!(past[0]["result"]["replayed_events"], past.len() - 1);
    assert!(past[1..].iter().all(|v| v["method"] == "messages"), "{past:?}");
    let id = past[0]["result"]["subscription_id"].clone();
    socket.send(send(4, "subscription.unsubscribe", json!({"subscription_id": id}))).await.unwrap();
    socket.send(send(5, "subscription.unsubscribe", json!({"subscription_id": id}))).await.unwrap();
    let answers = until(&mut socket, |v| v["id"] == 5).await;
    assert_eq!((&answers[0]["type"], &answers[1]["error"]), (&json!("success"), &json!("no_such_subscription")));
    socket.send(Message::text("{")).await.unwrap();
    assert_eq!(until(&mut socket, |_| true).await[0]["error"], "invalid_argument");
    server.stop().await;
}
