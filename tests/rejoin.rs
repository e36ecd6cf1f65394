//! The client rejoins by itself: behind a proxy that cuts the connection after every frame in turn, no part is missing and
//! none comes twice (G9). The server is real, the sockets are real.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt;
use runloom::{
    Client, ClientOptions,
    v1::{StreamMode, stream_run_response::Payload},
};
use runloom_service::{Server, listen};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

const GRAPH: &str = r#"
runloom: v1
name: talk
state:
  messages: { reducer: messages }
  log: { reducer: append }
models:
  bot: { scripted: { responses: [ { content: "one two three" } ] } }
nodes:
  say: { chat_model: { model: bot } }
  note: { steps: [ { emit: '{"at": "note"}' }, { update: { log: '["noted"]' } } ] }
edges:
  - { from: START, to: say }
  - { from: say, to: note }
"#;

/// Forwards to a server; of the first connection it lets through so many frames from the server, then cuts it in the
/// middle of the next. Later connections it leaves alone.
struct Cutter {
    server: SocketAddr,
    frames: usize,
    connections: AtomicUsize,
    cut: AtomicUsize,
}

impl Cutter {
    async fn listen(server: SocketAddr, frames: usize) -> (SocketAddr, Arc<Self>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let this = Arc::new(Self { server, frames, connections: AtomicUsize::new(0), cut: AtomicUsize::new(0) });
        let cutter = this.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let number = cutter.connections.fetch_add(1, Ordering::SeqCst);
                let cutter = cutter.clone();
                tokio::spawn(async move { cutter.forward(client, number == 0).await });
            }
        });
        (address, this)
    }

    async fn forward(&self, client: TcpStream, cuts: bool) {
        let Ok(server) = TcpStream::connect(self.server).await else { return };
        client.set_nodelay(true).unwrap();
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let up = tokio::spawn(async move {
            let _ = tokio::io::copy(&mut from_client, &mut to_server).await;
        });
        if cuts {
            // HTTP/2 frames: three bytes of length, six more of head.
            let mut head = [0; 9];
            for _ in 0..self.frames {
                if from_server.read_exact(&mut head).await.is_err() {
                    return;
                }
                let mut body = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
                if from_server.read_exact(&mut body).await.is_err() {
                    return;
                }
                let _ = to_client.write_all(&head).await;
                let _ = to_client.write_all(&body).await;
            }
            // Half of the next frame's head, so that the cut is in the middle of something.
            if from_server.read_exact(&mut head[..4]).await.is_ok() {
                self.cut.fetch_add(1, Ordering::SeqCst);
                let _ = to_client.write_all(&head[..4]).await;
            }
        } else {
            let _ = tokio::io::copy(&mut from_server, &mut to_client).await;
        }
        up.abort();
    }
}

fn spec() -> runloom::v1::RunSpec {
    runloom::v1::RunSpec::graph("talk")
        .with_new_thread(uuid::Uuid::new_v4().to_string())
        .with_input(serde_json::json!({"messages": [{"role": "user", "content": "go"}]}))
        .with_modes([
            StreamMode::Values,
            StreamMode::Updates,
            StreamMode::Messages,
            StreamMode::Custom,
            StreamMode::Tasks,
            StreamMode::Events,
        ])
}

/// What a stream gave: the numbered parts, and what kind each is.
async fn parts(client: &Client, spec: runloom::v1::RunSpec) -> Vec<(u64, &'static str)> {
    let mut stream = client.stream_run(spec);
    let mut seen = Vec::new();
    while let Some(part) = stream.next().await {
        let part = part.unwrap();
        let kind = match part.payload.unwrap() {
            Payload::Metadata(_) => "metadata",
            Payload::Event(_) => "event",
            Payload::Update(_) => "update",
            Payload::Value(_) => "value",
            Payload::MessageChunk(_) => "chunk",
            Payload::Custom(_) => "custom",
            Payload::Task(_) => "task",
            Payload::End(_) => "end",
            _ => continue,
        };
        if part.seq > 0 {
            seen.push((part.seq, kind));
        }
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_part_is_missing_or_comes_twice_wherever_the_connection_is_cut() {
    let server = Server::builder()
        .store(Arc::new(runloom_store::MemoryStore::new()))
        .document("talk.yaml", GRAPH)
        .start()
        .await
        .unwrap();
    let handle = server.spawn(listen("127.0.0.1:0").await.unwrap()).unwrap();
    let direct = Client::connect(handle.address().to_string()).await.unwrap();
    let whole = parts(&direct, spec()).await;
    assert!(whole.len() > 20 && whole.last().unwrap().1 == "end", "{whole:?}");

    let mut options = ClientOptions::default();
    options.retry.initial_delay = Duration::from_millis(1);
    options.retry.max_delay = Duration::from_millis(5);
    let mut frames = 1;
    loop {
        let (address, cutter) = Cutter::listen(handle.address(), frames).await;
        let client = Client::connect_lazy(address.to_string(), options.clone()).unwrap();
        let got = tokio::time::timeout(Duration::from_secs(20), parts(&client, spec())).await.expect("it hangs");
        let kinds: Vec<_> = got.iter().map(|(_, kind)| *kind).collect();
        let wanted: Vec<_> = whole.iter().map(|(_, kind)| *kind).collect();
        assert_eq!(kinds, wanted, "cut after {frames} frames");
        assert!(got.windows(2).all(|w| w[1].0 == w[0].0 + 1), "cut after {frames} frames: {got:?}");
        if cutter.cut.load(Ordering::SeqCst) == 0 {
            break;
        }
        assert!(cutter.connections.load(Ordering::SeqCst) > 1, "cut after {frames} frames: nobody came back");
        frames += 1;
    }
    // A busy machine sends several parts in one frame.
    assert!(frames > 3, "the connection was cut {frames} times only");
    handle.shutdown().await.unwrap();
}
