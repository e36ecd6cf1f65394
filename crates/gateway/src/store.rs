//! The store: items by namespace and key.

use http::StatusCode;
use runloom_engine::{
    Value,
    items::{ItemQuery, NamespaceQuery},
};

use crate::{
    face::{Api, Call, Fail, Fields, Reply, empty, json},
    langgraph::records,
};

fn place(fields: &Fields<'_>) -> Result<(Vec<String>, String), Fail> {
    let namespace = fields.texts("namespace")?.ok_or_else(|| Fail::invalid("namespace: is required"))?;
    if namespace.is_empty() {
        return Err(Fail::new(StatusCode::BAD_REQUEST, "namespace: must have at least one part"));
    }
    let key = fields.text("key")?.ok_or_else(|| Fail::invalid("key: is required"))?;
    Ok((namespace, key.to_owned()))
}

pub(crate) async fn put(api: Api, call: Call) -> Reply {
    let fields = call.fields()?;
    let (namespace, key) = place(&fields)?;
    let value = fields.object("value")?.ok_or_else(|| Fail::invalid("value: is required: an object"))?;
    let ttl = fields.minutes("ttl")?;
    api.core.put_item(&namespace, &key, value.clone(), ttl).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

pub(crate) async fn get(api: Api, call: Call) -> Reply {
    let namespace: Vec<String> = call.query("namespace").unwrap_or_default().split('.').map(str::to_owned).collect();
    let key = call.query("key").ok_or_else(|| Fail::new(StatusCode::BAD_REQUEST, "key: is required"))?;
    let refresh = call.query("refresh_ttl").is_none() || call.query_flag("refresh_ttl")?;
    let found = api.core.get_item(&namespace, key, refresh).await?;
    Ok(json(StatusCode::OK, found.as_ref().map(records::item)))
}

pub(crate) async fn delete(api: Api, call: Call) -> Reply {
    let (namespace, key) = place(&call.fields()?)?;
    api.core.delete_item(&namespace, &key).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

pub(crate) async fn search(api: Api, call: Call) -> Reply {
    let fields = call.fields()?;
    // There is no index of meanings: a query finds what the rest of the request finds.
    fields.text("query")?;
    let (limit, offset) = fields.page(10)?;
    let query = ItemQuery {
        prefix: fields.texts("namespace_prefix")?.unwrap_or_default(),
        filter: fields.object("filter")?.cloned().unwrap_or_default(),
        limit,
        offset,
        keep_expiry: fields.maybe_flag("refresh_ttl")? == Some(false),
    };
    let found = api.core.search_items(query).await?;
    let items = found.iter().map(|item| {
        let mut o = records::item(item);
        o.insert("score", Value::Null);
        Value::Object(o)
    });
    Ok(json(StatusCode::OK, object! { "items" => items.collect::<Vec<_>>() }))
}

pub(crate) async fn namespaces(api: Api, call: Call) -> Reply {
    let fields = call.fields()?;
    let (limit, offset) = fields.page(100)?;
    let query = NamespaceQuery {
        prefix: fields.texts("prefix")?.unwrap_or_default(),
        suffix: fields.texts("suffix")?.unwrap_or_default(),
        max_depth: fields.number("max_depth", 1..=1000)?.map_or(0, |n| n as usize),
        limit,
        offset,
    };
    let found = api.core.list_namespaces(query).await?;
    let found: Vec<Value> = found.into_iter().map(Value::from).collect();
    Ok(json(StatusCode::OK, object! { "namespaces" => found }))
}
