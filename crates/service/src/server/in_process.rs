//! The server without a socket: a channel to it within the same process.

use std::io;

use hyper_util::rt::TokioIo;
use tokio::{io::DuplexStream, sync::mpsc};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint, Uri};

use super::{Server, conn::Conn};

/// How much may be under way each way.
const BUFFER: usize = 256 << 10;

impl Server {
    /// A channel to this server that needs no port. It works as long as the server does; the server does not wait for it.
    /// See [`drain`](Self::drain).
    pub fn in_process(&self) -> Channel {
        let (accept, accepted) = mpsc::unbounded_channel::<io::Result<Conn<DuplexStream>>>();
        let router = self.router();
        tokio::spawn(async move {
            // Ends when the channel is gone, and with it whoever could connect.
            if let Err(error) = router.serve_with_incoming(UnboundedReceiverStream::new(accepted)).await {
                tracing::error!(%error, "the server in this process stopped");
            }
        });
        let (options, cut) = (self.options.clone(), CancellationToken::new());
        let connect = tower::service_fn(move |_: Uri| {
            let (near, far) = tokio::io::duplex(BUFFER);
            let sent = accept.send(Ok(Conn::new(far, None, &options, &cut)));
            async move { sent.map(|()| TokioIo::new(near)).map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused)) }
        });
        Endpoint::from_static("http://in-process").connect_with_connector_lazy(connect)
    }
}
