//! What an accepted socket becomes before HTTP is spoken over it: itself, or TLS.

use std::io;

use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use crate::tls::{ClientCertificates, Tls};

/// The stream that HTTP is spoken over.
pub(crate) type Transport = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// Turns an accepted socket into a [`Transport`]. Runs in the connection's own task, within
/// [`Options::handshake_timeout`](crate::Options::handshake_timeout). An error closes the connection.
pub(crate) async fn accept(tls: Option<&Tls>, socket: TcpStream) -> io::Result<(Transport, ClientCertificates)> {
    match tls {
        None => Ok((Either::Left(socket), ClientCertificates::default())),
        Some(tls) => {
            let (stream, certificates) = tls.accept(socket).await?;
            Ok((Either::Right(Box::new(stream)), certificates))
        }
    }
}
