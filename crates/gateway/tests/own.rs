//! The scenarios of `tests/conformance/own` over HTTP, on both stores, as far as they need no client: those whose steps are
//! drive.py's, bare requests, or reads of a state and a history. What `pending.yaml` lists must differ.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/http.rs"]
mod http;
#[path = "support/matcher.rs"]
mod matcher;

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use http::{Server, parse};
use matcher::Matcher;
use regex::{Captures, Regex};
use runloom_core::store::Store;
use runloom_gateway::Options;
use runloom_store_memory::MemoryStore;
use runloom_store_sqlite::{OpenOptions, SqliteStore};
use serde_json::{Map, Value as Json, json};

const STEPS: [&str; 20] = [
    "thread",
    "pause_ms",
    "stream",
    "wait",
    "create_run",
    "join",
    "get_run",
    "list_runs",
    "cancel",
    "state",
    "history",
    "update_state",
    "get_thread",
    "delete_thread",
    "search_assistants",
    "assistant_graph",
    "store_put",
    "store_get",
    "store_delete",
    "http",
];
/// Of a client's methods, these.
const CALLS: [&str; 2] = ["get_state", "get_history"];
const NOTHING: &str = "00000000-0000-4000-8000-000000000000";

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/conformance/own")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(folder().join(path)).unwrap()
}

fn op(step: &Json) -> (&str, &Json) {
    let (op, a) = step.as_object().unwrap().iter().next().unwrap();
    (op, a)
}

fn is_playable(step: &Json) -> bool {
    match op(step) {
        ("call", a) => CALLS.contains(&a["do"].as_str().unwrap()),
        // Reads so many events of a stream that does not end.
        ("http", a) => a.get("first").is_none(),
        (op, _) => STEPS.contains(&op) || step.get("thread").is_some(),
    }
}

fn at(value: &Json, path: &str) -> Json {
    let step = |value: &Json, key: &str| match value {
        Json::Array(items) => key.parse::<usize>().ok().and_then(|i| items.get(i)).cloned().unwrap_or_default(),
        other => other.get(key).cloned().unwrap_or_default(),
    };
    path.split('.').filter(|p| !p.is_empty()).fold(value.clone(), |value, key| step(&value, key))
}

fn picked(answer: Json, keys: Option<&Vec<Json>>) -> Json {
    match (answer, keys) {
        (Json::Array(all), Some(_)) => all.into_iter().map(|one| picked(one, keys)).collect(),
        (Json::Object(all), Some(keys)) => {
            let all = Json::Object(all);
            let one = |key: &Json| (key.as_str().unwrap().to_owned(), at(&all, key.as_str().unwrap()));
            Json::Object(keys.iter().map(one).collect())
        }
        (answer, _) => answer,
    }
}

/// The parts of a stream, but for its end.
fn parts(text: &str) -> Json {
    let all = parse(text).into_iter().filter(|e| e.name != "end");
    all.map(|e| json!({"event": e.name, "data": e.data})).collect()
}

struct Player {
    server: Server,
    /// By table and name: what stands for `$thread.t`.
    names: HashMap<(String, String), Json>,
    reference: Regex,
}

impl Player {
    fn named(&self, table: &str, name: &str) -> String {
        let known = self.names.get(&(table.to_owned(), name.to_owned())).and_then(Json::as_str);
        known.unwrap_or(NOTHING).to_owned()
    }

    fn keep(&mut self, a: &Json, answer: &Json) {
        let Some(name) = a["as"].as_str() else { return };
        self.names.insert(("kept".to_owned(), name.to_owned()), answer.clone());
        for table in ["thread", "run", "assistant"] {
            if let Some(id) = answer.get(format!("{table}_id")) {
                self.names.insert((table.to_owned(), name.to_owned()), id.clone());
            }
        }
    }

    fn filled(&self, a: &Json) -> Json {
        let value = |c: &Captures<'_>| {
            let known = self.names.get(&(c[1].to_owned(), c[2].to_owned())).cloned().unwrap_or_default();
            Some(at(&known, &c[3])).filter(|v| !v.is_null()).unwrap_or_else(|| NOTHING.into())
        };
        match a {
            Json::Object(all) => Json::Object(all.iter().map(|(k, v)| (k.clone(), self.filled(v))).collect()),
            Json::Array(all) => all.iter().map(|v| self.filled(v)).collect(),
            Json::String(text) => match self.reference.captures(text) {
                Some(c) if c[0] == **text => value(&c),
                _ => {
                    let text = self.reference.replace_all(text, |c: &Captures<'_>| match value(c) {
                        Json::String(text) => text,
                        other => other.to_string(),
                    });
                    text.into_owned().into()
                }
            },
            other => other.clone(),
        }
    }

    fn body(&self, a: &Json) -> Json {
        let mut body = Map::new();
        body.insert("assistant_id".to_owned(), a["graph"].clone());
        for (from, to) in [
            ("input", "input"),
            ("config", "config"),
            ("context", "context"),
            ("metadata", "metadata"),
            ("interrupt_before", "interrupt_before"),
            ("interrupt_after", "interrupt_after"),
            ("durability", "durability"),
            ("multitask", "multitask_strategy"),
            ("modes", "stream_mode"),
            ("subgraphs", "stream_subgraphs"),
            ("command", "command"),
        ] {
            if let Some(value) = a.get(from) {
                body.insert(to.to_owned(), value.clone());
            }
        }
        if let Some(by_value) = a["command"].get("resume_by_value") {
            let state = &self.names[&("kept".to_owned(), by_value["from"].as_str().unwrap().to_owned())];
            let asked = state["tasks"].as_array().unwrap().iter().flat_map(|t| t["interrupts"].as_array().unwrap());
            let answer =
                |q: &Json| Some((q["id"].as_str()?.to_owned(), by_value["answers"].get(q["value"].as_str()?)?.clone()));
            body.insert("command".to_owned(), json!({"resume": Json::Object(asked.filter_map(answer).collect())}));
        }
        if let Some(place) = self.place(a) {
            body.insert("checkpoint".to_owned(), place);
        }
        body.into()
    }

    fn place(&self, a: &Json) -> Option<Json> {
        let c = a.get("checkpoint")?;
        let history = &self.names[&("kept".to_owned(), c["from"].as_str()?.to_owned())];
        Some(history[c["index"].as_u64()? as usize]["checkpoint"].clone())
    }

    /// Answers as a client shows them: what came, nothing, or the status of an error.
    async fn ask(&self, method: &str, path: &str, body: Json) -> Json {
        match self.server.json(method, path, body).await {
            (status, _) if status >= 400 => json!({"error": {"status": status}}),
            (_, answer) => answer,
        }
    }

    async fn step(&mut self, step: &Json) -> Json {
        // A name such as `n` or `y` is no text to every reader of YAML.
        let named = |name: &Json| name.as_str().map_or_else(|| name.to_string(), str::to_owned);
        if let Some(name) = step.get("thread").map(named) {
            let metadata = step.get("metadata").cloned().unwrap_or_else(|| json!({}));
            let made = self.ask("POST", "/threads", json!({ "metadata": metadata })).await;
            self.names.insert(("thread".to_owned(), name), made["thread_id"].clone());
            return made;
        }
        let (op, a) = op(step);
        let a = if op == "http" || op == "call" { self.filled(a) } else { a.clone() };
        let thread =
            a.get("thread").map(|t| format!("/threads/{}", self.named("thread", &named(t)))).unwrap_or_default();
        let run = format!("{thread}/runs/{}", self.named("run", a["run"].as_str().unwrap_or_default()));
        let answer = match op {
            "pause_ms" => {
                tokio::time::sleep(std::time::Duration::from_millis(a.as_u64().unwrap())).await;
                Json::Null
            }
            "stream" => {
                let body = self.body(&a).to_string();
                let mut answer = self.server.open("POST", &format!("{thread}/runs/stream"), &[], body.as_bytes()).await;
                let text = answer.rest().await;
                if answer.status < 400 { parts(&text) } else { json!([{"error": {"status": answer.status}}]) }
            }
            "wait" => self.ask("POST", &format!("{thread}/runs/wait"), self.body(&a)).await,
            "create_run" => self.ask("POST", &format!("{thread}/runs"), self.body(&a)).await,
            "join" => self.ask("GET", &format!("{run}/join"), Json::Null).await,
            "get_run" => self.ask("GET", &run, Json::Null).await,
            "list_runs" => self.ask("GET", &format!("{thread}/runs"), Json::Null).await,
            "cancel" => {
                let wait = a["wait"] == true;
                let action = a["action"].as_str().unwrap_or("interrupt");
                let answer = self.ask("POST", &format!("{run}/cancel?wait={wait}&action={action}"), json!({})).await;
                if answer.get("error").is_some() { answer } else { Json::Null }
            }
            "state" => {
                self.ask("GET", &format!("{thread}/state?subgraphs={}", a["subgraphs"] == true), Json::Null).await
            }
            "history" => {
                let limit = a.get("limit").cloned().unwrap_or_else(|| 50.into());
                self.ask("POST", &format!("{thread}/history"), json!({ "limit": limit })).await
            }
            "update_state" => {
                let body = json!({"values": a["values"], "as_node": a["as_node"], "checkpoint": self.place(&a)});
                self.ask("POST", &format!("{thread}/state"), body).await
            }
            "get_thread" => self.ask("GET", &thread, Json::Null).await,
            "delete_thread" => self.ask("DELETE", &thread, Json::Null).await,
            "search_assistants" => self.ask("POST", "/assistants/search", json!({"graph_id": a["graph"]})).await,
            "assistant_graph" => {
                self.ask("GET", &format!("/assistants/{}/graph", a["graph"].as_str().unwrap()), Json::Null).await
            }
            "store_put" => self.ask("PUT", "/store/items", a.clone()).await,
            "store_get" => {
                let parts: Vec<&str> = a["namespace"].as_array().unwrap().iter().map(|p| p.as_str().unwrap()).collect();
                let path = format!("/store/items?namespace={}&key={}", parts.join("."), a["key"].as_str().unwrap());
                self.ask("GET", &path, Json::Null).await
            }
            "store_delete" => self.ask("DELETE", "/store/items", a.clone()).await,
            "call" => {
                let thread = format!("/threads/{}", a["of"][0].as_str().unwrap());
                match a["do"].as_str() {
                    Some("get_state") => self.ask("GET", &format!("{thread}/state"), Json::Null).await,
                    _ => {
                        self.ask(
                            "POST",
                            &format!("{thread}/history"),
                            a.get("with").cloned().unwrap_or_else(|| json!({})),
                        )
                        .await
                    }
                }
            }
            "http" => self.request(&a).await,
            other => panic!("unknown step {other}"),
        };
        self.keep(&a, &answer);
        picked(answer, a["pick"].as_array())
    }

    async fn request(&self, a: &Json) -> Json {
        let none = Map::new();
        let headers = a["headers"].as_object().unwrap_or(&none);
        let headers: Vec<(&str, &str)> = headers.iter().map(|(k, v)| (k.as_str(), v.as_str().unwrap())).collect();
        let body = match (a.get("raw"), a.get("body")) {
            (Some(raw), _) => raw.as_str().unwrap().to_owned(),
            (None, body) => body.map(Json::to_string).unwrap_or_default(),
        };
        let (method, path) = (a["method"].as_str().unwrap(), a["path"].as_str().unwrap());
        let mut answer = self.server.open(method, path, &headers, body.as_bytes()).await;
        let text = answer.rest().await;
        let mut shown = json!({"status": answer.status});
        let kind = answer.header("content-type").unwrap_or_default().to_owned();
        if kind.starts_with("text/event-stream") {
            shown["body"] = parts(&text);
        } else if kind.starts_with("application/json") && answer.status < 400 {
            shown["body"] = serde_json::from_str(&text).unwrap();
        }
        for header in a["show"].as_array().into_iter().flatten() {
            let name = header.as_str().unwrap();
            shown[name] = answer.header(name).into();
        }
        shown
    }
}

/// Plays a scenario, and gives its faults by step. None where it needs a client.
async fn play(name: &str, store: Arc<dyn Store>) -> Option<HashMap<String, String>> {
    let text = read(&format!("scenarios/{name}.yaml")).replace("$ONCE", &uuid::Uuid::new_v4().to_string());
    let scenario: Json = serde_saphyr::from_str(&text).unwrap();
    let steps = scenario["steps"].as_array().unwrap();
    if !steps.iter().all(is_playable) {
        return None;
    }
    let expected: Json = serde_json::from_str(&read(&format!("expected/{name}.json"))).unwrap();
    let documents = scenario["graphs"].as_object().unwrap().iter().map(|(name, document)| {
        let mut all = document.as_object().unwrap().clone();
        all.insert("runloom".to_owned(), "v1".into());
        all.insert("name".to_owned(), name.as_str().into());
        (format!("{name}.json"), Json::Object(all).to_string())
    });
    let documents = documents.collect();
    let server = Server::start_with(Options::default(), |options| {
        options.documents = documents;
        options.store = store;
    });
    let reference = Regex::new(r"\$(thread|run|assistant|kept)\.([\w-]+)((?:\.[\w-]+)*)").unwrap();
    let mut player = Player { server: server.await, names: HashMap::new(), reference };
    let mut matcher = Matcher::default();
    let mut faults = HashMap::new();
    for (i, step) in steps.iter().enumerate() {
        let got = player.step(step).await;
        let (op, a) = op(step);
        let want = a.get("expect").unwrap_or(&expected[i]);
        let (want, got) =
            if a["unordered"] == true { (matcher.settled(want), matcher.settled(&got)) } else { (want.clone(), got) };
        if let Err(fault) = matcher.matches(&want, &got, "", "") {
            faults.insert(i.to_string(), format!("step {i} ({op}): {fault}"));
        }
    }
    player.server.stop().await;
    Some(faults)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_own_scenarios_agree_over_http_but_for_what_is_pending() {
    let only = std::env::var("SCENARIO").ok();
    let pending: Json = serde_saphyr::from_str(&read("pending.yaml")).unwrap();
    let mut names: Vec<String> = std::fs::read_dir(folder().join("scenarios"))
        .unwrap()
        .map(|f| f.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .filter(|n| only.as_ref().is_none_or(|o| o == n))
        .collect();
    names.sort();
    let (mut report, mut played) = (String::new(), 0);
    for name in &names {
        let data = std::env::temp_dir().join(format!("runloom-own-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&data).unwrap();
        let stores: [(&str, Arc<dyn Store>); 2] = [
            ("memory", Arc::new(MemoryStore::new())),
            ("sqlite", Arc::new(SqliteStore::open(OpenOptions::new(&data)).unwrap())),
        ];
        for (kind, store) in stores {
            let Some(mut faults) = play(name, store).await else { continue };
            played += 1;
            for (step, reason) in pending[name].as_object().into_iter().flatten() {
                if faults.remove(step).is_none() && !reason.as_str().unwrap().starts_with("at times") {
                    report += &format!("{name} on {kind}: step {step} agrees now; take it out of pending.yaml\n");
                }
            }
            let mut faults: Vec<_> = faults.into_values().collect();
            faults.sort();
            faults.iter().for_each(|fault| report += &format!("{name} on {kind}: {fault}\n"));
        }
        std::fs::remove_dir_all(data).unwrap();
    }
    assert!(report.is_empty(), "\n{report}");
    assert!(only.is_some() || played >= 60, "only {played} plays: are the steps still known?");
}
