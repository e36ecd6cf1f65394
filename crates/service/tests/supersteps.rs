//! Several supersteps of updates in one `UpdateState`, and answers with a schema.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use runloom::v1::{
    GetStateRequest, Json, ListCheckpointsRequest, RegisterGraphRequest, RunSpec, StateSuperstep, StateUpdate,
    UpdateStateRequest, WaitRunRequest, wait_run_request::Target,
};
use serde_json::{Value, json};
use support::*;
use tonic::Code;

const LOG: &str = r#"runloom: v1
name: steps
state: { log: { reducer: append }, n: { schema: { type: integer } } }
nodes:
  a: { update: { log: '["a"]' } }
  b: { interrupt: { value: '"age?"', response_schema: { type: integer } } }
edges: [ { from: START, to: a }, { from: a, to: b } ]
"#;

fn read(json: &Option<Json>) -> Value {
    json.as_ref().unwrap().decode().unwrap()
}

fn step(updates: &[(&str, Value)]) -> StateSuperstep {
    let update =
        |(node, values): &(&str, Value)| StateUpdate { values: Some(Json::text(values)), as_node: (*node).to_owned() };
    StateSuperstep { updates: updates.iter().map(update).collect() }
}

#[tokio::test]
async fn supersteps_are_written_one_after_the_other_and_validated_before() {
    let test = start().await;
    let register = RegisterGraphRequest { document: LOG.into(), validate_only: false };
    test.client.register_graph(register).await.unwrap();
    let thread = test.thread().await;
    let update = |supersteps| UpdateStateRequest {
        thread_id: thread.clone(),
        graph_name: "steps".into(),
        supersteps,
        ..Default::default()
    };
    let wrong = update(vec![
        step(&[("__start__", json!({"log": ["in"]}))]),
        step(&[("a", json!({"log": ["x"]})), ("a", json!({"n": "many"}))]),
    ]);
    let status = test.threads().update_state(wrong).await.unwrap_err();
    assert_eq!(
        (status.code(), details(&status).2),
        (Code::InvalidArgument, vec!["supersteps[1].updates[1].values.n".to_owned()])
    );
    let list = ListCheckpointsRequest { thread_id: thread.clone(), ..Default::default() };
    assert!(test.threads().list_checkpoints(list.clone()).await.unwrap().into_inner().checkpoints.is_empty());

    let both = UpdateStateRequest { as_node: "a".into(), ..update(vec![step(&[("a", json!({"log": []}))])]) };
    assert_eq!(test.threads().update_state(both).await.unwrap_err().code(), Code::InvalidArgument);

    let good =
        update(vec![step(&[("__start__", json!({"log": ["in"]}))]), step(&[("a", json!({"log": ["by hand"]}))])]);
    let made = test.threads().update_state(good).await.unwrap().into_inner().checkpoint.unwrap();
    let all = test.threads().list_checkpoints(list).await.unwrap().into_inner().checkpoints;
    assert_eq!((all.len(), &all[0].checkpoint_id), (2, &made.checkpoint_id));
    let state = GetStateRequest { thread_id: thread.clone(), ..Default::default() };
    let state = test.threads().get_state(state).await.unwrap().into_inner().checkpoint.unwrap();
    assert_eq!((read(&state.values), &state.next), (json!({"log": ["in", "by hand"]}), &vec!["b".to_owned()]));

    // The node that comes next asks, with a schema.
    let stopped = test.client.wait_run(RunSpec::graph("steps").with_thread(&thread)).await.unwrap();
    let question = &stopped.end.unwrap().interrupts[0];
    assert_eq!(read(&question.response_schema), json!({"type": "integer"}));
    let spec = RunSpec::graph("steps").with_thread(&thread).with_resume(json!("old"));
    let request = WaitRunRequest { target: Some(Target::Run(spec)), ..Default::default() };
    let status = test.runs().wait_run(request).await.unwrap_err();
    assert_eq!((status.code(), details(&status).2), (Code::InvalidArgument, vec!["run.command.resume".to_owned()]));
}
