//! What a run starts from: a checkpoint, or a command. What is wrong with it is refused when the run is asked for, and the
//! thread is as before.

use super::*;

on_every_store!(a_run_starts_from_a_checkpoint_that_is_there_and_fits, a_command_is_checked_and_bounded_like_an_input,);

const NONE: &str = "0198c0de-0000-7000-8000-000000000000";

// G28
async fn a_run_starts_from_a_checkpoint_that_is_there_and_fits(store: Arc<dyn Store>) {
    let core = start(store, Vec::new()).await;
    core.register_graph(STEPS, false).await.unwrap();
    let id = thread(&core).await;
    let from = |at: &str, start: Start| {
        let mut from = request(Some(id), "steps", start);
        from.spec.options.checkpoint_id = Some(at.parse().unwrap());
        from
    };
    let unknown = core.create_run(from(NONE, Start::Input(value!({"n": 1})))).await.unwrap_err();
    assert_eq!(unknown.reason, Reason::CheckpointNotFound);
    let mut nowhere = from(NONE, Start::Input(value!({"n": 1})));
    nowhere.thread_id = Some(ThreadId(fresh()));
    assert_eq!(core.create_run(nowhere).await.unwrap_err().reason, Reason::CheckpointNotFound, "no thread, none of it");

    let mut stopped = request(Some(id), "steps", Start::Input(value!({"n": 1})));
    stopped.spec.options.interrupt_before = vec!["two".into()];
    run(&core, stopped).await;
    let before = core.get_thread(id).await.unwrap();
    for start in [Start::Resume, Start::Input(value!({"n": 1})), Start::Command(CommandSpec::default())] {
        let error = core.create_run(from(NONE, start)).await.unwrap_err();
        assert_eq!((error.reason, error.metadata["checkpoint_id"].as_str()), (Reason::CheckpointNotFound, NONE));
        assert_eq!(error.metadata["thread_id"], id.to_string());
    }
    let latest = core.list_checkpoints(id, "", CheckpointFilter::default(), None).await.unwrap().items;
    let at =
        |step: i64| latest.iter().find(|c| c.step == step).unwrap().config.as_ref().unwrap().id.unwrap().to_string();

    // The latest checkpoint has `two` next, which is gone; the one before has `one`.
    core.register_graph(&STEPS.replace("two", "deux"), false).await.unwrap();
    let error = core.create_run(request(Some(id), "steps", Start::Resume)).await.unwrap_err();
    assert_eq!(error.reason, Reason::GraphIncompatible);
    let error = core.create_run(from(&at(1), Start::Resume)).await.unwrap_err();
    assert_eq!((error.reason, error.metadata["checkpoint_id"].clone()), (Reason::GraphIncompatible, at(1)));
    let after = core.get_thread(id).await.unwrap();
    assert_eq!((after.status, after.state_updated_at), (before.status, before.state_updated_at));
    // New input discards what is open, in LangGraph's dialect; who asks strictly is told.
    let mut strict = request(Some(id), "steps", Start::Input(value!({"n": 2})));
    strict.spec.options.strict = true;
    assert_eq!(core.create_run(strict).await.unwrap_err().reason, Reason::GraphIncompatible);
    let older = run(&core, from(&at(0), Start::Resume)).await;
    assert_eq!(older, value!({"n": 20, "log": ["one", "deux"]}));
    let anew = run(&core, from(&at(1), Start::Input(value!({"n": 2})))).await;
    assert_eq!(anew, value!({"n": 30, "log": ["one", "one", "deux"]}));
    let stopped = core.get_state(StateQuery { checkpoint_id: Some(at(1).parse().unwrap()), ..StateQuery::latest(id) });
    assert_eq!(stopped.await.unwrap().values_object().get("n"), Some(&Value::Int(2)));
}

async fn a_command_is_checked_and_bounded_like_an_input(store: Arc<dyn Store>) {
    let options = CoreOptions { documents: all(), max_json_bytes: 100, ..CoreOptions::new(store) };
    let core = Core::start(options).await.unwrap().session(Caller::default());
    let id = thread(&core).await;
    let refused = async |command: CommandSpec| {
        let mut asked = request(Some(id), "steps", Start::Command(command));
        asked.spec.options.strict = true;
        core.create_run(asked).await.unwrap_err()
    };
    let long = Value::from("x".repeat(100));
    let none = CommandSpec::default;
    for (command, field) in [
        (CommandSpec { resume: Some(long.clone()), ..none() }, "command.resume"),
        (CommandSpec { resume_by_id: vec![("q".into(), long.clone())], ..none() }, "command.resume_by_id[q]"),
        (CommandSpec { update: vec![object(value!({"log": [long.clone()]}))], ..none() }, "command.update"),
        (CommandSpec { goto: vec![("one".into(), Some(long.clone()))], ..none() }, "command.goto[0].input"),
    ] {
        let error = refused(command).await;
        assert_eq!(named(&error), (Reason::InputTooLarge, vec![field]));
        assert_eq!(error.metadata["maximum_bytes"], "100");
    }
    let wrong = CommandSpec { update: vec![object(value!({"nn": 1, "log": 5, "n": "x"}))], ..none() };
    let error = refused(wrong.clone()).await;
    let fields = vec!["command.update.nn", "command.update.log", "command.update.n"];
    assert_eq!(named(&error), (Reason::InputInvalid, fields));
    assert!(error.message.contains("did you mean `n`?"), "{error}");
    let several = CommandSpec { update: vec![object(value!({"n": 1})), wrong.update[0].clone()], ..none() };
    assert_eq!(refused(several).await.fields[0].0, "command.update[1].nn");
    assert_eq!(core.get_thread(id).await.unwrap().status, ThreadStatus::Idle);

    run(&core, request(Some(id), "steps", Start::Input(value!({"n": 1})))).await;
    let update = CommandSpec { update: vec![object(value!({"n": 4.0}))], goto: vec![("two".into(), None)], ..none() };
    let mut asked = request(Some(id), "steps", Start::Command(update));
    asked.spec.options.strict = true;
    assert_eq!(run(&core, asked).await.get("n"), Some(&Value::Int(40)), "a number as the channel has it");
}
