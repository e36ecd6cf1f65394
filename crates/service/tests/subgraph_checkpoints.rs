//! Runs from checkpoints of subgraphs: `RunSpec.checkpoint_namespace`.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use runloom::v1::{
    GetStateRequest, ListCheckpointsRequest, RegisterGraphRequest, RunSpec, RunState, WaitRunRequest, wait_run_request,
};
use serde_json::{Value, json};
use support::*;
use tonic::Code;

const INNER: &str = r#"runloom: v1
name: inner
hidden: true
state: { trail: { reducer: append } }
nodes:
  a: { update: { trail: '["a"]' } }
  b: { update: { trail: '["b"]' } }
  review: { steps: [ { interrupt: { value: '"approve?"' } }, { update: { trail: '["review=" + answer]' } } ] }
edges: [ { from: START, to: a }, { from: a, to: b }, { from: b, to: review } ]
"#;

const OUTER: &str = r#"runloom: v1
name: outer
state: { trail: { reducer: append } }
nodes:
  sub: { subgraph: { graph: inner, input: {}, output: { trail: result.trail } } }
edges: [ { from: START, to: sub } ]
"#;

fn read_json(json: &Option<runloom::v1::Json>) -> Value {
    json.as_ref().unwrap().decode().unwrap()
}

#[tokio::test]
async fn a_run_starts_at_a_checkpoint_of_a_subgraph() {
    let test = start().await;
    for document in [INNER, OUTER] {
        let register = RegisterGraphRequest { document: document.into(), validate_only: false };
        test.client.register_graph(register).await.unwrap();
    }
    let thread = test.thread().await;
    let spec = || RunSpec::graph("outer").with_thread(&thread);
    test.client.wait_run(spec().with_input(json!({"trail": []}))).await.unwrap();
    let state = GetStateRequest { thread_id: thread.clone(), include_subgraphs: true, ..Default::default() };
    let state = test.threads().get_state(state).await.unwrap().into_inner();
    let namespace = state.subgraph_checkpoints[0].namespace.clone();
    let list = ListCheckpointsRequest { thread_id: thread.clone(), namespace: namespace.clone(), ..Default::default() };
    let list = test.threads().list_checkpoints(list).await.unwrap().into_inner().checkpoints;
    let at = list.iter().find(|checkpoint| checkpoint.next == ["b"]).unwrap().checkpoint_id.clone();
    let from = || RunSpec { checkpoint_id: at.clone(), checkpoint_namespace: namespace.clone(), ..spec() };

    let stopped = test.client.wait_run(from()).await.unwrap();
    assert_eq!(stopped.run.unwrap().state(), RunState::AwaitingInput);
    let done = test.client.wait_run(spec().with_resume(json!("yes"))).await.unwrap();
    assert_eq!(read_json(&done.values), json!({"trail": ["a", "b", "review=yes"]}));

    let refused = async |spec: RunSpec| {
        let request = WaitRunRequest { target: Some(wait_run_request::Target::Run(spec)), ..Default::default() };
        test.runs().wait_run(request).await.unwrap_err()
    };
    let status = refused(from().with_input(json!({}))).await;
    assert_eq!(
        (status.code(), details(&status).2),
        (Code::InvalidArgument, vec!["run.checkpoint_namespace".to_owned()])
    );
    let status = refused(RunSpec { checkpoint_id: String::new(), ..from() }).await;
    assert_eq!((status.code(), details(&status).2), (Code::InvalidArgument, vec!["run.checkpoint_id".to_owned()]));
    let outside = RunSpec { checkpoint_namespace: vec!["sub:00000000-0000-0000-0000-000000000001".into()], ..from() };
    assert_eq!(reason(&refused(outside).await), "CHECKPOINT_NOT_FOUND");
}
