//! The tree of graphs that a run has gone through, with the state of each.

use runloom_core::events::{Event, EventBody};
use runloom_engine::{Object, RunId, ThreadId, Value};

use super::commands::{Answer, Refused, run_of};
use crate::face::{Api, Fields};

struct Node {
    namespace: Vec<Value>,
    status: String,
    graph: String,
}

/// `agent.getTree`: of the run `run_id`, or of the thread's latest.
pub(super) async fn get(api: &Api, thread: ThreadId, params: &Fields<'_>) -> Answer {
    let id = params.uuid("run_id", "run ID")?.map(RunId);
    let run = run_of(api, thread, id).await?;
    let mut nodes: Vec<Node> = Vec::new();
    // A run under way is shown as far as it is stored.
    api.core.stored_events(&run, |event| note(&mut nodes, &event)).await?;
    if nodes.is_empty() {
        return Err(Refused::no_run());
    }
    Ok(object! { "tree" => shown(&nodes, &[]) })
}

fn note(nodes: &mut Vec<Node>, event: &Event) {
    let (change, graph) = match &event.body {
        EventBody::Graph { change, graph, .. } => (change, graph),
        EventBody::Subgraph { change, of, .. } => (change, &of.node),
        _ => return,
    };
    let namespace: Vec<Value> = event.namespace.split('|').filter(|s| !s.is_empty()).map(Value::from).collect();
    let status = change.name().to_owned();
    match nodes.iter_mut().find(|node| node.namespace == namespace) {
        Some(node) => node.status = status,
        None => nodes.push(Node { namespace, status, graph: graph.to_string() }),
    }
}

fn shown(nodes: &[Node], at: &[Value]) -> Object {
    let node = nodes.iter().find(|node| node.namespace == at);
    let children: Vec<Value> = nodes
        .iter()
        .filter(|child| child.namespace.len() == at.len() + 1 && child.namespace.starts_with(at))
        .map(|child| Value::Object(shown(nodes, &child.namespace)))
        .collect();
    let mut out = object! {
        "namespace" => at.to_vec(),
        "status" => node.map_or("running", |n| n.status.as_str()),
        "graph_name" => node.map_or("", |n| n.graph.as_str()),
    };
    if !children.is_empty() {
        out.insert("children", children);
    }
    out
}
