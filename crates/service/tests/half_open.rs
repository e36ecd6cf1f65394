//! Connections on which too little arrives are closed, and others are served meanwhile.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::time::Duration;

use runloom::v1::{CreateRunRequest, Run};
use support::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::Code;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

/// HEADERS of a call of `CreateRun`, and DATA that announces 100 bytes and holds one; neither ends the stream.
fn unfinished_call() -> Vec<u8> {
    let mut headers = vec![0x83, 0x86];
    let mut literal = |name: &[u8], value: &[u8]| {
        headers.extend_from_slice(&[0, name.len() as u8]);
        headers.extend_from_slice(name);
        headers.push(value.len() as u8);
        headers.extend_from_slice(value);
    };
    literal(b":path", b"/runloom.v1.Runs/CreateRun");
    literal(b":authority", b"x");
    literal(b"content-type", b"application/grpc");
    literal(b"te", b"trailers");
    let mut all = [PREFACE, SETTINGS].concat();
    all.extend_from_slice(&[0, 0, headers.len() as u8, 1, 4, 0, 0, 0, 1]);
    all.extend_from_slice(&headers);
    all.extend_from_slice(&[0, 0, 6, 0, 0, 0, 0, 0, 1]);
    all.extend_from_slice(&[0, 0, 0, 0, 100, 1]);
    all
}

#[tokio::test]
async fn half_open_connections_are_closed_while_others_are_served() {
    let options = options(|options| {
        options.body_timeout = Duration::from_millis(300);
        options.connections.handshake_timeout = Duration::from_millis(300);
        options.connections.header_timeout = Duration::from_millis(300);
        options.connections.keepalive_interval = Some(Duration::from_millis(300));
        options.connections.keepalive_timeout = Duration::from_millis(300);
    });
    let test = start_with(|builder| builder.options(options)).await;
    let begun: [Vec<u8>; 5] =
        [Vec::new(), PREFACE[..10].to_vec(), [PREFACE, SETTINGS].concat(), b"GET / HT".to_vec(), unfinished_call()];
    let mut sockets = Vec::new();
    for bytes in &begun {
        for _ in 0..20 {
            let mut socket = TcpStream::connect(test.address()).await.unwrap();
            socket.write_all(bytes).await.unwrap();
            sockets.push(socket);
        }
    }
    test.thread().await;
    for mut socket in sockets {
        // A reset is a close as well.
        let _ = soon(socket.read_to_end(&mut Vec::new())).await;
    }
    test.thread().await;
}

#[tokio::test]
async fn a_request_that_does_not_arrive_has_a_status() {
    let test = start_with(|b| b.options(options(|options| options.body_timeout = Duration::from_millis(200)))).await;
    let mut client = tonic::client::Grpc::new(test.channel.clone());
    client.ready().await.unwrap();
    let request = tonic::Request::new(futures_util::stream::pending::<CreateRunRequest>());
    let codec = tonic_prost::ProstCodec::<_, Run>::default();
    let path = "/runloom.v1.Runs/CreateRun".parse().unwrap();
    let status = soon(client.client_streaming(request, path, codec)).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert!(status.message().contains("did not arrive"), "{status:?}");
}
