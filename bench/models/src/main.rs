//! What a model's tokens cost on their way through Runloom, beside the same provider read directly.
//!
//!     cargo run --release -p runloom-bench-models
//!
//! The provider is the one of the tests, in a process of its own: it speaks OpenAI's wire as fast as it is read. Read directly
//! means with reqwest, each event parsed for its text. All sides take turns in one run.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use futures_util::{StreamExt, future::join_all};
use runloom::{
    Client,
    v1::{RunSpec, StreamMode, stream_run_response::Payload},
};
use runloom_engine::model::{ChatModel, ChatRequest};
use runloom_fake_provider::{FakeProvider, openai};
use runloom_models::{KeySource, Provider, ProviderConfig, ProviderKind};
use runloom_service::{Server, listen};
use serde_json::{Value, json};

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

const TOKENS: usize = 20_000;
const ROUNDS: usize = 5;
const FIRSTS: usize = 200;

/// Who reads.
#[derive(Clone)]
enum Side {
    Direct(reqwest::Client, String),
    Model(Provider),
    Server(Client),
}

/// How long the first token took, how long all of them, and how many there were.
type Told = (Duration, Duration, usize);

impl Side {
    fn name(&self) -> &'static str {
        match self {
            Self::Direct(..) => "directly",
            Self::Model(_) => "ChatModel",
            Self::Server(_) => "StreamRun",
        }
    }

    async fn read(&self, model: &str) -> Result<Told> {
        let began = Instant::now();
        let (mut first, mut count) = (None, 0);
        let mut token = || {
            first.get_or_insert_with(|| began.elapsed());
            count += 1;
        };
        match self {
            Self::Direct(client, url) => {
                let body = json!({"model": model, "stream": true, "messages": [{"role": "user", "content": "hi"}]});
                let mut bytes = client.post(format!("{url}/chat/completions")).json(&body).send().await?.bytes_stream();
                let mut rest = Vec::new();
                while let Some(more) = bytes.next().await {
                    rest.extend_from_slice(&more?);
                    let mut from = 0;
                    while let Some(end) = rest[from..].windows(2).position(|two| two == b"\n\n") {
                        let event = rest[from..from + end].strip_prefix(b"data: ").unwrap_or_default();
                        from += end + 2;
                        let event: Value = serde_json::from_slice(event).unwrap_or_default();
                        if event["choices"][0]["delta"]["content"].as_str().is_some_and(|text| !text.is_empty()) {
                            token();
                        }
                    }
                    rest.drain(..from);
                }
            }
            Self::Model(provider) => {
                let messages = [runloom_engine::value!({"type": "human", "content": "hi"})].into_iter().collect();
                let mut deltas = provider.stream(ChatRequest { messages, ..ChatRequest::default() });
                while let Some(delta) = deltas.next().await {
                    if !delta?.text.is_empty() {
                        token();
                    }
                }
            }
            Self::Server(client) => {
                let spec = RunSpec::graph(model)
                    .with_input(json!({"messages": [{"role": "user", "content": "hi"}]}))
                    .with_modes([StreamMode::Messages]);
                let mut parts = client.stream_run(spec);
                while let Some(part) = parts.next().await {
                    if let Some(Payload::MessageChunk(chunk)) = part?.payload
                        && !chunk.content.is_empty()
                    {
                        token();
                    }
                }
            }
        }
        Ok((first.unwrap_or_default(), began.elapsed(), count))
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    if std::env::args().nth(1).as_deref() == Some("provider") {
        return provide().await;
    }
    let mut provider =
        Command::new(std::env::current_exe()?).arg("provider").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut url = String::new();
    BufReader::new(provider.stdout.take().ok_or("no output")?).read_line(&mut url)?;
    let url = url.trim();
    let measured = measure(url).await;
    provider.kill()?;
    measured
}

/// Serves answers, until its parent ends.
async fn provide() -> Result<()> {
    let fake = FakeProvider::start().await?;
    let words = vec!["word "; TOKENS];
    // As a fast provider's leave: some events to a packet.
    fake.answers("many", [openai::text(&words).cut(4096)]);
    fake.answers("one", [openai::text(&["word"])]);
    println!("{}", fake.openai_url());
    tokio::task::spawn_blocking(|| std::io::stdin().lines().for_each(drop)).await?;
    Ok(())
}

async fn measure(url: &str) -> Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let document = |name: &str| {
        format!(
            "runloom: v1\nname: {name}\nstate: {{ messages: {{ reducer: messages }} }}\nmodels: {{ m: {{ provider: openai, model: {name}, base_url: '{url}' }} }}\n\
             nodes: {{ say: {{ chat_model: {{ model: m }} }} }}\nedges: [ {{ from: START, to: say }} ]\n"
        )
    };
    let server =
        Server::builder().document("many.yaml", document("many")).document("one.yaml", document("one")).start().await?;
    let handle = server.spawn(listen("127.0.0.1:0").await?)?;
    let client = Client::connect(handle.address().to_string()).await?;
    let direct = Side::Direct(reqwest::Client::new(), url.to_owned());
    println!("{TOKENS} tokens an answer, {ROUNDS} rounds; {FIRSTS} answers of one token; medians\n");
    println!(
        "{:<11}{:>16}{:>8}{:>20}{:>8}{:>16}{:>9}",
        "read by", "tokens/s, 1", "ratio", "tokens/s, 8 at once", "ratio", "first token", "added"
    );
    let sides = |model: &str| -> Result<Vec<Side>> {
        let config = ProviderConfig::new(ProviderKind::OpenAi, model).base_url(url).key(KeySource::None);
        Ok(vec![direct.clone(), Side::Model(Provider::new(config)?), Side::Server(client.clone())])
    };
    let (many, one) = (sides("many")?, sides("one")?);
    for (side, first) in many.iter().zip(&one) {
        side.read("many").await?;
        first.read("one").await?;
    }
    let mut rates = vec![[Vec::new(), Vec::new()]; many.len()];
    for _ in 0..ROUNDS {
        for (side, rates) in many.iter().zip(&mut rates) {
            for (at, at_once) in [1, 8].into_iter().enumerate() {
                let began = Instant::now();
                let mut tokens = 0;
                for told in join_all((0..at_once).map(|_| side.read("many"))).await {
                    tokens += told?.2;
                }
                assert_eq!(tokens, TOKENS * at_once, "{}", side.name());
                rates[at].push(tokens as f64 / began.elapsed().as_secs_f64());
            }
        }
    }
    let mut firsts = vec![Vec::new(); one.len()];
    for _ in 0..FIRSTS {
        for (side, firsts) in one.iter().zip(&mut firsts) {
            firsts.push(side.read("one").await?.0.as_secs_f64() * 1e6);
        }
    }
    let rates: Vec<[f64; 2]> = rates.into_iter().map(|of| of.map(median)).collect();
    let firsts: Vec<f64> = firsts.into_iter().map(median).collect();
    for ((side, rate), first) in many.iter().zip(&rates).zip(&firsts) {
        println!(
            "{:<11}{:>16.0}{:>8.2}{:>20.0}{:>8.2}{:>13.0} µs{:>6.0} µs",
            side.name(),
            rate[0],
            rate[0] / rates[0][0],
            rate[1],
            rate[1] / rates[0][1],
            first,
            first - firsts[0],
        );
    }
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
