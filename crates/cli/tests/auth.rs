//! Authentication over both APIs: a walk over every RPC and every route, keys, tenants.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::{
    collections::HashMap,
    io::{Read, Write},
    net::TcpStream,
};

use common::{Server, ended, run, runloom};
use runloom::{
    Client, ClientOptions, METHOD_SCOPES,
    v1::{CreateKeyRequest, CreateThreadRequest, ErrorReason, ListKeysRequest, RunSpec},
};
use serde_json::{Value, json};
use tonic::{
    Code, Request,
    client::Grpc,
    metadata::MetadataValue,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

const ROOT: &str = "the-key-of-the-operator-of-this-test";
/// Routes without a scope. The list may only shrink.
const PUBLIC: [&str; 5] = ["/", "/ok", "/info", "/openapi.json", "/docs"];

fn start() -> (Server, String) {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let http = format!("127.0.0.1:{port}");
    let server = Server::start_in(&["--data", ":memory:", "--http", &http], &[("RUNLOOM_ADMIN_KEY", ROOT)]);
    assert!(server.banner.contains("no TLS, authentication"), "{}", server.banner);
    (server, http)
}

async fn client(server: &Server, key: &str) -> Client {
    let options = ClientOptions { api_key: Some(key.to_owned()), ..ClientOptions::default() };
    Client::connect_with(&server.address, options).await.unwrap()
}

async fn key(root: &Client, tenant: &str, scopes: &[&str]) -> String {
    let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
    let request = CreateKeyRequest { tenant: tenant.to_owned(), scopes, ..Default::default() };
    root.create_key(request).await.unwrap().secret
}

/// The code that an RPC gives for an empty request.
async fn call(channel: &Channel, path: &'static str, key: Option<&str>) -> Code {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.unwrap();
    let mut request = Request::new(tokio_stream::once(()));
    if let Some(key) = key {
        let value: MetadataValue<_> = format!("Bearer {key}").parse().unwrap();
        request.metadata_mut().insert("authorization", value);
    }
    let codec = ProstCodec::<(), ()>::default();
    let answer = grpc.streaming(request, http::uri::PathAndQuery::from_static(path), codec).await;
    let status = match answer {
        Err(status) => status,
        // What the answer is does not matter here: only whether the call was admitted.
        Ok(answer) => match answer.into_inner().message().await {
            Err(status) if [Code::Unauthenticated, Code::PermissionDenied].contains(&status.code()) => status,
            _ => return Code::Ok,
        },
    };
    status.code()
}

/// The status and the body of a request.
fn http(address: &str, method: &str, path: &str, header: &str) -> (u16, String) {
    let mut socket = TcpStream::connect(address).unwrap();
    let body = if ["POST", "PUT", "PATCH", "DELETE"].contains(&method) { "{}" } else { "" };
    write!(
        socket,
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{header}\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut text = Vec::new();
    socket.read_to_end(&mut text).unwrap();
    let text = String::from_utf8_lossy(&text).into_owned();
    let status = text.split(' ').nth(1).unwrap().parse().unwrap();
    (status, text.split_once("\r\n\r\n").unwrap().1.to_owned())
}

#[tokio::test]
async fn every_rpc_needs_its_scope() {
    let (server, _) = start();
    let root = client(&server, ROOT).await;
    let channel = Endpoint::from_shared(format!("http://{}", server.address)).unwrap().connect().await.unwrap();
    let none = key(&root, "", &["metrics:read"]).await;
    assert!(METHOD_SCOPES.len() > 40);
    for (path, scope) in METHOD_SCOPES {
        assert_eq!(call(&channel, path, None).await, Code::Unauthenticated, "{path}");
        assert_eq!(call(&channel, path, Some("rl_0000000000000000_wrong")).await, Code::Unauthenticated, "{path}");
        assert_eq!(call(&channel, path, Some(&none)).await, Code::PermissionDenied, "{path}");
        let fitting = key(&root, "", &[scope]).await;
        let admitted = call(&channel, path, Some(&fitting)).await;
        assert!(
            ![Code::Unauthenticated, Code::PermissionDenied].contains(&admitted),
            "{path} with {scope}: {admitted:?}"
        );
    }
    for path in ["/grpc.health.v1.Health/Check", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"] {
        assert_ne!(call(&channel, path, None).await, Code::Unauthenticated, "{path}");
    }
    assert_eq!(call(&channel, "/runloom.v1.Runs/Unknown", Some(&none)).await, Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_needs_its_scope() {
    let (server, address) = start();
    let root = client(&server, ROOT).await;
    let none = format!("x-api-key: {}\r\n", key(&root, "", &["workers:read"]).await);
    let (_, text) = http(&address, "GET", "/openapi.json", "");
    let described: Value = serde_json::from_str(&text).unwrap();
    let id = "0198c0de-0000-7000-8000-000000000001";
    let mut keys: HashMap<String, String> = HashMap::new();
    let (mut walked, mut public) = (0, Vec::new());
    for (path, methods) in described["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys().map(|method| method.to_uppercase()) {
            if !["GET", "POST", "PUT", "PATCH", "DELETE"].contains(&&*method) {
                continue;
            }
            let filled: String = path
                .split('{')
                .map(|part| part.split_once('}').map_or(part.to_owned(), |(_, rest)| format!("{id}{rest}")))
                .collect();
            let (status, _) = http(&address, &method, &filled, "");
            if status != 401 {
                public.push(path.clone());
                continue;
            }
            walked += 1;
            assert_eq!(http(&address, &method, &filled, "authorization: Bearer rl_x_y\r\n").0, 401, "{method} {path}");
            let (status, body) = http(&address, &method, &filled, &none);
            assert_eq!(status, 403, "{method} {path}: {body}");
            let scope = body.split('`').nth(1).unwrap().to_owned();
            if !keys.contains_key(&scope) {
                keys.insert(scope.clone(), key(&root, "", &[&scope]).await);
            }
            let fitting = format!("x-api-key: {}\r\n", keys[&scope]);
            let (status, body) = http(&address, &method, &filled, &fitting);
            assert!(status != 401 && status != 403, "{method} {path} with {scope}: {status} {body}");
        }
    }
    public.sort();
    let mut expected = PUBLIC.to_vec();
    expected.sort_unstable();
    public.retain(|path| !expected.contains(&path.as_str()));
    assert!(public.is_empty(), "routes without a scope: {public:?}");
    assert!(walked > 50, "{walked}");
    assert!(keys.len() >= 9, "{:?}", keys.keys());
}

#[tokio::test]
async fn a_tenant_does_not_see_another() {
    let (server, _) = start();
    let root = client(&server, ROOT).await;
    let all = ["threads", "runs", "assistants", "store", "crons", "graphs"];
    let acme = client(&server, &key(&root, "acme", &all).await).await;
    let other = client(&server, &key(&root, "other", &all).await).await;
    let id = "0198c0de-0000-7000-8000-000000000001";
    let spec = RunSpec::graph("joke").with_new_thread(id).with_input(json!({"topic": "cats"}));
    let run = acme.create_run(spec).await.unwrap();
    assert_eq!(acme.list_threads(Default::default()).await.unwrap().threads.len(), 1);
    for stranger in [&other, &root] {
        assert!(stranger.list_threads(Default::default()).await.unwrap().threads.is_empty());
        let missing = stranger.get_run(run.run_id.as_str()).await.unwrap_err();
        assert_eq!(missing.reason(), Some(ErrorReason::RunNotFound));
        let missing = stranger.get_thread(run.thread_id.as_str()).await.unwrap_err();
        assert_eq!(missing.reason(), Some(ErrorReason::ThreadNotFound));
    }
    // The same id is another thread.
    let request = CreateThreadRequest { thread_id: run.thread_id.clone(), ..Default::default() };
    other.create_thread(request).await.unwrap();
    assert!(acme.get_thread(run.thread_id.as_str()).await.is_ok());
}

#[tokio::test]
async fn keys_are_revoked_and_expire() {
    let (server, _) = start();
    let root = client(&server, ROOT).await;
    let secret = key(&root, "acme", &["admin"]).await;
    let acme = client(&server, &secret).await;
    // An administrator of a tenant manages its keys and no others.
    let listed = acme.list_keys(ListKeysRequest::default()).await.unwrap().keys;
    assert_eq!(listed.len(), 1);
    assert!(secret.contains(&listed[0].id) && secret.starts_with("rl_"), "{secret}");
    let request = CreateKeyRequest { tenant: "default".into(), scopes: vec!["admin".into()], ..Default::default() };
    assert_eq!(acme.create_key(request).await.unwrap_err().reason(), Some(ErrorReason::FieldInvalid));
    key(&root, "other", &["runs"]).await;
    let page = root.list_keys(ListKeysRequest { page_size: 1, ..Default::default() }).await.unwrap();
    assert_eq!((page.keys.len(), &page.keys[0].id), (1, &listed[0].id));
    let next = ListKeysRequest { page_token: page.next_page_token, ..Default::default() };
    let rest = root.list_keys(next).await.unwrap();
    assert_eq!((rest.keys.len(), &*rest.keys[0].tenant, &*rest.next_page_token), (1, "other", ""));
    root.revoke_key(listed[0].id.as_str()).await.unwrap();
    let refused = acme.list_keys(ListKeysRequest::default()).await.unwrap_err();
    assert_eq!(refused.reason(), Some(ErrorReason::Unauthenticated));
    assert!(refused.message().contains("revoked"), "{refused}");
    let again = root.revoke_key(listed[0].id.as_str()).await.unwrap_err();
    assert_eq!(again.reason(), Some(ErrorReason::KeyNotFound));
    server.logs("API key revoked");
    let wrong = CreateKeyRequest { scopes: vec!["runs:reed".into()], ..Default::default() };
    let wrong = root.create_key(wrong).await.unwrap_err();
    assert!(wrong.to_string().contains("runs:reed") && wrong.to_string().contains("read, write"), "{wrong}");
}

#[test]
fn commands_use_keys_and_no_secret_is_logged() {
    let (server, _) = start();
    let command = |args: &[&str], key: &str| {
        let mut command = runloom(&[args, &["--addr", &server.address]].concat());
        command.env("RUNLOOM_API_KEY", key);
        ended(command)
    };
    let made =
        command(&["keys", "create", "--tenant", "acme", "--scopes", "runs,assistants", "--expires", "90d"], ROOT);
    assert_eq!(made.code, Some(0), "{made:?}");
    let secret = made.out.trim();
    let ran = command(&["run", "joke", "cats"], secret);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let denied = command(&["threads", "list"], secret);
    assert!(denied.code != Some(0) && denied.err.contains("threads:read"), "{denied:?}");
    let listed = command(&["keys", "list", "--json"], ROOT);
    assert!(listed.out.contains("acme") && !listed.out.contains(secret), "{listed:?}");
    let line = server.logs("call denied");
    assert!(line.contains("/runloom.v1.Threads/ListThreads") && !line.contains(secret), "{line}");
    let none = run(&["threads", "list", "--addr", &server.address]);
    assert!(none.err.contains("no credentials"), "{none:?}");
}

#[test]
fn an_open_server_needs_both_or_says_insecure() {
    let args = ["serve", "--data", ":memory:", "--grpc", "0.0.0.0:0"];
    let refused = run(&args);
    assert!(refused.code == Some(2) && refused.err.contains("no TLS and authentication"), "{refused:?}");
    assert!(refused.err.contains("--insecure") && refused.err.contains("--tls-cert"), "{refused:?}");
    let short = run(&["serve", "--admin-key", "short"]);
    assert!(short.code == Some(2) && short.err.contains("20 characters"), "{short:?}");
    let server = Server::start(&["--data", ":memory:", "--grpc", "0.0.0.0:0", "--insecure"]);
    assert!(server.logs("other machines can reach this address").contains("no TLS and authentication"));
}
