//! Outcomes of workers count once, and are acknowledged when they are stored; state is sent as what changed.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::time::Duration;

use futures_util::StreamExt;
use runloom::v1::{
    self, Appended, Draining, Json, Missing, Ready, RunSpec, RunState, WorkerTask, attach_request::Message as In,
    attach_response::Message as Out, channel_value::Value as Held,
};
use serde_json::{Value, json};
use support::{
    Test, end, read, soon, start_with,
    worker::{Worker, decoded, hello, until},
};
use tonic::Code;

const CHAT: &str = "
runloom: v1
name: chat
state:
  messages: { reducer: messages }
  note: {}
nodes:
  answer: { worker: { queue: chat, handler: answer } }
  gate: { worker: { queue: gate, handler: gate } }
edges:
  - { from: START, to: answer }
  - { from: answer, to: gate }
";

const ALONE: &str = "
runloom: v1
name: alone
state:
  messages: { reducer: messages }
  note: {}
  size: {}
nodes:
  answer: { worker: { queue: chat, handler: answer, schedule_to_start_ms: 60000 } }
edges:
  - { from: START, to: answer }
";

async fn start() -> Test {
    start_with(|builder| builder.document("chat.yaml", CHAT).document("alone.yaml", ALONE)).await
}

fn alone(thread_id: &str, input: Value) -> RunSpec {
    RunSpec { thread_id: thread_id.to_owned(), ..RunSpec::graph("alone").with_input(input) }
}

#[tokio::test]
async fn an_outcome_is_stored_while_the_run_goes_on_and_with_exit_when_it_stops() {
    let test = start().await;
    for durability in [v1::Durability::Async, v1::Durability::Sync, v1::Durability::Exit] {
        let mut worker = Worker::ready(&test.channel, "chat", &["answer"], 1).await;
        let mut gate = Worker::ready(&test.channel, "gate", &["gate"], 1).await;
        let spec = RunSpec { durability: durability.into(), ..RunSpec::graph("chat").with_input(json!({"note": 1})) };
        let parts = tokio::spawn(read(test.client.stream_run(spec)));
        let task = worker.task().await;
        worker.update(&task, json!({"note": 2}));
        let held = gate.task().await;
        if durability == v1::Durability::Exit {
            // Nothing is stored while the run goes on.
            let early = tokio::time::timeout(Duration::from_millis(100), worker.next()).await;
            assert!(early.is_err(), "{early:?}");
            gate.update(&held, json!({}));
        }
        worker.stored(&task).await;
        if durability != v1::Durability::Exit {
            gate.update(&held, json!({}));
        }
        end(&soon(parts).await.unwrap()).clone().into_result().unwrap();
    }
}

#[tokio::test]
async fn an_outcome_that_is_sent_again_counts_once() {
    let test = start().await;
    let greeting = hello("chat", &["answer"]);
    let mut worker = Worker::attach(&test.channel, greeting.clone()).await;
    worker.send(In::Ready(Ready { tasks: 1 }));
    let thread = test.thread().await;
    let parts = tokio::spawn(read(test.client.stream_run(alone(&thread, json!({"note": 1})))));
    let task = worker.task().await;
    // The connection breaks before the outcome is sent; no other worker has the handler.
    drop(worker);
    let workers = test.server.core().workers().clone();
    until(async || workers.queues(Some("chat")).first().is_some_and(|queue| queue.waiting == 1)).await;
    let mut again = Worker::attach(&test.channel, greeting).await;
    again.update(&task, json!({"note": "once"}));
    again.update(&task, json!({"note": "twice"}));
    again.stored(&task).await;
    let parts = soon(parts).await.unwrap();
    end(&parts).clone().into_result().unwrap();
    // Once more, after it was stored.
    again.update(&task, json!({"note": "thrice"}));
    again.stored(&task).await;
    let state = test.client.get_state(thread.as_str()).await.unwrap().checkpoint.unwrap();
    assert_eq!(decoded(&state.values)["note"], "once");
    assert_eq!(workers.queues(Some("chat"))[0].waiting, 0);
}

#[tokio::test]
async fn a_late_outcome_is_refused_with_a_reason() {
    let test = start().await;
    let greeting = hello("chat", &["answer"]);
    let mut first = Worker::attach(&test.channel, greeting.clone()).await;
    first.send(In::Ready(Ready { tasks: 1 }));
    let thread = test.thread().await;
    let parts = tokio::spawn(read(test.client.stream_run(alone(&thread, json!({"note": 1})))));
    let lost = first.task().await;
    drop(first);
    let mut second = Worker::ready(&test.channel, "chat", &["answer"], 1).await;
    let task = second.task().await;
    let mut again = Worker::attach(&test.channel, greeting).await;
    again.update(&lost, json!({"note": "late"}));
    assert_eq!(again.refused(&lost.token).await, "a later try of the task has started");
    second.update(&task, json!({"note": "right"}));
    end(&soon(parts).await.unwrap()).clone().into_result().unwrap();
    let state = test.client.get_state(thread.as_str()).await.unwrap().checkpoint.unwrap();
    assert_eq!(decoded(&state.values)["note"], "right");
}

#[tokio::test]
async fn a_silent_worker_loses_its_task_and_the_next_try_has_its_details() {
    let test = start().await;
    let second = prost_types::Duration { seconds: 1, nanos: 0 };
    let mut silent =
        Worker::attach(&test.channel, v1::Hello { heartbeat_timeout: Some(second), ..hello("chat", &["answer"]) })
            .await;
    silent.send(In::Ready(Ready { tasks: 1 }));
    let thread = test.thread().await;
    let parts = tokio::spawn(read(test.client.stream_run(alone(&thread, json!({"note": 1})))));
    let task = silent.task().await;
    let details = Some(Json::text(&json!({"page": 7})));
    silent.send(In::Heartbeat(v1::Heartbeat { token: task.token.clone(), details }));
    let status = silent.next().await.unwrap_err();
    assert_eq!((status.code(), &*support::reason(&status)), (Code::Aborted, "WORKER_LOST"));
    let mut other = Worker::ready(&test.channel, "chat", &["answer"], 1).await;
    let task = other.task().await;
    assert_eq!((task.r#try, decoded(&task.heartbeat_details)), (2, json!({"page": 7})));
    other.update(&task, json!({"note": 2}));
    end(&soon(parts).await.unwrap()).clone().into_result().unwrap();
}

#[tokio::test]
async fn a_worker_that_drains_finishes_its_tasks_and_gets_no_more() {
    let test = start().await;
    let mut worker = Worker::ready(&test.channel, "chat", &["answer"], 5).await;
    let thread = test.thread().await;
    let parts = tokio::spawn(read(test.client.stream_run(alone(&thread, json!({"note": 1})))));
    let task = worker.task().await;
    worker.send(In::Draining(Draining {}));
    let workers = test.server.core().workers().clone();
    until(async || workers.list(None).iter().any(|worker| worker.draining)).await;
    let other = test.thread().await;
    let waits = tokio::spawn(read(test.client.stream_run(alone(&other, json!({"note": 1})))));
    until(async || workers.queues(None).iter().any(|queue| queue.waiting == 1)).await;
    let state = test.client.get_state(other.as_str()).await.unwrap().checkpoint.unwrap();
    assert_eq!(state.tasks.iter().map(|task| task.waiting_for.as_str()).collect::<Vec<_>>(), ["chat"]);
    worker.update(&task, json!({"note": 2}));
    worker.stored(&task).await;
    assert_eq!(worker.next().await.unwrap_err().code(), Code::Ok);
    end(&soon(parts).await.unwrap()).clone().into_result().unwrap();
    let mut next = Worker::ready(&test.channel, "chat", &["answer"], 1).await;
    let task = next.task().await;
    next.update(&task, json!({}));
    end(&soon(waits).await.unwrap()).clone().into_result().unwrap();
}

fn message(n: usize) -> Value {
    json!({"type": "human", "id": format!("m{n}"), "content": "x".repeat(200)})
}

fn messages(task: &WorkerTask) -> &v1::ChannelValue {
    task.state.iter().find(|channel| channel.channel == "messages").unwrap()
}

/// Puts messages on a thread, and measures the bytes of the task that one more makes.
async fn bytes_of_next_task(test: &Test, worker: &mut Worker, count: usize) -> usize {
    let thread = test.thread().await;
    let all: Vec<Value> = (0..count).map(message).collect();
    let mut bytes = 0;
    for input in [json!({ "messages": all }), json!({"messages": [message(count)]})] {
        let parts = tokio::spawn(read(test.client.stream_run(alone(&thread, input))));
        worker.send(In::Ready(Ready { tasks: 1 }));
        let task = worker.task().await;
        bytes = prost::Message::encoded_len(&task);
        worker.update(&task, json!({"messages": [{"type": "ai", "id": format!("a{bytes}"), "content": "ok"}]}));
        end(&soon(parts).await.unwrap()).clone().into_result().unwrap();
        worker.stored(&task).await;
        if let Some(Held::Appended(Appended { keep, items, .. })) = &messages(&task).value {
            assert_eq!(*keep, count as u64);
            // The answer of the run before, and the new message.
            assert_eq!(decoded(items).as_array().unwrap().len(), 2);
        }
    }
    bytes
}

#[tokio::test]
async fn a_task_on_a_thread_of_10_000_messages_costs_the_bytes_of_the_new_ones() {
    let test = start().await;
    let mut worker =
        Worker::attach(&test.channel, v1::Hello { caches_state: true, ..hello("chat", &["answer"]) }).await;
    let few = bytes_of_next_task(&test, &mut worker, 10).await;
    let many = bytes_of_next_task(&test, &mut worker, 10_000).await;
    println!("bytes of the next task: {few} after 10 messages, {many} after 10,000");
    assert!(many < few + 64, "{few} bytes after 10 messages, {many} after 10,000");
}

#[tokio::test]
async fn values_that_a_worker_has_lost_are_sent_again() {
    let test = start().await;
    let mut worker =
        Worker::attach(&test.channel, v1::Hello { caches_state: true, ..hello("chat", &["answer"]) }).await;
    let thread = test.thread().await;
    let note = "n".repeat(1000);
    for (turn, kind) in ["whole", "unchanged"].into_iter().enumerate() {
        let input = if turn == 0 { json!({ "note": note }) } else { json!({"size": 1}) };
        let parts = tokio::spawn(read(test.client.stream_run(alone(&thread, input))));
        worker.send(In::Ready(Ready { tasks: 1 }));
        let task = worker.task().await;
        let sent = task.state.iter().find(|channel| channel.channel == "note").unwrap();
        match sent.value.as_ref().unwrap() {
            Held::Whole(_) => assert_eq!(kind, "whole"),
            Held::Unchanged(_) => assert_eq!(kind, "unchanged"),
            other => panic!("{other:?}"),
        }
        worker
            .send(In::Missing(Missing { token: task.token.clone(), channels: vec!["note".into(), "nothing".into()] }));
        match worker.next().await.unwrap() {
            Out::Values(values) => {
                let [value] = &values.values[..] else { panic!("{values:?}") };
                assert_eq!(value.value, Some(Held::Whole(Json::text(&json!(note)))));
            }
            other => panic!("no values, but {other:?}"),
        }
        worker.update(&task, json!({}));
        end(&soon(parts).await.unwrap()).clone().into_result().unwrap();
        worker.stored(&task).await;
    }
}

#[tokio::test]
async fn a_task_that_no_worker_takes_fails_after_its_time() {
    let test = start_with(|builder| builder.document("alone.yaml", ALONE.replace("60000", "50"))).await;
    let thread = test.thread().await;
    let parts = soon(read(test.client.stream_run(alone(&thread, json!({"note": 1}))))).await;
    assert_eq!(end(&parts).state(), RunState::Failed);
    let error = end(&parts).clone().into_result().unwrap_err().to_string();
    assert!(error.contains("no worker of queue `chat` took node `answer` within 50ms"), "{error}");
    assert!(test.server.core().workers().queues(None).is_empty());
}

#[tokio::test]
async fn runs_take_turns_at_a_worker() {
    const FAN: &str = "
runloom: v1
name: fan
state: { items: {}, log: { reducer: append } }
nodes:
  each: { worker: { queue: chat, handler: answer } }
edges:
  - { from: START, route: 'state.items.map(i, {\"node\": \"each\", \"input\": {\"i\": i}})', to: [each] }
";
    let test = start_with(|builder| builder.document("fan.yaml", FAN)).await;
    let mut worker = Worker::attach(&test.channel, hello("chat", &["answer"])).await;
    let fan = |name: &str, count: usize| {
        let items: Vec<String> = (0..count).map(|n| format!("{name}{n}")).collect();
        RunSpec::graph("fan").with_input(json!({ "items": items }))
    };
    let large = tokio::spawn(read(test.client.stream_run(fan("large", 100))));
    let workers = test.server.core().workers().clone();
    let waiting = async |count| until(async || workers.queues(None).first().is_some_and(|q| q.waiting == count)).await;
    waiting(100).await;
    let small = tokio::spawn(read(test.client.stream_run(fan("small", 3))));
    waiting(103).await;
    let mut order = Vec::new();
    for _ in 0..103 {
        worker.send(In::Ready(Ready { tasks: 1 }));
        let task = loop {
            match worker.next().await.unwrap() {
                Out::Task(task) => break task,
                Out::Stored(_) => {}
                other => panic!("{other:?}"),
            }
        };
        let Some(v1::worker_task::Input::SendInput(input)) = &task.input else { panic!("{task:?}") };
        order.push(input.decode().unwrap()["i"].as_str().unwrap().to_owned());
        worker.update(&task, json!({"log": ["done"]}));
    }
    let last = order.iter().rposition(|name| name.starts_with("small")).unwrap();
    assert!(last < 10, "the small run waited for the large one: {order:?}");
    for run in [large, small] {
        end(&soon(run).await.unwrap()).clone().into_result().unwrap();
    }
}

#[tokio::test]
async fn a_second_connection_with_the_same_id_replaces_the_first() {
    let test = start().await;
    let greeting = hello("chat", &["answer"]);
    let mut first = Worker::attach(&test.channel, greeting.clone()).await;
    let second = Worker::attach(&test.channel, greeting).await;
    let status = first.next().await.unwrap_err();
    assert_eq!(support::reason(&status), "WORKER_LOST");
    assert_eq!(test.server.core().workers().list(None).len(), 1);
    drop(second);
    let mut stream = test.client.stream_run(alone(&test.thread().await, json!({})));
    let _ = soon(stream.next()).await;
}
