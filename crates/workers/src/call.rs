//! A call of a handler by a node: it waits for a worker, hands on what the worker sends, asks, and ends.

use std::{sync::Arc, time::Duration};

use runloom_engine::{Context, NodeError, NodeFailure, Object, Value, stream::SnapshotRef};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

use crate::{
    Workers,
    emit::apply,
    state::{CallKey, Control, Entry, Phase, Signal},
    turn::Turn,
    types::{Assignment, CancelReason, HandlerKind, Input, Lane, Outcome, TaskPlace, Token},
};

/// How much of what a worker sends of a task may wait for its node.
const SIGNALS: usize = 64;

/// A call of a handler.
#[derive(Clone, Debug)]
pub struct Call {
    /// The queue.
    pub queue: Arc<str>,
    /// The handler.
    pub lane: Lane,
    /// Its input.
    pub input: Input,
    /// The state that it reads.
    pub state: Option<SnapshotRef>,
    /// The longest that it may wait for a worker; without one, as long as the run.
    pub schedule_to_start: Option<Duration>,
    /// The longest that a worker may take, from when it has the task.
    pub timeout: Option<Duration>,
    /// The longest that it may be silent about the task, from then on.
    pub idle_timeout: Option<Duration>,
    /// When it may ask, where it is one of several calls of a step.
    pub turn: Option<Turn>,
}

impl Call {
    /// A call of a node without limits; its handler has no name yet.
    pub(crate) fn new(queue: Arc<str>, input: Input, state: Option<SnapshotRef>) -> Self {
        Self {
            queue,
            lane: (HandlerKind::Node, Arc::default()),
            input,
            state,
            schedule_to_start: None,
            timeout: None,
            idle_timeout: None,
            turn: None,
        }
    }
}

impl Workers {
    /// Calls a handler of a worker for a node: as often as it asks and has an answer. A worker that is lost is
    /// [`NodeError::ExecutorLost`]: the engine runs the node again.
    pub async fn call(&self, cx: &Context, call: &Call) -> Result<Outcome, NodeError> {
        let mut turn = call.turn.clone();
        let mut first = cx.questions();
        // Which answers are those of one call among several is known when it is its turn to ask.
        let mut answers = if turn.is_some() { Vec::new() } else { cx.answers()? };
        loop {
            let (outcome, settle) = self.once(cx, call, answers.clone()).await?;
            let questions = match outcome {
                Outcome::Failed(failure) => {
                    // Nothing of it is stored that a worker could send again.
                    settle.stored();
                    if !failure.details.is_empty() {
                        tracing::warn!(node = %cx.node(), task = %cx.task_id(), "{}: {}", failure.message, failure.details);
                    }
                    return Err(NodeError::Failed(failure.into_node()));
                }
                Outcome::Questions(questions) => questions,
                outcome => {
                    cx.when_stored(settle.hook());
                    return Ok(outcome);
                }
            };
            if let Some(mut turn) = turn.take() {
                if !turn.wait().await {
                    settle.stored();
                    return Err(NodeError::Interrupted(Vec::new()));
                }
                first = cx.questions();
            }
            let known = answers.len();
            for question in questions.into_iter().filter(|question| question.index >= known) {
                match cx.interrupt_at_with(first + question.index, question.value, question.response_schema) {
                    Ok(answer) => answers.push(answer),
                    Err(error) => {
                        cx.when_stored(settle.hook());
                        return Err(error);
                    }
                }
            }
            settle.stored();
            if answers.len() == known {
                let (kind, name) = (call.lane.0.name(), &call.lane.1);
                let message = format!(
                    "{kind} handler `{name}` asked again what is answered: the questions of a task are numbered from 0, and it \
                     was sent {known} answers"
                );
                return Err(NodeError::new("WorkerProtocolError", message).permanent());
            }
        }
    }

    /// One try: a worker executes the task.
    async fn once(&self, cx: &Context, call: &Call, answers: Vec<Value>) -> Result<(Outcome, Settle), NodeError> {
        let now = Instant::now();
        let (signals, mut received) = mpsc::channel(SIGNALS);
        let (control, mut controlled) = mpsc::unbounded_channel();
        let key = CallKey {
            run: cx.run_id(),
            task: cx.task_id(),
            attempt: cx.run_attempt(),
            lane: call.lane.clone(),
            call: match &call.input {
                Input::Tool { id, .. } => Some(id.clone()),
                _ => None,
            },
        };
        let entry = Entry {
            key: key.clone(),
            queue: call.queue.clone(),
            assignment: assignment(cx, call, answers),
            signals,
            control,
            phase: Phase::Waiting((0, 0)),
            beat: std::time::SystemTime::now(),
            created: now,
        };
        let mut pending = Pending { workers: self, cx, key, is_over: false, is_late: false, deadline: None, beat: now };
        self.state.lock().enqueue(entry);
        let start_by = call.schedule_to_start.map(|limit| now + limit);
        let mut has_started = false;
        loop {
            let idle = call.idle_timeout.filter(|_| has_started).map(|limit| pending.beat + limit);
            let until = if has_started { [pending.deadline, idle].into_iter().flatten().min() } else { start_by };
            let next = async {
                tokio::select! {
                    biased;
                    signal = received.recv() => Next::Signal(signal),
                    control = controlled.recv() => Next::Control(control),
                }
            };
            let next = match until {
                Some(until) => timeout_at(until, next).await.unwrap_or(Next::Late),
                None => next.await,
            };
            match next {
                Next::Signal(Some(Signal::Part(part))) => {
                    pending.beat = Instant::now();
                    apply(cx, part);
                    cx.breathe().await;
                }
                Next::Signal(Some(Signal::Beat)) => {
                    pending.beat = Instant::now();
                    cx.heartbeat();
                }
                Next::Signal(Some(Signal::Done(outcome))) => {
                    pending.is_over = true;
                    cx.heartbeat();
                    let token = self.state.lock().token_of(&pending.key);
                    return Ok((outcome, Settle { workers: self.clone(), token }));
                }
                Next::Control(Some(Control::Started)) => {
                    has_started = true;
                    pending.beat = Instant::now();
                    pending.deadline = call.timeout.map(|limit| Instant::now() + limit);
                    cx.heartbeat();
                }
                Next::Control(Some(Control::Lost(text))) => return Err(NodeError::ExecutorLost(text)),
                Next::Late => {
                    pending.is_late = true;
                    return Err(late(cx, call, has_started.then_some(pending.deadline)));
                }
                // The server's side is dropped with the call only.
                Next::Signal(None) | Next::Control(None) => {
                    return Err(NodeError::ExecutorLost("the task was lost in the server".to_owned()));
                }
            }
        }
    }
}

enum Next {
    Signal(Option<Signal>),
    Control(Option<Control>),
    Late,
}

/// The failure of a call that takes too long: to start, or, where it has started, by its deadline or its silence.
fn late(cx: &Context, call: &Call, started: Option<Option<Instant>>) -> NodeError {
    let (kind, name, node) = (call.lane.0.name(), &call.lane.1, cx.node());
    let is_past = |at: Option<Instant>| at.is_some_and(|at| at <= Instant::now());
    let (limit, text) = match started {
        None => {
            let limit = call.schedule_to_start.unwrap_or_default();
            let text = format!(
                "no worker of queue `{}` took {kind} `{name}` within {limit:?}; `runloom workers` shows the queue",
                call.queue
            );
            (limit, text)
        }
        Some(deadline) if is_past(deadline) => {
            let limit = call.timeout.unwrap_or_default();
            (limit, format!("node `{node}` took longer than {limit:?} in its worker"))
        }
        Some(_) => {
            let limit = call.idle_timeout.unwrap_or_default();
            (limit, format!("node `{node}` sent nothing for {limit:?} from its worker"))
        }
    };
    NodeError::Failed(NodeFailure { timeout: Some(limit), ..NodeFailure::new("NodeTimeoutError", text) })
}

/// A try under way. Dropped before its end, it is cancelled.
struct Pending<'a> {
    workers: &'a Workers,
    cx: &'a Context,
    key: CallKey,
    is_over: bool,
    is_late: bool,
    deadline: Option<Instant>,
    beat: Instant,
}

impl Pending<'_> {
    /// Why the node no longer waits, as far as it can be known here.
    fn reason(&self) -> CancelReason {
        let now = Instant::now();
        let is_past = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let is_silent = self.cx.idle_timeout().is_some_and(|limit| self.beat.elapsed() >= limit);
        if self.cx.is_cancelled() {
            CancelReason::RunCancelled
        } else if self.is_late || is_past(self.cx.deadline().map(Instant::from_std)) || is_silent {
            CancelReason::TimedOut
        } else {
            CancelReason::StepFailed
        }
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let reason = self.reason();
        let mut state = self.workers.state.lock();
        if let Some(token) = state.token_of(&self.key) {
            state.abandon(token, reason);
        }
    }
}

/// Answers the worker whose outcome has arrived: once it is stored, or will not be.
struct Settle {
    workers: Workers,
    token: Option<Token>,
}

impl Settle {
    fn stored(mut self) {
        self.end(Ok(()));
    }

    fn hook(mut self) -> impl FnOnce(bool) + Send + 'static {
        move |is_stored| match is_stored {
            true => self.end(Ok(())),
            false => self.end(Err("the outcome could not be stored".to_owned())),
        }
    }

    fn end(&mut self, how: Result<(), String>) {
        if let Some(token) = self.token.take() {
            self.workers.state.lock().settle(token, how);
        }
    }
}

impl Drop for Settle {
    fn drop(&mut self) {
        self.end(Err("the run stopped, or the node was tried again, before the outcome was stored".to_owned()));
    }
}

fn assignment(cx: &Context, call: &Call, answers: Vec<Value>) -> Assignment {
    let meta = cx.task_meta();
    let mut metadata = meta.metadata.clone();
    metadata.insert("langgraph_step", cx.step());
    metadata.insert("langgraph_node", cx.node());
    metadata.insert("langgraph_triggers", meta.triggers.iter().map(Value::from).collect::<Vec<_>>());
    metadata.insert("langgraph_path", meta.path.clone());
    metadata.insert("langgraph_checkpoint_ns", &meta.checkpoint_ns);
    let configurable: Object = cx
        .configurable()
        .iter()
        .filter(|(key, _)| !key.starts_with("__"))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let mut config = Object::default();
    config.insert("configurable", configurable);
    config.insert("tags", meta.tags.iter().map(Value::from).collect::<Vec<_>>());
    config.insert("metadata", metadata);
    config.insert("recursion_limit", u64::from(cx.recursion_limit()));
    let limits = [call.timeout.map(|limit| Instant::now() + limit), cx.deadline().map(Instant::from_std)];
    Assignment {
        token: Token::random(),
        lane: call.lane.clone(),
        place: Arc::new(TaskPlace {
            task: cx.task_id(),
            run: cx.run_id(),
            thread: cx.thread_id(),
            graph: cx.graph_name().clone(),
            node: cx.node().clone(),
            namespace: cx.namespace().clone(),
            step: cx.step(),
            attempt: cx.run_attempt(),
            tries: cx.tries(),
        }),
        state: call.state.clone(),
        input: call.input.clone(),
        config: Value::Object(config),
        context: cx.context().clone(),
        error: cx.error().cloned(),
        answers,
        details: None,
        deadline: limits.into_iter().flatten().min(),
        trace: cx.trace_context(),
        modes: cx.modes(),
        remaining_steps: cx.remaining_steps(),
    }
}
