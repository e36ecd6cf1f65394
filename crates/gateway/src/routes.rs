//! Every endpoint in one table: what it is called, what it takes and gives, and what answers it. The router and the
//! description of the API are made of it.

use std::sync::Arc;

use axum::{
    Router, middleware,
    routing::{MethodRouter, any, delete, get, patch, post, put},
};
use runloom_core::Core;
use runloom_net::BodyDeadlineLayer;
use tokio::sync::Semaphore;

use crate::{
    Options, assistants, browser, crons,
    face::{Needs, Shared, admit, guard, squeeze},
    langgraph::records,
    protocol, runs,
    scopes::scope,
    states, storage, store, system, thread_stream, threads,
};

/// An endpoint.
pub(crate) struct Endpoint {
    pub method: &'static str,
    pub path: &'static str,
    pub tag: &'static str,
    pub about: &'static str,
    /// The name of what its body is; empty for none.
    pub takes: &'static str,
    /// Its query parameters.
    pub query: Query,
    pub gives: Gives,
    handler: MethodRouter<Shared>,
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

/// A query parameter: its name, what it has to be, and what it is for.
type Param = (&'static str, Is, &'static str);
type Query = &'static [Param];

/// What a query parameter has to be.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Is {
    Text,
    /// A text of this pattern.
    Like(&'static str),
    Flag,
    /// The id of something.
    Id,
    /// An integer within bounds.
    Number(u64, u64),
    /// One of these.
    Word(&'static [&'static str]),
    /// Any of these: with commas between, or repeated.
    Words(&'static [&'static str]),
}

/// The stream modes.
pub(crate) const MODES: &[&str] = &[
    "values",
    "updates",
    "messages",
    "messages-tuple",
    "custom",
    "tasks",
    "checkpoints",
    "debug",
    "events",
    "tools",
    "lifecycle",
];
/// The kinds of events.
const KINDS: &[&str] = &[
    "on_chain_start",
    "on_chain_stream",
    "on_chain_end",
    "on_chain_error",
    "on_chat_model_start",
    "on_chat_model_stream",
    "on_chat_model_end",
    "on_tool_start",
    "on_tool_end",
    "on_tool_error",
    "on_retriever_start",
    "on_retriever_end",
    "on_custom_event",
];
/// The states of a run.
pub(crate) const RUN_STATUSES: &[&str] = &["pending", "running", "success", "error", "timeout", "interrupted"];
/// What a cancel does.
pub(crate) const CANCELS: &[&str] = &["interrupt", "rollback"];
/// The most items of a page.
pub(crate) const MOST: u64 = 1000;

const NONE: Query = &[];
const FILTER: [Param; 11] = [
    ("kind", Is::Words(KINDS), "only events of these kinds; more than one with commas, or repeated"),
    ("name", Is::Text, "only of these names; `*` stands for anything"),
    ("node", Is::Text, "only of these nodes"),
    ("tag", Is::Text, "only with these tags"),
    ("namespace", Is::Text, "only of these subgraphs"),
    ("exclude_kind", Is::Words(KINDS), "no events of these kinds"),
    ("exclude_name", Is::Text, "none of these names"),
    ("exclude_node", Is::Text, "none of these nodes"),
    ("exclude_tag", Is::Text, "none with these tags"),
    ("exclude_namespace", Is::Text, "none of these subgraphs"),
    ("skip_empty_chunks", Is::Flag, "leaves out pieces of messages that carry nothing"),
];
const JOIN: Query = &{
    let mut all = [("", Is::Text, ""); 14];
    all[0] = ("stream_mode", Is::Words(MODES), "of the run's modes, those wanted");
    all[1] = ("last_event_id", Is::Text, "the id of the last event seen; the header `Last-Event-ID` stands above it");
    all[2] = ("cancel_on_disconnect", Is::Flag, "cancels the run when this reader leaves");
    let mut at = 0;
    while at < FILTER.len() {
        all[3 + at] = FILTER[at];
        at += 1;
    }
    all
};
const CANCEL: Query = &[
    ("wait", Is::Flag, "answers when the run is over"),
    ("action", Is::Word(CANCELS), "`rollback` takes back what it did"),
];
const LIST: Query = &[
    ("limit", Is::Number(1, MOST), "at most so many"),
    ("offset", Is::Number(0, i64::MAX as u64), "leaves out so many first"),
    ("status", Is::Word(RUN_STATUSES), "only in this state"),
    ("select", Is::Words(records::RUN_FIELDS), "only these fields of each"),
    ("metadata", Is::Text, "only those whose metadata has this JSON object in it"),
];
const SUBGRAPHS: Query = &[("subgraphs", Is::Flag, "looks into the subgraphs too")];

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
    on!(delete "/assistants/{assistant_id}" assistants::delete; "Deletes an assistant",
        query &[("delete_threads", Is::Flag, "and the threads whose last run was its")], gives Nothing);
    on!(get "/assistants/{assistant_id}/graph" assistants::graph; "Its graph, as nodes and edges",
        query &[("xray", Is::Like("^(true|false|[0-9]{1,3})$"), "true, or how many levels of subgraphs to draw")]);
    on!(get "/assistants/{assistant_id}/schemas" assistants::schemas; "What its graph takes and gives");
    on!(get "/assistants/{assistant_id}/subgraphs" assistants::subgraphs; "What the graphs inside take and give",
        query &[("recurse", Is::Flag, "of all levels")]);
    on!(get "/assistants/{assistant_id}/subgraphs/{namespace}" assistants::subgraphs; "The same, of one node");
    on!(post "/assistants/{assistant_id}/versions" assistants::versions; "Its versions, the newest first", takes "Versions");
    on!(post "/assistants/{assistant_id}/latest" assistants::set_latest; "Makes a version the latest", takes "Latest");

    tag = "Threads";
    on!(post "/threads" threads::create; "Makes a thread", takes "Thread");
    on!(post "/threads/search" threads::search; "Finds threads", takes "ThreadSearch");
    on!(post "/threads/count" threads::count; "Counts threads", takes "ThreadSearch");
    on!(post "/threads/prune" threads::prune; "Deletes threads, or their old checkpoints", takes "Prune");
    on!(get "/threads/{thread_id}" threads::get; "A thread", query &[("include", Is::Words(&["ttl"]), "ttl: when it goes, too")]);
    on!(patch "/threads/{thread_id}" threads::update; "Merges into a thread's metadata", takes "ThreadPatch");
    on!(delete "/threads/{thread_id}" threads::delete; "Deletes a thread with its runs", gives Nothing);
    on!(get "/threads/{thread_id}/state" states::latest; "Its state", query SUBGRAPHS);
    on!(post "/threads/{thread_id}/state" states::update; "Writes to its state", takes "StateUpdate");
    on!(get "/threads/{thread_id}/state/{checkpoint_id}" states::at; "Its state at a checkpoint", query SUBGRAPHS);
    on!(post "/threads/{thread_id}/state/checkpoint" states::at_place; "Its state at a checkpoint", takes "StateQuery");
    on!(get "/threads/{thread_id}/history" states::history; "Its checkpoints, the newest first",
        query &[("limit", Is::Number(1, MOST), "at most so many"), ("before", Is::Id, "those before this checkpoint")]);
    on!(post "/threads/{thread_id}/history" states::search_history; "Its checkpoints, by filter", takes "History");
    on!(post "/threads/{thread_id}/copy" threads::copy; "Copies a thread");
    on!(get "/threads/{thread_id}/storage" storage::storage; "How much it stores");
    on!(get "/threads/{thread_id}/stream" thread_stream::stream; "Every run of it, live",
        query &[
            ("stream_modes", Is::Words(&["run_modes", "lifecycle", "state_update"]), "what is told; `run_modes` where left out"),
            ("last_event_id", Is::Text, "the id of the last event seen")], gives Stream);

    on!(post "/threads/{thread_id}/commands" protocol::commands; "A command of the event protocol", takes "Command");
    on!(post "/threads/{thread_id}/stream/events" protocol::stream; "The events of all runs of a thread, numbered",
        takes "Subscription", gives Stream);
    on!(get "/threads/{thread_id}/stream/events" protocol::socket; "The same, and commands, over a WebSocket", gives Socket);

    tag = "Runs";
    on!(post "/threads/{thread_id}/runs" runs::create; "Makes a run in the background", takes "Run");
    on!(post "/threads/{thread_id}/runs/stream" runs::stream; "Makes a run, and streams it", takes "Run", query &FILTER, gives Stream);
    on!(post "/threads/{thread_id}/runs/wait" runs::wait; "Makes a run, and answers with what it gives", takes "Run");
    on!(get "/threads/{thread_id}/runs" runs::list; "The runs of a thread, the newest first", query LIST);
    on!(get "/threads/{thread_id}/runs/{run_id}" runs::get; "A run");
    on!(delete "/threads/{thread_id}/runs/{run_id}" runs::delete; "Deletes a run", gives Nothing);
    on!(get "/threads/{thread_id}/runs/{run_id}/join" runs::join; "What a run gives, once it is over");
    on!(get "/threads/{thread_id}/runs/{run_id}/stream" runs::join_stream; "The stream of a run, live or late", query JOIN, gives Stream);
    on!(post "/threads/{thread_id}/runs/{run_id}/cancel" runs::cancel; "Cancels a run", query CANCEL, gives Accepted);

    tag = "Stateless runs";
    on!(post "/runs" runs::create_stateless; "Makes a run on a thread of its own", takes "Run");
    on!(post "/runs/stream" runs::stream_stateless; "Makes one, and streams it", takes "Run", query &FILTER, gives Stream);
    on!(post "/runs/wait" runs::wait_stateless; "Makes one, and answers with what it gives", takes "Run");
    on!(post "/runs/batch" runs::batch; "Makes many", takes "Runs");
    on!(post "/runs/cancel" runs::cancel_many; "Cancels many", takes "CancelMany",
        query &[("action", Is::Word(CANCELS), "`rollback` takes back what they did")], gives Nothing);
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
        query &[("namespace", Is::Like("^[^.]+([.][^.]+)*$"), "its parts with dots between"), ("key", Is::Like("^.+$"), "its key"),
            ("refresh_ttl", Is::Flag, "has its time begin anew, which is the default")]);
    on!(delete "/store/items" store::delete; "Deletes an item", takes "ItemKey", gives Nothing);
    on!(post "/store/items/search" store::search; "Finds items", takes "ItemSearch");
    on!(post "/store/namespaces" store::namespaces; "Lists namespaces", takes "Namespaces");

    tag = "Browsers";
    on!(get "/threads/{thread_id}/runs/{run_id}/events" browser::events; "A run for an EventSource: each event by its own kind",
        query JOIN, gives Stream);
    on!(any "/ws/threads/{thread_id}" browser::socket; "A WebSocket that takes requests for runs", gives Socket);

    tag = "System";
    on!(get "/" system::root; "Where to go from here");
    on!(get "/ok" system::ok; "Whether the server works", query &[("check_db", Is::Flag, "whether it can write, too")]);
    on!(get "/info" system::info; "What the server is");
    on!(get "/metrics" system::metrics; "How the server does", query &[("format", Is::Word(&["prometheus", "json"]), "`prometheus` where left out")], gives Text);
    on!(get "/openapi.json" system::openapi; "This description");
    on!(get "/docs" system::docs; "The same, to be read", gives Html);
    all
}

/// LangGraph's API over a core, and what browsers use. Serve it with [`serve`](crate::serve), or inside another router.
pub fn router(core: Core, options: Options) -> Router {
    let room = Arc::new(Semaphore::new(options.compressed_streams.min(Semaphore::MAX_PERMITS)));
    let deadline = BodyDeadlineLayer::new("http", options.body_timeout);
    let auth = options.auth.clone();
    let shared = Shared { core, options: Arc::new(options) };
    let mut router = Router::new();
    for endpoint in endpoints() {
        let handler = match (&auth, scope(&endpoint)) {
            (Some(auth), Some(scope)) => {
                let needs = Needs { auth: auth.clone(), core: shared.core.clone(), route: endpoint.path, scope };
                let admit = middleware::from_fn_with_state(needs, admit);
                match endpoint.method {
                    // Its handler is the fallback of all methods.
                    "any" => endpoint.handler.layer(admit),
                    _ => endpoint.handler.route_layer(admit),
                }
            }
            _ => endpoint.handler,
        };
        router = router.route(endpoint.path, handler);
    }
    router
        .fallback(system::not_found)
        .method_not_allowed_fallback(system::not_allowed)
        .layer(middleware::from_fn_with_state(room, squeeze))
        .layer(middleware::from_fn_with_state(shared.options.clone(), guard))
        .layer(deadline)
        .with_state(shared)
}
