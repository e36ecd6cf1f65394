//! Runs from checkpoints of subgraphs: what runs again, at any depth, and what is kept.
#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;

use futures_util::StreamExt;
use runloom_engine::{
    channel::ChannelSpec,
    checkpoint::{CheckpointFilter, Checkpointer, MemoryCheckpointer},
    stream::{Mode, Payload},
    *,
};

fn builder(name: &str) -> GraphBuilder {
    let mut b = GraphBuilder::new(name);
    b.add_channel(ChannelSpec::new("trail").reducer(Reducer::Append));
    b
}

/// Emits its name, and writes it to the trail.
fn step(name: &'static str) -> NodeSpec {
    node(move |_: StateView, cx: Context| async move {
        cx.emit(name);
        Ok(Update::new().set("trail", vec![name]))
    })
}

fn review() -> NodeSpec {
    node(|_: StateView, cx: Context| async move {
        cx.emit("review");
        let answer = cx.interrupt("approve?")?;
        Ok(Update::new().set("trail", vec![format!("review={}", answer.as_str().unwrap())]))
    })
}

fn chain(b: &mut GraphBuilder, names: &[&'static str]) {
    b.add_edge(START, names[0]);
    for pair in names.windows(2) {
        b.add_edge(pair[0], pair[1]);
    }
}

/// Maps the trail, so that each graph's steps are seen once.
fn inside(graph: Graph, persistent: bool) -> NodeSpec {
    NodeSpec::new(SubgraphNode {
        graph,
        input: Some(Arc::new(|_: &StateView, _: &Context| Ok(value!({})))),
        output: Some(Arc::new(|out: Value, _: &StateView, _: &Context| {
            Ok(Update::new().set("trail", out.get("trail").cloned().unwrap_or_default()))
        })),
        persistent,
    })
}

/// `before → (outer(a → inner(x → y → review → z) → c) ∥ beside) → after`.
fn graph(saver: &Arc<MemoryCheckpointer>, persistent: bool) -> Graph {
    let mut inner = builder("inner");
    inner.add_node("x", step("x")).add_node("y", step("y")).add_node("review", review()).add_node("z", step("z"));
    chain(&mut inner, &["x", "y", "review", "z"]);
    let mut outer = builder("outer");
    outer.add_node("a", step("a")).add_node("inner", inside(inner.compile().unwrap(), persistent));
    outer.add_node("c", step("c"));
    chain(&mut outer, &["a", "inner", "c"]);
    let mut b = builder("root");
    b.add_node("before", step("before")).add_node("outer", inside(outer.compile().unwrap(), persistent));
    b.add_node("beside", step("beside")).add_node("after", step("after"));
    chain(&mut b, &["before", "outer"]);
    b.add_edge("before", "beside").add_join(["outer", "beside"], "after");
    b.compile().unwrap().with_checkpointer(saver.clone())
}

/// What a run emits, with its end.
async fn emitted(graph: &Graph, input: impl Into<Input>, config: RunConfig) -> (Vec<String>, Result<Finished, Error>) {
    let mut stream = graph.stream(input, RunConfig { subgraphs: true, ..config.modes(Mode::Custom) });
    let mut all = Vec::new();
    while let Some(part) = stream.next().await {
        if let Payload::Custom(data) = part.payload {
            all.push(data.as_str().unwrap().to_owned());
        }
    }
    (all, stream.finished().unwrap())
}

fn trail(finished: &Finished) -> String {
    let list = finished.values.get("trail").and_then(Value::as_list).unwrap().clone();
    list.iter().map(|v| v.as_str().unwrap()).collect::<Vec<_>>().join(" ")
}

/// The namespaces of the graphs that a thread's open tasks run, the outermost first.
async fn namespaces(graph: &Graph, thread: ThreadId) -> Vec<String> {
    let mut view = graph.get_state(thread, None, true).await.unwrap();
    let mut all = Vec::new();
    loop {
        let Some(state) = view.tasks.into_iter().find_map(|task| task.state) else { return all };
        all.push(state.config.as_ref().unwrap().ns.to_string());
        view = *state;
    }
}

async fn before(saver: &MemoryCheckpointer, thread: ThreadId, ns: &str, node: &str) -> CheckpointId {
    let all = saver.list(thread, ns, CheckpointFilter::default()).await.unwrap();
    let at = all.iter().find(|saved| saved.checkpoint.control.triggered.iter().any(|n| &**n == node));
    at.unwrap_or_else(|| panic!("nothing before {node} in {ns}")).checkpoint.id
}

fn from(thread: ThreadId, ns: &str, id: CheckpointId) -> RunConfig {
    RunConfig {
        checkpoint_id: Some(id),
        checkpoint_ns: ns.into(),
        run_id: Some(RunId(uuid::Uuid::now_v7())),
        ..RunConfig::thread(thread)
    }
}

#[tokio::test]
async fn a_run_from_a_checkpoint_inside_runs_from_there_at_any_depth() {
    for persistent in [false, true] {
        let saver = Arc::new(MemoryCheckpointer::default());
        let graph = graph(&saver, persistent);
        let thread = ThreadId(uuid::Uuid::now_v7());
        let on = || RunConfig::thread(thread);
        emitted(&graph, value!({"trail": []}), on()).await.1.unwrap();
        let places = namespaces(&graph, thread).await;
        assert_eq!(places.len(), 2, "{places:?}");
        let done = graph.invoke(Command::resume("first"), on()).await.unwrap();
        let whole = |answer: &str| format!("before beside a x y review={answer} z c after");
        // `beside` comes before `outer` by name.
        assert_eq!(trail(&done), whole("first"));

        for (ns, node, again) in [
            (&places[1], "y", vec!["y", "review"]),
            (&places[1], "review", vec!["review"]),
            (&places[0], "a", vec!["a", "x", "y", "review"]),
            (&places[0], "inner", vec!["x", "y", "review"]),
        ] {
            // An inner graph that keeps its own state begins where its last run ended.
            if persistent && node != "y" && node != "review" {
                continue;
            }
            let at = before(&saver, thread, ns, node).await;
            let (ran, stopped) = emitted(&graph, Input::Resume, from(thread, ns, at)).await;
            assert_eq!(ran, again, "from {node}, persistent: {persistent}");
            assert_eq!(stopped.unwrap().interrupts.len(), 1);
            let state = graph.get_state(thread, None, true).await.unwrap();
            assert_eq!(state.next, [Arc::from("outer")], "what ran beside is kept");
            let (ran, done) = emitted(&graph, Command::resume("second"), on()).await;
            assert_eq!(ran, ["review", "z", "c", "after"]);
            assert_eq!(trail(&done.unwrap()), whole("second"));
        }

        let last = before(&saver, thread, &places[1], "z").await;
        let (ran, done) = emitted(&graph, Input::Resume, from(thread, &places[1], last)).await;
        assert_eq!(ran, ["z", "c", "after"], "past the question");
        assert!(trail(&done.unwrap()).ends_with("z c after"));
    }
}

#[tokio::test]
async fn a_crash_at_any_point_goes_on_from_the_same_checkpoint() {
    for persistent in [false, true] {
        for cut in 0..4 {
            let saver = Arc::new(MemoryCheckpointer::default());
            let graph = graph(&saver, persistent);
            let thread = ThreadId(uuid::Uuid::now_v7());
            graph.invoke(value!({"trail": []}), RunConfig::thread(thread)).await.unwrap();
            let places = namespaces(&graph, thread).await;
            graph.invoke(Command::resume("yes"), RunConfig::thread(thread)).await.unwrap();
            let at = before(&saver, thread, &places[1], "z").await;
            let config = from(thread, &places[1], at);
            let first = RunConfig { subgraphs: true, ..config.clone() }.modes([Mode::Custom, Mode::Values]);
            let mut stream = graph.stream(Input::Resume, first);
            for _ in 0..cut {
                stream.next().await;
            }
            drop(stream);
            let (ran, done) = emitted(&graph, Input::Resume, RunConfig { attempt: 2, ..config }).await;
            let done = done.unwrap();
            assert_eq!(trail(&done), "before beside a x y review=yes z c after", "{persistent} {cut} {ran:?}");
            assert!(["z", "c", "after"].ends_with(&ran.iter().map(|s| &**s).collect::<Vec<_>>()), "{cut}: {ran:?}");
        }
    }
}

#[tokio::test]
async fn what_cannot_be_run_from_is_refused() {
    let saver = Arc::new(MemoryCheckpointer::default());
    let graph = graph(&saver, false);
    let thread = ThreadId(uuid::Uuid::now_v7());
    graph.invoke(value!({"trail": []}), RunConfig::thread(thread)).await.unwrap();
    let ns = namespaces(&graph, thread).await.remove(0);
    let at = before(&saver, thread, &ns, "inner").await;
    let error = graph.invoke(value!({"trail": []}), from(thread, &ns, at)).await.unwrap_err();
    assert!(error.to_string().contains("takes no input"), "{error}");
    let root = before(&saver, thread, "", "outer").await;
    let error = graph.invoke(Input::Resume, from(thread, &ns, root)).await.unwrap_err();
    assert!(matches!(error, Error::CheckpointNotFound(id) if id == root), "{error}");
}

#[tokio::test]
async fn a_state_written_by_hand_inside_is_run_from() {
    let saver = Arc::new(MemoryCheckpointer::default());
    let graph = graph(&saver, false);
    let thread = ThreadId(uuid::Uuid::now_v7());
    graph.invoke(value!({"trail": []}), RunConfig::thread(thread)).await.unwrap();
    let ns = namespaces(&graph, thread).await.remove(1);
    let at = before(&saver, thread, &ns, "y").await;
    let update = StateUpdate { values: Some(value!({"trail": ["by hand"]})), as_node: Some("y".to_owned()) };
    let made = graph.update_state(thread, Some(at), &ns, vec![update], Object::default()).await.unwrap();
    let shown = graph.get_subgraph_state(thread, &ns, made.id, false).await.unwrap();
    assert_eq!(shown.values.get("trail"), Some(&value!(["x", "by hand"])));
    let (ran, _) = emitted(&graph, Input::Resume, from(thread, &ns, made.id.unwrap())).await;
    assert_eq!(ran, ["review"]);
    let done = graph.invoke(Command::resume("ok"), RunConfig::thread(thread)).await.unwrap();
    assert_eq!(trail(&done), "before beside a x by hand review=ok z c after");
}
