//! Workers over a real socket: tasks, emits, questions, failures, outcomes that count once.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use futures_util::StreamExt;
use runloom::v1::{
    self, Command, EmittedChunk, Goto, Json, MessageChunk, NodeUpdate, RunSpec, StreamMode, StreamRunResponse,
    content_block::Block, done::Outcome, emit::Part, stream_run_response::Payload,
};
use serde_json::{Value, json};
use support::{
    Test, end, read, soon, start_with,
    worker::{Worker, decoded, hello, state, until},
};

const ORDERS: &str = "
runloom: v1
name: orders
state:
  order_id: { schema: { type: string } }
  status: {}
  log: { reducer: append }
  messages: { reducer: messages }
nodes:
  look_up: { worker: { queue: orders, handler: look_up }, retry: { max_attempts: 2, initial_ms: 1, jitter: false } }
  refuse: { update: { status: '\"refused\"' } }
edges:
  - { from: START, to: look_up }
";

async fn start() -> Test {
    start_with(|builder| builder.document("orders.yaml", ORDERS)).await
}

fn run(input: Value) -> RunSpec {
    RunSpec::graph("orders").with_input(input).with_modes([
        StreamMode::Values,
        StreamMode::Updates,
        StreamMode::Custom,
        StreamMode::Messages,
    ])
}

fn updates(parts: &[StreamRunResponse]) -> Vec<Value> {
    parts
        .iter()
        .filter_map(|part| match &part.payload {
            Some(Payload::Update(update)) => Some(json!({ &*update.node: decoded(&update.update) })),
            _ => None,
        })
        .collect()
}

fn customs(parts: &[StreamRunResponse]) -> Vec<Value> {
    parts
        .iter()
        .filter_map(|part| match &part.payload {
            Some(Payload::Custom(custom)) => Some(decoded(&custom.payload)),
            _ => None,
        })
        .collect()
}

#[tokio::test]
async fn a_node_runs_in_a_worker() {
    let test = start().await;
    let mut worker = Worker::ready(&test.channel, "orders", &["look_up"], 1).await;
    let parts = tokio::spawn(read(test.client.stream_run(run(json!({"order_id": "A-1"})))));
    let task = worker.task().await;
    assert_eq!(state(&task)["order_id"], "A-1");
    assert_eq!((&*task.handler, &*task.node, &*task.graph_name), ("look_up", "look_up", "orders"));
    assert_eq!((task.attempt, task.r#try, task.step), (1, 1, 1));
    assert_eq!(decoded(&task.config)["metadata"]["langgraph_node"], "look_up");
    worker.custom(&task, json!({"status": "Verifying order status…"}));
    for (text, last) in [("hel", false), ("lo", false), ("", true)] {
        let chunk = MessageChunk {
            message_id: "m1".into(),
            model: "ChatTest".into(),
            content: vec![v1::ContentBlock { block: Some(Block::Text(text.into())), ..Default::default() }],
            last,
            ..MessageChunk::default()
        };
        worker.emit(&task, Part::Chunk(EmittedChunk { chunk: Some(chunk), ..EmittedChunk::default() }));
    }
    worker.update(
        &task,
        json!({"status": "found", "messages": [{"type": "ai", "id": "m1", "content": "hello",
        "response_metadata": {}, "additional_kwargs": {}, "tool_calls": []}]}),
    );
    let parts = soon(parts).await.unwrap();
    end(&parts).clone().into_result().unwrap();
    assert_eq!(customs(&parts), [json!({"status": "Verifying order status…"})]);
    let texts: Vec<_> = parts
        .iter()
        .filter_map(|part| match &part.payload {
            Some(Payload::MessageChunk(chunk)) => Some(chunk.content.first().map(|c| c.block.clone().unwrap())),
            _ => None,
        })
        .collect();
    // The message that the node wrote is the one that was streamed.
    assert_eq!(texts, [Some(Block::Text("hel".into())), Some(Block::Text("lo".into())), None]);
    assert_eq!(updates(&parts)[0]["look_up"]["status"], "found");
    worker.stored(&task).await;
}

#[tokio::test]
async fn a_command_goes_where_it_says() {
    let test = start().await;
    let mut worker = Worker::ready(&test.channel, "orders", &["look_up"], 1).await;
    let parts = tokio::spawn(read(test.client.stream_run(run(json!({"order_id": "A-1"})))));
    let task = worker.task().await;
    let update = json!([{"log": ["a"]}, {"log": ["b"]}]);
    worker.done(
        &task,
        Outcome::Update(NodeUpdate {
            update: Some(Json::text(&update)),
            goto: vec![Goto { node: "refuse".into(), input: None }],
            to_parent: false,
        }),
    );
    let parts = soon(parts).await.unwrap();
    end(&parts).clone().into_result().unwrap();
    let last = parts.iter().rev().find_map(|part| match &part.payload {
        Some(Payload::Value(value)) => Some(decoded(&value.state)),
        _ => None,
    });
    let last = last.unwrap();
    assert_eq!((&last["log"], &last["status"]), (&json!(["a", "b"]), &json!("refused")));
}

#[tokio::test]
async fn a_question_stops_the_run_and_its_answer_is_sent_with_the_task() {
    let test = start().await;
    let mut worker = Worker::ready(&test.channel, "orders", &["look_up"], 10).await;
    let thread_id = test.thread().await;
    let spec = RunSpec { thread_id: thread_id.clone(), ..run(json!({"order_id": "A-1"})) };
    let parts = tokio::spawn(read(test.client.stream_run(spec)));
    let first = worker.task().await;
    assert!(first.answers.is_empty());
    worker.ask(&first, 0, &["Approve?"]);
    let parts = soon(parts).await.unwrap();
    assert_eq!(end(&parts).state(), v1::RunState::AwaitingInput);
    worker.stored(&first).await;

    let answer = |value: Value| RunSpec {
        thread_id: thread_id.clone(),
        start: Some(v1::run_spec::Start::Command(Command { resume: Some(Json::text(&value)), ..Command::default() })),
        ..run(json!({}))
    };
    let parts = tokio::spawn(read(test.client.stream_run(answer(json!({"ok": true})))));
    let second = worker.task().await;
    assert_eq!(second.answers.iter().map(|a| a.decode().unwrap()).collect::<Vec<_>>(), [json!({"ok": true})]);
    assert_eq!((&second.task_id, second.token == first.token), (&first.task_id, false));
    worker.ask(&second, 1, &["Sure?"]);
    assert_eq!(end(&soon(parts).await.unwrap()).state(), v1::RunState::AwaitingInput);
    worker.stored(&second).await;

    let parts = tokio::spawn(read(test.client.stream_run(answer(json!("yes")))));
    let third = worker.task().await;
    let answers: Vec<Value> = third.answers.iter().map(|a| a.decode().unwrap()).collect();
    assert_eq!(answers, [json!({"ok": true}), json!("yes")]);
    worker.update(&third, json!({"status": "approved"}));
    let parts = soon(parts).await.unwrap();
    end(&parts).clone().into_result().unwrap();
    assert_eq!(updates(&parts), [json!({"look_up": {"status": "approved"}})]);
}

#[tokio::test]
async fn a_failure_is_retried_as_the_node_says() {
    let test = start().await;
    let mut worker = Worker::ready(&test.channel, "orders", &["look_up"], 10).await;
    let parts = tokio::spawn(read(test.client.stream_run(run(json!({"order_id": "A-1"})))));
    let first = worker.task().await;
    worker.fail(&first, "TimeoutError", "the database does not answer");
    worker.stored(&first).await;
    let second = worker.task().await;
    assert_eq!((second.r#try, &second.task_id), (2, &first.task_id));
    worker.fail(&second, "ValueError", "no such order");
    let parts = soon(parts).await.unwrap();
    let error = end(&parts).clone().into_result().unwrap_err();
    assert!(error.to_string().contains("no such order"), "{error}");
}

#[tokio::test]
async fn a_task_waits_for_a_worker_and_goes_to_another_when_its_worker_is_gone() {
    let test = start().await;
    let parts = tokio::spawn(read(test.client.stream_run(run(json!({"order_id": "A-1"})))));
    let workers = test.server.core().workers().clone();
    until(async || workers.queues(None).first().is_some_and(|queue| queue.waiting == 1)).await;
    assert_eq!(workers.queues(None)[0].missing.len(), 1);
    let mut first = Worker::ready(&test.channel, "orders", &["look_up"], 1).await;
    let lost = first.task().await;
    assert_eq!(workers.queues(None)[0].running, 1);
    drop(first);
    let mut second = Worker::ready(&test.channel, "orders", &["look_up"], 1).await;
    let task = second.task().await;
    assert_eq!((task.r#try, &task.task_id), (2, &lost.task_id));
    second.update(&task, json!({"status": "found"}));
    end(&soon(parts).await.unwrap()).clone().into_result().unwrap();
    second.stored(&task).await;
}

#[tokio::test]
async fn a_worker_brings_its_graph() {
    let test = support::start().await;
    let mut greeting = hello("orders", &["look_up"]);
    greeting.documents = vec![ORDERS.to_owned()];
    let mut worker = Worker::attach(&test.channel, greeting.clone()).await;
    worker.send(v1::attach_request::Message::Ready(v1::Ready { tasks: 1 }));
    let parts = tokio::spawn(read(test.client.stream_run(run(json!({"order_id": "A-1"})))));
    let task = worker.task().await;
    worker.update(&task, json!({"status": "found"}));
    end(&soon(parts).await.unwrap()).clone().into_result().unwrap();

    greeting.documents = vec![ORDERS.replace("to: look_up", "to: lok_up")];
    let status = Worker::connect(&test.channel, greeting).await.next().await.unwrap_err();
    assert_eq!(support::reason(&status), "GRAPH_INVALID");
    assert!(status.message().contains("did you mean `look_up`"), "{status:?}");
}

#[tokio::test]
async fn a_cancelled_run_cancels_its_task() {
    let test = start().await;
    let mut worker = Worker::ready(&test.channel, "orders", &["look_up"], 1).await;
    let mut stream = test.client.stream_run(run(json!({"order_id": "A-1"})));
    let run_id = match soon(stream.next()).await.unwrap().unwrap().payload {
        Some(Payload::Metadata(metadata)) => metadata.run_id,
        other => panic!("no metadata, but {other:?}"),
    };
    let task = worker.task().await;
    test.runs().cancel_run(v1::CancelRunRequest { run_id, ..Default::default() }).await.unwrap();
    let cancel = worker.cancelled().await;
    assert_eq!((cancel.token, cancel.reason), (task.token.clone(), v1::CancelTaskReason::RunCancelled.into()));
    // What it sends of it now is refused, with the reason.
    worker.update(&task, json!({"status": "found"}));
    assert_eq!(worker.refused(&task.token).await, "the run was cancelled");
}
