//! Runs the shapes of LangGraph's own benchmarks in Runloom's engine, as `bench/run` asks line by line.
//!
//! A request is a line of JSON, `{"shape": "sequential_1000", "checkpointer": "none", "seconds": 0.5}`; the answer is one too:
//! the milliseconds of every run, and of the first run how many parts its stream had and what they weighed, by which
//! `bench/run` knows that both sides did the same work. `langgraph_shapes.py` answers to the same requests.

mod shapes;
mod weigh;

use std::{
    io::{BufRead, Write},
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use runloom_engine::{
    RunConfig, ThreadId,
    checkpoint::{Durability, MemoryCheckpointer},
    stream::{Payload, UpdatePart},
};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Request {
    shape: String,
    checkpointer: Kept,
    seconds: f64,
}

/// What a run leaves.
#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Kept {
    /// No checkpointer.
    None,
    /// A checkpoint of every step, in memory.
    Memory,
    /// One checkpoint, of the end: how LangGraph's own benchmarks are set.
    Exit,
}

#[derive(Serialize, Default)]
struct Answer {
    ms: Vec<f64>,
    parts: usize,
    weight: u64,
}

type Failure = Box<dyn std::error::Error>;

/// One thread, as LangGraph has one event loop.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    for line in std::io::stdin().lock().lines() {
        let answer = measure(&serde_json::from_str(&line?)?).await?;
        println!("{}", serde_json::to_string(&answer)?);
        std::io::stdout().flush()?;
    }
    Ok(())
}

/// Runs a shape for so many seconds, twice at least; the first run is not counted.
async fn measure(request: &Request) -> Result<Answer, Failure> {
    let shape = shapes::of(&request.shape)?;
    let mut answer = Answer::default();
    let until = Instant::now() + Duration::from_secs_f64(request.seconds);
    let mut is_first = true;
    while is_first || answer.ms.is_empty() || Instant::now() < until {
        // A checkpointer of its own for each run, made and dropped off the clock.
        let graph = match request.checkpointer {
            Kept::None => shape.graph.clone(),
            _ => shape.graph.with_checkpointer(Arc::new(MemoryCheckpointer::default())),
        };
        let input = shape.input.clone();
        let config = RunConfig {
            thread_id: Some(ThreadId(uuid::Uuid::now_v7())),
            recursion_limit: u32::MAX,
            durability: if matches!(request.checkpointer, Kept::Exit) { Durability::Exit } else { Durability::Async },
            ..RunConfig::default()
        };
        // Held until the end: somebody can cancel the run all the while.
        let cancel = config.cancel.clone();
        if is_first {
            let mut stream = graph.stream(input, config);
            while let Some(part) = stream.next().await {
                answer.parts += 1;
                if let Payload::Update(UpdatePart::Node { value, .. }) = part.payload {
                    answer.weight += weigh::weigh(&value);
                }
            }
            stream.finished().ok_or("no end")??;
            is_first = false;
        } else {
            let start = Instant::now();
            let mut stream = graph.stream(input, config);
            let mut parts = 0;
            while stream.next().await.is_some() {
                parts += 1;
            }
            stream.finished().ok_or("no end")??;
            drop(stream);
            answer.ms.push(start.elapsed().as_secs_f64() * 1e3);
            if parts != answer.parts {
                return Err(format!("{parts} parts, and {} the first time", answer.parts).into());
            }
        }
        drop(cancel);
    }
    Ok(answer)
}
