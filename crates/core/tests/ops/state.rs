//! The state of threads: read, listed, written by hand.

use super::*;

on_every_store!(
    a_thread_that_never_ran_has_an_empty_state_until_a_graph_is_named,
    a_state_is_written_by_hand_and_forked,
    questions_stay_on_the_thread_until_they_are_answered_or_passed,
    the_state_of_a_subgraph_is_read_and_written_where_it_stopped,
    a_thread_that_does_not_fit_the_new_revision_says_what_changed
);

async fn a_thread_that_never_ran_has_an_empty_state_until_a_graph_is_named(store: Arc<dyn Store>) {
    let core = start(store, all()).await;
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

async fn a_state_is_written_by_hand_and_forked(store: Arc<dyn Store>) {
    let core = start(store, all()).await;
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

async fn questions_stay_on_the_thread_until_they_are_answered_or_passed(store: Arc<dyn Store>) {
    let core = start(store, all()).await;
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

async fn the_state_of_a_subgraph_is_read_and_written_where_it_stopped(store: Arc<dyn Store>) {
    let inner = ASK.replace("name: ask", "name: inner\nhidden: true");
    let outer = PARENT.replace("subgraph: child", "subgraph: inner").replace("n: {", "draft: {}, answer: {}, n: {");
    let core = start(store, documents(&[("inner", &inner), ("outer", &outer)])).await;
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

// G28
async fn a_thread_that_does_not_fit_the_new_revision_says_what_changed(store: Arc<dyn Store>) {
    let core = start(store, Vec::new()).await;
    core.register_graph(STEPS, false).await.unwrap();
    let id = thread(&core).await;
    let mut stopped = request(Some(id), "steps", Start::Input(value!({"n": 1})));
    stopped.spec.options.interrupt_before = vec!["two".into()];
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
