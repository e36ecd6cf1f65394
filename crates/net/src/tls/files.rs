//! The files of a listener's TLS, and the configuration that they make.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};

/// What HTTP can be spoken over a connection, the preferred one first.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The files of a listener's TLS, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate of the server, followed by the intermediate ones.
    pub certificate: PathBuf,
    /// Its private key: PKCS #8, PKCS #1 or SEC 1.
    pub key: PathBuf,
    /// The authorities of client certificates. Clients without a certificate are refused, or not, by the second field.
    pub client_ca: Option<(PathBuf, ClientAuth)>,
}

/// Whether a client must present a certificate. One that is presented is always verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// A client without a certificate is refused in the handshake.
    #[default]
    Required,
    /// A client without a certificate is accepted, for example because it has an API key.
    Optional,
}

/// Why the TLS of a listener cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read the {what} {path}: {source}", path = path.display())]
    Read {
        /// What the file has.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not PEM, or does not have what it should.
    #[error("{path} has no valid {what}: {reason}", path = path.display())]
    Invalid {
        /// What the file should have.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The key does not belong to the certificate.
    #[error(
        "the private key {key} does not belong to the certificate {certificate}",
        key = key.display(), certificate = certificate.display()
    )]
    Mismatch {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
    },
    /// TLS rejects the certificate or the key.
    #[error("cannot use the certificate {path}: {source}", path = path.display())]
    Rejected {
        /// The file of the certificate.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
}

/// The bytes of the files, to see whether they changed.
#[derive(PartialEq, Eq)]
pub(super) struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl TlsFiles {
    /// Reads the files.
    pub(super) fn read(&self) -> Result<Contents, TlsError> {
        Ok(Contents {
            certificate: read("certificate", &self.certificate)?,
            key: read("private key", &self.key)?,
            client_ca: self.client_ca.as_ref().map(|(path, _)| read("client CA", path)).transpose()?,
        })
    }

    /// The configuration that the contents of the files make.
    pub(super) fn config(&self, contents: &Contents) -> Result<Arc<ServerConfig>, TlsError> {
        let chain = certificates("certificate", &self.certificate, &contents.certificate)?;
        let key =
            PrivateKeyDer::from_pem_slice(&contents.key).map_err(|error| invalid("private key", &self.key, &error))?;
        // Explicit, because the process may have no default provider.
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|source| TlsError::Rejected { path: self.certificate.clone(), source })?;
        let builder = match (&self.client_ca, &contents.client_ca) {
            (Some((path, auth)), Some(bytes)) => {
                builder.with_client_cert_verifier(verifier(path, *auth, bytes, provider)?)
            }
            _ => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|source| match source {
            rustls::Error::InconsistentKeys(_) => {
                TlsError::Mismatch { certificate: self.certificate.clone(), key: self.key.clone() }
            }
            source => TlsError::Rejected { path: self.certificate.clone(), source },
        })?;
        config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
        Ok(Arc::new(config))
    }
}

/// What verifies the certificates of clients.
fn verifier(
    path: &Path,
    auth: ClientAuth,
    bytes: &[u8],
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, TlsError> {
    const WHAT: &str = "client CA";
    let mut roots = RootCertStore::empty();
    for certificate in certificates(WHAT, path, bytes)? {
        roots.add(certificate).map_err(|error| invalid(WHAT, path, &error))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = match auth {
        ClientAuth::Required => builder,
        ClientAuth::Optional => builder.allow_unauthenticated(),
    };
    builder.build().map_err(|error| invalid(WHAT, path, &error))
}

fn certificates(what: &'static str, path: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    let all = all.map_err(|error| invalid(what, path, &error))?;
    if all.is_empty() {
        return Err(invalid(what, path, &"the file has no `-----BEGIN CERTIFICATE-----`"));
    }
    Ok(all)
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Read { what, path: path.to_owned(), source })
}

fn invalid(what: &'static str, path: &Path, reason: &dyn ToString) -> TlsError {
    TlsError::Invalid { what, path: path.to_owned(), reason: reason.to_string() }
}
