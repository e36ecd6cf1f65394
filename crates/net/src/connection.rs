//! One connection: HTTP/1 or HTTP/2, its age and its end.

use std::{
    convert::Infallible,
    hash::{BuildHasher, RandomState},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tower::Service;

use crate::{Options, stream::Stream, tls::ClientCertificates};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The length of the HTTP/2 preface.
const PREFACE_BYTES: usize = 24;
/// HTTP/2 streams beyond those that [`Options::max_streams_per_connection`] counts: short calls get through when all of
/// these are taken.
const SPARE_STREAMS: u32 = 1024;
/// The least time between the end of a connection's streams and its cut, whatever the grace.
const MIN_CUT_DELAY: Duration = Duration::from_secs(5);

/// A connection, as its requests see it: each has one in its extensions.
#[derive(Clone, Debug)]
pub struct Connection(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    peer: Option<SocketAddr>,
    certificates: ClientCertificates,
    closing: CancellationToken,
    streams: Arc<Semaphore>,
    max_streams: u32,
}

impl Default for Connection {
    /// Of a request that came without one: no peer, no limits.
    fn default() -> Self {
        Self::new(None, ClientCertificates::default(), u32::MAX)
    }
}

impl Connection {
    fn new(peer: Option<SocketAddr>, certificates: ClientCertificates, max_streams: u32) -> Self {
        let permits = (max_streams as usize).min(Semaphore::MAX_PERMITS);
        let streams = Arc::new(Semaphore::new(permits));
        Self(Arc::new(Inner { peer, certificates, closing: CancellationToken::new(), streams, max_streams }))
    }

    /// The other end. `None` in the same process.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.0.peer
    }

    /// The verified certificates of the client, its own first. Empty without mutual TLS.
    pub fn certificates(&self) -> &ClientCertificates {
        &self.0.certificates
    }

    /// Resolves when the streams of this connection must end and go on elsewhere.
    pub fn closing(&self) -> WaitForCancellationFutureOwned {
        self.0.closing.clone().cancelled_owned()
    }

    /// Counts a stream for as long as the permit is held; `None` at the limit. A stream holds it to its end, which a layer
    /// that counts calls does not: a call is over for it with the head of the response.
    pub fn open_stream(&self) -> Option<OwnedSemaphorePermit> {
        self.0.streams.clone().try_acquire_owned().ok()
    }

    /// The limit of [`open_stream`](Self::open_stream).
    pub fn max_streams(&self) -> u32 {
        self.0.max_streams
    }
}

/// Ends connections from outside.
#[derive(Clone, Default)]
pub(crate) struct Stop {
    /// Takes no more requests; those that run are answered.
    pub graceful: CancellationToken,
    /// Closes the socket.
    pub cut: CancellationToken,
}

/// Serves HTTP over a stream without a listener, such as a pipe within one process, until it ends.
pub async fn serve_stream<IO, S, B>(api: &'static str, io: IO, service: S, options: &Options)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    serve_connection(
        Accepted { api, io, peer: None, certificates: ClientCertificates::default(), guard: () },
        service,
        options,
        &Stop::default(),
    )
    .await;
}

/// What has been accepted.
pub(crate) struct Accepted<IO, G> {
    pub api: &'static str,
    pub io: IO,
    pub peer: Option<SocketAddr>,
    pub certificates: ClientCertificates,
    /// Dropped with the last use of the stream.
    pub guard: G,
}

/// How old a connection is, and what follows.
#[derive(PartialEq)]
enum Age {
    /// No limit.
    Unlimited,
    /// Until it takes no more requests.
    Young,
    /// Until its streams end.
    Grace,
    /// Until it is cut.
    Ending,
}

/// Serves HTTP over a stream until it ends, is too old, or is stopped.
pub(crate) async fn serve_connection<IO, S, B, G>(accepted: Accepted<IO, G>, service: S, options: &Options, stop: &Stop)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    G: Unpin + Send + 'static,
{
    let Accepted { api, io, peer, certificates, guard } = accepted;
    let connection = Connection::new(peer, certificates, options.max_streams_per_connection);
    let closing = connection.0.closing.clone();
    let cut = stop.cut.child_token();
    let stream = Stream::new(io, cut.clone(), guard);
    let handshake = Handshake { read: stream.bytes_read(), has_request: Arc::default() };
    let service = WithConnection { inner: service, connection, has_request: handshake.has_request.clone() };
    let builder = builder(options);
    let serving = builder.serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(service));
    let mut serving = std::pin::pin!(serving);
    let begun = Instant::now();
    let mut handshake_timeout = std::pin::pin!(tokio::time::sleep_until(begun + options.handshake_timeout));
    let (mut is_settled, mut is_stopping) = (false, false);
    let mut age = if options.max_connection_age.is_some() { Age::Young } else { Age::Unlimited };
    let max_age = options.max_connection_age.map(jittered).unwrap_or_default();
    let mut aging = std::pin::pin!(tokio::time::sleep_until(begun + max_age));
    loop {
        tokio::select! {
            ended = serving.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(api, ?peer, error, "connection failed");
                }
                return;
            }
            () = handshake_timeout.as_mut(), if !is_settled => {
                is_settled = true;
                if !handshake.is_done() {
                    timed_out(api, "handshake");
                    tracing::debug!(api, ?peer, "connection closed: no request within the handshake timeout");
                    return;
                }
            }
            () = stop.graceful.cancelled(), if !is_stopping => {
                is_stopping = true;
                serving.as_mut().graceful_shutdown();
            }
            () = aging.as_mut(), if age != Age::Unlimited => {
                let next = match age {
                    Age::Young => {
                        serving.as_mut().graceful_shutdown();
                        age = Age::Grace;
                        options.max_connection_age_grace
                    }
                    Age::Grace => {
                        closing.cancel();
                        age = Age::Ending;
                        options.max_connection_age_grace.max(MIN_CUT_DELAY)
                    }
                    // The client does not even read the end of its streams.
                    Age::Ending | Age::Unlimited => {
                        cut.cancel();
                        return;
                    }
                };
                aging.as_mut().reset(Instant::now() + next);
            }
            () = cut.cancelled() => return,
        }
    }
}

pub(crate) fn timed_out(api: &'static str, phase: &'static str) {
    metrics::counter!("runloom_connections_timed_out_total", "api" => api, "phase" => phase).increment(1);
}

/// The duration changed by up to 10 % either way.
fn jittered(duration: Duration) -> Duration {
    // Each `RandomState` has keys of its own.
    let random = RandomState::new().hash_one(0u8) as f64 / u64::MAX as f64;
    duration.mul_f64(0.9 + 0.2 * random)
}

fn builder(options: &Options) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(options.header_timeout);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(options.keepalive_interval)
        .keep_alive_timeout(options.keepalive_timeout)
        .max_concurrent_streams(options.max_streams_per_connection.saturating_add(SPARE_STREAMS));
    builder
}

/// Whether a connection has got as far as HTTP.
struct Handshake {
    read: Arc<AtomicUsize>,
    has_request: Arc<AtomicBool>,
}

impl Handshake {
    /// Whether there was a request, or enough bytes to tell HTTP/1 from HTTP/2: each has deadlines of its own from there
    /// on (of the request head; pings).
    fn is_done(&self) -> bool {
        self.has_request.load(Ordering::Relaxed) || self.read.load(Ordering::Relaxed) >= PREFACE_BYTES
    }
}

/// Puts the connection into the extensions of each request.
#[derive(Clone)]
struct WithConnection<S> {
    inner: S,
    connection: Connection,
    has_request: Arc<AtomicBool>,
}

impl<S: Service<Request<Incoming>>> Service<Request<Incoming>> for WithConnection<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Incoming>) -> S::Future {
        self.has_request.store(true, Ordering::Relaxed);
        request.extensions_mut().insert(self.connection.clone());
        self.inner.call(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_differ_by_up_to_a_tenth() {
        let ages: Vec<Duration> = (0..100).map(|_| jittered(Duration::from_secs(100))).collect();
        assert!(ages.iter().all(|age| (90..=110).contains(&age.as_secs())), "{ages:?}");
        assert!(ages.iter().any(|age| age.as_secs() != ages[0].as_secs()), "{ages:?}");
    }
}
