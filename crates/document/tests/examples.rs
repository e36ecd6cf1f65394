//! The example documents run to their ends, without a key, and stream on the way.

#![allow(clippy::unwrap_used)]

use std::{path::PathBuf, sync::Arc};

use futures_util::StreamExt;
use runloom_document::{Document, DocumentSet, Registry};
use runloom_engine::{
    Command, Input, RunConfig, ThreadId, Value,
    checkpoint::MemoryCheckpointer,
    stream::{Chunk, EventKind, Mode, Modes, Part, Payload},
    value,
};

fn examples() -> DocumentSet {
    DocumentSet::load_dir(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples"), &Registry::new()).unwrap()
}

struct Run {
    parts: Vec<Part>,
    values: Value,
    questions: Vec<Value>,
}

/// Runs a document on a thread of its own, or goes on with one.
struct Thread {
    document: Document,
    saver: Arc<MemoryCheckpointer>,
    id: ThreadId,
}

impl Thread {
    fn new(name: &str) -> Self {
        let document = examples().get(name).unwrap_or_else(|| panic!("no example `{name}`")).clone();
        Self { document, saver: Arc::default(), id: ThreadId(uuid::Uuid::new_v4()) }
    }

    async fn run(&self, input: impl Into<Input>, modes: impl Into<Modes>) -> Run {
        let graph = self.document.graph().with_checkpointer(self.saver.clone());
        let mut stream = graph.stream(input, RunConfig::thread(self.id).modes(modes));
        let mut parts = Vec::new();
        while let Some(part) = stream.next().await {
            parts.push(part);
        }
        let finished = stream.finished().unwrap().unwrap();
        let questions = finished.interrupts.iter().map(|q| q.value.clone()).collect();
        Run { parts, values: Value::Object(finished.values), questions }
    }
}

impl Run {
    fn custom(&self) -> Vec<Value> {
        let custom = |p: &Part| if let Payload::Custom(v) = &p.payload { Some(v.clone()) } else { None };
        self.parts.iter().filter_map(custom).collect()
    }

    fn tokens(&self) -> Vec<String> {
        let token = |p: &Part| match &p.payload {
            Payload::Message(m) => match &*m.chunk {
                Chunk::Delta { text, .. } => Some(text.to_string()),
                Chunk::Whole(_) => None,
            },
            _ => None,
        };
        self.parts.iter().filter_map(token).collect()
    }
}

#[test]
fn every_example_is_described_and_without_a_warning() {
    let set = examples();
    let names: Vec<String> = set.iter().map(|d| d.name().to_string()).collect();
    for name in ["approval", "handbook", "joke", "map_reduce", "resume", "support_agent", "agent"] {
        assert!(names.iter().any(|n| n == name), "{name} is missing of {names:?}");
    }
    for document in set.iter() {
        assert_eq!(document.warnings(), [], "{}", document.name());
        assert!(document.description().len() > 20, "{} needs a description", document.name());
        assert_eq!(&**document.file(), format!("{}.yaml", document.name()), "a file is called as its graph");
    }
}

#[tokio::test(start_paused = true)]
async fn the_agent_calls_its_tool_and_answers_in_tokens() {
    let thread = Thread::new("agent");
    let modes = Modes::from(Mode::Messages).with(Mode::Custom).with(Mode::Events);
    let run = thread.run(value!({"messages": [{"role": "user", "content": "How is it in SF?"}]}), modes).await;
    let messages = run.values.get("messages").and_then(Value::as_list).unwrap();
    let kinds: Vec<&str> = messages.iter().map(|m| m.get_str("type").unwrap()).collect();
    assert_eq!(kinds, ["human", "ai", "tool", "ai"]);
    let tool = messages.get(2).unwrap();
    assert_eq!(tool.get_str("content"), Some(r#"{"city": "San Francisco", "sky": "sunny", "degrees": 18}"#));
    assert_eq!(
        tool.get("tool_call_id"),
        messages.get(1).unwrap().get("tool_calls").unwrap().as_list().unwrap().get(0).unwrap().get("id")
    );
    let statuses: Vec<Value> = run.custom().iter().map(|c| c.get("progress").unwrap().clone()).collect();
    assert_eq!(Value::from(statuses), value!([0.1, 0.9]));
    assert!(run.tokens().len() > 20, "the answers come in tokens: {:?}", run.tokens());
    assert!(run.tokens().concat().ends_with("A light jacket will do."));
    let kinds: Vec<EventKind> = run
        .parts
        .iter()
        .filter_map(|p| if let Payload::Event(e) = &p.payload { Some((e.kind, &*e.name)) } else { None })
        .filter(|(_, name)| *name == "get_weather")
        .map(|(kind, _)| kind)
        .collect();
    assert_eq!(kinds, [EventKind::ToolStart, EventKind::ToolEnd]);
}

#[tokio::test(start_paused = true)]
async fn the_support_agent_says_what_it_does_before_it_answers() {
    let thread = Thread::new("support_agent");
    let modes = Modes::from(Mode::Messages).with(Mode::Custom).with(Mode::Events);
    let run = thread.run(value!({"messages": [{"role": "user", "content": "Where is my order?"}]}), modes).await;
    let statuses: Vec<String> = run.custom().iter().map(|c| c.get_str("status").unwrap().to_owned()).collect();
    assert_eq!(
        statuses,
        ["Verifying order status…", "Found order A-1042", "Checking the refund policy…", "Refunding 4.9 to your card…"]
    );
    let progress: Vec<Value> = run
        .parts
        .iter()
        .filter_map(|p| if let Payload::Event(e) = &p.payload { Some(e) } else { None })
        .filter(|e| e.kind == EventKind::Custom && &*e.name == "progress")
        .map(|e| e.data.custom.as_ref().unwrap().get("percent").unwrap().clone())
        .collect();
    assert_eq!(Value::from(progress), value!([10, 45, 80]));
    assert!(run.tokens().len() > 30);
    assert!(run.tokens().concat().contains("will arrive on Thursday"));
    assert_eq!(run.values.get("refund").unwrap().get("amount"), Some(&Value::Float(4.9)));
}

const JOKE: &str = "Why don't cats play poker in the jungle? Too many cheetahs.";

#[tokio::test(start_paused = true)]
async fn the_joke_takes_only_a_topic() {
    let thread = Thread::new("joke");
    let run = thread.run(value!({"topic": "cats", "joke": "mine"}), Mode::Messages).await;
    assert_eq!(run.values, value!({"topic": "cats in the jungle", "joke": JOKE}));
    assert_eq!(run.tokens().concat(), JOKE);
}

#[tokio::test(start_paused = true)]
async fn the_draft_waits_for_a_person_and_is_written_again_if_they_say_so() {
    let thread = Thread::new("approval");
    let run = thread.run(value!({"topic": "a release"}), Modes::NONE).await;
    assert_eq!(run.questions.len(), 1);
    let first = run.questions[0].get_str("draft").unwrap().to_owned();
    assert_eq!(run.values.get_str("status"), Some("waiting"));
    let run = thread.run(Command::resume(value!({"approved": false, "note": "less loud"})), Modes::NONE).await;
    let second = run.questions[0].get_str("draft").unwrap().to_owned();
    assert_ne!(first, second, "the note makes another draft");
    assert_eq!(run.questions[0].get("tries"), Some(&Value::Int(2)));
    let run = thread.run(Command::resume(value!({"approved": true})), Modes::NONE).await;
    assert_eq!(run.questions.len(), 0);
    assert_eq!(run.values.get_str("status"), Some("published"));
    assert_eq!(run.values.get("notes"), Some(&value!(["less loud"])));
}

#[tokio::test(start_paused = true)]
async fn the_workers_results_come_in_the_order_of_the_words() {
    let thread = Thread::new("map_reduce");
    let run = thread.run(value!({"text": "a  longer word"}), Mode::Custom).await;
    assert_eq!(
        run.values,
        value!({
            "counted": [{"word": "a", "letters": 1}, {"word": "longer", "letters": 6}, {"word": "word", "letters": 4}],
            "summary": {"words": 3, "longest": 6}
        })
    );
    let done: Vec<Value> = run.custom().iter().map(|c| c.get("counted").unwrap().clone()).collect();
    assert_eq!(Value::from(done), value!(["longer", "word", "a"]), "told as each is done, the longest first");
    let run = Thread::new("map_reduce").run(value!({"text": " "}), Modes::NONE).await;
    assert_eq!(run.values.get("counted"), Some(&value!([])));
}

#[tokio::test(start_paused = true)]
async fn the_handbook_answers_with_the_closest_passage() {
    for (question, found) in [
        ("How much does a parcel to Norway cost?", "parcels"),
        ("When is the shop open on Saturday?", "opening"),
        ("I want to return goods and get a refund", "returns"),
    ] {
        let run = Thread::new("handbook").run(value!({"question": question}), Mode::Custom).await;
        let first = run.custom()[0].get("found").unwrap().as_list().unwrap().get(0).unwrap().clone();
        assert_eq!(first, value!(found), "{question}");
        let passages = run.values.get("passages").unwrap().as_list().unwrap();
        assert_eq!(passages.get(0).unwrap().get_str("page_content"), run.values.get_str("answer"));
    }
}

#[tokio::test(start_paused = true)]
async fn the_two_slow_steps_run_in_order() {
    let run = Thread::new("resume").run(value!({"ms": 20}), Mode::Custom).await;
    assert_eq!(run.values, value!({"done": ["fetch", "summarize"]}));
    assert_eq!(run.custom().len(), 2);
}
