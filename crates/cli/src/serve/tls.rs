//! TLS of both listeners: options, and the reload when a file changes.

use std::{collections::BTreeSet, path::PathBuf};

use clap::{Args, ValueEnum};
use runloom_net::{ClientAuth, Tls, TlsFiles};

use super::watch::{self, Watch};
use crate::failure::{Failure, Result};

/// The options for TLS.
#[derive(Args, Clone, Debug)]
pub(super) struct TlsArgs {
    /// Certificate of the server in PEM, with its intermediate certificates. Turns TLS on for both ports. Reloaded when the
    /// file changes
    #[arg(long, env = "RUNLOOM_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Private key of the certificate in PEM
    #[arg(long, env = "RUNLOOM_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Certificates of the authorities that sign client certificates, in PEM: mutual TLS
    #[arg(long, env = "RUNLOOM_TLS_CLIENT_CA", value_name = "FILE", requires = "tls_cert")]
    tls_client_ca: Option<PathBuf>,
    /// Whether clients without a certificate are refused
    #[arg(long, env = "RUNLOOM_TLS_CLIENT_AUTH", value_enum, value_name = "WHEN", default_value_t = WhenClientAuth::Required)]
    tls_client_auth: WhenClientAuth,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum WhenClientAuth {
    /// Refuse them
    Required,
    /// Accept them, for example because they have an API key
    Optional,
}

impl TlsArgs {
    /// Reads the files. `None` without TLS.
    pub fn load(&self) -> Result<Option<Tls>, Failure> {
        let (Some(certificate), Some(key)) = (self.tls_cert.clone(), self.tls_key.clone()) else { return Ok(None) };
        let auth = match self.tls_client_auth {
            WhenClientAuth::Required => ClientAuth::Required,
            WhenClientAuth::Optional => ClientAuth::Optional,
        };
        let files = TlsFiles { certificate, key, client_ca: self.tls_client_ca.clone().map(|path| (path, auth)) };
        Tls::load(files).map(Some).map_err(|error| Failure::usage(error.to_string()))
    }
}

/// Reloads the files when they change, until the watch is dropped. Invalid files are logged and change nothing.
pub(super) fn watch(tls: &Tls) -> Result<Watch> {
    let files = tls.files();
    let paths = [Some(&files.certificate), Some(&files.key), files.client_ca.as_ref().map(|(path, _)| path)];
    let folders: BTreeSet<PathBuf> = paths.into_iter().flatten().filter_map(|path| folder_of(path)).collect();
    let tls = tls.clone();
    watch::folders(&folders, move || {
        let tls = tls.clone();
        async move {
            match tokio::task::spawn_blocking(move || tls.reload()).await {
                Ok(Ok(true)) => tracing::info!("TLS certificate reloaded; open connections keep the previous one"),
                Ok(Ok(false)) => {}
                Ok(Err(error)) => {
                    tracing::error!(%error, "cannot reload the TLS certificate; the previous one stays in use");
                }
                Err(error) => {
                    tracing::error!(%error, "cannot reload the TLS certificate; the previous one stays in use")
                }
            }
        }
    })
}

/// The folder of a file; the present one for a bare name.
pub(super) fn folder_of(path: &std::path::Path) -> Option<PathBuf> {
    let folder = path.parent()?;
    Some(if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder.to_owned() })
}
