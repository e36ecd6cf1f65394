//! A node of a graph that runs in a worker.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use runloom_engine::{Command, Context, Goto, Node, NodeError, Output, Route, StateView, Update, Value};

use crate::{
    Workers,
    call::Call,
    turn::Turn,
    types::{HandlerKind, Input, Outcome, ToolOutcome},
};

/// A node whose work is done by a handler of a worker.
#[derive(Clone, Debug)]
pub struct WorkerNode {
    /// The workers of the server.
    pub workers: Workers,
    /// The queue.
    pub queue: Arc<str>,
    /// The handler.
    pub handler: Arc<str>,
    /// The longest that it may wait for a worker.
    pub schedule_to_start: Option<Duration>,
    /// The longest that a worker may take.
    pub timeout: Option<Duration>,
    /// The longest that it may be silent about the task.
    pub idle_timeout: Option<Duration>,
}

impl WorkerNode {
    /// Runs the node.
    pub async fn run(&self, state: StateView, cx: &Context) -> Result<Output, NodeError> {
        let (state, input) = match state {
            StateView::State(snapshot) => (Some(snapshot), Input::State),
            StateView::Input(value) => (None, Input::Send(value)),
        };
        let call = Call {
            lane: (HandlerKind::Node, self.handler.clone()),
            schedule_to_start: self.schedule_to_start,
            timeout: self.timeout,
            idle_timeout: self.idle_timeout,
            ..Call::new(self.queue.clone(), input, state)
        };
        match self.workers.call(cx, &call).await? {
            Outcome::Node { updates, goto, to_parent } => Ok(output(updates, goto, to_parent)),
            other => Err(unfit(&call, "an `update`", &other)),
        }
    }
}

impl Node for WorkerNode {
    fn call(&self, state: StateView, cx: Context) -> BoxFuture<'static, Result<Output, NodeError>> {
        let node = self.clone();
        Box::pin(async move { node.run(state, &cx).await })
    }
}

/// What writes and next nodes are as a node's output.
pub fn output(mut updates: Vec<Update>, goto: Vec<Goto>, to_parent: bool) -> Output {
    if goto.is_empty() && !to_parent {
        return match updates.len() {
            0 => Output::Nothing,
            1 => updates.pop().map_or(Output::Nothing, Output::Update),
            _ => Output::Many(updates.into_iter().map(Output::Update).collect()),
        };
    }
    let mut writes = updates.into_iter().flat_map(|update| update.writes).peekable();
    let update = writes.peek().is_some().then(|| Update { writes: writes.collect(), fault: None });
    Output::Command(Command { update, goto, resume: None, parent: to_parent })
}

/// A handler that gave what one of its kind does not give.
pub(crate) fn unfit(call: &Call, wanted: &str, outcome: &Outcome) -> NodeError {
    let (kind, name) = (call.lane.0.name(), &call.lane.1);
    let message =
        format!("{kind} handler `{name}` of queue `{}` ended with `{}`: expected {wanted}", call.queue, outcome.name());
    NodeError::new("WorkerProtocolError", message).permanent()
}

/// A tool whose work is done by a handler of a worker.
#[derive(Clone, Debug)]
pub struct WorkerTool {
    /// The workers of the server.
    pub workers: Workers,
    /// The queue.
    pub queue: Arc<str>,
    /// The handler.
    pub handler: Arc<str>,
    /// The name of the tool.
    pub name: Arc<str>,
    /// The longest that it may wait for a worker.
    pub schedule_to_start: Option<Duration>,
}

impl WorkerTool {
    /// Calls the tool for a call of a model.
    pub async fn run(
        &self,
        cx: &Context,
        state: &StateView,
        (id, args): (&str, Value),
        turn: Turn,
    ) -> Result<ToolOutcome, NodeError> {
        let state = match state {
            StateView::State(snapshot) => Some(snapshot.clone()),
            StateView::Input(_) => None,
        };
        let input = Input::Tool { id: id.to_owned(), name: self.name.clone(), args };
        let call = Call {
            lane: (HandlerKind::Tool, self.handler.clone()),
            schedule_to_start: self.schedule_to_start,
            turn: Some(turn),
            ..Call::new(self.queue.clone(), input, state)
        };
        match self.workers.call(cx, &call).await? {
            Outcome::Tool(result) => Ok(result),
            other => Err(unfit(&call, "a `tool_result`", &other)),
        }
    }
}

/// A route that a handler of a worker decides.
#[derive(Clone, Debug)]
pub struct WorkerRoute {
    /// The workers of the server.
    pub workers: Workers,
    /// The queue.
    pub queue: Arc<str>,
    /// The handler.
    pub handler: Arc<str>,
    /// The longest that it may wait for a worker.
    pub schedule_to_start: Option<Duration>,
}

/// How often a route is decided again because its worker was lost.
const MAX_LOST: u32 = 8;

impl Route for WorkerRoute {
    fn call(&self, _: &StateView, _: &Context) -> Result<Vec<Goto>, NodeError> {
        Err(NodeError::msg("a route in a worker has to be awaited"))
    }

    fn decide(&self, state: &StateView, cx: &Context) -> Option<BoxFuture<'static, Result<Vec<Goto>, NodeError>>> {
        let (workers, cx) = (self.workers.clone(), cx.clone());
        let (snapshot, input) = match state {
            StateView::State(snapshot) => (Some(snapshot.clone()), Input::State),
            StateView::Input(value) => (None, Input::Send(value.clone())),
        };
        let call = Call {
            lane: (HandlerKind::Route, self.handler.clone()),
            schedule_to_start: self.schedule_to_start,
            ..Call::new(self.queue.clone(), input, snapshot)
        };
        Some(Box::pin(async move {
            let mut lost = 0;
            loop {
                // The node has run: only its route is decided again.
                match workers.call(&cx, &call).await {
                    Ok(Outcome::Route(to)) => return Ok(to),
                    Ok(other) => return Err(unfit(&call, "a `route`", &other)),
                    Err(NodeError::ExecutorLost(_)) if lost < MAX_LOST => lost += 1,
                    Err(NodeError::Interrupted(_)) => {
                        let message = format!("route handler `{}`: a route cannot ask questions", call.lane.1);
                        return Err(NodeError::new("WorkerProtocolError", message).permanent());
                    }
                    Err(error) => return Err(error),
                }
            }
        }))
    }
}
