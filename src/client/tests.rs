//! Streams that break in different ways, over real sockets, from a server that follows a script.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{Stream, StreamExt, stream};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Notify,
};
use tonic::{Code, Request, Response, Status, transport::server::TcpIncoming};
use tonic_types::{ErrorDetails, StatusExt};

use super::*;
use crate::v1::{self, stream_run_response::Payload, *};

/// One opening of a stream: what it sends, and how it ends.
struct Opened(Vec<StreamRunResponse>, Ending);

enum Ending {
    /// The stream closes as if all were said.
    Closes,
    /// A status ends it.
    Fails(Status),
    /// The connection is cut.
    Cut,
    /// It stays open.
    Stays,
}

/// What a client asked of the server.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "a handful of them")]
enum Asked {
    Create(StreamRunRequest),
    Join(JoinRunRequest),
    Thread(StreamThreadRequest),
}

#[derive(Clone, Default)]
struct Script {
    openings: Arc<Mutex<std::collections::VecDeque<Opened>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
    cut: Arc<Notify>,
}

type Parts = Pin<Box<dyn Stream<Item = Result<StreamRunResponse, Status>> + Send>>;

impl Script {
    fn open(&self, asked: Asked) -> Result<Response<Parts>, Status> {
        self.asked.lock().unwrap().push(asked);
        let Opened(parts, ending) =
            self.openings.lock().unwrap().pop_front().ok_or_else(|| Status::not_found("script is over"))?;
        let cut = self.cut.clone();
        let end = stream::once(async move {
            match ending {
                Ending::Closes => None,
                Ending::Fails(status) => Some(Err(status)),
                Ending::Stays => std::future::pending().await,
                Ending::Cut => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    cut.notify_waiters();
                    std::future::pending().await
                }
            }
        });
        Ok(Response::new(Box::pin(stream::iter(parts.into_iter().map(Ok)).chain(end.filter_map(std::future::ready)))))
    }

    /// Serves the script behind a relay that can cut connections, and connects to it.
    async fn client(openings: impl IntoIterator<Item = Opened>) -> (Self, Client) {
        let script = Self::default();
        script.openings.lock().unwrap().extend(openings);
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let server = incoming.local_addr().unwrap();
        let router = tonic::transport::Server::builder()
            .add_service(runs_server::RunsServer::new(script.clone()))
            .add_service(threads_server::ThreadsServer::new(script.clone()));
        tokio::spawn(router.serve_with_incoming(incoming));
        let address = relay(server, script.cut.clone()).await;
        let retry = RetryPolicy {
            max_retries: 3,
            initial_delay: Duration::from_millis(4),
            max_delay: Duration::from_millis(20),
        };
        let client = Client::connect_with(address.to_string(), ClientOptions { retry, ..ClientOptions::default() })
            .await
            .unwrap();
        (script, client)
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

async fn relay(to: SocketAddr, cut: Arc<Notify>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let cut = cut.clone();
            tokio::spawn(async move {
                let mut far = TcpStream::connect(to).await.unwrap();
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                    _ = cut.notified() => {}
                }
            });
        }
    });
    address
}

/// RPCs that no script has. As `async_trait` would write them: it does not look into macros.
macro_rules! refuse {
    ($($rpc:ident($request:ty) -> $answer:ty);* $(;)?) => {$(
        fn $rpc<'a, 'b>(&'a self, _: Request<$request>) -> Pin<Box<dyn Future<Output = Result<Response<$answer>, Status>> + Send + 'b>>
        where
            'a: 'b,
        {
            Box::pin(std::future::ready(Err(Status::unimplemented("not in the script"))))
        }
    )*};
}

#[tonic::async_trait]
impl runs_server::Runs for Script {
    type StreamRunStream = Parts;
    type JoinRunStream = Parts;

    async fn stream_run(&self, request: Request<StreamRunRequest>) -> Result<Response<Parts>, Status> {
        self.open(Asked::Create(request.into_inner()))
    }

    async fn join_run(&self, request: Request<JoinRunRequest>) -> Result<Response<Parts>, Status> {
        self.open(Asked::Join(request.into_inner()))
    }

    refuse! {
        create_run(CreateRunRequest) -> CreateRunResponse;
        wait_run(WaitRunRequest) -> WaitRunResponse;
        get_run(GetRunRequest) -> GetRunResponse;
        list_runs(ListRunsRequest) -> ListRunsResponse;
        cancel_run(CancelRunRequest) -> CancelRunResponse;
        delete_run(DeleteRunRequest) -> DeleteRunResponse;
    }
}

#[tonic::async_trait]
impl threads_server::Threads for Script {
    type StreamThreadStream = Parts;

    async fn stream_thread(&self, request: Request<StreamThreadRequest>) -> Result<Response<Parts>, Status> {
        self.open(Asked::Thread(request.into_inner()))
    }

    refuse! {
        create_thread(CreateThreadRequest) -> CreateThreadResponse;
        get_thread(GetThreadRequest) -> GetThreadResponse;
        update_thread(UpdateThreadRequest) -> UpdateThreadResponse;
        delete_thread(DeleteThreadRequest) -> DeleteThreadResponse;
        list_threads(ListThreadsRequest) -> ListThreadsResponse;
        copy_thread(CopyThreadRequest) -> CopyThreadResponse;
        get_state(GetStateRequest) -> GetStateResponse;
        update_state(UpdateStateRequest) -> UpdateStateResponse;
        list_checkpoints(ListCheckpointsRequest) -> ListCheckpointsResponse;
    }
}

fn part(run: &str, seq: u64, payload: Payload) -> StreamRunResponse {
    StreamRunResponse {
        seq,
        cursor: format!("{run}@{seq}"),
        run_id: run.to_owned(),
        payload: Some(payload),
        ..Default::default()
    }
}

fn metadata(run: &str, seq: u64) -> StreamRunResponse {
    part(run, seq, Payload::Metadata(v1::Metadata { run_id: run.to_owned(), ..Default::default() }))
}

/// What opens a join: no seq, and the cursor that was asked for.
fn rejoined(run: &str, after: u64) -> StreamRunResponse {
    StreamRunResponse { cursor: format!("{run}@{after}"), ..metadata(run, 0) }
}

fn custom(run: &str, seq: u64) -> StreamRunResponse {
    part(run, seq, Payload::Custom(Custom::default()))
}

fn end(run: &str, seq: u64) -> StreamRunResponse {
    part(run, seq, Payload::End(End { state: RunState::Succeeded.into(), ..Default::default() }))
}

fn progress(cursor: &str) -> StreamRunResponse {
    StreamRunResponse { cursor: cursor.to_owned(), ..part("", 0, Payload::Progress(Progress {})) }
}

fn draining() -> Status {
    Status::with_error_details(
        Code::Unavailable,
        "draining",
        ErrorDetails::with_retry_info(Some(Duration::from_millis(30))),
    )
}

/// Reads to the end: `run@seq` of each part, and the error if there was one.
async fn read(mut parts: RunStream) -> (Vec<String>, Option<Error>) {
    let mut seen = Vec::new();
    while let Some(part) = parts.next().await {
        match part {
            Ok(part) => seen.push(format!("{}@{}", part.run_id, part.seq)),
            Err(error) => return (seen, Some(error)),
        }
    }
    (seen, None)
}

#[tokio::test]
async fn a_run_is_read_once_however_its_stream_breaks() {
    let (script, client) = Script::client([
        Opened(vec![], Ending::Fails(draining())),
        Opened(vec![metadata("r", 1), custom("r", 2)], Ending::Cut),
        Opened(vec![rejoined("r", 2), custom("r", 2), custom("r", 3)], Ending::Fails(draining())),
        Opened(vec![rejoined("r", 3), custom("r", 4)], Ending::Closes),
        Opened(vec![rejoined("r", 4)], Ending::Cut),
        // A new attempt, whose numbers start above a block that was reserved.
        Opened(vec![rejoined("r", 4), metadata("r", 65), custom("r", 66), end("r", 67)], Ending::Stays),
    ])
    .await;
    let (seen, error) = read(client.stream_run(RunSpec::graph("g"))).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(seen, ["r@1", "r@2", "r@3", "r@4", "r@65", "r@66", "r@67"]);

    let asked = script.asked();
    let Asked::Create(create) = &asked[0] else { panic!("{asked:?}") };
    assert!(!create.run.as_ref().unwrap().request_id.is_empty());
    assert_eq!(create.json_encoding(), JsonEncoding::Text);
    assert_eq!(asked[0], asked[1], "the second creation is the first again");
    let cursors = asked[2..].iter().map(|asked| match asked {
        Asked::Join(join) => join.cursor.as_str(),
        other => panic!("{other:?}"),
    });
    assert_eq!(cursors.collect::<Vec<_>>(), ["r@2", "r@3", "r@4", "r@4"]);
}

#[tokio::test]
async fn what_cannot_be_mended_is_said_once() {
    let gone =
        ErrorDetails::with_error_info("RUN_NOT_FOUND", crate::reason::DOMAIN, [("run_id".to_owned(), "r".to_owned())]);
    let gone = Status::with_error_details(Code::NotFound, "no run r", gone);
    let (script, client) = Script::client([
        Opened(vec![metadata("r", 1)], Ending::Fails(draining())),
        Opened(vec![], Ending::Fails(gone)),
    ])
    .await;
    let (seen, error) = read(client.stream_run(RunSpec::graph("g"))).await;
    assert_eq!(seen, ["r@1"]);
    assert_eq!(error.unwrap().reason(), Some(ErrorReason::RunNotFound));
    assert_eq!(script.asked().len(), 2);
}

#[tokio::test]
async fn a_server_that_makes_no_progress_is_given_up() {
    let openings = (0..9).map(|_| Opened(vec![rejoined("r", 7)], Ending::Fails(draining())));
    let (script, client) = Script::client(openings).await;
    let mut parts = client.join_run(JoinRunRequest { cursor: "r@7".to_owned(), .."r".into() });
    assert!(parts.next().await.unwrap().is_ok(), "the first join's metadata");
    assert_eq!(parts.next().await.unwrap().unwrap_err().code(), Code::Unavailable);
    assert!(parts.next().await.is_none());
    assert_eq!(parts.cursor(), Some("r@7"));
    assert_eq!(script.asked().len(), 4, "once, and three times again");

    let (script, client) =
        Script::client((0..9).map(|_| Opened(vec![progress("t@0")], Ending::Fails(draining())))).await;
    let (seen, error) = read(client.stream_thread("t")).await;
    assert_eq!((seen.len(), error.unwrap().code(), script.asked().len()), (4, Code::Unavailable, 4));
}

#[tokio::test]
async fn a_thread_is_followed_from_run_to_run() {
    let (script, client) = Script::client([
        Opened(vec![progress("t@0")], Ending::Cut),
        Opened(vec![metadata("a", 1), end("a", 2), metadata("b", 1)], Ending::Cut),
        Opened(
            vec![rejoined("b", 1), metadata("b", 1), end("b", 2)],
            Ending::Fails(Status::permission_denied("no more")),
        ),
    ])
    .await;
    let (seen, error) = read(client.stream_thread("t")).await;
    assert_eq!(seen, ["@0", "a@1", "a@2", "b@1", "b@2"]);
    assert_eq!(error.unwrap().code(), Code::PermissionDenied);
    let asked = script.asked();
    assert!(matches!(&asked[1], Asked::Thread(again) if again.cursor == "t@0"));
    assert!(matches!(&asked[2], Asked::Thread(again) if again.cursor == "b@1"));
}

#[tokio::test]
async fn addresses_are_checked() {
    for wrong in ["", "ftp://localhost:1", "not an address"] {
        let error = Client::connect(wrong).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{wrong}: {error}");
    }
    let error = Client::connect("127.0.0.1:1").await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
}
