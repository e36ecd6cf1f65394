//! No acknowledgement leaves before its fdatasync (G17, G18), and what never waits for the disk does not (G19): the calls
//! by which the server makes its writes durable are held and failed, by a library that is preloaded into it.
#![allow(missing_docs, clippy::unwrap_used)]
#![cfg(target_os = "linux")]

#[path = "support/server.rs"]
mod server;

use std::{
    future::Future,
    path::{Path, PathBuf},
    pin::Pin,
    process::Command,
    time::Duration,
};

use futures_util::{FutureExt, StreamExt};
use runloom::{
    Client, ClientOptions,
    v1::{
        CreateThreadRequest, Durability, GetThreadRequest, RunSpec, StreamMode, StreamRunResponse, UpdateStateRequest,
        stream_run_response::Payload,
    },
};
use server::{Server, folder, free_port};

const GRAPH: &str = r#"
runloom: v1
name: two
state:
  log: { reducer: append }
nodes:
  one: { steps: [ { emit: '{"at": "one"}' }, { update: { log: '["one"]' } } ] }
  two: { update: { log: '["two"]' } }
edges:
  - { from: START, to: one }
  - { from: one, to: two }
"#;

/// The gate in front of the disk.
struct Gate(PathBuf);

impl Gate {
    fn close(&self) {
        let _ = std::fs::remove_file(self.0.join("entered"));
        std::fs::write(self.0.join("closed"), "").unwrap();
    }

    fn open(&self) {
        std::fs::remove_file(self.0.join("closed")).unwrap();
    }

    fn fail(&self, fails: bool) {
        let path = self.0.join("fail");
        if fails { std::fs::write(path, "").unwrap() } else { std::fs::remove_file(path).unwrap() }
    }

    /// Waits until the server stands at the gate.
    async fn entered(&self) {
        tokio::time::timeout(Duration::from_secs(30), async {
            while !self.0.join("entered").exists() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await
        .expect("the server makes nothing durable");
    }
}

fn preload(folder: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/sync_gate.c");
    let library = folder.join("sync_gate.so");
    let done =
        Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).arg("-ldl").status();
    assert!(done.unwrap().success(), "cc makes no library");
    library
}

struct Setup {
    _server: Server,
    _folder: tempfile::TempDir,
    gate: Gate,
    client: Client,
}

async fn setup() -> Setup {
    let folder = folder(&[("two.yaml", GRAPH)]);
    let library = preload(folder.path());
    let gate = Gate(folder.path().join("gate"));
    std::fs::create_dir(&gate.0).unwrap();
    let port = free_port();
    let server = Server::start(folder.path(), port, &[("LD_PRELOAD", &library), ("SYNC_GATE", &gate.0)]);
    let mut options = ClientOptions::default();
    options.retry.max_retries = 0;
    let client = Client::connect_with(format!("127.0.0.1:{port}"), options).await.unwrap();
    Setup { _server: server, _folder: folder, gate, client }
}

type Answer = Pin<Box<dyn Future<Output = ()> + Send>>;

fn id() -> String {
    uuid::Uuid::new_v4().to_string()
}

fn spec(thread: &str, durability: Durability) -> RunSpec {
    let mut spec = RunSpec::graph("two")
        .with_thread(thread)
        .with_input(serde_json::json!({}))
        .with_modes([StreamMode::Updates, StreamMode::Custom]);
    spec.durability = durability.into();
    spec
}

impl Setup {
    async fn thread(&self) -> String {
        self.client.create_thread(CreateThreadRequest::default()).await.unwrap().thread_id
    }

    /// The server answers what needs no disk: whatever it had to send before that has been sent.
    async fn round_trip(&self, known: &str) {
        let request = GetThreadRequest { thread_id: known.to_owned(), ..GetThreadRequest::default() };
        for _ in 0..20 {
            self.client.get_thread(request.clone()).await.unwrap();
        }
    }
}

// G17
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledgement_waits_for_the_disk() {
    let s = setup().await;
    let known = s.thread().await;
    let calls: Vec<(&str, Answer)> = {
        let (c, a, b) = (s.client.clone(), s.client.clone(), s.client.clone());
        let (of_run, of_state) = (s.thread().await, s.thread().await);
        let done = s.client.stream_run(spec(&of_state, Durability::Async)).end().await.unwrap();
        drop(done);
        vec![
            (
                "CreateThread",
                async move { drop(c.create_thread(CreateThreadRequest::default()).await.unwrap()) }.boxed(),
            ),
            ("CreateRun", async move { drop(a.create_run(spec(&of_run, Durability::Async)).await.unwrap()) }.boxed()),
            (
                "UpdateState",
                async move {
                    let values = Some(serde_json::json!({"log": ["by hand"]}).into());
                    let request = UpdateStateRequest { thread_id: of_state, values, ..UpdateStateRequest::default() };
                    drop(b.update_state(request).await.unwrap());
                }
                .boxed(),
            ),
        ]
    };
    for (name, call) in calls {
        s.gate.close();
        let mut call = tokio::spawn(call);
        s.gate.entered().await;
        s.round_trip(&known).await;
        assert!((&mut call).now_or_never().is_none(), "{name} was answered before its fdatasync");
        s.gate.open();
        call.await.unwrap();
    }

    // The first part of a run's stream too.
    let thread = s.thread().await;
    s.gate.close();
    let mut stream = s.client.stream_run(spec(&thread, Durability::Async));
    let mut first = tokio::spawn(async move { (stream.next().await.unwrap().unwrap(), stream) });
    s.gate.entered().await;
    s.round_trip(&known).await;
    assert!((&mut first).now_or_never().is_none(), "the first Metadata came before its fdatasync");
    s.gate.open();
    let (first, stream) = first.await.unwrap();
    assert!(matches!(first.payload, Some(Payload::Metadata(_))));
    stream.end().await.unwrap();
}

/// Reads until a part is as wanted.
async fn until(stream: &mut runloom::RunStream, what: impl Fn(&Payload) -> bool) -> StreamRunResponse {
    loop {
        let part = stream.next().await.expect("the stream ended").unwrap();
        if part.payload.as_ref().is_some_and(&what) {
            return part;
        }
    }
}

// G17, G18, G19
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_waits_for_the_disk_and_what_streams_does_not() {
    let s = setup().await;
    let known = s.thread().await;
    let thread = s.thread().await;
    // The run stops at a breakpoint, so that the next one begins with what has been made durable.
    let mut first = spec(&thread, Durability::Async);
    first.interrupt_before = vec!["one".to_owned()];
    s.client.stream_run(first).end().await.unwrap();
    let mut go_on = spec(&thread, Durability::Async);
    go_on.start = None;
    let mut stream = s.client.stream_run(go_on);
    let running = |p: &Payload| matches!(p, Payload::Metadata(m) if m.attempt > 0);
    until(&mut stream, running).await;
    s.gate.close();
    // Whatever of the rest is not on disk yet: custom data and updates come all the same, the end does not.
    let mut seen = Vec::new();
    let mut end = tokio::spawn(async move {
        loop {
            let part = stream.next().await.unwrap().unwrap();
            let is_end = matches!(part.payload, Some(Payload::End(_)));
            seen.push(part);
            if is_end {
                return seen;
            }
        }
    });
    s.gate.entered().await;
    s.round_trip(&known).await;
    assert!((&mut end).now_or_never().is_none(), "End came before its fdatasync");
    s.gate.open();
    let seen = end.await.unwrap();
    assert!(matches!(seen.last().unwrap().payload, Some(Payload::End(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_is_an_error_and_no_acknowledgement() {
    let s = setup().await;
    let known = s.thread().await;
    s.gate.fail(true);
    let lost = id();
    let request = CreateThreadRequest { thread_id: lost.clone(), ..CreateThreadRequest::default() };
    let error = s.client.create_thread(request).await.unwrap_err();
    assert!(error.to_string().to_lowercase().contains("store"), "{error}");
    s.gate.fail(false);
    // What was there is there, and writes work again by themselves.
    s.round_trip(&known).await;
    let again = tokio::time::timeout(Duration::from_secs(30), async {
        loop {
            match s.client.create_thread(CreateThreadRequest::default()).await {
                Ok(thread) => return thread,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    });
    again.await.expect("writes do not work again");
}
