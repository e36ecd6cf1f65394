//! Three servers on one Postgres: streams, cancels and crons across servers, a server that is killed, a rolling restart.
#![allow(missing_docs, clippy::unwrap_used)]
#![cfg(unix)]

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use futures_util::StreamExt;
use parking_lot::Mutex;
use runloom::{
    Client, ClientOptions,
    v1::{
        CancelRunRequest, Cron, GetStateRequest, JoinRunRequest, ListRunsRequest, RunSpec, RunState, StreamMode,
        StreamRunResponse, stream_run_response::Payload,
    },
};
use runloom_store_postgres::testing::{self, free_port};
use tokio::net::{TcpListener, TcpStream};

/// How long anything may take.
const DEADLINE: Duration = Duration::from_secs(90);
/// The lease of a server.
const LEASE: &str = "2s";
const STEPS: i64 = 40;

/// Counts to 40 and notes every step; so many milliseconds a step.
const GRAPH: &str = r#"
runloom: v1
name: count
state:
  n: { schema: { type: integer } }
  ms: { schema: { type: integer } }
  log: { reducer: append }
nodes:
  one: { steps: [ { emit: '{"n": state.n}' }, { sleep_ms: state.ms }, { update: { n: 'state.n + 1', log: '[state.n]' } } ] }
edges:
  - { from: START, to: one }
  - { from: one, route: 'state.n < 40 ? "one" : "END"', to: [one, END] }
"#;

/// A server in a process of its own.
struct Replica {
    child: Child,
    port: u16,
}

impl Replica {
    fn start(store: &str, graphs: &std::path::Path) -> Self {
        let port = free_port();
        let mut child = Command::new(env!("CARGO_BIN_EXE_runloom"))
            .args(["serve", "--http", "off", "--lease-ttl", LEASE, "--drain-timeout", "1s"])
            .args(["--grpc", &format!("127.0.0.1:{port}"), "--graphs"])
            .arg(graphs)
            .env("RUNLOOM_STORE", store)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        while !lines.next().expect("the server ended").unwrap().contains(&port.to_string()) {}
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, port }
    }

    async fn client(&self) -> Client {
        Client::connect_with(format!("127.0.0.1:{}", self.port), ClientOptions::default()).await.unwrap()
    }

    fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap().success());
    }

    /// Has it drain and end.
    async fn stop(mut self) {
        self.signal("-TERM");
        tokio::task::spawn_blocking(move || self.child.wait().unwrap()).await.unwrap();
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Cluster {
    url: String,
    graphs: tempfile::TempDir,
}

impl Cluster {
    async fn new() -> Option<Self> {
        let Some(postgres) = testing::server() else {
            eprintln!("skipped: RUNLOOM_POSTGRES is not set; ./test rust sets it");
            return None;
        };
        let graphs = tempfile::tempdir().unwrap();
        std::fs::write(graphs.path().join("count.yaml"), GRAPH).unwrap();
        Some(Self { url: postgres.url(&postgres.database().await), graphs })
    }

    async fn start(&self) -> Replica {
        let (url, graphs) = (self.url.clone(), self.graphs.path().to_owned());
        tokio::task::spawn_blocking(move || Replica::start(&url, &graphs)).await.unwrap()
    }

    async fn three(&self) -> [Replica; 3] {
        [self.start().await, self.start().await, self.start().await]
    }
}

fn spec(ms: u64) -> RunSpec {
    RunSpec::graph("count")
        .with_new_thread(uuid::Uuid::new_v4().to_string())
        .with_input(serde_json::json!({"n": 0, "ms": ms}))
        .with_modes([StreamMode::Custom, StreamMode::Updates])
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("{what} takes too long"))
}

/// All parts of a run, as a server gives them.
async fn join(client: &Client, run: &str) -> Vec<StreamRunResponse> {
    let request = JoinRunRequest { run_id: run.to_owned(), ..JoinRunRequest::default() };
    within("the join", client.join_run(request).map(Result::unwrap).collect()).await
}

fn end(parts: &[StreamRunResponse]) -> RunState {
    match &parts.last().unwrap().payload {
        Some(Payload::End(end)) => end.state(),
        other => panic!("no end but {other:?}"),
    }
}

/// The run succeeded, its log has no number twice, and its state has every step once.
async fn check(client: &Client, run: &str, thread: &str) {
    let parts = join(client, run).await;
    assert_eq!(end(&parts), RunState::Succeeded, "{run}");
    let ends = parts.iter().filter(|part| matches!(part.payload, Some(Payload::End(_)))).count();
    assert_eq!(ends, 1, "{run}");
    let seqs: Vec<u64> = parts.iter().map(|part| part.seq).filter(|seq| *seq > 0).collect();
    assert!(seqs.windows(2).all(|pair| pair[1] > pair[0]), "{run}: {seqs:?}");
    let request = GetStateRequest { thread_id: thread.to_owned(), ..GetStateRequest::default() };
    let state = client.get_state(request).await.unwrap().checkpoint.unwrap().values.unwrap().decode().unwrap();
    assert_eq!(state["log"], serde_json::json!((0..STEPS).collect::<Vec<_>>()), "{run}");
}

fn since(part: &StreamRunResponse) -> Duration {
    let emitted = part.emit_time.unwrap();
    let emitted = Duration::new(emitted.seconds as u64, emitted.nanos as u32);
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().saturating_sub(emitted)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_streamed_and_cancelled_on_other_servers() {
    let Some(cluster) = Cluster::new().await else { return };
    let [a, b, c] = cluster.three().await;
    let run = a.client().await.create_run(spec(25)).await.unwrap();
    let mut stream = b.client().await.join_run(JoinRunRequest { run_id: run.run_id.clone(), ..Default::default() });
    let mut times = Vec::new();
    within("the stream", async {
        while let Some(part) = stream.next().await {
            let part = part.unwrap();
            if part.seq > 0 {
                times.push(since(&part));
            }
        }
    })
    .await;
    times.sort();
    let (median, longest) = (times[times.len() / 2], times[times.len() - 1]);
    eprintln!("a part on another server: median {median:?}, longest {longest:?}, of {} parts", times.len());
    assert!(median <= Duration::from_millis(50), "median {median:?}");
    check(&b.client().await, &run.run_id, &run.thread_id).await;

    let run = a.client().await.create_run(spec(5000)).await.unwrap();
    let mut stream = b.client().await.join_run(JoinRunRequest { run_id: run.run_id.clone(), ..Default::default() });
    within("the first part", async { while stream.next().await.unwrap().unwrap().seq == 0 {} }).await;
    let begun = Instant::now();
    c.client().await.cancel_run(CancelRunRequest { run_id: run.run_id.clone(), ..Default::default() }).await.unwrap();
    let parts: Vec<_> = within("the end", stream.map(Result::unwrap).collect()).await;
    assert_eq!(end(&parts), RunState::Cancelled);
    assert!(begun.elapsed() < Duration::from_secs(3), "a cancel took {:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_runs_of_a_killed_server_go_on_elsewhere_with_each_step_once() {
    let Some(cluster) = Cluster::new().await else { return };
    let [mut a, b, c] = cluster.three().await;
    let on_a = a.client().await;
    let mut runs = Vec::new();
    for _ in 0..5 {
        runs.push(on_a.create_run(spec(50)).await.unwrap());
    }
    let mut stream = b.client().await.join_run(JoinRunRequest { run_id: runs[0].run_id.clone(), ..Default::default() });
    within("some parts", async { while stream.next().await.unwrap().unwrap().seq < 8 {} }).await;
    a.child.kill().unwrap();
    let begun = Instant::now();
    let rest: Vec<_> = within("the rest", stream.map(Result::unwrap).collect()).await;
    eprintln!("a run went on and ended {:?} after its server was killed", begun.elapsed());
    assert!(rest.last().unwrap().attempt > 1, "it had ended before the kill");
    let on_c = c.client().await;
    for run in &runs {
        check(&on_c, &run.run_id, &run.thread_id).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cron_fires_once_whatever_the_number_of_servers() {
    let Some(cluster) = Cluster::new().await else { return };
    let servers = cluster.three().await;
    let on_a = servers[0].client().await;
    let run = RunSpec::graph("count").with_input(serde_json::json!({"n": 39, "ms": 0}));
    let cron = Cron { schedule: "* * * * * *".into(), run: Some(run), ..Cron::default() };
    let cron = on_a.create_cron(cron).await.unwrap();
    tokio::time::sleep(Duration::from_millis(5500)).await;
    on_a.delete_cron(runloom::v1::DeleteCronRequest { cron_id: cron.cron_id.clone() }).await.unwrap();
    let runs = on_a.list_runs(ListRunsRequest { page_size: 1000, ..Default::default() }).await.unwrap().runs;
    let mut seconds: Vec<i64> = runs.iter().map(|run| run.create_time.unwrap().seconds).collect();
    seconds.sort_unstable();
    let fired = seconds.len();
    seconds.dedup();
    assert_eq!(seconds.len(), fired, "twice in a second: {seconds:?}");
    assert!((4..=6).contains(&fired), "{seconds:?}");
}

/// A balancer: each connection goes to the next server that takes it.
struct Balancer {
    port: u16,
    servers: Arc<Mutex<Vec<u16>>>,
}

impl Balancer {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let servers = Arc::new(Mutex::new(Vec::<u16>::new()));
        let (all, next) = (servers.clone(), AtomicUsize::new(0));
        tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let ports = all.lock().clone();
                let first = next.fetch_add(1, SeqCst);
                tokio::spawn(async move {
                    for at in 0..ports.len() {
                        let port = ports[(first + at) % ports.len()];
                        if let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)).await {
                            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                            return;
                        }
                    }
                });
            }
        });
        Self { port, servers }
    }

    fn client(&self) -> Client {
        let mut options = ClientOptions::default();
        options.retry.initial_delay = Duration::from_millis(20);
        options.retry.max_delay = Duration::from_millis(500);
        options.retry.max_retries = 200;
        Client::connect_lazy(format!("127.0.0.1:{}", self.port), options).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_under_load_loses_and_doubles_nothing() {
    let Some(cluster) = Cluster::new().await else { return };
    let balancer = Balancer::start().await;
    let mut servers: Vec<Replica> = cluster.three().await.into();
    *balancer.servers.lock() = servers.iter().map(|server| server.port).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (client, stop) = (balancer.client(), stop.clone());
            tokio::spawn(async move {
                let mut runs = Vec::new();
                while !stop.load(SeqCst) {
                    let parts: Vec<_> =
                        within("a run", client.stream_run(spec(10)).map(Result::unwrap).collect()).await;
                    let seqs: Vec<u64> = parts.iter().map(|part| part.seq).filter(|seq| *seq > 0).collect();
                    assert!(seqs.windows(2).all(|pair| pair[1] > pair[0]), "{seqs:?}");
                    assert_eq!(end(&parts), RunState::Succeeded);
                    let thread = parts.iter().find_map(|part| match &part.payload {
                        Some(Payload::Metadata(meta)) => Some(meta.thread_id.clone()),
                        _ => None,
                    });
                    runs.push((parts[0].run_id.clone(), thread.unwrap(), seqs));
                }
                runs
            })
        })
        .collect();
    for at in 0..servers.len() {
        // A new one first, then the old one drains.
        let new = cluster.start().await;
        let old = std::mem::replace(&mut servers[at], new);
        *balancer.servers.lock() = servers.iter().map(|server| server.port).collect();
        within("a drain", old.stop()).await;
    }
    stop.store(true, SeqCst);
    let client = servers[0].client().await;
    let mut count = 0;
    for task in clients {
        for (run, thread, seen) in within("the clients", task).await.expect("a client saw an error") {
            check(&client, &run, &thread).await;
            // What the client saw through its reconnects is what the log has.
            let parts = join(&client, &run).await;
            let stored: Vec<u64> = parts.iter().map(|part| part.seq).filter(|seq| *seq > 0).collect();
            assert_eq!(seen, stored, "{run}");
            count += 1;
        }
    }
    eprintln!("{count} runs through three restarts");
    assert!(count >= 8, "{count} runs");
}
