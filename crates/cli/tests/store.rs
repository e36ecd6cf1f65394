//! `runloom store`: checks, migrations and backups, on SQLite and on a real Postgres.
#![allow(missing_docs, clippy::unwrap_used)]
#![cfg(unix)]

#[path = "support/server.rs"]
mod server;

use std::{
    io::Write,
    process::{Command, Output, Stdio},
};

use futures_util::StreamExt;
use runloom::{
    Client, ClientOptions,
    v1::{
        CreateThreadRequest, GetStateRequest, JoinRunRequest, ListThreadsRequest, RunSpec, RunState, WaitRunRequest,
        stream_run_response::Payload, wait_run_request::Target,
    },
};
use runloom_store_postgres::testing;
use server::{Server, folder, free_port};

fn runloom(arguments: &[&str]) -> (bool, String) {
    let Output { status, stdout, stderr } =
        Command::new(env!("CARGO_BIN_EXE_runloom")).args(arguments).output().unwrap();
    (status.success(), String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap())
}

async fn client(port: u16) -> Client {
    Client::connect_with(format!("127.0.0.1:{port}"), ClientOptions::default()).await.unwrap()
}

#[tokio::test]
async fn a_data_folder_is_checked_and_backed_up_while_it_is_served() {
    let (place, port) = (folder(&[]), free_port());
    let _server = Server::start(place.path(), port, &[]);
    client(port).await.create_thread(CreateThreadRequest::default()).await.unwrap();
    let data = place.path().join("data").display().to_string();
    let (ok, said) = runloom(&["store", "check", "--data", &data]);
    assert!(ok && said.contains("this program knows") && said.ends_with("ok\n"), "{said}");

    // The copy is a data folder of its own.
    let copy = folder(&[]);
    std::fs::create_dir(copy.path().join("data")).unwrap();
    let file = copy.path().join("data/runloom.db").display().to_string();
    let (ok, said) = runloom(&["store", "backup", "--data", &data, "--to", &file]);
    assert!(ok && said.contains("bytes"), "{said}");
    let (ok, said) = runloom(&["store", "backup", "--data", &data, "--to", &file]);
    assert!(!ok && said.contains("exists already"), "{said}");
    let port = free_port();
    let _restored = Server::start(copy.path(), port, &[]);
    let listed = client(port).await.list_threads(ListThreadsRequest::default()).await.unwrap();
    assert_eq!(listed.threads.len(), 1);
}

#[tokio::test]
async fn a_database_is_checked_and_migrated() {
    let Some(postgres) = testing::server() else {
        eprintln!("skipped: RUNLOOM_POSTGRES is not set; ./test rust sets it");
        return;
    };
    let url = postgres.url(&postgres.database().await);
    let (ok, said) = runloom(&["store", "check", "--store", &url]);
    assert!(ok && said.contains("none yet"), "{said}");
    let (ok, said) = runloom(&["store", "migrate", "--dry-run", "--store", &url]);
    assert!(ok && said.contains("CREATE TABLE runloom.threads"), "{said}");
    let (_, said) = runloom(&["store", "check", "--store", &url]);
    assert!(said.contains("none yet"), "a dry run changed something: {said}");
    let (ok, said) = runloom(&["store", "migrate", "--store", &url]);
    assert!(ok && said.starts_with("from version 0 to version"), "{said}");
    let (ok, said) = runloom(&["store", "check", "--store", &url]);
    assert!(ok && said.ends_with("ok\n"), "{said}");
    let (ok, said) = runloom(&["store", "migrate", "--dry-run", "--store", &url]);
    assert!(ok && said.contains("nothing to do"), "{said}");
}

#[test]
fn a_server_that_cannot_open_its_database_says_why() {
    let nobody = free_port();
    for (url, says) in [
        (format!("postgres://me:s3cret@127.0.0.1:{nobody}/db"), "cannot open the database db at 127.0.0.1"),
        ("mysql://me:s3cret@127.0.0.1/db".to_owned(), "postgres://user:password@host"),
    ] {
        let (ok, said) = runloom(&["serve", "--grpc", "127.0.0.1:0", "--http", "off", "--store", &url]);
        assert!(!ok && said.contains(says) && !said.contains("s3cret"), "{said}");
    }
}

#[tokio::test]
async fn a_data_folder_moves_to_postgres_and_its_runs_go_on() {
    let Some(postgres) = testing::server() else {
        eprintln!("skipped: RUNLOOM_POSTGRES is not set; ./test rust sets it");
        return;
    };
    let (place, port) = (folder(&[("count.yaml", COUNT)]), free_port());
    let mut server = Server::start(place.path(), port, &[]);
    let spec = |ms: u64| {
        let input = serde_json::json!({"n": 0, "ms": ms});
        RunSpec::graph("count").with_new_thread(uuid::Uuid::new_v4().to_string()).with_input(input)
    };
    let old = client(port).await;
    let ended = old.create_run(spec(0)).await.unwrap();
    old.wait_run(WaitRunRequest { target: Some(Target::RunId(ended.run_id.clone())), ..Default::default() })
        .await
        .unwrap();
    let active = old.create_run(spec(30)).await.unwrap();
    let mut parts = old.join_run(JoinRunRequest { run_id: active.run_id.clone(), ..Default::default() });
    while parts.next().await.unwrap().unwrap().seq < 5 {}
    server.kill();

    let (data, url) = (place.path().join("data").display().to_string(), postgres.url(&postgres.database().await));
    let (ok, lines) = runloom(&["store", "export", "--data", &data]);
    assert!(ok && lines.starts_with("{\"runloom_export\":1}\n"), "{lines}");
    let import = |lines: &str| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_runloom"))
            .args(["store", "import", "--store", &url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let _ = child.stdin.take().unwrap().write_all(lines.as_bytes());
        let done = child.wait_with_output().unwrap();
        (done.status.success(), String::from_utf8(done.stdout).unwrap() + &String::from_utf8(done.stderr).unwrap())
    };
    let (ok, said) = import(&lines.replace("\"table\":\"runs\"", "\"table\":\"walks\""));
    assert!(!ok && said.contains("unknown table `walks`"), "{said}");
    let (ok, said) = import(&lines);
    assert!(ok, "a refused import left something behind: {said}");
    let (ok, said) = import(&lines);
    assert!(!ok && said.contains("not empty"), "{said}");
    // What Postgres gives is what it was given.
    let (ok, again) = runloom(&["store", "export", "--store", &url]);
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert!(ok);
    assert_eq!(sorted(&again), sorted(&lines));

    let port = free_port();
    let _server = Server::start(place.path(), port, &[("RUNLOOM_STORE", url.as_ref())]);
    let new = client(port).await;
    for run in [ended, active] {
        let parts = new.join_run(JoinRunRequest { run_id: run.run_id.clone(), ..Default::default() });
        let parts: Vec<_> = parts.map(Result::unwrap).collect().await;
        let Some(Payload::End(end)) = &parts.last().unwrap().payload else { panic!("no end") };
        assert_eq!(end.state(), RunState::Succeeded);
        let request = GetStateRequest { thread_id: run.thread_id, ..Default::default() };
        let state = new.get_state(request).await.unwrap().checkpoint.unwrap().values.unwrap().decode().unwrap();
        assert_eq!(state["log"], serde_json::json!((0..40).collect::<Vec<_>>()));
    }
}

const COUNT: &str = r#"
runloom: v1
name: count
state:
  n: { schema: { type: integer } }
  ms: { schema: { type: integer } }
  log: { reducer: append }
nodes:
  one: { steps: [ { emit: '{"n": state.n}' }, { sleep_ms: state.ms }, { update: { n: 'state.n + 1', log: '[state.n]' } } ] }
edges:
  - { from: START, to: one }
  - { from: one, route: 'state.n < 40 ? "one" : "END"', to: [one, END] }
"#;
