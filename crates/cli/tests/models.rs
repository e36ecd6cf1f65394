//! Models of providers, from the command line: the one line that gives an example a real model.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{ended, folder, path, runloom};
use runloom_fake_provider::{FakeProvider, openai};
use serde_json::json;

/// Runs a command beside the provider.
async fn beside(mut command: std::process::Command, fake: &FakeProvider) -> common::Ended {
    command.env("OPENAI_BASE_URL", fake.openai_url());
    tokio::task::spawn_blocking(|| ended(command)).await.unwrap()
}

#[tokio::test]
async fn one_line_gives_an_example_a_real_model() {
    for (name, text, from) in [
        ("agent", include_str!("../../../examples/agent.yaml"), "model: bot"),
        ("support_agent", include_str!("../../../examples/support_agent.yaml"), "model: writer"),
    ] {
        let fake = FakeProvider::start().await.unwrap();
        let answer = openai::text(&["It is ", "fine."]);
        let call = openai::call("c1", "get_weather", &["{\"city\"", ": \"Oslo\"}"]);
        fake.answers("gpt-4o-mini", if name == "agent" { vec![call, answer] } else { vec![answer] });
        let changed = text.replace(from, "model: gpt");
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let other = lines(text).iter().zip(lines(&changed)).filter(|(a, b)| **a != *b).count();
        assert_eq!(other, 1, "one line is changed");
        let graphs = folder(&[("a.yaml", &changed)]);
        let mut command = runloom(&["run", name, "What is the weather?", "--graphs", path(graphs.path())]);
        command.env("OPENAI_API_KEY", "sk-of-the-test");
        let said = beside(command, &fake).await;
        assert_eq!((said.code, said.out.trim()), (Some(0), "It is fine."), "{said:?}");
        let (last, used) = if name == "agent" { (1, "24 tokens in, 14 out") } else { (0, "12 tokens in, 7 out") };
        assert!(said.err.contains(used), "{}", said.err);
        let seen = fake.request(last).await;
        assert_eq!(seen.header("authorization"), Some("Bearer sk-of-the-test"));
        if name == "agent" {
            assert_eq!(seen.body["messages"][3]["tool_call_id"], json!("c1"));
            assert!(said.err.contains(r#"▸ get_weather {"city":"Oslo"}"#), "{}", said.err);
        }
    }
}

#[tokio::test]
async fn without_a_key_the_graph_loads_and_its_run_says_what_to_do() {
    let fake = FakeProvider::start().await.unwrap();
    let text = include_str!("../../../examples/agent.yaml").replace("model: bot", "model: gpt");
    let graphs = folder(&[("a.yaml", &text)]);
    let mut command = runloom(&["run", "agent", "What is the weather?", "--graphs", path(graphs.path())]);
    command.env_remove("OPENAI_API_KEY");
    let failed = beside(command, &fake).await;
    assert_ne!(failed.code, Some(0));
    let says = "openai gpt-4o-mini: there is no key: the variable OPENAI_API_KEY is not set where the server runs";
    assert!(failed.err.contains(says), "{}", failed.err);
    assert_eq!(fake.count(), 0);
}

#[tokio::test]
async fn a_key_is_in_no_log_however_much_is_logged() {
    let fake = FakeProvider::start().await.unwrap();
    let refused = openai::error(401, "Incorrect API key provided: sk-of-the-test");
    fake.answers("gpt-4o-mini", [openai::error(503, "sk-of-the-test").header("retry-after-ms", "1"), refused]);
    let text = include_str!("../../../examples/agent.yaml").replace("model: bot", "model: gpt");
    let graphs = folder(&[("a.yaml", &text)]);
    let mut command = runloom(&["run", "agent", "a secret question", "--graphs", path(graphs.path())]);
    command.env("OPENAI_API_KEY", "sk-of-the-test").env("RUST_LOG", "trace");
    let failed = beside(command, &fake).await;
    assert!(failed.err.contains("a call of a model failed and is tried again"), "it is logged");
    assert!(!failed.err.contains("sk-of-the-test") && !failed.out.contains("sk-of-the-test"), "{}", failed.err);
}
