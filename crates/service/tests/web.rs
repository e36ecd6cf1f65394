//! gRPC-Web: what a page in a browser sends and reads.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use prost::Message;
use runloom::v1::{StreamRunRequest, StreamRunResponse, stream_run_response::Payload};
use runloom_net::Cors;
use serde_json::json;
use support::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const PAGE: &str = "http://localhost:3000";

/// Sends a request over HTTP/1.1, and gives the head and the body of the answer.
async fn send(test: &Test, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> (String, Vec<u8>) {
    let mut socket = TcpStream::connect(test.address()).await.unwrap();
    let mut head = format!("{method} {path} HTTP/1.0\r\nhost: x\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    socket.write_all((head + "\r\n").as_bytes()).await.unwrap();
    socket.write_all(body).await.unwrap();
    let mut all = Vec::new();
    soon(socket.read_to_end(&mut all)).await.unwrap();
    let end = all.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(all[..end].to_vec()).unwrap().to_lowercase();
    (head, all[end + 4..].to_vec())
}

fn frame(message: &impl Message) -> Vec<u8> {
    let bytes = message.encode_to_vec();
    [&[0][..], &u32::try_from(bytes.len()).unwrap().to_be_bytes(), &bytes].concat()
}

/// The frames of a body: their flags and what is in them.
fn frames(mut body: &[u8]) -> Vec<(u8, &[u8])> {
    let mut all = Vec::new();
    while let [flag, a, b, c, d, rest @ ..] = body {
        let (data, rest) = rest.split_at(u32::from_be_bytes([*a, *b, *c, *d]) as usize);
        all.push((*flag, data));
        body = rest;
    }
    all
}

fn is_ok(trailers: &[u8]) -> bool {
    String::from_utf8_lossy(trailers).replace(": ", ":").contains("grpc-status:0")
}

#[tokio::test]
async fn a_page_calls_and_streams() {
    let test = start().await;
    for kind in ["application/grpc-web", "application/grpc-web+proto"] {
        let headers = [("content-type", kind), ("accept", kind), ("origin", PAGE), ("x-grpc-web", "1")];
        let (head, body) = send(&test, "POST", "/runloom.v1.Threads/CreateThread", &headers, &[0; 5]).await;
        assert!(head.contains(" 200 ") && head.contains("content-type: application/grpc-web"), "{head}");
        assert!(head.contains(&format!("access-control-allow-origin: {PAGE}")), "{head}");
        let [(0, message), (0x80, trailers)] = frames(&body)[..] else { panic!("{body:?}") };
        assert!(is_ok(trailers), "{trailers:?}");
        assert!(!message.is_empty());

        let request = StreamRunRequest { run: Some(run(json!([{"emit": 7}]))), ..Default::default() };
        let (head, body) = send(&test, "POST", "/runloom.v1.Runs/StreamRun", &headers, &frame(&request)).await;
        assert!(head.contains(" 200 "), "{head}");
        let all = frames(&body);
        let (last, parts) = all.split_last().unwrap();
        assert!(last.0 == 0x80 && is_ok(last.1), "{last:?}");
        let parts: Vec<_> = parts.iter().map(|(_, data)| StreamRunResponse::decode(*data).unwrap()).collect();
        assert!(matches!(parts.last().unwrap().payload, Some(Payload::End(_))));
    }
}

#[tokio::test]
async fn pages_that_may_not_are_refused() {
    let preflight = [("access-control-request-method", "POST"), ("access-control-request-headers", "x-grpc-web")];
    let path = "/runloom.v1.Threads/CreateThread";
    let kind = ("content-type", "application/grpc-web+proto");
    for (cors, page, is_allowed) in [
        (Cors::Loopback, PAGE, true),
        (Cors::Loopback, "https://evil.test", false),
        (Cors::Closed, PAGE, false),
        (Cors::Origins(vec!["https://app.test".into()]), "https://app.test", true),
        (Cors::Any, "https://evil.test", true),
    ] {
        let test = start_with(|b| b.options(options(|options| options.cors = cors.clone()))).await;
        let origin = ("origin", page);
        let (head, _) = send(&test, "OPTIONS", path, &[origin, preflight[0], preflight[1]], b"").await;
        let says_so = head.contains(&format!("access-control-allow-origin: {page}"));
        assert_eq!(
            (says_so, head.contains("access-control-allow-headers: x-grpc-web")),
            (is_allowed, is_allowed),
            "{head}"
        );
        let (head, body) = send(&test, "POST", path, &[origin, kind], &[0; 5]).await;
        assert_eq!(head.contains(" 200 "), is_allowed, "{cors:?} {page}: {head}");
        assert_eq!(body.is_empty(), !is_allowed);
    }
}

#[tokio::test]
async fn other_requests_over_http_1_are_refused() {
    let test = start().await;
    let (head, _) =
        send(&test, "POST", "/runloom.v1.Threads/CreateThread", &[("content-type", "application/grpc")], &[0; 5]).await;
    assert!(head.contains(" 400 "), "{head}");
}
