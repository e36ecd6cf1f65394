//! `http`, as an action and as a tool, against a server on a real socket.

#![allow(clippy::unwrap_used)]

mod common;

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Json, Router,
    http::{HeaderMap, Method, StatusCode, Uri},
    routing::{any, get},
};
use common::{Ran, graph_with, run};
use runloom_document::{Registry, load};
use runloom_engine::{Object, Value, stream::Modes, trace, value};
use runloom_tools::{Egress, HttpClient};
use serde_json::json;
use tokio::sync::Barrier;

/// A server that shows what came, fails at `/gone`, and at `/together` answers two callers at once or none.
async fn serve() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let both = Arc::new(Barrier::new(2));
    let together = move || {
        let both = both.clone();
        async move {
            both.wait().await;
            "both are here"
        }
    };
    let echo = async |method: Method, uri: Uri, headers: HeaderMap, body: String| {
        let header = |name: &str| headers.get(name).map(|v| v.to_str().unwrap().to_owned());
        Json(json!({
            "method": method.as_str(), "at": uri.to_string(), "body": body, "key": header("x-key"),
            "traceparent": header("traceparent"), "other": header("x-other"),
        }))
    };
    let routes = Router::new()
        .route("/gone", get(async || (StatusCode::GONE, Json(json!({"why": "it moved"})))))
        .route("/together", get(together))
        .fallback(any(echo));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    address
}

/// Documents may call this server.
fn registry(at: SocketAddr) -> Registry {
    Registry::new().http(HttpClient::new(Egress::new([at.to_string().parse().unwrap()]), []))
}

async fn node(at: SocketAddr, http: &str) -> Ran {
    let text = format!(
        "state: {{ city: {{}}, got: {{}} }}\nnodes:\n  call:\n    steps:\n      - http: {{ {http} }}\n      \
         - update: {{ got: response }}\nedges: [ {{ from: START, to: call }} ]"
    );
    let graph = graph_with(&text.replace("AT/", &format!("http://{at}/")), &[], &registry(at));
    run(&graph, value!({"city": "São Paulo"}), Modes::NONE).await
}

#[tokio::test]
async fn a_node_calls_out_and_later_steps_see_the_answer() {
    let at = serve().await;
    let got = node(
        at,
        r#"method: PUT, url: '"AT/v1?a=b"', query: { q: state.city, n: 3, none: null, tag: ["x", "y"] },
           headers: { x-key: '"k" + string(1)', x-other: null }, body: '{"city": state.city}'"#,
    )
    .await
    .values();
    let got = got.get("got").unwrap();
    assert_eq!(got.get("status"), Some(&value!(200)));
    assert_eq!(got.get("headers").unwrap().get_str("content-type"), Some("application/json"));
    let body = got.get("body").unwrap();
    assert_eq!(body.get_str("method"), Some("PUT"));
    assert_eq!(body.get_str("at"), Some("/v1?a=b&q=S%C3%A3o+Paulo&n=3&tag=x&tag=y"));
    assert_eq!((body.get_str("key"), body.get("other")), (Some("k1"), Some(&Value::Null)));
    assert_eq!(body.get_str("body"), Some(r#"{"city":"São Paulo"}"#));
}

#[tokio::test]
async fn a_body_is_posted_and_a_call_without_one_gets() {
    let at = serve().await;
    for (http, method) in [
        (r#"url: '"AT/"', body: '"text"'"#, "POST"),
        (r#"url: '"AT/"'"#, "GET"),
        (r#"url: '"AT/"', method: 'true ? "DELETE" : "GET"'"#, "DELETE"),
        (r#"url: '"AT/"', headers: '{"x-key": "k"}', query: '{"a": 1}'"#, "GET"),
    ] {
        let got = node(at, http).await.values();
        assert_eq!(got.get("got").unwrap().get("body").unwrap().get_str("method"), Some(method), "{http}");
    }
}

#[tokio::test]
async fn a_status_of_failure_fails_no_node_and_a_call_that_comes_to_nothing_does() {
    let at = serve().await;
    let got = node(at, r#"url: '"AT/gone"'"#).await.values();
    let got = got.get("got").unwrap();
    assert_eq!((got.get("status"), got.get("body").unwrap().get_str("why")), (Some(&value!(410)), Some("it moved")));
    let failure = node(at, r#"url: '"http://127.0.0.1:1/?key=secret"'"#).await.failure();
    assert_eq!((&*failure.kind, failure.retryable), ("HttpError", false));
    assert!(failure.message.contains("--egress-allow 127.0.0.1") && !failure.message.contains("secret"), "{failure}");
    let failure = node(at, r#"url: '{"a": 1}'"#).await.failure();
    assert_eq!(&*failure.message, "`url` of `http` has to be a text, not an object");
    let failure = node(at, r#"url: '"AT/"', headers: { authorization: { env: PATH, prefix: "Bearer " } }"#).await;
    assert!(failure.failure().message.contains(&format!("--http-secret PATH@http://{at}")));
}

async fn tools(at: SocketAddr, tools: &str, calls: Value) -> Vec<(String, String)> {
    let text = format!(
        "state: {{ messages: {{ reducer: messages }} }}\ntools:\n{tools}\nnodes: {{ run: {{ tools: {{}} }} }}\nedges: [ \
         {{ from: START, to: run }} ]"
    );
    let graph = graph_with(&text.replace("AT/", &format!("http://{at}/")), &[], &registry(at));
    let ai: Object =
        [("role", value!("assistant")), ("content", value!("")), ("tool_calls", calls)].into_iter().collect();
    let input: Object = [("messages", Value::from(vec![Value::Object(ai)]))].into_iter().collect();
    let values = run(&graph, Value::Object(input), Modes::NONE).await.values();
    let messages = values.get("messages").unwrap().as_list().unwrap();
    let told = |key: &str, m: &Value| m.get_str(key).unwrap().to_owned();
    messages.iter().skip(1).map(|m| (told("status", m), told("content", m))).collect()
}

#[tokio::test]
async fn a_tool_gives_the_body_and_tells_the_model_of_a_failure() {
    let at = serve().await;
    let two = "  look:
    parameters: { type: object, properties: { q: { type: string } }, required: [q] }
    http: { url: '\"AT/look\"', query: { q: args.q } }
  gone: { http: { url: '\"AT/gone\"' } }
  inside: { http: { url: '\"http://169.254.169.254/latest/meta-data?key=secret\"' } }
";
    let calls = value!([
        {"name": "look", "args": {"q": "a&b"}, "id": "1"},
        {"name": "look", "args": {"q": 5}, "id": "2"},
        {"name": "gone", "args": {}, "id": "3"},
        {"name": "inside", "args": {}, "id": "4"},
    ]);
    let told = tools(at, two, calls).await;
    assert_eq!(told[0].0, "success");
    assert!(told[0].1.contains(r#""at": "/look?q=a%26b""#), "{}", told[0].1);
    assert!(told[1].1.contains("q: 5 is not of type \"string\""), "{}", told[1].1);
    let gone = r#"Error: the service answered with status 410: {"why": "it moved"}"#;
    assert_eq!(told[2], ("error".to_owned(), gone.to_owned()));
    assert!(told[3].0 == "error" && told[3].1.starts_with("Error: 169.254.169.254 is an address"), "{}", told[3].1);
    assert!(!told[3].1.contains("secret"));
}

#[tokio::test]
async fn the_calls_of_one_message_are_made_at_once() {
    let at = serve().await;
    let one = "  meet: { http: { url: '\"AT/together\"', timeout_ms: 20000 } }";
    let calls = value!([{"name": "meet", "args": {}, "id": "1"}, {"name": "meet", "args": {}, "id": "2"}]);
    let met = ("success".to_owned(), "both are here".to_owned());
    assert_eq!(tools(at, one, calls).await, [met.clone(), met]);
}

#[tokio::test]
async fn the_trace_goes_along() {
    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    trace::carry_with(|| [("traceparent", value!(PARENT)), ("x-other", value!("no"))].into_iter().collect());
    let at = serve().await;
    let got = node(at, r#"url: '"AT/"'"#).await.values();
    let body = got.get("got").unwrap().get("body").unwrap();
    assert_eq!((body.get_str("traceparent"), body.get("other")), (Some(PARENT), Some(&Value::Null)));
}

#[test]
fn what_is_wrong_with_a_call_is_told_with_its_place() {
    let fault = |http: &str| {
        let text = format!(
            "runloom: v1\nname: g\nstate: {{ a: {{}} }}\nnodes:\n  n: {{ http: {http} }}\nedges: [ {{ from: START, to: n }} ]"
        );
        load(&text, "g.yaml", &Registry::new()).unwrap_err().to_string()
    };
    assert!(fault("{ method: GET }").contains("node `n`, http: `http` needs a `url`"), "{}", fault("{ method: GET }"));
    let plain = fault("{ url: https://example.org/x }");
    assert!(plain.contains(r#"http, url: `url` is an expression: write a text within it, '"https://example.org/x"'"#));
    assert!(fault("{ url: state.a, method: fetch }").contains("http, method: in the expression `fetch`"));
    assert!(fault("{ url: state.a, header: {} }").contains("there is no `header` here; did you mean `headers`?"));
    assert!(fault("{ url: state.a, headers: { x: { env: 5 } } }").contains("expected a text"));
    assert!(fault("{ url: state.a, headers: { x: {} } }").contains("`{env: VARIABLE, prefix: \"Bearer \"}`"));
    assert!(fault("{ url: state.a, timeout_ms: 0 }").contains("timeout_ms: expected an integer from 1 on"));
}
