//! A graph inside a node of another: sharing channels by name, or with its input and output mapped.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::{
    context::Context,
    scope::Level,
    start,
    superstep::{Stopped, output_of},
};
use crate::{
    Command, Error, Goto, Graph, Input, Node, NodeError, NodeSpec, Object, Output, StateView, TaskId, Update, Value,
    graph::{MAX_NESTED, too_deep},
};

/// Makes a subgraph's input of the state.
pub type MapInput = Arc<dyn Fn(&StateView, &Context) -> Result<Value, NodeError> + Send + Sync>;
/// Makes a node's update of what a subgraph gave.
pub type MapOutput = Arc<dyn Fn(Value, &StateView, &Context) -> Result<Update, NodeError> + Send + Sync>;

/// A graph as a node.
#[derive(Clone)]
pub struct SubgraphNode {
    /// The graph.
    pub graph: Graph,
    /// Its input; left out, the channels it shares with its parent by name.
    pub input: Option<MapInput>,
    /// What to write; left out, the channels it shares with its parent by name.
    pub output: Option<MapOutput>,
    /// True where it keeps its own state from one run to the next.
    pub persistent: bool,
}

/// A graph as a node; the two share channels by name.
pub fn subgraph(graph: Graph) -> NodeSpec {
    NodeSpec::new(SubgraphNode { graph, input: None, output: None, persistent: false })
}

impl Node for SubgraphNode {
    fn call(&self, state: StateView, cx: Context) -> BoxFuture<'static, Result<Output, NodeError>> {
        let this = self.clone();
        Box::pin(async move {
            let input = match &this.input {
                Some(map) => map(&state, &cx)?,
                None => shared_input(&this.graph, &state),
            };
            let output = match cx.run_graph(&this.graph, input, this.persistent).await {
                Ok(output) => output,
                Err(NodeError::Parent(command)) => return received(&cx, *command),
                Err(error) => return Err(error),
            };
            match &this.output {
                Some(map) => Ok(map(output, &state, &cx)?.into()),
                None => Ok(shared_output(&cx, &output).into()),
            }
        })
    }

    fn subgraphs(&self) -> Vec<Graph> {
        vec![self.graph.clone()]
    }

    fn keeps_state(&self, _subgraph: usize) -> bool {
        self.persistent
    }
}

/// The fields of the state that the graph takes.
fn shared_input(graph: &Graph, state: &StateView) -> Value {
    if let StateView::Input(input) = state {
        return input.clone();
    }
    let fields = graph.input_channels().filter_map(|c| Some((c.name.clone(), state.get(&c.name)?.clone())));
    Value::Object(fields.collect())
}

/// The fields of a graph's output that the parent has channels for.
fn shared_output(cx: &Context, output: &Value) -> Update {
    let parent = &cx.task.level.graph.inner;
    let fields = output.as_object().into_iter().flat_map(Object::iter);
    Update {
        writes: fields
            .filter(|(name, _)| parent.channel_ids.contains_key(*name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
        fault: None,
    }
}

/// A command that the subgraph sent to this graph: taken as the node's own.
fn received(cx: &Context, command: Command) -> Result<Output, NodeError> {
    let parent = &cx.task.level.graph.inner;
    // What this graph has no channel or node for may be meant for one further out; there it is an error by name.
    let is_known = |g: &Goto| match g {
        Goto::Node(name) => parent.node_ids.contains_key(name),
        Goto::Send(send) => parent.node_ids.contains_key(&send.node),
    };
    let is_end = |g: &Goto| matches!(g, Goto::Node(name) if [crate::END, "END"].contains(&&**name));
    if cx.task.level.depth > 0 && !command.goto.iter().all(|g| is_known(g) || is_end(g)) {
        return Err(NodeError::Parent(Box::new(command)));
    }
    Ok(Output::Command(Command { parent: false, ..command }))
}

/// The namespace of a graph within a task, under that of the graph around it: `node:task_id`, or `node` for one that keeps
/// its own state. The second and later graphs of a task stand under a number.
pub(super) fn inner_ns(above: &str, node: &str, task: Option<TaskId>, count: u32) -> String {
    let mut ns = if above.is_empty() { node.to_owned() } else { format!("{above}|{node}") };
    if let Some(task) = task {
        ns = format!("{ns}:{task}");
    }
    if count > 0 { format!("{ns}|{count}") } else { ns }
}

impl Context {
    /// Runs a graph inside this node, and gives its output. Questions asked in it stop this node too; on resume the
    /// node runs again from its start, and the graph goes on where it stopped.
    pub async fn graph(&self, graph: &Graph, input: impl Into<Value>) -> Result<Value, NodeError> {
        self.run_graph(graph, input.into(), false).await
    }

    /// The same, but the graph keeps its own state from one run to the next.
    pub async fn graph_persistent(&self, graph: &Graph, input: impl Into<Value>) -> Result<Value, NodeError> {
        self.run_graph(graph, input.into(), true).await
    }

    pub(crate) fn run_graph<'a>(
        &'a self,
        graph: &'a Graph,
        input: Value,
        persistent: bool,
    ) -> BoxFuture<'a, Result<Value, NodeError>> {
        Box::pin(async move {
            let task = &self.task;
            let above = &task.level;
            if above.depth >= MAX_NESTED {
                // A node may run graphs that it does not declare, itself among them.
                let text = format!("graph `{}` in node `{}`: {}", graph.name(), task.name(), too_deep());
                return Err(NodeError::new("RecursionError", text).permanent());
            }
            let run = above.run.clone();
            let count = task.subgraphs.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if persistent {
                task.is_now_personal();
            }
            let ns = match persistent {
                true => inner_ns(&above.ns, task.name(), None, count),
                false => inner_ns(&above.ns, task.name(), Some(task.id), task.graphs + count),
            };
            let graph = graph.with_runtime(above.graph.runtime().clone());
            let saved = match (&graph.runtime.checkpointer, run.config.thread_id) {
                (Some(saver), Some(thread)) if task.resuming || persistent || run.config.attempt > 1 => saver
                    .get(thread, &ns, None)
                    .await
                    .map_err(|error| Error::Checkpointer { graph: graph.name().to_string(), error })?,
                _ => None,
            };
            let mut parent_checkpoints = above.parent_checkpoints.clone();
            if let Some(id) = task.checkpoint {
                parent_checkpoints.insert(above.ns.clone(), id.to_string());
            }
            let event_id = run.clock.uuid();
            let is_stopped = saved.as_ref().is_some_and(|s| {
                let c = &s.checkpoint.control;
                c.input.is_some() || !c.triggered.is_empty() || !c.sends.is_empty()
            });
            let meta = task.meta();
            let level = Arc::new(Level {
                graph: graph.clone(),
                ns: ns.into(),
                depth: above.depth + 1,
                event_id,
                parents: task.child_parents().iter().copied().chain([event_id]).collect(),
                tells: above.tells && run.config.subgraphs,
                tags: above.tags.iter().chain(task.node_tags()).cloned().collect(),
                metadata: meta.metadata.clone(),
                parent_checkpoints,
                within: Some(meta),
                above: Some(task.clone()),
                run,
            });
            // One that keeps its own state goes on only where it stopped; else its last run is over, and this is a new one.
            let resuming = saved.is_some() && (is_stopped || !persistent);
            let superstep = start::restore(level, saved, false, None, resuming)?;
            let (stopped, channels, _) = superstep.run(Input::Values(input)).await;
            match stopped? {
                Stopped::Done => Ok(Value::Object(output_of(&graph, &channels))),
                Stopped::Interrupted(questions) => Err(NodeError::Interrupted(questions)),
            }
        })
    }
}
