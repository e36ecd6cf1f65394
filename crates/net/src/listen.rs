//! Binding a port.

use std::{io, net::SocketAddr};

use tokio::net::{TcpListener, TcpSocket};

/// The queue of connections that the kernel has completed and the server has not accepted. Clients reconnect all at
/// once when another server stops.
const BACKLOG: u32 = 4096;

/// Why a port cannot be bound.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// Another process listens on the port.
    #[error("{address} is taken: another process listens there. Stop it, or choose another port")]
    PortTaken {
        /// The address as it was given.
        address: String,
    },
    /// The address is invalid, does not belong to this machine, or needs other privileges.
    #[error("cannot listen at {address}: {source}")]
    Other {
        /// The address as it was given.
        address: String,
        /// The error of the operating system.
        source: io::Error,
    },
}

/// Listens at `host:port`; port 0 takes a free one. If the host has several addresses, the first that can be bound.
pub async fn listen(address: &str) -> Result<TcpListener, ListenError> {
    let failed = |source| ListenError::Other { address: address.to_owned(), source };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
    for candidate in tokio::net::lookup_host(address).await.map_err(failed)? {
        match bind(candidate) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    if last.kind() == io::ErrorKind::AddrInUse {
        return Err(ListenError::PortTaken { address: address.to_owned() });
    }
    Err(failed(last))
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Connections of an earlier process that are in TIME_WAIT do not block the port.
    #[cfg(not(windows))]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
