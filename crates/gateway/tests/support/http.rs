//! A server on a port of its own, and a client that sees every byte.
#![allow(dead_code, clippy::unwrap_used)]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use runloom_core::{Core, CoreOptions};
use runloom_gateway::{Options, serve};
use runloom_store_memory::MemoryStore;
use serde_json::Value as Json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
};

/// Graphs that tests run: one that counts, at its own pace; one that says a sentence; one that asks; one that
/// tells its settings.
pub const GRAPHS: [(&str, &str); 4] = [
    (
        "count.yaml",
        r#"
runloom: v1
name: count
state: { n: { schema: { type: integer } }, max: { schema: { type: integer } }, ms: { schema: { type: integer } } }
nodes: { tick: { steps: [ { sleep_ms: state.ms }, { update: { n: 'state.n + 1' } } ] } }
edges:
  - { from: START, to: tick }
  - { from: tick, route: 'state.n < state.max ? "tick" : "END"', to: [tick, END] }
"#,
    ),
    (
        "chat.yaml",
        r#"
runloom: v1
name: chat
state: { messages: { reducer: messages } }
models: { bot: { scripted: { responses: [ { content: "Hello from a scripted model" } ] } } }
nodes: { say: { chat_model: { model: bot } } }
edges: [ { from: START, to: say } ]
"#,
    ),
    (
        "ask.yaml",
        r#"
runloom: v1
name: ask
state: { answer: {} }
nodes:
  review: { steps: [ { interrupt: { value: '"approve?"', as: told } }, { update: { answer: told } } ] }
edges: [ { from: START, to: review } ]
"#,
    ),
    (
        "settings.yaml",
        r#"
runloom: v1
name: settings
state: { seen: {} }
nodes: { look: { update: { seen: config } } }
edges: [ { from: START, to: look } ]
"#,
    ),
];

/// The input of a run that counts.
pub fn count(max: u32, ms: u32) -> Json {
    serde_json::json!({"n": 0, "max": max, "ms": ms})
}

pub struct Server {
    pub at: SocketAddr,
    pub core: Core,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Server {
    pub async fn start(options: Options) -> Self {
        Self::start_with(options, |_| {}).await
    }

    /// Starts one whose core is set by the test.
    pub async fn start_with(options: Options, set: impl FnOnce(&mut CoreOptions)) -> Self {
        let documents = GRAPHS.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect();
        let store = Arc::new(MemoryStore::new());
        let drain_timeout = Duration::from_millis(200);
        let mut core = CoreOptions { documents, drain_timeout, ..CoreOptions::new(store) };
        set(&mut core);
        let core = Core::start(core).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let serving = core.clone();
        let task = tokio::spawn(async move {
            serve(listener, serving, options, async { drop(stopped.await) }).await;
        });
        Self { at, core, stop: Some(stop), task }
    }

    /// Takes the server down, and waits for it.
    pub async fn stop(mut self) {
        self.begin_stop();
        tokio::time::timeout(Duration::from_secs(20), self.task).await.unwrap().unwrap();
    }

    pub fn begin_stop(&mut self) {
        drop(self.stop.take());
    }

    /// Sends a request and reads the head of the answer.
    pub async fn open(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut socket = TcpStream::connect(self.at).await.unwrap();
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n", self.at);
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        if method != "GET" {
            head += &format!("content-length: {}\r\n", body.len());
        }
        socket.write_all((head + "\r\n").as_bytes()).await.unwrap();
        // A server that refuses may close before it has read all.
        let _ = socket.write_all(body).await;
        Answer::of(socket).await
    }

    /// Sends JSON, and reads the whole answer as JSON.
    pub fn json<'a>(&'a self, method: &'a str, path: &'a str, body: Json) -> BoxFuture<'a, (u16, Json)> {
        // Boxed: a test that asks for much would not fit its stack.
        Box::pin(async move {
            let body = if method == "GET" { String::new() } else { body.to_string() };
            let mut answer = self.open(method, path, &[], body.as_bytes()).await;
            let text = answer.rest().await;
            (answer.status, serde_json::from_str(&text).unwrap_or(Json::Null))
        })
    }

    pub fn get<'a>(&'a self, path: &'a str) -> BoxFuture<'a, (u16, Json)> {
        self.json("GET", path, Json::Null)
    }

    pub async fn thread(&self) -> String {
        let (_, thread) = self.json("POST", "/threads", serde_json::json!({})).await;
        thread["thread_id"].as_str().unwrap().to_owned()
    }
}

/// An answer whose body is read as it comes.
pub struct Answer {
    pub status: u16,
    pub head: String,
    socket: TcpStream,
    raw: Vec<u8>,
    /// The body, decoded.
    pub text: String,
    /// The body, where it is compressed.
    body: Vec<u8>,
    binary: bool,
    chunked: bool,
    pub ended: bool,
}

impl Answer {
    async fn of(mut socket: TcpStream) -> Self {
        let mut raw = Vec::new();
        let end = loop {
            if let Some(at) = raw.windows(4).position(|w| w == b"\r\n\r\n") {
                break at;
            }
            let mut buffer = [0; 4096];
            let n = tokio::time::timeout(Duration::from_secs(10), socket.read(&mut buffer)).await.unwrap().unwrap();
            assert!(n > 0, "no head");
            raw.extend_from_slice(&buffer[..n]);
        };
        let head = String::from_utf8(raw[..end].to_vec()).unwrap().to_ascii_lowercase();
        raw.drain(..end + 4);
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let chunked = head.contains("transfer-encoding: chunked");
        let binary = head.contains("content-encoding:");
        let body = Vec::new();
        let mut answer = Self { status, head, socket, raw, text: String::new(), body, binary, chunked, ended: false };
        answer.decode();
        answer
    }

    fn decode(&mut self) {
        if !self.chunked {
            self.text += &String::from_utf8_lossy(&std::mem::take(&mut self.raw));
            return;
        }
        while let Some(at) = self.raw.windows(2).position(|w| w == b"\r\n") {
            let size = usize::from_str_radix(std::str::from_utf8(&self.raw[..at]).unwrap(), 16).unwrap();
            if self.raw.len() < at + 2 + size + 2 {
                return;
            }
            let piece = &self.raw[at + 2..at + 2 + size];
            match self.binary {
                true => self.body.extend_from_slice(piece),
                false => self.text += std::str::from_utf8(piece).unwrap(),
            }
            self.raw.drain(..at + 2 + size + 2);
            if size == 0 {
                self.ended = true;
            }
        }
    }

    /// The bytes of the body that have come, as they are: for what is compressed. Reads until `is_enough` says so.
    pub async fn bytes(&mut self, is_enough: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        assert!(self.binary, "the body is text");
        while !is_enough(&self.body) && !self.ended {
            assert!(self.more().await, "the body broke off");
        }
        self.body.clone()
    }

    /// Reads more. False at the end.
    pub async fn more(&mut self) -> bool {
        let mut buffer = [0; 65536];
        let read = tokio::time::timeout(Duration::from_secs(10), self.socket.read(&mut buffer)).await;
        match read.expect("nothing for ten seconds") {
            Ok(n) if n > 0 => {
                self.raw.extend_from_slice(&buffer[..n]);
                self.decode();
                true
            }
            _ => false,
        }
    }

    /// Reads until the body has a text in it.
    pub async fn until(&mut self, text: &str) {
        while !self.text.contains(text) {
            assert!(self.more().await, "`{text}` never came: {}", self.text);
        }
    }

    pub async fn rest(&mut self) -> String {
        while self.more().await {}
        self.text.clone()
    }

    /// A header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// The events of the whole stream.
    pub async fn events(&mut self) -> Vec<Sse> {
        self.rest().await;
        parse(&self.text)
    }
}

/// An event of a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Sse {
    pub name: String,
    pub data: Json,
    pub id: String,
}

pub fn parse(text: &str) -> Vec<Sse> {
    let blocks = text.split("\n\n").filter(|b| b.contains("event: "));
    let field = |block: &str, name: &str| {
        let found = block.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(": "));
        found.unwrap_or_default().to_owned()
    };
    blocks
        .map(|b| Sse {
            name: field(b, "event"),
            data: serde_json::from_str(&field(b, "data")).unwrap(),
            id: field(b, "id"),
        })
        .collect()
}
