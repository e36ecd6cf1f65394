//! A server killed with SIGKILL in the middle of runs, again and again: what was acknowledged is there after the restart,
//! runs go on from their last checkpoint, and a join from an old cursor gives what the guarantees say (G9, G13 to G17).
//!
//! SIGKILL leaves the page cache; that no acknowledgement leaves before its fdatasync is shown by `durable.rs`.
#![allow(missing_docs, clippy::unwrap_used)]
#![cfg(unix)]

#[path = "support/server.rs"]
mod server;

use std::time::Duration;

use futures_util::StreamExt;
use runloom::{
    Client, ClientOptions,
    v1::{
        Durability, GetStateRequest, JoinRunRequest, ListRunsRequest, RunSpec, RunState, StreamMode, StreamRunResponse,
        stream_run_response::Payload,
    },
};
use server::{Server, folder, free_port};

const KILLS: usize = 20;
const STEPS: i64 = 60;

const GRAPH: &str = r#"
runloom: v1
name: count
state:
  n: { schema: { type: integer } }
  log: { reducer: append }
nodes:
  one: { steps: [ { emit: '{"n": state.n}' }, { sleep_ms: 4 }, { update: { n: 'state.n + 1', log: '[state.n]' } } ] }
edges:
  - { from: START, to: one }
  - { from: one, route: 'state.n < 60 ? "one" : "END"', to: [one, END] }
"#;

fn spec(durability: Durability) -> RunSpec {
    let mut spec = RunSpec::graph("count")
        .with_new_thread(uuid::Uuid::new_v4().to_string())
        .with_input(serde_json::json!({"n": 0}))
        .with_modes([StreamMode::Updates, StreamMode::Custom, StreamMode::Values]);
    spec.durability = durability.into();
    spec
}

/// All of a run's log, as a join from a cursor gives it.
async fn join(client: &Client, run: &str, cursor: &str) -> Vec<StreamRunResponse> {
    let request = JoinRunRequest { run_id: run.to_owned(), cursor: cursor.to_owned(), ..JoinRunRequest::default() };
    let mut stream = client.join_run(request);
    let mut parts = Vec::new();
    while let Some(part) = tokio::time::timeout(Duration::from_secs(60), stream.next()).await.expect("it hangs") {
        parts.push(part.unwrap());
    }
    parts
}

// G9, G13, G14, G15, G16, G17, G20
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_by_a_killed_server() {
    let folder = folder(&[("count.yaml", GRAPH)]);
    let port = free_port();
    let mut options = ClientOptions::default();
    options.retry.initial_delay = Duration::from_millis(5);
    options.retry.max_delay = Duration::from_millis(100);
    options.retry.max_retries = 500;
    let address = format!("127.0.0.1:{port}");
    let mut server = Server::start(folder.path(), port, &[]);
    let client = Client::connect_lazy(&address, options).unwrap();

    let mut acknowledged = Vec::new();
    let mut streamed: Vec<(String, Vec<StreamRunResponse>)> = Vec::new();
    for kill in 0..KILLS {
        let durability = if kill % 2 == 0 { Durability::Async } else { Durability::Sync };
        // One in the background; its answer is an acknowledgement.
        let run = client.create_run(spec(durability)).await.unwrap();
        acknowledged.push((run.run_id.clone(), run.thread_id.clone()));
        // One that is watched: the server dies after a number of its parts, another one each time.
        let mut stream = client.stream_run(spec(durability));
        let mut parts = Vec::new();
        for _ in 0..(3 + kill * 7 % 50) {
            parts.push(stream.next().await.unwrap().unwrap());
        }
        server.kill();
        server = Server::start(folder.path(), port, &[]);
        // The same stream goes on by itself.
        while let Some(part) = tokio::time::timeout(Duration::from_secs(60), stream.next()).await.expect("it hangs") {
            parts.push(part.unwrap());
        }
        let run = parts[0].run_id.clone();
        let Some(Payload::Metadata(meta)) = &parts[0].payload else { panic!("{:?}", parts[0]) };
        acknowledged.push((run.clone(), meta.thread_id.clone()));
        streamed.push((run, parts));
    }

    // Every acknowledged run is there and came to its end, and its state is whole: no step lost, none twice.
    let wanted: Vec<i64> = (0..STEPS).collect();
    for (run, thread) in &acknowledged {
        let parts = join(&client, run, "").await;
        let Some(Payload::End(end)) = &parts.last().unwrap().payload else { panic!("{run}: no end") };
        assert_eq!(end.state(), RunState::Succeeded, "{run}: {end:?}");
        let state = client
            .get_state(GetStateRequest { thread_id: thread.clone(), ..GetStateRequest::default() })
            .await
            .unwrap();
        let values = state.checkpoint.unwrap().values.unwrap().decode().unwrap();
        assert_eq!(values["log"], serde_json::json!(wanted), "{run}");
        let numbered: Vec<u64> = parts.iter().map(|p| p.seq).filter(|s| *s > 0).collect();
        assert!(numbered.windows(2).all(|w| w[1] > w[0]), "{run}: {numbered:?}");
    }
    let listed = client.list_runs(ListRunsRequest { page_size: 1000, ..ListRunsRequest::default() }).await.unwrap();
    for (run, _) in &acknowledged {
        assert!(listed.runs.iter().any(|r| r.run_id == *run), "{run} is not listed");
    }

    let mut cut_off = 0;
    for (run, parts) in &streamed {
        // What the watcher saw: numbers grow, across the crash too, and none is used twice.
        let seen: Vec<u64> = parts.iter().map(|p| p.seq).filter(|s| *s > 0).collect();
        assert!(seen.windows(2).all(|w| w[1] > w[0]), "{run}: {seen:?}");
        assert!(matches!(parts.last().unwrap().payload, Some(Payload::End(_))));
        cut_off += usize::from(parts.iter().any(|p| p.attempt > 1));
        // A join from any cursor gives what follows it in the log, whether or not the crash took the part it stands for.
        let log: Vec<_> = join(&client, run, "").await.into_iter().filter(|p| p.seq > 0).collect();
        for part in parts.iter().filter(|p| p.seq > 0).step_by(7) {
            if matches!(part.payload, Some(Payload::End(_))) {
                continue;
            }
            let rest: Vec<u64> =
                join(&client, run, &part.cursor).await.iter().map(|p| p.seq).filter(|s| *s > 0).collect();
            let after: Vec<u64> = log.iter().map(|p| p.seq).filter(|s| *s > part.seq).collect();
            assert_eq!(rest, after, "{run} from {}", part.seq);
        }
        // What a crash took was at the end of an attempt: what is left of one is a beginning, without holes (G19).
        for attempt in 1..=log.last().unwrap().attempt {
            let of: Vec<u64> = log.iter().filter(|p| p.attempt == attempt).map(|p| p.seq).collect();
            assert!(of.windows(2).all(|w| w[1] == w[0] + 1), "{run} attempt {attempt}: {of:?}");
        }
    }
    assert!(cut_off > KILLS / 2, "only {cut_off} of {KILLS} runs were cut off by the kill");
}
