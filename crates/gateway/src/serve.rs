//! Serving: connections, and how they end when the server goes down.

use std::{future::Future, io, sync::Arc, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use runloom_core::Core;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{Options, router};

/// How long a client may take to send the head of a request.
const HEAD: Duration = Duration::from_secs(30);
/// How often a connection of HTTP/2 is asked whether it is there.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Why the face does not serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The listener cannot be used.
    #[error("cannot listen for HTTP: {0}")]
    Listen(#[from] io::Error),
}

/// Serves until `shutdown` resolves, and then drains: no connection is accepted any more, runs get their time, streams end
/// with a word on where to join again, and all is on disk when this resolves.
pub async fn serve(
    listener: TcpListener,
    core: Core,
    options: Options,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    listener.local_addr()?;
    let app = router(core.clone(), options.clone());
    let room = Arc::new(Semaphore::new(options.max_connections.min(Semaphore::MAX_PERMITS)));
    let (stop, cut, connections) = (CancellationToken::new(), CancellationToken::new(), TaskTracker::new());
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = async {
            // Those over the limit wait to be accepted.
            let permit = room.clone().acquire_owned().await;
            (accept(&listener).await, permit)
        };
        tokio::select! {
            (socket, permit) = accepted => {
                let connection = connection(socket, app.clone(), stop.clone(), cut.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(permit);
                });
            }
            () = &mut shutdown => break,
        }
    }
    drop(listener);
    stop.cancel();
    core.drain().await;
    connections.close();
    if tokio::time::timeout(options.close_timeout, connections.wait()).await.is_err() {
        tracing::warn!("cutting HTTP connections whose clients do not read");
        cut.cancel();
        connections.wait().await;
    }
    Ok(())
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((socket, _)) => {
                // Without it the first event of a stream waits for the answer to its head.
                if let Err(error) = socket.set_nodelay(true) {
                    tracing::debug!(%error, "a connection without TCP_NODELAY");
                }
                return socket;
            }
            Err(error) => {
                let is_of_one = matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
                );
                if !is_of_one {
                    // Out of files, most likely: to ask again at once would take all of a processor.
                    tracing::warn!(%error, "cannot accept a connection; trying again");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

async fn connection(socket: TcpStream, app: Router, stop: CancellationToken, cut: CancellationToken) {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(KEEPALIVE).max_concurrent_streams(1024);
    let serving = builder.serve_connection_with_upgrades(TokioIo::new(socket), TowerToHyperService::new(app));
    let mut serving = std::pin::pin!(serving);
    let mut is_told = false;
    loop {
        tokio::select! {
            ended = serving.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection broke");
                }
                return;
            }
            () = stop.cancelled(), if !is_told => {
                is_told = true;
                serving.as_mut().graceful_shutdown();
            }
            () = cut.cancelled() => return,
        }
    }
}
