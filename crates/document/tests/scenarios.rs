//! The conformance scenarios: every graph document loads, and runs to what a LangGraph server answered.
//!
//! What is compared here are the streams of values, updates and custom data, and the errors; what only a server has
//! (threads as records, runs in the background, assistants) is played against one by `tests/conformance/drive.py`.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use futures_util::StreamExt;
use runloom_document::{DocumentSet, Registry};
use runloom_engine::{
    Breakpoints, Command, Graph, Input, Object, RunConfig, ThreadId, Value,
    checkpoint::MemoryCheckpointer,
    stream::{Mode, Modes, Payload},
};

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/conformance").join(name)
}

/// The scenarios by name.
fn scenarios() -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(folder("scenarios")).expect("the scenarios are there") {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let options = serde_saphyr::options! { strict_booleans: true };
        let scenario: Value = serde_saphyr::from_str_with_options(&text, options).unwrap();
        all.insert(path.file_stem().unwrap().to_string_lossy().into_owned(), scenario);
    }
    assert!(all.len() >= 22, "only {} scenarios", all.len());
    all
}

/// The documents of a scenario, as `drive.py graphs` writes them.
fn documents(scenario: &Value) -> Vec<(String, String)> {
    let graphs = scenario.get("graphs").and_then(Value::as_object).unwrap();
    let write = |(name, graph): (&Arc<str>, &Value)| {
        let mut document: Object = [("runloom", Value::from("v1")), ("name", name.into())].into_iter().collect();
        graph.as_object().unwrap().iter().for_each(|(k, v)| document.insert(k.clone(), v.clone()));
        (format!("{name}.json"), Value::Object(document).to_string())
    };
    graphs.iter().map(write).collect()
}

#[test]
fn every_document_loads_without_a_warning() {
    let mut texts = Vec::new();
    for (name, scenario) in scenarios() {
        let own = documents(&scenario);
        let set = DocumentSet::from_texts(own.clone(), &Registry::new()).unwrap_or_else(|e| panic!("{name}: {e}"));
        for document in set.iter() {
            assert_eq!(document.warnings(), [], "{name}");
        }
        texts.extend(own);
    }
    let all = DocumentSet::from_texts(texts.clone(), &Registry::new()).unwrap();
    assert_eq!(all.len(), texts.len(), "all of them together, as a server loads them");
    assert!(all.get("inner_shared").unwrap().is_hidden());
    assert!(!all.get("subgraph_shared").unwrap().is_hidden());
}

/// A text without what differs from run to run.
fn blank(text: &str) -> String {
    let uuid =
        regex::Regex::new("(lc_run--)?[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}(-0)?").unwrap();
    let hex = regex::Regex::new(r"\b[0-9a-f]{32}\b").unwrap();
    hex.replace_all(&uuid.replace_all(text, "*"), "*").into_owned()
}

/// A value with its keys sorted and its ids blanked.
fn plain(v: &Value) -> Value {
    match v {
        Value::String(s) => blank(s).into(),
        Value::List(items) => Value::List(items.iter().map(plain).collect()),
        Value::Object(fields) => {
            // The server's own addition to a question, which its faces make.
            let kept = fields.iter().filter(|(k, _)| &***k != "response_schema");
            let mut fields: Vec<(String, Value)> = kept.map(|(k, v)| (blank(k), plain(v))).collect();
            fields.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(fields.into_iter().collect())
        }
        other => other.clone(),
    }
}

/// What an expected or an actual stream shows, part by part: `values {…}`.
fn shown(event: &str, data: &Value) -> String {
    format!("{event} {}", plain(data))
}

/// The parts of an expected answer that a graph alone can give.
fn expected_parts(answer: &Value) -> Vec<String> {
    let parts = answer.as_list().unwrap();
    let of = |part: &Value| {
        let event = part.get_str("event").unwrap_or("error").to_owned();
        let data = part.get("data").cloned().unwrap_or_default();
        match event.split('|').next() {
            Some("metadata") => None,
            Some("error") => Some(format!("error {}", data.get_str("error").unwrap_or_default())),
            _ => Some(shown(&event, &data)),
        }
    };
    parts.iter().filter_map(of).collect()
}

/// Plays one stream and gives its parts.
async fn play(graph: &Graph, thread: ThreadId, step: &Value) -> Vec<String> {
    let names = |key: &str| {
        let list = step.get(key)?.as_list()?;
        Some(Breakpoints::Nodes(list.iter().filter_map(|n| n.as_str().map(Arc::from)).collect()))
    };
    let modes: Modes = step
        .get("modes")
        .and_then(Value::as_list)
        .unwrap()
        .iter()
        .filter_map(|m| match m.as_str()? {
            "values" => Some(Mode::Values),
            "updates" => Some(Mode::Updates),
            "custom" => Some(Mode::Custom),
            _ => None,
        })
        .fold(Modes::NONE, |all, mode| all.with(mode));
    let mut config = RunConfig { modes, ..RunConfig::thread(thread) };
    config.subgraphs = step.get("subgraphs") == Some(&Value::Bool(true));
    config.interrupt_before = names("interrupt_before");
    config.interrupt_after = names("interrupt_after");
    config.context = step.get("context").cloned().unwrap_or_default();
    if let Some(limit) = step.get("config").and_then(|c| c.get("recursion_limit")).and_then(Value::as_u64) {
        config.recursion_limit = u32::try_from(limit).unwrap();
    }
    let input = match (step.get("input"), step.get("command")) {
        (_, Some(command)) => {
            let mut made = match command.get("resume") {
                Some(answer) => Command::resume(answer.clone()),
                None => Command::new(),
            };
            if let Some(update) = command.get("update").and_then(Value::as_object) {
                made = made
                    .update(update.iter().fold(runloom_engine::Update::new(), |u, (k, v)| u.set(k.clone(), v.clone())));
            }
            if let Some(goto) = command.get("goto").and_then(Value::as_str) {
                made = made.goto(goto);
            }
            Input::Command(made)
        }
        (Some(Value::Null) | None, None) => Input::Resume,
        (Some(values), None) => Input::Values(values.clone()),
    };
    let mut stream = graph.stream(input, config);
    let mut parts = Vec::new();
    while let Some(part) = stream.next().await {
        let (mode, data) = match &part.payload {
            Payload::Values(values) => {
                let mut shown = values.to_object();
                if let Some(questions) = &values.interrupts {
                    let all: Vec<Value> = questions.iter().map(|q| q.to_value()).collect();
                    shown.insert("__interrupt__", all);
                }
                ("values", Value::Object(shown))
            }
            Payload::Update(update) => ("updates", Value::Object(update.to_object())),
            Payload::Custom(data) => ("custom", data.clone()),
            other => panic!("{other:?}"),
        };
        let event = if part.namespace.is_empty() { mode.to_owned() } else { format!("{mode}|{}", part.namespace) };
        parts.push(shown(&blank(&event), &data));
    }
    if let Some(Err(error)) = stream.finished() {
        parts.push(format!("error {}", error.kind()));
    }
    parts
}

/// Plays the streams of a scenario as far as a graph alone can; gives how many were compared.
async fn compare(name: &str, scenario: &Value) -> usize {
    let text = std::fs::read_to_string(folder("expected").join(format!("{name}.json"))).unwrap();
    let expected = Value::parse(&text).unwrap();
    let set = DocumentSet::from_texts(documents(scenario), &Registry::new()).unwrap();
    let saver = Arc::new(MemoryCheckpointer::default());
    let mut threads: BTreeMap<String, ThreadId> = BTreeMap::new();
    let mut compared = 0;
    let steps = scenario.get("steps").and_then(Value::as_list).unwrap();
    for (i, step) in steps.iter().enumerate() {
        let (op, step) = step.as_object().unwrap().iter().next().unwrap();
        let only_look = ["thread", "state", "history", "get_thread", "wait", "pause_ms"].contains(&&**op);
        if &**op == "stream" {
            let graph = set.get(step.get_str("graph").unwrap());
            let can = |m: &Value| matches!(m.as_str(), Some("values" | "updates" | "custom" | "tasks"));
            let modes = step.get("modes").and_then(Value::as_list).unwrap();
            let by_id = step.get("command").is_some_and(|c| c.get("resume_by_value").is_some());
            let Some(graph) = graph else { break };
            if by_id || step.get("checkpoint").is_some() {
                // What comes after depends on what a server only can do.
                break;
            }
            let thread = *threads
                .entry(step.get_str("thread").unwrap().to_owned())
                .or_insert_with(|| ThreadId(uuid::Uuid::new_v4()));
            let graph = graph.graph().with_checkpointer(saver.clone());
            let mut got = play(&graph, thread, step).await;
            if !modes.iter().all(can) || modes.iter().any(|m| m.as_str() == Some("tasks")) {
                continue;
            }
            let mut want = expected_parts(expected.as_list().unwrap().get(i).unwrap());
            want.iter_mut().for_each(|w| *w = blank(w));
            if step.get("unordered") == Some(&Value::Bool(true)) {
                got.sort();
                want.sort();
            }
            assert_eq!(got, want, "{name}, step {i}");
            compared += 1;
        } else if !only_look {
            break;
        }
    }
    compared
}

#[tokio::test(start_paused = true)]
async fn the_streams_are_those_of_a_langgraph_server() {
    let mut compared = 0;
    for (name, scenario) in scenarios() {
        compared += compare(&name, &scenario).await;
    }
    assert!(compared >= 30, "only {compared} streams were compared");
}
