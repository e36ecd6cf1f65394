//! The bytes of a connection, until it is cut.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// A stream that ends with an error once its token is cancelled, and counts what it has read. It holds what counts the
/// connection as well: a WebSocket keeps it after the HTTP connection has handed it over.
pub(crate) struct Stream<IO, G> {
    io: IO,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    is_cut: bool,
    read: Arc<AtomicUsize>,
    _guard: G,
}

impl<IO, G> Stream<IO, G> {
    pub fn new(io: IO, cut: CancellationToken, guard: G) -> Self {
        Self { io, cut: Box::pin(cut.cancelled_owned()), is_cut: false, read: Arc::default(), _guard: guard }
    }

    /// How many bytes have been read.
    pub fn bytes_read(&self) -> Arc<AtomicUsize> {
        self.read.clone()
    }

    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.is_cut = self.is_cut || self.cut.as_mut().poll(cx).is_ready();
        if self.is_cut { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }
}

impl<IO: AsyncRead + Unpin, G: Unpin> AsyncRead for Stream<IO, G> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // Checked first: a connection always waits to read, so the cut wakes it.
        self.check(cx)?;
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        let count = buf.filled().len() - before;
        if count > 0 {
            self.read.fetch_add(count, Ordering::Relaxed);
        }
        polled
    }
}

impl<IO: AsyncWrite + Unpin, G: Unpin> AsyncWrite for Stream<IO, G> {
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
