//! Listening: a port, and the connections that come to it.

use std::{io, net::SocketAddr, time::Duration};

use futures_core::Stream;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::sync::CancellationToken;

use super::{Error, conn::Conn, options::Options};

/// How many connections may wait to be accepted. Many come at once when another server goes down.
const BACKLOG: u32 = 4096;

/// Listens at `host:port`; port 0 takes a free one.
pub async fn listen(address: &str) -> Result<TcpListener, Error> {
    let failed = |source| Error::Listen { address: address.to_owned(), source };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name stands for no address");
    for at in tokio::net::lookup_host(address).await.map_err(failed)? {
        match listen_at(at) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    if last.kind() == io::ErrorKind::AddrInUse {
        return Err(Error::PortTaken { address: address.to_owned() });
    }
    Err(failed(last))
}

fn listen_at(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A server that starts anew is not kept from its port by the old one's connections.
    #[cfg(not(windows))]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The connections to a port. Never ends.
pub(super) fn incoming(
    listener: TcpListener,
    options: Options,
    cut: CancellationToken,
) -> impl Stream<Item = io::Result<Conn<TcpStream>>> {
    futures_util::stream::unfold((listener, options, cut), |(listener, options, cut)| async move {
        let (socket, peer) = accept(&listener).await;
        // Without it the first message of a stream waits for the answer to its headers.
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%error, "a connection without TCP_NODELAY");
        }
        let conn = Conn::new(socket, Some(peer), &options, &cut);
        Some((Ok(conn), (listener, options, cut)))
    })
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
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
