//! The server itself: whether it is well, what it is, what it does, and its description.

mod openapi;

use axum::{
    extract::State,
    response::{Html, IntoResponse},
};
use http::{HeaderValue, StatusCode, header};
use runloom_core::store::{RunFilter, RunStatus};
use runloom_engine::Value;

pub(crate) use openapi::description;

use crate::{
    face::{Api, Call, Fail, Reply, json},
    langgraph::records::run_status,
};

/// Whether the server works.
pub(crate) async fn ok(State(api): State<Api>, call: Call) -> Reply {
    if call.query_flag("check_db")? {
        api.core.store().ping().await?;
    }
    let is_serving = api.core.store().health().borrow().is_serving();
    let status = if is_serving { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok(json(status, object! { "ok" => is_serving, "services" => Value::object() }))
}

/// What the server is.
pub(crate) async fn info() -> Reply {
    let flags = object! { "assistants" => true, "crons" => true, "langsmith" => false };
    let host = object! {
        "kind" => "self-hosted", "project_id" => Value::Null, "host_revision_id" => Value::Null,
        "revision_id" => Value::Null, "tenant_id" => Value::Null,
    };
    let info = object! {
        "version" => env!("CARGO_PKG_VERSION"),
        "server" => "runloom",
        // Clients ask by it what they may use: the version whose semantics these are.
        "langgraph_py_version" => "1.2.22",
        "flags" => flags,
        "host" => host,
    };
    Ok(json(StatusCode::OK, info))
}

/// How many runs there are, by state: as JSON, or for Prometheus.
pub(crate) async fn metrics(State(api): State<Api>, call: Call) -> Reply {
    let format = call.query("format").unwrap_or("prometheus");
    if !["json", "prometheus"].contains(&format) {
        return Err(Fail::invalid(format!("format: must be json or prometheus, not `{format}`")));
    }
    let count = async |status| {
        let filter = RunFilter { status: vec![status], ..RunFilter::default() };
        api.core.store().count_runs(filter).await.map_err(Fail::from)
    };
    let pending = count(RunStatus::Pending).await?;
    let running = count(RunStatus::Running).await?;
    if format == "json" {
        let queue = object! { "n_pending" => pending, "n_running" => running };
        return Ok(json(StatusCode::OK, object! { "queue" => queue }));
    }
    let mut text = String::from("# HELP runloom_runs Runs that are not over, by state\n# TYPE runloom_runs gauge\n");
    for (status, n) in [(RunStatus::Pending, pending), (RunStatus::Running, running)] {
        text += &format!("runloom_runs{{status=\"{}\"}} {n}\n", run_status(status));
    }
    let mut response = text.into_response();
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

/// The description of every endpoint.
pub(crate) async fn openapi() -> Reply {
    Ok(json(StatusCode::OK, description().clone()))
}

/// The same, to be read.
pub(crate) async fn docs() -> Html<&'static str> {
    Html(include_str!("docs.html"))
}

pub(crate) async fn not_found() -> Reply {
    Err(Fail::not_found("Not Found"))
}

pub(crate) async fn not_allowed() -> Reply {
    Err(Fail::new(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed"))
}
