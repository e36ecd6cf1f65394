//! TLS over real sockets: protocols, client certificates, and the reload of changed files.
#![allow(clippy::unwrap_used)]

use std::{convert::Infallible, fs, net::SocketAddr, path::Path, sync::Arc};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use runloom_net::{ClientAuth, Connection, Options, Server, Tls, TlsError, TlsFiles, listen};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate and its key, in PEM.
fn issue(authority: &Authority, name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, authority).unwrap();
    (certificate.pem(), key.serialize_pem())
}

fn write(folder: &Path, (certificate, key): &(String, String)) -> TlsFiles {
    let files = TlsFiles { certificate: folder.join("tls.crt"), key: folder.join("tls.key"), client_ca: None };
    fs::write(&files.certificate, certificate).unwrap();
    fs::write(&files.key, key).unwrap();
    files
}

/// Answers with the number of certificates of the client.
async fn serve(tls: Tls) -> SocketAddr {
    let listener = listen("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = tower::service_fn(|request: Request<Incoming>| async move {
        let count = request.extensions().get::<Connection>().unwrap().certificates().len();
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(format!("certificates: {count}")))))
    });
    let options = Options { tls: Some(tls), ..Options::default() };
    tokio::spawn(Server::new("test", options).serve(listener, service, std::future::pending()));
    address
}

async fn connect(
    address: SocketAddr,
    authority: &Authority,
    identity: Option<&(String, String)>,
    protocol: &[u8],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap()
        }
    };
    config.alpn_protocols = vec![protocol.to_vec()];
    let socket = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), socket).await
}

async fn get(stream: &mut TlsStream<TcpStream>) -> std::io::Result<String> {
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await?;
    let mut bytes = vec![0; 1024];
    let mut length = 0;
    loop {
        let count = stream.read(&mut bytes[length..]).await?;
        length += count;
        let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
        if count == 0 || text.contains("certificates: ") {
            return Ok(text);
        }
    }
}

#[tokio::test]
async fn both_versions_of_http_are_spoken() {
    let folder = tempfile::tempdir().unwrap();
    let ca = authority("one");
    let address = serve(Tls::load(write(folder.path(), &issue(&ca, "localhost"))).unwrap()).await;
    let mut stream = connect(address, &ca, None, b"http/1.1").await.unwrap();
    assert!(get(&mut stream).await.unwrap().ends_with("certificates: 0"));
    let stream = connect(address, &ca, None, b"h2").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    assert!(connect(address, &authority("other"), None, b"h2").await.is_err());
}

#[tokio::test]
async fn client_certificates_are_required_or_optional() {
    let (ca, clients) = (authority("servers"), authority("clients"));
    let client = issue(&clients, "billing");
    for (auth, expected) in [(ClientAuth::Required, None), (ClientAuth::Optional, Some("certificates: 0"))] {
        let folder = tempfile::tempdir().unwrap();
        let mut files = write(folder.path(), &issue(&ca, "localhost"));
        fs::write(folder.path().join("ca.crt"), clients.pem()).unwrap();
        files.client_ca = Some((folder.path().join("ca.crt"), auth));
        let address = serve(Tls::load(files).unwrap()).await;
        let mut stream = connect(address, &ca, Some(&client), b"http/1.1").await.unwrap();
        assert!(get(&mut stream).await.unwrap().ends_with("certificates: 1"));
        // In TLS 1.3 the client learns of the refusal when it reads.
        let mut stream = connect(address, &ca, None, b"http/1.1").await.unwrap();
        let answer = get(&mut stream).await;
        match expected {
            Some(text) => assert!(answer.unwrap().ends_with(text)),
            None => assert!(answer.is_err(), "{answer:?}"),
        }
        // Of another authority.
        let stranger = issue(&ca, "billing");
        let mut stream = connect(address, &ca, Some(&stranger), b"http/1.1").await.unwrap();
        assert!(get(&mut stream).await.is_err());
    }
}

#[tokio::test]
async fn changed_files_apply_to_new_connections() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (authority("old"), authority("new"));
    let tls = Tls::load(write(folder.path(), &issue(&old, "localhost"))).unwrap();
    let address = serve(tls.clone()).await;
    let mut open = connect(address, &old, None, b"http/1.1").await.unwrap();
    assert!(!tls.reload().unwrap());
    write(folder.path(), &issue(&new, "localhost"));
    assert!(tls.reload().unwrap());
    assert!(connect(address, &old, None, b"http/1.1").await.is_err());
    connect(address, &new, None, b"http/1.1").await.unwrap();
    assert!(get(&mut open).await.unwrap().ends_with("certificates: 0"), "the open connection goes on");

    fs::write(folder.path().join("tls.crt"), "not a certificate").unwrap();
    assert!(matches!(tls.reload(), Err(TlsError::Invalid { what: "certificate", .. })));
    connect(address, &new, None, b"http/1.1").await.unwrap();
}

#[test]
fn errors_name_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let ca = authority("one");
    let (one, two) = (issue(&ca, "localhost"), issue(&ca, "localhost"));
    let files = write(folder.path(), &(one.0.clone(), two.1));
    let error = Tls::load(files).unwrap_err().to_string();
    assert!(error.contains("tls.key does not belong to the certificate"), "{error}");
    let files = write(folder.path(), &(one.0, String::new()));
    let error = Tls::load(files.clone()).unwrap_err().to_string();
    assert!(error.contains("tls.key has no valid private key"), "{error}");
    fs::remove_file(&files.key).unwrap();
    let error = Tls::load(files).unwrap_err().to_string();
    assert!(error.contains("cannot read the private key") && error.contains("tls.key"), "{error}");
}
