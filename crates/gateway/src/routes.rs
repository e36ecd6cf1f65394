//! Every endpoint in one table: what it is called, what it takes and gives, and what answers it. The router and the
//! description of the API are made of it.

use std::sync::Arc;

use axum::{
    Router, middleware,
    routing::{MethodRouter, any, delete, get, patch, post, put},
};
use runloom_core::Core;

use crate::{
    Options, assistants, browser, crons,
    face::{Api, guard},
    runs, states, store, system, thread_stream, threads,
};

/// An endpoint.
pub(crate) struct Endpoint {
    pub method: &'static str,
    pub path: &'static str,
    pub tag: &'static str,
    pub about: &'static str,
    /// The name of what its body is; empty for none.
    pub takes: &'static str,
    /// Its query parameters, and what each is.
    pub query: &'static [(&'static str, &'static str)],
    pub gives: Gives,
    handler: MethodRouter<Api>,
}

/// What an endpoint gives.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Gives {
    Json,
    /// Nothing: 204.
    Nothing,
    /// That it is under way: 202; or the end of it.
    Accepted,
    /// Server-sent events.
    Stream,
    Text,
    Html,
    Socket,
}

type Query = &'static [(&'static str, &'static str)];

const NONE: Query = &[];
const FILTER: Query = &[
    ("kind", "only events of these kinds; more than one with commas, or repeated"),
    ("name", "only of these names; `*` stands for anything"),
    ("node", "only of these nodes"),
    ("tag", "only with these tags"),
    ("namespace", "only of these subgraphs"),
    ("exclude_kind", "no events of these kinds"),
    ("exclude_name", "none of these names"),
    ("exclude_node", "none of these nodes"),
    ("exclude_tag", "none with these tags"),
    ("exclude_namespace", "none of these subgraphs"),
];
const JOIN: Query = &[
    ("stream_mode", "of the run's modes, those wanted"),
    ("last_event_id", "the id of the last event seen; the header `Last-Event-ID` stands above it"),
    ("cancel_on_disconnect", "boolean: cancels the run when this reader leaves"),
    ("kind", "only events of these kinds"),
    ("name", "only of these names"),
    ("node", "only of these nodes"),
    ("tag", "only with these tags"),
];
const CANCEL: Query = &[
    ("wait", "boolean: answers when the run is over"),
    ("action", "`interrupt`, or `rollback`: takes back what it did"),
];
const LIST: Query = &[
    ("limit", "integer: at most so many, up to 1000"),
    ("offset", "integer: leaves out so many first"),
    ("status", "only in this state"),
    ("select", "only these fields of each"),
    ("metadata", "only those whose metadata has this JSON in it"),
];
const SUBGRAPHS: Query = &[("subgraphs", "boolean: looks into the subgraphs too")];

/// All endpoints.
pub(crate) fn endpoints() -> Vec<Endpoint> {
    let mut all = Vec::new();
    let mut tag;
    macro_rules! on {
        ($method:ident $path:literal $handler:expr; $about:literal $(, takes $takes:literal)? $(, query $query:expr)? $(, gives $gives:ident)?) => {{
            #[allow(unused_mut, unused_assignments)]
            let (mut takes, mut query, mut gives) = ("", NONE, Gives::Json);
            $(takes = $takes;)?
            $(query = $query;)?
            $(gives = Gives::$gives;)?
            let handler = $method($handler);
            all.push(Endpoint { method: stringify!($method), path: $path, tag, about: $about, takes, query, gives, handler });
        }};
    }

    tag = "Assistants";
    on!(post "/assistants" assistants::create; "Makes an assistant", takes "Assistant");
    on!(post "/assistants/search" assistants::search; "Finds assistants", takes "AssistantSearch");
    on!(post "/assistants/count" assistants::count; "Counts assistants", takes "AssistantSearch");
    on!(get "/assistants/{assistant_id}" assistants::get; "An assistant");
    on!(patch "/assistants/{assistant_id}" assistants::update; "Changes an assistant: its next version", takes "AssistantPatch");
    on!(delete "/assistants/{assistant_id}" assistants::delete; "Deletes an assistant", gives Nothing);
    on!(get "/assistants/{assistant_id}/graph" assistants::graph; "Its graph, as nodes and edges",
        query &[("xray", "true, or how many levels of subgraphs to draw")]);
    on!(get "/assistants/{assistant_id}/schemas" assistants::schemas; "What its graph takes and gives");
    on!(get "/assistants/{assistant_id}/subgraphs" assistants::subgraphs; "What the graphs inside take and give",
        query &[("recurse", "boolean: of all levels")]);
    on!(get "/assistants/{assistant_id}/subgraphs/{namespace}" assistants::subgraphs; "The same, of one node");
    on!(post "/assistants/{assistant_id}/versions" assistants::versions; "Its versions, the newest first", takes "Versions");
    on!(post "/assistants/{assistant_id}/latest" assistants::set_latest; "Makes a version the latest", takes "Latest");

    tag = "Threads";
    on!(post "/threads" threads::create; "Makes a thread", takes "Thread");
    on!(post "/threads/search" threads::search; "Finds threads", takes "ThreadSearch");
    on!(post "/threads/count" threads::count; "Counts threads", takes "ThreadSearch");
    on!(post "/threads/prune" threads::prune; "Deletes threads, or their old checkpoints", takes "Prune");
    on!(get "/threads/{thread_id}" threads::get; "A thread", query &[("include", "ttl: when it goes, too")]);
    on!(patch "/threads/{thread_id}" threads::update; "Merges into a thread's metadata", takes "ThreadPatch");
    on!(delete "/threads/{thread_id}" threads::delete; "Deletes a thread with its runs", gives Nothing);
    on!(get "/threads/{thread_id}/state" states::latest; "Its state", query SUBGRAPHS);
    on!(post "/threads/{thread_id}/state" states::update; "Writes to its state", takes "StateUpdate");
    on!(get "/threads/{thread_id}/state/{checkpoint_id}" states::at; "Its state at a checkpoint", query SUBGRAPHS);
    on!(post "/threads/{thread_id}/state/checkpoint" states::at_place; "Its state at a checkpoint", takes "StateQuery");
    on!(get "/threads/{thread_id}/history" states::history; "Its checkpoints, the newest first",
        query &[("limit", "integer: at most so many"), ("before", "a checkpoint's id")]);
    on!(post "/threads/{thread_id}/history" states::search_history; "Its checkpoints, by filter", takes "History");
    on!(post "/threads/{thread_id}/copy" threads::copy; "Copies a thread");
    on!(get "/threads/{thread_id}/stream" thread_stream::stream; "Every run of it, live",
        query &[("stream_modes", "run_modes, lifecycle"), ("last_event_id", "the id of the last event seen")], gives Stream);

    tag = "Runs";
    on!(post "/threads/{thread_id}/runs" runs::create; "Makes a run in the background", takes "Run");
    on!(post "/threads/{thread_id}/runs/stream" runs::stream; "Makes a run, and streams it", takes "Run", query FILTER, gives Stream);
    on!(post "/threads/{thread_id}/runs/wait" runs::wait; "Makes a run, and answers with what it gives", takes "Run");
    on!(get "/threads/{thread_id}/runs" runs::list; "The runs of a thread, the newest first", query LIST);
    on!(get "/threads/{thread_id}/runs/{run_id}" runs::get; "A run");
    on!(delete "/threads/{thread_id}/runs/{run_id}" runs::delete; "Deletes a run", gives Nothing);
    on!(get "/threads/{thread_id}/runs/{run_id}/join" runs::join; "What a run gives, once it is over");
    on!(get "/threads/{thread_id}/runs/{run_id}/stream" runs::join_stream; "The stream of a run, live or late", query JOIN, gives Stream);
    on!(post "/threads/{thread_id}/runs/{run_id}/cancel" runs::cancel; "Cancels a run", query CANCEL, gives Accepted);

    tag = "Stateless runs";
    on!(post "/runs" runs::create_stateless; "Makes a run on a thread of its own", takes "Run");
    on!(post "/runs/stream" runs::stream_stateless; "Makes one, and streams it", takes "Run", query FILTER, gives Stream);
    on!(post "/runs/wait" runs::wait_stateless; "Makes one, and answers with what it gives", takes "Run");
    on!(post "/runs/batch" runs::batch; "Makes many", takes "Runs");
    on!(post "/runs/cancel" runs::cancel_many; "Cancels many", takes "CancelMany",
        query &[("action", "`interrupt`, or `rollback`")], gives Nothing);
    on!(get "/runs/{run_id}/stream" runs::join_stream_stateless; "The stream of a run", query JOIN, gives Stream);

    tag = "Crons";
    on!(post "/runs/crons" crons::create_stateless; "Makes a cron: each of its runs has a thread of its own", takes "Cron");
    on!(post "/runs/crons/search" crons::search; "Finds crons", takes "CronSearch");
    on!(post "/runs/crons/count" crons::count; "Counts crons", takes "CronSearch");
    on!(get "/runs/crons/{cron_id}" crons::get; "A cron");
    on!(patch "/runs/crons/{cron_id}" crons::update; "Changes a cron", takes "CronPatch");
    on!(delete "/runs/crons/{cron_id}" crons::delete; "Deletes a cron; its runs stay", gives Nothing);
    on!(post "/threads/{thread_id}/runs/crons" crons::create; "Makes a cron on a thread", takes "Cron");

    tag = "Store";
    on!(put "/store/items" store::put; "Puts an item", takes "Item", gives Nothing);
    on!(get "/store/items" store::get; "An item; null where there is none",
        query &[("namespace", "its parts with dots between"), ("key", "its key"),
            ("refresh_ttl", "boolean: has its time begin anew, which is the default")]);
    on!(delete "/store/items" store::delete; "Deletes an item", takes "ItemKey", gives Nothing);
    on!(post "/store/items/search" store::search; "Finds items", takes "ItemSearch");
    on!(post "/store/namespaces" store::namespaces; "Lists namespaces", takes "Namespaces");

    tag = "Browsers";
    on!(get "/threads/{thread_id}/runs/{run_id}/events" browser::events; "A run for an EventSource: each event by its own kind",
        query JOIN, gives Stream);
    on!(any "/ws/threads/{thread_id}" browser::socket; "A WebSocket that takes requests for runs", gives Socket);

    tag = "System";
    on!(get "/ok" system::ok; "Whether the server works", query &[("check_db", "boolean: whether it can write, too")]);
    on!(get "/info" system::info; "What the server is");
    on!(get "/metrics" system::metrics; "How many runs there are", query &[("format", "prometheus, or json")], gives Text);
    on!(get "/openapi.json" system::openapi; "This description");
    on!(get "/docs" system::docs; "The same, to be read", gives Html);
    all
}

/// LangGraph's API over a core, and what browsers use. Serve it with [`serve`](crate::serve), or inside another router.
pub fn router(core: Core, options: Options) -> Router {
    let api = Api { core, options: Arc::new(options) };
    let mut router = Router::new();
    for endpoint in endpoints() {
        router = router.route(endpoint.path, endpoint.handler);
    }
    router
        .fallback(system::not_found)
        .method_not_allowed_fallback(system::not_allowed)
        .layer(middleware::from_fn_with_state(api.clone(), guard))
        .with_state(api)
}
