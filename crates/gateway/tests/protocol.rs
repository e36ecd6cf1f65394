//! Recordings of LangGraph's newer protocol, played against this server: the same requests at the same points of the
//! streams, and the same answers under one renaming of ids. `tests/conformance/protocol` holds them with their graphs.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/exact.rs"]
mod exact;
#[path = "support/http.rs"]
mod http;
#[path = "support/matcher.rs"]
mod matcher;
#[path = "support/rich.rs"]
mod rich;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use exact::{Exact, adapt};
use futures_util::StreamExt;
use http::{Answer, Server, parse};
use matcher::Matcher;
use regex::Regex;
use runloom_gateway::Options;
use serde_json::{Value as Json, json};
use tokio::sync::Notify;

/// What the recorded server delivers only for graphs compiled with stream transformers, or not at all.
const SOMETIMES: [&str; 6] = ["updates", "custom", "tools", "tasks", "checkpoints", "input.answered"];
/// Where recordings differ on purpose: the recording, and each difference exactly. `docs/differences.md` has the reasons. One
/// with a question mark is there or not: where the recording has no event, it depends on when this player looks.
const DIFFER: &[(&str, &[&str])] = &[
    // Runs of the older API are part of the thread's events, also for a reader who comes later.
    ("asked_by_older_api", &["stream 0: : n items, not n"]),
    ("older_runs_seen", &["stream 0: : n items, not n", "? stream 1: : n items, not n"]),
    // An input that does not fit the graph is refused; the commands that the protocol names work.
    (
        "bad_commands",
        &[
            r#"input a number.type: "error", not "success""#,
            r#"agent.getTree.type: "success", not "error""#,
            r#"state.get.type: "success", not "error""#,
            r#"state.listCheckpoints.type: "success", not "error""#,
            r#"state.fork.error: "no_such_checkpoint", not "unknown_command""#,
            r#"input.inject.error: "unknown_error", not "unknown_command""#,
        ],
    ),
    (
        "state_commands",
        &[
            r#"state.get.type: "success", not "error""#,
            r#"state.get.type: "success", not "error""#,
            r#"state.listCheckpoints.type: "success", not "error""#,
            r#"agent.getTree.type: "success", not "error""#,
            r#"input.inject.error: "unknown_error", not "unknown_command""#,
        ],
    ),
    // And the stream of a thread that is deleted ends.
    (
        "commands_mid_run",
        &[
            r#"agent.getTree.type: "success", not "error""#,
            r#"agent.getTree afterwards.type: "success", not "error""#,
            r#"agent.getTree in the middle.type: "success", not "error""#,
            "stream 0: : n items, not n",
        ],
    ),
    // A thread whose run was stopped has pending nodes: it is interrupted. A run that is rolled back leaves no metadata.
    ("cancel_interrupt", &[r#"thread afterwards.status: "interrupted", not "idle""#]),
    ("cancel_rollback", &["thread afterwards.metadata.graph_id is missing"]),
    ("cancel_slow", &[r#"state afterwards.tasks[n].error: null, not "CancelledError()""#]),
    ("with_transformers/cancel_slow", &[r#"state afterwards.tasks[n].error: null, not "CancelledError()""#]),
    // A thread has its values also after a failed run, as that server has it with the older API.
    ("failing_run", &[r#"thread afterwards.values: {"words":"it broke","log":["fine"]}, not null"#]),
    ("with_transformers/failing_run", &[r#"thread afterwards.values: {"words":"it broke","log":["fine"]}, not null"#]),
    // A join gives the values of the run, not an event of the newer protocol.
    ("newer_runs_older_api", &["join.type is missing"]),
    // Errors name their object.
    (
        "rich/bad_tool_call",
        &[
            r#"stream 0: [n].params.data.messages[n].invalid_tool_calls[n].error: "the arguments are not a JSON object", not "Failed to parse tool call arguments as JSON""#,
        ],
    ),
    (
        "rich/model_breaks",
        &[r#"stream 0: [n].params.data.error: "acme-1: the provider broke", not "the provider broke""#],
    ),
    // A thread id that is no UUID is refused.
    (
        "thread_missing",
        &[
            "stream, thread id is no uuid: header cache-control: None, not \"no-store\"",
            r#"stream, thread id is no uuid: 422, not 200: {"detail":"Invalid thread ID: must be a UUID"}"#,
        ],
    ),
];

/// A difference without numbers that depend on how fast a machine is.
fn steady(problem: &str) -> String {
    static COUNTS: std::sync::LazyLock<Regex> =
        std::sync::LazyLock::new(|| Regex::new(r"\[\d+\]|\d+ items, not \d+").unwrap());
    let steady = COUNTS.replace_all(
        problem,
        |found: &regex::Captures<'_>| {
            if found[0].starts_with('[') { "[n]" } else { "n items, not n" }
        },
    );
    steady.into_owned()
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/conformance/protocol")
}

fn recordings() -> Vec<(String, Json)> {
    let mut all = Vec::new();
    for prefix in ["", "with_transformers/", "rich/"] {
        let folder = folder().join(prefix);
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

async fn play(recording: &Json) -> (bool, Vec<String>) {
    let documents = std::fs::read_dir(folder().join("graphs")).unwrap().map(|file| {
        let path = file.unwrap().path();
        (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read_to_string(path).unwrap())
    });
    let documents: Vec<(String, String)> = documents.chain(rich::documents()).collect();
    let options = Options { heartbeat: Duration::from_secs(2), ..Options::default() };
    let server = Server::start_with(options, |core| {
        core.documents = documents;
        core.brought = rich::registry();
    })
    .await;
    let (mut names, mut streams): (Names, Vec<Stream>) = (Names::default(), Vec::new());
    let (mut exact, mut matcher) = (Exact::default(), Matcher::default());
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
        if let Err(what) = check_headers(&response["headers"], &answer) {
            problems.push(format!("{label}: {what}"));
        }
        if response["status"].as_u64() != Some(answer.status.into()) {
            let (status, text) = (answer.status, answer.rest().await);
            problems.push(format!("{label}: {status}, not {}: {text}", response["status"]));
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
            // Streams of the older API have recordings of their own, in `tests/conformance/expected`.
            continue;
        }
        let text = answer.rest().await;
        let got: Json = serde_json::from_str(&text).unwrap_or_default();
        names.learn(&response["body"], &got);
        let compared = if path.ends_with("/commands") && method == "POST" {
            compare(&mut exact, &response["body"], &got, label)
        } else {
            let (mut want, mut got) = (response["body"].clone(), got);
            adapt(&mut want, &mut got);
            if want.is_string() { Ok(()) } else { matcher.matches(&want, &got, label, "") }
        };
        problems.extend(compared.err());
    }
    let mut is_ordered = true;
    for (at, stream) in streams.iter().enumerate() {
        stream.until(stream.recorded.len()).await;
        problems.extend(framing(&stream.text.lock().unwrap()).err().map(|what| format!("stream {at}: {what}")));
        let (mut want, mut got) = (stream.recorded.clone(), stream.events());
        for event in want.iter_mut().chain(&mut got) {
            let is_root = event["event_id"].as_str().is_some_and(|id| id.starts_with("synth:"));
            let event = event.as_object_mut().unwrap();
            // Numbers count all channels here; ids are ids, but for those of the graph itself. `framing` looks at both.
            event.retain(|key, _| key != "at_ms" && key != "seq" && (key != "event_id" || is_root));
            event["params"].as_object_mut().unwrap().remove("timestamp");
        }
        let cut = want.last().is_some_and(|e| e["method"] != "lifecycle");
        if cut || stream.is_cut {
            got.truncate(want.len());
        }
        let (want, got) = (Json::Array(want), Json::Array(got));
        if let Err(difference) = alike(&want, &got) {
            is_ordered = false;
            if settle(&matcher, &want, &got).is_err() {
                problems.push(format!("stream {at}: {difference}{}", shown(&want, &got)));
            }
        }
        stream.task.abort();
    }
    drop(server);
    (is_ordered, problems)
}

/// Compares events, but for what differs on purpose everywhere.
fn alike(want: &Json, got: &Json) -> Result<(), String> {
    let (mut want, mut got) = (want.clone(), got.clone());
    adapt(&mut want, &mut got);
    Exact::default().compare(&want, &got, "")
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
    alike(&groups(want).into(), &groups(got).into())
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

/// Compares the answers to a command: everything, the texts of errors and `meta` too.
fn compare(exact: &mut Exact, want: &Json, got: &Json, label: &str) -> Result<(), String> {
    let (mut want, mut got) = (want.clone(), got.clone());
    for side in [&mut want, &mut got] {
        if let Some(Json::String(message)) = side.get_mut("message")
            && let Some((head, _)) = message.split_once("registered graphs: ")
        {
            *message = format!("{head}registered graphs: …");
        }
    }
    exact.compare(&want, &got, label)
}

/// Checks how the events of a stream are sent: name and id repeat what is in the event, numbers only grow, ids are unique.
fn framing(text: &str) -> Result<(), String> {
    let whole = &text[..text.rfind("\n\n").map_or(0, |at| at + 2)];
    let (mut last, mut ids) = (0, std::collections::HashSet::new());
    for block in whole.split_terminator("\n\n").filter(|block| !block.starts_with(':')) {
        let lines: Vec<&str> = block.split('\n').collect();
        let [name, data, id] = &lines[..] else { return Err(format!("not event, data and id: {block}")) };
        let event: Json = serde_json::from_str(data.strip_prefix("data: ").unwrap_or_default()).unwrap_or_default();
        let (seq, event_id) = (event["seq"].as_u64().unwrap_or_default(), event["event_id"].to_string());
        let is_framed = event["type"] == "event"
            && event["method"].as_str() == name.strip_prefix("event: ")
            && id.strip_prefix("id: ") == Some(&*seq.to_string())
            && event["params"]["timestamp"].as_u64().is_some_and(|t| t > 1_700_000_000_000);
        if !is_framed || seq <= last || !ids.insert(event_id) {
            return Err(format!("after {last}: {block}"));
        }
        last = seq;
    }
    Ok(())
}

/// The headers of an answer that a client can depend on.
fn check_headers(want: &Json, answer: &Answer) -> Result<(), String> {
    let Some(recorded) = want.as_object() else { return Ok(()) };
    for (name, value) in recorded {
        let is_compared = ["content-type", "cache-control", "x-accel-buffering"].contains(&&**name);
        if is_compared && answer.header(name) != value.as_str().map(|v| v.to_ascii_lowercase()).as_deref() {
            return Err(format!("header {name}: {:?}, not {value}", answer.header(name)));
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recordings_are_answered_alike() {
    let only = std::env::var("ONLY").unwrap_or_default();
    let all: Vec<_> = recordings().into_iter().filter(|(name, _)| only.is_empty() || name.contains(&only)).collect();
    let (mut agree, mut wrong) = (0, Vec::new());
    // Most of the time is spent in graphs that sleep: some are played side by side.
    let played = all.iter().map(|(name, recording)| async move { (name, play(recording).await) });
    let played: Vec<_> = futures_util::stream::iter(played).buffered(6).collect().await;
    for (name, (is_ordered, problems)) in played {
        let known = DIFFER.iter().find(|(known, _)| known == name).map_or(&[][..], |(_, known)| known);
        let mut problems: Vec<String> = problems.iter().map(|problem| steady(problem)).collect();
        problems.retain(|problem| !known.contains(&format!("? {problem}").as_str()));
        let known: Vec<&str> = known.iter().copied().filter(|what| !what.starts_with("? ")).collect();
        if problems == known {
            agree += 1;
            println!("agrees{} {name}", if is_ordered { "       " } else { " (order)" });
            continue;
        }
        println!("WRONG          {name}");
        problems.iter().for_each(|what| println!("    {what}"));
        wrong.push(name.clone());
    }
    println!("{agree} of {} recordings agree, {} of them with differences on purpose", all.len(), DIFFER.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
}
