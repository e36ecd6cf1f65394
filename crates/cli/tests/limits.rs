//! The limits that an operator sets of `runloom serve`, as a client finds them.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use common::{Server, folder, path, run};
use runloom::{
    reason::{CURSOR, OLDEST_CURSOR},
    v1::{
        JoinRunRequest, RunSpec, RunState, StreamRunRequest, StreamRunResponse, WaitRunRequest,
        runs_client::RunsClient, stream_run_response::Payload, wait_run_request,
    },
};
use serde_json::json;
use tonic::{Code, Status, Streaming, transport::Channel};
use tonic_types::StatusExt;

const QUICK: &str = "runloom: v1\nname: quick\nstate:\n  x: {}\nnodes:\n  set: { update: { x: 1 } }\nedges:\n  - { from: START, to: set }\n";
const SLOW: &str = "runloom: v1\nname: slow\nstate:\n  x: {}\nnodes:\n  wait: { sleep_ms: 60000 }\nedges:\n  - { from: START, to: wait }\n";

async fn client(server: &Server) -> RunsClient<Channel> {
    RunsClient::connect(format!("http://{}", server.address)).await.unwrap()
}

fn stream(graph: &str) -> StreamRunRequest {
    StreamRunRequest { run: Some(RunSpec::graph(graph).with_input(json!({}))), ..Default::default() }
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what).await.expect("it did not come")
}

/// All parts of a stream, and how it broke off if it did.
async fn read(mut stream: Streaming<StreamRunResponse>) -> (Vec<StreamRunResponse>, Option<Status>) {
    let mut parts = Vec::new();
    loop {
        match soon(stream.message()).await {
            Ok(Some(part)) => parts.push(part),
            Ok(None) => return (parts, None),
            Err(status) => return (parts, Some(status)),
        }
    }
}

fn reason(status: &Status) -> (Code, String) {
    (status.code(), status.get_details_error_info().unwrap().reason)
}

fn metadata(status: &Status, key: &str) -> String {
    status.get_details_error_info().unwrap().metadata[key].clone()
}

// G10
#[tokio::test]
async fn a_log_goes_after_its_time_and_the_run_still_says_how_it_ended() {
    let graphs = folder(&[("quick.yaml", QUICK)]);
    let data = tempfile::tempdir().unwrap();
    for data in [":memory:", path(data.path())] {
        let server = Server::start(&["--data", data, "--graphs", path(graphs.path()), "--log-ttl", "300ms"]);
        let mut runs = client(&server).await;
        let mut asked = stream("quick");
        let thread = "0198c0de-0000-7000-8000-000000000001";
        asked.run = asked.run.map(|run| run.with_new_thread(thread));
        let (parts, none) = read(runs.stream_run(asked).await.unwrap().into_inner()).await;
        assert!(none.is_none() && parts.len() > 2, "{none:?} {parts:?}");
        let join = |cursor: &str| JoinRunRequest {
            run_id: parts[0].run_id.clone(),
            cursor: cursor.to_owned(),
            ..Default::default()
        };
        let expired = soon(async {
            loop {
                match runs.join_run(join(&parts[1].cursor)).await {
                    Err(status) => return status,
                    Ok(stream) => {
                        assert!(read(stream.into_inner()).await.1.is_none_or(|s| reason(&s).1 == "CURSOR_EXPIRED"))
                    }
                }
            }
        })
        .await;
        assert_eq!(reason(&expired), (Code::OutOfRange, "CURSOR_EXPIRED".into()));
        let whole = runs.join_run(join("")).await.unwrap_err();
        assert_eq!(reason(&whole).1, "CURSOR_EXPIRED");
        let oldest = metadata(&expired, OLDEST_CURSOR);
        let (rest, none) = read(runs.join_run(join(&oldest)).await.unwrap().into_inner()).await;
        assert!(none.is_none(), "{none:?}");
        let Some(Payload::End(end)) = &rest.last().unwrap().payload else { panic!("{rest:?}") };
        assert_eq!(end.state(), RunState::Succeeded);
        let target = Some(wait_run_request::Target::RunId(parts[0].run_id.clone()));
        let waited = runs.wait_run(WaitRunRequest { target, ..Default::default() }).await.unwrap().into_inner();
        assert_eq!(waited.end.unwrap().state(), RunState::Succeeded);
    }
}

// G10
#[tokio::test]
async fn a_stateless_run_goes_after_its_time() {
    let graphs = folder(&[("quick.yaml", QUICK)]);
    let environment = [("RUNLOOM_STATELESS_TTL", "300ms")];
    let server = Server::start_in(&["--data", ":memory:", "--graphs", path(graphs.path())], &environment);
    let mut runs = client(&server).await;
    let (parts, _) = read(runs.stream_run(stream("quick")).await.unwrap().into_inner()).await;
    let gone = soon(async {
        loop {
            let join = JoinRunRequest { run_id: parts[0].run_id.clone(), ..Default::default() };
            match runs.join_run(join).await {
                Err(status) => return status,
                Ok(stream) => drop(stream),
            }
        }
    })
    .await;
    assert_eq!(reason(&gone), (Code::NotFound, "RUN_NOT_FOUND".into()));
}

#[tokio::test]
async fn an_input_is_as_large_as_the_operator_says() {
    let graphs = folder(&[("quick.yaml", QUICK)]);
    let server = Server::start(&["--data", ":memory:", "--graphs", path(graphs.path()), "--max-input", "1KB"]);
    let mut runs = client(&server).await;
    let mut large = stream("quick");
    large.run = Some(RunSpec::graph("quick").with_input(json!({"x": "y".repeat(1000)})));
    let status = runs.stream_run(large).await.unwrap_err();
    assert_eq!(reason(&status), (Code::InvalidArgument, "INPUT_TOO_LARGE".into()));
    assert_eq!((metadata(&status, "maximum_bytes"), metadata(&status, "size_bytes")), ("1000".into(), "1008".into()));
}

#[tokio::test]
async fn a_connection_has_so_many_streams() {
    let graphs = folder(&[("slow.yaml", SLOW)]);
    let server = Server::start(&["--data", ":memory:", "--graphs", path(graphs.path()), "--max-streams", "1"]);
    let mut runs = client(&server).await;
    let _first = runs.stream_run(stream("slow")).await.unwrap();
    let status = runs.stream_run(stream("slow")).await.unwrap_err();
    assert_eq!(reason(&status), (Code::ResourceExhausted, "LIMIT_REACHED".into()));
    assert_eq!(metadata(&status, "maximum"), "1");
}

// G11
#[tokio::test]
async fn a_connection_gets_so_old_and_its_streams_are_told_to_join_again() {
    let graphs = folder(&[("slow.yaml", SLOW)]);
    let ages = ["--max-connection-age", "100ms", "--max-connection-age-grace", "100ms"];
    let server = Server::start(&[&["--data", ":memory:", "--graphs", path(graphs.path())], &ages[..]].concat());
    let (parts, broke) = read(client(&server).await.stream_run(stream("slow")).await.unwrap().into_inner()).await;
    let status = broke.expect("an end of the stream");
    assert_eq!(status.code(), Code::Unavailable);
    let join =
        JoinRunRequest { run_id: parts[0].run_id.clone(), cursor: metadata(&status, CURSOR), ..Default::default() };
    assert!(client(&server).await.join_run(join).await.is_ok());
}

#[test]
fn a_connection_that_answers_nothing_is_closed() {
    let server = Server::start(&["--data", ":memory:", "--keepalive", "100ms", "--keepalive-timeout", "100ms"]);
    let mut socket = TcpStream::connect(&server.address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    // The beginning of HTTP/2, with settings that change nothing. No PING is answered after that.
    socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    let ended = socket.read_to_end(&mut Vec::new());
    assert!(ended.is_ok() || ended.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset));
}

#[test]
fn limits_are_shown_and_checked() {
    let help = run(&["serve", "--help"]).out;
    for option in [
        "log-ttl",
        "stateless-ttl",
        "max-input",
        "max-attempts",
        "max-connection-age",
        "max-connection-age-grace",
        "keepalive",
        "keepalive-timeout",
        "max-streams",
    ] {
        let name = format!("RUNLOOM_{}", option.to_uppercase().replace('-', "_"));
        assert!(
            help.contains(&format!("--{option} ")) && help.contains(&format!("[env: {name}=]")),
            "{option}: {help}"
        );
        let wrong = run(&["serve", "--grpc", "127.0.0.1:0", "--data", ":memory:", &format!("--{option}"), "none"]);
        assert!(wrong.code == Some(2) && wrong.err.contains(option), "{option}: {wrong:?}");
    }
}
