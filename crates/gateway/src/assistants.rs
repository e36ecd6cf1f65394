//! Assistants: made, read, changed, found, counted, in versions; their graphs and schemas.

use http::StatusCode;
use runloom_core::{
    Reason, Target,
    store::{
        AssistantFilter, AssistantId, AssistantSort, AssistantUpdate, Direction, IfExists, NewAssistant, PageRequest,
        ThreadFilter, ThreadSort,
    },
};
use runloom_engine::{Object, Value};

use crate::{
    face::{Api, Call, Fail, Fields, Reply, chosen, empty, json, paged, selected},
    langgraph::records,
};

/// The deepest level of subgraphs that is drawn.
const DEPTH: usize = 32;

/// The configuration and the context of a body. Settings stand for a context where there is none.
fn config_and_context(fields: &Fields<'_>) -> Result<(Option<Object>, Option<Value>), Fail> {
    let config = fields.object("config")?.cloned();
    let context = fields.object("context")?.cloned();
    let settings = config.as_ref().and_then(|c| c.get("configurable")?.as_object()).filter(|s| !s.is_empty());
    match (settings, context) {
        (Some(_), Some(context)) if !context.is_empty() => Err(Fail::new(
            StatusCode::BAD_REQUEST,
            "Cannot specify both configurable and context. Prefer setting context alone. Context was introduced in \
             LangGraph 0.6.0 and is the long term planned replacement for configurable.",
        )),
        (_, context) => Ok((config, context.map(Value::from))),
    }
}

pub(crate) async fn create(api: Api, call: Call) -> Reply {
    let fields = call.fields()?;
    let Some(graph) = fields.text("graph_id")? else {
        return Err(Fail::invalid("graph_id: is required: the name of a graph"));
    };
    let (config, context) = config_and_context(&fields)?;
    let settings = config.as_ref().and_then(|c| c.get("configurable")).filter(|s| s.as_object().is_some()).cloned();
    let keeps = fields.word("if_exists", &["raise", "do_nothing"])? == Some("do_nothing");
    let is_derived = context.is_none() && settings.is_some();
    let mut new = NewAssistant {
        id: fields.uuid("assistant_id", "assistant ID")?.map(AssistantId),
        if_exists: if keeps { IfExists::Keep } else { IfExists::Refuse },
        graph: graph.to_owned(),
        name: fields.text("name")?.unwrap_or_default().to_owned(),
        description: fields.text("description")?.map(str::to_owned),
        config: config.unwrap_or_default(),
        context: context.or(settings).unwrap_or_default(),
        metadata: fields.object("metadata")?.cloned().unwrap_or_default(),
    };
    let made = match api.core.create_assistant(new.clone()).await {
        Err(error) if error.reason == Reason::ContextInvalid && is_derived => {
            new.context = Value::Null;
            api.core.create_assistant(new).await
        }
        made => made,
    };
    match made {
        Ok(made) => Ok(json(StatusCode::OK, records::assistant(&made))),
        Err(error) if error.reason == Reason::GraphUnknown => Err(Fail::from(error).with_status(StatusCode::NOT_FOUND)),
        Err(error) => Err(error.into()),
    }
}

pub(crate) async fn get(api: Api, call: Call) -> Reply {
    let found = api.core.get_assistant(call.assistant()?).await?;
    Ok(json(StatusCode::OK, records::assistant(&found)))
}

pub(crate) async fn update(api: Api, call: Call) -> Reply {
    let id = call.assistant()?;
    let fields = call.fields()?;
    let (mut config, mut context) = config_and_context(&fields)?;
    let settings = config.as_ref().and_then(|c| c.get("configurable")).filter(|s| s.as_object().is_some()).cloned();
    let is_derived = context.is_none() && settings.is_some();
    if is_derived {
        context = settings;
    } else if context.is_some() && config.is_none() {
        // Settings that the old context was known by do not outlive it.
        let old = api.core.get_assistant(id).await?.config;
        if old.contains_key("configurable") {
            let mut rest = old;
            rest.remove("configurable");
            config = Some(rest);
        }
    }
    let mut update = AssistantUpdate {
        graph: fields.text("graph_id")?.map(str::to_owned),
        name: fields.text("name")?.map(str::to_owned),
        description: fields.text("description")?.map(str::to_owned),
        config,
        context,
        metadata: fields.object("metadata")?.cloned(),
    };
    let made = match api.core.update_assistant(id, update.clone()).await {
        Err(error) if error.reason == Reason::ContextInvalid && is_derived => {
            update.context = None;
            api.core.update_assistant(id, update).await
        }
        made => made,
    };
    match made {
        Ok(made) => Ok(json(StatusCode::OK, records::assistant(&made))),
        Err(error) if error.reason == Reason::GraphUnknown => Err(Fail::from(error).with_status(StatusCode::NOT_FOUND)),
        Err(error) => Err(error.into()),
    }
}

pub(crate) async fn delete(api: Api, call: Call) -> Reply {
    let id = call.assistant()?;
    let with_threads = call.query_flag("delete_threads")?;
    api.core.delete_assistant(id).await?;
    if with_threads {
        let of_it = object! { "assistant_id" => id.to_string() };
        let filter = ThreadFilter { metadata: of_it, ..ThreadFilter::default() };
        loop {
            let sort = (ThreadSort::Created, Direction::Ascending);
            let found = api.core.list_threads(filter.clone(), sort, PageRequest::first(1000)).await?.items;
            if found.is_empty() {
                break;
            }
            for thread in found {
                match api.core.delete_thread(thread.id).await {
                    Err(error) if error.reason != Reason::ThreadNotFound => return Err(error.into()),
                    _ => {}
                }
            }
        }
    }
    Ok(empty(StatusCode::NO_CONTENT))
}

fn filter(fields: &Fields<'_>) -> Result<AssistantFilter, Fail> {
    Ok(AssistantFilter {
        graph: fields.text("graph_id")?.map(str::to_owned),
        name: fields.text("name")?.map(str::to_owned),
        metadata: fields.object("metadata")?.cloned().unwrap_or_default(),
    })
}

pub(crate) async fn search(api: Api, call: Call) -> Reply {
    let fields = call.fields()?;
    let filter = filter(&fields)?;
    if let Some(graph) = &filter.graph
        && api.core.get_graph(graph).await.ok().is_none_or(|known| known.hidden)
    {
        return Err(Fail::not_found(format!("Graph '{graph}' not found")));
    }
    let (limit, offset) = fields.page(10)?;
    let sort = match fields.word("sort_by", &["assistant_id", "graph_id", "name", "created_at", "updated_at"])? {
        Some("assistant_id") => AssistantSort::Id,
        Some("graph_id") => AssistantSort::Graph,
        Some("name") => AssistantSort::Name,
        Some("updated_at") => AssistantSort::Updated,
        _ => AssistantSort::Created,
    };
    let order = match fields.word("sort_order", &["asc", "desc"])? {
        Some("asc") => Direction::Ascending,
        _ => Direction::Descending,
    };
    let select = chosen(fields.texts("select")?.unwrap_or_default(), records::ASSISTANT_FIELDS)?;
    let page = PageRequest { size: limit, token: None, skip: offset };
    let found = api.core.list_assistants(filter.clone(), (sort, order), page).await?;
    let total = api.core.count_assistants(filter).await?;
    let items = found.items.iter().map(|a| selected(records::assistant(a), &select)).collect();
    Ok(paged(items, offset, total))
}

pub(crate) async fn count(api: Api, call: Call) -> Reply {
    let count = api.core.count_assistants(filter(&call.fields()?)?).await?;
    Ok(json(StatusCode::OK, count))
}

pub(crate) async fn versions(api: Api, call: Call) -> Reply {
    let id = call.assistant()?;
    let fields = call.fields()?;
    let (limit, offset) = fields.page(10)?;
    let metadata = fields.object("metadata")?.cloned().unwrap_or_default();
    let page = PageRequest { size: limit, token: None, skip: offset };
    let found = api.core.list_assistant_versions(id, metadata, page).await?;
    let items: Vec<Object> = found.items.iter().map(records::assistant_version).collect();
    Ok(json(StatusCode::OK, items))
}

pub(crate) async fn set_latest(api: Api, call: Call) -> Reply {
    let id = call.assistant()?;
    let fields = call.fields()?;
    let Some(version) = fields.number("version", 1..=u64::from(u32::MAX))? else {
        return Err(Fail::invalid("version: is required: the number of a version"));
    };
    let latest = api.core.set_latest_assistant(id, version as u32).await?;
    Ok(json(StatusCode::OK, records::assistant(&latest)))
}

pub(crate) async fn graph(api: Api, call: Call) -> Reply {
    let depth = match call.query("xray") {
        None => 0,
        Some(text) => match (text.parse::<usize>(), call.query_flag("xray")) {
            (Ok(depth), _) => depth.min(DEPTH),
            (_, Ok(deep)) => {
                if deep {
                    DEPTH
                } else {
                    0
                }
            }
            _ => return Err(Fail::invalid(format!("xray: must be true, false or a depth, not `{text}`"))),
        },
    };
    // A graph is drawn by its name too.
    let target = match call.assistant() {
        Ok(id) => Target::Assistant(id),
        Err(_) => Target::Graph(call.param("assistant_id").to_owned()),
    };
    let drawing = api.core.draw(&target, depth).await?;
    Ok(json(StatusCode::OK, records::drawing(&drawing)))
}

pub(crate) async fn schemas(api: Api, call: Call) -> Reply {
    let schemas = api.core.schemas(&Target::Assistant(call.assistant()?)).await?;
    Ok(json(StatusCode::OK, records::schemas(&schemas)))
}

pub(crate) async fn subgraphs(api: Api, call: Call) -> Reply {
    let target = Target::Assistant(call.assistant()?);
    let only = call.param("namespace");
    let all = api.core.subgraph_schemas(&target, call.query_flag("recurse")? || only.contains('|')).await?;
    let shown = all.iter().filter(|(name, _)| only.is_empty() || *name == only);
    let shown: Object =
        shown.map(|(name, s)| (std::sync::Arc::from(name.as_str()), records::inner_schemas(s))).collect();
    Ok(json(StatusCode::OK, shown))
}
