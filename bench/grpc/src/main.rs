//! StreamRun over loopback beside a bare tonic stream of the same bytes, in turns: how long until the first message, and how many of them a second.
//!
//! The bars: the first message of a run, which is on disk before it is sent, within one fdatasync and a millisecond at the median; a stream of tokens at no less
//! than a third of the bare one's messages per second. Exit 1 where one is missed.

mod bare;

use std::{
    fs::File,
    io::Write,
    os::unix::fs::FileExt,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use bytes::Bytes;
use clap::Parser;
use prost::Message;
use runloom::v1::{
    EventFilter, Json, JsonEncoding, RunSpec, StreamMode, StreamRunRequest, StreamRunResponse, json, run_spec,
    runs_client::RunsClient, stream_run_response::Payload,
};
use runloom_service::{Server, listen};
use tokio::runtime::{Builder, Runtime};
use tonic::{Streaming, transport::Channel};

/// That of the binary `runloom`. The bare stream has it too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The first message may come this much later than one fdatasync takes.
const ALLOWANCE: Duration = Duration::from_millis(1);
/// And the tokens at this part of the bare stream's pace.
const PACE: f64 = 1.0 / 3.0;

type Failure = Box<dyn std::error::Error>;

/// Compares StreamRun with a bare stream of the same bytes.
#[derive(Parser)]
struct Options {
    /// Tokens of a stream
    #[arg(long, default_value_t = 20_000)]
    tokens: usize,
    /// Streams of tokens on each side
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// First messages on each side
    #[arg(long, default_value_t = 300)]
    firsts: usize,
    /// The folder to keep everything in, on the disk that matters; else a temporary one
    #[arg(long)]
    data: Option<PathBuf>,
}

fn main() -> Result<ExitCode, Failure> {
    let options = Options::parse();
    let temporary = tempfile::tempdir()?;
    let data = options.data.clone().unwrap_or_else(|| temporary.path().to_owned());
    // The servers have threads of their own, as another process would.
    let servers = Builder::new_multi_thread().enable_all().build()?;
    let client = Builder::new_current_thread().enable_all().build()?;
    let runloom = servers.block_on(start(&options, &data))?;
    let met = client.block_on(compare(&options, &runloom, &data, &servers))?;
    servers.shutdown_background();
    Ok(if met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A server with a model that says so many words at once, in a graph that does nothing else.
async fn start(options: &Options, data: &std::path::Path) -> Result<String, Failure> {
    // White space is a chunk of its own.
    let words = vec!["token"; options.tokens.div_ceil(2)].join(" ");
    let says = |name: &str, content: &str| {
        serde_json::json!({
            "runloom": "v1", "name": name,
            "state": {"messages": {"reducer": "messages"}},
            "models": {"bot": {"scripted": {"responses": [{"content": content}]}}},
            "nodes": {"say": {"chat_model": {"model": "bot"}}},
            "edges": [{"from": "START", "to": "say"}],
        })
    };
    let server = Server::builder()
        .document("many.json", says("many", &words).to_string())
        .document("one.json", says("one", "hello").to_string())
        .data(data)
        .start()
        .await?;
    let listener = listen("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    tokio::spawn(async move { server.serve(listener, std::future::pending()).await });
    Ok(address)
}

fn request(graph: &str) -> StreamRunRequest {
    let input = serde_json::json!({"messages": [{"role": "user", "content": "go"}]}).to_string();
    StreamRunRequest {
        run: Some(RunSpec {
            target: Some(run_spec::Target::GraphName(graph.to_owned())),
            start: Some(run_spec::Start::Input(Json { encoding: Some(json::Encoding::Json(input)) })),
            stream_modes: vec![StreamMode::Messages.into()],
            event_filter: Some(EventFilter::default()),
            ..RunSpec::default()
        }),
        json_encoding: JsonEncoding::Text.into(),
        ..StreamRunRequest::default()
    }
}

async fn open(client: &mut RunsClient<Channel>, graph: &str) -> Result<Streaming<StreamRunResponse>, Failure> {
    Ok(client.stream_run(request(graph)).await?.into_inner())
}

/// Reads a stream to its end. Gives how many messages a second came, and how many.
async fn pace(client: &mut RunsClient<Channel>, graph: &str) -> Result<(f64, usize), Failure> {
    let began = Instant::now();
    let mut stream = open(client, graph).await?;
    let mut count = 0;
    let mut is_ended = false;
    while let Some(part) = stream.message().await? {
        count += 1;
        is_ended = matches!(part.payload, Some(Payload::End(_)));
    }
    if !is_ended {
        return Err("a stream without an end".into());
    }
    Ok((count as f64 / began.elapsed().as_secs_f64(), count))
}

/// How long until the first message. The rest is read off the clock.
async fn first(client: &mut RunsClient<Channel>) -> Result<Duration, Failure> {
    let began = Instant::now();
    let mut stream = open(client, "one").await?;
    stream.message().await?.ok_or("an empty stream")?;
    let elapsed = began.elapsed();
    while stream.message().await?.is_some() {}
    Ok(elapsed)
}

/// All messages of a run, as bytes.
async fn record(client: &mut RunsClient<Channel>, graph: &str) -> Result<Vec<Bytes>, Failure> {
    let mut stream = open(client, graph).await?;
    let mut messages = Vec::new();
    while let Some(part) = stream.message().await? {
        messages.push(part.encode_to_vec().into());
    }
    Ok(messages)
}

/// What it takes to put a page on the disk.
struct Disk(File);

impl Disk {
    fn new(folder: &std::path::Path) -> Result<Self, Failure> {
        let mut file = File::create(folder.join("fdatasync"))?;
        file.write_all(&[0; 4096])?;
        file.sync_all()?;
        Ok(Self(file))
    }

    fn sync(&self, round: usize) -> Result<Duration, Failure> {
        self.0.write_all_at(&[round as u8; 4096], 0)?;
        let began = Instant::now();
        self.0.sync_data()?;
        Ok(began.elapsed())
    }
}

fn median<T: PartialOrd + Copy>(values: &mut [T]) -> T {
    values.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    values[values.len() / 2]
}

async fn compare(options: &Options, runloom: &str, data: &std::path::Path, servers: &Runtime) -> Result<bool, Failure> {
    let connect = |address: String| RunsClient::connect(format!("http://{address}"));
    let mut ours = connect(runloom.to_owned()).await?;
    let (one, many) = (record(&mut ours, "one").await?, record(&mut ours, "many").await?);
    // Spawned on the servers' runtime, so that they work there.
    let mut bare_one = connect(servers.spawn(bare::serve(one)).await??).await?;
    let mut bare_many = connect(servers.spawn(bare::serve(many)).await??).await?;

    let disk = Disk::new(data)?;
    let (mut synced, mut firsts, mut bare_firsts) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..options.firsts {
        synced.push(disk.sync(round)?);
        firsts.push(first(&mut ours).await?);
        bare_firsts.push(first(&mut bare_one).await?);
    }
    let (synced, first, bare_first) = (median(&mut synced), median(&mut firsts), median(&mut bare_firsts));
    let is_prompt = first <= synced + ALLOWANCE;
    let ms = |d: Duration| d.as_secs_f64() * 1e3;
    println!("first message, median of {}", options.firsts);
    println!("  fdatasync            {:8.3} ms", ms(synced));
    println!("  a bare tonic stream  {:8.3} ms", ms(bare_first));
    let verdict = if is_prompt { "met" } else { "MISSED" };
    println!("  StreamRun            {:8.3} ms   at most fdatasync and 1 ms: {verdict}", ms(first));
    println!("  StreamRun, 99 of 100 {:8.3} ms", ms(firsts[firsts.len() * 99 / 100]));

    let (mut paces, mut bare_paces, mut messages) = (Vec::new(), Vec::new(), 0);
    for _ in 0..options.rounds {
        let (ours, count) = pace(&mut ours, "many").await?;
        let (theirs, same) = pace(&mut bare_many, "many").await?;
        if count != same {
            return Err(format!("{count} messages, and {same} from the bare stream").into());
        }
        messages = count;
        paces.push(ours);
        bare_paces.push(theirs);
    }
    let (pace, bare_pace) = (median(&mut paces), median(&mut bare_paces));
    let is_fast = pace >= bare_pace * PACE;
    println!("tokens, {messages} messages, median of {}", options.rounds);
    println!("  a bare tonic stream  {bare_pace:8.0} messages/s");
    let verdict = if is_fast { "met" } else { "MISSED" };
    println!(
        "  StreamRun            {pace:8.0} messages/s   {:.2} of it, at least a third: {verdict}",
        pace / bare_pace
    );
    Ok(is_prompt && is_fast)
}
