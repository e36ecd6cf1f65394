//! Streams over a socket: what comes, in which order, to whom, and from where.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use serde_json::json;
use support::*;

#[tokio::test]
async fn a_run_is_streamed_to_its_end() {
    let test = start().await;
    let spec = run(json!([{"emit": {"n": 1}}, {"say": ["a", "b"]}, {"set": 7}])).with_modes(all_modes());
    let parts = read(test.client.stream_run(spec)).await;
    for p in &parts {
        println!(
            "{} {} {:?} {} {:?}",
            p.seq,
            kind(p),
            p.step,
            p.task_attempt,
            p.payload.as_ref().map(|p| format!("{p:?}").chars().take(300).collect::<String>())
        );
    }
    assert_eq!(kind(&parts[0]), "metadata");
    end(&parts);
}
