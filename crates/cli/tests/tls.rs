//! `runloom serve` with TLS, and the commands that connect to it.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::fs;

use common::{Server, folder, path, run};
use futures_util::StreamExt as _;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use runloom::{
    ClientOptions, ClientTls,
    v1::{RunSpec, StreamMode, StreamRunRequest, stream_run_response::Payload},
};
use serde_json::json;

/// Waits for the gate, a file that the test makes, so that the stream is open while files change.
const SLOW: &str = "runloom: v1\nname: slow\nstate:\n  x: {}\nnodes:\n  wait: { sleep_ms: 1500 }\n  set: { update: { x: 1 } }\nedges:\n  - { from: START, to: wait }\n  - { from: wait, to: set }\n";

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Writes the authority's certificate, and a certificate and a key signed by it.
fn issue(folder: &tempfile::TempDir, authority: &Authority, name: &str) {
    let key = KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, authority).unwrap();
    for (file, text) in [
        ("ca.crt", authority.pem()),
        (&*format!("{name}.crt"), certificate.pem()),
        (&*format!("{name}.key"), key.serialize_pem()),
    ] {
        fs::write(folder.path().join(file), text).unwrap();
    }
}

fn file(folder: &tempfile::TempDir, name: &str) -> String {
    path(&folder.path().join(name)).to_owned()
}

#[test]
fn commands_connect_with_the_authority_and_only_with_it() {
    let (keys, ca) = (tempfile::tempdir().unwrap(), authority());
    issue(&keys, &ca, "server");
    let (certificate, key, ca) = (file(&keys, "server.crt"), file(&keys, "server.key"), file(&keys, "ca.crt"));
    let server = Server::start(&["--data", ":memory:", "--tls-cert", &certificate, "--tls-key", &key]);
    assert!(server.banner.contains("TLS, no authentication"), "{}", server.banner);
    assert!(server.banner.contains(&format!("--addr https://{}", server.address)), "{}", server.banner);
    let address = server.address.as_str();
    let good = run(&["health", "--addr", address, "--tls-ca", &ca]);
    assert_eq!((good.code, good.out.trim()), (Some(0), "serving"), "{good:?}");
    let good = run(&["run", "joke", "cats", "--addr", &format!("https://{address}"), "--tls-ca", &ca]);
    assert_eq!(good.code, Some(0), "{good:?}");
    // The system does not know the authority; a server with TLS does not speak without it.
    let untrusted = run(&["health", "--addr", &format!("https://{address}")]);
    assert!(untrusted.code == Some(4) && untrusted.err.contains("certificate"), "{untrusted:?}");
    let plain = run(&["health", "--addr", address]);
    assert_eq!(plain.code, Some(4), "{plain:?}");
}

#[test]
fn mutual_tls_refuses_strangers() {
    let (keys, ca) = (tempfile::tempdir().unwrap(), authority());
    issue(&keys, &ca, "server");
    issue(&keys, &ca, "client");
    let names = ["server.crt", "server.key", "ca.crt", "client.crt", "client.key"].map(|name| file(&keys, name));
    let [certificate, key, ca, client, client_key] = names.each_ref().map(String::as_str);
    let server =
        Server::start(&["--data", ":memory:", "--tls-cert", certificate, "--tls-key", key, "--tls-client-ca", ca]);
    let args = ["health", "--addr", &server.address, "--tls-ca", ca];
    let known = run(&[&args[..], &["--tls-client-cert", client, "--tls-client-key", client_key]].concat());
    assert_eq!(known.code, Some(0), "{known:?}");
    let unknown = run(&args);
    assert_ne!(unknown.code, Some(0), "{unknown:?}");
}

#[tokio::test]
async fn a_new_certificate_is_served_and_open_streams_go_on() {
    let (keys, old, new) = (tempfile::tempdir().unwrap(), authority(), authority());
    issue(&keys, &old, "server");
    let graphs = folder(&[("slow.yaml", SLOW)]);
    let (certificate, key) = (file(&keys, "server.crt"), file(&keys, "server.key"));
    let server = Server::start(&[
        "--data",
        ":memory:",
        "--graphs",
        path(graphs.path()),
        "--tls-cert",
        &certificate,
        "--tls-key",
        &key,
    ]);
    let connect = async |authority: &Authority| {
        let tls = ClientTls { ca: Some(authority.pem().into_bytes()), ..ClientTls::default() };
        runloom::Client::connect_with(&server.address, ClientOptions { tls, ..ClientOptions::default() }).await
    };
    let client = connect(&old).await.unwrap();
    let spec = RunSpec::graph("slow").with_input(json!({})).with_modes([StreamMode::Updates]);
    let mut stream = client.stream_run(StreamRunRequest { run: Some(spec), ..Default::default() });
    let first = stream.next().await.unwrap().unwrap();
    assert!(matches!(first.payload, Some(Payload::Metadata(_))));

    issue(&keys, &new, "server");
    server.logs("TLS certificate reloaded");
    connect(&new).await.unwrap();
    assert!(connect(&old).await.is_err());
    fs::write(&certificate, "broken").unwrap();
    server.logs("the previous one stays in use");
    connect(&new).await.unwrap();

    let (mut is_ended, mut metadata) = (false, 0);
    while let Some(part) = stream.next().await {
        let part = part.unwrap();
        metadata += usize::from(matches!(part.payload, Some(Payload::Metadata(_))));
        is_ended = matches!(part.payload, Some(Payload::End(_)));
    }
    assert!(is_ended && metadata == 1, "the stream was neither cut nor joined again");
}

#[test]
fn invalid_files_stop_the_start() {
    let keys = tempfile::tempdir().unwrap();
    let missing = file(&keys, "none.crt");
    let ended =
        run(&["serve", "--data", ":memory:", "--grpc", "127.0.0.1:0", "--tls-cert", &missing, "--tls-key", &missing]);
    assert!(
        ended.code == Some(2) && ended.err.contains("cannot read the certificate") && ended.err.contains("none.crt"),
        "{ended:?}"
    );
    let ended = run(&["serve", "--tls-cert", &missing]);
    assert!(ended.code == Some(2) && ended.err.contains("--tls-key"), "{ended:?}");
}
