//! The loop: what is to run, runs; what it wrote is applied; a checkpoint is made; again.

mod execute;
mod show;

use std::sync::{Arc, atomic::Ordering};

use tracing::Instrument;

use super::{
    channels::Channels,
    control::Next,
    finish::Saver,
    limits::{self, Pacer, Written},
    replay::Origin,
    scope::{Level, Questions},
    task::{Ended, Task},
    taskscope::TaskPath,
    tell::input_value,
    writes::{TaskWrite, TaskWrites},
};
use crate::{
    Breakpoints, Error, Graph, Input, NodeError, Object, START, TaskId, Value,
    checkpoint::{Outcome, Source, TaskRecord},
    command::Command,
    stream::{EventData, EventKind, Mode, Modes, SnapshotRef},
    trace,
};

/// One graph on its way through its supersteps.
pub(crate) struct Superstep {
    pub level: Arc<Level>,
    pub channels: Channels,
    pub next: Next,
    /// The step that comes next; the one before has been applied.
    pub step: i64,
    /// The last step that may begin.
    pub stop: i64,
    /// How many steps this run has taken.
    pub taken: u64,
    pub saver: Saver,
    /// What is known of the tasks of the coming step, from an earlier stop.
    pub records: Vec<TaskRecord>,
    /// True until the first step has run, where the graph goes on from a stop.
    pub resuming: bool,
    /// True where the finished tasks of the stopped step are to run again: on a replay.
    pub replaying: bool,
    /// At a stop: the output with what finished siblings wrote, where any did.
    pub shown: Option<Object>,
    /// The state after the input was applied, for a subgraph that shares channels with its parent.
    pub entered: Option<SnapshotRef>,
    /// Where the tasks of the coming step come from, in a run from a checkpoint of a subgraph.
    pub origin: Option<Origin>,
    pub pacer: Pacer,
    /// What the tasks of this step have written.
    pub written: Written,
}

/// What a graph's run came to.
pub(crate) struct Ran {
    pub stopped: Result<Stopped, NodeError>,
    pub channels: Channels,
    /// At a stop: the output with what finished siblings wrote.
    pub shown: Option<Object>,
    /// See [`Superstep::entered`]; none too where the graph went on from a stop.
    pub entered: Option<SnapshotRef>,
}

/// How a graph's run ended.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// Nothing is left to run.
    Done,
    /// It asks; or, without questions, it stands at a breakpoint.
    Interrupted(Questions),
    /// Tasks of a step sent its parent graph commands.
    HandedOver(Vec<Command>),
}

impl Superstep {
    fn graph(&self) -> &Graph {
        &self.level.graph
    }

    /// Runs the graph to its end, or to where it stops.
    pub async fn run(mut self, input: Input) -> Ran {
        let stopped = self.run_to_end(input).await;
        let shown = if stopped.is_ok() { self.shown } else { None };
        Ran { stopped, channels: self.channels, shown, entered: self.entered }
    }

    async fn run_to_end(&mut self, input: Input) -> Result<Stopped, NodeError> {
        let level = self.level.clone();
        level.tell_chain(EventKind::ChainStart, self.step, None, || EventData {
            input: Some(input_value(&input)),
            ..EventData::default()
        });
        // The end of a graph inside another has its input too, as that of a node.
        let given = (level.depth > 0 && level.wants_chain(EventKind::ChainEnd)).then(|| input_value(&input));
        let stopped = self.bounded(input).await;
        metrics::counter!("runloom_supersteps_total").increment(self.taken);
        let kept = self.saver.finish(&self.level, &self.channels, &self.next, &stopped).await;
        let stopped = match (stopped, kept) {
            (Ok(stopped), Err(error)) => {
                drop(stopped);
                Err(NodeError::Engine(Box::new(error)))
            }
            (stopped, _) => stopped,
        };
        let data = match &stopped {
            Err(error) if let Some(failure) = error.told() => {
                level.tell_chain(EventKind::ChainError, self.step, None, || EventData {
                    error: Some(failure),
                    ..EventData::default()
                });
                return stopped;
            }
            Err(_) | Ok(Stopped::HandedOver(_)) => return stopped,
            // The node that it runs in has stopped, and not ended: as that node, it tells no end.
            Ok(Stopped::Interrupted(_)) if level.depth > 0 => return stopped,
            Ok(_) => || EventData { input: given, output: Some(Value::Object(self.output())), ..EventData::default() },
        };
        level.tell_chain(EventKind::ChainEnd, self.step, Some(self.channels.snapshot()), data);
        stopped
    }

    /// Drives the graph, until it ends or its run is cancelled or has taken its time. What is under way is dropped then,
    /// and what is to be kept is kept all the same.
    async fn bounded(&mut self, input: Input) -> Result<Stopped, NodeError> {
        if self.level.depth > 0 {
            return self.drive(input).await;
        }
        let run = self.level.run.clone();
        let limit = run.config.timeout;
        let too_long = async {
            match limit {
                Some(limit) => tokio::time::sleep(limit.saturating_sub(run.config.elapsed)).await,
                None => std::future::pending().await,
            }
        };
        let graph = self.level.graph.name().clone();
        tokio::select! {
            biased;
            () = run.cancel.cancelled() => Err(NodeError::Cancelled),
            stopped = self.drive(input) => stopped,
            () = too_long => Err(Error::RunTimeout { graph: graph.to_string(), after: limit.unwrap_or_default() }.into()),
        }
    }

    /// The output channels.
    pub fn output(&self) -> Object {
        output_of(&self.level.graph, &self.channels)
    }

    async fn drive(&mut self, input: Input) -> Result<Stopped, NodeError> {
        self.start(input).await?;
        self.level.last_step.store(self.stop, Ordering::Relaxed);
        loop {
            // Lets the reader take what has been told, before more is.
            if self.level.run.queue.len() > 0 {
                tokio::task::yield_now().await;
            }
            self.pacer.pause().await;
            if self.step > self.stop {
                self.tell_checkpoint();
                return Err(Error::RecursionLimit {
                    graph: self.graph().name().to_string(),
                    limit: self.level.run.config.recursion_limit,
                }
                .into());
            }
            if let Some(input) = self.next.input.take() {
                self.tell_checkpoint_of_input(&input);
                self.enter(input).await?;
                continue;
            }
            limits::check_tasks(self.graph(), &self.level.run.config.limits, &self.next)?;
            let mut tasks = self.plan()?;
            self.tell_checkpoint();
            if tasks.is_empty() {
                return Ok(Stopped::Done);
            }
            if !self.resuming && self.breaks_before(&tasks) {
                self.tell_breakpoint();
                return Ok(Stopped::Interrupted(Vec::new()));
            }
            self.reuse(&mut tasks);
            self.tell_starts(&tasks).await;
            let span = trace::superstep(&self.level, self.step, tasks.len());
            let ended = self.execute(tasks).instrument(span).await?;
            self.taken += 1;
            if let Some(questions) = self.questions(&ended) {
                self.show_finished(&ended);
                return Ok(Stopped::Interrupted(questions));
            }
            if let Some(commands) = self.handed_over(&ended) {
                return Ok(Stopped::HandedOver(commands));
            }
            let stops = self.breaks_after(&ended);
            self.apply(ended).await?;
            self.resuming = false;
            self.replaying = false;
            if stops {
                self.tell_checkpoint();
                self.tell_breakpoint();
                return Ok(Stopped::Interrupted(Vec::new()));
            }
        }
    }

    /// The task `__start__`: applies the input, and goes where START leads. What comes then is nobody's stopped step.
    async fn enter(&mut self, input: Value) -> Result<(), NodeError> {
        let graph = self.level.graph.clone();
        if input.as_object().is_none() {
            return Err(Error::InvalidInput {
                graph: graph.name().to_string(),
                field: None,
                message: format!("expected an object by channel, and was given {}", input.kind()),
            }
            .into());
        }
        let inner = &graph.inner;
        let writes = input_writes(&graph, &input);
        let mut applied = self.channels.apply(&graph, &writes.refs())?;
        self.entered = self.level.shares.then(|| self.channels.snapshot().clone());
        self.channels.expire(&graph, &mut applied);
        let id = self.task_id(START, TaskPath::START);
        let out = super::leave::leave(&self.level, &inner.start, id, self.step, self.channels.snapshot()).await?;
        self.next.begin_step();
        self.next.follow(&graph, &out);
        self.next.last.push(None);
        self.next.settle();
        limits::check_state(&graph, &self.level.run.config.limits, &self.channels, &self.next, |_| Vec::new())?;
        let record = TaskRecord {
            task: id,
            node: START.into(),
            outcome: Some(Outcome::Done(writes.save(&graph))),
            interrupts: Vec::new(),
            answers: Vec::new(),
            answered_by: None,
            tries: 0,
            graphs: 0,
        };
        self.saver.put_task(&self.level, record);
        self.records.clear();
        self.finish_step(applied, Source::Loop);
        self.resuming = false;
        self.replaying = false;
        Ok(())
    }

    /// What a finished step leaves: values told, a checkpoint saved, the step counted.
    fn finish_step(&mut self, applied: super::channels::Applied, source: Source) {
        let output = applied.output;
        self.saver.prepare(&self.level, &mut self.channels);
        if output {
            self.tell_values(None);
        }
        self.saver.put(&self.level, &self.channels, &self.next, self.step, source, applied.changes);
        self.step += 1;
    }

    /// The id of a task of the coming step: the same whenever the same step is planned again.
    pub fn task_id(&self, node: &str, path: TaskPath) -> TaskId {
        task_id(&self.level.ns, self.saver.identity(), self.step, node, path)
    }

    /// The open questions of a step, if any task asked one.
    fn questions(&self, tasks: &[Task]) -> Option<Questions> {
        let asked = tasks.iter().filter_map(|t| if let Some(Ended::Asked(q)) = &t.ended { Some(q) } else { None });
        let questions: Questions = asked.flatten().cloned().collect();
        let any = tasks.iter().any(|t| matches!(t.ended, Some(Ended::Asked(_))));
        any.then_some(questions)
    }

    /// Applies what the tasks wrote, in the order of their paths.
    async fn apply(&mut self, mut tasks: Vec<Task>) -> Result<(), NodeError> {
        let graph = self.level.graph.clone();
        if tasks.len() > 1 {
            tasks.sort_by_key(|t| t.path);
        }
        let mut all: Vec<(usize, TaskWrites)> = Vec::with_capacity(tasks.len());
        for task in tasks {
            if let Some(Ended::Done(writes)) = task.ended {
                all.push((task.node, writes));
            }
        }
        let refs: Vec<_> = all.iter().flat_map(|(_, w)| w.channels()).collect();
        let applied = self.channels.apply(&graph, &refs);
        let mut applied = applied.map_err(|error| error.by(|channel| writers(&graph, &all, channel)))?;
        self.channels.expire(&graph, &mut applied);
        self.next.begin_step();
        for (node, writes) in &all {
            self.next.follow(&graph, writes);
            if self.next.last.last() != Some(&Some(*node)) {
                self.next.last.push(Some(*node));
            }
            self.pacer.pause().await;
        }
        self.next.settle();
        let limits = &self.level.run.config.limits;
        limits::check_state(&graph, limits, &self.channels, &self.next, |channel| writers(&graph, &all, channel))?;
        self.records.clear();
        self.origin = None;
        self.finish_step(applied, Source::Loop);
        self.saver.pace(&self.level).await?;
        Ok(())
    }

    fn breaks_before(&self, tasks: &[Task]) -> bool {
        let run = &self.level.run.config;
        let points = match &run.interrupt_before {
            Some(points) if self.level.depth == 0 => points,
            _ => &self.graph().inner.interrupt_before,
        };
        self.breaks(points, tasks)
    }

    fn breaks_after(&self, tasks: &[Task]) -> bool {
        let run = &self.level.run.config;
        let points = match &run.interrupt_after {
            Some(points) if self.level.depth == 0 => points,
            _ => &self.graph().inner.interrupt_after,
        };
        self.breaks(points, tasks)
    }

    fn breaks(&self, points: &Breakpoints, tasks: &[Task]) -> bool {
        !matches!(points, Breakpoints::None) && tasks.iter().any(|t| points.has(&self.graph().inner.nodes[t.node].name))
    }
}

/// What an input writes. Fields that are not in the graph's input are ignored, as LangGraph does.
pub(super) fn input_writes(graph: &Graph, input: &Value) -> TaskWrites {
    let inner = &graph.inner;
    let fields = input.as_object().into_iter().flat_map(Object::iter);
    let writes = fields.filter_map(|(name, value)| {
        let channel = inner.channel_ids.get(name).filter(|c| inner.input.contains(c))?;
        Some(TaskWrite::Channel(*channel, value.clone()))
    });
    TaskWrites { list: writes.collect(), cached: false }
}

/// The output channels of a graph.
pub(crate) fn output_of(graph: &Graph, channels: &Channels) -> Object {
    let state = channels.snapshot();
    graph.inner.output.iter().filter_map(|c| Some((graph.inner.names[*c].clone(), state.values[*c].clone()?))).collect()
}

/// A task's id: a hash of checkpoint, namespace, step, node and place.
pub(crate) fn task_id(ns: &str, checkpoint: uuid::Uuid, step: i64, node: &str, path: TaskPath) -> TaskId {
    let mut h = xxhash_rust::xxh3::Xxh3::new();
    h.update(checkpoint.as_bytes());
    h.update(ns.as_bytes());
    h.update(&step.to_le_bytes());
    h.update(node.as_bytes());
    path.hash(&mut h);
    TaskId(uuid::Builder::from_custom_bytes(h.digest128().to_be_bytes()).into_uuid())
}

/// The nodes that wrote a channel, each once.
fn writers(graph: &Graph, all: &[(usize, TaskWrites)], channel: &str) -> Vec<String> {
    let inner = &graph.inner;
    let wrote = all.iter().filter(|(_, writes)| writes.channels().any(|(c, _)| *inner.names[c] == *channel));
    let mut names: Vec<String> = wrote.map(|(node, _)| inner.nodes[*node].name.to_string()).collect();
    names.dedup();
    names
}

/// Which modes tell of tasks.
pub(crate) fn task_modes() -> Modes {
    [Mode::Tasks, Mode::Debug].into()
}

/// A command that came as a run's input, as writes.
pub(crate) fn command_writes(graph: &Graph, command: Command) -> Result<TaskWrites, NodeError> {
    let mut writes = TaskWrites::default();
    writes.add_command(graph, "the run's command", command)?;
    Ok(writes)
}
