//! Routes and tools in workers, and what a graph inside a task emits.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use runloom::v1::{
    self, Command, EmittedEvent, EmittedPart, EventData, Goto, Handler, HandlerKind, Hello, Json, NodeUpdate, Ready,
    Route, RunSpec, RunState, StreamMode, ToolResult, WorkerTask, attach_request::Message as In,
    attach_response::Message as Out, done::Outcome, emit::Part, stream_run_response::Payload, worker_task::Input,
};
use serde_json::{Value, json};
use support::{
    Test, end, read, soon, start_with,
    worker::{Worker, decoded, hello, state},
};

fn handlers(kinds: &[(&str, HandlerKind)]) -> Hello {
    let handlers = kinds.iter().map(|(name, kind)| Handler {
        name: (*name).to_owned(),
        kind: (*kind).into(),
        ..Handler::default()
    });
    Hello { handlers: handlers.collect(), ..hello("more", &[]) }
}

async fn attach(test: &Test, kinds: &[(&str, HandlerKind)]) -> Worker {
    let worker = Worker::attach(&test.channel, handlers(kinds)).await;
    worker.send(In::Ready(Ready { tasks: 100 }));
    worker
}

/// The next task; what is stored meanwhile is passed over.
async fn task(worker: &mut Worker) -> WorkerTask {
    loop {
        match worker.next().await.unwrap() {
            Out::Task(task) => return task,
            Out::Stored(_) => {}
            other => panic!("no task, but {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_worker_decides_a_route_on_the_writes_of_its_node() {
    const ROUTED: &str = "
runloom: v1
name: routed
state: { x: {}, went: { reducer: append } }
nodes:
  work: { update: { x: '2' } }
  left: { update: { went: '[\"left\"]' } }
  right: { update: { went: '[state.i]' } }
edges:
  - { from: START, to: work }
  - { from: work, route: { worker: { queue: more, handler: choose } }, to: [left, right, END] }
";
    let test = start_with(|builder| builder.document("routed.yaml", ROUTED)).await;
    let mut worker = attach(&test, &[("choose", HandlerKind::Route)]).await;
    let run = || tokio::spawn(read(test.client.stream_run(RunSpec::graph("routed").with_input(json!({"x": 1})))));
    let parts = run();
    let route = task(&mut worker).await;
    assert_eq!((route.kind(), state(&route)["x"].clone()), (HandlerKind::Route, json!(2)));
    // A worker that is gone does not make the node run again.
    drop(worker);
    let mut worker = attach(&test, &[("choose", HandlerKind::Route)]).await;
    let route = task(&mut worker).await;
    let goto = vec![
        Goto { node: "left".into(), input: None },
        Goto { node: "right".into(), input: Some(Json::text(&json!({"i": "sent"}))) },
    ];
    worker.done(&route, Outcome::Route(Route { goto }));
    let parts = soon(parts).await.unwrap();
    end(&parts).clone().into_result().unwrap();
    let last = parts.iter().rev().find_map(|part| match &part.payload {
        Some(Payload::Value(value)) => Some(decoded(&value.state)),
        _ => None,
    });
    if let Some(last) = last {
        assert_eq!(last["went"], json!(["left", "sent"]));
    }

    let parts = run();
    let route = task(&mut worker).await;
    worker.done(&route, Outcome::Route(Route { goto: vec![Goto { node: "work".into(), input: None }] }));
    let error = end(&soon(parts).await.unwrap()).clone().into_result().unwrap_err().to_string();
    assert!(error.contains("gave `work`, which is none of its targets"), "{error}");
}

const TOOLS: &str = "
runloom: v1
name: tools
state: { messages: { reducer: messages }, found: {} }
tools:
  search: { description: Searches., worker: { queue: more } }
nodes:
  act: { tools: { tools: [search] } }
  done: { emit: '\"went\"' }
edges:
  - { from: START, to: act }
";

fn calls(ids: &[&str]) -> RunSpec {
    let calls: Vec<Value> =
        ids.iter().map(|id| json!({"name": "search", "args": {"q": id}, "id": id, "type": "tool_call"})).collect();
    let message = json!({"type": "ai", "id": "ai", "content": "", "tool_calls": calls});
    RunSpec::graph("tools")
        .with_input(json!({"messages": [message]}))
        .with_modes([StreamMode::Values, StreamMode::Custom])
}

fn call(task: &WorkerTask) -> String {
    match &task.input {
        Some(Input::ToolCall(call)) => {
            assert_eq!(decoded(&call.args)["q"], call.id);
            call.id.clone()
        }
        other => panic!("no call, but {other:?}"),
    }
}

fn values(parts: &[v1::StreamRunResponse]) -> Value {
    let last = parts.iter().rev().find_map(|part| match &part.payload {
        Some(Payload::Value(value)) => Some(decoded(&value.state)),
        _ => None,
    });
    last.unwrap()
}

fn text(content: &str) -> Outcome {
    Outcome::ToolResult(ToolResult { content: Some(Json::text(&json!(content))), ..ToolResult::default() })
}

#[tokio::test]
async fn a_tool_gives_a_result_an_error_or_a_command() {
    let test = start_with(|builder| builder.document("tools.yaml", TOOLS)).await;
    let mut worker = attach(&test, &[("search", HandlerKind::Tool)]).await;
    let parts = tokio::spawn(read(test.client.stream_run(calls(&["a", "b", "c"]))));
    for _ in 0..3 {
        let task = task(&mut worker).await;
        match &*call(&task) {
            "a" => worker.done(&task, text("sunny")),
            "b" => worker.fail(&task, "ValueError", "no such city"),
            _ => {
                let update = json!({"found": 3, "messages": [{"type": "tool", "id": "t", "tool_call_id": "c", "content": "own"}]});
                let command = NodeUpdate {
                    update: Some(Json::text(&update)),
                    goto: vec![Goto { node: "done".into(), input: None }],
                    to_parent: false,
                };
                worker.done(&task, Outcome::ToolResult(ToolResult { command: Some(command), ..ToolResult::default() }));
            }
        }
    }
    let parts = soon(parts).await.unwrap();
    end(&parts).clone().into_result().unwrap();
    let state = values(&parts);
    let messages: Vec<_> = state["messages"].as_array().unwrap()[1..]
        .iter()
        .map(|m| (m["tool_call_id"].as_str().unwrap(), m["content"].as_str().unwrap()))
        .collect();
    assert_eq!(messages[0], ("a", "sunny"));
    assert!(messages[1].0 == "b" && messages[1].1.contains("no such city"), "{messages:?}");
    assert_eq!(messages[2..], [("c", "own")]);
    assert_eq!(state["found"], 3);
    assert!(parts.iter().any(|part| support::kind(part) == "custom"));
}

#[tokio::test]
async fn tools_side_by_side_ask_in_the_order_of_their_calls() {
    let test = start_with(|builder| builder.document("tools.yaml", TOOLS)).await;
    let mut worker = attach(&test, &[("search", HandlerKind::Tool)]).await;
    let thread_id = test.thread().await;
    let mut spec = RunSpec { thread_id: thread_id.clone(), ..calls(&["a", "b"]) };
    for turn in 0..3 {
        let parts = tokio::spawn(read(test.client.stream_run(spec)));
        // The second call is always there first.
        let (one, two) = (task(&mut worker).await, task(&mut worker).await);
        let (a, b) = if call(&one) == "a" { (one, two) } else { (two, one) };
        worker.ask(&b, 0, &["B?"]);
        worker.ask(&a, 0, &["A?"]);
        if turn > 0 {
            // The first has its answer.
            let again = task(&mut worker).await;
            assert_eq!((&*call(&again), again.answers[0].decode().unwrap()), ("a", json!("yes to A?")));
            worker.done(&again, text("a is done"));
        }
        if turn > 1 {
            let again = task(&mut worker).await;
            assert_eq!((&*call(&again), again.answers[0].decode().unwrap()), ("b", json!("yes to B?")));
            worker.done(&again, text("b is done"));
        }
        let parts = soon(parts).await.unwrap();
        let end = end(&parts);
        if turn == 2 {
            end.clone().into_result().unwrap();
            let state = values(&parts);
            let contents: Vec<_> = state["messages"].as_array().unwrap()[1..].iter().map(|m| &m["content"]).collect();
            assert_eq!(contents, ["a is done", "b is done"]);
            return;
        }
        assert_eq!(end.state(), RunState::AwaitingInput);
        let question = decoded(&end.interrupts[0].value);
        assert_eq!((end.interrupts.len(), &question), (1, &json!(["A?", "B?"][turn])));
        spec = RunSpec {
            thread_id: thread_id.clone(),
            start: Some(v1::run_spec::Start::Command(Command {
                resume: Some(Json::text(&json!(format!("yes to {}", question.as_str().unwrap())))),
                ..Command::default()
            })),
            ..calls(&[])
        };
    }
}

#[tokio::test]
async fn events_and_parts_inside_a_task_keep_their_place() {
    const NEST: &str = "
runloom: v1
name: nest
state: { x: {} }
nodes:
  work: { worker: { queue: more, handler: work }, tags: [outer] }
edges:
  - { from: START, to: work }
";
    let test = start_with(|builder| builder.document("nest.yaml", NEST)).await;
    let mut worker = attach(&test, &[("work", HandlerKind::Node)]).await;
    let mut spec = RunSpec::graph("nest").with_input(json!({"x": 1}));
    spec = spec.with_modes([StreamMode::Events, StreamMode::Updates, StreamMode::Values]);
    spec.stream_subgraphs = true;
    let parts = tokio::spawn(read(test.client.stream_run(spec)));
    let task = task(&mut worker).await;
    assert!(task.emit_modes.contains(&StreamMode::Events.into()));
    let (parent, id) = (uuid::Uuid::new_v4().to_string(), uuid::Uuid::new_v4().to_string());
    worker.emit(
        &task,
        Part::Event(EmittedEvent {
            kind: v1::EventKind::ToolStart.into(),
            name: "lookup".into(),
            run_id: id.clone(),
            parent_ids: vec![parent.clone()],
            tags: vec!["inner".into()],
            metadata: Some(Json::text(&json!({"k": "v"}))),
            data: Some(EventData { input: Some(Json::text(&json!({"q": 1}))), ..EventData::default() }),
        }),
    );
    let inner = format!("child:{}", uuid::Uuid::new_v4());
    for (mode, payload) in [
        (StreamMode::Updates, json!({"child": {"x": 5}})),
        (StreamMode::Values, json!({"x": 6})),
        (StreamMode::Checkpoints, json!({})),
    ] {
        worker.emit(
            &task,
            Part::Nested(EmittedPart {
                namespace: vec![inner.clone()],
                mode: mode.into(),
                payload: Some(Json::text(&payload)),
            }),
        );
    }
    worker.update(&task, json!({"x": 2}));
    let parts = soon(parts).await.unwrap();
    end(&parts).clone().into_result().unwrap();
    let event = parts.iter().find_map(|part| match &part.payload {
        Some(Payload::Event(event)) if event.name == "lookup" => Some(event),
        _ => None,
    });
    let event = event.unwrap();
    assert_eq!((&event.run_id, event.parent_ids.last().unwrap()), (&id, &parent));
    // The run, the task, and what is around it inside the task.
    assert_eq!(event.parent_ids.len(), 3);
    assert_eq!(event.tags, ["inner", "outer"]);
    assert_eq!(decoded(&event.metadata)["k"], "v");
    let place = vec![format!("work:{}", task.task_id), inner];
    let nested: Vec<_> = parts.iter().filter(|part| part.namespace == place).map(support::kind).collect();
    assert_eq!(nested, ["update", "value"]);
}
