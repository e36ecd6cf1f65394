//! The store: items by namespace and key.

use axum::extract::State;
use http::StatusCode;
use runloom_engine::{
    CheckpointError, Object, Value,
    items::{Item, ItemQuery, ItemStore},
};

use crate::{
    face::{Api, Call, Fail, Fields, Reply, empty, json},
    langgraph::records,
};

/// How many items are looked at at once where a filter compares.
const BATCH: usize = 1000;

fn failed(error: CheckpointError) -> Fail {
    tracing::warn!(%error, "the store of items failed");
    Fail::new(StatusCode::SERVICE_UNAVAILABLE, format!("the store does not answer: {error}; try again"))
}

fn namespace(parts: &[String]) -> Result<(), Fail> {
    match parts.iter().find(|part| part.is_empty() || part.contains('.')) {
        _ if parts.is_empty() => Err(Fail::invalid("namespace: must have at least one part")),
        Some(part) => Err(Fail::invalid(format!("namespace: `{part}` must not be empty, and have no dots"))),
        None => Ok(()),
    }
}

fn place(fields: &Fields<'_>) -> Result<(Vec<String>, String), Fail> {
    let all = fields.texts("namespace")?.ok_or_else(|| Fail::invalid("namespace: is required"))?;
    namespace(&all)?;
    let key = fields.text("key")?.filter(|k| !k.is_empty()).ok_or_else(|| Fail::invalid("key: is required"))?;
    Ok((all, key.to_owned()))
}

pub(crate) async fn put(State(api): State<Api>, call: Call) -> Reply {
    let fields = call.fields()?;
    let (namespace, key) = place(&fields)?;
    let value = fields.object("value")?.ok_or_else(|| Fail::invalid("value: is required: an object"))?;
    fields.refuse("ttl", "items that go after a time are not supported yet; delete them instead")?;
    api.core.store().items().put(&namespace, &key, value.clone()).await.map_err(failed)?;
    Ok(empty(StatusCode::NO_CONTENT))
}

pub(crate) async fn get(State(api): State<Api>, call: Call) -> Reply {
    let named: Vec<String> = call.query("namespace").unwrap_or_default().split('.').map(str::to_owned).collect();
    namespace(&named)?;
    let key = call.query("key").ok_or_else(|| Fail::invalid("key: is required"))?;
    let found = api.core.store().items().get(&named, key).await.map_err(failed)?;
    Ok(json(StatusCode::OK, found.as_ref().map(records::item)))
}

pub(crate) async fn delete(State(api): State<Api>, call: Call) -> Reply {
    let (namespace, key) = place(&call.fields()?)?;
    api.core.store().items().delete(&namespace, &key).await.map_err(failed)?;
    Ok(empty(StatusCode::NO_CONTENT))
}

pub(crate) async fn search(State(api): State<Api>, call: Call) -> Reply {
    let fields = call.fields()?;
    let prefix = fields.texts("namespace_prefix")?.unwrap_or_default();
    let filter = fields.object("filter")?.cloned().unwrap_or_default();
    fields.text("query")?;
    let (limit, offset) = fields.page(10)?;
    let store = api.core.store().items();
    let compares = filter.iter().any(|(_, v)| operators(v).is_some());
    let items = if compares {
        compared(&*store, prefix, &filter, limit, offset).await?
    } else {
        store.search(ItemQuery { prefix, filter, limit, offset }).await.map_err(failed)?
    };
    let items: Vec<Object> = items
        .iter()
        .map(|item| {
            let mut o = records::item(item);
            o.insert("score", Value::Null);
            o
        })
        .collect();
    Ok(json(StatusCode::OK, object! { "items" => items.into_iter().map(Value::from).collect::<Vec<_>>() }))
}

/// The comparisons of a filter's field: `{"$gt": 3}`.
fn operators(wanted: &Value) -> Option<&Object> {
    wanted.as_object().filter(|o| !o.is_empty() && o.keys().all(|k| k.starts_with('$')))
}

async fn compared(
    store: &dyn ItemStore,
    prefix: Vec<String>,
    filter: &Object,
    limit: usize,
    mut skip: usize,
) -> Result<Vec<Item>, Fail> {
    for (field, wanted) in filter.iter() {
        for key in operators(wanted).into_iter().flat_map(Object::keys) {
            if !["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"].contains(&&**key) {
                let what = format!("filter.{field}: there is no `{key}`; there are $eq, $ne, $gt, $gte, $lt, $lte");
                return Err(Fail::invalid(what));
            }
        }
    }
    let equal = filter.iter().filter(|(_, v)| operators(v).is_none());
    let equal: Object = equal.map(|(k, v)| (k.clone(), v.clone())).collect();
    let (mut found, mut offset) = (Vec::new(), 0);
    while found.len() < limit {
        let query = ItemQuery { prefix: prefix.clone(), filter: equal.clone(), limit: BATCH, offset };
        let items = store.search(query).await.map_err(failed)?;
        let is_last = items.len() < BATCH;
        offset += items.len();
        for item in items {
            if !filter.iter().all(|(field, wanted)| holds(item.value.get(field), wanted)) {
                continue;
            }
            if skip > 0 {
                skip -= 1;
            } else if found.len() < limit {
                found.push(item);
            }
        }
        if is_last {
            break;
        }
    }
    Ok(found)
}

fn holds(value: Option<&Value>, wanted: &Value) -> bool {
    let Some(operators) = operators(wanted) else { return true };
    operators.iter().all(|(operator, than)| {
        let order = value.and_then(|value| match (value, than) {
            (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
            (a, b) => a.as_f64()?.partial_cmp(&b.as_f64()?),
        });
        match &**operator {
            "$eq" => value == Some(than) || order.is_some_and(|o| o.is_eq()),
            "$ne" => !(value == Some(than) || order.is_some_and(|o| o.is_eq())),
            "$gt" => order.is_some_and(|o| o.is_gt()),
            "$gte" => order.is_some_and(|o| o.is_ge()),
            "$lt" => order.is_some_and(|o| o.is_lt()),
            "$lte" => order.is_some_and(|o| o.is_le()),
            _ => false,
        }
    })
}

pub(crate) async fn namespaces(State(api): State<Api>, call: Call) -> Reply {
    let fields = call.fields()?;
    let prefix = fields.texts("prefix")?.unwrap_or_default();
    let suffix = fields.texts("suffix")?.unwrap_or_default();
    let depth = fields.number("max_depth", 1..=1000)?.map(|n| n as usize);
    let (limit, offset) = fields.page(100)?;
    // A `*` stands for any part.
    let is_like = |wanted: &str, part: &str| wanted == "*" || wanted == part;
    let known: Vec<String> = prefix.iter().take_while(|p| *p != "*").cloned().collect();
    let found = api.core.store().items().namespaces(&known).await.map_err(failed)?;
    let mut all: Vec<Vec<String>> = found
        .into_iter()
        .filter(|ns| ns.len() >= prefix.len() && prefix.iter().zip(ns).all(|(p, part)| is_like(p, part)))
        .filter(|ns| {
            ns.len() >= suffix.len() && suffix.iter().rev().zip(ns.iter().rev()).all(|(s, part)| is_like(s, part))
        })
        .map(|mut ns| {
            ns.truncate(depth.unwrap_or(usize::MAX));
            ns
        })
        .collect();
    all.dedup();
    let page: Vec<Value> = all.into_iter().skip(offset).take(limit).map(Value::from).collect();
    Ok(json(StatusCode::OK, object! { "namespaces" => page }))
}
