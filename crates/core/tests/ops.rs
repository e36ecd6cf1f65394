//! Threads, assistants, graphs and state: the operations as faces call them, on every store.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use runloom_core::{
    Core, CoreOptions, Error, GraphSource, Reason, RunRequest, RunSpec, Start, StateQuery, StateUpdateRequest, Target,
    default_assistant_id,
    engine::{
        ChannelSpec, Graph, GraphBuilder, Object, Reducer, START, StateUpdate, StateView, ThreadId, Update, Value,
        checkpoint::CheckpointFilter, node, value,
    },
    store::{
        AssistantFilter, AssistantId, AssistantUpdate, IfExists, MemoryStore, NewAssistant, NewThread, OpenOptions,
        PageRequest, SqliteStore, Store, ThreadStatus,
    },
};

const ECHO: &str = r#"
runloom: v1
name: echo
description: Says what it was told.
state:
  q: { schema: { type: string } }
  a: { schema: { type: string } }
context: { schema: { type: object, properties: { tone: { type: string }, level: { type: integer } } } }
nodes:
  answer: { update: { a: '("tone" in context ? context.tone : "plain") + ": " + state.q' } }
edges: [ { from: START, to: answer } ]
"#;

const STEPS: &str = r#"
runloom: v1
name: steps
state:
  n: { schema: { type: integer } }
  log: { reducer: append }
nodes:
  one: { update: { n: 'state.n + 1', log: '["one"]' } }
  two: { update: { n: 'state.n * 10', log: '["two"]' } }
edges:
  - { from: START, to: one }
  - { from: one, to: two }
"#;

const ASK: &str = r#"
runloom: v1
name: ask
state: { draft: {}, answer: {} }
nodes:
  draft: { update: { draft: '"v1"' } }
  review: { steps: [ { interrupt: { value: '{"question": "ok?"}', as: answer } }, { update: { answer: answer } } ] }
edges: [ { from: START, to: draft }, { from: draft, to: review } ]
"#;

const CHILD: &str = r#"
runloom: v1
name: child
hidden: true
state: { n: { schema: { type: integer } } }
nodes: { inner: { update: { n: 'state.n + 1' } } }
edges: [ { from: START, to: inner } ]
"#;

const PARENT: &str = r#"
runloom: v1
name: parent
state: { n: { schema: { type: integer } } }
nodes: { sub: { subgraph: child } }
edges: [ { from: START, to: sub } ]
"#;

fn documents(texts: &[(&str, &str)]) -> Vec<(String, String)> {
    texts.iter().map(|(file, text)| (format!("{file}.yaml"), (*text).to_owned())).collect()
}

fn all() -> Vec<(String, String)> {
    documents(&[("ask", ASK), ("child", CHILD), ("echo", ECHO), ("parent", PARENT), ("steps", STEPS)])
}

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("runloom-ops-{}", ThreadId(fresh())));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn open(&self) -> Arc<dyn Store> {
        Arc::new(SqliteStore::open(OpenOptions::new(&self.0)).unwrap())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn fresh() -> uuid::Uuid {
    uuid::Uuid::now_v7()
}

async fn start(store: Arc<dyn Store>, documents: Vec<(String, String)>) -> Core {
    Core::start(CoreOptions { documents, ..CoreOptions::new(store) }).await.unwrap()
}

async fn memory() -> Core {
    start(Arc::new(MemoryStore::new()), all()).await
}

fn object(value: Value) -> Object {
    value.as_object().unwrap().clone()
}

fn request(thread: Option<ThreadId>, graph: &str, start: Start) -> RunRequest {
    RunRequest {
        thread_id: thread,
        create_thread: true,
        target: Target::Graph(graph.to_owned()),
        spec: RunSpec { start, ..RunSpec::default() },
        ..RunRequest::default()
    }
}

async fn run(core: &Core, request: RunRequest) -> Value {
    let run = core.create_run(request).await.unwrap().0;
    let outcome = core.wait_run(run.id).await.unwrap();
    assert_eq!(outcome.end.error, None);
    outcome.end.values.unwrap()
}

async fn thread(core: &Core) -> ThreadId {
    core.create_thread(NewThread::default()).await.unwrap().id
}

fn update(thread: ThreadId, values: Value, as_node: Option<&str>) -> StateUpdateRequest {
    StateUpdateRequest {
        thread,
        checkpoint_id: None,
        namespace: String::new(),
        updates: vec![StateUpdate { values: Some(values), as_node: as_node.map(str::to_owned) }],
        expected_checkpoint_id: None,
        graph: None,
    }
}

/// An error's reason and the fields it names.
fn named(error: &Error) -> (Reason, Vec<&str>) {
    (error.reason, error.fields.iter().map(|(path, _)| &**path).collect())
}

#[tokio::test]
async fn every_graph_has_a_default_assistant_that_is_always_there() {
    let core = memory().await;
    let id = default_assistant_id("echo");
    let assistant = core.get_assistant(id).await.unwrap();
    assert_eq!((&*assistant.graph, &*assistant.name, assistant.version), ("echo", "echo", 1));
    assert_eq!(Value::from(assistant.metadata), value!({"created_by": "system"}));
    assert_eq!((assistant.context, assistant.config.len()), (value!({}), 0));
    assert_eq!(core.count_assistants(AssistantFilter::default()).await.unwrap(), 4, "a hidden graph has none");

    let error = core.delete_assistant(id).await.unwrap_err();
    assert_eq!(error.reason, Reason::AssistantIsDefault);
    core.store().delete_assistant(id).await.unwrap();
    assert_eq!(core.get_assistant(id).await.unwrap().graph, "echo");
    core.store().delete_assistant(id).await.unwrap();
    let told = run(&core, request(None, "echo", Start::Input(value!({"q": "hi"})))).await;
    assert_eq!(told, value!({"q": "hi", "a": "plain: hi"}));

    let error = core.update_assistant(id, AssistantUpdate { graph: Some("steps".into()), ..Default::default() }).await;
    assert_eq!(error.unwrap_err().reason, Reason::FieldInvalid);
    let error = core.get_assistant(AssistantId(fresh())).await.unwrap_err();
    assert_eq!(error.reason, Reason::AssistantNotFound);
}

#[tokio::test]
async fn an_assistant_is_made_changed_and_set_back_and_its_runs_follow() {
    let core = memory().await;
    let new = NewAssistant { graph: "echo".into(), context: value!({"tone": "kind"}), ..NewAssistant::default() };
    let made = core.create_assistant(new.clone()).await.unwrap();
    assert_eq!((&*made.name, made.version), ("Untitled", 1));
    let ask = async |context: Value| {
        let mut request = request(None, "", Start::Input(value!({"q": "hi"})));
        request.target = Target::Assistant(made.id);
        request.spec.context = context;
        run(&core, request).await.get_str("a").map(str::to_owned)
    };
    assert_eq!(ask(Value::Null).await.as_deref(), Some("kind: hi"));
    let change = AssistantUpdate {
        context: Some(value!({"tone": "stern", "level": 3.0})),
        metadata: Some(object(value!({"a": 1, "b": 2}))),
        ..AssistantUpdate::default()
    };
    let changed = core.update_assistant(made.id, change).await.unwrap();
    assert_eq!((changed.version, changed.context), (2, value!({"tone": "stern", "level": 3})));
    assert_eq!(ask(Value::Null).await.as_deref(), Some("stern: hi"));
    assert_eq!(ask(value!({"tone": "curt"})).await.as_deref(), Some("curt: hi"));
    let set = core.set_latest_assistant(made.id, 1).await.unwrap();
    assert_eq!((set.version, set.context), (1, value!({"tone": "kind"})));
    assert_eq!(ask(Value::Null).await.as_deref(), Some("kind: hi"), "the context goes with its version");
    let replaced = AssistantUpdate { metadata: Some(object(value!({"c": 3}))), ..AssistantUpdate::default() };
    let replaced = core.replace_assistant(made.id, replaced).await.unwrap();
    assert_eq!((replaced.version, Value::from(replaced.metadata)), (3, value!({"c": 3})));

    let error = core.set_latest_assistant(made.id, 7).await.unwrap_err();
    assert_eq!(error.reason, Reason::AssistantVersionNotFound);
    assert!(error.message.contains("1 to 3"), "{error}");
    let versions = core.list_assistant_versions(made.id, Object::default(), PageRequest::default()).await.unwrap();
    assert_eq!(versions.items.iter().map(|v| v.version).collect::<Vec<_>>(), [3, 2, 1]);

    let wrong = NewAssistant { context: value!({"tone": 1, "level": "x"}), ..new.clone() };
    let error = core.create_assistant(wrong).await.unwrap_err();
    assert_eq!(named(&error), (Reason::ContextInvalid, vec!["context.tone", "context.level"]));
    let wrong = NewAssistant { config: object(value!({"recursion_limit": 0, "tags": "x"})), ..new.clone() };
    let error = core.create_assistant(wrong).await.unwrap_err();
    assert_eq!(named(&error), (Reason::FieldInvalid, vec!["config.recursion_limit", "config.tags"]));
    let error = core.create_assistant(NewAssistant { graph: "ecko".into(), ..new.clone() }).await.unwrap_err();
    assert_eq!(error.reason, Reason::GraphUnknown);
    assert!(error.message.contains("did you mean `echo`"), "{error}");
    let again = NewAssistant { id: Some(made.id), if_exists: IfExists::Keep, ..new.clone() };
    assert_eq!(core.create_assistant(again.clone()).await.unwrap().version, 3);
    let error = core.create_assistant(NewAssistant { if_exists: IfExists::Refuse, ..again }).await.unwrap_err();
    assert_eq!(error.reason, Reason::AssistantExists);
    core.delete_assistant(made.id).await.unwrap();
    assert_eq!(core.get_assistant(made.id).await.unwrap_err().reason, Reason::AssistantNotFound);
}

#[tokio::test]
async fn a_runs_settings_are_laid_over_its_assistants_and_its_threads() {
    let core = memory().await;
    let config = value!({"recursion_limit": 1, "tags": ["a"], "configurable": {"x": 1, "y": 1}});
    let new = NewAssistant {
        graph: "steps".into(),
        config: object(config),
        metadata: object(value!({"of": "assistant", "a": 1})),
        ..NewAssistant::default()
    };
    let assistant = core.create_assistant(new).await.unwrap();
    let metadata = object(value!({"of": "thread", "t": 1}));
    let thread = core.create_thread(NewThread { metadata, ..NewThread::default() }).await.unwrap();
    let mut request = request(Some(thread.id), "", Start::Input(value!({"n": 1.0})));
    request.target = Target::Assistant(assistant.id);
    request.spec.metadata = object(value!({"of": "run"}));
    let limited = core.create_run(request.clone()).await.unwrap().0;
    let end = core.wait_run(limited.id).await.unwrap().end;
    assert_eq!(end.error.map(|e| e.reason), Some(Reason::RecursionLimit), "the assistant's limit holds");

    request.spec.recursion_limit = 10;
    assert_eq!(run(&core, request).await.get("n"), Some(&Value::Int(20)), "an integral double became an integer");
    let view = core.get_state(StateQuery::latest(thread.id)).await.unwrap();
    let has = |key: &str| view.metadata.get(key).cloned().unwrap_or_default();
    assert_eq!((has("of"), has("a"), has("t")), ("run".into(), 1.into(), 1.into()));
    assert_eq!((has("graph_id"), has("assistant_id")), ("steps".into(), assistant.id.to_string().into()));
    let config = core.get_thread(thread.id).await.unwrap().config;
    assert_eq!(config.get("configurable"), Some(&value!({"x": 1, "y": 1})));
    assert_eq!(config.get("tags"), Some(&value!(["a"])));
}

#[tokio::test]
async fn an_input_that_does_not_fit_names_every_channel() {
    let core = memory().await;
    let give = async |graph: &str, input: Value| {
        core.create_run(request(None, graph, Start::Input(input))).await.map(drop).unwrap_err()
    };
    let error = give("steps", value!({"n": 1.5, "log": "x", "unknown": 1})).await;
    assert_eq!(named(&error), (Reason::InputInvalid, vec!["input.n", "input.log"]));
    assert_eq!(named(&give("steps", value!([1])).await), (Reason::InputInvalid, vec!["input"]));
    let mut wrong = request(None, "echo", Start::Input(value!({"q": "hi"})));
    wrong.spec.context = value!({"tone": 3});
    assert_eq!(named(&core.create_run(wrong).await.unwrap_err()), (Reason::ContextInvalid, vec!["context.tone"]));
    assert_eq!(give("child", value!({"n": 1})).await.reason, Reason::GraphUnknown, "a hidden graph is not run");
    let error = core.create_run(RunRequest::default()).await.unwrap_err();
    assert_eq!(error.reason, Reason::FieldInvalid);
    assert_eq!(run(&core, request(None, "parent", Start::Input(value!({"n": 1})))).await, value!({"n": 2}));
}

#[tokio::test]
async fn an_input_past_the_limit_is_refused() {
    let options =
        CoreOptions { documents: all(), max_json_bytes: 100, ..CoreOptions::new(Arc::new(MemoryStore::new())) };
    let core = Core::start(options).await.unwrap();
    let error = core.create_run(request(None, "echo", Start::Input(value!({"q": "x".repeat(200)})))).await.unwrap_err();
    assert_eq!(error.reason, Reason::InputTooLarge);
    assert_eq!(error.metadata.get("maximum_bytes").map(String::as_str), Some("100"));
}

#[tokio::test]
async fn a_graph_is_drawn_and_described() {
    let core = memory().await;
    let parent = Target::Graph("parent".into());
    let flat = core.draw(&parent, 0).await.unwrap();
    assert_eq!(flat.nodes.iter().map(|n| &*n.id).collect::<Vec<_>>(), ["__start__", "sub", "__end__"]);
    let deep = core.draw(&parent, 1).await.unwrap();
    assert!(deep.nodes.iter().any(|n| &*n.id == "sub:inner"), "{deep:?}");
    assert!(flat.mermaid().starts_with("graph TD;"));
    let schemas = core.schemas(&Target::Graph("echo".into())).await.unwrap();
    assert_eq!(schemas.input.get("properties").unwrap().as_object().unwrap().len(), 2);
    assert_eq!(schemas.context, Some(schemas.config));
    let plain = core.schemas(&parent).await.unwrap();
    assert_eq!((plain.context, plain.config.get_str("title")), (None, Some("Configurable")));
    let within = core.subgraph_schemas(&parent, true).await.unwrap();
    assert_eq!(within.keys().collect::<Vec<_>>(), ["sub"]);
    assert_eq!(within["sub"].graph, "child");
}

#[tokio::test]
async fn graphs_are_listed_in_pages_without_the_hidden_ones() {
    let core = memory().await;
    let page = core.list_graphs(false, PageRequest::first(3)).await.unwrap();
    assert_eq!(page.items.iter().map(|g| &*g.name).collect::<Vec<_>>(), ["ask", "echo", "parent"]);
    let rest = core.list_graphs(false, PageRequest::after(3, page.next.unwrap())).await.unwrap();
    assert_eq!((rest.items.len(), &*rest.items[0].name, rest.next), (1, "steps", None));
    assert_eq!(core.list_graphs(true, PageRequest::default()).await.unwrap().items.len(), 5);
    let error = core.list_graphs(true, PageRequest::after(3, "x")).await.unwrap_err();
    assert_eq!(error.reason, Reason::PageTokenInvalid);
    let child = core.get_graph("child").await.unwrap();
    assert!(child.hidden && child.default_assistant_id.is_none());
    let echo = core.get_graph("echo").await.unwrap();
    assert_eq!((echo.source, echo.file.as_deref()), (GraphSource::Folder, Some("echo.yaml")));
    assert_eq!(echo.description, "Says what it was told.");
}

#[tokio::test]
async fn a_document_is_registered_revised_and_deleted() {
    let core = start(Arc::new(MemoryStore::new()), documents(&[("echo", ECHO)])).await;
    let checked = core.register_graph(STEPS, true).await.unwrap();
    assert!(!checked.changed && core.get_graph("steps").await.is_err());
    let made = core.register_graph(STEPS, false).await.unwrap();
    assert!(made.changed && made.graph.source == GraphSource::Registered);
    assert_eq!(core.get_assistant(default_assistant_id("steps")).await.unwrap().name, "steps");
    let again = core.register_graph(STEPS, false).await.unwrap();
    assert_eq!((again.changed, &again.graph.revision), (false, &made.graph.revision));
    let other = core.register_graph(&STEPS.replace("* 10", "* 100"), false).await.unwrap();
    assert!(other.changed && other.graph.revision != made.graph.revision);
    assert_eq!(
        run(&core, request(None, "steps", Start::Input(value!({"n": 1})))).await.get("n"),
        Some(&Value::Int(200))
    );

    let error = core.register_graph(ECHO, false).await.unwrap_err();
    assert_eq!(error.reason, Reason::GraphNameTaken);
    assert!(error.message.contains("echo.yaml"), "{error}");
    let error = core.register_graph(&STEPS.replace("to: two", "to: tow"), false).await.unwrap_err();
    assert_eq!(error.reason, Reason::GraphInvalid);
    assert!(error.message.contains("did you mean `two`") && error.fields[0].0.starts_with("document:"), "{error:?}");
    let error = core.register_graph("- a list", false).await.unwrap_err();
    assert_eq!(error.reason, Reason::GraphInvalid);

    let assistant = NewAssistant { graph: "steps".into(), ..NewAssistant::default() };
    let assistant = core.create_assistant(assistant).await.unwrap();
    let mut later = request(None, "steps", Start::Input(value!({"n": 1})));
    later.start_time = Some(SystemTime::now() + Duration::from_secs(600));
    let later = core.create_run(later).await.unwrap().0;
    let error = core.delete_graph("steps").await.unwrap_err();
    assert_eq!(error.reason, Reason::GraphInUse);
    assert_eq!(error.metadata.get("assistants"), Some(&assistant.id.to_string()));
    assert_eq!(error.metadata.get("runs"), Some(&later.id.to_string()));
    core.delete_assistant(assistant.id).await.unwrap();
    core.delete_run(later.id).await.unwrap();
    core.delete_graph("steps").await.unwrap();
    assert_eq!(core.get_graph("steps").await.unwrap_err().reason, Reason::GraphUnknown);
    assert_eq!(core.get_assistant(default_assistant_id("steps")).await.unwrap_err().reason, Reason::AssistantNotFound);
    let error = core.delete_graph("echo").await.unwrap_err();
    assert_eq!(error.reason, Reason::GraphNotRegistered);
    assert!(error.message.contains("echo.yaml"), "{error}");
}

#[tokio::test]
async fn a_graph_takes_along_those_that_run_it_inside() {
    let core = start(Arc::new(MemoryStore::new()), Vec::new()).await;
    let error = core.register_graph(PARENT, false).await.unwrap_err();
    assert_eq!(error.reason, Reason::GraphInvalid);
    core.register_graph(CHILD, false).await.unwrap();
    let before = core.register_graph(PARENT, false).await.unwrap().graph.revision;
    core.register_graph(&CHILD.replace("+ 1", "+ 5"), false).await.unwrap();
    assert_ne!(core.get_graph("parent").await.unwrap().revision, before);
    assert_eq!(run(&core, request(None, "parent", Start::Input(value!({"n": 1})))).await, value!({"n": 6}));
    let error = core.delete_graph("child").await.unwrap_err();
    assert_eq!(error.metadata.get("graphs").map(String::as_str), Some("parent"));
    let round = CHILD.replace("inner: { update: { n: 'state.n + 1' } }", "inner: { subgraph: parent }");
    let error = core.register_graph(&round, false).await.unwrap_err();
    assert!(error.message.contains("inside itself"), "{error}");
}

#[tokio::test]
async fn a_watched_folder_serves_what_holds_and_keeps_what_breaks() {
    let core = start(Arc::new(MemoryStore::new()), documents(&[("echo", ECHO), ("steps", STEPS)])).await;
    core.register_graph(CHILD, false).await.unwrap();
    let echo = core.get_graph("echo").await.unwrap().revision;
    let changed = STEPS.replace("* 10", "* 2");
    let told = core
        .reload_documents(documents(&[
            ("echo", &ECHO.replace("state.q", "state..q")),
            ("steps", &changed),
            ("parent", PARENT),
            ("child", CHILD),
        ]))
        .await
        .unwrap();
    let of = |file: &str| told.iter().find(|t| t.file == file).unwrap();
    assert_eq!(of("echo.yaml").error.as_ref().map(|e| e.reason), Some(Reason::GraphInvalid));
    assert_eq!(of("echo.yaml").graph.as_ref().map(|g| &g.revision), Some(&echo), "the old one is served");
    assert!(of("steps.yaml").changed && of("parent.yaml").changed && of("parent.yaml").error.is_none());
    assert_eq!(of("child.yaml").error.as_ref().map(|e| e.reason), Some(Reason::GraphNameTaken));
    assert_eq!(run(&core, request(None, "parent", Start::Input(value!({"n": 1})))).await, value!({"n": 2}));

    let told = core.reload_documents(documents(&[("echo", ECHO), ("moved", &changed)])).await.unwrap();
    assert!(told.iter().any(|t| t.file == "parent.yaml" && t.graph.is_none()));
    assert!(told.iter().all(|t| t.error.is_none()), "{told:?}");
    let of = |file: &str| told.iter().find(|t| t.file == file).unwrap();
    assert!(!of("echo.yaml").changed && !of("moved.yaml").changed);
    assert_eq!(core.get_graph("steps").await.unwrap().file.as_deref(), Some("moved.yaml"));
    assert_eq!(core.get_assistant(default_assistant_id("parent")).await.unwrap_err().reason, Reason::AssistantNotFound);
    let renamed =
        core.reload_documents(documents(&[("echo", ECHO), ("moved", &changed.replace("steps", "paces"))])).await;
    assert!(renamed.unwrap().iter().any(|t| t.graph.as_ref().is_some_and(|g| g.name == "paces")));
    assert_eq!(core.get_graph("steps").await.unwrap_err().reason, Reason::GraphUnknown);
}

#[tokio::test]
async fn a_run_keeps_its_revision_through_a_restart_and_a_deployment() {
    let folder = Folder::new();
    let core = start(folder.open(), documents(&[("child", CHILD), ("parent", PARENT)])).await;
    core.register_graph(STEPS, false).await.unwrap();
    let soon = SystemTime::now() + Duration::from_millis(1500);
    let mut runs = Vec::new();
    for graph in ["parent", "steps"] {
        let mut request = request(Some(ThreadId(fresh())), graph, Start::Input(value!({"n": 1})));
        request.start_time = Some(soon);
        runs.push(core.create_run(request).await.unwrap().0.id);
    }
    core.register_graph(&STEPS.replace("* 10", "* 3"), false).await.unwrap();
    core.drain().await;
    drop(core);
    tokio::time::sleep(Duration::from_millis(200)).await;

    let changed = documents(&[("child", &CHILD.replace("+ 1", "+ 100")), ("parent", PARENT)]);
    let core = start(folder.open(), changed).await;
    assert_eq!(core.get_graph("steps").await.unwrap().source, GraphSource::Registered);
    for (id, n) in runs.into_iter().zip([2, 20]) {
        let end = core.wait_run(id).await.unwrap().end;
        assert_eq!(end.values.and_then(|v| v.get("n").cloned()), Some(Value::Int(n)), "{:?}", end.error);
    }
    assert_eq!(run(&core, request(None, "parent", Start::Input(value!({"n": 1})))).await, value!({"n": 101}));
    assert_eq!(run(&core, request(None, "steps", Start::Input(value!({"n": 1})))).await.get("n"), Some(&Value::Int(6)));
    core.drain().await;
}

fn program(name: &str) -> Graph {
    let mut graph = GraphBuilder::new(name);
    graph.add_channel(ChannelSpec::new("n").reducer(Reducer::Add));
    graph.add_node("add", node(|_: StateView, _| async { Ok(Update::new().set("n", 1)) }));
    graph.add_edge(START, "add");
    graph.compile().unwrap()
}

#[tokio::test]
async fn a_name_comes_from_one_source() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let options = |documents, graphs| CoreOptions { documents, graphs, ..CoreOptions::new(store.clone()) };
    let fails = async |options| match Core::start(options).await {
        Ok(_) => panic!("it started"),
        Err(error) => error,
    };
    let error = fails(options(documents(&[("echo", ECHO)]), vec![("echo".into(), program("echo"))])).await;
    assert_eq!(error.reason, Reason::GraphNameTaken);
    assert!(error.message.contains("the program") && error.message.contains("echo.yaml"), "{error}");
    let error = fails(options(documents(&[("a", ECHO), ("b", ECHO)]), Vec::new())).await;
    assert!(error.message.contains("a.yaml") && error.message.contains("b.yaml"), "{error}");
    let core = start(store.clone(), Vec::new()).await;
    core.register_graph(ECHO, false).await.unwrap();
    let error = fails(options(documents(&[("echo", ECHO)]), Vec::new())).await;
    assert_eq!(error.reason, Reason::GraphNameTaken);
    let error = fails(options(documents(&[("bad", "x: 1"), ("worse", "- 1")]), Vec::new())).await;
    assert_eq!(error.reason, Reason::GraphInvalid);
    assert!(error.message.contains("bad.yaml") && error.message.contains("worse.yaml"), "{error}");

    let core = Core::start(options(Vec::new(), vec![("count".into(), program("count"))])).await.unwrap();
    assert_eq!(core.get_graph("count").await.unwrap().source, GraphSource::Program);
    assert_eq!(run(&core, request(None, "count", Start::Input(value!({"n": 1})))).await, value!({"n": 2}));
    assert_eq!(core.delete_graph("count").await.unwrap_err().reason, Reason::GraphNotRegistered);
}

#[tokio::test]
async fn threads_are_kept_as_records() {
    let core = memory().await;
    let metadata = object(value!({"team": "red", "n": 1}));
    let made = core.create_thread(NewThread { metadata, ..NewThread::default() }).await.unwrap();
    let again = NewThread { id: Some(made.id), ..NewThread::default() };
    assert_eq!(core.create_thread(again.clone()).await.unwrap_err().reason, Reason::ThreadExists);
    let kept = core.create_thread(NewThread { if_exists: IfExists::Keep, ..again }).await.unwrap();
    assert_eq!(kept, made);
    let merged = core.update_thread(made.id, object(value!({"n": null, "note": "x"}))).await.unwrap();
    assert_eq!(Value::from(merged.metadata), value!({"team": "red", "note": "x"}));
    let replaced = core.replace_thread_metadata(made.id, object(value!({"note": "y"}))).await.unwrap();
    assert_eq!(Value::from(replaced.metadata), value!({"note": "y"}));

    run(&core, request(Some(made.id), "steps", Start::Input(value!({"n": 1})))).await;
    let copy = core.copy_thread(made.id, None).await.unwrap();
    let state = core.get_state(StateQuery::latest(copy.id)).await.unwrap();
    assert_eq!(Value::from(state.values_object()), value!({"n": 20, "log": ["one", "two"]}));
    run(&core, request(Some(copy.id), "steps", Start::Input(value!({"n": 5})))).await;
    assert!(core.prune_thread(copy.id, 2).await.unwrap() > 0);
    let left = core.list_checkpoints(copy.id, "", CheckpointFilter::default(), None).await.unwrap();
    assert_eq!(left.items.len(), 2);
    let state = core.get_state(StateQuery::latest(made.id)).await.unwrap();
    assert_eq!(state.values_object().get("n"), Some(&Value::Int(20)), "the copy is its own");

    core.delete_thread(made.id).await.unwrap();
    assert_eq!(core.delete_thread(made.id).await.unwrap_err().reason, Reason::ThreadNotFound);
    let gone = core.get_state(StateQuery::latest(made.id)).await.unwrap_err();
    assert_eq!(gone.reason, Reason::ThreadNotFound);
}

#[tokio::test]
async fn a_thread_that_never_ran_has_an_empty_state_until_a_graph_is_named() {
    let core = memory().await;
    let id = thread(&core).await;
    let empty = core.get_state(StateQuery::latest(id)).await.unwrap();
    assert!(empty.config.is_none() && empty.values_object().is_empty() && empty.next.is_empty());
    assert_eq!(core.list_checkpoints(id, "", CheckpointFilter::default(), None).await.unwrap().items.len(), 0);
    let at = runloom_core::engine::CheckpointId(fresh());
    let error = core.get_state(StateQuery { checkpoint_id: Some(at), ..StateQuery::latest(id) }).await.unwrap_err();
    assert_eq!(error.reason, Reason::CheckpointNotFound);
    let error = core.update_state(update(id, value!({"n": 1}), None)).await.unwrap_err();
    assert_eq!(named(&error), (Reason::FieldInvalid, vec!["graph"]));

    let named = StateUpdateRequest { graph: Some("steps".into()), ..update(id, value!({"n": 4.0}), None) };
    core.update_state(named).await.unwrap();
    let view = core.get_state(StateQuery::latest(id)).await.unwrap();
    assert_eq!(view.values_object().get("n"), Some(&Value::Int(4)));
    assert_eq!((view.next.len(), &*view.next[0]), (1, "one"));
    assert_eq!(view.metadata.get_str("graph_id"), Some("steps"));
    let record = core.get_thread(id).await.unwrap();
    assert_eq!((record.status, record.metadata.get_str("graph_id")), (ThreadStatus::Interrupted, Some("steps")));
    assert!(record.state_updated_at.is_some());
    let went_on = run(&core, request(Some(id), "steps", Start::Resume)).await;
    assert_eq!(went_on, value!({"n": 50, "log": ["one", "two"]}));
}

#[tokio::test]
async fn a_state_is_written_by_hand_and_forked() {
    let core = memory().await;
    let id = thread(&core).await;
    run(&core, request(Some(id), "steps", Start::Input(value!({"n": 1})))).await;
    let first =
        core.list_checkpoints(id, "", CheckpointFilter { limit: Some(3), ..Default::default() }, None).await.unwrap();
    assert_eq!(first.items.iter().map(|c| c.step).collect::<Vec<_>>(), [2, 1, 0]);
    let rest = core.list_checkpoints(id, "", CheckpointFilter::default(), first.next.as_deref()).await.unwrap();
    assert_eq!((rest.items.iter().map(|c| c.step).collect::<Vec<_>>(), rest.next), (vec![-1], None));
    let error = core.list_checkpoints(id, "", CheckpointFilter::default(), Some("x")).await.unwrap_err();
    assert_eq!(error.reason, Reason::PageTokenInvalid);

    let after_one = first.items[1].config.clone().unwrap().id;
    let latest = first.items[0].config.clone().unwrap().id;
    let fork = StateUpdateRequest {
        checkpoint_id: after_one,
        expected_checkpoint_id: latest,
        ..update(id, value!({"n": 7}), None)
    };
    let made = core.update_state(fork.clone()).await.unwrap();
    let view = core.get_state(StateQuery::latest(id)).await.unwrap();
    assert_eq!((view.config.as_ref().and_then(|c| c.id), view.step), (made.id, 2));
    assert_eq!(view.metadata.get_str("checkpoint_id"), after_one.map(|id| id.to_string()).as_deref());
    let error = core.update_state(fork).await.unwrap_err();
    assert_eq!(error.reason, Reason::CheckpointChanged);
    assert_eq!(error.metadata.get("checkpoint_id"), made.id.map(|id| id.to_string()).as_ref());
    let went_on = run(&core, request(Some(id), "steps", Start::Resume)).await;
    assert_eq!(went_on, value!({"n": 70, "log": ["one", "two"]}));
    assert_eq!(core.get_thread(id).await.unwrap().status, ThreadStatus::Idle);

    let error = core.update_state(update(id, value!({"n": 1}), Some("tow"))).await.unwrap_err();
    assert_eq!(named(&error), (Reason::NodeUnknown, vec!["as_node"]));
    assert!(error.message.contains("did you mean `two`"), "{error}");
    let error = core.update_state(update(id, value!({"n": "x", "m": 1}), Some("two"))).await.unwrap_err();
    assert_eq!(named(&error), (Reason::InvalidUpdate, vec!["values.n", "values.m"]));
    let missing = runloom_core::engine::CheckpointId(fresh());
    let wrong = StateUpdateRequest { checkpoint_id: Some(missing), ..update(id, value!({"n": 1}), None) };
    assert_eq!(core.update_state(wrong).await.unwrap_err().reason, Reason::CheckpointNotFound);
    let wrong = StateUpdateRequest { namespace: "no:such".into(), ..update(id, value!({"n": 1}), None) };
    assert_eq!(named(&core.update_state(wrong).await.unwrap_err()), (Reason::FieldInvalid, vec!["namespace"]));
}

#[tokio::test]
async fn questions_stay_on_the_thread_until_they_are_answered_or_passed() {
    let core = memory().await;
    let id = thread(&core).await;
    run(&core, request(Some(id), "ask", Start::Input(value!({})))).await;
    let asked = core.get_thread(id).await.unwrap();
    assert_eq!(asked.status, ThreadStatus::Interrupted);
    assert_eq!(asked.interrupts.unwrap().as_object().unwrap().len(), 1);
    core.update_state(update(id, value!({"draft": "edited"}), Some("draft"))).await.unwrap();
    let edited = core.get_thread(id).await.unwrap();
    assert_eq!((edited.status, edited.interrupts), (ThreadStatus::Interrupted, Some(value!({}))));
    core.update_state(update(id, value!({"answer": "yes"}), Some("review"))).await.unwrap();
    assert_eq!(core.get_thread(id).await.unwrap().status, ThreadStatus::Idle);
    let view = core.get_state(StateQuery::latest(id)).await.unwrap();
    assert_eq!(Value::from(view.values_object()), value!({"draft": "edited", "answer": "yes"}));
}

#[tokio::test]
async fn the_state_of_a_subgraph_is_read_and_written_where_it_stopped() {
    let inner = ASK.replace("name: ask", "name: inner\nhidden: true");
    let outer = PARENT.replace("subgraph: child", "subgraph: inner").replace("n: {", "draft: {}, answer: {}, n: {");
    let core = start(Arc::new(MemoryStore::new()), documents(&[("inner", &inner), ("outer", &outer)])).await;
    let id = thread(&core).await;
    run(&core, request(Some(id), "parent", Start::Input(value!({"n": 1})))).await;
    let view = core.get_state(StateQuery { subgraphs: true, ..StateQuery::latest(id) }).await.unwrap();
    let within = view.tasks[0].state.as_ref().unwrap();
    assert_eq!(within.values_object().get("draft"), Some(&"v1".into()));
    let namespace = within.config.as_ref().unwrap().ns.to_string();
    let query = StateQuery { namespace: namespace.clone(), ..StateQuery::latest(id) };
    let by_name = core.get_state(query.clone()).await.unwrap();
    assert_eq!(by_name.next, within.next);
    let first = CheckpointFilter { limit: Some(1), ..CheckpointFilter::default() };
    let page = core.list_checkpoints(id, &namespace, first, None).await.unwrap();
    assert_eq!((page.items.len(), page.items[0].step), (1, by_name.step));
    let rest = core.list_checkpoints(id, &namespace, CheckpointFilter::default(), page.next.as_deref()).await.unwrap();
    assert!(rest.items.iter().all(|c| c.step < by_name.step) && !rest.items.is_empty());

    let write = |values: Value, node| StateUpdateRequest { namespace: namespace.clone(), ..update(id, values, node) };
    let error = core.update_state(write(value!({"draft": 1}), Some("reviw"))).await.unwrap_err();
    assert_eq!(error.reason, Reason::NodeUnknown);
    assert!(error.message.contains("graph `inner`") && error.message.contains("`review`"), "{error}");
    let error = core.update_state(write(value!({"drft": 1}), Some("draft"))).await.unwrap_err();
    assert_eq!(error.reason, Reason::InvalidUpdate);
    core.update_state(write(value!({"draft": "v2"}), Some("draft"))).await.unwrap();
    let edited = core.get_state(query.clone()).await.unwrap();
    assert_eq!(edited.values_object().get("draft"), Some(&"v2".into()));
    assert_eq!(core.get_thread(id).await.unwrap().status, ThreadStatus::Interrupted);
    let wrong = StateQuery { namespace: "nowhere:1".into(), ..query };
    assert_eq!(named(&core.get_state(wrong).await.unwrap_err()), (Reason::FieldInvalid, vec!["namespace"]));
}

const SLOW: &str = r#"
runloom: v1
name: slow
state: { n: {} }
nodes: { wait: { steps: [ { sleep_ms: 60000 }, { update: { n: 1 } } ] } }
edges: [ { from: START, to: wait } ]
"#;

#[tokio::test]
async fn a_busy_thread_is_not_written_and_goes_with_its_run() {
    let core = start(Arc::new(MemoryStore::new()), documents(&[("slow", SLOW)])).await;
    let id = thread(&core).await;
    let busy = core.create_run(request(Some(id), "slow", Start::Input(value!({})))).await.unwrap().0;
    let waits = core.create_run(request(Some(id), "slow", Start::Input(value!({})))).await.unwrap().0;
    while core.get_run(busy.id).await.unwrap().attempt == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let error = core.update_state(update(id, value!({"n": 2}), None)).await.unwrap_err();
    assert_eq!((error.reason, error.metadata.get("run_id")), (Reason::ThreadBusy, Some(&busy.id.to_string())));
    assert_eq!(core.prune_thread(id, 1).await.unwrap_err().reason, Reason::ThreadBusy);
    let (reader, waiter) = (core.clone(), core.clone());
    let first = tokio::spawn(async move { reader.wait_run(busy.id).await });
    let second = tokio::spawn(async move { waiter.wait_run(waits.id).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let since = std::time::Instant::now();
    core.delete_thread(id).await.unwrap();
    assert!(since.elapsed() < Duration::from_secs(4));
    assert_eq!(core.get_thread(id).await.unwrap_err().reason, Reason::ThreadNotFound);
    for ended in [first.await.unwrap(), second.await.unwrap()] {
        // Its readers have seen the end, or that the run is gone.
        match ended {
            Ok(outcome) => assert_eq!(outcome.end.error.map(|e| e.reason), Some(Reason::Cancelled)),
            Err(error) => assert_eq!(error.reason, Reason::RunNotFound),
        }
    }
}

#[tokio::test]
async fn a_thread_that_does_not_fit_the_new_revision_says_what_changed() {
    let core = start(Arc::new(MemoryStore::new()), Vec::new()).await;
    core.register_graph(STEPS, false).await.unwrap();
    let id = thread(&core).await;
    let mut stopped = request(Some(id), "steps", Start::Input(value!({"n": 1})));
    stopped.spec.interrupt_before = vec!["two".into()];
    run(&core, stopped).await;
    let changed = STEPS.replace("two", "deux").replace("log: { reducer: append }", "log: { reducer: merge }");
    core.register_graph(&changed.replace(r#"'["deux"]'"#, "'{}'").replace(r#"'["one"]'"#, "'{}'"), false)
        .await
        .unwrap();
    let error = core.create_run(request(Some(id), "steps", Start::Resume)).await.unwrap_err();
    assert_eq!(error.reason, Reason::GraphIncompatible);
    assert!(error.message.contains("node `two`") && error.message.contains("channel `log`"), "{error}");
    assert!(error.metadata.contains_key("changes") && error.metadata.contains_key("checkpoint_revision"));
    let error = core.update_state(update(id, value!({"n": 1}), Some("one"))).await.unwrap_err();
    assert_eq!(error.reason, Reason::GraphIncompatible);
    core.get_state(StateQuery::latest(id)).await.unwrap();
    core.register_graph(&STEPS.replace("* 10", "* 20"), false).await.unwrap();
    assert_eq!(run(&core, request(Some(id), "steps", Start::Resume)).await.get("n"), Some(&Value::Int(40)));
}

#[tokio::test]
async fn sqlite_keeps_what_is_registered_and_the_default_assistants() {
    let folder = Folder::new();
    let core = start(folder.open(), documents(&[("echo", ECHO)])).await;
    let made = core.register_graph(STEPS, false).await.unwrap().graph;
    let id = thread(&core).await;
    core.update_state(StateUpdateRequest { graph: Some("steps".into()), ..update(id, value!({"n": 1}), None) })
        .await
        .unwrap();
    let tone = AssistantUpdate { context: Some(value!({"tone": "warm"})), ..AssistantUpdate::default() };
    core.update_assistant(default_assistant_id("echo"), tone).await.unwrap();
    core.drain().await;
    drop(core);
    tokio::time::sleep(Duration::from_millis(200)).await;

    let core = start(folder.open(), documents(&[("ask", ASK)])).await;
    let known = core.get_graph("steps").await.unwrap();
    assert_eq!((known.revision, known.created_at), (made.revision, made.created_at));
    let view = core.get_state(StateQuery::latest(id)).await.unwrap();
    assert_eq!(view.values_object().get("n"), Some(&Value::Int(1)));
    let names =
        core.list_assistants(AssistantFilter::default(), Default::default(), PageRequest::default()).await.unwrap();
    let mut names: Vec<_> = names.items.into_iter().map(|a| a.name).collect();
    names.sort();
    assert_eq!(names, ["ask", "echo", "steps"], "one that was changed waits for its graph");
    core.drain().await;
    drop(core);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let core = start(folder.open(), documents(&[("echo", ECHO)])).await;
    let told = run(&core, request(None, "echo", Start::Input(value!({"q": "hi"})))).await;
    assert_eq!(told.get_str("a"), Some("warm: hi"));
    core.drain().await;
}
