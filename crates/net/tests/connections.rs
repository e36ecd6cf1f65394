//! Deadlines, limits, age and drain of connections, over real sockets.
#![allow(clippy::unwrap_used)]

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Either, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use runloom_net::{BodyDeadlineLayer, BodyTimeout, Connection, DeadlineBody, ListenError, Options, Server, listen};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
    task::JoinHandle,
};
use tower::{Layer, service_fn};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const GET: &[u8] = b"GET /hello HTTP/1.1\r\nhost: x\r\n\r\n";

type Endless = StreamBody<futures::Pending>;
type Answer = Response<Either<Full<Bytes>, Endless>>;

/// A body that never ends.
mod futures {
    use super::*;
    pub struct Pending;
    impl tokio_stream::Stream for Pending {
        type Item = Result<Frame<Bytes>, Infallible>;
        fn poll_next(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Self::Item>> {
            std::task::Poll::Pending
        }
    }
}

/// `/hello` answers, `/read` reads the body, `/closing` waits until the connection is too old, `/endless` never ends,
/// `/upgrade` gives the socket away.
async fn answer(mut request: Request<DeadlineBody<Incoming>>) -> Result<Answer, Infallible> {
    let text = |text: &str| Response::new(Either::Left(Full::new(Bytes::from(text.to_owned()))));
    Ok(match request.uri().path() {
        "/read" => match request.into_body().collect().await {
            Ok(body) => text(&format!("read {}", body.to_bytes().len())),
            Err(error) if error.is::<BodyTimeout>() => {
                let mut response = text("late");
                *response.status_mut() = http::StatusCode::REQUEST_TIMEOUT;
                response
            }
            Err(error) => text(&error.to_string()),
        },
        "/closing" => {
            request.extensions().get::<Connection>().unwrap().closing().await;
            text("too old")
        }
        "/endless" => Response::new(Either::Right(StreamBody::new(futures::Pending))),
        "/upgrade" => {
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let _held = upgrade.await.unwrap();
                std::future::pending::<()>().await
            });
            let mut response = text("");
            *response.status_mut() = http::StatusCode::SWITCHING_PROTOCOLS;
            response.headers_mut().insert("connection", "upgrade".parse().unwrap());
            response.headers_mut().insert("upgrade", "x".parse().unwrap());
            response
        }
        _ => text("hello"),
    })
}

struct Running {
    address: SocketAddr,
    stop: Arc<Notify>,
    serving: JoinHandle<()>,
}

async fn start(change: impl FnOnce(&mut Options)) -> Running {
    let mut options = Options {
        handshake_timeout: Duration::from_millis(300),
        header_timeout: Duration::from_millis(300),
        keepalive_interval: Some(Duration::from_millis(200)),
        keepalive_timeout: Duration::from_millis(100),
        ..Options::default()
    };
    change(&mut options);
    let listener = listen("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = Arc::new(Notify::new());
    let stopped = stop.clone();
    let service = BodyDeadlineLayer::new("test", Duration::from_millis(300)).layer(service_fn(answer));
    let serving = tokio::spawn(async move {
        Server::new("test", options).serve(listener, service, async move { stopped.notified().await }).await;
    });
    Running { address, stop, serving }
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what).await.expect("not within 20 s")
}

impl Running {
    async fn send(&self, bytes: &[u8]) -> TcpStream {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        socket.write_all(bytes).await.unwrap();
        socket
    }
}

/// What the server sends until it closes the connection.
async fn until_closed(socket: &mut TcpStream) -> String {
    let mut all = Vec::new();
    // A reset is a close as well.
    let _ = soon(socket.read_to_end(&mut all)).await;
    String::from_utf8_lossy(&all).into_owned()
}

/// What the server sends until a text.
async fn until(socket: &mut TcpStream, wanted: &str) -> String {
    let mut all = Vec::new();
    while !String::from_utf8_lossy(&all).contains(wanted) {
        let mut buffer = [0; 1024];
        let count = soon(socket.read(&mut buffer)).await.unwrap();
        assert!(count > 0, "closed after {}", String::from_utf8_lossy(&all));
        all.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8_lossy(&all).into_owned()
}

#[tokio::test]
async fn half_open_connections_are_closed() {
    let server = start(|_| {}).await;
    let settings = [PREFACE, &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat();
    for begun in [b"", &PREFACE[..10], PREFACE, &settings, b"GET /he", b"GET /hello HTTP/1.1\r\nhost: x\r\nx-long: "] {
        let mut socket = server.send(begun).await;
        until_closed(&mut socket).await;
    }
    // One that only waits for its answer is not half open.
    let mut waits = server.send(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n").await;
    until(&mut waits, "\r\n\r\n").await;
    let mut silent = server.send(b"").await;
    until_closed(&mut silent).await;
    assert!(tokio::time::timeout(Duration::from_millis(400), waits.read_u8()).await.is_err(), "it is still open");
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_given_up() {
    let server = start(|_| {}).await;
    let mut stalls = server.send(b"POST /read HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{").await;
    let answer = until_closed(&mut stalls).await;
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("late"), "{answer}");
    // Byte by byte is not faster than the least rate.
    let mut drips = server.send(b"POST /read HTTP/1.1\r\nhost: x\r\ncontent-length: 900\r\n\r\n").await;
    let (mut read, mut write) = drips.split();
    let mut answer = Vec::new();
    tokio::select! {
        _ = read.read_to_end(&mut answer) => {}
        () = async {
            loop {
                let _ = write.write_all(b"x").await;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        } => {}
    }
    assert!(answer.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&answer));
    // A large one takes the time that its bytes take.
    let mut large = server.send(b"POST /read HTTP/1.1\r\nhost: x\r\ncontent-length: 65536\r\n\r\n").await;
    for _ in 0..16 {
        large.write_all(&[b'x'; 4096]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    until(&mut large, "read 65536").await;
}

#[tokio::test]
async fn one_peer_has_its_limit_and_gets_places_back() {
    let server = start(|options| options.max_connections_per_peer = 2).await;
    let mut first = server.send(GET).await;
    until(&mut first, "hello").await;
    let mut second = server.send(GET).await;
    until(&mut second, "hello").await;
    let mut third = server.send(b"").await;
    assert_eq!(until_closed(&mut third).await, "", "refused at once");
    drop(first);
    // The server notices the close in its own time.
    soon(async {
        loop {
            let mut socket = server.send(GET).await;
            let mut byte = [0];
            if matches!(socket.read(&mut byte).await, Ok(1)) {
                return;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn above_the_limit_connections_wait() {
    let server = start(|options| options.max_connections = 1).await;
    let mut upgraded =
        server.send(b"GET /upgrade HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n").await;
    until(&mut upgraded, "101").await;
    let mut waits = server.send(GET).await;
    let early = tokio::time::timeout(Duration::from_millis(500), waits.read_u8()).await;
    assert!(early.is_err(), "an upgraded connection is counted as long as its socket is held");

    let server = start(|options| options.max_connections = 1).await;
    let mut first = server.send(GET).await;
    until(&mut first, "hello").await;
    let mut waits = server.send(GET).await;
    drop(first);
    until(&mut waits, "hello").await;
}

#[tokio::test]
async fn an_old_connection_is_asked_to_close_and_its_streams_end() {
    let server = start(|options| {
        options.max_connection_age = Some(Duration::from_millis(200));
        options.max_connection_age_grace = Duration::from_millis(100);
    })
    .await;
    let mut socket = server.send(b"GET /closing HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let answer = until_closed(&mut socket).await;
    assert!(answer.contains("too old"), "{answer}");
}

#[tokio::test]
async fn a_drain_answers_what_runs_and_cuts_what_does_not_end() {
    let server = start(|options| {
        options.close_timeout = Duration::from_millis(300);
        options.handshake_timeout = Duration::from_secs(60);
    })
    .await;
    let mut begun = server.send(b"POST /read HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n").await;
    let mut endless = server.send(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n").await;
    until(&mut endless, "\r\n\r\n").await;
    let mut upgraded =
        server.send(b"GET /upgrade HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n").await;
    until(&mut upgraded, "101").await;
    server.stop.notify_one();
    // The listener is closed first.
    soon(async { while TcpStream::connect(server.address).await.is_ok() {} }).await;
    begun.write_all(b"x").await.unwrap();
    assert!(until_closed(&mut begun).await.contains("read 1"));
    until_closed(&mut endless).await;
    soon(server.serving).await.unwrap();
}

#[tokio::test]
async fn a_taken_port_is_said() {
    let listener = listen("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    assert!(matches!(listen(&address).await, Err(ListenError::PortTaken { .. })));
    assert!(matches!(listen("127.0.0.1").await, Err(ListenError::Other { .. })));
}
