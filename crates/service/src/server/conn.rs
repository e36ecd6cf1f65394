//! Connections: what the calls that come over one share, and how one is closed that does not close by itself.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use runloom_core::{Error, Reason};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};
use tonic::{Status, transport::server::Connected};

use super::options::Options;
use crate::status::status;

/// What the calls over one connection share.
#[derive(Clone)]
pub(crate) struct Connection {
    /// Who is at the other end; none in the same process.
    pub peer: Option<SocketAddr>,
    /// Cancelled when the connection's streams are to go on elsewhere.
    pub closing: CancellationToken,
    streams: Arc<Semaphore>,
    max_streams: u32,
}

impl Default for Connection {
    /// Of a call that came some other way: without a limit.
    fn default() -> Self {
        Self::new(None, u32::MAX)
    }
}

impl Connection {
    fn new(peer: Option<SocketAddr>, max_streams: u32) -> Self {
        let permits = (max_streams as usize).min(Semaphore::MAX_PERMITS);
        Self { peer, closing: CancellationToken::new(), streams: Arc::new(Semaphore::new(permits)), max_streams }
    }

    /// Room for one more stream. Held as long as the stream is open, which layers that count calls do not do.
    pub fn stream(&self) -> Result<OwnedSemaphorePermit, Status> {
        self.streams.clone().try_acquire_owned().map_err(|_| {
            let message = format!(
                "this connection has {} streams open, as many as it may; close one, or open another connection",
                self.max_streams
            );
            let error = Error::new(Reason::LimitReached, message);
            status(error.with("limit", "streams_per_connection").with("maximum", self.max_streams))
        })
    }

    /// Who is at the other end, in words.
    pub fn caller(&self) -> String {
        match self.peer {
            Some(peer) => format!("a caller at {peer}"),
            None => "a caller in the server's own process".to_owned(),
        }
    }
}

/// A connection's bytes, until it is cut.
pub(crate) struct Conn<IO> {
    io: IO,
    connection: Connection,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    is_cut: bool,
    _gone: DropGuard,
}

impl<IO> Conn<IO> {
    /// A connection that lasts until it is closed, `cut`, or too old.
    pub fn new(io: IO, peer: Option<SocketAddr>, options: &Options, cut: &CancellationToken) -> Self {
        let connection = Connection::new(peer, options.max_streams_per_connection);
        let (cut, gone) = (cut.child_token(), CancellationToken::new());
        if let Some(age) = options.max_connection_age {
            // The transport says at that age that it takes no more calls; what is open then has its grace. Its own grace would
            // leave out that word.
            let grace = options.max_connection_age_grace;
            let (closing, cut, gone) = (connection.closing.clone(), cut.clone(), gone.clone());
            tokio::spawn(async move {
                let end = async {
                    tokio::time::sleep(age + grace).await;
                    closing.cancel();
                    // For whoever does not read even the end of its streams.
                    tokio::time::sleep(grace.max(super::CUT_AFTER)).await;
                    cut.cancel();
                };
                tokio::select! {
                    () = end => {}
                    () = gone.cancelled() => {}
                }
            });
        }
        Self { io, connection, cut: Box::pin(cut.cancelled_owned()), is_cut: false, _gone: gone.drop_guard() }
    }

    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.is_cut = self.is_cut || self.cut.as_mut().poll(cx).is_ready();
        if self.is_cut { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }
}

impl<IO> Connected for Conn<IO> {
    type ConnectInfo = Connection;

    fn connect_info(&self) -> Connection {
        self.connection.clone()
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Conn<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // A connection always waits to read, so this is where the cut is seen at once.
        if let Err(error) = self.check(cx) {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Conn<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_cut {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_cut {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_cut {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
