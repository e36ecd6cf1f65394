//! One task: a node called under its policies, its writes put together, its events told.

use std::{
    any::Any,
    future::Future,
    panic::AssertUnwindSafe,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use tracing::Instrument;
use uuid::Uuid;

use super::{
    context::Context,
    leave::{self, goto_from, goto_value},
    replay::RepeatedTask,
    scope::{Level, Questions, StepTag},
    taskscope::{Asked, HandledError, StoredHook, TaskPath, TaskScope},
    writes::TaskWrites,
};
use crate::{
    CheckpointId, Command, END, Error, Goto, List, NodeError, NodeFailure, Output, RetryPolicy, TaskId, Update, Value,
    checkpoint::{Outcome, TaskRecord},
    graph::{NodeId, StateView},
    stream::{EventData, EventKind, Mode, SnapshotRef},
    trace,
};

/// How often a task runs again because what executed it was lost, before it fails.
const MAX_LOST: u32 = 8;
/// The kind of that failure.
pub(super) const EXECUTOR_LOST: &str = "ExecutorLostError";

/// A task of a step.
#[derive(Clone)]
pub(crate) struct Task {
    pub node: NodeId,
    pub path: TaskPath,
    pub id: TaskId,
    /// The checkpoint before its step, against which its record is kept.
    pub checkpoint: Option<CheckpointId>,
    pub input: StateView,
    /// How it ended, once it has.
    pub ended: Option<Ended>,
    /// True where that comes from an earlier attempt.
    pub cached: bool,
    /// Which try of it ended, or is the first to come.
    pub tries: u32,
    /// What is known of it from an earlier stop.
    pub earlier: Option<TaskRecord>,
    /// The error that it handles, where its node is an error handler.
    pub handles: Option<Arc<HandledError>>,
    /// The task that it repeats, in a run from a checkpoint of a subgraph.
    pub repeats: Option<Arc<RepeatedTask>>,
}

/// How a task ended.
#[derive(Clone)]
pub(crate) enum Ended {
    Done(TaskWrites),
    Asked(Questions),
    Failed(Failure),
    /// It failed, and its error handler runs in its place.
    Handled(NodeFailure),
}

/// An error that ends the run: shared, for it is told and returned.
#[derive(Clone)]
pub(crate) struct Failure(Arc<NodeError>);

impl Failure {
    pub fn share(&self) -> NodeError {
        match &*self.0 {
            NodeError::Failed(f) => NodeError::Failed(f.clone()),
            NodeError::Interrupted(q) => NodeError::Interrupted(q.clone()),
            NodeError::Parent(c) => NodeError::Parent(c.clone()),
            NodeError::Cancelled => NodeError::Cancelled,
            NodeError::ExecutorLost(text) => NodeError::ExecutorLost(text.clone()),
            NodeError::Engine(e) => NodeError::Engine(e.clone()),
        }
    }
}

impl Task {
    pub fn new(node: NodeId, path: TaskPath, id: TaskId, input: StateView) -> Self {
        Self {
            node,
            path,
            id,
            checkpoint: None,
            input,
            ended: None,
            cached: false,
            tries: 1,
            earlier: None,
            handles: None,
            repeats: None,
        }
    }
}

/// A task that has run: how it ended, its record, and who waits for that to be stored.
pub(crate) type Finished = (Ended, TaskRecord, Vec<StoredHook>);

/// Runs a task to its end.
pub(crate) async fn run(level: &Arc<Level>, task: &Task, step: i64, base: &SnapshotRef, resuming: bool) -> Finished {
    let node = &level.graph.inner.nodes[task.node];
    let event_id = if level.run.modes.has(Mode::Events) { level.run.clock.uuid() } else { Uuid::nil() };
    let mut attempt = 1;
    let mut lost = 0;
    // What an earlier stop was told may be in graphs that the task runs, which go on from there.
    let mut is_personal = resuming;
    // What has been answered stays so, from an earlier stop and from one try to the next.
    let mut known = task.earlier.as_ref().map_or_else(Asked::default, |r| Asked {
        count: 0,
        answers: r.answers.clone(),
        interrupts: r.interrupts.clone(),
        answered_by: r.answered_by,
    });
    // Once it has asked, each try goes on in the graphs that the answers are for; else it begins anew in others.
    let mut graphs = task.earlier.as_ref().map_or(0, |r| r.graphs);
    let has_asked = task.earlier.as_ref().is_some_and(|r| !r.interrupts.is_empty());
    loop {
        let scope = Arc::new(TaskScope {
            attempt,
            graphs,
            tries: task.tries + attempt - 1 + lost,
            deadline: node.spec.timeout.map(|limit| Instant::now() + limit),
            event_id,
            checkpoint: task.checkpoint,
            asked: std::mem::take(&mut known).into(),
            resuming: resuming || attempt > 1 || lost > 0,
            is_personal: is_personal.into(),
            handles: task.handles.clone(),
            repeats: task.repeats.clone(),
            ..TaskScope::new(level, (task.id, Some(task.node), task.path), step, base)
        });
        if scope.tries > 1 {
            scope.keep_so_far();
        }
        let span = trace::task(level, &node.name, task.id, attempt);
        let result = once(&scope, task).instrument(span.clone()).await;
        trace::noted(&span, &result);
        drop(span);
        let mut record = scope.record();
        let error = match result {
            Ok(writes) => {
                record.outcome = Some(Outcome::Done(writes.save(&level.graph)));
                return (Ended::Done(writes), record, scope.take_hooks());
            }
            Err(NodeError::Interrupted(questions)) => {
                record.interrupts.clone_from(&questions);
                return (Ended::Asked(questions), record, scope.take_hooks());
            }
            Err(NodeError::ExecutorLost(text)) if lost < MAX_LOST => {
                tracing::warn!(graph = %level.graph.name(), node = %node.name, task = %task.id, "executor lost: {text}");
                known = Asked { count: 0, ..std::mem::take(&mut *scope.asked.lock()) };
                is_personal = scope.is_personal.load(Ordering::Relaxed);
                if !has_asked {
                    graphs += scope.subgraphs.load(Ordering::Relaxed);
                }
                tokio::time::sleep(pause_after_loss(lost)).await;
                lost += 1;
                continue;
            }
            Err(NodeError::ExecutorLost(text)) => {
                let text = format!("node `{}` lost its executor {MAX_LOST} times, at last: {text}", node.name);
                NodeError::new(EXECUTOR_LOST, text).permanent()
            }
            Err(error) => error,
        };
        if let Some(failure) = error.failure()
            && let Some(pause) = node.spec.retry.as_ref().and_then(|p| p.pause(attempt, failure))
        {
            known = Asked { count: 0, ..std::mem::take(&mut *scope.asked.lock()) };
            is_personal = scope.is_personal.load(Ordering::Relaxed);
            if !has_asked {
                graphs += scope.subgraphs.load(Ordering::Relaxed);
            }
            tokio::time::sleep(pause).await;
            attempt += 1;
            continue;
        }
        if let Some(failure) = error.told() {
            scope.chain_error(&failure);
            // The next run of it goes through its tries again.
            record.graphs = if has_asked { graphs } else { 0 };
            if node.handler.is_some() && can_be_handled(&error) {
                record.outcome = Some(Outcome::Handled(failure.clone()));
                return (Ended::Handled(failure), record, scope.take_hooks());
            }
            record.outcome = Some(Outcome::Failed(failure));
        }
        return (Ended::Failed(Failure(Arc::new(error))), record, scope.take_hooks());
    }
}

/// Whether an error handler may take the error: a failure of the node, or of a graph inside it; not one of the store, and
/// no limit of the run.
fn can_be_handled(error: &NodeError) -> bool {
    match error {
        NodeError::Failed(_) => true,
        NodeError::Engine(error) => !matches!(
            **error,
            Error::Checkpointer { .. }
                | Error::Cancelled { .. }
                | Error::RunTimeout { .. }
                | Error::LimitReached { .. }
                | Error::NoCheckpointer { .. }
        ),
        _ => false,
    }
}

/// None at first: another executor can take the task at once. Then ever longer, to 5 s.
fn pause_after_loss(lost: u32) -> Duration {
    if lost == 0 { Duration::ZERO } else { Duration::from_millis(50 << lost).min(Duration::from_secs(5)) }
}

/// One attempt: the node, then what leaves it.
async fn once(scope: &Arc<TaskScope>, task: &Task) -> Result<TaskWrites, NodeError> {
    let level = &scope.level;
    let node = &level.graph.inner.nodes[task.node];
    let name = &node.name;
    let step = StepTag::Step(scope.step);
    let tags: Arc<[Arc<str>]> =
        if level.run.modes.has(Mode::Events) { step.with(scope.tags()) } else { Arc::default() };
    let cx = Context { task: scope.clone() };
    let key = node.spec.cache.and_then(|_| cache_key(level, name, &task.input));
    if let (Some(key), Some(cache)) = (&key, &level.graph.runtime.cache)
        && let Some(output) = cache.get(key).await.and_then(|kept| output_from(&kept))
    {
        let mut writes = TaskWrites { cached: true, ..TaskWrites::default() };
        writes.add_output(&level.graph, name, output)?;
        if hands_over(level, name, &writes)? {
            return Ok(writes);
        }
        let leaves = leave::leave_task(scope, &node.out, &writes, task).await?;
        writes.list.extend(leaves.list);
        return Ok(writes);
    }
    let wants = |kind| scope.wants_event(kind, name, step, &[]);
    let tell = |kind, data| scope.chain(kind, name, tags.clone(), data);
    let input = (wants(EventKind::ChainStart) || wants(EventKind::ChainEnd)).then(|| task.input.to_value());
    if wants(EventKind::ChainStart) {
        tell(EventKind::ChainStart, EventData { input: input.clone(), ..EventData::default() });
    }
    let output = match call(scope, task, cx).await {
        // From a graph that the node itself runs.
        Err(NodeError::Parent(commands)) => received(level, commands),
        result => result?,
    };
    if let (Some(key), Some(cache)) = (&key, &level.graph.runtime.cache)
        && !scope.is_personal.load(Ordering::Relaxed)
        && let Some(kept) = output_to(&output)
    {
        let until = node.spec.cache.and_then(|p| p.ttl).map(|ttl| level.run.clock.now() + ttl);
        cache.put(key, kept, until).await;
    }
    let shown = (wants(EventKind::ChainStream) || wants(EventKind::ChainEnd)).then(|| output_value(&output));
    let mut writes = TaskWrites::default();
    writes.add_output(&level.graph, name, output)?;
    if hands_over(level, name, &writes)? {
        return Ok(writes);
    }
    if level.wants(Mode::Messages) {
        scope.tell_messages(&writes);
    }
    let seen = leave::leave_task(scope, &node.out, &writes, task).await?;
    writes.list.extend(seen.list);
    if wants(EventKind::ChainStream) {
        tell(EventKind::ChainStream, EventData { update: shown.clone(), ..EventData::default() });
    }
    if wants(EventKind::ChainEnd) {
        tell(EventKind::ChainEnd, EventData { input, output: shown, ..EventData::default() });
    }
    Ok(writes)
}

/// Whether a task sends its parent graph a command: then nothing in its own graph follows it. The outermost graph has no
/// parent.
fn hands_over(level: &Level, node: &Arc<str>, writes: &TaskWrites) -> Result<bool, NodeError> {
    if level.depth == 0 && writes.has_parent_command() {
        return Err(Error::NoParent { graph: level.graph.name().to_string(), node: node.to_string() }.into());
    }
    Ok(writes.has_parent_command())
}

/// The commands that a subgraph sent to this graph, as the node's own.
pub(super) fn received(level: &Level, commands: Vec<Command>) -> Output {
    let inner = &level.graph.inner;
    // What this graph has no node for may be meant for one further out; there it is an error by name.
    let is_known = |g: &Goto| match g {
        Goto::Node(name) => inner.node_ids.contains_key(name) || [END, "END"].contains(&&**name),
        Goto::Send(send) => inner.node_ids.contains_key(&send.node),
    };
    let take = |command: Command| {
        let parent = level.depth > 0 && !command.goto.iter().all(is_known);
        Output::Command(Command { parent, ..command })
    };
    let mut outputs: Vec<Output> = commands.into_iter().map(take).collect();
    match outputs.len() {
        1 => outputs.pop().unwrap_or(Output::Nothing),
        _ => Output::Many(outputs),
    }
}

/// Calls the node: a panic becomes a failure, a timeout too.
async fn call(scope: &Arc<TaskScope>, task: &Task, cx: Context) -> Result<Output, NodeError> {
    let spec = &scope.level.graph.inner.nodes[task.node].spec;
    let input = task.input.clone();
    let work = async move { spec.node.call(input, cx).await };
    let work = AssertUnwindSafe(work).catch_unwind().map(|result| match result {
        Ok(result) => result,
        Err(panic) => {
            Err(NodeError::new("Panic", format!("node `{}` panicked: {}", scope.name(), panic_text(&*panic)))
                .permanent())
        }
    });
    match (spec.timeout, spec.idle_timeout) {
        (None, None) => work.await,
        (Some(limit), None) => within(scope, limit, work).await,
        (limit, Some(idle)) => {
            let work = awake(scope, idle, work);
            match limit {
                Some(limit) => within(scope, limit, work).await,
                None => work.await,
            }
        }
    }
}

async fn within<T>(
    scope: &TaskScope,
    limit: Duration,
    work: impl Future<Output = Result<T, NodeError>>,
) -> Result<T, NodeError> {
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(timed_out(limit, format!("node `{}` took longer than {limit:?}", scope.name()))),
    }
}

/// Fails work that makes no progress for a time.
async fn awake<T>(
    scope: &TaskScope,
    idle: Duration,
    work: impl Future<Output = Result<T, NodeError>>,
) -> Result<T, NodeError> {
    let mut work = std::pin::pin!(work);
    let pulse = &scope.pulse;
    loop {
        let before = pulse.load(Ordering::Relaxed);
        match tokio::time::timeout(idle, &mut work).await {
            Ok(result) => return result,
            Err(_) if pulse.load(Ordering::Relaxed) != before => {}
            Err(_) => {
                let text = format!("node `{}` made no progress for {idle:?}, its idle timeout", scope.name());
                return Err(timed_out(idle, text));
            }
        }
    }
}

fn timed_out(limit: Duration, text: String) -> NodeError {
    NodeError::Failed(NodeFailure { timeout: Some(limit), ..NodeFailure::new("NodeTimeoutError", text) })
}

pub(super) fn panic_text(panic: &(dyn Any + std::marker::Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}

impl RetryPolicy {
    /// How long to wait before the next attempt; `None` where there is none.
    fn pause(&self, attempt: u32, failure: &NodeFailure) -> Option<Duration> {
        let again = match &self.retry_on {
            Some(which) => which(failure),
            None => failure.retryable,
        };
        if !again || attempt >= self.max_attempts {
            return None;
        }
        if let Some(pause) = failure.retry_after {
            return Some(pause);
        }
        let factor = self.backoff.max(0.0).powi(i32::try_from(attempt - 1).unwrap_or(i32::MAX));
        let seconds = (self.initial_interval.as_secs_f64() * factor).min(self.max_interval.as_secs_f64());
        let jitter = if self.jitter { jitter() } else { 0.0 };
        Some(Duration::try_from_secs_f64(seconds + jitter).unwrap_or(self.max_interval))
    }
}

/// Up to a second, at random.
fn jitter() -> f64 {
    let (_, low) = Uuid::new_v4().as_u64_pair();
    (low % 1_000_000) as f64 / 1e6
}

/// What a node returned, as its events show it.
fn output_value(output: &Output) -> Value {
    match output {
        Output::Nothing => Value::Null,
        Output::Update(update) => update.to_value(),
        Output::Command(command) => command_value(command),
        Output::Many(outputs) => Value::from(outputs.iter().map(output_value).collect::<Vec<_>>()),
    }
}

fn command_value(command: &Command) -> Value {
    let goto = match &command.goto[..] {
        [one] => goto_value(std::slice::from_ref(one)),
        many => goto_value(many),
    };
    Value::Object(
        [
            ("graph", if command.parent { Value::from("__parent__") } else { Value::Null }),
            ("update", command.update.as_ref().map_or(Value::Null, Update::to_value)),
            ("resume", Value::Null),
            ("goto", goto),
        ]
        .into_iter()
        .collect(),
    )
}

/// What a cache keeps under: graph revision, node, and all that the node is given.
fn cache_key(level: &Level, node: &str, input: &StateView) -> Option<String> {
    let config = &level.run.config;
    let given = Value::from(vec![input.to_value(), config.context.clone(), Value::Object(config.configurable.clone())]);
    let hash = xxhash_rust::xxh3::xxh3_128(&serde_json::to_vec(&given).ok()?);
    Some(format!("{}:{}:{node}:{hash:032x}", level.graph.name(), level.graph.revision()))
}

/// What a node wrote as a cache keeps it: an update as a list of its writes, a command and a list of both as an object.
/// What is meant for the parent is not kept.
fn output_to(output: &Output) -> Option<Value> {
    let kept = match output {
        Output::Nothing => Value::Null,
        Output::Update(update) => update_to(update),
        Output::Command(command) if command.parent => return None,
        Output::Command(command) => {
            let update = command.update.as_ref().map_or(Value::Null, update_to);
            let goto: Vec<Value> = command.goto.iter().map(|goto| goto_value(std::slice::from_ref(goto))).collect();
            Value::Object([("update", update), ("goto", goto.into())].into_iter().collect())
        }
        Output::Many(outputs) => {
            let outputs = outputs.iter().map(output_to).collect::<Option<Vec<_>>>()?;
            Value::Object([("many", Value::from(outputs))].into_iter().collect())
        }
    };
    Some(kept)
}

fn update_to(update: &Update) -> Value {
    let pair = |(name, value): &(Arc<str>, Value)| Value::from(vec![Value::from(name), value.clone()]);
    update.writes.iter().map(pair).collect::<Vec<_>>().into()
}

fn output_from(kept: &Value) -> Option<Output> {
    match kept {
        Value::List(writes) => Some(Output::Update(update_from(writes)?)),
        Value::Object(fields) => match (fields.get("many"), fields.get("update"), fields.get("goto")) {
            (Some(Value::List(outputs)), ..) => {
                Some(Output::Many(outputs.iter().map(output_from).collect::<Option<_>>()?))
            }
            (_, update, Some(Value::List(goto))) => {
                let update = match update.and_then(Value::as_list) {
                    Some(writes) => Some(update_from(writes)?),
                    None => None,
                };
                let goto = goto.iter().map(goto_from).collect::<Option<_>>()?;
                Some(Output::Command(Command { update, goto, ..Command::default() }))
            }
            _ => None,
        },
        Value::Null => Some(Output::Nothing),
        _ => None,
    }
}

fn update_from(writes: &List) -> Option<Update> {
    writes.iter().try_fold(Update::new(), |update, write| {
        let pair = write.as_list()?;
        Some(update.set(pair.get(0)?.as_str()?, pair.get(1)?.clone()))
    })
}
