//! The accept loop, and the drain.

use std::{convert::Infallible, future::Future, io, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;
use tower::Service;

use crate::{
    Options, acceptor,
    connection::{Accepted, Stop, serve_connection, timed_out},
    limits::{Limits, Place},
};

/// How long the accept loop pauses when the process cannot accept: it is out of file descriptors, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves an API on a listener.
#[derive(Clone, Debug)]
pub struct Server {
    api: &'static str,
    options: Options,
}

impl Server {
    /// A server. `api` names it in metrics and logs.
    pub fn new(api: &'static str, options: Options) -> Self {
        Self { api, options }
    }

    /// Accepts connections until `drained` resolves. Then closes the listener, has every connection finish the requests
    /// that run, and cuts those that are open after [`Options::close_timeout`].
    ///
    /// `drained` resolves once the streams of the API have ended: a connection with an endless stream would only be cut.
    pub async fn serve<S, B>(self, listener: TcpListener, service: S, drained: impl Future<Output = ()>)
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let limits = Limits::new(self.api, &self.options);
        let (stop, connections) = (Stop::default(), TaskTracker::new());
        let mut drained = std::pin::pin!(drained);
        loop {
            let (socket, peer, place) = tokio::select! {
                accepted = accept(&listener, &limits) => accepted,
                () = &mut drained => break,
            };
            let (server, service, stop) = (self.clone(), service.clone(), stop.clone());
            // The token goes with the stream, which a WebSocket holds longer than this task lives.
            let guard = (place, connections.token());
            connections.spawn(async move { server.connection((socket, peer), service, &stop, guard).await });
        }
        drop(listener);
        stop.graceful.cancel();
        connections.close();
        if tokio::time::timeout(self.options.close_timeout, connections.wait()).await.is_err() {
            tracing::warn!(api = self.api, open = connections.len(), "cutting connections whose clients do not read");
            stop.cut.cancel();
            // Every connection ends now. Whoever holds an upgraded one (a WebSocket) learns it when it next reads or writes.
            let _ = tokio::time::timeout(self.options.close_timeout, connections.wait()).await;
        }
    }

    async fn connection<S, B, G>(self, (socket, peer): (TcpStream, SocketAddr), service: S, stop: &Stop, guard: G)
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        G: Unpin + Send + 'static,
    {
        let handshake =
            tokio::time::timeout(self.options.handshake_timeout, acceptor::accept(self.options.tls.as_ref(), socket));
        let accepted = tokio::select! {
            accepted = handshake => accepted,
            () = stop.graceful.cancelled() => return,
        };
        let (io, certificates) = match accepted {
            Ok(Ok(accepted)) => accepted,
            Ok(Err(error)) => {
                metrics::counter!("runloom_tls_handshakes_failed_total", "api" => self.api).increment(1);
                tracing::debug!(api = self.api, %peer, %error, "TLS handshake failed");
                return;
            }
            Err(_) => return timed_out(self.api, "handshake"),
        };
        let accepted = Accepted { api: self.api, io, peer: Some(peer), certificates, guard };
        serve_connection(accepted, service, &self.options, stop).await;
    }
}

/// The next connection that may be served.
async fn accept(listener: &TcpListener, limits: &Limits) -> (TcpStream, SocketAddr, Place) {
    loop {
        let Some(permit) = limits.room().await else { continue };
        let (socket, peer) = accept_socket(listener).await;
        // One that its peer may not have is closed by dropping it.
        let Some(place) = limits.admit(peer.ip(), permit) else { continue };
        // Without it the first message of a stream waits for the acknowledgement of its headers.
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
        return (socket, peer, place);
    }
}

async fn accept_socket(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                let concerns_one_connection = matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
                );
                if !concerns_one_connection {
                    tracing::warn!(%error, "cannot accept a connection; trying again");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Describes the metrics of connections to the recorder.
pub fn describe_metrics() {
    use metrics::{describe_counter as counter, describe_gauge as gauge};
    gauge!("runloom_connections_open", "Open connections, by API");
    counter!("runloom_connections_refused_total", "Connections closed at once, by API and reason");
    counter!("runloom_connections_delayed_total", "Times that the connection limit stopped the accept loop, by API");
    counter!("runloom_tls_reloads_total", "Times that changed certificate files were read, by result: ok or error");
    counter!("runloom_tls_handshakes_failed_total", "Connections closed because their TLS handshake failed, by API");
    counter!(
        "runloom_connections_timed_out_total",
        "Connections and requests that missed a deadline, by API and phase"
    );
}
