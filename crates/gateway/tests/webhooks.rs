//! Webhooks, against a receiver on a real socket.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/http.rs"]
mod http;
#[path = "support/receiver.rs"]
mod receiver;

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, Mac};
use http::{Server, count};
use receiver::Receiver;
use runloom_gateway::{Options, WebhookClient, WebhookOptions};
use runloom_tools::{Allow, Egress};
use serde_json::{Value as Json, json};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

async fn server(options: WebhookOptions) -> Server {
    let webhooks = Arc::new(WebhookClient::new(options).unwrap());
    Server::start_with(Options::default(), |core| core.webhooks = Some(webhooks)).await
}

fn open() -> WebhookOptions {
    WebhookOptions { egress: Egress::new([Allow::Private]), secret: Some(SECRET.to_owned()), timeout: None }
}

fn run(graph: &str, webhook: &str) -> Json {
    json!({"assistant_id": graph, "input": count(2, 0), "webhook": webhook, "metadata": {"team": "red"}})
}

/// Waits until nothing waits to be posted.
async fn settled(server: &Server) {
    while !server.core.store().waiting_deliveries(9).await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_run_is_posted_once_with_its_values_and_signed() {
    let (server, mut receiver) = (server(open()).await, Receiver::start(vec![]).await);
    let thread = server.thread().await;
    let url = receiver.url("/hook?a=b");
    let (status, made) = server.json("POST", &format!("/threads/{thread}/runs"), run("count", &url)).await;
    assert_eq!((status, &made["kwargs"]["webhook"]), (200, &json!(url)), "{made}");
    let call = receiver.next().await;
    assert!(call.head.starts_with("POST /hook?a=b HTTP/1.1\r\n"), "{}", call.head);
    let told: Json = serde_json::from_str(&call.body).unwrap();
    for key in ["run_id", "thread_id", "assistant_id", "created_at", "multitask_strategy"] {
        assert_eq!(told[key], made[key], "{key}");
    }
    assert_eq!((&told["status"], &told["values"]["n"]), (&json!("success"), &json!(2)));
    assert_eq!((&told["metadata"]["team"], told.get("error")), (&json!("red"), None));
    for key in ["run_started_at", "run_ended_at", "webhook_sent_at"] {
        assert!(told[key].as_str().unwrap().starts_with("20"), "{key}");
    }

    let (id, at) = (call.header("webhook-id").unwrap(), call.header("webhook-timestamp").unwrap());
    assert_eq!(id, made["run_id"].as_str().unwrap());
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&STANDARD.decode(&SECRET[6..]).unwrap()).unwrap();
    mac.update(format!("{id}.{at}.{}", call.body).as_bytes());
    let signed = call.header("webhook-signature").unwrap();
    mac.verify_slice(&STANDARD.decode(signed.strip_prefix("v1,").unwrap()).unwrap()).unwrap();

    settled(&server).await;
    assert!(receiver.is_quiet(), "it was posted twice");
    server.stop().await;
}

#[tokio::test]
async fn every_way_to_make_a_run_takes_a_webhook() {
    let (server, mut receiver) = (server(open()).await, Receiver::start(vec![]).await);
    let url = receiver.url("/");
    for path in ["/runs", "/runs/wait", "/runs/stream"] {
        server.open("POST", path, &[], run("count", &url).to_string().as_bytes()).await.rest().await;
        let told: Json = serde_json::from_str(&receiver.next().await.body).unwrap();
        assert_eq!(told["values"]["n"], 2, "{path}");
    }
    // A question, a failure and a cancel are ends too.
    let thread = server.thread().await;
    server.json("POST", &format!("/threads/{thread}/runs/wait"), run("ask", &url)).await;
    let told: Json = serde_json::from_str(&receiver.next().await.body).unwrap();
    assert_eq!(told["status"], "success");
    let mut fails = run("count", &url);
    fails["config"] = json!({"recursion_limit": 1});
    server.json("POST", "/runs/wait", fails).await;
    let told: Json = serde_json::from_str(&receiver.next().await.body).unwrap();
    assert_eq!((&told["status"], &told["error"]["error"]), (&json!("error"), &json!("GraphRecursionError")), "{told}");
    assert_eq!(told["values"]["n"], 1, "the values are those of the last checkpoint");
    let mut slow = run("count", &url);
    slow["input"] = count(1, 60_000);
    let (_, made) = server.json("POST", &format!("/threads/{}/runs", server.thread().await), slow).await;
    let (thread, id) = (made["thread_id"].as_str().unwrap(), made["run_id"].as_str().unwrap());
    server.json("POST", &format!("/threads/{thread}/runs/{id}/cancel?wait=true"), Json::Null).await;
    let told: Json = serde_json::from_str(&receiver.next().await.body).unwrap();
    assert_eq!(told["status"], "interrupted");
    server.stop().await;
}

#[tokio::test]
async fn a_receiver_that_fails_is_called_again() {
    let server = server(open()).await;
    let mut receiver = Receiver::start(vec![500, 302]).await;
    let since = std::time::Instant::now();
    server.json("POST", "/runs", run("count", &receiver.url("/"))).await;
    let first = receiver.next().await;
    // After a second, and after two more; where the redirect points nobody calls.
    let second = receiver.next().await;
    assert!(since.elapsed() >= Duration::from_secs(1));
    let third = receiver.next().await;
    assert!(since.elapsed() >= Duration::from_secs(3));
    assert!(third.head.starts_with("POST / "), "a redirect was followed: {}", third.head);
    assert_eq!(first.header("webhook-id"), third.header("webhook-id"));
    let told = |call: &receiver::Call| serde_json::from_str::<Json>(&call.body).unwrap();
    let (mut first, mut second) = (told(&first), told(&second));
    assert_ne!(first["webhook_sent_at"], second["webhook_sent_at"]);
    (first["webhook_sent_at"], second["webhook_sent_at"]) = (Json::Null, Json::Null);
    assert_eq!(first, second);
    settled(&server).await;
    assert!(receiver.is_quiet());
    server.stop().await;
}

#[tokio::test]
async fn a_receiver_without_its_certificate_is_not_told() {
    let (server, receiver) = (server(open()).await, Receiver::start(vec![]).await);
    let url = receiver.url("/").replace("http:", "https:");
    server.json("POST", "/runs/wait", run("count", &url)).await;
    let store = server.core.store();
    let failed = async {
        loop {
            let (run, _) = store.waiting_deliveries(1).await.unwrap()[0];
            match store.get_delivery(run).await.unwrap().and_then(|delivery| delivery.error) {
                Some(why) => return why,
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    let why = tokio::time::timeout(Duration::from_secs(20), failed).await.expect("it is not tried");
    assert!(!why.contains("127.0.0.1"), "the address may be a secret: {why}");
    assert!(receiver.is_quiet());
    server.stop().await;
}

#[tokio::test]
async fn private_addresses_are_refused_unless_they_are_allowed() {
    let receiver = Receiver::start(vec![]).await;
    let strict = server(WebhookOptions::default()).await;
    for url in [receiver.url("/"), format!("http://localhost:{}/", receiver.port), "http://[::1]/".into(), "/ok".into()]
    {
        let (status, told) = strict.json("POST", "/runs", run("count", &url)).await;
        assert_eq!(status, 422, "{url}: {told}");
    }
    // A name that says nothing of where it points: it is looked at when it is looked up.
    let name = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    let name = name.trim();
    let is_private = async |name: &str| {
        let found = tokio::net::lookup_host((name, 0)).await;
        found.is_ok_and(|mut all| {
            all.next().is_some_and(|at| {
                at.ip().is_loopback() || matches!(at.ip(), std::net::IpAddr::V4(ip) if ip.is_private())
            })
        })
    };
    if !name.is_empty() && is_private(name).await {
        let url = format!("http://{name}:{}/", receiver.port);
        let (status, _) = strict.json("POST", "/runs/wait", run("count", &url)).await;
        assert_eq!(status, 200);
        // Given up, not tried again.
        tokio::time::timeout(Duration::from_secs(5), settled(&strict)).await.expect("it is tried again");
    }
    assert!(receiver.is_quiet(), "a private address was called");
    strict.stop().await;
}
