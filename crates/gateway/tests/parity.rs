//! What LangGraph's present server and clients have beside the event protocol: paths, stream modes, strict resumes, storage.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/http.rs"]
mod http;

use std::time::Duration;

use http::{Server, Sse, parse};
use runloom_gateway::Options;
use serde_json::{Value as Json, json};

/// What the clients of Python 0.4.14 and JavaScript 1.15.0 call, and what the server has beside. Not here: `/mcp`, `/a2a` and
/// `/ui`, which `docs/differences.md` names.
const PATHS: &str = "
post /assistants, post /assistants/search, post /assistants/count, get /assistants/{assistant_id},
patch /assistants/{assistant_id}, delete /assistants/{assistant_id}, get /assistants/{assistant_id}/graph,
get /assistants/{assistant_id}/schemas, get /assistants/{assistant_id}/subgraphs,
get /assistants/{assistant_id}/subgraphs/{namespace}, post /assistants/{assistant_id}/versions,
post /assistants/{assistant_id}/latest,
post /threads, post /threads/search, post /threads/count, post /threads/prune, get /threads/{thread_id},
patch /threads/{thread_id}, delete /threads/{thread_id}, get /threads/{thread_id}/state, post /threads/{thread_id}/state,
get /threads/{thread_id}/state/{checkpoint_id}, post /threads/{thread_id}/state/checkpoint,
get /threads/{thread_id}/history, post /threads/{thread_id}/history, post /threads/{thread_id}/copy,
get /threads/{thread_id}/stream, get /threads/{thread_id}/storage, post /threads/{thread_id}/commands,
post /threads/{thread_id}/stream/events, get /threads/{thread_id}/stream/events,
post /threads/{thread_id}/runs, get /threads/{thread_id}/runs, post /threads/{thread_id}/runs/stream,
post /threads/{thread_id}/runs/wait, get /threads/{thread_id}/runs/{run_id}, delete /threads/{thread_id}/runs/{run_id},
get /threads/{thread_id}/runs/{run_id}/join, get /threads/{thread_id}/runs/{run_id}/stream,
post /threads/{thread_id}/runs/{run_id}/cancel, post /threads/{thread_id}/runs/crons,
post /runs, post /runs/stream, post /runs/wait, post /runs/batch, post /runs/cancel, post /runs/crons,
post /runs/crons/search, post /runs/crons/count, get /runs/crons/{cron_id}, patch /runs/crons/{cron_id},
delete /runs/crons/{cron_id}, get /runs/{run_id}/stream,
put /store/items, get /store/items, delete /store/items, post /store/items/search, post /store/namespaces,
get /ok, get /info, get /metrics, get /docs, get /openapi.json";

const AGENT: &str = include_str!("../../../tests/conformance/protocol/graphs/agent.yaml");
const OUTER: &str = include_str!("../../../tests/conformance/protocol/graphs/outer_chat.yaml");
const INNER: &str = include_str!("../../../tests/conformance/protocol/graphs/inner_chat.yaml");
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

async fn start(options: Options) -> Server {
    let documents = [("agent.yaml", AGENT), ("outer_chat.yaml", OUTER), ("inner_chat.yaml", INNER), ("age.yaml", AGE)];
    let documents = documents.map(|(name, text)| (name.to_owned(), text.to_owned())).to_vec();
    Server::start_with(options, |core| core.documents.extend(documents)).await
}

async fn stream(server: &Server, path: &str, body: Json) -> Vec<Sse> {
    let mut answer = server.open("POST", path, &[], body.to_string().as_bytes()).await;
    assert_eq!(answer.status, 200, "{}", answer.head);
    answer.events().await
}

#[tokio::test]
async fn every_path_of_langgraphs_clients_is_described() {
    let server = start(Options::default()).await;
    let (_, description) = server.get("/openapi.json").await;
    for endpoint in PATHS.split(',') {
        let (method, path) = endpoint.trim().split_once(' ').unwrap();
        assert!(description["paths"][path].get(method).is_some(), "{method} {path}");
    }
    let (_, info) = server.get("/info").await;
    assert_eq!(info["flags"]["strict_resume"], true, "{info}");
    for field in ["version", "langgraph_py_version", "host"] {
        assert!(info.get(field).is_some(), "{field}");
    }
    server.stop().await;
}

#[tokio::test]
async fn tools_and_the_lifecycle_of_subgraphs_are_stream_modes() {
    let server = start(Options::default()).await;
    let input = json!({"messages": [{"role": "user", "content": "hi"}]});
    let body = json!({"assistant_id": "agent", "input": input, "stream_mode": ["tools"]});
    let events = stream(&server, "/runs/stream", body).await;
    let names: Vec<&str> = events.iter().map(|e| e.name.as_str()).collect();
    assert_eq!(names, ["metadata", "tools", "tools", "end"]);
    let (first, last) = (&events[1].data, &events[2].data);
    assert_eq!((&first["event"], &first["name"]), (&json!("on_tool_start"), &json!("get_weather")));
    assert_eq!((&last["event"], &last["toolCallId"]), (&json!("on_tool_end"), &json!("call_w")));

    // Of the subgraphs, nothing else is shown to who did not ask for them.
    let input = json!({"messages": [], "log": []});
    let thread = server.thread().await;
    let path = format!("/threads/{thread}/runs/stream");
    let body = json!({"assistant_id": "outer_chat", "input": input, "stream_mode": ["values", "lifecycle"]});
    let events = stream(&server, &path, body.clone()).await;
    assert!(events.iter().all(|e| !e.name.starts_with("values|")), "{events:?}");
    let changes: Vec<&Json> =
        events.iter().filter(|e| e.name.starts_with("lifecycle|child:")).map(|e| &e.data).collect();
    let kinds: Vec<&Json> = changes.iter().map(|data| &data["event"]).collect();
    assert_eq!(kinds, ["started", "completed"], "{events:?}");
    assert_eq!(changes[0]["graph_name"], "child");
    let mut body = body;
    body["stream_subgraphs"] = true.into();
    let events = stream(&server, &path, body).await;
    assert!(events.iter().any(|e| e.name.starts_with("values|child:")), "{events:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_question_has_its_schema_and_a_strict_resume_answers_no_other() {
    let server = start(Options::default()).await;
    let thread = server.thread().await;
    let wait = format!("/threads/{thread}/runs/wait");
    server.json("POST", &wait, json!({"assistant_id": "age", "input": {}})).await;
    let path = format!("/threads/{thread}/stream/events");
    let body = json!({"channels": ["input"]}).to_string();
    let mut answer = server.open("POST", &path, &[], body.as_bytes()).await;
    answer.until("\n\n").await;
    let requested = &parse(&answer.text)[0].data["params"]["data"];
    assert_eq!(requested["response_schema"]["required"], json!(["age"]), "{requested}");

    let resume = |id: &str, strict: bool| {
        let command = json!({"resume": {id: {"age": 3}}});
        json!({"assistant_id": "age", "command": command, "strict_resume": strict})
    };
    let other = "0123456789abcdef0123456789abcdef";
    let (status, refused) = server.json("POST", &wait, resume(other, true)).await;
    assert_eq!(status, 422, "{refused}");
    let (status, ignored) = server.json("POST", &wait, resume(other, false)).await;
    assert_eq!(status, 200, "{ignored}");
    let (status, done) = server.json("POST", &wait, resume(requested["interrupt_id"].as_str().unwrap(), true)).await;
    assert_eq!((status, &done["age"]), (200, &json!(3)), "{done}");

    let (status, storage) = server.get(&format!("/threads/{thread}/storage")).await;
    assert_eq!((status, &storage["thread_id"]), (200, &json!(thread)));
    assert!(storage["checkpoints"]["count"].as_u64().unwrap() >= 3, "{storage}");
    assert_eq!(storage["channel_values"]["by_channel"]["age"]["versions"], 1, "{storage}");
    assert_eq!(server.get(&format!("/threads/{}/storage", uuid::Uuid::new_v4())).await.0, 404);
    server.stop().await;
}

#[tokio::test]
async fn streams_end_when_their_connection_is_old_and_go_on_elsewhere() {
    let mut options = Options::default();
    options.connections.max_connection_age = Some(Duration::from_millis(100));
    options.connections.max_connection_age_grace = Duration::from_millis(100);
    let server = start(options).await;
    let thread = server.thread().await;
    let body = json!({"assistant_id": "count", "input": http::count(3, 400)}).to_string();
    let mut first = server.open("POST", &format!("/threads/{thread}/runs/stream"), &[], body.as_bytes()).await;
    let join = first.header("location").unwrap().to_owned();
    let mut events = first.events().await;
    assert!(first.text.ends_with("retry: 100\n\n"), "{}", first.text);
    while events.last().is_none_or(|e| e.name != "end") {
        let id = events.iter().rev().find(|e| !e.id.is_empty()).unwrap().id.clone();
        let mut next = server.open("GET", &join, &[("last-event-id", &id)], b"").await;
        events.extend(next.events().await);
    }
    let values: Vec<&Json> = events.iter().filter(|e| e.name == "values").map(|e| &e.data["n"]).collect();
    assert_eq!(values, [0, 1, 2, 3]);
    server.stop().await;
}
