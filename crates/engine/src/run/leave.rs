//! What leaves a node: its edges, its joins, and where its routes lead.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt;
use uuid::Uuid;

use super::{
    context::Context,
    scope::{Level, StepTag},
    task::{Task, panic_text},
    taskscope::{TaskPath, TaskScope},
    writes::{TaskWrite, TaskWrites},
};
use crate::{
    END, Goto, NodeError, TaskId, Value,
    command::Send,
    graph::{NodeId, Out, StateView},
    stream::{EventData, EventKind, SnapshotRef},
};

/// What leaves START: the edges, and the routes on the state with the input applied.
pub(crate) async fn leave(
    level: &Arc<Level>,
    out: &Out,
    id: TaskId,
    step: i64,
    state: &SnapshotRef,
) -> Result<TaskWrites, NodeError> {
    let mut writes = edges(out, None);
    if out.routes.is_empty() {
        return Ok(writes);
    }
    let scope = Arc::new(TaskScope::new(level, (id, None, TaskPath::START), step, state));
    routes(&scope, out, &StateView::State(state.clone()), &mut writes).await?;
    Ok(writes)
}

fn edges(out: &Out, node: Option<NodeId>) -> TaskWrites {
    let mut list: Vec<TaskWrite> = Vec::with_capacity(out.to.len() + out.joins.len());
    list.extend(out.to.iter().map(|to| TaskWrite::Goto(*to)));
    if let Some(node) = node {
        list.extend(out.joins.iter().map(|join| TaskWrite::Arrive(*join, node)));
    }
    TaskWrites { list, cached: false }
}

/// What leaves a node: its edges, its joins, and where its routes lead on the state with its own writes.
pub(crate) async fn leave_task(
    scope: &Arc<TaskScope>,
    out: &Out,
    own: &TaskWrites,
    task: &Task,
) -> Result<TaskWrites, NodeError> {
    let mut writes = edges(out, Some(task.node));
    if !out.routes.is_empty() {
        let graph = &scope.level.graph;
        let channels = super::channels::Channels::borrowed(graph, &scope.base);
        let by_node = |_: &str| vec![scope.name().to_string()];
        let state = own.seen(graph, &channels).map_err(|error| error.by(by_node))?;
        routes(scope, out, &StateView::State(state), &mut writes).await?;
    }
    Ok(writes)
}

async fn routes(
    scope: &Arc<TaskScope>,
    out: &Out,
    state: &StateView,
    writes: &mut TaskWrites,
) -> Result<(), NodeError> {
    let graph = &scope.level.graph;
    let cx = Context { task: scope.clone() };
    for (at, route) in out.routes.iter().enumerate() {
        // What leads in from START is nobody's.
        let step = StepTag::Part(3 + at);
        let wants = |kind| scope.node.is_some() && scope.wants_event(kind, &route.name, step, &[]);
        let (starts, ends) = (wants(EventKind::ChainStart), wants(EventKind::ChainEnd));
        let id = if starts || ends { scope.level.run.clock.uuid() } else { Uuid::nil() };
        let input = (starts || ends).then(|| state.to_value());
        if starts {
            let data = EventData { input: input.clone(), ..EventData::default() };
            scope.route_event(EventKind::ChainStart, (step, &route.name), id, data);
        }
        let panicked = |panic: Box<dyn std::any::Any + std::marker::Send>| {
            let text = format!("route `{}` of node `{}` panicked: {}", route.name, scope.name(), panic_text(&*panic));
            Err(NodeError::new("Panic", text).permanent())
        };
        let to = match route.route.decide(state, &cx) {
            Some(deciding) => AssertUnwindSafe(deciding).catch_unwind().await.unwrap_or_else(panicked)?,
            None => {
                let decide = AssertUnwindSafe(|| route.route.call(state, &cx));
                std::panic::catch_unwind(decide).unwrap_or_else(panicked)?
            }
        };
        if ends {
            let data = EventData { input, output: Some(goto_value(&to)), ..EventData::default() };
            scope.route_event(EventKind::ChainEnd, (step, &route.name), id, data);
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
            writes.add_goto(graph, scope.name(), goto)?;
        }
    }
    Ok(())
}

/// Where a route leads, as its event shows it.
pub(super) fn goto_value(to: &[Goto]) -> Value {
    match to {
        [only @ Goto::Node(_)] => goto_one(only),
        many => Value::from(many.iter().map(goto_one).collect::<Vec<_>>()),
    }
}

/// One place that is led to.
pub(super) fn goto_one(goto: &Goto) -> Value {
    match goto {
        Goto::Node(name) if &**name == "END" => Value::from(END),
        Goto::Node(name) => Value::from(name),
        Goto::Send(send) => send_value(send),
    }
}

fn send_value(send: &Send) -> Value {
    Value::Object([("node", Value::from(&send.node)), ("arg", send.input.clone())].into_iter().collect())
}

/// One place to go, from what [`goto_value`] made of it alone.
pub(super) fn goto_from(shown: &Value) -> Option<Goto> {
    match shown {
        Value::String(name) => Some(Goto::Node(name.clone())),
        // A Send alone is a list of one.
        Value::List(one) => goto_from(one.get(0)?),
        Value::Object(send) => {
            Some(Goto::Send(Send { node: send.get("node")?.as_str()?.into(), input: send.get("arg")?.clone() }))
        }
        _ => None,
    }
}
