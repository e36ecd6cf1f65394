//! What a socket becomes before HTTP is spoken over it.

use std::{future::Future, io};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

/// Turns an accepted socket into the stream that HTTP is spoken over. The handshake of TLS belongs here: it runs in the
/// connection's own task, within [`Options::handshake_timeout`](crate::Options::handshake_timeout).
pub trait Acceptor: Clone + Send + Sync + 'static {
    /// The stream.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Performs the handshake. An error closes the connection.
    fn accept(&self, socket: TcpStream) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

/// The socket as it is, without TLS.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl Acceptor for Plain {
    type Stream = TcpStream;

    async fn accept(&self, socket: TcpStream) -> io::Result<TcpStream> {
        Ok(socket)
    }
}
