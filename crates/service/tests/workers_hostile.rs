//! Workers that do not keep to the contract: clear errors, bounded memory, other runs undisturbed.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use runloom::v1::{
    self, Done, Emit, Handler, HandlerKind, Heartbeat, Hello, Json, NodeUpdate, Ready, RunSpec, RunState,
    attach_request::Message as In, attach_response::Message as Out, done::Outcome, emit::Part,
};
use serde_json::{Value, json};
use support::{
    Test, end, read, soon, start_with,
    worker::{Worker, decoded, hello, until},
};

fn document(name: &str, queue: &str) -> String {
    format!(
        "
runloom: v1
name: {name}
state: {{ x: {{}} }}
nodes:
  work: {{ worker: {{ queue: {queue}, handler: work }} }}
edges:
  - {{ from: START, to: work }}
"
    )
}

async fn start() -> Test {
    start_with(|builder| {
        builder.document("victim.yaml", document("victim", "good")).document("target.yaml", document("target", "bad"))
    })
    .await
}

fn run(graph: &str) -> RunSpec {
    RunSpec::graph(graph).with_input(json!({"x": 1}))
}

/// A run with a worker of its own goes through.
async fn others_are_undisturbed(test: &Test) {
    let mut good = Worker::ready(&test.channel, "good", &["work"], 1).await;
    let parts = tokio::spawn(read(test.client.stream_run(run("victim"))));
    let task = good.task().await;
    good.update(&task, json!({"x": 2}));
    end(&soon(parts).await.unwrap()).clone().into_result().unwrap();
}

#[tokio::test]
async fn tokens_that_are_wrong_or_of_others_change_nothing() {
    let test = start().await;
    let mut bad = Worker::attach(&test.channel, hello("bad", &["work"])).await;
    let mut good = Worker::ready(&test.channel, "good", &["work"], 1).await;
    let parts = tokio::spawn(read(test.client.stream_run(run("victim"))));
    let task = good.task().await;
    // Whoever learns a token cannot use it: it belongs to the worker that has the task.
    bad.update(&task, json!({"x": "stolen"}));
    assert!(bad.refused(&task.token).await.contains("no such task of this worker"));
    bad.custom(&task, json!("stolen"));
    bad.send(In::Heartbeat(Heartbeat { token: task.token.clone(), details: Some(Json::text(&json!(1))) }));
    let unknown = prost::bytes::Bytes::from(vec![7; 16]);
    bad.send(In::Done(Done { token: unknown.clone(), outcome: Some(Outcome::Update(NodeUpdate::default())) }));
    assert!(bad.refused(&unknown).await.contains("no such task of this worker"));
    good.update(&task, json!({"x": 2}));
    let parts = soon(parts).await.unwrap();
    end(&parts).clone().into_result().unwrap();
    assert!(!format!("{parts:?}").contains("stolen"));
    // What is no token ends the connection.
    bad.send(In::Done(Done { token: vec![1, 2, 3].into(), outcome: None }));
    let status = bad.next().await.unwrap_err();
    assert_eq!(support::reason(&status), "FIELD_INVALID");
    assert!(status.message().contains("3 bytes are no token"), "{status:?}");
    others_are_undisturbed(&test).await;
}

#[tokio::test]
async fn an_outcome_that_is_too_large_fails_its_task_or_ends_the_connection() {
    let test = start().await;
    let mut bad = Worker::ready(&test.channel, "bad", &["work"], 1).await;
    let parts = tokio::spawn(read(test.client.stream_run(run("target"))));
    let task = bad.task().await;
    bad.update(&task, json!({"x": "x".repeat(20 << 20)}));
    let parts = soon(parts).await.unwrap();
    let error = end(&parts).clone().into_result().unwrap_err().to_string();
    assert!(error.contains("the outcome has 20971") && error.contains("at most 16777216"), "{error}");

    // Past the limit of the transport nothing is read: the connection ends, and the task goes elsewhere.
    let mut bad = Worker::ready(&test.channel, "bad", &["work"], 1).await;
    let parts = tokio::spawn(read(test.client.stream_run(run("target"))));
    let task = bad.task().await;
    bad.update(&task, json!({"x": "x".repeat(100 << 20)}));
    let status = bad.next().await.unwrap_err();
    assert!(status.message().contains("length too large"), "{status:?}");
    let mut other = Worker::ready(&test.channel, "bad", &["work"], 1).await;
    let task = other.task().await;
    assert_eq!(task.r#try, 2);
    other.update(&task, json!({"x": 2}));
    end(&soon(parts).await.unwrap()).clone().into_result().unwrap();
    others_are_undisturbed(&test).await;
}

#[tokio::test]
async fn a_handler_that_answers_twice_or_with_another_kind_or_channel() {
    let test = start().await;
    let mut bad = Worker::ready(&test.channel, "bad", &["work"], 100).await;
    let mut fails = async |outcomes: Vec<Outcome>, says: &str| {
        let parts = tokio::spawn(read(test.client.stream_run(run("target"))));
        let task = loop {
            if let Out::Task(task) = bad.next().await.unwrap() {
                break task;
            }
        };
        outcomes.into_iter().for_each(|outcome| bad.done(&task, outcome));
        let parts = soon(parts).await.unwrap();
        match end(&parts).clone().into_result() {
            Ok(()) => assert_eq!(says, ""),
            Err(error) => assert!(!says.is_empty() && error.to_string().contains(says), "{error}"),
        }
    };
    let update =
        |update: Value| Outcome::Update(NodeUpdate { update: Some(Json::text(&update)), ..NodeUpdate::default() });
    fails(vec![update(json!({"x": 1})), update(json!({"x": 2}))], "").await;
    fails(vec![update(json!("x"))], "it takes an object of writes by channel, not a string").await;
    fails(vec![update(json!({"y": 1}))], "`y`").await;
    fails(vec![Outcome::Value(Json::text(&json!(1)))], "ended with `value`: expected an `update`").await;
    fails(
        vec![Outcome::Update(NodeUpdate { update: Some(Json::from_text("{")), ..NodeUpdate::default() })],
        "done.update",
    )
    .await;
    let goto = vec![v1::Goto { node: "nowhere".into(), input: None }];
    fails(vec![Outcome::Update(NodeUpdate { goto, ..NodeUpdate::default() })], "nowhere").await;
    let questions = |index| {
        let question = v1::Question { index, value: Some(Json::text(&json!("?"))), response_schema: None };
        Outcome::Interrupts(v1::Interrupts { questions: vec![question] })
    };
    fails(vec![questions(5)], "asks question 5").await;
    fails(vec![Outcome::Interrupts(v1::Interrupts::default())], "it has no question").await;
    others_are_undisturbed(&test).await;
}

#[tokio::test]
async fn a_flood_of_emits_is_held_up_and_disturbs_no_other_run() {
    let test = start().await;
    let mut bad = Worker::ready(&test.channel, "bad", &["work"], 1).await;
    let parts = tokio::spawn(read(test.client.stream_run(run("target").with_modes([v1::StreamMode::Custom]))));
    let task = bad.task().await;
    for n in 0..20_000 {
        bad.custom(&task, json!({ "n": n }));
    }
    others_are_undisturbed(&test).await;
    bad.emit(&task, Part::Custom(Json::text(&json!("x".repeat(2 << 20)))));
    let parts = soon(parts).await.unwrap();
    let error = end(&parts).clone().into_result().unwrap_err().to_string();
    assert!(error.contains("an emit has") && error.contains("at most 1048576"), "{error}");
    let customs = parts.iter().filter(|part| support::kind(part) == "custom").count();
    assert_eq!(customs, 20_000);
    // What it sends after the end of its task is dropped; sent as an outcome, it is answered.
    bad.send(In::Emit(Emit { token: task.token.clone(), part: Some(Part::Custom(Json::text(&json!("late")))) }));
    bad.stored(&task).await;
}

#[tokio::test]
async fn a_flood_of_outcomes_that_are_refused_is_held_up() {
    let test = start().await;
    let mut bad = Worker::attach(&test.channel, hello("bad", &["work"])).await;
    let unknown = prost::bytes::Bytes::from(vec![7; 16]);
    for _ in 0..5_000 {
        bad.send(In::Done(Done { token: unknown.clone(), outcome: Some(Outcome::Update(NodeUpdate::default())) }));
    }
    others_are_undisturbed(&test).await;
    for _ in 0..5_000 {
        bad.refused(&unknown).await;
    }
}

#[tokio::test]
async fn a_hello_that_is_too_much_is_refused() {
    let test = start().await;
    let refused = async |greeting: Hello, says: &str| {
        let status = Worker::connect(&test.channel, greeting).await.next().await.unwrap_err();
        assert_eq!(support::reason(&status), "FIELD_INVALID", "{status:?}");
        let text = format!("{status:?} {:?}", support::details(&status));
        assert!(text.contains(says), "{says}: {text}");
    };
    let handler = |n: usize| Handler { name: format!("h{n}"), kind: HandlerKind::Node.into(), ..Handler::default() };
    refused(Hello { handlers: (0..100_000).map(handler).collect(), ..hello("bad", &[]) }, "at most 1000 per worker")
        .await;
    refused(Hello { handlers: vec![handler(1), handler(1)], ..hello("bad", &[]) }, "a second node handler `h1`").await;
    refused(hello("", &["work"]), "hello.queue").await;
    refused(hello(&"q".repeat(129), &["work"]), "1 to 128 are allowed").await;
    refused(Hello { worker_id: "one".into(), ..hello("bad", &["work"]) }, "hello.worker_id").await;
    let schema = Some(Json::text(&json!({"enum": vec!["x".repeat(100); 4000]})));
    let exploding = Handler { input_schema: schema, ..handler(1) };
    refused(Hello { handlers: vec![exploding], ..hello("bad", &[]) }, "input_schema").await;
    let deep = Some(Json::from_text("[".repeat(1000) + &"]".repeat(1000)));
    let deep = Worker::connect(
        &test.channel,
        Hello { handlers: vec![Handler { input_schema: deep, ..handler(1) }], ..hello("bad", &[]) },
    )
    .await
    .next()
    .await
    .unwrap_err();
    assert_eq!(support::reason(&deep), "JSON_TOO_DEEP");
    // Something else than a Hello at first, and a second Hello.
    let mut second = Worker::attach(&test.channel, hello("bad", &["work"])).await;
    second.send(In::Hello(hello("bad", &["work"])));
    assert_eq!(support::reason(&second.next().await.unwrap_err()), "FIELD_INVALID");
    others_are_undisturbed(&test).await;
}

#[tokio::test]
async fn a_worker_that_takes_tasks_and_leaves_in_a_loop_fails_its_run_and_no_other() {
    let test = start().await;
    let parts = tokio::spawn(read(test.client.stream_run(run("target"))));
    for n in 0..3 {
        let mut bad = Worker::ready(&test.channel, "bad", &["work"], 1).await;
        assert_eq!(bad.task().await.r#try, n + 1);
    }
    others_are_undisturbed(&test).await;
    // One that stays ends it.
    let mut good = Worker::ready(&test.channel, "bad", &["work"], 1).await;
    let task = good.task().await;
    assert_eq!(task.r#try, 4);
    good.update(&task, json!({"x": 2}));
    end(&soon(parts).await.unwrap()).clone().into_result().unwrap();
}

#[tokio::test]
async fn a_handler_that_never_answers_ends_with_the_nodes_timeout() {
    let slow = document("slow", "bad").replace("handler: work } }", "handler: work }, timeout_ms: 100 }");
    let test =
        start_with(|builder| builder.document("slow.yaml", slow).document("v.yaml", document("victim", "good"))).await;
    let parts = tokio::spawn(read(test.client.stream_run(run("slow"))));
    let workers = test.server.core().workers().clone();
    until(async || workers.queues(None).iter().any(|queue| queue.waiting == 1)).await;
    // The time begins when a worker has the task.
    tokio::time::sleep(std::time::Duration::from_millis(150)).await;
    let mut bad = Worker::ready(&test.channel, "bad", &["work"], 1).await;
    let task = bad.task().await;
    assert!(task.time_limit.is_some());
    let parts = soon(parts).await.unwrap();
    assert_eq!(end(&parts).state(), RunState::Failed);
    let error = end(&parts).clone().into_result().unwrap_err().to_string();
    assert!(error.contains("node `work` took longer than 100ms in its worker"), "{error}");
    let cancel = bad.cancelled().await;
    assert_eq!(cancel.reason(), v1::CancelTaskReason::TimedOut);
    bad.update(&task, json!({"x": "late"}));
    assert_eq!(bad.refused(&task.token).await, "the task timed out");
    let state = test.client.get_state(end_thread(&parts).as_str()).await.unwrap().checkpoint.unwrap();
    assert_eq!(decoded(&state.values)["x"], 1);
    others_are_undisturbed(&test).await;
}

fn end_thread(parts: &[v1::StreamRunResponse]) -> String {
    match parts.first().and_then(|part| part.payload.as_ref()) {
        Some(v1::stream_run_response::Payload::Metadata(metadata)) => metadata.thread_id.clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn credit_that_is_granted_without_end_is_bounded() {
    let test = start().await;
    let bad = Worker::attach(&test.channel, hello("bad", &["work"])).await;
    for _ in 0..3 {
        bad.send(In::Ready(Ready { tasks: u32::MAX }));
    }
    let workers = test.server.core().workers().clone();
    until(async || workers.list(None).iter().any(|worker| worker.credit == 10_000)).await;
    others_are_undisturbed(&test).await;
}
