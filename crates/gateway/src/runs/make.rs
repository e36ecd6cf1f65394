//! Runs as they are made: streamed, waited for, in the background; on a thread, or on one of their own.

use http::StatusCode;
use runloom_core::{
    Attending, Error, FilterSpec, PreparedRun, Reason, RunRequest, Session, Target,
    store::{PageRequest, Run},
};
use runloom_engine::{ThreadId, Value, trace};

use super::{Asked, Feed, Place, event_filter, outcome::outcome};
use crate::{
    face::{Api, Call, Fail, Fields, Reply, json, sse, until_told, with_location},
    langgraph::records,
};

/// Makes a run.
pub(crate) async fn make(core: &Session, asked: Asked) -> Result<Run, Fail> {
    made(core, asked, |request| async move { Ok(core.create_run(request).await?.0) }).await
}

/// Makes a run part of its caller's trace.
fn traced(call: &Call, mut asked: Asked) -> Asked {
    for name in trace::HEADERS {
        if let Some(value) = call.header(name) {
            asked.request.trace.insert(name, value);
        }
    }
    asked
}

/// Makes a run whose stream or outcome is this caller's: it counts as a reader from the moment the run is there.
async fn make_to_read(core: &Session, asked: Asked) -> Result<(Run, Attending), Fail> {
    made(core, asked, |request| core.create_run_to_read(request)).await
}

/// Makes something of a run that is asked for, once its context is whole.
pub(crate) async fn made<T, F: Future<Output = Result<T, Error>>>(
    core: &Session,
    mut asked: Asked,
    make: impl Fn(RunRequest) -> F,
) -> Result<T, Fail> {
    let target = asked.request.target.clone();
    let is_named = matches!(target, Target::Assistant(_));
    let is_derived = asked.request.spec.options.context.is_null() && !asked.settings.is_empty();
    if is_derived {
        // Settings are what a context was called before there was one.
        asked.request.spec.options.context = asked.settings.clone().into();
    }
    if let (Target::Assistant(id), Value::Object(own)) = (&asked.request.target, &asked.request.spec.options.context) {
        // The run's context is laid over its assistant's.
        let assistant = core.get_assistant(*id).await?;
        if let Value::Object(under) = &assistant.context {
            let mut all = under.clone();
            own.iter().for_each(|(key, value)| all.insert(key.clone(), value.clone()));
            asked.request.spec.options.context = all.into();
        }
    }
    let plain = is_derived.then(|| asked.request.clone());
    let made = match (make(asked.request).await, plain) {
        (Err(error), Some(mut plain)) if error.reason == Reason::ContextInvalid => {
            // They were settings after all.
            plain.spec.options.context = Value::Null;
            make(plain).await
        }
        (made, _) => made,
    };
    match made {
        Err(error) if error.reason == Reason::GraphUnknown && !is_named => Err(unknown_graph(core, &target).await),
        made => made.map_err(refused),
    }
}

/// An assistant that is neither an id nor the name of a graph.
async fn unknown_graph(core: &Session, target: &Target) -> Fail {
    let name = match target {
        Target::Graph(name) => name.clone(),
        Target::Assistant(id) => id.to_string(),
    };
    let known = core.list_graphs(false, PageRequest::first(1000)).await.map(|page| page.items).unwrap_or_default();
    let known: Vec<String> = known.iter().map(|graph| graph.name.to_string()).collect();
    Fail::invalid(format!(
        "Invalid assistant: '{name}'. Must be either:\n- A valid assistant UUID, or\n- One of the registered graphs: {}",
        known.join(", ")
    ))
}

fn refused(error: Error) -> Fail {
    match error.reason {
        Reason::AssistantNotFound => Fail::not_found("Thread or assistant not found."),
        Reason::ThreadBusy => Fail::new(
            StatusCode::CONFLICT,
            "Thread is already running a task. Wait for it to finish or choose a different multitask strategy.",
        ),
        _ => error.into(),
    }
}

async fn streamed(api: Api, call: Call, thread: Option<ThreadId>) -> Reply {
    let asked = Asked::read(&call.body, thread)?;
    let filter: FilterSpec = event_filter(&call)?;
    filter.compile()?;
    let modes = asked.modes.clone();
    let (run, _until_it_reads) = make_to_read(&api.core, kept(&call, asked)?).await?;
    let feed = Feed::open(&api.core, &run, modes, Place::default(), &filter).await?;
    Ok(with_location(sse(feed, &api), run.thread, run.id, "stream"))
}

async fn waited(api: Api, call: Call, thread: Option<ThreadId>) -> Reply {
    let asked = Asked::read(&call.body, thread)?;
    let (run, attending) = make_to_read(&api.core, kept(&call, asked)?).await?;
    let (core, awaited) = (api.core.clone(), run.clone());
    let outcome = async move {
        let _attending = attending;
        outcome(&core, &awaited).await
    };
    let response = until_told(outcome, api.options.heartbeat);
    Ok(with_location(response, run.thread, run.id, "join"))
}

async fn background(api: Api, call: Call, thread: Option<ThreadId>) -> Reply {
    let asked = Asked::read(&call.body, thread)?;
    let run = make(&api.core, kept(&call, asked)?).await?;
    Ok(with_location(json(StatusCode::OK, records::run(&run)), run.thread, run.id, ""))
}

/// A stateless run that is to be kept has a thread like any other.
fn kept(call: &Call, asked: Asked) -> Result<Asked, Fail> {
    keep(call.fields()?.word("on_completion", &["delete", "keep"])? == Some("keep"), traced(call, asked))
}

fn keep(is_kept: bool, mut asked: Asked) -> Result<Asked, Fail> {
    if is_kept && asked.request.thread_id.is_none() {
        asked.request.thread_id = Some(ThreadId(uuid::Uuid::now_v7()));
        asked.request.create_thread = true;
    }
    Ok(asked)
}

pub(crate) async fn stream(api: Api, call: Call) -> Reply {
    let thread = call.thread()?;
    streamed(api, call, Some(thread)).await
}

pub(crate) async fn wait(api: Api, call: Call) -> Reply {
    let thread = call.thread()?;
    waited(api, call, Some(thread)).await
}

pub(crate) async fn create(api: Api, call: Call) -> Reply {
    let thread = call.thread()?;
    background(api, call, Some(thread)).await
}

pub(crate) async fn stream_stateless(api: Api, call: Call) -> Reply {
    streamed(api, call, None).await
}

pub(crate) async fn wait_stateless(api: Api, call: Call) -> Reply {
    waited(api, call, None).await
}

pub(crate) async fn create_stateless(api: Api, call: Call) -> Reply {
    background(api, call, None).await
}

/// Many stateless runs at once: all of them are looked at before the first is made.
pub(crate) async fn batch(api: Api, call: Call) -> Reply {
    let Some(bodies) = call.body.as_list() else {
        return Err(Fail::invalid(format!("the body must be a list of runs, not {}", call.body.kind())));
    };
    if bodies.is_empty() || bodies.len() > 1000 {
        return Err(Fail::invalid("a batch has 1 to 1000 runs"));
    }
    let mut all = Vec::with_capacity(bodies.len());
    for (i, body) in bodies.iter().enumerate() {
        let prepared = prepared(&api, &call, body).await;
        all.push(prepared.map_err(|fail| Fail { detail: format!("[{i}]: {}", fail.detail), ..fail })?);
    }
    // What may fail now is the store, and then it fails for all that come after.
    let mut made = Vec::with_capacity(all.len());
    for run in all {
        made.push(Value::Object(records::run(&api.core.create_prepared_run(run).await?)));
    }
    Ok(json(StatusCode::OK, made))
}

async fn prepared(api: &Api, call: &Call, body: &Value) -> Result<PreparedRun, Fail> {
    let asked = traced(call, Asked::read(body, None)?);
    let is_kept = Fields::of(body)?.word("on_completion", &["delete", "keep"])? == Some("keep");
    made(&api.core, keep(is_kept, asked)?, |request| api.core.prepare_run(request)).await
}
