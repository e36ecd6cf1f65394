//! Threads: made, read, changed, found, counted, copied, pruned, deleted.

use std::{collections::BTreeSet, sync::Arc, time::SystemTime};

use http::StatusCode;
use runloom_core::{
    Reason, StateUpdateRequest,
    store::{
        Direction, Expiry, IfExists, NewThread, Page, PageRequest, RunFilter, RunStatus, Thread, ThreadFilter,
        ThreadSort, ThreadStatus, contains,
    },
};
use runloom_engine::{Object, StateUpdate, ThreadId, Value, checkpoint::CheckpointFilter};

use crate::{
    face::{Api, Call, Fail, Fields, Reply, chosen, empty, json, paged, selected, uuid},
    langgraph::records,
};

/// How many checkpoints of a busy thread are looked at for the state before its run.
const LOOK_BACK: usize = 100;

pub(crate) async fn create(api: Api, call: Call) -> Reply {
    let fields = call.fields()?;
    let id = fields.uuid("thread_id", "thread ID")?.map(ThreadId);
    let keep = fields.word("if_exists", &["raise", "do_nothing"])? == Some("do_nothing");
    let mut metadata = fields.object("metadata")?.cloned().unwrap_or_default();
    if let Some(graph) = fields.text("graph_id")? {
        metadata.insert("graph_id", graph);
    }
    let steps = supersteps(&fields)?;
    let graph = metadata.get_str("graph_id").map(str::to_owned);
    if !steps.is_empty() && graph.is_none() {
        return Err(Fail::invalid("supersteps: need the graph that they are of; give `graph_id`"));
    }
    let if_exists = if keep { IfExists::Keep } else { IfExists::Refuse };
    let known = match id.filter(|_| keep) {
        Some(id) => api.core.get_thread(id).await.ok(),
        None => None,
    };
    let new = NewThread { id, if_exists, metadata, expiry: expiry(&fields)?, ..NewThread::default() };
    let is_new = known.is_none();
    let made = match known {
        Some(thread) => thread,
        None => match api.core.create_thread(new).await {
            Ok(thread) => thread,
            Err(error) if error.reason == Reason::ThreadExists => {
                let id = id.map(|id| id.to_string()).unwrap_or_default();
                return Err(Fail::new(StatusCode::CONFLICT, format!("Thread with ID {id} already exists")));
            }
            Err(error) => return Err(error.into()),
        },
    };
    if is_new && !steps.is_empty() {
        let request = StateUpdateRequest {
            thread: made.id,
            checkpoint_id: None,
            namespace: String::new(),
            updates: Vec::new(),
            expected_checkpoint_id: None,
            graph,
        };
        if let Err(error) = api.core.bulk_update_state(request, steps).await {
            // A thread that could not be made whole is not made.
            let _ = api.core.delete_thread(made.id).await;
            return Err(error.into());
        }
    }
    let made = api.core.get_thread(made.id).await?;
    Ok(json(StatusCode::OK, shown(&api, &made).await?))
}

/// When a thread is to go: `{"ttl": minutes, "strategy": "delete" | "keep_latest"}`, or the minutes alone.
fn expiry(fields: &Fields<'_>) -> Result<Option<Expiry>, Fail> {
    let (minutes, keep_latest) = match fields.value("ttl") {
        None => return Ok(None),
        Some(Value::Object(ttl)) => {
            let ttl = Fields::within(ttl);
            let strategy = ttl.word("strategy", &["delete", "keep_latest"])?;
            (ttl.minutes("ttl")?, strategy == Some("keep_latest"))
        }
        Some(_) => (fields.minutes("ttl")?, false),
    };
    let at = minutes.and_then(|minutes| SystemTime::now().checked_add(minutes));
    Ok(at.map(|at| Expiry { at, keep_latest }))
}

fn supersteps(fields: &Fields<'_>) -> Result<Vec<Vec<StateUpdate>>, Fail> {
    let wrong = || Fail::invalid("supersteps: must be a list of {\"updates\": [{\"values\": …, \"as_node\": …}]}");
    let mut steps = Vec::new();
    for step in fields.list("supersteps")?.into_iter().flat_map(|list| list.iter()) {
        let updates = step.get("updates").and_then(Value::as_list).ok_or_else(wrong)?;
        let read = updates.iter().map(|update| {
            let update = Fields::within(update.as_object().ok_or_else(wrong)?);
            update.refuse("command", "is not taken here; give `values` and `as_node`")?;
            Ok(StateUpdate {
                values: update.value("values").cloned(),
                as_node: update.text("as_node")?.map(str::to_owned),
            })
        });
        steps.push(read.collect::<Result<_, Fail>>()?);
    }
    Ok(steps)
}

pub(crate) async fn get(api: Api, call: Call) -> Reply {
    let thread = find(&api, call.thread()?).await?;
    let mut record = shown(&api, &thread).await?;
    if call.query_all(&["include"]).iter().any(|field| field == "ttl") {
        record.insert("ttl", thread.expiry.map_or(Value::Null, |expiry| records::expiry(&expiry).into()));
    }
    Ok(json(StatusCode::OK, record))
}

/// A thread that is there.
pub(crate) async fn find(api: &Api, id: ThreadId) -> Result<Thread, Fail> {
    match api.core.get_thread(id).await {
        Ok(thread) => Ok(thread),
        Err(error) if error.reason == Reason::ThreadNotFound => {
            Err(Fail::not_found(format!("Thread with ID {id} not found")))
        }
        Err(error) => Err(error.into()),
    }
}

pub(crate) async fn update(api: Api, call: Call) -> Reply {
    let id = call.thread()?;
    let fields = call.fields()?;
    let metadata = fields.object("metadata")?.cloned().unwrap_or_default();
    let expiry = expiry(&fields)?;
    find(&api, id).await?;
    let mut thread = api.core.update_thread(id, metadata).await?;
    if expiry.is_some() {
        thread = api.core.expire_thread(id, expiry).await?;
    }
    if call.header("prefer").is_some_and(|p| p.contains("return=minimal")) {
        return Ok(empty(StatusCode::NO_CONTENT));
    }
    Ok(json(StatusCode::OK, shown(&api, &thread).await?))
}

pub(crate) async fn delete(api: Api, call: Call) -> Reply {
    let id = call.thread()?;
    find(&api, id).await?;
    api.core.delete_thread(id).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

pub(crate) async fn copy(api: Api, call: Call) -> Reply {
    let from = find(&api, call.thread()?).await?;
    let copy = api.core.copy_thread(from.id, None).await?;
    Ok(json(StatusCode::OK, records::thread_head(&copy)))
}

/// Deletes threads, or all of their checkpoints but the latest.
pub(crate) async fn prune(api: Api, call: Call) -> Reply {
    let fields = call.fields()?;
    let ids = fields.texts("thread_ids")?.ok_or_else(|| Fail::invalid("thread_ids: is required"))?;
    let keeps = fields.word("strategy", &["delete", "keep_latest"])? == Some("keep_latest");
    // Each once, however often it is named.
    let ids = ids.iter().map(|id| uuid(id, "thread ID").map(ThreadId)).collect::<Result<BTreeSet<_>, _>>()?;
    let mut pruned = 0u64;
    for id in ids {
        let done = match keeps {
            true => api.core.prune_thread(id, 1).await.map(drop),
            false => api.core.delete_thread(id).await,
        };
        match done {
            Ok(()) => pruned += 1,
            Err(error) if error.reason == Reason::ThreadNotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(json(StatusCode::OK, object! { "pruned_count" => pruned }))
}

/// A thread with its state's values.
pub(crate) async fn shown(api: &Api, thread: &Thread) -> Result<Object, Fail> {
    let values =
        if thread.graph.is_none() && thread.state_updated_at.is_none() && !thread.metadata.contains_key("graph_id") {
            None
        } else {
            values(api, thread).await?
        };
    Ok(records::thread(thread, values))
}

/// The values of a thread at its last checkpoint, without what has finished of a step that stopped; those of a run under
/// way come with its end. None for a thread that has no state.
async fn values(api: &Api, thread: &Thread) -> Result<Option<Value>, Fail> {
    let mut running = None;
    if thread.status == ThreadStatus::Busy {
        let filter = RunFilter { thread: Some(thread.id), status: vec![RunStatus::Running], ..RunFilter::default() };
        running = api.core.list_runs(filter, PageRequest::first(1)).await?.items.pop().map(|run| run.id);
    }
    let limit = Some(if running.is_some() { LOOK_BACK } else { 1 });
    let filter = CheckpointFilter { limit, ..CheckpointFilter::default() };
    let views = match api.core.list_checkpoints(thread.id, "", filter, None).await {
        Ok(views) => views,
        // A graph that is not served any more does not take its threads with it.
        Err(error) if matches!(error.reason, Reason::GraphUnknown | Reason::GraphIncompatible) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let before = views.items.iter().find(|view| running.is_none() || view.run_id != running);
    Ok(match (before, views.items.first(), views.next) {
        (Some(view), ..) => Some(view.values_object().into()),
        // A long run: what it has done so far says more than nothing.
        (None, Some(latest), Some(_)) => Some(latest.values_object().into()),
        _ => thread.graph.as_ref().map(|_| Value::Null),
    })
}

struct Search {
    filter: ThreadFilter,
    /// What the values have to have.
    values: Object,
}

impl Search {
    fn read(fields: &Fields<'_>) -> Result<Self, Fail> {
        let ids = match fields.texts("ids")? {
            None => None,
            Some(ids) => Some(ids.iter().map(|id| uuid(id, "thread ID").map(ThreadId)).collect::<Result<Vec<_>, _>>()?),
        };
        let status = fields.word("status", &["idle", "busy", "interrupted", "error"])?;
        let filter = ThreadFilter {
            ids,
            status: status.and_then(|s| s.parse().ok()),
            metadata: fields.object("metadata")?.cloned().unwrap_or_default(),
            ..ThreadFilter::default()
        };
        Ok(Self { filter, values: fields.object("values")?.cloned().unwrap_or_default() })
    }

    /// The threads meant whose values have what is asked for, with those values.
    async fn by_values(&self, api: &Api, sort: (ThreadSort, Direction)) -> Result<Vec<Thread>, Fail> {
        let (mut all, mut page) = (Vec::new(), PageRequest::first(1000));
        loop {
            let found: Page<Thread> = api.core.list_threads(self.filter.clone(), sort, page).await?;
            for thread in found.items {
                let has = values(api, &thread).await?;
                if has.as_ref().and_then(Value::as_object).is_some_and(|has| contains(has, &self.values)) {
                    all.push(thread);
                }
            }
            match found.next {
                Some(token) => page = PageRequest::after(1000, token),
                None => return Ok(all),
            }
        }
    }
}

pub(crate) async fn search(api: Api, call: Call) -> Reply {
    let fields = call.fields()?;
    let search = Search::read(&fields)?;
    let (limit, offset) = fields.page(10)?;
    let sort = match fields.word("sort_by", &["thread_id", "status", "created_at", "updated_at", "state_updated_at"])? {
        Some("thread_id") => ThreadSort::Id,
        Some("status") => ThreadSort::Status,
        Some("updated_at") => ThreadSort::Updated,
        Some("state_updated_at") => ThreadSort::StateUpdated,
        _ => ThreadSort::Created,
    };
    let order = match fields.word("sort_order", &["asc", "desc"])? {
        Some("asc") => Direction::Ascending,
        _ => Direction::Descending,
    };
    let select = chosen(fields.texts("select")?.unwrap_or_default(), records::THREAD_FIELDS)?;
    let extract = extracts(&fields)?;
    let (threads, total) = if search.values.is_empty() {
        let page = PageRequest { size: limit, token: None, skip: offset };
        let found = api.core.list_threads(search.filter.clone(), (sort, order), page).await?;
        (found.items, api.core.count_threads(search.filter).await?)
    } else {
        let all = search.by_values(&api, (sort, order)).await?;
        let total = all.len() as u64;
        (all.into_iter().skip(offset).take(limit).collect(), total)
    };
    let needs_values = select.is_empty() || !extract.is_empty() || select.iter().any(|f| f == "values");
    let mut items = Vec::with_capacity(threads.len());
    for thread in &threads {
        let record = if needs_values { shown(&api, thread).await? } else { records::thread(thread, None) };
        let extracted: Object = extract.iter().map(|(k, path)| (k.clone(), at_path(&record, path))).collect();
        let mut item = selected(record, &select);
        if let (false, Value::Object(item)) = (extract.is_empty(), &mut item) {
            item.insert("extracted", extracted);
        }
        items.push(item);
    }
    Ok(paged(items, offset, total))
}

/// What is to be picked out of each record: a name, and a path as `values.messages[-1].content`.
fn extracts(fields: &Fields<'_>) -> Result<Vec<(Arc<str>, String)>, Fail> {
    let asked = fields.object("extract")?.into_iter().flat_map(Object::iter);
    asked
        .map(|(name, path)| match path.as_str() {
            Some(path) => Ok((name.clone(), path.to_owned())),
            None => Err(Fail::invalid(format!("extract.{name}: must be a path, not {}", path.kind()))),
        })
        .collect()
}

fn at_path(record: &Object, path: &str) -> Value {
    let mut at = Value::Object(record.clone());
    for part in path.split(['.', '[']).map(|p| p.trim_end_matches(']')).filter(|p| !p.is_empty()) {
        let next = match (&at, part.parse::<i64>()) {
            (Value::List(list), Ok(i)) => {
                let i = if i < 0 { list.len() as i64 + i } else { i };
                usize::try_from(i).ok().and_then(|i| list.get(i)).cloned()
            }
            (value, _) => value.get(part).cloned(),
        };
        match next {
            Some(next) => at = next,
            None => return Value::Null,
        }
    }
    at
}

pub(crate) async fn count(api: Api, call: Call) -> Reply {
    let search = Search::read(&call.fields()?)?;
    let count = if search.values.is_empty() {
        api.core.count_threads(search.filter).await?
    } else {
        search.by_values(&api, (ThreadSort::Created, Direction::Descending)).await?.len() as u64
    };
    Ok(json(StatusCode::OK, count))
}
