//! The client rejoins by itself: behind a proxy that cuts the connection after every frame in turn, no part is missing and
//! none comes twice (G9). The server is real, the sockets are real.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt;
use prost::Message;
use runloom::{
    Client, ClientOptions,
    v1::{StreamMode, StreamRunResponse, stream_run_response::Payload},
};
use runloom_service::{Server, listen};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
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
///
/// A server puts as many parts into a frame as it has at the moment: the cutter takes the frames apart, so that each part
/// comes in one of its own, however busy the machine is.
struct Cutter {
    server: SocketAddr,
    frames: usize,
    connections: AtomicUsize,
    /// Whether it has cut: nothing was left to come otherwise.
    cut: AtomicBool,
    /// Whether the part that ends the stream went through before that.
    ended: AtomicBool,
}

/// An HTTP/2 frame, head and all.
type Frame = Vec<u8>;

/// The length, the kind, the flags and the stream: nine bytes.
const HEAD: usize = 9;
const DATA: u8 = 0;
const END_STREAM: u8 = 1;

impl Cutter {
    async fn listen(server: SocketAddr, frames: usize) -> (SocketAddr, Arc<Self>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let this = Arc::new(Self {
            server,
            frames,
            connections: AtomicUsize::new(0),
            cut: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        });
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
            self.cut(&mut from_server, &mut to_client).await;
        } else {
            let _ = tokio::io::copy(&mut from_server, &mut to_client).await;
        }
        up.abort();
    }

    /// Ends when the client disconnects, or at the cut.
    async fn cut(&self, from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf) {
        let (mut left, mut unfinished) = (self.frames, Vec::new());
        while let Some(frame) = read_frame(from).await {
            for frame in parts_of(frame, &mut unfinished) {
                if left == 0 {
                    // Half of the frame's head, so that the cut is in the middle of something.
                    self.cut.store(true, Ordering::SeqCst);
                    let _ = to.write_all(&frame[..4]).await;
                    return;
                }
                left -= 1;
                // Told before it is so: who reads the end looks here at once.
                if is_end(&frame) {
                    self.ended.store(true, Ordering::SeqCst);
                }
                if to.write_all(&frame).await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn read_frame(from: &mut OwnedReadHalf) -> Option<Frame> {
    let mut frame = vec![0; HEAD];
    from.read_exact(&mut frame).await.ok()?;
    frame.resize(HEAD + u32::from_be_bytes([0, frame[0], frame[1], frame[2]]) as usize, 0);
    from.read_exact(&mut frame[HEAD..]).await.ok()?;
    Some(frame)
}

/// One frame for each message of gRPC's in a frame of data; other frames as they are. What is left of a message that goes
/// on in the next frame is kept for that.
fn parts_of(frame: Frame, unfinished: &mut Vec<u8>) -> Vec<Frame> {
    if frame[3] != DATA {
        return vec![frame];
    }
    assert_eq!(frame[4] & !END_STREAM, 0, "data that is padded");
    unfinished.extend_from_slice(&frame[HEAD..]);
    let mut frames = Vec::new();
    // A message has a head of its own: whether it is compressed, and its length.
    while let Some(length) = unfinished.get(1..5) {
        let whole = 5 + u32::from_be_bytes(length.try_into().unwrap()) as usize;
        if unfinished.len() < whole {
            break;
        }
        let mut part = u32::try_from(whole).unwrap().to_be_bytes()[1..].to_vec();
        part.extend([DATA, 0]);
        part.extend_from_slice(&frame[5..HEAD]);
        part.extend(unfinished.drain(..whole));
        frames.push(part);
    }
    frames
}

fn is_end(frame: &[u8]) -> bool {
    let part = |message| StreamRunResponse::decode(message).expect("a part of a stream");
    frame[3] == DATA && matches!(part(&frame[HEAD + 5..]).payload, Some(Payload::End(_)))
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

// G9, G11
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_part_is_missing_or_comes_twice_wherever_the_connection_is_cut() {
    let server = Server::builder()
        .store(Arc::new(runloom_store_memory::MemoryStore::new()))
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
    let wanted: Vec<_> = whole.iter().map(|(_, kind)| *kind).collect();
    let (mut frames, mut rejoined) = (0, 0);
    loop {
        let (address, cutter) = Cutter::listen(handle.address(), frames).await;
        let client = Client::connect_lazy(address.to_string(), options.clone()).unwrap();
        let got = tokio::time::timeout(Duration::from_secs(20), parts(&client, spec())).await.expect("it hangs");
        let kinds: Vec<_> = got.iter().map(|(_, kind)| *kind).collect();
        assert_eq!(kinds, wanted, "cut after {frames} frames");
        assert!(got.windows(2).all(|w| w[1].0 == w[0].0 + 1), "cut after {frames} frames: {got:?}");
        // Past the last part there is nothing to come back for.
        if cutter.ended.load(Ordering::SeqCst) {
            break;
        }
        assert!(cutter.cut.load(Ordering::SeqCst), "neither cut nor ended after {frames} frames");
        assert!(cutter.connections.load(Ordering::SeqCst) > 1, "cut after {frames} frames: no client reconnected");
        (frames, rejoined) = (frames + 1, rejoined + 1);
    }
    assert!(rejoined >= whole.len(), "{rejoined} cuts, and {} parts", whole.len());
    handle.shutdown().await.unwrap();
}
