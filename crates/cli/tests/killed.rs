//! A server killed with SIGKILL where something is to happen once: around a cron's firing (G31), and between the end of a
//! run and the call of its webhook (G32).
#![allow(missing_docs, clippy::unwrap_used)]
#![cfg(unix)]

#[path = "support/server.rs"]
mod server;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::mpsc::{Receiver, channel},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use runloom::{
    Client, ClientOptions,
    v1::{Cron, ListRunsRequest, Run, RunSpec, RunState, WaitRunRequest, Webhook},
};
use runloom_store::Schedules;
use runloom_store_sqlite::{OpenOptions, SqliteStore};
use server::{Server, folder, free_port};

const GRAPH: &str = r#"
runloom: v1
name: count
state: { n: { schema: { type: integer } } }
nodes: { one: { update: { n: 'state.n + 1' } } }
edges: [ { from: START, to: one } ]
"#;

fn client(port: u16) -> Client {
    let mut options = ClientOptions::default();
    options.retry.initial_delay = Duration::from_millis(5);
    options.retry.max_delay = Duration::from_millis(100);
    options.retry.max_retries = 500;
    Client::connect_lazy(format!("127.0.0.1:{port}"), options).unwrap()
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

/// How many seconds lie between two firings: enough for a restart within one.
const PERIOD: u64 = 5;
/// When the server is killed, in milliseconds from a firing.
const KILLS: [i64; 6] = [-5, 1, 3, 6, 12, 30];

/// In which period a run was made.
fn period(run: &Run) -> u64 {
    run.create_time.as_ref().unwrap().seconds.unsigned_abs() / PERIOD
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cron_fires_once_for_each_of_its_times_whenever_the_server_is_killed() {
    let folder = folder(&[("count.yaml", GRAPH)]);
    let port = free_port();
    let mut server = Server::start(folder.path(), port, &[]);
    let client = client(port);
    let thread = uuid::Uuid::new_v4().to_string();
    let first = RunSpec::graph("count").with_new_thread(&thread).with_input(serde_json::json!({"n": 0}));
    client.create_run(first.clone()).await.unwrap();
    let run = Some(RunSpec { if_not_exists: 0, ..first });
    client.create_cron(Cron { schedule: format!("* * * * * */{PERIOD}"), run, ..Cron::default() }).await.unwrap();
    let made = now().as_secs() / PERIOD;

    for offset in KILLS {
        // Killed around the next firing but one, and back at once: what was not made then is made now, and what was is not.
        let next = Duration::from_secs((now().as_secs() / PERIOD + 1) * PERIOD);
        let at = Duration::from_millis((next.as_millis() as i64 + offset).unsigned_abs());
        tokio::time::sleep(at.saturating_sub(now())).await;
        server.kill();
        server = Server::start(folder.path(), port, &[]);
    }
    let last = now().as_secs() / PERIOD;
    let runs = async || {
        let request = ListRunsRequest { thread_id: thread.clone(), page_size: 1000, ..ListRunsRequest::default() };
        let mut runs = client.list_runs(request).await.unwrap().runs;
        // The one that made the thread is none of the cron's.
        runs.pop();
        runs.reverse();
        runs
    };
    let all = async {
        loop {
            let runs = runs().await;
            if runs.last().is_some_and(|run| period(run) >= last && run.state() == RunState::Succeeded) {
                return runs;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let runs = tokio::time::timeout(Duration::from_secs(30), all).await.expect("the cron does not fire any more");
    let periods: Vec<u64> = runs.iter().map(period).filter(|period| *period <= last).collect();
    let wanted: Vec<u64> = (made + 1..=last).collect();
    assert_eq!(periods, wanted, "each of its times once: none left out, none twice");
    assert!(wanted.len() >= KILLS.len());
    assert!(runs.iter().all(|run| run.state() == RunState::Succeeded));
}

/// Takes calls, each with the id of what it tells; answers those that it is told to.
fn receiver(answers: impl Fn(usize) -> bool + Send + 'static) -> (u16, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (told, calls) = channel();
    std::thread::spawn(move || {
        // Those that are not answered stay open.
        let mut open: Vec<TcpStream> = Vec::new();
        for (at, socket) in listener.incoming().enumerate() {
            let mut socket = socket.unwrap();
            let Some(id) = read(&mut socket) else { continue };
            if answers(at) {
                socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
            } else {
                open.push(socket);
            }
            if told.send(id).is_err() {
                return;
            }
        }
    });
    (port, calls)
}

fn read(socket: &mut TcpStream) -> Option<String> {
    let (mut id, mut length) = (None, 0);
    let mut lines = BufReader::new(socket);
    loop {
        let mut line = String::new();
        lines.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            if line.trim_end().is_empty() {
                break;
            }
            continue;
        };
        match &*name.to_ascii_lowercase() {
            "webhook-id" => id = Some(value.to_owned()),
            "content-length" => length = value.parse().ok()?,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    lines.read_exact(&mut body).ok()?;
    id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_is_called_though_the_server_is_killed_after_the_end_of_the_run() {
    let folder = folder(&[("count.yaml", GRAPH)]);
    let port = free_port();
    let allow = [("RUNLOOM_WEBHOOK_ALLOW_PRIVATE", Path::new("true"))];
    let mut server = Server::start(folder.path(), port, &allow);
    let client = client(port);
    // The first call is never answered: the server dies while it waits.
    let (receiver_port, calls) = receiver(|call| call > 0);
    let mut spec = RunSpec::graph("count").with_input(serde_json::json!({"n": 1}));
    spec.webhook = Some(Webhook { url: format!("http://127.0.0.1:{receiver_port}/") });
    let run = client.create_run(spec).await.unwrap();
    let next = || calls.recv_timeout(Duration::from_secs(30)).expect("nobody calls");
    assert_eq!(next(), run.run_id);
    let ended = client.wait_run(WaitRunRequest::from(run.run_id.as_str())).await.unwrap();
    assert_eq!(ended.run.unwrap().state(), RunState::Succeeded);
    server.kill();

    let mut server = Server::start(folder.path(), port, &allow);
    assert_eq!(next(), run.run_id, "it is called again, with the same id");
    server.stop();
    let store = SqliteStore::open(OpenOptions::new(folder.path().join("data"))).unwrap();
    assert!(store.waiting_deliveries(9).await.unwrap().is_empty(), "what was taken waits to be posted again");
    assert!(calls.try_recv().is_err());
}
