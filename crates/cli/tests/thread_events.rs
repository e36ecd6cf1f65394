//! The numbers of a thread's events, while its server is killed again and again: every reader receives each number once,
//! without a gap, and the same event under it, also one that is cut off after every event. What becomes of runs later
//! changes no number.
#![allow(missing_docs, clippy::unwrap_used)]
#![cfg(unix)]

#[path = "support/server.rs"]
mod server;

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use server::{Server, folder, free_port};

const RUNS: usize = 100;
const KILLS: usize = 20;
const CHANNELS: [&str; 9] =
    ["values", "updates", "messages", "tools", "lifecycle", "input", "checkpoints", "tasks", "custom"];

const GRAPH: &str = r#"
runloom: v1
name: talk
state: { messages: { reducer: messages }, n: { schema: { type: integer } } }
models: { bot: { scripted: { delay_ms: 2, responses: [ { content: "some words" } ] } } }
nodes:
  count: { steps: [ { emit: '{"n": 1}' }, { sleep_ms: 3 }, { update: { n: '1' } } ] }
  say: { chat_model: { model: bot } }
edges: [ { from: START, to: count }, { from: count, to: say } ]
"#;

/// An HTTP request. None where the server is down.
fn send(port: u16, method: &str, path: &str, body: &Value) -> Option<BufReader<TcpStream>> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).ok()?;
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let length = body.len();
    let head =
        format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n");
    socket.write_all(format!("{head}content-type: application/json\r\n\r\n{body}").as_bytes()).ok()?;
    Some(BufReader::new(socket))
}

/// Sends until the server answers, and returns the status and the body.
fn call(port: u16, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        assert!(Instant::now() < until, "{method} {path}: no answer");
        let mut text = String::new();
        if send(port, method, path, body).is_some_and(|mut answer| answer.read_to_string(&mut text).is_ok())
            && let Some((head, body)) = text.split_once("\r\n\r\n")
        {
            let status = head.split(' ').nth(1).unwrap().parse().unwrap();
            return (status, serde_json::from_str(body).unwrap_or_default());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What a reader has received, and how to wait for it.
#[derive(Default)]
struct Received {
    events: Mutex<Vec<Value>>,
    changed: Condvar,
}

impl Received {
    fn ends(events: &[Value]) -> usize {
        events.iter().filter(|event| event["params"]["data"]["event"] == "completed").count()
    }

    fn wait(&self, what: &str, is_enough: impl Fn(&[Value]) -> bool) {
        let events = self.events.lock().unwrap();
        let waited = self.changed.wait_timeout_while(events, Duration::from_secs(120), |events| !is_enough(events));
        assert!(!waited.unwrap().1.timed_out(), "{what}");
    }
}

/// Reads the events of a thread, and connects again after the last one whenever it is cut off: by the server, or by itself
/// after each event.
fn read(port: u16, thread: &str, is_cut: bool, received: &Received, done: &AtomicBool, connections: &AtomicU64) {
    let mut last = 0;
    while !done.load(SeqCst) {
        let body = json!({"channels": CHANNELS, "since": last});
        let Some(answer) = send(port, "POST", &format!("/threads/{thread}/stream/events"), &body) else {
            std::thread::sleep(Duration::from_millis(2));
            continue;
        };
        connections.fetch_add(1, SeqCst);
        for line in answer.lines().map_while(Result::ok) {
            let Some(data) = line.strip_prefix("data: ") else { continue };
            // The connection may have broken within a line.
            let Ok(event) = serde_json::from_str::<Value>(data) else { break };
            let Some(seq) = event["seq"].as_u64() else { break };
            last = seq;
            received.events.lock().unwrap().push(event);
            received.changed.notify_all();
            if is_cut || done.load(SeqCst) {
                break;
            }
        }
    }
}

fn start(folder: &Path, port: u16, http: u16) -> Server {
    let address = format!("127.0.0.1:{http}");
    Server::start(folder, port, &[("RUNLOOM_HTTP", Path::new(&address))])
}

/// Every event of a thread from its beginning, up to a number.
fn whole(http: u16, thread: &str, last: u64) -> BTreeMap<u64, Value> {
    let body = json!({"channels": CHANNELS});
    let answer = send(http, "POST", &format!("/threads/{thread}/stream/events"), &body).unwrap();
    let mut events = BTreeMap::new();
    for line in answer.lines().map(Result::unwrap) {
        let Some(data) = line.strip_prefix("data: ") else { continue };
        let event: Value = serde_json::from_str(data).unwrap();
        let seq = event["seq"].as_u64().unwrap();
        assert!(events.insert(seq, event).is_none(), "{seq} came twice");
        if seq >= last {
            break;
        }
    }
    events
}

fn run_of(event: &Value) -> String {
    event["event_id"].as_str().unwrap().trim_start_matches("synth:").split(':').next().unwrap().to_owned()
}

#[test]
fn numbers_of_events_are_the_threads_whatever_happens_to_its_server_and_runs() {
    let folder = folder(&[("talk.yaml", GRAPH)]);
    let (port, http) = (free_port(), free_port());
    let mut server = start(folder.path(), port, http);
    let (_, made) = call(http, "POST", "/threads", &json!({}));
    let thread = made["thread_id"].as_str().unwrap().to_owned();
    let (steady, cut) = (Arc::new(Received::default()), Arc::new(Received::default()));
    let (done, connections) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let readers = [(&steady, false), (&cut, true)].map(|(received, is_cut)| {
        let (received, done, thread, connections) =
            (received.clone(), done.clone(), thread.clone(), connections.clone());
        std::thread::spawn(move || read(http, &thread, is_cut, &received, &done, &connections))
    });
    let commands = format!("/threads/{thread}/commands");
    let input = json!({"n": 0, "messages": [{"role": "user", "content": "hi"}]});
    let command = json!({"id": 1, "method": "run.start", "params": {"assistant_id": "talk", "input": input}});
    for kill in 0..KILLS {
        for _ in 0..RUNS / KILLS {
            let (status, answer) = call(http, "POST", &commands, &command);
            assert_eq!((status, &answer["type"]), (200, &json!("success")), "{answer}");
        }
        // Another place in the run each time.
        let so_far = steady.events.lock().unwrap().len();
        steady.wait("events before a kill", |events| events.len() > so_far + kill * 3);
        server.kill();
        server = start(folder.path(), port, http);
    }
    for received in [&steady, &cut] {
        received.wait("the ends of all runs", |events| Received::ends(events) >= RUNS);
    }
    done.store(true, SeqCst);
    call(http, "POST", &commands, &command);
    for reader in readers {
        reader.join().unwrap();
    }

    let (steady, cut) = (steady.events.lock().unwrap(), cut.events.lock().unwrap());
    assert!(connections.load(SeqCst) as usize > cut.len(), "one connection for each event");
    for events in [&steady, &cut] {
        let seqs: Vec<u64> = events.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
        let expected: Vec<u64> = (1..=seqs.len() as u64).collect();
        let first = seqs.iter().zip(&expected).position(|(seq, expected)| seq != expected);
        assert_eq!(seqs, expected, "a gap or a double at {first:?}");
    }
    let both = steady.len().min(cut.len());
    assert!(steady[..both] == cut[..both], "the same events for both");

    // Every third run is deleted, one is rolled back: what is left keeps its numbers, through a restart too.
    let last = steady[both - 1]["seq"].as_u64().unwrap();
    let before = whole(http, &thread, last);
    let mut runs: Vec<String> = before.values().map(run_of).collect();
    runs.dedup();
    let (status, _) = call(http, "GET", &format!("/threads/{thread}/runs/{}/join", runs[runs.len() - 1]), &Value::Null);
    assert_eq!(status, 200);
    let deleted: Vec<&String> = runs[..RUNS].iter().step_by(3).collect();
    for run in &deleted {
        assert_eq!(call(http, "DELETE", &format!("/threads/{thread}/runs/{run}"), &Value::Null).0, 204);
    }
    let (_, answer) = call(http, "POST", &commands, &command);
    let rolled_back = answer["result"]["run_id"].as_str().unwrap();
    let cancel = format!("/threads/{thread}/runs/{rolled_back}/cancel?wait=true&action=rollback");
    assert!(call(http, "POST", &cancel, &Value::Null).0 < 300);
    server.stop();
    let mut server = start(folder.path(), port, http);
    let (_, answer) = call(http, "POST", &commands, &command);
    let newest = answer["result"]["run_id"].as_str().unwrap();
    assert_eq!(call(http, "GET", &format!("/threads/{thread}/runs/{newest}/join"), &Value::Null).0, 200);
    let mut after = whole(http, &thread, last + 1);
    let first_new = after.pop_last().unwrap();
    while let Some(event) = after.last_entry()
        && *event.key() > last
    {
        event.remove();
    }
    let left: BTreeMap<u64, Value> =
        before.into_iter().filter(|(_, event)| !deleted.contains(&&run_of(event))).collect();
    assert_eq!(after, left, "what is left is as it was");
    assert!(first_new.0 > last, "no number is used again");
    server.stop();
}
