//! What only a database over a network can do: several servers at once, lost connections, restarts, refusals.

#![allow(clippy::unwrap_used)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use runloom_engine::{Object, ThreadId};
use runloom_store::{
    Attempt, Claims, Error, IfExists, LogRecord, Logs, NewThread, RequestKey, RunFilter, RunThread, Runs, Store,
    TenantId, Threads, Topic,
    testing::{TestClock, new_run, record},
};
use runloom_store_postgres::{
    Listen, OpenOptions, PostgresStore,
    testing::{Server, server},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// How long anything may take.
const DEADLINE: Duration = Duration::from_secs(30);

macro_rules! server_or_skip {
    () => {
        match server() {
            Some(server) => server,
            None => {
                eprintln!("skipped: RUNLOOM_POSTGRES is not set; ./test rust sets it");
                return;
            }
        }
    };
}

async fn open(url: String) -> PostgresStore {
    PostgresStore::open(OpenOptions::new(url)).await.unwrap()
}

/// Waits until something holds.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < DEADLINE, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_servers_open_an_empty_database_at_once() {
    let server = server_or_skip!();
    let url = server.url(&server.database().await);
    let all = futures_util::future::join_all((0..10).map(|_| tokio::spawn(open(url.clone())))).await;
    for store in all {
        store.unwrap().create_thread(&TenantId::default(), NewThread::default()).await.unwrap();
    }
    let schema = PostgresStore::schema(&url).await.unwrap();
    assert_eq!(schema.found, schema.known);
}

#[tokio::test]
async fn a_newer_schema_is_refused_unless_it_says_that_this_one_can_work_on_it() {
    let server = server_or_skip!();
    let name = server.database().await;
    let url = server.url(&name);
    drop(open(url.clone()).await);
    server.execute(&name, "UPDATE runloom.schema SET version = 99").await;
    drop(open(url.clone()).await);
    server.execute(&name, "UPDATE runloom.schema SET compatible = 98").await;
    let refused = PostgresStore::open(OpenOptions::new(url)).await.unwrap_err();
    assert!(matches!(refused, Error::Newer { found: 99, .. }), "{refused}");
    assert!(refused.to_string().contains(&format!("database {name} at 127.0.0.1")), "{refused}");
}

#[tokio::test]
async fn a_database_that_cannot_be_opened_says_why_and_not_the_password() {
    let server = server_or_skip!();
    server.execute("postgres", "CREATE ROLE locked LOGIN PASSWORD 'right'").await;
    let port = server.port;
    let nobody = runloom_store_postgres::testing::free_port();
    for (url, says) in [
        (format!("postgres://locked:s3cret@127.0.0.1:{port}/postgres"), "password authentication failed"),
        (format!("postgres://owner:s3cret@127.0.0.1:{port}/nowhere"), "\"nowhere\" does not exist; create it first"),
        (format!("postgres://owner:s3cret@127.0.0.1:{nobody}/postgres"), "refused"),
        ("postgres://owner:s3cret@no.such.host.invalid/postgres".to_owned(), "at no.such.host.invalid:5432"),
        ("mysql://owner:s3cret@127.0.0.1/x".to_owned(), "postgres://user:password@host"),
    ] {
        let error = PostgresStore::open(OpenOptions::new(url)).await.unwrap_err().to_string();
        assert!(error.contains(says) && !error.contains("s3cret"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_on_one_server_is_heard_on_another() {
    let server = server_or_skip!();
    let url = server.url(&server.database().await);
    let tenant = TenantId::default();
    let a = open(url.clone()).await;
    for listen in [Listen::Direct, Listen::Off] {
        let b =
            PostgresStore::open(OpenOptions { listen: listen.clone(), ..OpenOptions::new(url.clone()) }).await.unwrap();
        let thread = a.create_thread(&tenant, NewThread::default()).await.unwrap().id;
        let mut times = Vec::new();
        for _ in 0..20 {
            let mut watch = b.watch(Topic::Thread(thread));
            let begun = Instant::now();
            a.create_run(&tenant, new_run(thread)).await.unwrap();
            tokio::time::timeout(DEADLINE, watch.changed()).await.expect("B hears nothing");
            times.push(begun.elapsed());
        }
        times.sort();
        eprintln!("{listen:?}: median {:?}, longest {:?}", times[10], times[19]);
        if listen == Listen::Direct {
            assert!(times[10] < Duration::from_millis(50), "the median of {times:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_go_by_the_clock_of_the_database() {
    let server = server_or_skip!();
    let url = server.url(&server.database().await);
    // The clocks of the two servers are years behind the database's.
    let options = OpenOptions { clock: TestClock::new(), ..OpenOptions::new(url) };
    let store = PostgresStore::open(options).await.unwrap();
    let tenant = TenantId::default();
    let ttl = Duration::from_millis(500);
    let (a, b) = (store.register_server(ttl).await.unwrap(), store.register_server(DEADLINE).await.unwrap());
    let thread = store.create_thread(&tenant, NewThread::default()).await.unwrap().id;
    let run = store.create_run(&tenant, new_run(thread)).await.unwrap().run;
    let begun = store.begin_attempt(run.current(), a, Object::default(), 0).await.unwrap();
    let stolen = store.begin_attempt(begun.attempt, b, Object::default(), 0).await;
    assert!(matches!(stolen, Err(Error::RunState { .. })), "{stolen:?}");
    until("the run is abandoned", async || store.abandoned_runs(1).await.unwrap().len() == 1).await;
    store.begin_attempt(begun.attempt, b, Object::default(), 0).await.unwrap();
}

/// A proxy that loses the answer to the next `COMMIT`, before or after the database has it.
struct Proxy {
    port: u16,
    lose: Arc<AtomicUsize>,
    forwards: Arc<AtomicBool>,
}

impl Proxy {
    async fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (lose, forwards) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(true)));
        let proxy = Self { port, lose: lose.clone(), forwards: forwards.clone() };
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let (lose, forwards) = (lose.clone(), forwards.clone());
                tokio::spawn(async move {
                    let server = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                    let (mut from_client, mut to_client) = client.into_split();
                    let (mut from_server, mut to_server) = server.into_split();
                    let back = tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
                    let mut buffer = vec![0; 64 * 1024];
                    while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
                        let is_commit = buffer[..read].windows(7).any(|text| text == b"COMMIT\0");
                        let loses = is_commit && lose.fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1)).is_ok();
                        if loses {
                            back.abort();
                            if forwards.load(SeqCst) {
                                to_server.write_all(&buffer[..read]).await.unwrap();
                                // The server answers into the void; it has committed once it ends the connection.
                                to_server.shutdown().await.unwrap();
                            }
                            return;
                        }
                        if to_server.write_all(&buffer[..read]).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        proxy
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_lost_in_a_commit_is_resolved() {
    let server = server_or_skip!();
    let name = server.database().await;
    let proxy = Proxy::start(server.port).await;
    let store = open(format!("postgres://owner@127.0.0.1:{}/{name}", proxy.port)).await;
    let tenant = TenantId::default();
    let lease = store.register_server(DEADLINE).await.unwrap();
    for forwards in [true, false] {
        proxy.forwards.store(forwards, SeqCst);
        let lose = |n| proxy.lose.store(n, SeqCst);
        lose(1);
        let thread = store.create_thread(&tenant, NewThread::default()).await.unwrap().id;
        lose(1);
        // Without a request id: a write that was repeated by guessing would be there twice.
        let run = store.create_run(&tenant, new_run(thread)).await.unwrap().run;
        let filter = RunFilter { thread: Some(thread), ..RunFilter::default() };
        assert_eq!(store.count_runs(&tenant, filter).await.unwrap(), 1, "forwarded: {forwards}");
        lose(1);
        let begun = store.begin_attempt(run.current(), lease, Object::default(), 0).await.unwrap();
        assert_eq!(begun.attempt, Attempt::new(run.id, 1));
        for seq in 1..=20 {
            lose(usize::from(seq % 5 == 0));
            store.append_log(begun.attempt, vec![record(seq, "x")]).await.unwrap();
        }
        let log = store.read_log(&tenant, run.id, 1, Default::default()).await.unwrap();
        assert_eq!(log.iter().map(|record| record.seq).collect::<Vec<_>>(), (1..=20).collect::<Vec<_>>());
        assert_eq!(proxy.lose.load(SeqCst), 0);
    }
    assert!(store.stats().failed_commits >= 14, "{:?}", store.stats());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_database_loses_nothing_that_was_acknowledged() {
    let Some(programs) = std::env::var_os("RUNLOOM_POSTGRES") else {
        eprintln!("skipped: RUNLOOM_POSTGRES is not set; ./test rust sets it");
        return;
    };
    let server = Arc::new(tokio::task::spawn_blocking(move || Server::start(programs.as_ref())).await.unwrap());
    let store = open(server.url(&server.database().await)).await;
    let mut health = store.health();
    let tenant = TenantId::default();
    let lease = store.register_server(DEADLINE).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (store, stop, tenant) = (store.clone(), stop.clone(), tenant.clone());
            tokio::spawn(async move {
                let id = ThreadId(uuid::Uuid::from_u128(writer + 1));
                let new = NewThread { id: Some(id), if_exists: IfExists::Keep, ..NewThread::default() };
                let key = Some(RequestKey { id: writer.to_string(), hash: vec![1] });
                let new = runloom_store::NewRun { thread: RunThread::Create(new), request_key: key, ..new_run(id) };
                let run = store.create_run(&tenant, new).await.unwrap().run;
                let attempt = store.begin_attempt(run.current(), lease, Object::default(), 0).await.unwrap().attempt;
                let mut seq = 0;
                while !stop.load(SeqCst) {
                    seq += 1;
                    let bytes = seq.to_string().into();
                    store.append_log(attempt, vec![LogRecord { seq, bytes }]).await.unwrap();
                    store.renew_server(lease, DEADLINE).await.ok();
                }
                (run.id, seq)
            })
        })
        .collect();
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        server.kill();
        health.wait_for(|health| !health.is_serving()).await.unwrap();
        let server = server.clone();
        tokio::task::spawn_blocking(move || server.run()).await.unwrap();
        tokio::time::timeout(DEADLINE, health.wait_for(|health| health.is_serving()))
            .await
            .expect("serves again")
            .unwrap();
    }
    stop.store(true, SeqCst);
    for writer in writers {
        let (run, last) = writer.await.expect("no write failed");
        let bounds = store.log_bounds(&tenant, run).await.unwrap();
        assert_eq!(bounds.last, last, "what was acknowledged is there");
    }
}
