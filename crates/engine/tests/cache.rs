//! Nodes whose results are kept: for whom, and which.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use futures_util::StreamExt;
use runloom_engine::{
    channel::ChannelSpec,
    checkpoint::MemoryCheckpointer,
    items::NodeCache,
    stream::{Mode, Payload, UpdatePart},
    *,
};

#[derive(Default)]
struct Cache(Mutex<HashMap<String, Value>>);

#[async_trait::async_trait]
impl NodeCache for Cache {
    async fn get(&self, key: &str) -> Option<Value> {
        self.0.lock().unwrap().get(key).cloned()
    }
    async fn put(&self, key: &str, value: Value, _: Option<SystemTime>) {
        self.0.lock().unwrap().insert(key.to_owned(), value);
    }
}

fn builder(name: &str) -> GraphBuilder {
    let mut b = GraphBuilder::new(name);
    b.add_channel(ChannelSpec::new("x")).add_channel(ChannelSpec::new("y"));
    b
}

fn compiled(b: GraphBuilder) -> Graph {
    let cache = Some(Arc::new(Cache::default()) as _);
    let checkpointer = Some(Arc::new(MemoryCheckpointer::default()) as _);
    b.compile().unwrap().with_runtime(Runtime { cache, checkpointer, ..Runtime::default() })
}

/// A graph of one cached node, and how often the node has run.
fn cached<F>(work: F) -> (Graph, Arc<AtomicUsize>)
where
    F: Fn(StateView, Context) -> Result<Output, NodeError> + Send + Sync + 'static,
{
    let calls: Arc<AtomicUsize> = Arc::default();
    let (counted, work) = (calls.clone(), Arc::new(work));
    let spec = node(move |state: StateView, cx: Context| {
        counted.fetch_add(1, Ordering::SeqCst);
        let work = work.clone();
        async move { work(state, cx) }
    });
    let mut b = builder("cached");
    b.add_node("n", spec.cache(CachePolicy::default())).add_edge(START, "n");
    for other in ["one", "two"] {
        b.add_node(other, node(move |_: StateView, _| async move { Ok(Update::new().set("y", other)) }));
    }
    (compiled(b), calls)
}

fn thread() -> RunConfig {
    RunConfig::thread(ThreadId(uuid::Uuid::now_v7()))
}

async fn run(graph: &Graph, input: impl Into<Input>, config: RunConfig) -> Finished {
    graph.invoke(input, config).await.unwrap()
}

fn x(value: impl Into<Value>) -> Output {
    Update::new().set("x", value).into()
}

#[tokio::test]
async fn a_cached_node_runs_once_for_an_input_and_its_update_says_so() {
    let (graph, calls) = cached(|state, _| Ok(Update::new().set("y", state.get("x").cloned()).into()));
    let mut seen = Vec::new();
    for input in [1, 1, 2] {
        let mut stream = graph.stream(value!({"x": input}), RunConfig::default().modes(Mode::Updates));
        let part = stream.next().await.unwrap();
        let Payload::Update(UpdatePart::Node { cached: is, .. }) = &part.payload else { panic!() };
        seen.push(*is);
        while stream.next().await.is_some() {}
        assert_eq!(stream.finished().unwrap().unwrap().values.get("y"), Some(&value!(input)));
    }
    assert_eq!(seen, [false, true, false]);
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn an_answer_is_nobody_elses() {
    let (graph, calls) = cached(|_, cx| Ok(x(cx.interrupt("who?")?)));
    for (person, count) in [("ann", 2), ("bob", 4)] {
        let config = thread();
        assert_eq!(run(&graph, value!({}), config.clone()).await.interrupts.len(), 1, "{person} is asked");
        let ended = run(&graph, Command::resume(person), config).await;
        assert_eq!(ended.values.get("x"), Some(&value!(person)));
        assert_eq!(calls.load(Ordering::SeqCst), count);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_given_in_a_graph_inside_is_nobody_elses_even_where_the_node_is_tried_again() {
    let mut b = builder("asks");
    b.add_node("ask", node(|_: StateView, cx: Context| async move { Ok(x(cx.interrupt("who?")?)) }));
    b.add_edge(START, "ask");
    let inner = b.compile().unwrap();
    for fails in [0, 1] {
        let tried: Arc<AtomicUsize> = Arc::default();
        let inner = inner.clone();
        let spec = node(move |_: StateView, cx: Context| {
            let (inner, tried) = (inner.clone(), tried.clone());
            async move {
                let output = cx.graph(&inner, Value::object()).await?;
                if tried.fetch_add(1, Ordering::SeqCst) % 2 < fails {
                    return Err(NodeError::msg("once more"));
                }
                Ok(x(output.get("x").cloned()))
            }
        });
        let policy =
            RetryPolicy { jitter: false, initial_interval: Duration::from_millis(1), ..RetryPolicy::default() };
        let mut b = builder("outer");
        b.add_node("n", spec.cache(CachePolicy::default()).retry(policy)).add_edge(START, "n");
        let graph = compiled(b);
        for person in ["ann", "bob"] {
            let config = thread();
            assert_eq!(run(&graph, value!({}), config.clone()).await.interrupts.len(), 1, "{person} is asked");
            let ended = run(&graph, Command::resume(person), config).await;
            assert_eq!(ended.values.get("x"), Some(&value!(person)));
        }
    }
}

#[tokio::test]
async fn a_graph_that_keeps_its_own_state_is_no_function_of_its_input() {
    let mut b = GraphBuilder::new("counts");
    b.add_channel(ChannelSpec::new("x").reducer(Reducer::Add));
    b.add_node("n", node(|_: StateView, _| async { Ok(x(1)) })).add_edge(START, "n");
    let inner = b.compile().unwrap();
    let spec = node(move |_: StateView, cx: Context| {
        let inner = inner.clone();
        async move { Ok(x(cx.graph_persistent(&inner, Value::object()).await?.get("x").cloned())) }
    });
    let mut b = builder("outer");
    b.add_node("n", spec.cache(CachePolicy::default())).add_edge(START, "n");
    let graph = compiled(b);
    let config = thread();
    for count in [1, 2] {
        assert_eq!(run(&graph, value!({"x": 0}), config.clone()).await.values.get("x"), Some(&value!(count)));
    }
}

#[tokio::test]
async fn what_is_kept_is_kept_by_context_and_settings_too() {
    let (graph, calls) = cached(|_, cx| Ok(x(vec![cx.context().clone(), Value::Object(cx.configurable().clone())])));
    let with = |context: &str, user: &str| RunConfig {
        context: value!({"c": context}),
        configurable: [("user", Value::from(user))].into_iter().collect(),
        ..RunConfig::default()
    };
    for _ in 0..2 {
        for (context, user) in [("c1", "ann"), ("c2", "ann"), ("c1", "bob")] {
            let ended = run(&graph, value!({}), with(context, user)).await;
            assert_eq!(ended.values.get("x"), Some(&value!([{"c": context}, {"user": user}])));
        }
    }
    assert_eq!(calls.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_command_is_kept_with_where_it_goes() {
    let send = || Goto::Send(command::Send { node: "two".into(), input: value!({"a": 1}) });
    let (graph, calls) = cached(move |state, _| {
        let command = Command { update: Some(Update::new().set("x", 7)), ..Command::default() };
        Ok(match state.get("x").and_then(Value::as_i64) {
            Some(1) => Output::Command(Command { goto: vec![Goto::Node("one".into())], ..command }),
            Some(2) => Output::Many(vec![x(7), Output::Command(Command { goto: vec![send()], ..Command::default() })]),
            _ => Output::Command(command),
        })
    });
    for _ in 0..2 {
        for (input, y) in [(1, Some(value!("one"))), (2, Some(value!("two"))), (3, None)] {
            let ended = run(&graph, value!({"x": input}), RunConfig::default()).await;
            assert_eq!((ended.values.get("x"), ended.values.get("y")), (Some(&value!(7)), y.as_ref()));
        }
    }
    assert_eq!(calls.load(Ordering::SeqCst), 3);
}
