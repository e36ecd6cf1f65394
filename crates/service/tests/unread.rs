//! Streams that nobody reads disturb nobody: their bodies hold no connection of the store while they wait (G7).
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::sync::Arc;

use prost::Message;
use runloom::v1::{GetRunRequest, JoinRunRequest, RunState, StreamMode, WaitRunRequest, wait_run_request::Target};
use runloom_store_sqlite::{OpenOptions, SqliteStore};
use serde_json::json;
use support::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut all = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    all.extend_from_slice(&[kind, flags]);
    all.extend_from_slice(&stream.to_be_bytes());
    all.extend_from_slice(payload);
    all
}

/// A connection with so many `JoinRun` streams, whose window for what the server sends is `window`.
async fn join_without_reading(address: &str, run_id: &str, streams: u32, window: u32) -> TcpStream {
    let mut headers = vec![0x83, 0x86];
    for (name, value) in [
        (&b":path"[..], &b"/runloom.v1.Runs/JoinRun"[..]),
        (b":authority", b"x"),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
    ] {
        headers.extend_from_slice(&[0, name.len() as u8]);
        headers.extend_from_slice(name);
        headers.push(value.len() as u8);
        headers.extend_from_slice(value);
    }
    let request = JoinRunRequest { run_id: run_id.to_owned(), ..JoinRunRequest::default() }.encode_to_vec();
    let message = [&[0][..], &(request.len() as u32).to_be_bytes(), &request].concat();
    let mut all = PREFACE.to_vec();
    all.extend(frame(4, 0, 0, &[&[0, 4][..], &window.to_be_bytes()].concat()));
    for stream in (0..streams).map(|n| 1 + 2 * n) {
        all.extend(frame(1, 4, stream, &headers));
        all.extend(frame(0, 1, stream, &message));
    }
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(&all).await.unwrap();
    socket
}

/// Reads frames until the server has answered so many streams with headers. It reads no part of any.
async fn until_answered(socket: &mut TcpStream, streams: usize) {
    let mut answered = 0;
    while answered < streams {
        let mut head = [0; 9];
        soon(socket.read_exact(&mut head)).await.unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        soon(socket.read_exact(&mut vec![0; length])).await.unwrap();
        answered += usize::from(head[3] == 1);
    }
}

#[tokio::test]
async fn streams_that_are_not_read_disturb_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteStore::open(OpenOptions::new(folder.path())).unwrap());
    let test = start_with(|builder| builder.store(store)).await;
    let mut spec = run(json!([{ "flood": 20_000 }]));
    spec.stream_modes = vec![StreamMode::Custom.into()];
    let wait = |spec| WaitRunRequest { target: Some(Target::Run(spec)), ..WaitRunRequest::default() };
    let run_id = test.runs().wait_run(wait(spec)).await.unwrap().into_inner().run.unwrap().run_id;

    let mut held = Vec::new();
    for (streams, window) in [(5, 0), (12, 0), (64, 0), (64, 1000)] {
        let mut socket = join_without_reading(&test.address(), &run_id, streams, window).await;
        until_answered(&mut socket, streams as usize).await;
        held.push(socket);
        for _ in 0..10 {
            let request = GetRunRequest { run_id: run_id.clone(), ..GetRunRequest::default() };
            soon(test.runs().get_run(request)).await.unwrap();
            let done = soon(test.runs().wait_run(wait(run(json!([]))))).await.unwrap().into_inner();
            assert_eq!(done.end.unwrap().state(), RunState::Succeeded);
        }
        // Who reads gets everything, late too.
        let request = JoinRunRequest { run_id: run_id.clone(), ..JoinRunRequest::default() };
        let (parts, broken) = read_raw(test.runs().join_run(request).await.unwrap().into_inner()).await;
        assert!(broken.is_none(), "{broken:?}");
        assert!(parts.len() > 20_000, "{}", parts.len());
    }
}
