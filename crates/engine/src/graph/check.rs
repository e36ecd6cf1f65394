//! Checking a graph as a whole, and turning its names into numbers.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{
    builder::GraphBuilder,
    compiled::{ChannelId, CompiledJoin, CompiledNode, Graph, Inner, MAX_NESTED, NodeId, Out, Target},
    node::NodeSpec,
};
use crate::{END, Error, START, channel::ChannelSpec, config::Breakpoints};

/// Checks a graph and numbers its names.
pub(super) fn compile(mut b: GraphBuilder) -> Result<Graph, Error> {
    add_handlers(&mut b);
    let mut problems = b.problems;
    let channel_ids: HashMap<_, _, foldhash::fast::RandomState> =
        b.channels.iter().enumerate().map(|(i, c)| (c.name.clone(), i)).collect();
    let node_ids: HashMap<_, _, foldhash::fast::RandomState> =
        b.nodes.keys().enumerate().map(|(i, n)| (n.clone(), i)).collect();

    let mut pick = |which: &str, names: Option<Vec<Arc<str>>>| -> Vec<ChannelId> {
        match names {
            None => (0..b.channels.len()).collect(),
            Some(names) => names
                .iter()
                .filter_map(|n| {
                    let id = channel_ids.get(n).copied();
                    if id.is_none() {
                        problems.push(format!(
                            "`{which}` names channel `{n}`, which is not declared{}",
                            nearest(n, channel_ids.keys())
                        ));
                    }
                    id
                })
                .collect(),
        }
    };
    let input = pick("input", b.input);
    let output = pick("output", b.output);

    let mut dangling = Vec::new();
    let mut target = |from: &str, to: &Arc<str>| -> Option<Target> {
        if &**to == END || &**to == "END" {
            return Some(Target::End);
        }
        let id = node_ids.get(to).copied().map(Target::Node);
        if id.is_none() {
            let near = nearest(to, node_ids.keys());
            dangling.push(format!("an edge from `{from}` leads to `{to}`, which is no node{near}"));
        } else if to.starts_with(HANDLER_PREFIX) {
            dangling.push(format!("an edge from `{from}` leads to `{to}`, which handles errors"));
        }
        id
    };
    let mut outs: BTreeMap<Arc<str>, Out> = BTreeMap::new();
    for (from, edges) in b.edges {
        let out = outs.entry(from.clone()).or_default();
        for to in &edges.to {
            if let Some(Target::Node(id)) = target(&from, to) {
                out.to.push(id);
            }
        }
        out.to.sort_unstable();
        for route in &edges.routes {
            for to in route.targets.iter().flatten() {
                target(&from, to);
            }
        }
        out.routes = edges.routes;
    }
    let mut joins = Vec::new();
    for join in b.joins {
        let name: Arc<str> = format!("join:{}:{}", join.from.join("+"), join.to).into();
        let Some(Target::Node(to)) = target(&join.from.join(", "), &join.to) else {
            if matches!(&*join.to, END | "END") {
                problems.push(format!("a join of {} leads to END, which needs none", join.from.join(", ")));
            }
            continue;
        };
        let mut from = Vec::new();
        for source in &join.from {
            if let Some(id) = node_ids.get(source) {
                from.push(*id);
                outs.entry(source.clone()).or_default().joins.push(joins.len());
            } else {
                outs.entry(source.clone()).or_default();
            }
        }
        joins.push(CompiledJoin { name, from, to });
    }

    problems.append(&mut dangling);
    let start = outs.remove(START).unwrap_or_default();
    if start.to.is_empty() && start.routes.is_empty() {
        problems.push("the graph cannot be entered: there is no edge from START".to_owned());
    }
    let mut nodes = Vec::new();
    let mut nested = 0;
    for (id, (name, spec)) in b.nodes.into_iter().enumerate() {
        let subgraphs = spec.node.subgraphs();
        let levels = subgraphs.iter().map(|graph| graph.nested() + 1).max().unwrap_or(0);
        if levels > MAX_NESTED {
            problems.push(format!("node `{name}`: {}", too_deep()));
        }
        nested = nested.max(levels);
        for to in spec.destinations.iter().flatten() {
            if !node_ids.contains_key(to) && ![END, "END"].contains(&&**to) {
                // A command to the parent names the parent's nodes, which are not known here.
                if !subgraphs.is_empty() {
                    continue;
                }
                problems.push(format!(
                    "node `{name}` names destination `{to}`, which is no node{}",
                    nearest(to, node_ids.keys())
                ));
            }
        }
        let mut triggers: Vec<Arc<str>> = vec![format!("branch:to:{name}").into()];
        triggers.extend(joins.iter().filter(|j| j.to == id).map(|j| j.name.clone()));
        triggers.sort();
        nodes.push(CompiledNode {
            out: outs.remove(&name).unwrap_or_default(),
            triggers: triggers.into(),
            rank: b.order.iter().position(|n| *n == name).unwrap_or(id),
            keeps_state: (0..subgraphs.len()).map(|at| spec.node.keeps_state(at)).collect(),
            handler: node_ids.get(&*format!("{HANDLER_PREFIX}{name}")).copied(),
            handles: name.strip_prefix(HANDLER_PREFIX).and_then(|handled| node_ids.get(handled).copied()),
            name,
            spec,
        });
    }
    for from in outs.keys() {
        problems.push(format!("an edge leaves `{from}`, which is no node{}", nearest(from, node_ids.keys())));
    }
    for (what, points) in [("interrupt_before", &b.interrupt_before), ("interrupt_after", &b.interrupt_after)] {
        if let Breakpoints::Nodes(names) = points {
            for n in names.iter().filter(|n| !node_ids.contains_key(*n)) {
                problems.push(format!("`{what}` names `{n}`, which is no node{}", nearest(n, node_ids.keys())));
            }
        }
    }
    if !problems.is_empty() {
        return Err(Error::GraphInvalid { graph: b.name, problems });
    }
    let warnings = unreached(&start, &nodes, &joins, &node_ids);
    let mut is_output = vec![false; b.channels.len()];
    output.iter().for_each(|c| is_output[*c] = true);
    let revision = b.revision.unwrap_or_else(|| shape(&b.channels, &nodes, &joins));
    Ok(Graph {
        inner: Arc::new(Inner {
            name: b.name.into(),
            description: b.description,
            names: b.channels.iter().map(|c| c.name.clone()).collect(),
            output_names: output.iter().map(|c| b.channels[*c].name.clone()).collect(),
            ephemeral: (0..b.channels.len())
                .filter(|c| matches!(b.channels[*c].reducer, crate::channel::Reducer::Ephemeral))
                .collect(),
            channels: b.channels,
            channel_ids,
            input,
            output,
            is_output,
            nodes,
            node_ids,
            start,
            start_name: START.into(),
            joins,
            interrupt_before: b.interrupt_before,
            interrupt_after: b.interrupt_after,
            context_schema: b.context_schema,
            revision,
            warnings,
            nested,
        }),
        runtime: Arc::default(),
    })
}

/// What the name of an error handler begins with; the name of the node follows whose errors it handles.
const HANDLER_PREFIX: &str = "__error_handler__";

/// Adds the error handlers of nodes as nodes.
fn add_handlers(b: &mut GraphBuilder) {
    let mut handlers = Vec::new();
    for name in b.nodes.keys().filter(|name| name.starts_with(HANDLER_PREFIX)) {
        b.problems.push(format!("node `{name}`: names with `{HANDLER_PREFIX}` are reserved for error handlers"));
    }
    for (name, spec) in &mut b.nodes {
        let Some(handler) = spec.error_handler.take() else { continue };
        let refused = [
            (handler.error_handler.is_some(), "an error handler"),
            (handler.cache.is_some(), "a cache"),
            (handler.defer, "`defer`"),
        ];
        for (_, what) in refused.iter().filter(|(is_set, _)| *is_set) {
            b.problems.push(format!("node `{name}`: its error handler cannot have {what}"));
        }
        handlers.push((name.clone(), Arc::<str>::from(format!("{HANDLER_PREFIX}{name}")), *handler));
    }
    for (name, handler, spec) in handlers {
        let at = b.order.iter().position(|n| *n == name).unwrap_or(b.order.len());
        b.order.insert(at, handler.clone());
        b.nodes.insert(handler, spec);
    }
}

/// What is wrong with graphs that nest too deep.
pub(crate) fn too_deep() -> String {
    format!("graphs run inside each other deeper than {MAX_NESTED}")
}

/// A hash of channels, nodes and edges: what a checkpoint depends on.
fn shape(channels: &[ChannelSpec], nodes: &[CompiledNode], joins: &[CompiledJoin]) -> Arc<str> {
    let mut h = xxhash_rust::xxh3::Xxh3::new();
    let mut put = |text: &str| {
        h.update(text.as_bytes());
        h.update(&[0]);
    };
    for c in channels {
        put(&c.name);
        put(c.reducer.name());
        put(&c.default.as_ref().map(ToString::to_string).unwrap_or_default());
        put(&c.schema.as_ref().map(ToString::to_string).unwrap_or_default());
    }
    for n in nodes {
        put(&n.name);
        n.out.to.iter().for_each(|t| put(&t.to_string()));
        n.out.routes.iter().for_each(|r| put(&r.name));
    }
    joins.iter().for_each(|j| put(&j.name));
    format!("{:032x}", h.digest128()).into()
}

/// Nodes that no edge, route or command seems to lead to.
fn unreached(
    start: &Out,
    nodes: &[CompiledNode],
    joins: &[CompiledJoin],
    ids: &HashMap<Arc<str>, NodeId, foldhash::fast::RandomState>,
) -> Vec<String> {
    let mut seen = vec![false; nodes.len()];
    let mut open: Vec<NodeId> = Vec::new();
    let leads = |out: &Out, spec: Option<&NodeSpec>| -> Option<Vec<NodeId>> {
        let mut to = out.to.clone();
        to.extend(out.joins.iter().map(|j| joins[*j].to));
        for route in &out.routes {
            // A route without targets may lead anywhere.
            to.extend(route.targets.as_ref()?.iter().filter_map(|t| ids.get(t).copied()));
        }
        if let Some(spec) = spec {
            to.extend(spec.destinations.iter().flatten().filter_map(|t| ids.get(t).copied()));
        }
        Some(to)
    };
    let Some(first) = leads(start, None) else { return Vec::new() };
    open.extend(first);
    while let Some(id) = open.pop() {
        if std::mem::replace(&mut seen[id], true) {
            continue;
        }
        let Some(next) = leads(&nodes[id].out, Some(&nodes[id].spec)) else { return Vec::new() };
        open.extend(next);
        open.extend(nodes[id].handler);
    }
    (0..nodes.len())
        .filter(|id| !seen[*id])
        .map(|id| format!("nothing seems to lead to node `{}`", nodes[id].name))
        .collect()
}

/// `; did you mean …?`, if a known name is near.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a Arc<str>>) -> String {
    runloom_suggest::did_you_mean(name, known.map(|known| &**known))
}
