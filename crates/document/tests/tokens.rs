//! The tokens of the conformance agent, piece by piece, against those that a LangGraph server streamed.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::PathBuf;

use common::{graph, run};
use runloom_engine::{
    Value,
    stream::{Chunk, Mode, Modes, Part, Payload},
    value,
};

/// A part as both can be told by: what it says, the arguments it calls with, whether it is the last.
fn told(content: &str, args: Option<&str>, last: bool) -> String {
    format!("{content:?} {args:?} {}", if last { "last" } else { "" })
}

#[tokio::test]
async fn the_agent_s_pieces_are_those_that_were_recorded() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/conformance");
    let text = std::fs::read_to_string(folder.join("expected/agent_tools.json")).unwrap();
    let answers = Value::parse(&text).unwrap();
    let recorded = answers.as_list().unwrap().get(3).unwrap().as_list().unwrap();
    let want: Vec<String> = recorded
        .iter()
        .filter(|p| p.get_str("event") == Some("messages"))
        .map(|p| {
            let message = p.get("data").unwrap().as_list().unwrap().get(0).unwrap();
            let calls = message.get("tool_call_chunks").and_then(Value::as_list);
            let args = calls.and_then(|c| c.get(0)).and_then(|c| c.get_str("args"));
            let is_whole = message.get_str("type") != Some("AIMessageChunk");
            told(
                message.get_str("content").unwrap(),
                args,
                is_whole || message.get_str("chunk_position") == Some("last"),
            )
        })
        .collect();
    assert!(want.len() > 10, "{want:?}");

    let options = serde_saphyr::options! { strict_booleans: true };
    let text = std::fs::read_to_string(folder.join("scenarios/agent_tools.yaml")).unwrap();
    let scenario: Value = serde_saphyr::from_str_with_options(&text, options).unwrap();
    let agent = scenario.get("graphs").unwrap().get("agent_tools").unwrap().as_object().unwrap();
    // JSON is YAML: each key of the document on a line.
    let document: Vec<String> = agent.iter().map(|(key, part)| format!("{key}: {part}")).collect();
    let ran = run(
        &graph(&document.join("\n")),
        value!({"messages": [{"role": "user", "content": "What's the weather in SF?"}]}),
        Modes::from(Mode::Messages),
    )
    .await;
    let piece = |part: &Part| match &part.payload {
        Payload::Message(m) => Some(match &*m.chunk {
            Chunk::Delta { text, tool_calls, last, .. } => {
                told(text, tool_calls.first().map(|c| c.args.as_str()), *last)
            }
            Chunk::Whole(message) => told(message.get_str("content").unwrap(), None, true),
        }),
        _ => None,
    };
    let got: Vec<String> = ran.parts.iter().filter_map(piece).collect();
    assert_eq!(got, want);
}
