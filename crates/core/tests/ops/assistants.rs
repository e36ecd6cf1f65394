//! Assistants, and what a run takes of them and of its request.

use super::*;

on_every_store!(
    every_graph_has_a_default_assistant_that_is_always_there,
    an_assistant_is_made_changed_and_set_back_and_its_runs_follow,
    a_runs_settings_are_laid_over_its_assistants_and_its_threads,
    an_input_that_does_not_fit_names_every_channel,
    an_input_past_the_limit_is_refused
);

async fn every_graph_has_a_default_assistant_that_is_always_there(store: Arc<dyn Store>) {
    let core = start(store, all()).await;
    let id = default_assistant_id("echo");
    let assistant = core.get_assistant(id).await.unwrap();
    assert_eq!((&*assistant.graph, &*assistant.name, assistant.version), ("echo", "echo", 1));
    assert_eq!(Value::from(assistant.metadata), value!({"created_by": "system"}));
    assert_eq!((assistant.context, assistant.config.len()), (value!({}), 0));
    assert_eq!(core.count_assistants(AssistantFilter::default()).await.unwrap(), 4, "a hidden graph has none");

    let error = core.delete_assistant(id).await.unwrap_err();
    assert_eq!(error.reason, Reason::AssistantIsDefault);
    core.core().store().delete_assistant(&runloom_store::TenantId::default(), id).await.unwrap();
    assert_eq!(core.get_assistant(id).await.unwrap().graph, "echo");
    core.core().store().delete_assistant(&runloom_store::TenantId::default(), id).await.unwrap();
    let told = run(&core, request(None, "echo", Start::Input(value!({"q": "hi"})))).await;
    assert_eq!(told, value!({"q": "hi", "a": "plain: hi"}));

    let error = core.update_assistant(id, AssistantUpdate { graph: Some("steps".into()), ..Default::default() }).await;
    assert_eq!(error.unwrap_err().reason, Reason::FieldInvalid);
    let error = core.get_assistant(AssistantId(fresh())).await.unwrap_err();
    assert_eq!(error.reason, Reason::AssistantNotFound);
}

async fn an_assistant_is_made_changed_and_set_back_and_its_runs_follow(store: Arc<dyn Store>) {
    let core = start(store, all()).await;
    let new = NewAssistant { graph: "echo".into(), context: value!({"tone": "kind"}), ..NewAssistant::default() };
    let made = core.create_assistant(new.clone()).await.unwrap();
    assert_eq!((&*made.name, made.version), ("Untitled", 1));
    let ask = async |context: Value| {
        let mut request = request(None, "", Start::Input(value!({"q": "hi"})));
        request.target = Target::Assistant(made.id);
        request.spec.options.context = context;
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

async fn a_runs_settings_are_laid_over_its_assistants_and_its_threads(store: Arc<dyn Store>) {
    let core = start(store, all()).await;
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
    request.spec.options.metadata = object(value!({"of": "run"}));
    let limited = core.create_run(request.clone()).await.unwrap().0;
    let end = core.wait_run(limited.id).await.unwrap().end;
    assert_eq!(end.error.map(|e| e.reason), Some(Reason::RecursionLimit), "the assistant's limit holds");

    request.spec.options.recursion_limit = 10;
    assert_eq!(run(&core, request).await.get("n"), Some(&Value::Int(20)), "an integral double became an integer");
    let view = core.get_state(StateQuery::latest(thread.id)).await.unwrap();
    let has = |key: &str| view.metadata.get(key).cloned().unwrap_or_default();
    assert_eq!((has("of"), has("a"), has("t")), ("run".into(), 1.into(), 1.into()));
    assert_eq!((has("graph_id"), has("assistant_id")), ("steps".into(), assistant.id.to_string().into()));
    let config = core.get_thread(thread.id).await.unwrap().config;
    assert_eq!(config.get("configurable"), Some(&value!({"x": 1, "y": 1})));
    assert_eq!(config.get("tags"), Some(&value!(["a"])));
}

async fn an_input_that_does_not_fit_names_every_channel(store: Arc<dyn Store>) {
    let core = start(store, all()).await;
    let give = async |graph: &str, input: Value| {
        core.create_run(request(None, graph, Start::Input(input))).await.map(drop).unwrap_err()
    };
    let error = give("steps", value!({"n": 1.5, "log": "x", "unknown": 1})).await;
    assert_eq!(named(&error), (Reason::InputInvalid, vec!["input.n", "input.log"]));
    assert_eq!(named(&give("steps", value!([1])).await), (Reason::InputInvalid, vec!["input"]));
    let mut wrong = request(None, "echo", Start::Input(value!({"q": "hi"})));
    wrong.spec.options.context = value!({"tone": 3});
    assert_eq!(named(&core.create_run(wrong).await.unwrap_err()), (Reason::ContextInvalid, vec!["context.tone"]));
    assert_eq!(give("child", value!({"n": 1})).await.reason, Reason::GraphUnknown, "a hidden graph is not run");
    let error = core.create_run(RunRequest::default()).await.unwrap_err();
    assert_eq!(error.reason, Reason::FieldInvalid);
    assert_eq!(run(&core, request(None, "parent", Start::Input(value!({"n": 1})))).await, value!({"n": 2}));
}

async fn an_input_past_the_limit_is_refused(store: Arc<dyn Store>) {
    let options = CoreOptions { documents: all(), max_json_bytes: 100, ..CoreOptions::new(store) };
    let core = Core::start(options).await.unwrap().session(Caller::default());
    let error = core.create_run(request(None, "echo", Start::Input(value!({"q": "x".repeat(200)})))).await.unwrap_err();
    assert_eq!(error.reason, Reason::InputTooLarge);
    assert_eq!(error.metadata.get("maximum_bytes").map(String::as_str), Some("100"));
}
