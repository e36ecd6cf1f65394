//! A graph inside a node of another: sharing channels by name, or with its input and output mapped.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::{
    context::Context,
    finish::WITHIN_NS,
    scope::Level,
    shared, start,
    superstep::{Ran, Stopped, output_of},
    task::received,
};
use crate::{
    Error, Graph, Input, Node, NodeError, NodeSpec, Output, RunId, StateView, TaskId, Update, Value,
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
                None => shared::input(&this.graph, &state),
            };
            let ran = match cx.run_graph(&this.graph, input, this.persistent, this.output.is_none()).await {
                Ok(ran) => ran,
                Err(NodeError::Parent(commands)) => return Ok(received(&cx.task.level, commands)),
                Err(error) => return Err(error),
            };
            match &this.output {
                Some(map) => Ok(map(ran.output, &state, &cx)?.into()),
                None => Ok(ran.changes.into()),
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

/// What a graph inside a node came to.
pub(crate) struct Inside {
    pub output: Value,
    /// What it changed of the channels that it shares with its parent, where it shares any.
    pub changes: Update,
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
        Ok(self.run_graph(graph, input.into(), false, false).await?.output)
    }

    /// The same, but the graph keeps its own state from one run to the next.
    pub async fn graph_persistent(&self, graph: &Graph, input: impl Into<Value>) -> Result<Value, NodeError> {
        Ok(self.run_graph(graph, input.into(), true, false).await?.output)
    }

    pub(crate) fn run_graph<'a>(
        &'a self,
        graph: &'a Graph,
        input: Value,
        persistent: bool,
        shares: bool,
    ) -> BoxFuture<'a, Result<Inside, NodeError>> {
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
            let mut saved = match (&graph.runtime.checkpointer, run.config.thread_id) {
                (Some(saver), Some(thread)) if task.resuming || persistent || run.config.attempt > 1 => saver
                    .get(thread, &ns, None)
                    .await
                    .map_err(|error| Error::Checkpointer { graph: graph.name().to_string(), error })?,
                _ => None,
            };
            let latest = saved.as_ref().map(|saved| saved.checkpoint.id);
            let mut origin = None;
            if let (Some(replay), Some(repeated)) = (run.replay.get(), &task.repeats)
                && let (Some(saver), Some(thread)) = (&graph.runtime.checkpointer, run.config.thread_id)
            {
                let fail = |error| Error::Checkpointer { graph: graph.name().to_string(), error };
                let start = replay.start((&**saver, thread), repeated, count, persistent).await.map_err(fail)?;
                if let Some(start) = start {
                    let is_own = run.config.attempt > 1
                        && saved.as_ref().is_some_and(|s| s.checkpoint.run_id == Some(RunId(run.run_id)));
                    origin = Some(start.ns);
                    saved = if is_own { saved } else { Some(start.saved) };
                }
            }
            let mut parent_checkpoints = above.parent_checkpoints.clone();
            if let Some(id) = task.checkpoint {
                parent_checkpoints.insert(above.ns.clone(), id.to_string());
            }
            let event_id = run.clock.uuid();
            let is_stopped = saved.as_ref().is_some_and(|s| {
                let c = &s.checkpoint.control;
                let is_pending = c.input.is_some() || !c.triggered.is_empty() || !c.sends.is_empty();
                // A step that handed over to the parent is over, but for the task that has not yet passed it on.
                let is_over = s.tasks.iter().any(start::hands_over)
                    && s.checkpoint.metadata.get_str(WITHIN_NS) != Some(&task.ns());
                is_pending && !is_over
            });
            let meta = task.meta();
            let level = Arc::new(Level {
                graph: graph.clone(),
                ns: ns.into(),
                depth: above.depth + 1,
                origin,
                shares,
                event_id,
                parents: task.child_parents().iter().copied().chain([event_id]).collect(),
                tells: above.tells && run.config.subgraphs,
                tags: above.tags.iter().chain(task.node_tags()).cloned().collect(),
                metadata: meta.metadata.clone(),
                parent_checkpoints,
                within: Some(meta),
                above: Some(task.clone()),
                last_step: i64::MAX.into(),
                run,
            });
            // One that keeps its own state goes on only where it stopped; else its last run is over, and this is a new one.
            let resuming = saved.is_some() && (is_stopped || !persistent || level.origin.is_some());
            let superstep = start::restore(level.clone(), saved, false, latest, resuming)?;
            let given = input.clone();
            let Ran { stopped, channels, entered, .. } = superstep.run(Input::Values(input)).await;
            match stopped? {
                Stopped::Done => {}
                Stopped::Interrupted(questions) => return Err(NodeError::Interrupted(questions)),
                Stopped::HandedOver(commands) => return Err(NodeError::Parent(commands)),
            }
            let mut changes = Update::new();
            if shares {
                let entered = match entered {
                    Some(entered) => entered,
                    None => {
                        let saver = graph.runtime.checkpointer.as_deref().zip(level.run.config.thread_id);
                        shared::entered(&graph, saver, &level.ns, &given).await?
                    }
                };
                changes = shared::changes(&above.graph, &graph, &entered, channels.snapshot());
            }
            Ok(Inside { output: Value::Object(output_of(&graph, &channels)), changes })
        })
    }
}
