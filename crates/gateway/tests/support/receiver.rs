//! A receiver of webhooks on a port of its own, which keeps what it is told.
#![allow(dead_code, clippy::unwrap_used)]

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

/// A call as it came.
#[derive(Debug)]
pub struct Call {
    pub head: String,
    pub body: String,
}

impl Call {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

pub struct Receiver {
    pub port: u16,
    calls: mpsc::UnboundedReceiver<Call>,
}

impl Receiver {
    /// Answers the first calls with these statuses, and all others with 200.
    pub async fn start(statuses: Vec<u16>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (told, calls) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut statuses = statuses.into_iter();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let status = statuses.next().unwrap_or(200);
                let Some(call) = answer(socket, status, port).await else { continue };
                if told.send(call).is_err() {
                    return;
                }
            }
        });
        Self { port, calls }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// The next call.
    pub async fn next(&mut self) -> Call {
        let call = tokio::time::timeout(Duration::from_secs(20), self.calls.recv()).await;
        call.expect("nobody calls").unwrap()
    }

    /// Whether nobody has called since the last call that was taken.
    pub fn is_quiet(&self) -> bool {
        self.calls.is_empty()
    }
}

/// Reads one call, and closes after its answer.
async fn answer(mut socket: TcpStream, status: u16, port: u16) -> Option<Call> {
    let mut raw = Vec::new();
    let split = loop {
        if let Some(at) = raw.windows(4).position(|w| w == b"\r\n\r\n") {
            break at + 4;
        }
        // One that wants TLS is hung up on.
        if socket.read_buf(&mut raw).await.ok()? == 0 || raw[0] == 0x16 {
            return None;
        }
    };
    let head = String::from_utf8(raw[..split].to_vec()).unwrap();
    let call = Call { head, body: String::new() };
    let length: usize = call.header("content-length")?.parse().unwrap();
    while raw.len() < split + length {
        if socket.read_buf(&mut raw).await.ok()? == 0 {
            return None;
        }
    }
    let body = String::from_utf8(raw[split..].to_vec()).unwrap();
    let more = if status == 302 { format!("location: http://127.0.0.1:{port}/elsewhere\r\n") } else { String::new() };
    let told = format!("HTTP/1.1 {status} X\r\n{more}content-length: 0\r\nconnection: close\r\n\r\n");
    socket.write_all(told.as_bytes()).await.ok()?;
    Some(Call { body, ..call })
}
