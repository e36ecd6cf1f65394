//! Threads as records.

use super::*;

on_every_store!(threads_are_kept_as_records, a_busy_thread_is_not_written_and_goes_with_its_run);

const SLOW: &str = r#"
runloom: v1
name: slow
state: { n: {} }
nodes: { wait: { steps: [ { sleep_ms: 60000 }, { update: { n: 1 } } ] } }
edges: [ { from: START, to: wait } ]
"#;

async fn threads_are_kept_as_records(store: Arc<dyn Store>) {
    let core = start(store, all()).await;
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

async fn a_busy_thread_is_not_written_and_goes_with_its_run(store: Arc<dyn Store>) {
    let core = start(store, documents(&[("slow", SLOW)])).await;
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
