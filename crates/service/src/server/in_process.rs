//! The server without a socket: a channel to it within the same process.

use std::convert::Infallible;

use hyper_util::rt::TokioIo;
use tonic::transport::{Channel, Endpoint, Uri};

use super::{API, Server};

/// The bytes that may be under way in each direction.
const BUFFER: usize = 256 << 10;

impl Server {
    /// A channel to this server that needs no port. It works as long as the server does; the server does not wait for it.
    /// See [`drain`](Self::drain).
    pub fn in_process(&self) -> Channel {
        let (service, options) = (self.service(), self.options.connections.clone());
        let connect = tower::service_fn(move |_: Uri| {
            let (near, far) = tokio::io::duplex(BUFFER);
            let (service, options) = (service.clone(), options.clone());
            // Ends when the channel drops its end.
            tokio::spawn(async move { runloom_net::serve_stream(API, far, service, &options).await });
            async move { Ok::<_, Infallible>(TokioIo::new(near)) }
        });
        Endpoint::from_static("http://in-process").connect_with_connector_lazy(connect)
    }
}
