//! What stands beside a node: retries, timeouts, caches, limits; and what models, parents and breakpoints do.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, stream::BoxStream};
use runloom_engine::{
    channel::ChannelSpec,
    checkpoint::{CheckpointFilter, Durability, MemoryCheckpointer},
    model::{ChatModel, ChatRequest, Delta, ModelError, ModelInfo, ToolCallDelta, Usage},
    stream::{Chunk, EventFilter, EventKind, Mode, Part, Patterns, Payload},
    *,
};

fn builder(name: &str) -> GraphBuilder {
    let mut b = GraphBuilder::new(name);
    b.add_channel(ChannelSpec::new("log").reducer(Reducer::Append)).add_channel(ChannelSpec::new("x"));
    b
}

fn log(text: &str) -> Update {
    Update::new().set("log", vec![text])
}

fn thread() -> RunConfig {
    RunConfig::thread(ThreadId(uuid::Uuid::now_v7()))
}

async fn parts(graph: &Graph, input: impl Into<Input>, config: RunConfig) -> (Vec<Part>, Result<Finished, Error>) {
    let mut stream = graph.stream(input, config);
    let mut all = Vec::new();
    while let Some(part) = stream.next().await {
        all.push(part);
    }
    (all, stream.finished().unwrap())
}

/// A node that counts its calls and fails the first so many.
fn flaky(calls: &Arc<AtomicUsize>, fails: usize) -> NodeSpec {
    let calls = calls.clone();
    node(move |_: StateView, cx: Context| {
        let n = calls.fetch_add(1, Ordering::SeqCst);
        async move { if n < fails { Err(NodeError::msg("not yet")) } else { Ok(log(&format!("attempt {}", cx.attempt()))) } }
    })
}

#[tokio::test(start_paused = true)]
async fn retries_are_counted_and_wait_ever_longer() {
    let calls = Arc::default();
    let policy = RetryPolicy {
        max_attempts: 4,
        initial_interval: Duration::from_secs(1),
        backoff: 3.0,
        max_interval: Duration::from_secs(5),
        jitter: false,
        retry_on: None,
    };
    let mut b = builder("retry");
    b.add_node("n", flaky(&calls, 3).retry(policy.clone())).add_edge(START, "n");
    let graph = b.compile().unwrap();
    let began = tokio::time::Instant::now();
    let out = graph.invoke(value!({}), RunConfig::default()).await.unwrap();
    assert_eq!(out.values.get("log"), Some(&value!(["attempt 4"])));
    assert_eq!(began.elapsed().as_secs(), 1 + 3 + 5, "the third pause is cut to the longest");

    let calls: Arc<AtomicUsize> = Arc::default();
    let mut b = builder("retry");
    b.add_node("n", flaky(&calls, 9).retry(policy)).add_edge(START, "n");
    let error = b.compile().unwrap().invoke(value!({}), RunConfig::default()).await.unwrap_err();
    assert!(matches!(&error, Error::Node { node, error, .. } if node == "n" && &*error.kind == "ValueError"));
    assert_eq!(calls.load(Ordering::SeqCst), 4);
}

#[tokio::test(start_paused = true)]
async fn a_slow_node_and_a_silent_one_time_out_and_one_that_tells_does_not() {
    let slow = |tells: bool| {
        node(move |_: StateView, cx: Context| async move {
            for i in 0..10 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                if tells {
                    cx.emit(i);
                }
            }
            Ok(log("done"))
        })
    };
    let run = async |spec: NodeSpec| {
        let mut b = builder("slow");
        b.add_node("n", spec).add_edge(START, "n");
        b.compile().unwrap().invoke(value!({}), RunConfig::default()).await
    };
    let error = run(slow(true).timeout(Duration::from_secs(5))).await.unwrap_err();
    assert_eq!(error.kind(), "NodeTimeoutError");
    assert!(error.to_string().contains("longer than 5s"), "{error}");
    let error = run(slow(false).idle_timeout(Duration::from_secs(2))).await.unwrap_err();
    assert!(error.to_string().contains("made no progress for 2s"), "{error}");
    assert!(run(slow(true).idle_timeout(Duration::from_secs(2))).await.is_ok());
}

#[tokio::test]
async fn no_more_tasks_run_at_once_than_allowed() {
    let (now, most): (Arc<AtomicUsize>, Arc<AtomicUsize>) = Default::default();
    let mut b = builder("narrow");
    for i in 0..6 {
        let (now, most) = (now.clone(), most.clone());
        b.add_edge(START, format!("n{i}"));
        b.add_node(
            format!("n{i}"),
            node(move |_: StateView, _| {
                let (now, most) = (now.clone(), most.clone());
                async move {
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                    now.fetch_sub(1, Ordering::SeqCst);
                    Ok(())
                }
            }),
        );
    }
    let graph = b.compile().unwrap();
    graph.invoke(value!({}), RunConfig { max_concurrency: Some(2), ..RunConfig::default() }).await.unwrap();
    assert_eq!(most.load(Ordering::SeqCst), 2);
}

// G18
#[tokio::test]
async fn durability_exit_keeps_one_checkpoint_and_the_same_state() {
    let mut b = builder("row");
    b.add_node("a", node(|_: StateView, _| async { Ok(log("a")) }));
    b.add_node("b", node(|_: StateView, _| async { Ok(log("b")) }));
    b.add_edge(START, "a").add_edge("a", "b");
    let graph = b.compile().unwrap().with_checkpointer(Arc::new(MemoryCheckpointer::default()));
    let exit = RunConfig { durability: Durability::Exit, ..thread() };
    graph.invoke(value!({}), exit.clone()).await.unwrap();
    let id = exit.thread_id.unwrap();
    let history = graph.state_history(id, CheckpointFilter::default()).await.unwrap();
    assert_eq!(history.len(), 1);
    assert_eq!(history[0].values_object().get("log"), Some(&value!(["a", "b"])));
}

// G14
#[tokio::test]
async fn one_failing_task_cancels_its_siblings_and_keeps_the_finished() {
    struct Dropped(Arc<AtomicUsize>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let dropped: Arc<AtomicUsize> = Arc::default();
    let watch = dropped.clone();
    let mut b = builder("fails");
    b.add_node("done", node(|_: StateView, _| async { Ok(log("done")) }));
    b.add_node(
        "fails",
        node(|_: StateView, _| async {
            tokio::task::yield_now().await;
            Err::<(), _>(NodeError::new("KeyError", "gone"))
        }),
    );
    b.add_node(
        "waits",
        node(move |_: StateView, _| {
            let held = Dropped(watch.clone());
            async move {
                std::future::pending::<()>().await;
                drop(held);
                Ok(())
            }
        }),
    );
    for n in ["done", "fails", "waits"] {
        b.add_edge(START, n);
    }
    let graph = b.compile().unwrap().with_checkpointer(Arc::new(MemoryCheckpointer::default()));
    let config = thread();
    let error = graph.invoke(value!({}), config.clone()).await.unwrap_err();
    assert_eq!(error.kind(), "KeyError");
    assert_eq!(dropped.load(Ordering::SeqCst), 1);
    let state = graph.get_state(config.thread_id.unwrap(), None, false).await.unwrap();
    assert_eq!(state.values_object().get("log"), Some(&value!(["done"])));
    assert_eq!(state.next.iter().map(|n| &**n).collect::<Vec<_>>(), ["fails", "waits"]);
}

/// A model that says what it is told to.
struct Says(Vec<Delta>);

impl ChatModel for Says {
    fn name(&self) -> &str {
        "Says"
    }
    fn info(&self) -> ModelInfo {
        ModelInfo { provider: "test".into(), model: "says".into() }
    }
    fn stream(&self, _: ChatRequest) -> BoxStream<'static, Result<Delta, ModelError>> {
        Box::pin(futures_util::stream::iter(self.0.clone().into_iter().map(Ok)))
    }
}

fn talk(deltas: Vec<Delta>) -> Graph {
    let model = Arc::new(Says(deltas));
    let mut b = GraphBuilder::new("talk");
    b.add_channel(ChannelSpec::new("messages").reducer(Reducer::Messages));
    b.add_node(
        "say",
        node(move |_: StateView, cx: Context| {
            let model = model.clone();
            async move {
                let message = cx.chat(&*model, ChatRequest::default(), &["mine".into()]).await?;
                Ok(Update::new().set("messages", vec![message]))
            }
        })
        .tag("node-tag"),
    );
    b.add_edge(START, "say");
    b.compile().unwrap()
}

fn call(index: u32, id: Option<&str>, args: &str) -> Delta {
    let piece = ToolCallDelta { index, id: id.map(Into::into), name: id.map(|_| "look".into()), args: args.into() };
    Delta { tool_calls: vec![piece], ..Delta::default() }
}

#[tokio::test]
async fn a_message_is_put_together_from_its_pieces_and_told_once() {
    let usage = Usage { input_tokens: 3, output_tokens: 4, ..Usage::default() };
    let deltas = vec![
        Delta { reasoning: "hm".into(), ..Delta::default() },
        Delta::text("Hel"),
        Delta::text("lo"),
        call(0, Some("c1"), r#"{"a""#),
        call(1, Some("c2"), "{}"),
        call(0, None, ": 1}"),
        Delta { usage: Some(usage), ..Delta::end() },
    ];
    let graph = talk(deltas.clone());
    let config = RunConfig::default().modes(Mode::Messages);
    let (told, end) = parts(&graph, value!({}), config).await;
    assert_eq!(told.len(), deltas.len(), "each piece once, and the whole message not again");
    let end = end.unwrap();
    assert_eq!(end.usage, usage);
    let message = end.values.get("messages").unwrap().as_list().unwrap().last().unwrap().clone();
    assert_eq!(message.get("tool_calls").unwrap().as_list().unwrap().len(), 2);
    assert_eq!(
        message.get("tool_calls").unwrap().as_list().unwrap().get(0).unwrap().get("args"),
        Some(&value!({"a": 1}))
    );
    let content = message.get("content").unwrap().to_string();
    assert!(content.contains(r#""reasoning":"hm""#) && content.contains(r#""text":"Hello""#), "{content}");
}

#[tokio::test]
async fn a_stream_that_ends_in_the_middle_is_a_failure() {
    let error = talk(vec![Delta::text("Hel")]).invoke(value!({}), RunConfig::default()).await.unwrap_err();
    assert!(error.to_string().contains("ended in the middle"), "{error}");
}

#[tokio::test]
async fn events_are_filtered_by_kind_name_node_and_tag() {
    let graph = talk(vec![Delta::text("a"), Delta::default(), Delta::end()]);
    let names = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    let kinds = async |filter: EventFilter| {
        let config = RunConfig { events: filter, ..RunConfig::default() }.modes(Mode::Events);
        let (told, _) = parts(&graph, value!({}), config).await;
        told.iter()
            .map(|p| match &p.payload {
                Payload::Event(e) => e.kind,
                other => panic!("{other:?}"),
            })
            .collect::<Vec<_>>()
    };
    let all = kinds(EventFilter::default()).await;
    assert_eq!(all.iter().filter(|k| **k == EventKind::ChatModelStream).count(), 3);
    let only = EventFilter { include_kinds: vec![EventKind::ChatModelEnd], ..EventFilter::default() };
    assert_eq!(kinds(only).await, [EventKind::ChatModelEnd]);
    let tagged = EventFilter { tags: Patterns::new(&names(&["mi?e"]), &[]).unwrap(), ..EventFilter::default() };
    assert!(
        kinds(tagged)
            .await
            .iter()
            .all(|k| matches!(k, EventKind::ChatModelStart | EventKind::ChatModelStream | EventKind::ChatModelEnd))
    );
    let inherited = EventFilter { tags: Patterns::new(&names(&["node-tag"]), &[]).unwrap(), ..EventFilter::default() };
    assert!(kinds(inherited).await.contains(&EventKind::ChatModelStream), "a child has its node's tags");
    let without = EventFilter { nodes: Patterns::new(&[], &names(&["say"])).unwrap(), ..EventFilter::default() };
    assert!(!kinds(without).await.contains(&EventKind::ChatModelStream));
    let full = EventFilter { skip_empty_chunks: true, ..EventFilter::default() };
    assert_eq!(kinds(full).await.iter().filter(|k| **k == EventKind::ChatModelStream).count(), 1);
    let none = EventFilter { names: Patterns::new(&names(&["nobody"]), &[]).unwrap(), ..EventFilter::default() };
    assert!(kinds(none).await.is_empty());
}

#[tokio::test]
async fn a_subgraphs_failure_names_its_node_and_is_retried_by_its_parents_policy() {
    let calls: Arc<AtomicUsize> = Arc::default();
    let mut b = builder("inner");
    b.add_node("first", node(|_: StateView, _| async { Ok(log("first")) }));
    b.add_node("n", flaky(&calls, 1)).add_edge(START, "first").add_edge("first", "n");
    let inner = b.compile().unwrap();
    let mut b = builder("outer");
    b.add_node("child", subgraph(inner.clone())).add_edge(START, "child");
    let error = b.compile().unwrap().invoke(value!({}), RunConfig::default()).await.unwrap_err();
    assert!(matches!(&error, Error::Node { graph, node, .. } if graph == "inner" && node == "n"), "{error:?}");

    calls.store(0, Ordering::SeqCst);
    let mut b = builder("outer");
    let policy = RetryPolicy { initial_interval: Duration::ZERO, jitter: false, ..RetryPolicy::default() };
    b.add_node("child", subgraph(inner).retry(policy)).add_edge(START, "child");
    let graph = b.compile().unwrap().with_checkpointer(Arc::new(MemoryCheckpointer::default()));
    let out = graph.invoke(value!({}), thread()).await.unwrap();
    // With checkpoints the subgraph goes on where it failed: its first node does not run again.
    assert_eq!(out.values.get("log"), Some(&value!(["first", "attempt 1"])));
}

#[tokio::test]
async fn the_kind_of_a_chunk_says_whether_it_is_the_last() {
    let (told, _) =
        parts(&talk(vec![Delta::text("a"), Delta::end()]), value!({}), RunConfig::default().modes(Mode::Messages))
            .await;
    let last: Vec<bool> = told
        .iter()
        .map(|p| match &p.payload {
            Payload::Message(m) => matches!(&*m.chunk, Chunk::Delta { last: true, .. }),
            _ => panic!(),
        })
        .collect();
    assert_eq!(last, [false, true]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_stays_given_when_the_node_is_tried_again() {
    let calls: Arc<AtomicUsize> = Arc::default();
    let count = calls.clone();
    let mut b = builder("asks");
    let policy = RetryPolicy { jitter: false, ..RetryPolicy::default() };
    b.add_node(
        "ask",
        node(move |_: StateView, cx: Context| {
            let count = count.clone();
            async move {
                let answer = cx.interrupt("sure?")?;
                if count.fetch_add(1, Ordering::SeqCst) == 0 {
                    return Err(NodeError::msg("flaky"));
                }
                Ok(log(answer.as_str().unwrap_or("?")))
            }
        })
        .retry(policy),
    );
    b.add_edge(START, "ask");
    let graph = b.compile().unwrap().with_checkpointer(Arc::new(MemoryCheckpointer::default()));
    let config = thread();
    assert!(graph.invoke(value!({}), config.clone()).await.unwrap().is_interrupted);
    let out = graph.invoke(Command::resume("yes"), config).await.unwrap();
    assert!(!out.is_interrupted, "it asked again");
    assert_eq!(out.values.get("log"), Some(&value!(["yes"])));
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_cancelled_run_with_durability_exit_keeps_what_it_did() {
    let mut b = builder("held");
    b.add_node("a", node(|_: StateView, _| async { Ok(log("a")) }));
    b.add_node(
        "b",
        node(|_: StateView, _| async {
            std::future::pending::<()>().await;
            Ok(())
        }),
    );
    b.add_edge(START, "a").add_edge("a", "b");
    let graph = b.compile().unwrap().with_checkpointer(Arc::new(MemoryCheckpointer::default()));
    let config = RunConfig { durability: Durability::Exit, ..thread() };
    let mut stream = graph.stream(value!({}), config.clone());
    stream.next().await.unwrap();
    config.cancel.cancel();
    assert!(matches!(stream.finish().await, Err(Error::Cancelled { .. })));
    let state = graph.get_state(config.thread_id.unwrap(), None, false).await.unwrap();
    assert_eq!(state.values_object().get("log"), Some(&value!(["a"])));
    assert_eq!(&*state.next[0], "b");
}

// G15
#[tokio::test]
async fn a_step_made_again_has_the_same_checkpoint_and_its_tasks_the_same_ids() {
    let mut b = builder("again");
    b.add_node("a", node(|_: StateView, _| async { Ok(log("a")) }));
    b.add_node("b", node(|_: StateView, _| async { Ok(log("b")) }));
    b.add_edge(START, "a").add_edge("a", "b");
    let graph = b.compile().unwrap();
    let run = RunId(uuid::Uuid::now_v7());
    let mut told = Vec::new();
    // Twice the same run on an empty store: what a crash before the first fdatasync leaves.
    for attempt in [1, 2] {
        let graph = graph.with_checkpointer(Arc::new(MemoryCheckpointer::default()));
        let config = RunConfig { run_id: Some(run), attempt, ..thread() }.modes(Mode::Tasks);
        let id = config.thread_id.unwrap();
        let (parts, end) = parts(&graph, value!({}), config).await;
        end.unwrap();
        let history = graph.state_history(id, CheckpointFilter::default()).await.unwrap();
        let ids: Vec<_> = history.iter().map(|v| v.config.as_ref().unwrap().id.unwrap()).collect();
        assert!(ids.windows(2).all(|w| w[0] > w[1]), "later ones sort after earlier ones: {ids:?}");
        let tasks: Vec<_> = parts.iter().map(|p| p.task.as_ref().unwrap().id).collect();
        told.push((ids, tasks));
    }
    assert_eq!(told[0], told[1]);
}

#[tokio::test]
async fn an_answer_that_its_node_could_not_use_can_be_given_again() {
    let mut b = builder("picky");
    b.add_node(
        "ask",
        node(|_: StateView, cx: Context| async move {
            match cx.interrupt("yes or no?")?.as_str() {
                Some("yes") => Ok(log("yes")),
                other => Err(NodeError::msg(format!("{other:?} is neither"))),
            }
        }),
    );
    b.add_edge(START, "ask");
    let graph = b.compile().unwrap().with_checkpointer(Arc::new(MemoryCheckpointer::default()));
    let config = RunConfig { strict: true, ..thread() };
    let asked = graph.invoke(value!({}), config.clone()).await.unwrap();
    let error = graph.invoke(Command::resume("maybe"), config.clone()).await.unwrap_err();
    assert!(error.to_string().contains("maybe"));
    let again = graph.invoke(Command::resume("perhaps"), config.clone()).await.unwrap_err();
    assert!(again.to_string().contains("perhaps"), "{again}");
    let by_id = Answer::ById(vec![(asked.interrupts[0].id.clone(), "yes".into())]);
    let command = Command { resume: Some(by_id), ..Command::default() };
    let out = graph.invoke(command, config.clone()).await.unwrap();
    assert_eq!(out.values.get("log"), Some(&value!(["yes"])));
    let over = graph.invoke(Command::resume("yes"), config).await.unwrap_err();
    assert!(matches!(over, Error::NoQuestion { .. }), "{over}");
}

/// A node that loses its executor some times, then fails some times, then gives its attempt.
fn lossy(losses: usize, fails: usize) -> (NodeSpec, Arc<AtomicUsize>) {
    let calls: Arc<AtomicUsize> = Arc::default();
    let counted = calls.clone();
    let spec = node(move |_: StateView, cx: Context| {
        let n = counted.fetch_add(1, Ordering::SeqCst);
        async move {
            match n {
                n if n < losses => Err(NodeError::ExecutorLost(format!("worker {n} closed its connection"))),
                n if n < losses + fails => Err(NodeError::msg("not yet")),
                _ => Ok(log(&format!("attempt {}", cx.attempt()))),
            }
        }
    });
    (spec, calls)
}

#[tokio::test(start_paused = true)]
async fn a_lost_executor_uses_up_no_attempt_and_is_bounded() {
    let run = async |losses: usize, fails: usize, retries: Option<u32>| {
        let (mut spec, calls) = lossy(losses, fails);
        spec.retry = retries.map(|n| RetryPolicy { max_attempts: n, jitter: false, ..RetryPolicy::default() });
        let mut b = builder("lossy");
        b.add_node("n", spec).add_edge(START, "n");
        let result = b.compile().unwrap().invoke(value!({}), RunConfig::default()).await;
        (result.map(|f| f.values.get("log").cloned().unwrap()), calls.load(Ordering::SeqCst))
    };
    let (result, calls) = run(3, 0, None).await;
    assert_eq!((result.unwrap(), calls), (value!(["attempt 1"]), 4), "without a retry policy");
    let (result, calls) = run(3, 1, Some(2)).await;
    assert_eq!((result.unwrap(), calls), (value!(["attempt 2"]), 5), "beside a retry policy");
    let (result, calls) = run(100, 0, None).await;
    let error = result.unwrap_err();
    assert_eq!((error.kind(), calls), ("ExecutorLostError", 9));
    assert!(error.to_string().contains("worker 8 closed its connection"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_restarts_the_idle_timeout_and_the_deadline_is_known() {
    let mut b = builder("slow");
    let work = node(|_: StateView, cx: Context| async move {
        assert!(cx.deadline().is_some());
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_secs(2)).await;
            if cx.configurable().contains_key("beats") {
                cx.heartbeat();
            }
        }
        Ok(log("done"))
    });
    b.add_node("n", work.timeout(Duration::from_secs(60)).idle_timeout(Duration::from_secs(3)));
    b.add_edge(START, "n");
    let graph = b.compile().unwrap();
    let beats = RunConfig { configurable: [("beats", true)].into_iter().collect(), ..RunConfig::default() };
    assert!(graph.invoke(value!({}), beats).await.is_ok());
    assert_eq!(graph.invoke(value!({}), RunConfig::default()).await.unwrap_err().kind(), "NodeTimeoutError");
}

#[tokio::test]
async fn pieces_of_a_message_and_questions_by_number_go_through_a_node_that_hands_them_on() {
    let mut b = builder("remote");
    let hand_on = |cx: Context| async move {
        let piece = |text: &str, last| Chunk::Delta {
            id: "m1".into(),
            name: None,
            text: text.into(),
            reasoning: "".into(),
            blocks: Vec::new(),
            tool_calls: Vec::new(),
            at: stream::BlockPlaces::default(),
            usage: None,
            response_metadata: None,
            last,
        };
        for (text, last) in [("hel", false), ("lo", true)] {
            cx.chunk(piece(text, last).into(), &ChunkSource::default());
        }
        let first = cx.interrupt_at(0, "first?")?;
        // Asked again, as by a worker whose connection broke.
        assert_eq!(cx.interrupt_at(0, "first?")?, first);
        assert!(matches!(cx.interrupt_at(2, "too early?"), Err(NodeError::Failed(_))));
        let second = cx.interrupt_at(1, "second?")?;
        Ok(log(&format!("{first} {second}")))
    };
    b.add_node("n", node(move |_: StateView, cx: Context| hand_on(cx)));
    b.add_edge(START, "n");
    let graph = b.compile().unwrap().with_checkpointer(Arc::new(MemoryCheckpointer::default()));
    let config = thread().modes(Mode::Messages);
    let (sent, _) = parts(&graph, value!({}), config.clone()).await;
    assert_eq!(sent.len(), 2);
    parts(&graph, Command::resume("a"), config.clone()).await.1.unwrap();
    let (_, end) = parts(&graph, Command::resume("b"), config).await;
    assert_eq!(end.unwrap().values.get("log"), Some(&value!(["\"a\" \"b\""])));
}
