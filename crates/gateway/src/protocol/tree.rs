//! The tree of graphs that a run has gone through, with the state of each.

use futures_util::StreamExt;
use runloom_core::{Body, ReadOptions, RunSpec};
use runloom_engine::{Object, RunId, ThreadId, Value};

use super::{
    commands::{Answer, Refused, run_of},
    event::Channel,
    translate::Translator,
};
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
    let mut translator = Translator::new(&RunSpec::of(&run));
    let mut nodes: Vec<Node> = Vec::new();
    let mut reader = api.core.read_run(run.id, ReadOptions::default()).await?;
    // A run under way is shown as far as it is stored.
    while run.last_seq > 0
        && let Some(record) = reader.next().await
    {
        let record = record?;
        for event in translator.events(&record).into_iter().filter(|e| e.channel == Channel::Lifecycle) {
            note(&mut nodes, event.namespace.iter().map(Value::from).collect(), &event.data());
        }
        if record.seq >= run.last_seq || matches!(record.body, Body::End(_)) {
            break;
        }
    }
    if nodes.is_empty() {
        return Err(Refused::no_run());
    }
    Ok(object! { "tree" => shown(&nodes, &[]) })
}

fn note(nodes: &mut Vec<Node>, namespace: Vec<Value>, data: &Value) {
    let status = data.get_str("event").unwrap_or_default().to_owned();
    match nodes.iter_mut().find(|node| node.namespace == namespace) {
        Some(node) => node.status = status,
        None => {
            let graph = data.get_str("graph_name").unwrap_or_default().to_owned();
            nodes.push(Node { namespace, status, graph });
        }
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
