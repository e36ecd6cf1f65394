//! Graphs: where they come from, their revisions, what they take and give.

use super::*;

on_every_store!(
    a_graph_is_drawn_and_described,
    graphs_are_listed_in_pages_without_the_hidden_ones,
    a_document_is_registered_revised_and_deleted,
    a_graph_takes_along_those_that_run_it_inside,
    a_watched_folder_serves_what_holds_and_keeps_what_breaks,
    a_name_comes_from_one_source
);

fn program(name: &str) -> Graph {
    let mut graph = GraphBuilder::new(name);
    graph.add_channel(ChannelSpec::new("n").reducer(Reducer::Add));
    graph.add_node("add", node(|_: StateView, _| async { Ok(Update::new().set("n", 1)) }));
    graph.add_edge(START, "add");
    graph.compile().unwrap()
}

async fn a_graph_is_drawn_and_described(store: Arc<dyn Store>) {
    let core = start(store, all()).await;
    let parent = Target::Graph("parent".into());
    let flat = core.draw(&parent, 0).await.unwrap();
    assert_eq!(flat.nodes.iter().map(|n| &*n.id).collect::<Vec<_>>(), ["__start__", "sub", "__end__"]);
    let deep = core.draw(&parent, 1).await.unwrap();
    assert!(deep.nodes.iter().any(|n| &*n.id == "sub:inner"), "{deep:?}");
    let is_there = |id: &str| deep.nodes.iter().any(|n| &*n.id == id);
    assert!(deep.edges.iter().all(|e| is_there(&e.source) && is_there(&e.target)), "{deep:?}");
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

async fn graphs_are_listed_in_pages_without_the_hidden_ones(store: Arc<dyn Store>) {
    let core = start(store, all()).await;
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

// G29
async fn a_document_is_registered_revised_and_deleted(store: Arc<dyn Store>) {
    let core = start(store, documents(&[("echo", ECHO)])).await;
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

async fn a_graph_takes_along_those_that_run_it_inside(store: Arc<dyn Store>) {
    let core = start(store, Vec::new()).await;
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

async fn a_watched_folder_serves_what_holds_and_keeps_what_breaks(store: Arc<dyn Store>) {
    let core = start(store, documents(&[("echo", ECHO), ("steps", STEPS)])).await;
    core.register_graph(CHILD, false).await.unwrap();
    let echo = core.get_graph("echo").await.unwrap().revision;
    let changed = STEPS.replace("* 10", "* 2");
    let told = core
        .core()
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

    let told = core.core().reload_documents(documents(&[("echo", ECHO), ("moved", &changed)])).await.unwrap();
    assert!(told.iter().any(|t| t.file == "parent.yaml" && t.graph.is_none()));
    assert!(told.iter().all(|t| t.error.is_none()), "{told:?}");
    let of = |file: &str| told.iter().find(|t| t.file == file).unwrap();
    assert!(!of("echo.yaml").changed && !of("moved.yaml").changed);
    assert_eq!(core.get_graph("steps").await.unwrap().file.as_deref(), Some("moved.yaml"));
    assert_eq!(core.get_assistant(default_assistant_id("parent")).await.unwrap_err().reason, Reason::AssistantNotFound);
    let renamed =
        core.core().reload_documents(documents(&[("echo", ECHO), ("moved", &changed.replace("steps", "paces"))])).await;
    assert!(renamed.unwrap().iter().any(|t| t.graph.as_ref().is_some_and(|g| g.name == "paces")));
    assert_eq!(core.get_graph("steps").await.unwrap_err().reason, Reason::GraphUnknown);
}

// G27
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
    core.core().drain().await;
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
    core.core().drain().await;
}

async fn a_name_comes_from_one_source(store: Arc<dyn Store>) {
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

    let options = options(Vec::new(), vec![("count".into(), program("count"))]);
    let core = Core::start(options).await.unwrap().session(runloom_core::Caller::default());
    assert_eq!(core.get_graph("count").await.unwrap().source, GraphSource::Program);
    assert_eq!(run(&core, request(None, "count", Start::Input(value!({"n": 1})))).await, value!({"n": 2}));
    assert_eq!(core.delete_graph("count").await.unwrap_err().reason, Reason::GraphNotRegistered);
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
    core.core().drain().await;
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
    core.core().drain().await;
    drop(core);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let core = start(folder.open(), documents(&[("echo", ECHO)])).await;
    let told = run(&core, request(None, "echo", Start::Input(value!({"q": "hi"})))).await;
    assert_eq!(told.get_str("a"), Some("warm: hi"));
    core.core().drain().await;
}
