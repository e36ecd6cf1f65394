//! Recordings of LangGraph's newer protocol, played against this server: the same requests at the same points of the
//! streams, and the same answers under one renaming of ids. `tests/conformance/protocol` holds them with their graphs.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/http.rs"]
mod http;
#[path = "support/matcher.rs"]
mod matcher;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::StreamExt;
use http::{Answer, Server, parse};
use matcher::Matcher;
use regex::Regex;
use runloom_gateway::Options;
use serde_json::{Map, Value as Json, json};
use tokio::sync::Notify;

/// What the recorded server delivers only for graphs compiled with stream transformers, or not at all.
const SOMETIMES: [&str; 6] = ["updates", "custom", "tools", "tasks", "checkpoints", "input.answered"];
/// Recordings that differ on purpose, and why: `docs/differences.md`.
const DIFFER: [(&str, &str); 6] = [
    ("asked_by_older_api", "runs of the older API are part of the thread's events, also for a reader who comes later"),
    ("older_runs_seen", "the same, and their messages are streamed where they were recorded"),
    (
        "bad_commands",
        "an input that does not fit the graph is refused before a run is made; the commands of state work",
    ),
    ("commands_mid_run", "agent.getTree works over HTTP"),
    ("state_commands", "state.get, state.listCheckpoints and agent.getTree work"),
    ("thread_missing", "a stream of a thread whose id is no UUID is refused with 422, not opened and closed"),
];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/conformance/protocol")
}

fn recordings() -> Vec<(String, Json)> {
    let mut all = Vec::new();
    for (prefix, folder) in [("", folder()), ("with_transformers/", folder().join("with_transformers"))] {
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|e| e == "json") {
                let name = format!("{prefix}{}", path.file_stem().unwrap().to_string_lossy());
                all.push((name, serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()));
            }
        }
    }
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

/// Whether an event is a piece of a tool's message.
fn is_of_tool(event: &Json) -> bool {
    let last = event["params"]["namespace"].as_array().and_then(|n| n.last()?.as_str());
    event["method"] == "messages" && last.is_some_and(|s| s.starts_with("tools:call"))
}

/// A stream that is read as it comes.
struct Stream {
    recorded: Vec<Json>,
    text: Arc<Mutex<String>>,
    news: Arc<Notify>,
    task: tokio::task::JoinHandle<()>,
    /// Whether the recorded reader left before the end.
    is_cut: bool,
}

impl Stream {
    fn of(mut answer: Answer, recorded: Vec<Json>, is_cut: bool) -> Self {
        let (text, news) = (Arc::new(Mutex::new(answer.text.clone())), Arc::new(Notify::new()));
        let (shared, told) = (text.clone(), news.clone());
        let task = tokio::spawn(async move {
            while answer.more().await {
                shared.lock().unwrap().clone_from(&answer.text);
                told.notify_one();
            }
        });
        Self { recorded, text, news, task, is_cut }
    }

    /// The events that have come, but for those of channels that the recording has nothing of.
    fn events(&self) -> Vec<Json> {
        let methods: Vec<&str> = self.recorded.iter().filter_map(|e| e["method"].as_str()).collect();
        let text = self.text.lock().unwrap().clone();
        let whole = &text[..text.rfind("\n\n").map_or(0, |at| at + 2)];
        let all = parse(whole).into_iter().map(|e| e.data);
        let has_tools = self.recorded.iter().any(is_of_tool);
        all.filter(|e| {
            let method = e["method"].as_str().unwrap_or_default();
            (!SOMETIMES.contains(&method) || methods.contains(&method)) && (has_tools || !is_of_tool(e))
        })
        .collect()
    }

    /// Waits until so many events have come. Gives how many have.
    async fn until(&self, count: usize) -> usize {
        let waited = tokio::time::timeout(Duration::from_secs(6), async {
            while self.events().len() < count {
                self.news.notified().await;
            }
        });
        let _ = waited.await;
        self.events().len()
    }
}

/// Ids of the recording and those that stand for them here.
#[derive(Default)]
struct Names(HashMap<String, String>);

impl Names {
    fn learn(&mut self, want: &Json, got: &Json) {
        match (want, got) {
            (Json::String(w), Json::String(g)) => {
                for (w, g) in ids().find_iter(w).zip(ids().find_iter(g)) {
                    self.0.entry(w.as_str().to_owned()).or_insert_with(|| g.as_str().to_owned());
                }
            }
            (Json::Array(w), Json::Array(g)) => w.iter().zip(g).for_each(|(w, g)| self.learn(w, g)),
            (Json::Object(w), Json::Object(g)) => {
                w.iter().for_each(|(k, w)| self.learn(w, g.get(k).unwrap_or(&Json::Null)));
            }
            _ => {}
        }
    }

    fn fill(&self, text: &str) -> String {
        let named = |c: &regex::Captures<'_>| self.0.get(&c[0]).cloned().unwrap_or_else(|| c[0].to_owned());
        ids().replace_all(text, named).into_owned()
    }
}

fn ids() -> &'static Regex {
    static IDS: std::sync::LazyLock<Regex> = std::sync::LazyLock::new(|| {
        Regex::new("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\\b[0-9a-f]{32}\\b").unwrap()
    });
    &IDS
}

/// An answer without what differs on purpose everywhere: content is a string here and blocks there; a tool's message has its
/// id from the start here; a scripted model's usage is lost there; the order of keys in JSON texts; times; numbers, which
/// count all channels.
fn plain(value: &Json) -> Json {
    match value {
        Json::Array(items) => {
            let is_block = |b: &Json| {
                ["text", "tool_call", "invalid_tool_call"].iter().any(|kind| b["type"] == *kind)
                    && (b["type"] != "text" || b.get("index").is_some())
                    && b.get("event").is_none()
            };
            let has_text = items.iter().any(|b| b["type"] == "text");
            if !items.is_empty()
                && items.iter().all(is_block)
                && (has_text || items.iter().all(|b| b.get("content").is_none()))
                && items.iter().all(|b| b.get("id").is_some() || b.get("index").is_some())
            {
                let text: String = items.iter().filter_map(|b| b["text"].as_str()).collect();
                return text.into();
            }
            items.iter().map(plain).collect()
        }
        Json::Object(all) => {
            let is_tool = all.get("type").is_some_and(|t| t == "tool") || all.get("role").is_some_and(|r| r == "tool");
            let skipped = |key: &str| {
                ["seq", "timestamp", "event_id", "output_version", "usage", "usage_metadata"].contains(&key)
                    || is_tool && key == "id"
            };
            let calls = all.get("tool_calls").is_some();
            let mut out: Map<String, Json> = Map::new();
            for (key, value) in all.iter().filter(|(key, _)| !skipped(key)) {
                let value = if key == "tool_calls" && calls { value.clone() } else { plain(value) };
                out.insert(key.clone(), value);
            }
            // An answer's value stands twice here.
            if out.contains_key("interrupt_id") && out.contains_key("payload") {
                out.remove("value");
            }
            Json::Object(out)
        }
        Json::String(text) if text.starts_with('{') => {
            match serde_json::from_str::<std::collections::BTreeMap<String, Json>>(text) {
                Ok(fields) => format!("{fields:?}").into(),
                Err(_) => value.clone(),
            }
        }
        other => other.clone(),
    }
}

async fn play(recording: &Json) -> Result<bool, String> {
    let documents = std::fs::read_dir(folder().join("graphs")).unwrap().map(|file| {
        let path = file.unwrap().path();
        (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read_to_string(path).unwrap())
    });
    let documents: Vec<(String, String)> = documents.collect();
    let options = Options { heartbeat: Duration::from_secs(2), ..Options::default() };
    let server = Server::start_with(options, |core| core.documents = documents).await;
    let (mut names, mut streams): (Names, Vec<Stream>) = (Names::default(), Vec::new());
    let mut matcher = Matcher::default();
    let mut problems = Vec::new();
    let frames = recording["exchanges"].as_array().unwrap().iter().filter_map(|e| e["response"]["frames"].as_array());
    let ends = frames.flatten().filter_map(|f| f["at_ms"].as_u64()).max().unwrap_or_default();
    for exchange in recording["exchanges"].as_array().unwrap() {
        let (request, response) = (&exchange["request"], &exchange["response"]);
        if request.is_null() {
            continue;
        }
        for stream in &streams {
            let due = stream.recorded.iter().filter(|e| e["at_ms"].as_u64() <= exchange["at_ms"].as_u64()).count();
            stream.until(due).await;
            let events = stream.events();
            stream.recorded.iter().zip(&events).for_each(|(w, g)| names.learn(&w["data"], &g["data"]));
            for (w, g) in stream.recorded.iter().zip(&events) {
                names.learn(w, g);
            }
        }
        let method = request["method"].as_str().unwrap();
        let path = names.fill(request["path"].as_str().unwrap());
        let mut body = match &request["body"] {
            Json::String(raw) => raw.clone(),
            Json::Null => String::new(),
            body => names.fill(&body.to_string()),
        };
        if let Some(since) = request["body"]["since"].as_u64() {
            body = since_here(&body, since, &streams);
        }
        let given = request["headers"].as_object().cloned().unwrap_or_default();
        let headers: Vec<(&str, &str)> = given
            .iter()
            .filter_map(|(k, v)| Some((k.as_str(), v.as_str()?)))
            .filter(|(k, _)| !["accept-encoding", "last-event-id"].contains(&k.to_ascii_lowercase().as_str()))
            .collect();
        let mut answer = server.open(method, &path, &headers, body.as_bytes()).await;
        let label = exchange["label"].as_str().unwrap_or_default();
        if response["status"].as_u64() != Some(answer.status.into()) {
            let (status, text) = (answer.status, answer.rest().await);
            problems.push(format!("{label}: {status} and not {}: {text}", response["status"]));
            continue;
        }
        let is_stream = response.get("frames").is_some() && path.ends_with("/stream/events") && answer.status == 200;
        if is_stream {
            let frames = response["frames"].as_array().unwrap();
            let events = frames.iter().filter(|f| f["data"].get("method").is_some());
            let recorded = events.map(|f| {
                let mut event = f["data"].clone();
                event["at_ms"] = f["at_ms"].clone();
                event
            });
            let left = response["closed_at_ms"].as_u64().unwrap_or(u64::MAX);
            let is_cut = response["closed_by"] == "server" || left < ends;
            streams.push(Stream::of(answer, recorded.collect(), is_cut));
            continue;
        }
        if response.get("frames").is_some() {
            continue;
        }
        let got: Json = serde_json::from_str(&answer.rest().await).unwrap_or_default();
        names.learn(&response["body"], &got);
        if path.ends_with("/commands")
            && method == "POST"
            && let Err(what) = compare(&mut matcher, &response["body"], &got, label)
        {
            problems.push(what);
        }
    }
    let mut is_ordered = true;
    for (at, stream) in streams.iter().enumerate() {
        stream.until(stream.recorded.len()).await;
        let mut want: Vec<Json> = stream.recorded.iter().map(plain).collect();
        want.iter_mut().for_each(|e| drop(e.as_object_mut().unwrap().remove("at_ms")));
        let mut got: Vec<Json> = stream.events().iter().map(plain).collect();
        let cut = want.last().is_some_and(|e| e["method"] != "lifecycle");
        if cut || stream.is_cut {
            got.truncate(want.len());
        }
        let (want, got) = (Json::Array(want), Json::Array(got));
        if let Err(difference) = Matcher::default().matches(&want, &got, "", "") {
            is_ordered = false;
            if settle(&matcher, &want, &got).is_err() {
                problems.push(format!("stream {at}: {difference}{}", shown(&want, &got)));
            }
        }
        stream.task.abort();
    }
    drop(server);
    if problems.is_empty() { Ok(is_ordered) } else { Err(problems.join("\n    ")) }
}

/// Compares streams without the order that concurrency leaves open: namespaces are matched by what happened in them, and
/// within each of them order counts, or else, at the root alone, not.
fn settle(matcher: &Matcher, want: &Json, got: &Json) -> Result<(), String> {
    let groups = |stream: &Json| -> Vec<Json> {
        let mut groups: Vec<(Json, Vec<Json>)> = Vec::new();
        for event in stream.as_array().unwrap() {
            let at = &event["params"]["namespace"];
            match groups.iter_mut().find(|(known, _)| known == at) {
                Some((_, events)) => events.push(event.clone()),
                None => groups.push((at.clone(), vec![event.clone()])),
            }
        }
        let (root, inner): (Vec<_>, Vec<_>) = groups.into_iter().partition(|(at, _)| *at == json!([]));
        let inner = Json::Array(inner.into_iter().map(|(_, events)| Json::Array(events)).collect());
        let root = Json::Array(root.into_iter().flat_map(|(_, events)| events).collect());
        vec![matcher.settled(&inner), matcher.settled(&root)]
    };
    Matcher::default().matches(&groups(want).into(), &groups(got).into(), "", "")
}

/// Two streams beside each other, where they part.
fn shown(want: &Json, got: &Json) -> String {
    if std::env::var_os("SHOW").is_none() {
        return String::new();
    }
    let line = |e: Option<&Json>| {
        let text = e.map(|e| format!("{} {} {}", e["method"], e["params"]["namespace"], e["params"]["data"]));
        text.unwrap_or_default().chars().take(170).collect::<String>()
    };
    let (want, got) = (want.as_array().unwrap(), got.as_array().unwrap());
    (0..want.len().max(got.len()))
        .map(|i| format!("\n  want {}\n  got  {}", line(want.get(i)), line(got.get(i))))
        .collect()
}

/// The number here that stands for a recorded one: that of the event in the same place of an earlier stream.
fn since_here(body: &str, since: u64, streams: &[Stream]) -> String {
    let mut body: Json = serde_json::from_str(body).unwrap();
    let last = |s: &Stream| s.events().last().and_then(|e| e["seq"].as_u64()).unwrap_or_default();
    let found = streams.iter().find_map(|s| {
        let at = s.recorded.iter().position(|e| e["seq"] == since)?;
        s.events().get(at)?["seq"].as_u64()
    });
    let beyond = streams.iter().map(last).max().unwrap_or_default() + 1000;
    body["since"] = json!(if since == 0 { 0 } else { found.unwrap_or(beyond) });
    body.to_string()
}

/// Compares the answers to a command. Texts of errors are this server's own, their codes are not.
fn compare(matcher: &mut Matcher, want: &Json, got: &Json, label: &str) -> Result<(), String> {
    let (mut want, mut got) = (want.clone(), got.clone());
    for side in [&mut want, &mut got] {
        if let Some(fields) = side.as_object_mut() {
            fields.remove("message");
            fields.remove("meta");
        }
    }
    matcher.matches(&want, &got, label, "")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recordings_are_answered_alike() {
    let only = std::env::var("ONLY").unwrap_or_default();
    let all: Vec<_> = recordings().into_iter().filter(|(name, _)| only.is_empty() || name.contains(&only)).collect();
    let (mut agree, mut wrong) = (0, Vec::new());
    // Most of the time is spent in graphs that sleep: some are played side by side.
    let played = all.iter().map(|(name, recording)| async move { (name, play(recording).await) });
    let played: Vec<_> = futures_util::stream::iter(played).buffered(6).collect().await;
    for (name, result) in played {
        let differs = DIFFER.iter().find(|(known, _)| known == name);
        match (result, differs) {
            (Ok(is_ordered), None) => {
                agree += 1;
                println!("agrees{} {name}", if is_ordered { "       " } else { " (order)" });
            }
            (Ok(_), Some(_)) => wrong.push(format!("{name} agrees, and is listed as different")),
            (Err(_), Some((_, why))) => println!("differs        {name}: {why}"),
            (Err(what), None) => {
                println!("WRONG          {name}: {what}");
                wrong.push(name.clone());
            }
        }
    }
    println!("{agree} of {} recordings agree, {} differ on purpose", all.len(), DIFFER.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
}
