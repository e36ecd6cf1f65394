//! Serving: the API behind a listener, and its drain.

use std::future::Future;

use runloom_core::Core;
use runloom_net::Server;
use tokio::net::TcpListener;

use crate::{Options, router};

/// The name of this API in metrics and logs of connections.
const API: &str = "http";

/// Serves until `shutdown` resolves, and then drains: runs have their time to end, and streams end so that clients join
/// again elsewhere. Requests are answered until then. When this resolves, connections are closed and everything is on
/// disk.
pub async fn serve(listener: TcpListener, core: Core, options: Options, shutdown: impl Future<Output = ()>) {
    let server = Server::new(API, options.connections.clone());
    let drained = {
        let core = core.clone();
        async move {
            shutdown.await;
            core.drain().await;
        }
    };
    server.serve(listener, router(core, options), drained).await;
}
