//! Answers with a schema, and supersteps of a new thread, over HTTP.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/http.rs"]
mod http;

use http::Server;
use runloom_gateway::Options;
use serde_json::json;

const AGE: &str = r#"runloom: v1
name: age
state: { age: {} }
nodes:
  ask:
    steps:
      - interrupt:
          value: '"how old?"'
          response_schema: { type: object, properties: { age: { type: integer } }, required: [age] }
      - update: { age: answer.age }
edges: [ { from: START, to: ask } ]
"#;

#[tokio::test]
async fn an_answer_has_to_match_the_schema_of_its_question() {
    let server = Server::start_with(Options::default(), |core| {
        core.documents = vec![("age.yaml".to_owned(), AGE.to_owned())];
    });
    let server = server.await;
    let thread = server.thread().await;
    let wait = format!("/threads/{thread}/runs/wait");
    let answer = |answer| json!({"assistant_id": "age", "command": {"resume": answer}});
    let (_, out) = server.json("POST", &wait, json!({"assistant_id": "age", "input": {}})).await;
    let question = &out["__interrupt__"][0];
    assert_eq!(question["response_schema"]["required"], json!(["age"]));
    let (_, state) = server.get(&format!("/threads/{thread}/state")).await;
    assert_eq!(&state["interrupts"][0], question);
    let (_, record) = server.get(&format!("/threads/{thread}")).await;
    let id = question["id"].as_str().unwrap();

    let (status, error) = server.json("POST", &wait, answer(json!({"age": "old"}))).await;
    assert_eq!(status, 422, "{error}");
    assert!(error["detail"].to_string().contains("command.resume.age"), "{error}");
    let (status, error) = server.json("POST", &wait, answer(json!({id: {}}))).await;
    assert_eq!(status, 422, "{error}");
    assert_eq!(
        server.get(&format!("/threads/{thread}")).await.1["updated_at"],
        record["updated_at"],
        "no run was made"
    );
    let (status, out) = server.json("POST", &wait, answer(json!({"age": 41}))).await;
    assert_eq!((status, &out["age"]), (200, &json!(41)));
    server.stop().await;
}
