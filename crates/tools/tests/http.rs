//! Calls over HTTP, against servers on real sockets that behave and that do not.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{Response, StatusCode},
    response::IntoResponse,
    routing::any,
};
use bytes::Bytes;
use futures_util::stream;
use runloom_engine::value;
use runloom_tools::{Egress, HttpAnswer, HttpClient, HttpError, HttpRequest, http::HeaderText};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// Answers `/status/N`, `/to?URL` with a redirect of a status, `/echo` with what came, and badly.
async fn answer(request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let query = head.uri.query().unwrap_or_default().to_owned();
    let steps: Vec<&str> = head.uri.path().trim_start_matches('/').split('/').collect();
    match steps[..] {
        ["echo"] => {
            let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
            let headers: serde_json::Map<String, serde_json::Value> =
                head.headers.iter().map(|(n, v)| (n.to_string(), v.to_str().unwrap().into())).collect();
            axum::Json(serde_json::json!({
                "method": head.method.as_str(), "query": query, "headers": headers, "body": String::from_utf8_lossy(&body),
            }))
            .into_response()
        }
        ["to", status] => Response::builder()
            .status(status.parse::<u16>().unwrap())
            .header("location", query)
            .body(Body::empty())
            .unwrap(),
        ["status", status] => {
            (StatusCode::from_u16(status.parse().unwrap()).unwrap(), [("content-type", "application/json")], "<no>")
                .into_response()
        }
        ["endless"] => {
            let piece = Bytes::from_static(&[b'x'; 8192]);
            Body::from_stream(stream::repeat_with(move || Ok::<_, std::io::Error>(piece.clone()))).into_response()
        }
        ["large"] => vec![b'x'; 100_000].into_response(),
        ["silent"] => std::future::pending().await,
        ["stalls"] => {
            let first = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"{"))]);
            Body::from_stream(futures_util::StreamExt::chain(first, stream::pending())).into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

/// A server on a free port of an address of this machine.
async fn serve(ip: &str) -> SocketAddr {
    let listener = TcpListener::bind((ip, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(any(answer))).await });
    address
}

/// A client to which these servers are open, and nothing else of this machine.
fn client(open: &[SocketAddr]) -> HttpClient {
    HttpClient::new(Egress::new(open.iter().map(|at| at.to_string().parse().unwrap())), [])
}

async fn call(client: &HttpClient, url: String) -> Result<HttpAnswer, HttpError> {
    client.call(HttpRequest::get(url)).await
}

#[tokio::test]
async fn a_call_brings_what_it_was_told_to_and_gives_status_headers_and_body() {
    let at = serve("127.0.0.1").await;
    let request = HttpRequest {
        method: "POST".parse().unwrap(),
        query: vec![("city".into(), "São Paulo & more".into())],
        headers: vec![("x-key".into(), HeaderText::Text("k".into()))],
        body: value!({"a": [1, 2.5, "é"]}),
        ..HttpRequest::get(format!("http://{at}/echo?first=1"))
    };
    let answer = client(&[at]).call(request).await.unwrap().into_value();
    assert_eq!(answer.get("status"), Some(&value!(200)));
    assert_eq!(answer.get("headers").unwrap().get_str("content-type"), Some("application/json"));
    let body = answer.get("body").unwrap();
    assert_eq!(body.get_str("method"), Some("POST"));
    assert_eq!(body.get_str("query"), Some("first=1&city=S%C3%A3o+Paulo+%26+more"));
    assert_eq!(body.get_str("body"), Some(r#"{"a":[1,2.5,"é"]}"#));
    let headers = body.get("headers").unwrap();
    assert_eq!((headers.get_str("x-key"), headers.get_str("content-type")), (Some("k"), Some("application/json")));
}

#[tokio::test]
async fn a_status_of_failure_is_an_answer() {
    let at = serve("127.0.0.1").await;
    let answer = call(&client(&[at]), format!("http://{at}/status/503")).await.unwrap();
    assert_eq!((answer.status, answer.is_success(), answer.body), (503, false, value!("<no>")));
    let error = call(&client(&[at]), format!("http://{at}/status/200")).await.unwrap_err();
    assert!(error.message.contains("says that it is application/json, and is not"), "{error}");
}

#[tokio::test]
async fn this_machine_is_called_by_no_name_and_no_address_unless_it_is_allowed() {
    let at = serve("127.0.0.1").await;
    let strict = client(&[]);
    // A name of this machine that is not `localhost`, where it has one.
    let own = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let mut names = vec!["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0", "2130706433"];
    let own = own.trim();
    let stands_for = tokio::net::lookup_host((own, 1)).await.map(|mut found| found.all(|at| !at.ip().is_loopback()));
    if stands_for.is_ok_and(|is_elsewhere| !is_elsewhere) {
        names.push(own);
    }
    for name in names {
        let error = call(&strict, format!("http://{name}:{}/echo?key=secret", at.port())).await.unwrap_err();
        assert!(error.message.contains("an address of this machine or of a private network"), "{name}: {error}");
        assert!(error.message.contains("--egress-allow") && !error.to_string().contains("secret"), "{error}");
        assert!(!error.retryable);
    }
    let open = HttpClient::new(Egress::new([format!("localhost:{}", at.port()).parse().unwrap()]), []);
    assert!(call(&open, format!("http://localhost:{}/echo", at.port())).await.is_ok());
    let open = HttpClient::new(Egress::new(["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]), []);
    assert!(call(&open, format!("http://localhost:{}/echo", at.port())).await.is_ok());
}

#[tokio::test]
async fn every_hop_of_a_redirect_is_looked_at() {
    let (at, closed) = (serve("127.0.0.1").await, serve("127.0.0.2").await);
    let client = client(&[at]);
    for there in [
        format!("http://{closed}/echo?key=secret"),
        format!("http://localhost:{}/echo", at.port()),
        "http://169.254.169.254/latest/meta-data".to_owned(),
        "//[::1]/".to_owned(),
        // Two hops.
        format!("/to/302?http://{closed}/echo"),
    ] {
        let error = call(&client, format!("http://{at}/to/302?{there}")).await.unwrap_err();
        assert!(error.message.starts_with("redirects away, and "), "{there}: {error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    let error = call(&client, format!("http://{at}/to/302?file:///etc/passwd")).await.unwrap_err();
    assert!(error.message.contains("http:// or https://"), "{error}");
}

#[tokio::test]
async fn a_redirect_to_another_origin_takes_no_keys_along() {
    let (at, other) = (serve("127.0.0.1").await, serve("127.0.0.2").await);
    let client = client(&[at, other]);
    let sent = |to: SocketAddr| HttpRequest {
        headers: ["authorization", "x-api-key", "cookie", "accept"]
            .map(|name| (name.to_owned(), HeaderText::Text("s3cret".to_owned())))
            .into(),
        ..HttpRequest::get(format!("http://{at}/to/302?http://{to}/echo"))
    };
    let headers = |answer: HttpAnswer| answer.body.get("headers").unwrap().as_object().unwrap().clone();
    let same = headers(client.call(sent(at)).await.unwrap());
    let away = headers(client.call(sent(other)).await.unwrap());
    for name in ["authorization", "x-api-key", "cookie"] {
        assert_eq!((same.contains_key(name), away.contains_key(name)), (true, false), "{name}");
    }
    assert!(away.contains_key("accept"));
}

#[tokio::test]
async fn a_redirect_asks_again_or_goes_on_with_the_same() {
    let at = serve("127.0.0.1").await;
    for (status, method, body) in [(301, "GET", ""), (303, "GET", ""), (307, "PUT", "x"), (308, "PUT", "x")] {
        let request = HttpRequest {
            method: "PUT".parse().unwrap(),
            body: value!("x"),
            ..HttpRequest::get(format!("http://{at}/to/{status}?/echo"))
        };
        let told = client(&[at]).call(request).await.unwrap().body;
        assert_eq!((told.get_str("method"), told.get_str("body")), (Some(method), Some(body)), "{status}");
    }
    let error = call(&client(&[at]), format!("http://{at}/to/302?/to/302?/to/302?/x")).await.unwrap();
    assert_eq!(error.status, 404, "three hops are few");
    let round = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = round.local_addr().unwrap();
    tokio::spawn(async move {
        axum::serve(round, Router::new().fallback(any(|| async { (StatusCode::FOUND, [("location", "/")]) }))).await
    });
    let error = call(&client(&[at]), format!("http://{at}/")).await.unwrap_err();
    assert_eq!(error.to_string(), "127.0.0.1: redirects more than 10 times");
}

#[tokio::test]
async fn an_answer_that_does_not_come_in_time_is_not_waited_for() {
    let at = serve("127.0.0.1").await;
    for path in ["silent", "stalls"] {
        let request =
            HttpRequest { timeout: Duration::from_millis(200), ..HttpRequest::get(format!("http://{at}/{path}")) };
        let began = Instant::now();
        let error = client(&[at]).call(request).await.unwrap_err();
        assert_eq!(error.to_string(), "127.0.0.1: no whole answer within 200ms; `timeout_ms` sets another time");
        assert!(error.retryable && began.elapsed() < Duration::from_secs(5));
    }
}

#[tokio::test]
async fn an_answer_that_is_too_long_is_not_read() {
    let at = serve("127.0.0.1").await;
    for path in ["endless", "large"] {
        let request = HttpRequest { max_bytes: 50_000, ..HttpRequest::get(format!("http://{at}/{path}")) };
        let error = client(&[at]).call(request).await.unwrap_err();
        let told = "127.0.0.1: the answer is longer than 50000 bytes; `max_bytes` sets another limit";
        assert_eq!(error.to_string(), told, "{path}");
    }
    let request = HttpRequest { max_bytes: 100_000, ..HttpRequest::get(format!("http://{at}/large")) };
    assert_eq!(client(&[at]).call(request).await.unwrap().body.as_str().map(str::len), Some(100_000));
}

/// A server that says these bytes and closes.
async fn says(bytes: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut head = [0; 1024];
            let _ = socket.read(&mut head).await;
            let _ = socket.write_all(bytes).await;
        }
    });
    at
}

#[tokio::test]
async fn what_is_no_answer_is_an_error_that_may_be_tried_again() {
    for bytes in [
        &b"\x00\xff garbage\r\n\r\n"[..],
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ] {
        let at = says(bytes).await;
        let error = call(&client(&[at]), format!("http://{at}/?key=secret")).await.unwrap_err();
        assert!(error.retryable && error.host == "127.0.0.1", "{error:?}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    let gone = says(b"").await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = call(&client(&[gone, closed]), format!("http://{closed}/?key=secret")).await.unwrap_err();
    assert!(error.message.starts_with("cannot be connected to") && error.retryable, "{error}");
    assert!(!error.to_string().contains("secret"), "{error}");
}

#[tokio::test]
async fn a_secret_is_sent_where_it_may_go_and_shown_nowhere() {
    let (at, other) = (serve("127.0.0.1").await, serve("127.0.0.2").await);
    let egress = Egress::new([at, other].map(|at| at.to_string().parse().unwrap()));
    // A variable that is set for every test.
    let client = HttpClient::new(egress, [format!("CARGO_MANIFEST_DIR@http://{at}").parse().unwrap()]);
    let request = |url: String| HttpRequest {
        headers: vec![(
            "authorization".into(),
            HeaderText::Env { name: "CARGO_MANIFEST_DIR".into(), prefix: "Bearer ".into() },
        )],
        ..HttpRequest::get(url)
    };
    let told = client.call(request(format!("http://{at}/echo"))).await.unwrap().body;
    let sent = format!("Bearer {}", env!("CARGO_MANIFEST_DIR"));
    assert_eq!(told.get("headers").unwrap().get_str("authorization"), Some(&*sent));
    let error = client.call(request(format!("http://{other}/echo"))).await.unwrap_err();
    let expected = format!(
        "127.0.0.2: the variable CARGO_MANIFEST_DIR may not be sent to http://{other}; the operator may allow it: \
         --http-secret CARGO_MANIFEST_DIR@http://{other}"
    );
    assert_eq!(error.to_string(), expected);
    let away = client.call(request(format!("http://{at}/to/307?http://{other}/echo"))).await.unwrap().body;
    assert_eq!(away.get("headers").unwrap().get("authorization"), None);
}

#[tokio::test]
async fn headers_of_the_connection_are_not_for_documents_to_set() {
    let at = serve("127.0.0.1").await;
    for (name, text) in [("Host", "x"), ("content-length", "1"), ("a b", "x"), ("x", "a\r\nb: c")] {
        let request = HttpRequest {
            headers: vec![(name.to_owned(), HeaderText::Text(text.to_owned()))],
            ..HttpRequest::get(format!("http://{at}/echo"))
        };
        let error = client(&[at]).call(request).await.unwrap_err();
        assert!(error.message.contains("header"), "{error}");
    }
}
