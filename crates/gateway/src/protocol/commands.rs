//! The protocol's commands: an envelope in, a result or an error in the envelope out.

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use runloom_core::store::{PageRequest, Run, RunFilter, RunStatus};
use runloom_engine::{Object, RunId, ThreadId, Value};

use super::{inputs, states, subscription::Subscription, tree};
use crate::{
    face::{Api, Call, Fail, Fields, json},
    runs::{Asked, TOOL_KINDS, make},
};

/// Why a command failed: a code of the protocol, and a text.
#[derive(Debug)]
pub(super) struct Refused {
    pub code: &'static str,
    pub message: String,
}

impl Refused {
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub fn no_run() -> Self {
        Self::new("no_such_run", "No active run is bound to this thread.")
    }
}

impl From<Fail> for Refused {
    fn from(fail: Fail) -> Self {
        Self::new("unknown_error", format!("{}: {}", fail.status.as_u16(), fail.detail))
    }
}

impl From<runloom_core::Error> for Refused {
    fn from(error: runloom_core::Error) -> Self {
        Fail::from(error).into()
    }
}

/// What a command gives.
pub(super) type Answer = Result<Object, Refused>;

/// A command that has an id and a method.
pub(super) struct Command<'a> {
    pub id: i64,
    pub method: &'a str,
    pub params: Fields<'a>,
    /// The parameters as they came.
    pub given: &'a Value,
}

static NO_PARAMS: Value = Value::Null;

impl<'a> Command<'a> {
    /// Reads an envelope; the error is the answer to one that is none.
    pub fn read(envelope: &'a Value) -> Result<Self, Object> {
        let id = envelope.get("id");
        match (id.and_then(Value::as_i64), envelope.get_str("method")) {
            (Some(number), Some(method)) => {
                let given = envelope.get("params").filter(|p| p.as_object().is_some()).unwrap_or(&NO_PARAMS);
                let params = Fields::of(given).map_err(|fail| failed(id.cloned(), &fail.into()))?;
                Ok(Self { id: number, method, params, given })
            }
            _ => {
                let what = "Protocol commands must include an integer id and string method.";
                Err(failed(id.cloned(), &Refused::new("invalid_argument", what)))
            }
        }
    }

    /// The answer to a command. `seq` is the last event that its connection has sent.
    pub fn answer(&self, answer: Answer, seq: u64) -> Object {
        match answer {
            Err(refused) => failed(Some(self.id.into()), &refused),
            Ok(result) => object! {
                "type" => "success",
                "id" => self.id,
                "result" => result,
                "meta" => object! { "applied_through_seq" => seq },
            },
        }
    }
}

fn failed(id: Option<Value>, refused: &Refused) -> Object {
    object! {
        "type" => "error",
        "id" => id.unwrap_or_default(),
        "error" => refused.code,
        "message" => refused.message.as_str(),
    }
}

/// `POST /threads/{thread_id}/commands`. A command that fails is answered with 200 and an error in the envelope; only an
/// envelope that is none is a bad request.
pub(crate) async fn post(api: Api, call: Result<Call, Fail>) -> Response {
    let call = match call {
        Ok(call) => call,
        Err(fail) if fail.status == StatusCode::UNPROCESSABLE_ENTITY => {
            return Fail::new(StatusCode::BAD_REQUEST, "Invalid JSON body").into_response();
        }
        Err(fail) => return fail.into_response(),
    };
    let command = match Command::read(&call.body) {
        Ok(command) => command,
        Err(answer) => return json(StatusCode::BAD_REQUEST, answer),
    };
    let answer = match call.thread() {
        Ok(thread) => execute(&api, thread, &command).await,
        Err(_) => Err(Refused::new("unknown_error", "422: Invalid thread ID")),
    };
    json(StatusCode::OK, command.answer(answer, 0))
}

/// Executes a command. Subscriptions are the connection's: over HTTP there is none to keep them.
pub(super) async fn execute(api: &Api, thread: ThreadId, command: &Command<'_>) -> Answer {
    let params = &command.params;
    match command.method {
        "run.start" => start(api, thread, params).await,
        "input.respond" => inputs::respond(api, thread, params).await,
        "input.inject" => inputs::inject(api, thread, params).await,
        "state.get" => states::get(api, thread, params).await,
        "state.listCheckpoints" => states::list(api, thread, params).await,
        "state.fork" => states::fork(api, thread, params).await,
        "agent.getTree" => tree::get(api, thread, params).await,
        "subscription.subscribe" => {
            Subscription::read(command.given).map_err(|fail| Refused::new("invalid_argument", fail.detail))?;
            let id = uuid::Uuid::new_v4().to_string();
            Ok(object! { "subscription_id" => id, "replayed_events" => 0u64 })
        }
        "subscription.unsubscribe" => Err(unknown_subscription(params)),
        "subscription.reconnect" => Err(Refused::no_run()),
        other => Err(Refused::new("unknown_command", format!("Unknown protocol command: {other}"))),
    }
}

pub(super) fn unknown_subscription(params: &Fields<'_>) -> Refused {
    let id = params.text("subscription_id").ok().flatten().unwrap_or_default();
    Refused::new("no_such_subscription", format!("Unknown subscription: {id}"))
}

async fn start(api: &Api, thread: ThreadId, params: &Fields<'_>) -> Answer {
    let Some(assistant) = params.text("assistant_id")? else {
        return Err(Refused::new("invalid_argument", "run.start requires an assistant_id."));
    };
    let mut body = object! { "assistant_id" => assistant };
    let input = params.value("input").cloned().unwrap_or_default();
    let forks = names_checkpoint(params)?;
    // On a thread that waits for an answer, the input is the answer.
    let is_answer = !input.is_null() && !forks && inputs::is_waiting(api, thread).await?;
    if is_answer {
        body.insert("command", object! { "resume" => input });
    } else {
        body.insert("input", input);
    }
    for key in ["config", "metadata", "context"] {
        copy(params, key, key, &mut body);
    }
    for key in ["multitask_strategy", "multitaskStrategy"] {
        copy(params, key, "multitask_strategy", &mut body);
    }
    let run = begin(api, thread, body).await?;
    Ok(object! { "run_id" => run.id.to_string() })
}

pub(super) fn copy(params: &Fields<'_>, from: &str, to: &'static str, body: &mut Object) {
    if let Some(value) = params.value(from) {
        body.insert(to, value.clone());
    }
}

fn names_checkpoint(params: &Fields<'_>) -> Result<bool, Fail> {
    let configurable = params.value("config").and_then(|c| c.get("configurable"));
    Ok(configurable.and_then(|c| c.get_str("checkpoint_id")).is_some())
}

/// Creates a run that records all that the protocol streams. Of events those of tools suffice: the rest is in other modes.
pub(super) async fn begin(api: &Api, thread: ThreadId, mut body: Object) -> Result<Run, Refused> {
    let texts = |all: &[&str]| Value::from(all.iter().map(|t| Value::from(*t)).collect::<Vec<_>>());
    let modes = ["values", "updates", "messages-tuple", "custom", "tasks", "checkpoints", "events"];
    body.insert("stream_mode", texts(&modes));
    body.insert("event_filter", object! { "include" => object! { "kinds" => texts(&TOOL_KINDS) } });
    body.insert("stream_subgraphs", true);
    body.insert("if_not_exists", "create");
    Ok(make(&api.core, Asked::read(&Value::Object(body), Some(thread))?).await?)
}

/// The latest run of a thread, or that of an id.
pub(super) async fn run_of(api: &Api, thread: ThreadId, id: Option<RunId>) -> Result<Run, Refused> {
    if let Some(id) = id {
        let found = crate::runs::find(api, thread, id).await;
        return found.map_err(|_| Refused::new("no_such_run", format!("There is no run {id} on this thread.")));
    }
    let filter = RunFilter { thread: Some(thread), ..RunFilter::default() };
    let mut page = api.core.list_runs(filter, PageRequest::first(1)).await?;
    page.items.pop().ok_or_else(Refused::no_run)
}

/// The run of a thread that is under way or waits for its turn.
pub(super) async fn active(api: &Api, thread: ThreadId) -> Result<Option<Run>, Refused> {
    let status = vec![RunStatus::Running];
    let filter = RunFilter { thread: Some(thread), status, ..RunFilter::default() };
    Ok(api.core.list_runs(filter, PageRequest::first(1)).await?.items.pop())
}
