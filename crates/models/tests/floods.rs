//! Providers that send without end. In a process of their own: reading them is work.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use runloom_fake_provider::{Answer, FakeProvider, Piece, openai};
use runloom_models::{Provider, ProviderKind::OpenAi};
use serde_json::json;
use support::*;

#[tokio::test]
async fn a_flood_ends_at_the_limit() {
    let word = openai::said(&"x".repeat(1000)).to_string();
    let call_piece = openai::chunk(
        json!({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "y".repeat(1000)}}]}),
        None,
    );
    for flood in [
        format!("data: {word}\n\n"),
        format!("data: {call_piece}\n\n"),
        ": nothing\n\n".to_owned(),
        "data: {\"choices\": []}\n\n".to_owned(),
    ] {
        let fake = FakeProvider::start().await.unwrap();
        fake.answers("m", [openai::begin(&["Once"]).piece(Piece::Flood(flood.repeat(20).into_bytes()))]);
        let mut config = config(&fake, OpenAi, "m");
        config.max_message_bytes = 100_000;
        let said = call(&Provider::new(config).unwrap(), hello()).await;
        let fault = said.fault();
        assert!(
            !fault.retryable && fault.message == "its answer is longer than 100000 bytes (`max_message_bytes`)",
            "{fault}"
        );
        let given: usize = said.text().len() + said.calls().iter().map(|call| call.2.len()).sum::<usize>();
        assert!(given <= 100_000, "{given}");
        soon(fake.closed(0)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_without_end_ends_at_the_limit_too() {
    let fake = FakeProvider::start().await.unwrap();
    for (model, start) in
        [("line", openai::begin(&["Once"]).bytes("data: ")), ("error", Answer { status: 500, ..Answer::events() })]
    {
        fake.answers(model, [start.piece(Piece::Flood(vec![b'x'; 64 << 10]))]);
        let mut config = config(&fake, OpenAi, model);
        config.max_message_bytes = 1 << 20;
        config.max_retries = 0;
        let before = resident();
        let said = call(&Provider::new(config).unwrap(), hello()).await;
        let grown = resident().saturating_sub(before);
        let fault = said.fault();
        println!("{model}: {} MiB more", grown >> 20);
        assert!(!fault.retryable && fault.message.contains("longer than 1048576 bytes"), "{fault}");
        assert!(grown < 1 << 30, "{grown} bytes");
    }
}

/// The most memory this process has had.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap_or_default() << 10
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_without_end_is_given_up_before_it_costs_much() {
    let fake = FakeProvider::start().await.unwrap();
    fake.answers("m", [openai::begin(&["Once"]).bytes("data: ").piece(Piece::Flood(vec![b'x'; 64 << 10]))]);
    let (before, began) = (resident(), std::time::Instant::now());
    let mut config = config(&fake, OpenAi, "m");
    config.max_message_bytes = 4 << 20;
    let said = call(&Provider::new(config).unwrap(), hello()).await;
    println!("{} MiB more, {:?}", resident().saturating_sub(before) >> 20, began.elapsed());
    assert!(said.fault().message.contains("longer than 4194304 bytes"), "{said:?}");
    assert!(resident().saturating_sub(before) < 1 << 28);
}
