//! The server itself: whether it is well, what it is, what it does, and its description.

mod openapi;

use axum::response::{Html, IntoResponse};
use http::{HeaderValue, StatusCode, header};
use runloom_engine::Value;

pub(crate) use openapi::description;

use crate::face::{Api, Call, Fail, Reply, json};

/// Whether the server works.
pub(crate) async fn ok(api: Api, call: Call) -> Reply {
    if call.query_flag("check_db")? {
        api.core.core().store().ping().await?;
    }
    let is_serving = api.core.core().store().health().borrow().is_serving() && !api.core.draining().is_cancelled();
    let status = if is_serving { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok(json(status, object! { "ok" => is_serving, "services" => Value::object() }))
}

/// The first page: where the others are.
pub(crate) async fn root() -> Reply {
    let links = object! {
        "name" => "Runloom",
        "version" => env!("CARGO_PKG_VERSION"),
        "docs" => "/docs",
        "info" => "/info",
        "openapi" => "/openapi.json",
        "health" => "/ok",
    };
    Ok(json(StatusCode::OK, links))
}

/// What the server is.
pub(crate) async fn info() -> Reply {
    let flags = object! {
        "assistants" => true,
        "crons" => true,
        "langsmith" => false,
        "langsmith_tracing_replicas" => false,
        "langsmith_tracing_session_on_runs" => false,
        // Clients send `strict_resume` to servers that say so.
        "strict_resume" => true,
    };
    let host = object! {
        "kind" => "self-hosted", "project_id" => Value::Null, "host_revision_id" => Value::Null,
        "revision_id" => Value::Null, "tenant_id" => Value::Null,
    };
    let info = object! {
        "version" => env!("CARGO_PKG_VERSION"),
        "server" => "runloom",
        // Clients ask by it what they may use: the version whose semantics these are.
        "langgraph_py_version" => "1.2.24",
        "flags" => flags,
        "host" => host,
    };
    Ok(json(StatusCode::OK, info))
}

/// How the server does: how many runs there are as JSON, or all figures for Prometheus.
pub(crate) async fn metrics(api: Api, call: Call) -> Reply {
    let format = call.query("format").unwrap_or("prometheus");
    if !["json", "prometheus"].contains(&format) {
        return Err(Fail::invalid(format!("format: must be json or prometheus, not `{format}`")));
    }
    let queue = api.core.core().observe().await?;
    if format == "json" {
        let workers = object! {
            "max" => queue.most, "active" => queue.running, "available" => queue.most.saturating_sub(queue.running),
        };
        let queue = object! { "n_pending" => queue.pending, "n_running" => queue.running };
        return Ok(json(StatusCode::OK, object! { "queue" => queue, "workers" => workers }));
    }
    let text = match &api.options.figures {
        Some(figures) => (figures.0)(),
        None => format!(
            "# HELP runloom_runs Runs that are not over, by state\n# TYPE runloom_runs gauge\n\
             runloom_runs{{status=\"pending\"}} {}\nrunloom_runs{{status=\"running\"}} {}\n",
            queue.pending, queue.running
        ),
    };
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
