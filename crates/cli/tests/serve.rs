//! `runloom serve`, and the commands that need a server.
#![allow(missing_docs)]

mod common;

use std::fs;

use common::{Server, folder, path, run};
use serde_json::Value;

/// A graph that says which version of it ran.
fn document(version: u32) -> String {
    format!(
        "runloom: v1\nname: answer\ndescription: Version {version}.\nstate:\n  x: {{}}\nnodes:\n  say: {{ update: {{ x: {version} }} }}\nedges:\n  - {{ from: START, to: say }}\n"
    )
}

#[test]
fn the_banner_has_commands_that_work() {
    let server = Server::start(&["--data", ":memory:"]);
    let address = server.address.as_str();
    for expected in ["serves 7 graphs", "agent", "grpcurl -plaintext -d '{\"run\":", "runloom.v1.Runs/StreamRun"] {
        assert!(server.banner.contains(expected), "{expected}: {}", server.banner);
    }
    let line = server.banner.lines().find(|line| line.contains("runloom run ")).unwrap();
    let args: Vec<&str> = line.split_whitespace().skip(1).collect();
    let ended = run(&args);
    assert_eq!(ended.code, Some(0), "{line}: {ended:?}");
    assert!(ended.err.contains(" · thread "), "{}", ended.err);

    let health = run(&["health", "--addr", address]);
    assert_eq!((health.code, health.out.as_str()), (Some(0), "serving\n"), "{health:?}");
    assert_eq!(run(&["health", "--addr", address, "--service", "nobody"]).code, Some(1));
}

#[test]
fn runs_and_threads_of_a_server_are_shown() {
    let server = Server::start(&["--data", ":memory:"]);
    let at = |args: &[&str]| {
        let all: Vec<&str> = args.iter().copied().chain(["--addr", &server.address]).collect();
        run(&all)
    };
    let interrupted = at(&["run", "approval", "tea"]);
    assert_eq!(interrupted.code, Some(3), "{interrupted:?}");
    assert!(interrupted.err.contains(&format!(" --addr {}", server.address)), "{}", interrupted.err);

    let threads = at(&["threads", "list", "--status", "interrupted"]);
    let row: Vec<&str> = threads.out.trim_end().split('\t').collect();
    let [thread, "approval", "INTERRUPTED", _, question] = row[..] else { panic!("{threads:?}") };
    assert!(question.contains("Publish this?"), "{question}");
    let shown = at(&["threads", "show", thread]);
    assert!(shown.out.contains("\"status\": \"waiting\""), "{}", shown.out);
    let history = at(&["threads", "history", thread]);
    let steps: Vec<&str> = history.out.lines().map(|line| line.split('\t').nth(1).unwrap()).collect();
    assert_eq!(steps, ["1", "0", "-1"]);
    let states = at(&["threads", "history", thread, "--json"]);
    let newest: Value = serde_json::from_str(states.out.lines().next().unwrap()).unwrap();
    assert_eq!(newest["values"]["topic"], "tea");

    let runs = at(&["runs", "list", "--state", "awaiting-input", "--thread", thread]);
    let row: Vec<&str> = runs.out.trim_end().split('\t').collect();
    let [run, "approval", "AWAITING_INPUT", _, _, _] = row[..] else { panic!("{runs:?}") };
    let shown: Value = serde_json::from_str(&at(&["runs", "show", run, "--json"]).out).unwrap();
    assert_eq!((&shown["run_id"], &shown["state"]), (&run.into(), &"RUN_STATE_AWAITING_INPUT".into()));
    let joined = at(&["runs", "join", run]);
    assert_eq!((joined.code, joined.out.as_str()), (Some(3), interrupted.out.as_str()), "{joined:?}");
    let cancelled = at(&["runs", "cancel", run]);
    assert_eq!(cancelled.code, Some(0), "one that has ended is left as it is: {cancelled:?}");

    let unknown = at(&["runs", "show", "0198f3a0-0000-7000-8000-000000000001"]);
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.err.contains("(RUN_NOT_FOUND)") && unknown.err.contains("runloom runs list"), "{}", unknown.err);
    let none = at(&["runs", "list", "--state", "failed"]);
    assert_eq!((none.code, none.out.as_str()), (Some(0), ""));
}

#[test]
fn an_active_run_is_cancelled_by_another_client() {
    let graphs = folder(&[(
        "slow.yaml",
        "runloom: v1\nname: slow\nstate:\n  x: {}\nnodes:\n  wait: { sleep_ms: 60000 }\nedges:\n  - { from: START, to: wait }\n",
    )]);
    let server = Server::start(&["--data", ":memory:", "--graphs", path(graphs.path())]);
    let mut command = common::runloom(&["run", "slow", "{}", "--addr", &server.address]);
    let mut child = command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    common::read_until(child.stderr.as_mut().unwrap(), "▸ wait");
    let running = run(&["runs", "list", "--state", "running", "--addr", &server.address]);
    let id = running.out.split('\t').next().unwrap();
    let cancelled = run(&["runs", "cancel", id, "--wait", "--addr", &server.address]);
    assert!(cancelled.out.contains("CANCELLED"), "{cancelled:?}");
    assert_eq!(common::wait(&mut child), Some(1), "the client that watches the run fails");
}

#[test]
fn a_port_in_use_is_reported_and_nothing_is_changed() {
    let server = Server::start(&["--data", ":memory:"]);
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().join("data");
    let second = run(&["serve", "--grpc", &server.address, "--data", path(&folder)]);
    assert_eq!(second.code, Some(1), "{second:?}");
    assert!(second.err.contains(&format!("{} is taken", server.address)), "{}", second.err);
    assert!(second.err.contains("runloom serve --grpc 127.0.0.1:"), "{}", second.err);
    let http = run(&["serve", "--grpc", "127.0.0.1:0", "--http", &server.address, "--data", path(&folder)]);
    assert_eq!(http.code, Some(1), "{http:?}");
    assert!(http.err.contains("runloom serve --http 127.0.0.1:") && http.err.contains("--http off"), "{}", http.err);
    assert!(!folder.exists());
}

#[test]
fn a_data_folder_has_one_server() {
    let data = tempfile::tempdir().unwrap();
    let _server = Server::start(&["--data", path(data.path())]);
    let second = run(&["serve", "--grpc", "127.0.0.1:0", "--data", path(data.path())]);
    assert_eq!(second.code, Some(1), "{second:?}");
    assert!(second.err.contains("in use by another server") && second.err.contains("--data"), "{}", second.err);
}

#[test]
fn an_invalid_document_is_reported_and_the_server_does_not_start() {
    let graphs = folder(&[("answer.yaml", &document(1).replace("update:", "updte:"))]);
    let ended = run(&["serve", "--grpc", "127.0.0.1:0", "--data", ":memory:", "--graphs", path(graphs.path())]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    for expected in ["answer.yaml:7:10", "did you mean `update`?", "runloom graph check"] {
        assert!(ended.err.contains(expected), "{expected}: {}", ended.err);
    }
}

#[test]
fn the_folder_is_reloaded_and_an_invalid_document_keeps_its_revision() {
    let graphs = folder(&[("answer.yaml", &document(1))]);
    let file = graphs.path().join("answer.yaml");
    let server = Server::start(&["--data", ":memory:", "--graphs", path(graphs.path())]);
    let answer = |graph: &str| run(&["run", graph, "{}", "--addr", &server.address]).out;
    assert_eq!(answer("answer"), "{\"x\":1}\n");

    fs::write(&file, document(2)).unwrap();
    assert!(server.logs("loaded").contains("answer"));
    assert_eq!(answer("answer"), "{\"x\":2}\n");

    fs::write(&file, document(3).replace("START", "STRAT")).unwrap();
    let line = server.logs("STRAT");
    assert!(line.contains("answer.yaml:9:13: ") && line.contains("there is no node `STRAT`"), "{line}");
    server.logs("the previous revision stays");
    assert_eq!(answer("answer"), "{\"x\":2}\n");

    fs::write(&file, document(4)).unwrap();
    server.logs("loaded");
    assert_eq!(answer("answer"), "{\"x\":4}\n");

    fs::write(graphs.path().join("other.yaml"), document(5).replace("name: answer", "name: other")).unwrap();
    server.logs("loaded");
    assert_eq!(answer("other"), "{\"x\":5}\n");
    fs::remove_file(&file).unwrap();
    server.logs("no longer served");
    let listed = run(&["graph", "list", "--addr", &server.address]).out;
    assert!(listed.starts_with("other\tVersion 5.\tfolder\t"), "{listed}");
}

#[cfg(unix)]
#[test]
fn a_signal_drains_and_a_second_one_stops_immediately() {
    let mut idle = Server::start(&["--data", ":memory:"]);
    idle.signal("TERM");
    idle.logs("draining");
    assert_eq!(idle.wait(), Some(0));

    let graphs = folder(&[(
        "slow.yaml",
        "runloom: v1\nname: slow\nstate:\n  x: {}\nnodes:\n  wait: { sleep_ms: 60000 }\nedges:\n  - { from: START, to: wait }\n",
    )]);
    let mut busy = Server::start(&["--data", ":memory:", "--graphs", path(graphs.path())]);
    let mut command = common::runloom(&["run", "slow", "{}", "--addr", &busy.address]);
    let mut child = command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    common::read_until(child.stderr.as_mut().unwrap(), "▸ wait");
    busy.signal("INT");
    busy.logs("draining");
    busy.signal("INT");
    assert_eq!(busy.wait(), Some(130));
    let _ = child.kill();
    let _ = child.wait();
}

#[test]
fn options_are_checked() {
    for (args, expected) in [
        (&["serve", "--grpc", "nowhere"][..], "cannot listen at nowhere"),
        (&["serve", "--max-running", "0"], "--max-running"),
        (&["serve", "--cors", "example.com/app"], "https://app.example.com"),
        (&["serve", "--drain-timeout", "long"], "invalid duration `long`"),
        (&["serve", "--grpc", "127.0.0.1:0", "--data", ":memory:", "--graphs", "/no/such"], "/no/such"),
    ] {
        let ended = run(args);
        assert!(matches!(ended.code, Some(1 | 2)), "{args:?}: {ended:?}");
        assert!(ended.err.contains(expected), "{args:?}: {ended:?}");
    }
    let mut command = common::runloom(&["serve", "--grpc", "127.0.0.1:0", "--data", ":memory:"]);
    let filter = common::ended({
        command.env("RUST_LOG", "a=b=c");
        command
    });
    assert_eq!(filter.code, Some(2), "{filter:?}");
    assert!(filter.err.contains("RUST_LOG"), "{}", filter.err);
}
