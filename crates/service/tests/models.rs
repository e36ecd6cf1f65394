//! Runs whose models are a provider's: what goes wrong there ends in the right part, and what ends a run ends its call.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use runloom::v1::{
    CancelCause, CancelRunRequest, JsonEncoding, OnDisconnect, RunSpec, RunState, StreamMode, StreamRunRequest,
    StreamRunResponse, stream_run_response::Payload,
};
use runloom_fake_provider::{Answer, FakeProvider, Piece, anthropic, openai};
use serde_json::json;
use support::*;
use tonic::Request;

/// A server with an agent whose model is the fake provider's: OpenAI's wire, or Anthropic's.
async fn agent(fake: &FakeProvider, provider: &str, more: &str) -> Test {
    let url = if provider == "openai" { fake.openai_url() } else { fake.url() };
    let text = format!(
        r#"
runloom: v1
name: agent
state:
  messages: {{ reducer: messages }}
  before: {{ reducer: add }}
models:
  m: {{ provider: {provider}, model: m, base_url: '{url}', max_retries: 1, first_token_timeout_ms: 5000, silence_timeout_ms: 1000, max_message_bytes: 100000 }}
tools:
  look:
    description: Looks.
    parameters: {{ type: object, properties: {{ at: {{ type: string }} }}, required: [at] }}
    result: '"saw " + args.at'
nodes:
  before: {{ update: {{ before: 1 }} }}
  ask: {{ chat_model: {{ model: m, tools: [look] }}{more} }}
  tools: {{ tools: {{}} }}
edges:
  - {{ from: START, to: before }}
  - {{ from: before, to: ask }}
  - from: ask
    route: 'size(state.messages[size(state.messages) - 1].tool_calls) > 0 ? "tools" : "END"'
    to: [tools, END]
  - {{ from: tools, to: ask }}
"#
    );
    start_with(|builder| builder.document("agent.yaml", text)).await
}

fn spec() -> RunSpec {
    RunSpec::graph("agent")
        .with_input(json!({"messages": [{"role": "user", "content": "hi"}]}))
        .with_modes([StreamMode::Messages, StreamMode::Updates])
}

fn on(thread: &str, mut spec: RunSpec) -> RunSpec {
    spec.thread_id = thread.to_owned();
    spec
}

fn text(parts: &[StreamRunResponse]) -> String {
    let chunks = parts.iter().filter_map(|part| match &part.payload {
        Some(Payload::MessageChunk(chunk)) => Some(chunk),
        _ => None,
    });
    let blocks = chunks.flat_map(|chunk| &chunk.content);
    blocks
        .filter_map(|block| match &block.block {
            Some(runloom::v1::content_block::Block::Text(text)) => Some(text.as_str()),
            _ => None,
        })
        .collect()
}

#[tokio::test]
async fn an_agent_calls_its_tool_and_answers_and_the_end_sums_what_was_used() {
    let fake = FakeProvider::start().await.unwrap();
    let call = openai::call("c1", "look", &["{\"a", "t\": \"the ", "door\"}"]);
    fake.answers("m", [call.cut(7), openai::text(&["A ", "door."]).cut(5)]);
    let test = agent(&fake, "openai", "").await;
    let parts = read(test.client.stream_run(spec())).await;
    let end = end(&parts);
    assert_eq!(end.state(), RunState::Succeeded, "{end:?}");
    let usage = end.usage.as_ref().unwrap();
    assert_eq!((usage.input_tokens, usage.output_tokens), (24, 14));
    assert!(
        format!("{usage:?}").contains('8') && format!("{usage:?}").contains('6'),
        "cached and reasoning: {usage:?}"
    );
    assert_eq!(text(&parts), "saw the doorA door.", "the tool's message and the model's");
    let sent = &fake.request(1).await.body["messages"];
    assert_eq!(sent[2], json!({"role": "tool", "tool_call_id": "c1", "content": "saw the door"}));
}

#[tokio::test]
async fn each_fault_fails_the_run_with_what_went_wrong_and_the_run_goes_on_from_its_checkpoint() {
    let flood = openai::said(&"x".repeat(1000)).to_string();
    let begun = || openai::begin(&["Once"]);
    for (provider, answers, says) in [
        (
            "openai",
            vec![openai::error(429, "Slow down.").header("retry-after-ms", "1"); 2],
            "openai m: 429 Too Many Requests: Slow down. (tried 2 times)",
        ),
        (
            "anthropic",
            vec![anthropic::error(529, "overloaded_error", "Overloaded").header("retry-after-ms", "1"); 2],
            "anthropic m: 529: Overloaded (tried 2 times)",
        ),
        ("openai", vec![begun()], "ended before it was complete"),
        ("openai", vec![begun().piece(Piece::Stall)], "it sent nothing for 1s"),
        (
            "openai",
            vec![begun().piece(Piece::Flood(format!("data: {flood}\n\n").into_bytes()))],
            "longer than 100000 bytes",
        ),
        ("openai", vec![begun().data("{garbage")], "what it sent cannot be read"),
        ("openai", vec![begun().bytes(b"data: \xff\xff\n\n".to_vec())], "what it sent cannot be read"),
        ("openai", vec![begun().piece(Piece::HangUp)], "the connection broke"),
        (
            "anthropic",
            vec![anthropic::broken(
                anthropic::said(anthropic::begin(), 0, &["Once"]),
                "overloaded_error",
                "Overloaded",
            )],
            "it broke off with an error: Overloaded",
        ),
        ("openai", vec![openai::error(401, "Incorrect API key.")], "401 Unauthorized: Incorrect API key."),
    ] {
        let fake = FakeProvider::start().await.unwrap();
        let count = answers.len();
        let well = if provider == "openai" { openai::text(&["all well"]) } else { anthropic::text(&["all well"]) };
        fake.answers("m", answers.into_iter().chain([well]));
        let test = agent(&fake, provider, "").await;
        let thread = test.thread().await;
        let parts = read(test.client.stream_run(on(&thread, spec()))).await;
        let failed = end(&parts);
        assert_eq!(failed.state(), RunState::Failed, "{says}: {failed:?}");
        let error = failed.error.as_ref().unwrap();
        assert!(error.message.contains(says), "{says}: {error:?}");
        let details: Vec<u8> = error.details.iter().flat_map(|any| any.value.clone()).collect();
        assert!(String::from_utf8_lossy(&details).contains("ask"), "the node is named: {error:?}");
        assert_eq!(fake.count(), count, "{says}");
        // The same thread, without input: what was done before is not done again.
        let parts =
            read(test.client.stream_run(on(&thread, RunSpec::graph("agent").with_modes([StreamMode::Values])))).await;
        assert_eq!(end(&parts).state(), RunState::Succeeded, "{says}: {:?}", end(&parts));
        let state = test
            .client
            .get_state(runloom::v1::GetStateRequest {
                thread_id: thread,
                json_encoding: JsonEncoding::Text.into(),
                ..Default::default()
            })
            .await
            .unwrap();
        let shown = format!("{state:?}");
        assert!(shown.contains("all well") && shown.contains(r#"\"before\":1"#), "{says}: {shown}");
    }
}

#[tokio::test]
async fn a_retry_of_the_node_takes_up_what_may_pass_and_nothing_else() {
    let policy = ", retry: { max_attempts: 3, initial_ms: 1, jitter: false }";
    let fake = FakeProvider::start().await.unwrap();
    fake.answers("m", [openai::begin(&["Once"]).piece(Piece::HangUp), openai::text(&["all well"])]);
    let test = agent(&fake, "openai", policy).await;
    assert_eq!(end(&read(test.client.stream_run(spec())).await).state(), RunState::Succeeded);
    assert_eq!(fake.count(), 2);
    let fake = FakeProvider::start().await.unwrap();
    fake.answers("m", [openai::error(401, "Incorrect API key.")]);
    let test = agent(&fake, "openai", policy).await;
    assert_eq!(end(&read(test.client.stream_run(spec())).await).state(), RunState::Failed);
    assert_eq!(fake.count(), 1);
}

/// What ends a run.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ends {
    Cancel,
    ClientGone,
    Timeout,
}

#[tokio::test]
async fn what_ends_a_run_closes_its_models_connection() {
    const TRIES: usize = 7;
    let timeout = Duration::from_millis(200);
    for ends in [Ends::Cancel, Ends::ClientGone, Ends::Timeout] {
        let fake = FakeProvider::start().await.unwrap();
        // It would go on for an hour.
        let slow = openai::begin(&["Once"]).piece(Piece::Gate).data(openai::said(" upon")).piece(Piece::Stall);
        fake.answers("m", [Answer { ..slow }]);
        let test = agent(&fake, "openai", "").await;
        let mut took = Vec::new();
        for n in 0..TRIES {
            let mut spec = spec();
            match ends {
                Ends::Cancel => {}
                Ends::ClientGone => {
                    spec.on_disconnect = OnDisconnect::Cancel.into();
                    spec.disconnect_grace_duration = Some(prost_types::Duration { seconds: 0, nanos: 0 });
                }
                Ends::Timeout => {
                    spec.run_timeout = Some(prost_types::Duration { seconds: 0, nanos: timeout.subsec_nanos() as i32 })
                }
            }
            let request = StreamRunRequest { run: Some(spec), ..Default::default() };
            let alone = channel(test.handle.as_ref().unwrap()).await;
            let mut runs = runloom::v1::runs_client::RunsClient::new(alone);
            let began = Instant::now();
            let mut stream = runs.stream_run(Request::new(request)).await.unwrap().into_inner();
            let mut id = String::new();
            // The model speaks.
            loop {
                let part = soon(stream.message()).await.unwrap().unwrap();
                id.clone_from(&part.run_id);
                if matches!(part.payload, Some(Payload::MessageChunk(_))) {
                    break;
                }
            }
            let cause = match ends {
                Ends::Cancel => {
                    let cause = Instant::now();
                    test.client.cancel_run(CancelRunRequest { wait: false, ..id.as_str().into() }).await.unwrap();
                    cause
                }
                Ends::ClientGone => {
                    let cause = Instant::now();
                    drop((runs, stream));
                    cause
                }
                // The run cannot have begun before it was asked for.
                Ends::Timeout => began + timeout,
            };
            let closed = soon(fake.closed(n)).await;
            took.push(closed.saturating_duration_since(cause));
            let parts = read(test.client.join_run(id.as_str())).await;
            let state = end(&parts).state();
            match ends {
                Ends::Timeout => assert_eq!(state, RunState::TimedOut),
                Ends::Cancel => assert_eq!(state, RunState::Cancelled),
                Ends::ClientGone => {
                    assert_eq!(state, RunState::Cancelled);
                    assert_eq!(end(&parts).cancellation.as_ref().unwrap().cause(), CancelCause::Disconnect);
                }
            }
        }
        took.sort();
        println!("{ends:?}: the provider's connection closed after {took:?}");
        assert!(took[TRIES / 2] < Duration::from_millis(50), "{ends:?}: {took:?}");
    }
}
