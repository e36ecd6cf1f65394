//! TLS of a listener: certificates from files, which can be reloaded while connections are open.

mod files;

use std::{fmt, io, sync::Arc};

use parking_lot::RwLock;
use rustls::{ServerConfig, pki_types::CertificateDer};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use self::files::Contents;
pub use self::files::{ClientAuth, TlsError, TlsFiles};

/// The certificates that a client presented, its own first. Verified against the client CA.
pub type ClientCertificates = Arc<[CertificateDer<'static>]>;

/// TLS 1.2 and 1.3 with the certificate, key and client CA of some files. Clones share them: a [`reload`](Self::reload)
/// applies to all listeners that use one. ALPN offers `h2` and `http/1.1`.
#[derive(Clone)]
pub struct Tls(Arc<Shared>);

struct Shared {
    files: TlsFiles,
    current: RwLock<Current>,
}

struct Current {
    contents: Contents,
    config: Arc<ServerConfig>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.0.files).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the files. Blocks.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let contents = files.read()?;
        let config = files.config(&contents)?;
        Ok(Self(Arc::new(Shared { files, current: RwLock::new(Current { contents, config }) })))
    }

    /// Reads the files again, for new connections; open ones keep what they have. On an error nothing changes. Blocks.
    ///
    /// Returns whether a file had changed.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let result = self.try_reload();
        match &result {
            Ok(false) => {}
            Ok(true) => metrics::counter!("runloom_tls_reloads_total", "result" => "ok").increment(1),
            Err(_) => metrics::counter!("runloom_tls_reloads_total", "result" => "error").increment(1),
        }
        result
    }

    fn try_reload(&self) -> Result<bool, TlsError> {
        let contents = self.0.files.read()?;
        if contents == self.0.current.read().contents {
            return Ok(false);
        }
        let config = self.0.files.config(&contents)?;
        *self.0.current.write() = Current { contents, config };
        Ok(true)
    }

    /// The files.
    pub fn files(&self) -> &TlsFiles {
        &self.0.files
    }

    /// Performs the handshake on an accepted socket.
    pub(crate) async fn accept(&self, socket: TcpStream) -> io::Result<(TlsStream<TcpStream>, ClientCertificates)> {
        let config = self.0.current.read().config.clone();
        let stream = TlsAcceptor::from(config).accept(socket).await?;
        let presented = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let certificates = presented.iter().map(|certificate| certificate.clone().into_owned()).collect();
        Ok((stream, certificates))
    }
}
