//! The engine and the core against what a real LangGraph Server answered: every scenario of `tests/conformance`, its steps
//! `stream`, `wait`, `state`, `history` and `update_state` played on the core, compared with ids renamed.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/matcher.rs"]
mod matcher;

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use futures_util::StreamExt;
use matcher::Matcher;
use runloom_core::{
    Body, Caller, CommandSpec, Core, CoreOptions, Error, ReadOptions, Reason, Recording, RunOptions, RunRequest,
    RunSpec, Session, Start, StateQuery, StateUpdateRequest, Target, store,
};
use runloom_engine::{
    Object, RunId, StateUpdate, ThreadId, Value,
    checkpoint::CheckpointFilter,
    stream::{Mode, Modes},
};
use runloom_gateway::langgraph::{Dialect, StreamMode, error_object, history, state};
use runloom_store::{NewThread, Store, TenantId};
use runloom_store_memory::MemoryStore;
use runloom_store_sqlite::SqliteStore;
use serde_json::{Value as Json, json};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/conformance")
}

/// Steps whose answers are records of threads, assistants and runs, which are the faces' to show: those that matter to
/// what follows are carried out, and none is compared.
const NOT_HERE: [&str; 20] = [
    "create_run",
    "join",
    "get_run",
    "list_runs",
    "cancel",
    "get_thread",
    "update_thread",
    "delete_thread",
    "copy_thread",
    "search_threads",
    "count_threads",
    "search_assistants",
    "assistant_versions",
    "assistant_graph",
    "pause_ms",
    "delete_assistant",
    "create_assistant",
    "update_assistant",
    "set_latest",
    "assistant_schemas",
];

struct Player {
    core: Session,
    threads: HashMap<String, ThreadId>,
    kept: HashMap<String, Json>,
    runs: HashMap<String, RunId>,
}

fn object(v: &Json) -> Object {
    Value::from(v).as_object().cloned().unwrap_or_default()
}

fn json(v: Value) -> Json {
    v.to_json()
}

impl Player {
    async fn step(&mut self, step: &Json) -> Option<Json> {
        if let Some(name) = step.get("thread").filter(|t| t.is_string()) {
            let new = NewThread { metadata: object(&step["metadata"]), ..NewThread::default() };
            let thread = self.core.core().store().create_thread(&TenantId::default(), new).await.unwrap();
            self.threads.insert(name.as_str().unwrap().to_owned(), thread.id);
            return None;
        }
        let (op, a) = step.as_object().unwrap().iter().next().unwrap();
        let thread = a.get("thread").and_then(Json::as_str).and_then(|t| self.threads.get(t)).copied();
        if NOT_HERE.contains(&op.as_str()) || a.get("assistant").is_some() {
            self.carry_out(op, thread, a).await;
            return None;
        }
        Some(match op.as_str() {
            "stream" => self.stream(thread, a).await,
            "wait" => self.wait(thread, a).await,
            "state" => {
                let query = StateQuery { subgraphs: a["subgraphs"] == true, ..StateQuery::latest(thread?) };
                let answer = json(state(&self.core.get_state(query).await.unwrap()));
                self.keep(a, &answer);
                answer
            }
            "history" => {
                let all = CheckpointFilter { limit: Some(50), ..CheckpointFilter::default() };
                let views = self.core.list_checkpoints(thread?, "", all, None).await.unwrap();
                let answer = Json::Array(history(&views.items).into_iter().map(json).collect());
                self.keep(a, &answer);
                answer
            }
            "update_state" => {
                let update = StateUpdate {
                    values: a.get("values").filter(|v| !v.is_null()).map(Value::from),
                    as_node: a["as_node"].as_str().map(str::to_owned),
                };
                let request = StateUpdateRequest {
                    checkpoint_id: self.checkpoint(a),
                    updates: vec![update],
                    thread: thread?,
                    namespace: String::new(),
                    expected_checkpoint_id: None,
                    graph: None,
                };
                let at = self.core.update_state(request).await.unwrap();
                let checkpoint = json!({
                    "thread_id": at.thread.unwrap().to_string(),
                    "checkpoint_ns": &*at.ns,
                    "checkpoint_id": at.id.unwrap().to_string(),
                });
                json!({"checkpoint": checkpoint, "checkpoint_id": checkpoint["checkpoint_id"], "configurable": checkpoint})
            }
            other => panic!("unknown step {other}"),
        })
    }

    async fn carry_out(&mut self, op: &str, thread: Option<ThreadId>, a: &Json) {
        let run = a["run"].as_str().and_then(|r| self.runs.get(r)).copied();
        match op {
            "create_run" => {
                let mut request = self.request(thread, a, Mode::Values.into());
                if let Some(strategy) = a["multitask"].as_str() {
                    request.multitask = strategy.parse().unwrap();
                }
                match self.core.create_run(request).await {
                    Ok((run, _)) => drop(a["as"].as_str().map(|name| self.runs.insert(name.to_owned(), run.id))),
                    Err(error) => assert_eq!(error.reason, Reason::ThreadBusy),
                }
            }
            "join" => drop(self.core.wait_run(run.unwrap()).await.unwrap()),
            "cancel" => {
                let by = "the scenario".into();
                self.core
                    .cancel_run(run.unwrap(), store::CancelAction::Interrupt, by, a["wait"] == true)
                    .await
                    .unwrap();
            }
            "delete_thread" => self.core.delete_thread(thread.unwrap()).await.unwrap(),
            "copy_thread" => {
                let copy = self.core.copy_thread(thread.unwrap(), None).await.unwrap();
                self.threads.insert(a["as"].as_str().unwrap().to_owned(), copy.id);
            }
            // The scenario's own pause: until what runs has come as far as it can by itself.
            "pause_ms" => tokio::time::sleep(std::time::Duration::from_millis(a.as_u64().unwrap_or(0))).await,
            _ => {}
        }
    }

    fn keep(&mut self, a: &Json, answer: &Json) {
        if let Some(name) = a["as"].as_str() {
            self.kept.insert(name.to_owned(), answer.clone());
        }
    }

    fn checkpoint(&self, a: &Json) -> Option<runloom_engine::CheckpointId> {
        let at = a.get("checkpoint")?;
        let list = &self.kept[at["from"].as_str()?];
        list[at["index"].as_u64()? as usize]["checkpoint"]["checkpoint_id"].as_str()?.parse().ok()
    }

    fn request(&self, thread: Option<ThreadId>, a: &Json, modes: Modes) -> RunRequest {
        let mut start = match a.get("input") {
            Some(Json::Null) | None => Start::Resume,
            Some(input) => Start::Input(input.into()),
        };
        if let Some(command) = a.get("command") {
            let mut c = CommandSpec {
                resume: command.get("resume").map(Value::from),
                update: command.get("update").map(|u| vec![object(u)]).unwrap_or_default(),
                goto: command
                    .get("goto")
                    .and_then(Json::as_str)
                    .map(|g| vec![(g.to_owned(), None)])
                    .unwrap_or_default(),
                ..CommandSpec::default()
            };
            if let Some(by_value) = command.get("resume_by_value") {
                let tasks = &self.kept[by_value["from"].as_str().unwrap()]["tasks"];
                for question in tasks.as_array().unwrap().iter().flat_map(|t| t["interrupts"].as_array().unwrap()) {
                    if let Some(answer) = by_value["answers"].get(question["value"].as_str().unwrap()) {
                        c.resume_by_id.push((question["id"].as_str().unwrap().to_owned(), answer.into()));
                    }
                }
            }
            start = Start::Command(c);
        }
        let names = |key: &str| {
            let list = a.get(key).and_then(Json::as_array);
            list.map(|l| l.iter().filter_map(|n| Some(n.as_str()?.to_owned())).collect()).unwrap_or_default()
        };
        RunRequest {
            thread_id: thread,
            target: Target::Graph(a["graph"].as_str().unwrap_or_default().to_owned()),
            spec: RunSpec {
                options: RunOptions {
                    start,
                    context: a.get("context").map(Value::from).unwrap_or_default(),
                    recursion_limit: a["config"]["recursion_limit"].as_u64().unwrap_or(0) as u32,
                    interrupt_before: names("interrupt_before"),
                    interrupt_after: names("interrupt_after"),
                    checkpoint_id: self.checkpoint(a),
                    ..RunOptions::default()
                },
                recording: Recording { modes: modes.bits(), subgraphs: a["subgraphs"] == true, ..Recording::default() },
                ..RunSpec::default()
            },
            ..RunRequest::default()
        }
    }

    async fn stream(&self, thread: Option<ThreadId>, a: &Json) -> Json {
        let modes: Vec<StreamMode> =
            a["modes"].as_array().unwrap().iter().map(|m| StreamMode::parse(m.as_str().unwrap()).unwrap()).collect();
        let recorded = modes.iter().fold(Modes::NONE, |all, m| all.with(m.records()));
        let request = self.request(thread, a, recorded);
        let run = match self.core.create_run(request).await {
            Ok((run, _)) => run,
            Err(error) => return refused(&error),
        };
        let live = self.read(&run.id, &modes, thread).await;
        // What is read late, from what is kept, must be the same.
        let late = self.read(&run.id, &modes, thread).await;
        assert_eq!(live, late, "a late reader of {} sees other parts", a["graph"]);
        live
    }

    async fn read(&self, run: &RunId, modes: &[StreamMode], thread: Option<ThreadId>) -> Json {
        let known = self.core.get_run(*run).await.unwrap();
        let mut configurable = Object::default();
        configurable.insert("run_id", run.to_string());
        configurable.insert("thread_id", thread.map(|t| t.to_string()).unwrap_or_default());
        configurable.insert("assistant_id", known.assistant.unwrap().to_string());
        configurable.insert("graph_id", known.graph.as_str());
        let mut dialect = Dialect::new(modes.to_vec(), Vec::new(), configurable);
        let mut reader = self.core.read_run(*run, ReadOptions::default()).await.unwrap();
        let mut parts = Vec::new();
        while let Some(record) = reader.next().await {
            for event in dialect.events(&record.unwrap()).wanted {
                if event.name != "end" {
                    parts.push(json!({"event": event.name, "data": json(event.data)}));
                }
            }
        }
        Json::Array(parts)
    }

    async fn wait(&self, thread: Option<ThreadId>, a: &Json) -> Json {
        let request = self.request(thread, a, Mode::Values.into());
        let run = match self.core.create_run(request).await {
            Ok((run, _)) => run,
            Err(error) => return refused(&error),
        };
        let outcome = self.core.wait_run(run.id).await.unwrap();
        match (&outcome.end.error, outcome.end.values) {
            (Some(error), _) => json!({"__error__": json(error_object(error))}),
            (None, Some(values)) => json(values),
            (None, None) => Json::Null,
        }
    }
}

/// What a client is shown where a run is refused: here only that it was.
fn refused(error: &Error) -> Json {
    json!({"refused": format!("{:?}", error.reason)})
}

async fn play(name: &str, store: Arc<dyn Store>) -> Vec<String> {
    let text = std::fs::read_to_string(folder().join(format!("scenarios/{name}.yaml"))).unwrap();
    let scenario: Json = serde_saphyr::from_str(&text.replace("$ONCE", &uuid::Uuid::new_v4().to_string())).unwrap();
    let expected: Json =
        serde_json::from_str(&std::fs::read_to_string(folder().join(format!("expected/{name}.json"))).unwrap())
            .unwrap();
    let documents = scenario["graphs"].as_object().unwrap().iter().map(|(name, doc)| {
        let mut all = serde_json::Map::new();
        all.insert("runloom".into(), "v1".into());
        all.insert("name".into(), name.as_str().into());
        all.extend(doc.as_object().unwrap().clone());
        (format!("{name}.json"), Json::Object(all).to_string())
    });
    let options = CoreOptions { documents: documents.collect(), ..CoreOptions::new(store) };
    let core = Core::start(options).await.unwrap().session(Caller::default());
    let mut player = Player { core, threads: HashMap::new(), kept: HashMap::new(), runs: HashMap::new() };
    let mut matcher = Matcher::default();
    let mut faults = Vec::new();
    for (i, step) in scenario["steps"].as_array().unwrap().iter().enumerate() {
        let op = step.as_object().unwrap().keys().next().unwrap().clone();
        let a = &step[&op];
        let Some(got) = player.step(step).await else { continue };
        let want = a.get("expect").unwrap_or(&expected[i]);
        if got.get("refused").is_some() && want.to_string().contains("status") {
            continue;
        }
        let is_unordered = a["unordered"] == true;
        let (want, got) =
            if is_unordered { (matcher.settled(want), matcher.settled(&got)) } else { (want.clone(), got) };
        if let Err(fault) = matcher.matches(&want, &got, "", "") {
            faults.push(format!("step {i} ({op}): {fault}"));
        }
    }
    player.core.core().drain().await;
    faults
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_scenario_agrees() {
    let only = std::env::var("SCENARIO").ok();
    let mut names: Vec<String> = std::fs::read_dir(folder().join("scenarios"))
        .unwrap()
        .map(|f| f.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .filter(|n| only.as_ref().is_none_or(|o| o == n))
        .collect();
    names.sort();
    assert!(!names.is_empty());
    let mut report = String::new();
    for name in &names {
        let data = tempdir();
        let stores: [(&str, Arc<dyn Store>); 2] = [
            ("memory", Arc::new(MemoryStore::new())),
            ("sqlite", Arc::new(SqliteStore::open(runloom_store_sqlite::OpenOptions::new(&data)).unwrap())),
        ];
        for (kind, store) in stores {
            for fault in play(name, store).await {
                report += &format!("{name} on {kind}: {fault}\n");
            }
        }
        std::fs::remove_dir_all(data).unwrap();
    }
    assert!(report.is_empty(), "\n{report}");
}

fn tempdir() -> PathBuf {
    let dir = std::env::temp_dir().join(format!("runloom-conformance-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

#[test]
fn an_opening_is_told_once_an_attempt() {
    // A join's opening, which has no number, is none of LangGraph's events.
    let record = runloom_core::Record {
        seq: 0,
        emit_time: std::time::SystemTime::UNIX_EPOCH,
        run_id: RunId(uuid::Uuid::nil()),
        attempt: 1,
        namespace: "".into(),
        step: None,
        task: None,
        body: Body::from(runloom_core::Opening {
            thread_id: ThreadId(uuid::Uuid::nil()),
            assistant_id: None,
            graph: String::new(),
            revision: String::new(),
            status: store::RunStatus::Pending,
            modes: Modes::NONE,
            subgraphs: false,
        }),
    };
    assert_eq!(Dialect::new(vec![], vec![], Object::default()).events(&record).all, 0);
}
