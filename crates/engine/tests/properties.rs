//! Properties that hold for every graph and every write: deltas give back the state, the order of completion changes
//! nothing, supersteps agree with a simple model, a stop loses nothing.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::StreamExt;
use proptest::prelude::*;
use runloom_engine::{
    channel::ChannelSpec,
    checkpoint::{CheckpointFilter, CheckpointWrite, Checkpointer, MemoryCheckpointer},
    stream::{Mode, Payload, UpdatePart},
    *,
};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

fn thread() -> RunConfig {
    RunConfig::thread(ThreadId(uuid::Uuid::now_v7()))
}

/// A small JSON value.
fn json() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        "[a-c]{0,2}".prop_map(Value::from),
        prop::collection::vec(0i64..3, 0..3).prop_map(Value::from),
    ]
}

/// A write that a channel of this reducer takes.
fn write_for(reducer: usize) -> BoxedStrategy<Value> {
    let overwrite =
        |inner: BoxedStrategy<Value>| prop_oneof![9 => inner.clone(), 1 => inner.prop_map(overwrite)].boxed();
    match reducer {
        0 => json().boxed(),
        1 => overwrite(prop::collection::vec(json(), 0..4).prop_map(Value::from).boxed()),
        2..=4 => overwrite((-1000i64..1000).prop_map(Value::Int).boxed()),
        5 => overwrite(
            prop::collection::vec(("[a-d]", json()), 0..3)
                .prop_map(|f| {
                    Value::Object(f.into_iter().map(|(k, v)| (Arc::<str>::from(k.as_str()), v)).collect::<Object>())
                })
                .boxed(),
        ),
        _ => overwrite(
            prop::collection::vec(("[a-f]", any::<bool>(), "[x-z]"), 0..4)
                .prop_map(|all| {
                    all.into_iter()
                        .map(|(id, _, text)| value!({"role": "user", "id": id, "content": text}))
                        .collect::<Vec<_>>()
                        .into()
                })
                .boxed(),
        ),
    }
}

fn reducer(i: usize) -> Reducer {
    [Reducer::Replace, Reducer::Append, Reducer::Add, Reducer::Max, Reducer::Min, Reducer::Merge, Reducer::Messages][i]
        .clone()
}

/// Keeps every write a graph makes of its checkpoints, so that states can be made of the deltas alone.
#[derive(Default)]
struct Deltas {
    inner: MemoryCheckpointer,
    writes: Mutex<Vec<CheckpointWrite>>,
}

#[async_trait::async_trait]
impl Checkpointer for Deltas {
    fn put(&self, write: CheckpointWrite) -> checkpoint::Ack {
        self.writes.lock().unwrap().push(write.clone());
        self.inner.put(write)
    }
    fn put_task(
        &self,
        t: ThreadId,
        ns: &Arc<str>,
        id: CheckpointId,
        record: checkpoint::TaskRecord,
    ) -> checkpoint::Ack {
        self.inner.put_task(t, ns, id, record)
    }
    async fn get(
        &self,
        t: ThreadId,
        ns: &str,
        id: Option<CheckpointId>,
    ) -> Result<Option<checkpoint::Saved>, CheckpointError> {
        self.inner.get(t, ns, id).await
    }
    async fn list(
        &self,
        t: ThreadId,
        ns: &str,
        filter: CheckpointFilter,
    ) -> Result<Vec<checkpoint::Saved>, CheckpointError> {
        self.inner.list(t, ns, filter).await
    }
}

/// A graph of one channel whose nodes write one value each, in a row.
fn row(reducer: Reducer, writes: Vec<Vec<Value>>) -> Graph {
    let mut b = GraphBuilder::new("row");
    b.add_channel(ChannelSpec::new("c").reducer(reducer)).add_channel(ChannelSpec::new("other"));
    let mut last = START.to_owned();
    for (i, writes) in writes.into_iter().enumerate() {
        let name = format!("n{i:02}");
        b.add_node(
            name.as_str(),
            node(move |_: StateView, _| {
                let writes = writes.clone();
                async move { Ok(writes.into_iter().map(|w| Output::from(Update::new().set("c", w))).collect::<Vec<_>>()) }
            }),
        );
        b.add_edge(last.as_str(), name.as_str());
        last = name;
    }
    b.compile().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    /// The deltas of a run's checkpoints, applied one after the other, give each checkpoint's state.
    #[test]
    fn deltas_give_back_the_state((kind, writes, exit) in (0usize..7).prop_flat_map(|kind| {
        let most = if kind == 0 { 2 } else { 4 };
        let writes = prop::collection::vec(prop::collection::vec(write_for(kind), 1..most), 1..6);
        (Just(kind), writes, any::<bool>())
    })) {
        runtime().block_on(async {
            let keeper = Arc::new(Deltas::default());
            let graph = row(reducer(kind), writes).with_checkpointer(keeper.clone());
            let durability = if exit { checkpoint::Durability::Exit } else { checkpoint::Durability::Async };
            // A step may overwrite twice, which is an error: what was kept until then must hold all the same.
            let _ = graph.invoke(value!({}), RunConfig { durability, ..thread() }).await;
            let mut state: BTreeMap<Arc<str>, Value> = BTreeMap::new();
            for spec in graph.channels() {
                if let Some(v) = spec.start() {
                    state.insert(spec.name.clone(), v);
                }
            }
            for write in keeper.writes.lock().unwrap().iter() {
                for (name, change) in &write.changes {
                    match change.apply(state.get(name)).unwrap() {
                        Some(v) => { state.insert(name.clone(), v); }
                        None => { state.remove(name); }
                    }
                }
                let whole: BTreeMap<Arc<str>, Value> = write.state.iter().map(|(n, v)| (n.clone(), v.clone())).collect();
                prop_assert_eq!(&state, &whole);
            }
            Ok(())
        })?;
    }

    /// Writes of one step are applied in the order of the nodes' names, whoever finishes first; at any concurrency.
    #[test]
    fn the_order_of_completion_changes_nothing(
        delays in prop::collection::vec(0u64..50, 1..8),
        most in prop::option::of(1usize..4),
    ) {
        runtime().block_on(async {
            let mut b = GraphBuilder::new("wide");
            b.add_channel(ChannelSpec::new("log").reducer(Reducer::Append));
            for (i, delay) in delays.iter().copied().enumerate() {
                let name = format!("n{i}");
                b.add_edge(START, name.as_str());
                b.add_node(name.clone(), node(move |_: StateView, cx: Context| async move {
                    tokio::time::sleep(std::time::Duration::from_millis(delay)).await;
                    Ok(Update::new().set("log", vec![cx.node().to_string()]))
                }));
            }
            let graph = b.compile().unwrap();
            let config = RunConfig { max_concurrency: most, ..RunConfig::default() };
            let out = graph.invoke(value!({}), config).await.unwrap();
            let wanted: Vec<String> = (0..delays.len()).map(|i| format!("n{i}")).collect();
            prop_assert_eq!(out.values.get("log"), Some(&Value::from(wanted)));
            Ok(())
        })?;
    }

    /// Any graph of edges, joins and deferred nodes runs the steps that a few lines of simulation say.
    #[test]
    fn supersteps_agree_with_a_simple_model(shape in shape()) {
        runtime().block_on(async {
            let graph = shape.graph(None);
            let config = RunConfig { recursion_limit: 40, ..RunConfig::default() }.modes(Mode::Updates);
            let mut stream = graph.stream(value!({}), config);
            let mut steps: BTreeMap<i64, BTreeSet<String>> = BTreeMap::new();
            while let Some(part) = stream.next().await {
                if let Payload::Update(UpdatePart::Node { node, .. }) = part.payload {
                    steps.entry(part.step).or_default().insert(node.to_string());
                }
            }
            let ended = stream.finished().unwrap();
            let (wanted, ends) = shape.simulate(39);
            prop_assert_eq!(steps.into_values().collect::<Vec<_>>(), wanted);
            prop_assert_eq!(ended.is_ok(), ends);
            Ok(())
        })?;
    }

    /// A node that fails once, a question asked, a breakpoint before every node: gone on from there, the run ends as one
    /// that never stopped, and no finished task runs twice.
    #[test]
    fn a_stop_loses_nothing(shape in shape(), at in any::<prop::sample::Index>(), breaks in any::<bool>()) {
        let (wanted, ends) = shape.simulate(39);
        prop_assume!(ends);
        runtime().block_on(async {
            let whole = shape.graph(None).invoke(value!({}), RunConfig::default()).await.unwrap();
            let once = Arc::new(AtomicBool::new(false));
            let broken = format!("n{}", at.index(shape.nodes));
            let graph = shape.graph(Some((broken, once))).with_checkpointer(Arc::new(MemoryCheckpointer::default()));
            let mut config = thread();
            if breaks {
                config.interrupt_before = Some(Breakpoints::All);
            }
            let mut input = Input::Values(value!({}));
            let most = wanted.len() * 2 + 4;
            for _ in 0..most {
                match graph.invoke(input.clone(), config.clone()).await {
                    Ok(done) if !done.is_interrupted => {
                        prop_assert_eq!(&done.values, &whole.values);
                        return Ok(());
                    }
                    Ok(_) | Err(Error::Node { .. }) => input = Input::Resume,
                    Err(error) => return Err(TestCaseError::fail(error.to_string())),
                }
            }
            Err(TestCaseError::fail("never ended"))
        })?;
    }
}

/// A graph of nodes that note that they ran.
#[derive(Clone, Debug)]
struct Shape {
    nodes: usize,
    edges: Vec<(usize, usize)>,
    joins: Vec<(BTreeSet<usize>, usize)>,
    deferred: BTreeSet<usize>,
    starts: BTreeSet<usize>,
}

fn shape() -> impl Strategy<Value = Shape> {
    (2usize..7).prop_flat_map(|nodes| {
        (
            prop::collection::vec((0..nodes, 0..nodes), 0..8),
            prop::collection::vec((prop::collection::btree_set(0..nodes, 2..4), 0..nodes), 0..2),
            prop::collection::btree_set(0..nodes, 0..2),
            prop::collection::btree_set(0..nodes, 1..3),
        )
            .prop_map(move |(edges, joins, deferred, starts)| Shape {
                nodes,
                // Mostly forward, so that most graphs end.
                edges: edges
                    .into_iter()
                    .map(|(a, b)| if a % 3 == 2 { (a, b) } else { (a.min(b), a.max(b)) })
                    .filter(|(a, b)| a != b)
                    .collect(),
                joins: joins.into_iter().filter(|(from, to)| from.iter().all(|f| f < to)).collect(),
                deferred,
                starts,
            })
    })
}

impl Shape {
    fn graph(&self, fails: Option<(String, Arc<AtomicBool>)>) -> Graph {
        let mut b = GraphBuilder::new("shape");
        b.add_channel(ChannelSpec::new("log").reducer(Reducer::Append));
        for i in 0..self.nodes {
            let fails = fails.clone();
            let spec = node(move |_: StateView, cx: Context| {
                let fails = fails.clone();
                async move {
                    if let Some((name, once)) = fails
                        && **cx.node() == name
                        && !once.swap(true, Ordering::Relaxed)
                    {
                        return Err(NodeError::msg("once"));
                    }
                    Ok(Update::new().set("log", vec![format!("{}@{}", cx.node(), cx.step())]))
                }
            });
            b.add_node(format!("n{i}"), if self.deferred.contains(&i) { spec.defer() } else { spec });
        }
        for s in &self.starts {
            b.add_edge(START, format!("n{s}"));
        }
        for (from, to) in &self.edges {
            b.add_edge(format!("n{from}"), format!("n{to}"));
        }
        for (from, to) in &self.joins {
            b.add_join(from.iter().map(|f| format!("n{f}")), format!("n{to}"));
        }
        b.compile().unwrap()
    }

    /// The nodes of each step, and whether the graph ends within the limit.
    fn simulate(&self, limit: usize) -> (Vec<BTreeSet<String>>, bool) {
        let mut now: BTreeSet<usize> = BTreeSet::new();
        let mut waiting: BTreeSet<usize> = BTreeSet::new();
        let mut arrived: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); self.joins.len()];
        let put = |n: usize, now: &mut BTreeSet<usize>, waiting: &mut BTreeSet<usize>| {
            if self.deferred.contains(&n) {
                waiting.insert(n)
            } else {
                now.insert(n)
            };
        };
        for s in &self.starts {
            put(*s, &mut now, &mut waiting);
        }
        if now.is_empty() {
            std::mem::swap(&mut now, &mut waiting);
        }
        let mut steps = Vec::new();
        // The step limit is looked at before the next tasks are: the last one allowed must find nothing left to do.
        while !now.is_empty() {
            if steps.len() > limit {
                return (steps, false);
            }
            steps.push(now.iter().map(|n| format!("n{n}")).collect());
            let ran = std::mem::take(&mut now);
            for n in &ran {
                for (_, to) in self.edges.iter().filter(|(from, _)| from == n) {
                    put(*to, &mut now, &mut waiting);
                }
                for (i, (from, to)) in self.joins.iter().enumerate() {
                    if from.contains(n) {
                        arrived[i].insert(*n);
                        if arrived[i] == *from {
                            arrived[i].clear();
                            put(*to, &mut now, &mut waiting);
                        }
                    }
                }
            }
            if now.is_empty() {
                std::mem::swap(&mut now, &mut waiting);
            }
        }
        let ends = steps.len() <= limit;
        (steps, ends)
    }
}
