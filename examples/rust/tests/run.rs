//! The examples, as a reader would run them.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use futures_util::StreamExt;
use runloom::{
    Client,
    v1::{RunSpec, RunState, StreamMode, stream_run_response::Payload},
};
use serde_json::json;

#[test]
fn the_joke_is_told() {
    let output = Command::new(env!("CARGO_BIN_EXE_joke")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().next(), Some("Why was the cat on the keyboard? To keep an eye on the mouse."));
}

/// Ended with the test, whatever comes of it.
struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn the_approval_asks_and_goes_on() {
    let child = Command::new(env!("CARGO_BIN_EXE_approval")).arg("127.0.0.1:0").stdout(Stdio::piped()).spawn().unwrap();
    let mut served = Served(child);
    let mut line = String::new();
    BufReader::new(served.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim_start_matches("serving on ").split(';').next().unwrap();

    let client = Client::connect(address).await.unwrap();
    let thread = "0198f3a0-0000-7000-8000-000000000001";
    let run = RunSpec::graph("agent").with_new_thread(thread).with_input(json!({"topic": "tea"}));
    let mut parts = client.stream_run(run.with_modes([StreamMode::Custom]));
    let (mut statuses, mut end) = (Vec::new(), None);
    while let Some(part) = parts.next().await {
        match part.unwrap().payload {
            Some(Payload::Custom(custom)) => statuses.push(custom.payload.unwrap().decode().unwrap()),
            Some(Payload::End(ended)) => end = Some(ended),
            _ => {}
        }
    }
    assert_eq!(statuses, [json!({"status": "Writing…"})]);
    let end = end.unwrap();
    assert_eq!(end.state(), RunState::AwaitingInput);
    let asked = end.interrupts[0].value.as_ref().unwrap().decode().unwrap();
    assert_eq!(asked, json!({"question": "Publish this?", "draft": "Today we publish tea."}));

    let answered = RunSpec::graph("agent").with_thread(thread).with_resume(json!("yes"));
    let answer = client.wait_run(answered).await.unwrap();
    assert_eq!(answer.values.unwrap().decode().unwrap()["status"], "published");
}

#[test]
fn the_readme_shows_the_joke_as_it_is() {
    let (readme, joke) = (include_str!("../../../README.md"), include_str!("../src/bin/joke.rs"));
    assert!(readme.contains(joke), "copy src/bin/joke.rs into README.md");
    assert!(joke.lines().count() < 40);
}
