//! Error handlers of nodes: when they run, what they are given, where they lead, and what is seen of them.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt;
use runloom_engine::{
    channel::ChannelSpec,
    checkpoint::{CheckpointFilter, MemoryCheckpointer},
    stream::{Mode, Modes, Payload, UpdatePart},
    *,
};

const HANDLER: &str = "__error_handler__boom";

fn log(text: impl Into<String>) -> Update {
    Update::new().set("log", vec![text.into()])
}

fn thread() -> RunConfig {
    RunConfig::thread(ThreadId(uuid::Uuid::now_v7()))
}

/// `boom` fails beside `sib`; `next` follows `boom`, and `after` nothing.
fn graph(boom: NodeSpec) -> Graph {
    let mut b = GraphBuilder::new("handled");
    b.add_channel(ChannelSpec::new("log").reducer(Reducer::Append));
    let said = |text: &'static str| node(move |_: StateView, _| async move { Ok(log(text)) });
    b.add_node("boom", boom)
        .add_node("sib", said("sib"))
        .add_node("after", said("after"))
        .add_node("next", said("next"));
    b.add_edge(START, "boom").add_edge(START, "sib").add_edge("boom", "next");
    b.compile().unwrap().with_checkpointer(Arc::new(MemoryCheckpointer::default()))
}

fn failing() -> NodeSpec {
    node(|_: StateView, _| async move { Err::<Update, _>(NodeError::new("OutOfStock", "no more")) })
}

/// Writes what it was told of the error.
fn noting() -> NodeSpec {
    node(|_: StateView, cx: Context| async move {
        let error = cx.error().unwrap().clone();
        Ok(log(format!("{} {}: {}", error.node, error.failure.kind, error.failure.message)))
    })
}

fn logged(finished: &Finished) -> Vec<&str> {
    finished.values.get("log").and_then(Value::as_list).unwrap().iter().filter_map(Value::as_str).collect()
}

#[tokio::test]
async fn a_handler_runs_in_the_same_step_and_its_write_stands_in_the_node_s_place() {
    let graph = graph(failing().error_handler(noting()));
    let done = graph.invoke(value!({"log": ["in"]}), thread()).await.unwrap();
    assert_eq!(logged(&done), ["in", "boom OutOfStock: no more", "sib"], "before the sibling's; `next` does not run");
    assert!(graph.warnings().iter().all(|warning| !warning.contains(HANDLER)), "{:?}", graph.warnings());
}

#[tokio::test]
async fn a_handler_routes_by_command() {
    let route = node(|_: StateView, _| async move { Ok(Command::new().update(log("routed")).goto("after")) });
    let done = graph(failing().error_handler(route)).invoke(value!({"log": []}), thread()).await.unwrap();
    assert_eq!(logged(&done), ["routed", "sib", "after"]);
}

#[tokio::test(start_paused = true)]
async fn retries_come_first_and_a_handler_has_its_own() {
    let (calls, handled): (Arc<AtomicUsize>, Arc<AtomicUsize>) = Default::default();
    let policy = |max_attempts| RetryPolicy { max_attempts, jitter: false, ..RetryPolicy::default() };
    let (boom, fix) = (calls.clone(), handled.clone());
    let boom = node(move |_: StateView, _| {
        boom.fetch_add(1, Ordering::SeqCst);
        async move { Err::<Update, _>(NodeError::msg("no")) }
    });
    let fix = node(move |_: StateView, cx: Context| {
        let first = fix.fetch_add(1, Ordering::SeqCst) == 0;
        async move { if first { Err(NodeError::msg("not yet")) } else { Ok(log(format!("try {}", cx.attempt()))) } }
    });
    let graph = graph(boom.retry(policy(3)).error_handler(fix.retry(policy(2))));
    let done = graph.invoke(value!({"log": []}), thread()).await.unwrap();
    assert_eq!(logged(&done), ["try 2", "sib"]);
    assert_eq!((calls.load(Ordering::SeqCst), handled.load(Ordering::SeqCst)), (3, 2));
}

#[tokio::test]
async fn a_timeout_and_a_failure_inside_a_subgraph_are_handled() {
    let slow = node(|_: StateView, _| async move {
        std::future::pending::<()>().await;
        Ok(())
    });
    let done = graph(slow.timeout(Duration::from_millis(5)).error_handler(noting()));
    let done = done.invoke(value!({"log": []}), thread()).await.unwrap();
    assert!(logged(&done)[0].starts_with("boom NodeTimeoutError"), "{:?}", logged(&done));

    let mut inner = GraphBuilder::new("inner");
    inner.add_channel(ChannelSpec::new("log").reducer(Reducer::Append));
    inner.add_node("deep", failing()).add_edge(START, "deep");
    let done = graph(subgraph(inner.compile().unwrap()).error_handler(noting()));
    let done = done.invoke(value!({"log": []}), thread()).await.unwrap();
    assert_eq!(logged(&done)[0], "boom OutOfStock: no more");
}

#[tokio::test]
async fn what_is_streamed_shows_the_failure_then_the_handler_s_task() {
    let graph = graph(failing().error_handler(noting()));
    let modes: Modes = [Mode::Updates, Mode::Tasks].into();
    let mut stream = graph.stream(value!({"log": []}), thread().modes(modes));
    let mut seen = Vec::new();
    while let Some(part) = stream.next().await {
        match part.payload {
            Payload::Update(UpdatePart::Node { node, .. }) => seen.push(format!("update {node}")),
            Payload::TaskStart(start) => seen.push(format!("start {}", start.meta.task.as_ref().unwrap().node)),
            Payload::TaskEnd(end) => {
                let error = end.error.as_ref().map_or("", |error| &error.message);
                seen.push(format!("end {} {error}", end.meta.task.as_ref().unwrap().node));
                if *end.meta.task.as_ref().unwrap().node == *HANDLER {
                    assert_eq!(end.meta.path, value!(["__pregel_pull", "boom", "node_error_handler", false]));
                    assert_eq!(&*end.meta.triggers, [Arc::from("__pregel_push")]);
                    let known =
                        graph.describe_task(&end.meta.metadata, &[], &end.meta.checkpoint_ns, end.meta.step, 1, None);
                    assert_eq!(known, *end.meta, "as who reads it back from a log has it");
                }
            }
            _ => {}
        }
    }
    let at = |text: &str| seen.iter().position(|s| s == text).unwrap_or_else(|| panic!("no {text} in {seen:?}"));
    let order = [
        at("start boom"),
        at("end boom no more"),
        at("start __error_handler__boom"),
        at("update __error_handler__boom"),
        at("end __error_handler__boom "),
    ];
    assert!(order.is_sorted(), "{seen:?}");
}

#[tokio::test]
async fn a_handler_that_fails_fails_the_run_and_runs_again_alone() {
    let (calls, fixes): (Arc<AtomicUsize>, Arc<AtomicUsize>) = Default::default();
    let (boom, fix) = (calls.clone(), fixes.clone());
    let boom = node(move |_: StateView, _| {
        boom.fetch_add(1, Ordering::SeqCst);
        async move { Err::<Update, _>(NodeError::msg("no")) }
    });
    let fix = node(move |_: StateView, cx: Context| {
        let first = fix.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            if first { Err(NodeError::msg("worse")) } else { Ok(log(cx.error().unwrap().failure.message.to_string())) }
        }
    });
    let graph = graph(boom.error_handler(fix));
    let on = thread();
    let error = graph.invoke(value!({"log": []}), on.clone()).await.unwrap_err();
    assert!(
        matches!(&error, Error::Node { node, error, .. } if node == HANDLER && &*error.message == "worse"),
        "{error:?}"
    );
    let state = graph.get_state(on.thread_id.unwrap(), None, false).await.unwrap();
    let errors: Vec<_> = state.tasks.iter().map(|t| (&*t.name, t.error.as_ref().map(|e| &*e.message))).collect();
    assert_eq!(errors[..2], [("boom", Some("no")), (HANDLER, Some("worse"))], "{errors:?}");
    let done = graph.invoke(Input::Resume, on).await.unwrap();
    assert_eq!(logged(&done), ["no", "sib"]);
    assert_eq!(
        (calls.load(Ordering::SeqCst), fixes.load(Ordering::SeqCst)),
        (1, 2),
        "the node itself does not run again"
    );
}

#[tokio::test]
async fn a_handler_can_ask_and_the_history_is_langgraph_s() {
    let ask = node(|_: StateView, cx: Context| async move { Ok(log(format!("do {}", cx.interrupt("what now?")?))) });
    let graph = graph(failing().error_handler(ask));
    let on = thread();
    let stopped = graph.invoke(value!({"log": []}), on.clone()).await.unwrap();
    assert_eq!(stopped.interrupts.len(), 1);
    let at = on.thread_id.unwrap();
    let state = graph.get_state(at, None, false).await.unwrap();
    assert_eq!(state.next, [Arc::from(HANDLER)]);
    assert_eq!(state.interrupts().count(), 1);
    let done = graph.invoke(Command::resume("nothing"), on).await.unwrap();
    assert_eq!(logged(&done), [r#"do "nothing""#, "sib"]);
    let history = graph.state_history(at, CheckpointFilter::default()).await.unwrap();
    let steps: Vec<_> = history.iter().map(|view| view.next.iter().map(|n| &**n).collect::<Vec<_>>()).collect();
    assert_eq!(steps, [vec![], vec!["boom", "sib"], vec!["__start__"]]);
}

#[tokio::test]
async fn a_step_that_is_ended_by_hand_has_what_its_handler_wrote() {
    let ask = node(|_: StateView, cx: Context| async move {
        cx.interrupt("wait")?;
        Ok(())
    });
    let mut b = GraphBuilder::new("cleared");
    b.add_channel(ChannelSpec::new("log").reducer(Reducer::Append));
    b.add_node("boom", failing().error_handler(noting())).add_node("ask", ask);
    b.add_edge(START, "boom").add_edge(START, "ask");
    let graph = b.compile().unwrap().with_checkpointer(Arc::new(MemoryCheckpointer::default()));
    let on = thread();
    graph.invoke(value!({"log": []}), on.clone()).await.unwrap();
    let at = on.thread_id.unwrap();
    let shown = graph.get_state(at, None, false).await.unwrap();
    assert_eq!(shown.values.get("log").unwrap().as_list().unwrap().len(), 1, "finished tasks are shown");
    let clear = StateUpdate { values: None, as_node: Some(END.to_owned()) };
    graph.update_state(at, None, "", vec![clear], Object::default()).await.unwrap();
    let state = graph.get_state(at, None, false).await.unwrap();
    assert_eq!(state.values.get("log"), Some(&value!(["boom OutOfStock: no more"])));
    assert!(state.next.is_empty());
}

#[tokio::test]
async fn a_handler_of_a_send_is_that_send_s() {
    let mut b = GraphBuilder::new("sent");
    b.add_channel(ChannelSpec::new("log").reducer(Reducer::Append));
    let work = node(|input: StateView, _| async move {
        let n = input.get("n").cloned().unwrap_or_default();
        if n.as_u64() == Some(1) { Ok(log("one")) } else { Err(NodeError::msg(format!("no {n}"))) }
    });
    let fix = node(|input: StateView, cx: Context| async move {
        let n = input.get("n").cloned().unwrap_or_default();
        Ok(log(format!("{n}: {}", cx.error().unwrap().failure.message)))
    });
    b.add_node("work", work.error_handler(fix));
    let send = |n: i64| Goto::from(command::Send { node: "work".into(), input: value!({"n": n}) });
    b.add_route(START, "route", Arc::new(move |_: &StateView, _: &Context| Ok(vec![send(0), send(1), send(2)])), None);
    let done = b.compile().unwrap().invoke(value!({"log": []}), RunConfig::default()).await.unwrap();
    assert_eq!(logged(&done), ["0: no 0", "one", "2: no 2"]);
}

#[tokio::test]
async fn what_a_handler_cannot_have_is_refused_and_nothing_leads_to_it() {
    let refused = |spec: NodeSpec| {
        let mut b = GraphBuilder::new("refused");
        b.add_node("boom", failing().error_handler(spec)).add_edge(START, "boom");
        b.compile().unwrap_err().to_string()
    };
    assert!(refused(noting().cache(CachePolicy::default())).contains("cannot have a cache"));
    assert!(refused(noting().defer()).contains("cannot have `defer`"));
    assert!(refused(noting().error_handler(noting())).contains("cannot have an error handler"));

    let mut b = GraphBuilder::new("led");
    b.add_node("boom", failing().error_handler(noting())).add_edge(START, "boom").add_edge("boom", HANDLER);
    assert!(b.compile().unwrap_err().to_string().contains("which handles errors"));
    let go = node(|_: StateView, _| async move { Ok(Command::new().goto(HANDLER)) });
    let error = graph(go.error_handler(noting())).invoke(value!({"log": []}), thread()).await.unwrap();
    assert!(logged(&error)[0].contains("which is no node"), "{:?}", logged(&error));
}

#[tokio::test(start_paused = true)]
async fn only_heartbeats_refresh_an_idle_timeout_that_says_so() {
    let work = |beats: bool| {
        node(move |_: StateView, cx: Context| async move {
            for i in 0..10 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                if beats { cx.heartbeat() } else { cx.emit(i) }
            }
            Ok(())
        })
    };
    let run = async |spec: NodeSpec| {
        let mut b = GraphBuilder::new("idle");
        b.add_node("n", spec.idle_timeout(Duration::from_secs(2)).refresh_on(RefreshOn::Heartbeat))
            .add_edge(START, "n");
        b.compile().unwrap().invoke(value!({}), RunConfig::default().modes(Mode::Custom)).await
    };
    let error = run(work(false)).await.unwrap_err();
    assert!(error.to_string().contains("made no progress for 2s"), "{error}");
    run(work(true)).await.unwrap();
    // A heartbeat of a node inside counts for the node around it; what it emits does not.
    let inside = |beats: bool| {
        let mut b = GraphBuilder::new("inside");
        b.add_node("n", work(beats)).add_edge(START, "n");
        subgraph(b.compile().unwrap())
    };
    assert!(run(inside(false)).await.is_err());
    run(inside(true)).await.unwrap();
}
