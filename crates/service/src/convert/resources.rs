//! Threads, runs, assistants and graphs, as they are kept and as they are answered.

use runloom::{
    json::NotExact,
    v1::{self, JsonEncoding},
};
use runloom_core::{Error, GraphInfo, GraphSource, Recording, RunOptions, Schemas};
use runloom_engine::{
    Object, Value,
    graph::{Drawing, DrawnNode},
    model::Usage,
    stream::Interrupt,
};
use runloom_store::{Assistant, Multitask, Run, TenantId, Thread, ThreadStatus};

use super::{interrupt, message, run_state, stream_modes, timestamp};
use crate::{
    json::{encode, encode_object},
    status::run_status,
};

/// The tenant of an object as the API shows it: empty for the default one.
pub(crate) fn owner(tenant: &TenantId) -> String {
    if tenant.is_default() { String::new() } else { tenant.to_string() }
}

/// A run.
pub(crate) fn run(run: &Run, encoding: JsonEncoding) -> Result<v1::Run, NotExact> {
    let durability = match RunOptions::stored(run, "durability").and_then(Value::as_str) {
        Some("sync") => v1::Durability::Sync,
        Some("exit") => v1::Durability::Exit,
        _ => v1::Durability::Async,
    };
    let multitask = match run.multitask {
        Multitask::Enqueue => v1::MultitaskStrategy::Enqueue,
        Multitask::Reject => v1::MultitaskStrategy::Reject,
        Multitask::Interrupt => v1::MultitaskStrategy::Interrupt,
        Multitask::Rollback => v1::MultitaskStrategy::Rollback,
    };
    let metadata = RunOptions::stored(run, "metadata").and_then(Value::as_object).cloned().unwrap_or_default();
    let usage: Option<Usage> = run.usage.as_ref().and_then(|usage| runloom_engine::from_value(usage).ok());
    Ok(v1::Run {
        run_id: run.id.to_string(),
        thread_id: run.thread.to_string(),
        assistant_id: run.assistant.map(|id| id.to_string()).unwrap_or_default(),
        graph_name: run.graph.clone(),
        graph_revision: if run.started_at.is_some() { run.revision.clone() } else { String::new() },
        state: run_state(run.status).into(),
        attempt: run.attempt,
        metadata: Some(encode_object(&metadata, encoding)?),
        owner: owner(&run.tenant),
        create_time: Some(timestamp(run.created_at)),
        update_time: Some(timestamp(run.updated_at)),
        start_time: run.start_at.map(timestamp),
        begin_time: run.started_at.map(timestamp),
        end_time: run.ended_at.map(timestamp),
        stream_modes: stream_modes(Recording::modes_of(run)),
        multitask_strategy: multitask.into(),
        durability: durability.into(),
        error: run.error.as_ref().map(|error| run_status(&Error::from_value(error))),
        usage: usage.map(message::usage),
        request_id: run.request_key.as_ref().map(|key| key.id.clone()).unwrap_or_default(),
        omitted: None,
    })
}

/// A thread; its state where it was asked for.
pub(crate) fn thread(thread: &Thread, values: Option<&Object>, encoding: JsonEncoding) -> Result<v1::Thread, NotExact> {
    let error = thread.error.as_ref().filter(|_| thread.status == ThreadStatus::Error);
    Ok(v1::Thread {
        thread_id: thread.id.to_string(),
        owner: owner(&thread.tenant),
        status: thread_status(thread.status).into(),
        metadata: Some(encode_object(&thread.metadata, encoding)?),
        create_time: Some(timestamp(thread.created_at)),
        update_time: Some(timestamp(thread.updated_at)),
        state_update_time: thread.state_updated_at.map(timestamp),
        graph_name: thread.graph.clone().unwrap_or_default(),
        values: values.map(|values| encode_object(values, encoding)).transpose()?,
        interrupts: thread.interrupts.as_ref().map(|all| questions(all, encoding)).transpose()?.unwrap_or_default(),
        error: error.map(|error| run_status(&Error::from_value(error))),
        omitted: None,
    })
}

fn thread_status(status: ThreadStatus) -> v1::ThreadStatus {
    match status {
        ThreadStatus::Idle => v1::ThreadStatus::Idle,
        ThreadStatus::Busy => v1::ThreadStatus::Busy,
        ThreadStatus::Interrupted => v1::ThreadStatus::Interrupted,
        ThreadStatus::Error => v1::ThreadStatus::Error,
    }
}

/// The status inside; none for UNSPECIFIED, which is any.
pub(crate) fn thread_status_inside(status: v1::ThreadStatus) -> Option<ThreadStatus> {
    Some(match status {
        v1::ThreadStatus::Unspecified => return None,
        v1::ThreadStatus::Idle => ThreadStatus::Idle,
        v1::ThreadStatus::Busy => ThreadStatus::Busy,
        v1::ThreadStatus::Interrupted => ThreadStatus::Interrupted,
        v1::ThreadStatus::Error => ThreadStatus::Error,
    })
}

/// The open questions of a thread, as they are kept with it: `{task_id: [{value, id}]}`.
fn questions(all: &Value, encoding: JsonEncoding) -> Result<Vec<v1::Interrupt>, NotExact> {
    let by_task = all.as_object().into_iter().flat_map(|tasks| tasks.iter());
    let each = by_task.flat_map(|(task, list)| {
        let list = list.as_list().into_iter().flat_map(|list| list.iter());
        list.map(move |question| (task, question))
    });
    each.map(|(task, question)| {
        let asked = Interrupt {
            id: question.get_str("id").unwrap_or_default().into(),
            value: question.get("value").cloned().unwrap_or_default(),
            response_schema: question.get("response_schema").cloned(),
            asked_in: None,
        };
        Ok(v1::Interrupt { task_id: task.to_string(), ..interrupt(&asked, &[], None, Some(encoding))? })
    })
    .collect()
}

/// An assistant.
pub(crate) fn assistant(assistant: &Assistant, encoding: JsonEncoding) -> Result<v1::Assistant, NotExact> {
    let config = &assistant.config;
    let number = |key: &str| {
        let number = config.get(key).and_then(Value::as_f64).unwrap_or_default();
        // As the core takes them: from 1, and never past 32 bits.
        number.clamp(0.0, f64::from(u32::MAX)) as u32
    };
    let tags = config.get("tags").and_then(Value::as_list).into_iter().flat_map(|tags| tags.iter());
    let configurable = config.get("configurable").filter(|v| v.as_object().is_some_and(|o| !o.is_empty()));
    let run_config = v1::RunConfig {
        recursion_limit: number("recursion_limit"),
        tags: tags.filter_map(Value::as_str).map(str::to_owned).collect(),
        configurable: configurable.map(|value| encode(value, encoding)).transpose()?,
        max_concurrency: number("max_concurrency"),
    };
    Ok(v1::Assistant {
        assistant_id: assistant.id.to_string(),
        owner: owner(&assistant.tenant),
        graph_name: assistant.graph.clone(),
        version: assistant.version,
        name: assistant.name.clone(),
        description: assistant.description.clone().unwrap_or_default(),
        config: Some(run_config),
        context: Some(&assistant.context).filter(|c| !c.is_null()).map(|c| encode(c, encoding)).transpose()?,
        metadata: Some(encode_object(&assistant.metadata, encoding)?),
        create_time: Some(timestamp(assistant.created_at)),
        update_time: Some(timestamp(assistant.updated_at)),
        omitted: None,
    })
}

/// A graph.
pub(crate) fn graph(graph: &GraphInfo) -> v1::Graph {
    let source = match graph.source {
        GraphSource::Folder => v1::GraphSource::Folder,
        GraphSource::Program => v1::GraphSource::Program,
        GraphSource::Registered => v1::GraphSource::Registered,
    };
    v1::Graph {
        name: graph.name.clone(),
        description: graph.description.clone(),
        revision: graph.revision.clone(),
        source: source.into(),
        hidden: graph.hidden,
        default_assistant_id: graph.default_assistant_id.map(|id| id.to_string()).unwrap_or_default(),
        create_time: Some(timestamp(graph.created_at)),
        update_time: Some(timestamp(graph.updated_at)),
    }
}

/// What is odd in a graph.
pub(crate) fn warnings(graph: &GraphInfo) -> Vec<v1::GraphWarning> {
    let each = graph.warnings.iter().map(|warning| v1::GraphWarning {
        message: warning.message.clone(),
        line: warning.line.unwrap_or_default(),
        column: warning.column.unwrap_or_default(),
    });
    each.collect()
}

/// A drawing.
pub(crate) fn drawing(drawing: &Drawing) -> v1::GetAssistantGraphResponse {
    let node = |node: &DrawnNode| {
        // The nodes of a subgraph that is drawn out stand under the name of its node.
        let name = node.id.rsplit(':').next().unwrap_or(&node.id);
        let kind = match name {
            runloom_engine::START => v1::GraphNodeKind::Start,
            runloom_engine::END => v1::GraphNodeKind::End,
            _ if node.subgraph.is_some() => v1::GraphNodeKind::Subgraph,
            _ => v1::GraphNodeKind::Node,
        };
        v1::GraphNode {
            id: node.id.to_string(),
            name: name.to_owned(),
            kind: kind.into(),
            tags: node.tags.iter().map(ToString::to_string).collect(),
        }
    };
    let edges = drawing.edges.iter().map(|edge| v1::GraphEdge {
        source: edge.source.to_string(),
        target: edge.target.to_string(),
        conditional: edge.conditional,
        label: edge.label.as_deref().unwrap_or_default().to_owned(),
    });
    v1::GetAssistantGraphResponse {
        nodes: drawing.nodes.iter().map(node).collect(),
        edges: edges.collect(),
        mermaid: drawing.mermaid(),
    }
}

/// What a graph takes and gives.
pub(crate) fn schemas(schemas: &Schemas, encoding: JsonEncoding) -> Result<v1::GraphSchemas, NotExact> {
    Ok(v1::GraphSchemas {
        graph_name: schemas.graph.clone(),
        input_schema: Some(encode(&schemas.input, encoding)?),
        output_schema: Some(encode(&schemas.output, encoding)?),
        state_schema: Some(encode(&schemas.state, encoding)?),
        context_schema: schemas.context.as_ref().map(|schema| encode(schema, encoding)).transpose()?,
    })
}
