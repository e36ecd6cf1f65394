//! `runloom run` in pipes: standard output, standard error and exit codes.
#![allow(missing_docs)]

mod common;

use common::{folder, path, run, run_with};
use serde_json::Value;

const JOKE: &str = "Why don't cats play poker in the jungle? Too many cheetahs.\n";

#[test]
fn output_and_status_are_separate() {
    let ended = run(&["run", "joke", "cats"]);
    assert_eq!((ended.code, ended.out.as_str()), (Some(0), JOKE));
    let status: Vec<&str> = ended.err.lines().map(|line| line.split(" 0").next().unwrap()).collect();
    assert_eq!(status[..3], ["▸ refine_topic", "✓ refine_topic 0 ms".split(" 0").next().unwrap(), "▸ generate_joke"]);
    assert!(ended.err.lines().last().unwrap().starts_with("done in "), "{}", ended.err);
}

#[test]
fn every_example_runs() {
    let weather = run(&["run", "agent", "What is the weather?"]);
    assert_eq!(weather.code, Some(0), "{weather:?}");
    assert_eq!(
        weather.out,
        "Let me look that up.\nIt is sunny in San Francisco, and 18 degrees. A light jacket will do.\n"
    );
    for expected in
        [r#"▸ get_weather {"city":"San Francisco"}"#, "• reading the answer (progress 0.9)", "84 tokens in, 19 out"]
    {
        assert!(weather.err.contains(expected), "{expected}: {}", weather.err);
    }
    let support = run(&["run", "support_agent", "Where is my order?"]);
    assert_eq!(support.code, Some(0), "{support:?}");
    assert!(support.out.starts_with("I am sorry about the delay."), "{}", support.out);
    assert!(support.err.contains("• Verifying order status… (step 1, of 3)"), "{}", support.err);

    // A run that prints nothing prints its output.
    let counted = run(&["run", "map_reduce", "a bb"]);
    assert_eq!(counted.code, Some(0), "{counted:?}");
    let output: Value = serde_json::from_str(&counted.out).unwrap();
    assert_eq!(output["summary"], serde_json::json!({"words": 2, "longest": 2}));
    assert!(output.get("text").is_none(), "not in the output: {output}");
}

#[test]
fn an_interrupt_without_an_answer_is_exit_code_3() {
    let ended = run(&["run", "approval", "tea"]);
    assert_eq!(ended.code, Some(3), "{ended:?}");
    for expected in ["? Publish this? (ask)", "  tries: 1", "--answer ANSWER", "--data DIR"] {
        assert!(ended.err.contains(expected), "{expected}: {}", ended.err);
    }
    let answered =
        run(&["run", "approval", "tea", "--answer", r#"{"approved": false}"#, "--answer", r#"{"approved": true}"#]);
    assert_eq!(answered.code, Some(0), "{answered:?}");
    assert_eq!(answered.err.matches("? Publish this?").count(), 2, "{}", answered.err);
    assert!(answered.err.contains("✓ publish"), "{}", answered.err);
}

#[test]
fn a_stored_thread_continues_in_another_process() {
    let data = tempfile::tempdir().unwrap();
    let data = path(data.path());
    let thread = "0198f3a0-0000-7000-8000-000000000001";
    let interrupted = run(&["run", "approval", "tea", "--data", data, "--thread", thread]);
    assert_eq!(interrupted.code, Some(3), "{interrupted:?}");
    let command = interrupted.err.lines().last().unwrap();
    assert_eq!(command, format!("to continue: runloom run approval --thread {thread} --answer ANSWER --data {data}"));
    let again = run(&["run", "approval", "--data", data, "--thread", thread]);
    assert_eq!(again.code, Some(3), "still open: {again:?}");
    let answer = r#"{"approved": true}"#;
    let done = run(&["run", "approval", "--data", data, "--thread", thread, "--answer", answer]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let output: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(output["status"], "published");
    let ended = run(&["run", "approval", "--data", data, "--thread", thread]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("has nothing to continue"), "{}", ended.err);
}

#[test]
fn json_prints_one_part_per_line() {
    let ended = run(&["run", "joke", "cats", "--json"]);
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""));
    let parts: Vec<Value> = ended.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(parts[0].get("metadata").is_some());
    assert_eq!(parts.last().unwrap()["end"]["state"], "RUN_STATE_SUCCEEDED");
    let text = parts.iter().filter_map(|p| p["message_chunk"]["content"][0]["text"].as_str());
    assert_eq!(text.collect::<String>(), JOKE.trim_end());
    let numbers: Vec<u64> = parts.iter().filter_map(|p| p["seq"].as_u64()).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
}

#[test]
fn named_modes_are_printed_as_json() {
    let ended = run(&["run", "joke", "cats", "--mode", "values,updates"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let lines: Vec<&str> = ended.out.lines().collect();
    assert_eq!(
        lines[..3],
        [
            r#"values {"topic":"cats"}"#,
            r#"updates refine_topic {"topic":"cats in the jungle"}"#,
            r#"values {"topic":"cats in the jungle"}"#,
        ]
    );
    assert_eq!(lines.len(), 5, "{lines:?}");
    let wrong = run(&["run", "joke", "cats", "--mode", "valeus"]);
    assert_eq!(wrong.code, Some(2));
    assert!(wrong.err.contains("values"), "{}", wrong.err);
}

// G30
#[test]
fn numbers_are_unchanged() {
    let graphs = folder(&[(
        "echo.yaml",
        "runloom: v1\nname: echo\nstate:\n  x: {}\nnodes:\n  same: { update: { x: state.x } }\nedges:\n  - { from: START, to: same }\n",
    )]);
    let input = r#"{"x":{"big":9223372036854775807,"float":1.0,"small":1e-300}}"#;
    let ended = run_with(&["run", "echo", "-", "--graphs", path(graphs.path())], input);
    assert_eq!((ended.code, ended.out.trim_end()), (Some(0), input), "{}", ended.err);
}

#[test]
fn invalid_arguments_are_exit_code_2_with_a_hint() {
    for (args, expected) in [
        (&["run", "joke"][..], "INPUT is missing"),
        (&["run", "joke", r#"{"topic": "#], "INPUT starts like a JSON object"),
        (&["run", "joke", "cats", "--context", "[1]"], "--context must be a JSON object"),
        (&["run", "joke", "cats", "--graphs", "/no/such/folder"], "/no/such/folder"),
        (&["run", "joke", "cats", "--timeout", "5"], "invalid duration `5`"),
        (&["run", "joke", "cats", "--addr", "127.0.0.1:1", "--data", "d"], "cannot be used with '--data"),
        (&["frobnicate"], "Usage: runloom"),
    ] {
        let ended = run(args);
        assert_eq!(ended.code, Some(2), "{args:?}: {ended:?}");
        assert!(ended.err.contains(expected) && ended.out.is_empty(), "{args:?}: {ended:?}");
    }
    let two = folder(&[(
        "two.yaml",
        "runloom: v1\nname: two\nstate:\n  a: {}\n  b: {}\nnodes:\n  n: { update: { a: 1 } }\nedges:\n  - { from: START, to: n }\n",
    )]);
    let text = run(&["run", "two", "hello", "--graphs", path(two.path())]);
    assert_eq!(text.code, Some(2), "{text:?}");
    assert!(text.err.contains(r#"runloom run two '{"a": …, "b": …}'"#), "{}", text.err);
}

#[test]
fn a_failure_is_exit_code_1_with_its_reason() {
    let graphs = folder(&[(
        "fails.yaml",
        "runloom: v1\nname: fails\nstate:\n  x: {}\nnodes:\n  boom: { fail: '\"no luck\"' }\nedges:\n  - { from: START, to: boom }\n",
    )]);
    let failed = run(&["run", "fails", "{}", "--graphs", path(graphs.path())]);
    assert_eq!(failed.code, Some(1), "{failed:?}");
    for expected in ["✗ boom ValueError: no luck", "error: ", "no luck", "(NODE_FAILED)"] {
        assert!(failed.err.contains(expected), "{expected}: {}", failed.err);
    }
    let unknown = run(&["run", "jok", "cats"]);
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.err.contains("did you mean `joke`?") && unknown.err.contains("(GRAPH_UNKNOWN)"), "{}", unknown.err);
    let input = run(&["run", "joke", r#"{"topic": 3}"#]);
    assert_eq!(input.code, Some(1));
    assert!(input.err.contains("input.topic"), "{}", input.err);
}

#[test]
fn an_unreachable_server_is_exit_code_4() {
    let ended = run(&["run", "joke", "cats", "--addr", "127.0.0.1:1"]);
    assert_eq!(ended.code, Some(4), "{ended:?}");
    assert!(ended.err.contains("cannot connect to 127.0.0.1:1"), "{}", ended.err);
    assert!(ended.err.contains("runloom serve --grpc 127.0.0.1:1"), "{}", ended.err);
    for args in [&["health", "--addr", "127.0.0.1:1"][..], &["runs", "list", "--addr", "127.0.0.1:1"]] {
        assert_eq!(run(args).code, Some(4), "{args:?}");
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_cancels_the_run() {
    use std::process::Stdio;

    let graphs = folder(&[(
        "slow.yaml",
        "runloom: v1\nname: slow\nstate:\n  x: {}\nnodes:\n  wait: { sleep_ms: 60000 }\nedges:\n  - { from: START, to: wait }\n",
    )]);
    let mut command = common::runloom(&["run", "slow", "{}", "--graphs", path(graphs.path())]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut err = child.stderr.take().unwrap();
    common::read_until(&mut err, "▸ wait");
    common::signal(&child, "INT");
    assert_eq!(common::wait(&mut child), Some(130));
    assert!(common::read_until(&mut err, "cancelled").contains("cancelling"));
}

#[test]
fn a_closed_output_is_not_a_failure() {
    use std::process::Stdio;

    let mut child = common::runloom(&["run", "joke", "cats", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap().as_str()), (Some(0), ""));
}

#[test]
fn the_readme_has_valid_links_and_the_help_every_command() {
    let readme = include_str!("../../../README.md");
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for link in readme.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
        let file = link.split('#').next().unwrap();
        assert!(link.starts_with("https://") || root.join(file).exists(), "{link} does not exist");
    }
    let help = run(&["--help"]).out;
    for command in ["serve", "run", "runs", "threads", "graph", "health"] {
        assert!(help.contains(&format!("\n  {command} ")), "{command}");
    }
}
