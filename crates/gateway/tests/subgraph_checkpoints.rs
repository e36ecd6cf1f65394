//! Runs from checkpoints of subgraphs, as LangGraph's clients ask for them: by `checkpoint` and by `configurable`.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/http.rs"]
mod http;

use http::Server;
use runloom_gateway::Options;
use serde_json::{Value as Json, json};

const INNER: &str = r#"runloom: v1
name: inner
hidden: true
state: { trail: { reducer: append } }
nodes:
  a: { steps: [ { emit: '"a"' }, { update: { trail: '["a"]' } } ] }
  b: { steps: [ { emit: '"b"' }, { update: { trail: '["b"]' } } ] }
  review:
    steps:
      - emit: '"review"'
      - interrupt: { value: '"approve?"' }
      - update: { trail: '["review=" + answer]' }
  c: { steps: [ { emit: '"c"' }, { update: { trail: '["c"]' } } ] }
edges:
  - { from: START, to: a }
  - { from: a, to: b }
  - { from: b, to: review }
  - { from: review, to: c }
"#;

const OUTER: &str = r#"runloom: v1
name: outer
state: { trail: { reducer: append } }
nodes:
  before: { update: { trail: '["before"]' } }
  sub: { subgraph: { graph: inner, input: {}, output: { trail: result.trail }, checkpointer: PERSISTENT } }
  after: { steps: [ { emit: '"after"' }, { update: { trail: '["after"]' } } ] }
edges:
  - { from: START, to: before }
  - { from: before, to: sub }
  - { from: sub, to: after }
"#;

async fn emitted(server: &Server, thread: &str, mut body: Json) -> Vec<Json> {
    body["assistant_id"] = json!("outer");
    body["stream_mode"] = json!(["custom"]);
    body["stream_subgraphs"] = json!(true);
    let path = format!("/threads/{thread}/runs/stream");
    let mut answer = server.open("POST", &path, &[], body.to_string().as_bytes()).await;
    assert_eq!(answer.status, 200);
    answer.events().await.into_iter().filter(|e| e.name.starts_with("custom")).map(|e| e.data).collect()
}

#[tokio::test]
async fn run_again_from_here_runs_from_there() {
    for persistent in [false, true] {
        let outer = OUTER.replace("PERSISTENT", &persistent.to_string());
        let server = Server::start_with(Options::default(), |core| {
            core.documents = vec![("inner.yaml".to_owned(), INNER.to_owned()), ("outer.yaml".to_owned(), outer)];
        });
        let server = server.await;
        let thread = server.thread().await;
        emitted(&server, &thread, json!({"input": {"trail": []}})).await;
        let (_, state) = server.get(&format!("/threads/{thread}/state?subgraphs=true")).await;
        let sub = &state["tasks"][0]["state"]["checkpoint"];
        let place = json!({"checkpoint": {"checkpoint_ns": sub["checkpoint_ns"]}, "limit": 20});
        let (status, history) = server.json("POST", &format!("/threads/{thread}/history"), place).await;
        assert_eq!(status, 200, "{history}");
        let at = history.as_array().unwrap().iter().find(|view| view["next"] == json!(["b"])).unwrap();
        let at = at["checkpoint"].clone();
        assert_eq!(at["checkpoint_ns"], sub["checkpoint_ns"]);

        for (body, answer) in [
            (json!({"input": null, "checkpoint": at}), "one"),
            (json!({"input": null, "config": {"configurable": at}}), "two"),
        ] {
            assert_eq!(emitted(&server, &thread, body).await, ["b", "review"], "persistent: {persistent}");
            let (_, held) = server.get(&format!("/threads/{thread}")).await;
            assert_eq!(held["status"], "interrupted");
            let ran = emitted(&server, &thread, json!({"command": {"resume": answer}})).await;
            assert_eq!(ran, ["review", "c", "after"]);
            let (_, state) = server.get(&format!("/threads/{thread}/state")).await;
            let trail = json!(["before", "a", "b", format!("review={answer}"), "c", "after"]);
            assert_eq!(state["values"]["trail"], trail);
        }

        let unknown =
            json!({"checkpoint_ns": at["checkpoint_ns"], "checkpoint_id": "1ef00000-0000-6000-8000-000000000000"});
        let body = json!({"assistant_id": "outer", "input": null, "checkpoint": unknown});
        let (status, error) = server.json("POST", &format!("/threads/{thread}/runs"), body).await;
        assert_eq!(status, 404, "{error}");
        server.stop().await;
    }
}
