//! What the tests of running documents share.

#![allow(clippy::unwrap_used, dead_code)]

use std::sync::Arc;

use futures_util::StreamExt;
use runloom_document::{DocumentSet, Registry};
use runloom_engine::{
    Error, Graph, Input, NodeFailure, RunConfig, ThreadId, Value,
    checkpoint::MemoryCheckpointer,
    stream::{Event, Modes, Part, Payload},
};

/// A document of this name, begun for you.
pub fn document(name: &str, rest: &str) -> String {
    format!("runloom: v1\nname: {name}\n{rest}")
}

/// The graph of a document.
pub fn graph(rest: &str) -> Graph {
    graph_with(rest, &[], &Registry::new())
}

/// The graph of a document beside others, by name and what follows it.
pub fn graph_with(rest: &str, others: &[(&str, &str)], registry: &Registry) -> Graph {
    let own = [("own", rest)];
    let texts = own.iter().chain(others).map(|(name, rest)| (format!("{name}.yaml"), document(name, rest)));
    let set = DocumentSet::from_texts(texts, registry).unwrap_or_else(|e| panic!("{e}"));
    set.get("own").unwrap().graph().with_checkpointer(Arc::new(MemoryCheckpointer::default()))
}

/// A new thread.
pub fn thread() -> ThreadId {
    ThreadId(uuid::Uuid::new_v4())
}

/// How a run went.
#[derive(Debug)]
pub struct Ran {
    pub parts: Vec<Part>,
    pub result: Result<Value, Error>,
    pub questions: Vec<Value>,
}

impl Ran {
    /// What it came to.
    #[track_caller]
    pub fn values(&self) -> Value {
        self.result.clone().unwrap_or_else(|e| panic!("{e}"))
    }

    /// Why it failed.
    #[track_caller]
    pub fn failure(&self) -> NodeFailure {
        match &self.result {
            Err(Error::Node { error, .. }) => error.clone(),
            other => panic!("{other:?}"),
        }
    }

    /// The updates, by node.
    pub fn updates(&self) -> Vec<String> {
        let update = |p: &Part| {
            if let Payload::Update(u) = &p.payload { Some(Value::Object(u.to_object()).to_string()) } else { None }
        };
        self.parts.iter().filter_map(update).collect()
    }

    /// The custom data.
    pub fn custom(&self) -> Vec<Value> {
        let custom = |p: &Part| if let Payload::Custom(v) = &p.payload { Some(v.clone()) } else { None };
        self.parts.iter().filter_map(custom).collect()
    }

    /// The events.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.parts.iter().filter_map(|p| if let Payload::Event(e) = &p.payload { Some(&**e) } else { None })
    }
}

/// Runs a graph and keeps all that it tells.
pub async fn run_with(graph: &Graph, input: impl Into<Input>, config: RunConfig) -> Ran {
    let mut stream = graph.stream(input, config);
    let mut parts = Vec::new();
    while let Some(part) = stream.next().await {
        parts.push(part);
    }
    match stream.finished().unwrap() {
        Ok(finished) => Ran {
            parts,
            questions: finished.interrupts.iter().map(|q| q.value.clone()).collect(),
            result: Ok(Value::Object(finished.values)),
        },
        Err(error) => Ran { parts, questions: Vec::new(), result: Err(error) },
    }
}

/// Runs a graph on a thread of its own.
pub async fn run(graph: &Graph, input: impl Into<Input>, modes: impl Into<Modes>) -> Ran {
    run_with(graph, input, RunConfig::thread(thread()).modes(modes)).await
}
