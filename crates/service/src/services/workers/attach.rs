//! The stream of a worker: one task reads what it sends, the stream itself sends what it is given.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_core::Stream;
use futures_util::stream;
use parking_lot::Mutex;
use runloom::v1::{self, AttachRequest, AttachResponse, attach_request, attach_response};
use runloom_core::{Error, Reason};
use runloom_workers::{Closed, Outbox, Session, Token, Versions};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Status, Streaming};

use super::{MAX_DETAILS_BYTES, MAX_DONE_BYTES, MAX_EMIT_BYTES, SERVER_TIMEOUT, SIGN_OF_LIFE, decode, encode, hello};
use crate::{services::Api, status::status};

/// How long a worker may take to say what it is.
const HELLO_TIMEOUT: Duration = Duration::from_secs(30);

/// What a worker is sent, and the end of the stream.
struct Outgoing {
    opening: Option<oneshot::Receiver<Opened>>,
    opened: Option<Opened>,
    versions: Versions,
    /// Why the stream ends, where that is an error.
    end: Arc<Mutex<Option<Status>>>,
    /// Ends the reading when the stream is dropped.
    _reading: DropGuard,
    _permit: OwnedSemaphorePermit,
}

/// A worker that is attached.
struct Opened {
    outbox: Outbox,
    welcome: v1::Welcome,
    encode: encode::Options,
    is_greeted: bool,
}

/// Attaches a worker: what it is sent.
pub(super) fn attach(
    api: Api,
    session: runloom_core::Session,
    peer: String,
    requests: Streaming<AttachRequest>,
    permit: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<AttachResponse, Status>> + Send {
    let (opened, opening) = oneshot::channel();
    let end = Arc::new(Mutex::new(None));
    let stop = CancellationToken::new();
    let outgoing = Outgoing {
        opening: Some(opening),
        opened: None,
        versions: Versions::default(),
        end: end.clone(),
        _reading: stop.clone().drop_guard(),
        _permit: permit,
    };
    tokio::spawn(async move {
        let closing = api.core.closing().clone();
        let read = read(api, session, peer, requests, opened, &end);
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = closing.cancelled() => {
                let message = "the server is shutting down; attach to another, or to this one when it is back";
                end.lock().get_or_insert_with(|| status(Error::new(Reason::ServerDraining, message)));
            }
            () = read => {}
        }
    });
    stream::unfold(Some(outgoing), |outgoing| async move {
        let mut outgoing = outgoing?;
        match outgoing.next().await {
            Some(Ok(message)) => Some((Ok(AttachResponse { message: Some(message) }), Some(outgoing))),
            Some(Err(status)) => Some((Err(status), None)),
            None => {
                let end = outgoing.end.lock().take();
                end.map(|status| (Err(status), None))
            }
        }
    })
}

impl Outgoing {
    async fn next(&mut self) -> Option<Result<attach_response::Message, Status>> {
        if let Some(opening) = self.opening.take() {
            self.opened = Some(opening.await.ok()?);
        }
        let opened = self.opened.as_mut()?;
        let welcome = |opened: &Opened| Some(Ok(attach_response::Message::Welcome(opened.welcome.clone())));
        if !std::mem::replace(&mut opened.is_greeted, true) {
            return welcome(opened);
        }
        match tokio::time::timeout(SIGN_OF_LIFE, opened.outbox.next()).await {
            Ok(Some(Ok(message))) => Some(Ok(encode::message(message, &mut self.versions, opened.encode))),
            Ok(Some(Err(Closed::Drained))) | Ok(None) => None,
            Ok(Some(Err(Closed::Replaced))) => {
                let message = "another connection has attached with this worker_id";
                Some(Err(status(Error::new(Reason::WorkerLost, message))))
            }
            // Shows that the server lives.
            Err(_) => welcome(opened),
        }
    }
}

/// Reads what a worker sends, until its connection ends.
async fn read(
    api: Api,
    session: runloom_core::Session,
    peer: String,
    mut requests: Streaming<AttachRequest>,
    opened: oneshot::Sender<Opened>,
    end: &Mutex<Option<Status>>,
) {
    let greeting = match greet(&session, peer, &mut requests).await {
        Ok(greeting) => greeting,
        Err(status) => {
            *end.lock() = Some(status);
            return;
        }
    };
    let heartbeat_timeout = greeting.heartbeat_timeout;
    let id = greeting.hello.worker_id;
    let (mut worker, outbox) = api.core.workers().attach(greeting.hello);
    let welcome = v1::Welcome {
        server_id: api.core.server().to_string(),
        servers: Vec::new(),
        server_timeout: Some(duration(SERVER_TIMEOUT)),
        max_done_bytes: MAX_DONE_BYTES as u64,
        max_emit_bytes: MAX_EMIT_BYTES as u64,
        heartbeat_timeout: Some(duration(heartbeat_timeout)),
    };
    let encode = encode::Options { encoding: greeting.encoding, caches_state: greeting.caches_state };
    if opened.send(Opened { outbox, welcome, encode, is_greeted: false }).is_err() {
        return;
    }
    let status = loop {
        match tokio::time::timeout(heartbeat_timeout, requests.message()).await {
            Ok(Ok(Some(request))) => match take(&worker, request).await {
                Ok(()) => {}
                Err(status) => break Some(status),
            },
            Ok(Ok(None)) => break None,
            Ok(Err(status)) => {
                worker.lost = format!("its connection broke: {}", status.message());
                break Some(status);
            }
            Err(_) => {
                worker.lost = format!("it was silent for {heartbeat_timeout:?}");
                let message =
                    format!("worker {id} was silent for {heartbeat_timeout:?}; its tasks are with other workers");
                break Some(crate::status::status(Error::new(Reason::WorkerLost, message).with("worker_id", id)));
            }
        }
    };
    *end.lock() = status;
}

/// The first message of a worker, and the documents that it brings.
async fn greet(
    session: &runloom_core::Session,
    peer: String,
    requests: &mut Streaming<AttachRequest>,
) -> Result<hello::Greeting, Status> {
    let refuse = |message: &str| status(Error::field("hello", message));
    let first = tokio::time::timeout(HELLO_TIMEOUT, requests.message()).await;
    let first = first.map_err(|_| refuse("the first message, a Hello, did not arrive within 30 s"))??;
    let greeting = match first.and_then(|request| request.message) {
        Some(attach_request::Message::Hello(hello)) => hello::read(hello, peer)?,
        Some(_) => return Err(refuse("the first message of a worker is a Hello")),
        None => return Err(refuse("the stream ended before its first message, a Hello")),
    };
    let queue = &greeting.hello.queue;
    if !session.caller().may_for("workers:attach", queue) {
        let scope = format!("workers:attach:{queue}");
        let message = format!("the worker lacks the scope `{scope}` for its queue");
        return Err(status(Error::new(Reason::ScopeMissing, message).with("scope", scope)));
    }
    for document in &greeting.documents {
        session.register_graph(document, false).await.map_err(status)?;
    }
    Ok(greeting)
}

/// Takes one message of a worker.
async fn take(worker: &Session, request: AttachRequest) -> Result<(), Status> {
    use attach_request::Message;
    let Some(message) = request.message else { return Ok(()) };
    match message {
        Message::Hello(_) => {
            return Err(status(Error::field("hello", "a worker says what it is once, in its first message")));
        }
        Message::Ready(ready) => worker.ready(ready.tasks),
        Message::Heartbeat(beat) if beat.token.is_empty() => {}
        Message::Heartbeat(beat) => {
            let token = token("heartbeat.token", &beat.token)?;
            let size = beat.details.as_ref().map_or(0, prost::Message::encoded_len);
            if size > MAX_DETAILS_BYTES {
                let message = format!("the details of a heartbeat have {size} bytes: at most {MAX_DETAILS_BYTES}");
                worker.fault(token, message).await;
                return Ok(());
            }
            match beat.details.map(crate::json::decode).transpose() {
                Ok(details) => worker.heartbeat(token, details),
                Err(error) => worker.fault(token, format!("the details of a heartbeat are not JSON: {error}")).await,
            }
        }
        Message::Emit(emit) => {
            let token = token("emit.token", &emit.token)?;
            let size = prost::Message::encoded_len(&emit);
            if size > MAX_EMIT_BYTES {
                let message = format!("an emit has {size} bytes: at most {MAX_EMIT_BYTES}");
                worker.fault(token, message).await;
                return Ok(());
            }
            match decode::part(emit) {
                Ok(Some(part)) => worker.emit(token, part).await,
                Ok(None) => {}
                Err(message) => worker.fault(token, message).await,
            }
        }
        Message::Done(done) => {
            let token = token("done.token", &done.token)?;
            let size = prost::Message::encoded_len(&done);
            let outcome = if size > MAX_DONE_BYTES {
                Err(format!("the outcome has {size} bytes: at most {MAX_DONE_BYTES}"))
            } else {
                decode::outcome(done)
            };
            match outcome {
                Ok(outcome) => worker.done(token, outcome).await,
                Err(message) => worker.fault(token, message).await,
            }
        }
        Message::Draining(_) => worker.draining(),
        Message::Missing(missing) => {
            let token = token("missing.token", &missing.token)?;
            worker.missing(token, &missing.channels).await;
        }
    }
    Ok(())
}

fn token(path: &str, bytes: &[u8]) -> Result<Token, Status> {
    Token::from_bytes(bytes).ok_or_else(|| {
        let message = format!("{} bytes are no token: send those of the task", bytes.len());
        status(Error::field(path, message))
    })
}

pub(super) fn duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        // Below 10^9, by `Duration`'s own promise.
        nanos: duration.subsec_nanos() as i32,
    }
}

/// The time until an instant.
pub(super) fn until(instant: Instant) -> Duration {
    instant.saturating_duration_since(Instant::now())
}
