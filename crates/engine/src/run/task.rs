//! One task: a node called under its policies, its writes put together, its events told.

use std::{
    any::Any,
    future::Future,
    panic::AssertUnwindSafe,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::FutureExt;
use uuid::Uuid;

use super::{
    context::{Asked, Context, TaskPath, TaskScope},
    scope::{Level, Questions},
    superstep::{Superstep, task_modes},
    writes::{TaskWrite, TaskWrites},
};
use crate::{
    Command, END, Error, Goto, NodeError, NodeFailure, Output, RetryPolicy, TaskId, Value,
    channel::Reducer,
    checkpoint::{Outcome, TaskRecord},
    command::Send,
    graph::{NodeId, StateView},
    stream::{
        Chunk, Event, EventData, EventKind, MessagePart, Mode, Payload, SnapshotRef, TaskEnd, TaskStart, UpdatePart,
    },
};

/// A task of a step.
#[derive(Clone)]
pub(crate) struct Task {
    pub node: NodeId,
    pub path: TaskPath,
    pub id: TaskId,
    pub input: StateView,
    /// How it ended, once it has.
    pub ended: Option<Ended>,
    /// True where that comes from an earlier attempt.
    pub cached: bool,
    /// What is known of it from an earlier stop.
    pub earlier: Option<TaskRecord>,
}

/// How a task ended.
#[derive(Clone)]
pub(crate) enum Ended {
    Done(TaskWrites),
    Asked(Questions),
    Failed(Failure),
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
            NodeError::Engine(e) => NodeError::Engine(e.clone()),
        }
    }
}

impl Task {
    pub fn new(node: NodeId, path: TaskPath, id: TaskId, input: StateView) -> Self {
        Self { node, path, id, input, ended: None, cached: false, earlier: None }
    }
}

/// Runs a task to its end.
pub(crate) async fn run(
    level: &Arc<Level>,
    task: &Task,
    step: i64,
    base: &SnapshotRef,
    resuming: bool,
) -> (Ended, TaskRecord) {
    let node = &level.graph.inner.nodes[task.node];
    let event_id = if level.run.modes.has(Mode::Events) { level.run.clock.uuid() } else { Uuid::nil() };
    let mut attempt = 1;
    loop {
        let asked = task.earlier.as_ref().map_or_else(Asked::default, |r| Asked {
            count: 0,
            answers: r.answers.clone(),
            interrupts: r.interrupts.clone(),
            answered_by: r.answered_by,
        });
        let scope = Arc::new(TaskScope {
            attempt,
            event_id,
            asked: asked.into(),
            resuming: resuming || attempt > 1,
            ..TaskScope::new(level, (task.id, Some(task.node), task.path), step, base)
        });
        let result = once(&scope, task).await;
        let mut record = scope.record();
        let error = match result {
            Ok(writes) => {
                record.outcome = Some(Outcome::Done(writes.save(&level.graph)));
                return (Ended::Done(writes), record);
            }
            Err(NodeError::Interrupted(questions)) => {
                record.interrupts.clone_from(&questions);
                return (Ended::Asked(questions), record);
            }
            Err(NodeError::Parent(command)) if level.depth == 0 => {
                drop(command);
                let (graph, node) = (level.graph.name().to_string(), node.name.to_string());
                NodeError::from(Error::NoParent { graph, node })
            }
            Err(error) => error,
        };
        if let Some(failure) = error.failure() {
            if let Some(pause) = node.spec.retry.as_ref().and_then(|p| p.pause(attempt, failure)) {
                tokio::time::sleep(pause).await;
                attempt += 1;
                continue;
            }
            scope.chain_error(failure);
            record.outcome = Some(Outcome::Failed(failure.clone()));
        } else if let NodeError::Engine(e) = &error {
            let failure =
                NodeFailure { kind: e.kind().into(), message: e.to_string().into(), retryable: false };
            record.outcome = Some(Outcome::Failed(failure));
        }
        return (Ended::Failed(Failure(Arc::new(error))), record);
    }
}

/// One attempt: the node, then what leaves it.
async fn once(scope: &Arc<TaskScope>, task: &Task) -> Result<TaskWrites, NodeError> {
    let level = &scope.level;
    let node = &level.graph.inner.nodes[task.node];
    let name = &node.name;
    let tags: Arc<[Arc<str>]> = if level.run.modes.has(Mode::Events) {
        let step: Arc<str> = format!("graph:step:{}", scope.step).into();
        [step].into_iter().chain(level.tags.iter().cloned()).chain(scope.node_tags().iter().cloned()).collect()
    } else {
        Arc::default()
    };
    let wants = |kind| level.wants_event(kind, name, Some(name), scope.node_tags());
    let tell = |kind, data| scope.chain(kind, name, tags.clone(), data);
    let input = (wants(EventKind::ChainStart) || wants(EventKind::ChainEnd)).then(|| task.input.to_value());
    if wants(EventKind::ChainStart) {
        tell(EventKind::ChainStart, EventData { input: input.clone(), ..EventData::default() });
    }
    let cx = Context { task: scope.clone() };
    let key = node.spec.cache.and_then(|_| cache_key(level, name, &task.input));
    let kept = match (&key, &level.graph.runtime.cache) {
        (Some(key), Some(cache)) => cache.get(key).await.and_then(|v| output_from(&v)),
        _ => None,
    };
    let output = match kept {
        Some(output) => output,
        None => {
            let output = call(scope, task, cx.clone()).await?;
            if let (Some(key), Some(cache), Some(kept)) = (&key, &level.graph.runtime.cache, output_to(&output)) {
                let until = node.spec.cache.and_then(|p| p.ttl).map(|ttl| level.run.clock.now() + ttl);
                cache.put(key, kept, until).await;
            }
            output
        }
    };
    let shown = (wants(EventKind::ChainStream) || wants(EventKind::ChainEnd)).then(|| output_value(&output));
    let mut writes = TaskWrites::default();
    writes.add_output(&level.graph, name, output)?;
    if level.wants(Mode::Messages) {
        scope.tell_messages(&writes);
    }
    let seen = leave_task(scope, &node.out, &writes, task)?;
    writes.list.extend(seen.list);
    if wants(EventKind::ChainStream) {
        tell(EventKind::ChainStream, EventData { update: shown.clone(), ..EventData::default() });
    }
    if wants(EventKind::ChainEnd) {
        tell(EventKind::ChainEnd, EventData { input, output: shown, ..EventData::default() });
    }
    Ok(writes)
}

/// Calls the node: a panic becomes a failure, a timeout too.
async fn call(scope: &Arc<TaskScope>, task: &Task, cx: Context) -> Result<Output, NodeError> {
    let spec = &scope.level.graph.inner.nodes[task.node].spec;
    let input = task.input.clone();
    let work = async move { spec.node.call(input, cx).await };
    let work = AssertUnwindSafe(work).catch_unwind().map(|result| match result {
        Ok(result) => result,
        Err(panic) => Err(NodeError::new("Panic", format!("node `{}` panicked: {}", scope.name(), panic_text(&*panic)))
            .permanent()),
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
        Err(_) => Err(NodeError::new("TimeoutError", format!("node `{}` took longer than {limit:?}", scope.name()))),
    }
}

/// Fails work during which nothing is told for a time.
async fn awake<T>(
    scope: &TaskScope,
    idle: Duration,
    work: impl Future<Output = Result<T, NodeError>>,
) -> Result<T, NodeError> {
    let mut work = std::pin::pin!(work);
    let pulse = &scope.level.run.pulse;
    loop {
        let before = pulse.load(Ordering::Relaxed);
        match tokio::time::timeout(idle, &mut work).await {
            Ok(result) => return result,
            Err(_) if pulse.load(Ordering::Relaxed) != before => {}
            Err(_) => {
                let text = format!("node `{}` told nothing for {idle:?}", scope.name());
                return Err(NodeError::new("TimeoutError", text));
            }
        }
    }
}

fn panic_text(panic: &(dyn Any + std::marker::Send)) -> &str {
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

/// What leaves START: the edges, and the routes on the state with the input applied.
pub(crate) fn leave(
    level: &Arc<Level>,
    out: &crate::graph::Out,
    id: TaskId,
    step: i64,
    state: &SnapshotRef,
) -> Result<TaskWrites, NodeError> {
    let mut writes = edges(out, None);
    if out.routes.is_empty() {
        return Ok(writes);
    }
    let scope = Arc::new(TaskScope {
        event_id: level.parents.last().copied().unwrap_or_default(),
        ..TaskScope::new(level, (id, None, TaskPath::Pull(usize::MAX)), step, state)
    });
    routes(&scope, out, &StateView::State(state.clone()), &mut writes)?;
    Ok(writes)
}

fn edges(out: &crate::graph::Out, node: Option<NodeId>) -> TaskWrites {
    let mut list: Vec<TaskWrite> = Vec::with_capacity(out.to.len() + out.joins.len());
    list.extend(out.to.iter().map(|to| TaskWrite::Goto(*to)));
    if let Some(node) = node {
        list.extend(out.joins.iter().map(|join| TaskWrite::Arrive(*join, node)));
    }
    TaskWrites { list }
}

/// What leaves a node: its edges, its joins, and where its routes lead on the state with its own writes.
pub(crate) fn leave_task(
    scope: &Arc<TaskScope>,
    out: &crate::graph::Out,
    own: &TaskWrites,
    task: &Task,
) -> Result<TaskWrites, NodeError> {
    let mut writes = edges(out, Some(task.node));
    if !out.routes.is_empty() {
        let graph = &scope.level.graph;
        let channels = super::channels::Channels::borrowed(graph, &scope.base);
        let state = own.seen(graph, &channels)?;
        routes(scope, out, &StateView::State(state), &mut writes)?;
    }
    Ok(writes)
}

fn routes(
    scope: &Arc<TaskScope>,
    out: &crate::graph::Out,
    state: &StateView,
    writes: &mut TaskWrites,
) -> Result<(), NodeError> {
    let graph = &scope.level.graph;
    let cx = Context { task: scope.clone() };
    for route in &out.routes {
        let wants = |kind| scope.wants_event(kind, &route.name, &[]);
        let (starts, ends) = (wants(EventKind::ChainStart), wants(EventKind::ChainEnd));
        let id = if starts || ends { scope.level.run.clock.uuid() } else { Uuid::nil() };
        let input = (starts || ends).then(|| state.to_value());
        if starts {
            let data = EventData { input: input.clone(), ..EventData::default() };
            scope.route_event(EventKind::ChainStart, &route.name, id, data);
        }
        let decide = AssertUnwindSafe(|| route.route.call(state, &cx));
        let to = std::panic::catch_unwind(decide).unwrap_or_else(|panic| {
            let text = format!("route `{}` of node `{}` panicked: {}", route.name, scope.name(), panic_text(&*panic));
            Err(NodeError::new("Panic", text).permanent())
        })?;
        if ends {
            let data = EventData { input, output: Some(goto_value(&to)), ..EventData::default() };
            scope.route_event(EventKind::ChainEnd, &route.name, id, data);
        }
        for goto in to {
            if let (Goto::Node(name), Some(targets)) = (&goto, &route.targets) {
                let is_end = |n: &str| n == END || n == "END";
                if !targets.iter().any(|t| t == name || (is_end(t) && is_end(name))) {
                    return Err(NodeError::new(
                        "ValueError",
                        format!(
                            "route `{}` of node `{}` gave `{name}`, which is none of its targets: {}",
                            route.name,
                            scope.name(),
                            targets.join(", ")
                        ),
                    ));
                }
            }
            writes.add_goto(graph, &scope.name(), goto)?;
        }
    }
    Ok(())
}

/// Where a route leads, as its event shows it.
fn goto_value(to: &[Goto]) -> Value {
    let one = |goto: &Goto| match goto {
        Goto::Node(name) if &**name == "END" => Value::from(END),
        Goto::Node(name) => Value::from(name),
        Goto::Send(send) => send_value(send),
    };
    match to {
        [only @ Goto::Node(_)] => one(only),
        many => Value::from(many.iter().map(one).collect::<Vec<_>>()),
    }
}

fn send_value(send: &Send) -> Value {
    Value::Object([("node", Value::from(&send.node)), ("arg", send.input.clone())].into_iter().collect())
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
            ("update", command.update.as_ref().map_or(Value::Null, crate::Update::to_value)),
            ("resume", Value::Null),
            ("goto", goto),
        ]
        .into_iter()
        .collect(),
    )
}

/// What a cache keeps under: graph revision, node, input.
fn cache_key(level: &Level, node: &str, input: &StateView) -> Option<String> {
    let text = serde_json::to_vec(&input.to_value()).ok()?;
    let hash = xxhash_rust::xxh3::xxh3_128(&text);
    Some(format!("{}:{}:{node}:{hash:032x}", level.graph.name(), level.graph.revision()))
}

/// Only updates are kept in a cache: a command is a decision, not a result.
fn output_to(output: &Output) -> Option<Value> {
    match output {
        Output::Nothing => Some(Value::Null),
        Output::Update(update) => Some(Value::from(
            update
                .writes
                .iter()
                .map(|(k, v)| Value::from(vec![Value::from(k), v.clone()]))
                .collect::<Vec<_>>(),
        )),
        Output::Command(_) | Output::Many(_) => None,
    }
}

fn output_from(kept: &Value) -> Option<Output> {
    let Value::List(writes) = kept else { return Some(Output::Nothing) };
    let mut update = crate::Update::new();
    for write in writes.iter() {
        let pair = write.as_list()?;
        update = update.set(pair.get(0)?.as_str()?, pair.get(1)?.clone());
    }
    Some(Output::Update(update))
}

impl TaskScope {
    /// An event of the node itself.
    fn chain(&self, kind: EventKind, name: &Arc<str>, tags: Arc<[Arc<str>]>, data: EventData) {
        self.tell(Payload::Event(Event {
            kind,
            name: name.clone(),
            run_id: self.event_id,
            parent_ids: self.level.parents.clone(),
            tags,
            meta: self.meta(),
            model: None,
            data,
        }));
    }

    fn chain_error(&self, failure: &NodeFailure) {
        if self.level.wants_event(EventKind::ChainError, self.name(), Some(self.name()), self.node_tags()) {
            let step: Arc<str> = format!("graph:step:{}", self.step).into();
            let tags = [step].into_iter().chain(self.level.tags.iter().cloned()).chain(self.node_tags().iter().cloned());
            let data = EventData { error: Some(failure.clone()), ..EventData::default() };
            self.chain(EventKind::ChainError, self.name(), tags.collect(), data);
        }
    }

    fn route_event(&self, kind: EventKind, name: &Arc<str>, id: Uuid, data: EventData) {
        let inherited = self.level.tags.iter().chain(self.node_tags().iter()).cloned();
        let parent_ids = if self.node.is_none() { self.level.parents.clone() } else { self.child_parents() };
        self.tell(Payload::Event(Event {
            kind,
            name: name.clone(),
            run_id: id,
            parent_ids,
            // The third part of what LangGraph makes of a node: the node, its writes, its routes.
            tags: [Arc::from("seq:step:3")].into_iter().chain(inherited).collect(),
            meta: self.meta(),
            model: None,
            data,
        }));
    }

    /// Whole messages among what a node wrote, but for those already told and those it was given.
    fn tell_messages(&self, writes: &TaskWrites) {
        let inner = &self.level.graph.inner;
        for (channel, value) in writes.channels() {
            if !matches!(inner.channels[channel].reducer, Reducer::Messages) {
                continue;
            }
            let one = [value.clone()];
            let messages: Vec<&Value> = match value {
                Value::List(list) => list.iter().collect(),
                _ => one.iter().collect(),
            };
            for message in messages {
                // What a person wrote as `{role, content}` is input for the reducer, not yet a message.
                let (Some(Value::String(id)), true) = (message.get("id"), message.get("response_metadata").is_some())
                else {
                    continue;
                };
                let held = self.base.values[channel].as_ref().and_then(Value::as_list);
                let is_given = held.is_some_and(|l| l.iter().any(|m| m.get_str("id") == Some(id)));
                if is_given || !self.level.run.told.lock().insert(id.clone()) {
                    continue;
                }
                self.tell(Payload::Message(MessagePart {
                    chunk: Arc::new(Chunk::Whole(message.clone())),
                    meta: self.meta(),
                    model: None,
                    tags: Arc::default(),
                }));
            }
        }
    }
}

impl Superstep {
    /// Tells that tasks begin, where that is wanted.
    pub fn tell_starts(&self, tasks: &[Task]) {
        if !self.level.wants_any(task_modes()) {
            return;
        }
        for task in tasks {
            let scope = self.scope_of(task);
            scope.tell(Payload::TaskStart(TaskStart {
                input: task.input.to_value(),
                meta: scope.meta(),
                time: self.level.run.clock.now(),
            }));
        }
    }

    /// Tells how a task ended: its update, then its end.
    pub fn tell_end(&self, task: &Task, base: &SnapshotRef) {
        let level = &self.level;
        let graph = &level.graph;
        let node = graph.inner.nodes[task.node].name.clone();
        let part = |payload| {
            let task = crate::stream::TaskRef { id: task.id, node: node.clone(), attempt: 1 };
            level.tell(self.step, Some(task), Some(base.clone()), payload);
        };
        match &task.ended {
            Some(Ended::Done(writes)) => {
                if level.wants(Mode::Updates) {
                    let value = writes.update(graph);
                    part(Payload::Update(UpdatePart::Node { node: node.clone(), value, cached: task.cached }));
                }
            }
            Some(Ended::Asked(questions)) => {
                if level.wants(Mode::Updates) {
                    part(Payload::Update(UpdatePart::Interrupt(questions.as_slice().into())));
                }
                self.tell_values(Some(questions.clone()));
            }
            _ => {}
        }
        if task.cached || !level.wants_any(task_modes()) {
            return;
        }
        let scope = self.scope_of(task);
        let (result, error, interrupts) = match &task.ended {
            Some(Ended::Done(writes)) => (writes.result(graph), None, Vec::new()),
            Some(Ended::Asked(q)) => (Value::object(), None, q.clone()),
            Some(Ended::Failed(f)) => match f.share().failure() {
                Some(failure) => (Value::object(), Some(failure.clone()), Vec::new()),
                None => return,
            },
            None => return,
        };
        scope.tell(Payload::TaskEnd(TaskEnd {
            meta: scope.meta(),
            result,
            error,
            interrupts,
            time: level.run.clock.now(),
        }));
    }

    /// A scope by which parts of a task are told from outside it.
    fn scope_of(&self, task: &Task) -> TaskScope {
        TaskScope::new(&self.level, (task.id, Some(task.node), task.path), self.step, self.channels.snapshot())
    }
}
