//! A WebSocket on a thread: takes requests for runs, one after the other, and tells `{type, name, data}` for each event.

use std::{collections::VecDeque, time::Duration};

use axum::{
    extract::{
        FromRequestParts, Request, WebSocketUpgrade,
        ws::{CloseFrame, Message, WebSocket},
    },
    response::{IntoResponse, Response},
};
use futures_util::StreamExt;
use http::StatusCode;
use runloom_core::{FilterSpec, Reason, RunSpec, store::CancelAction};
use runloom_engine::{Object, RunId, ThreadId, Value};

use super::Kinded;
use crate::{
    face::{Api, Fail, Fields, is_allowed, text, uuid},
    langgraph::{StreamMode, error_object, records},
    runs::{Asked, Feed, Place, find, make},
};

/// How many requests may wait for the one before.
const WAITING: usize = 16;
/// How long a client may take to take what is sent.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn socket(api: Api, request: Request) -> Response {
    open(api, request).await.unwrap_or_else(IntoResponse::into_response)
}

async fn open(api: Api, request: Request) -> Result<Response, Fail> {
    let (mut parts, _) = request.into_parts();
    // Browsers let any page open one: who may is asked here.
    if !is_allowed(&api.options, &parts.headers) {
        return Err(Fail::new(StatusCode::FORBIDDEN, "pages of this origin may not use this server"));
    }
    let id = parts.uri.path().rsplit('/').next().unwrap_or_default();
    let thread = ThreadId(uuid(id, "thread ID")?);
    crate::threads::find(&api, thread).await?;
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &api)
        .await
        .map_err(|e| Fail::new(StatusCode::UPGRADE_REQUIRED, format!("this is a WebSocket: {}", e.body_text())))?;
    let most = api.options.max_body_bytes;
    Ok(upgrade.max_message_size(most).on_upgrade(move |socket| async move {
        Talk { api, thread, socket, waiting: VecDeque::new() }.run().await;
    }))
}

struct Talk {
    api: Api,
    thread: ThreadId,
    socket: WebSocket,
    waiting: VecDeque<Value>,
}

/// The other end has gone.
struct Gone;

impl Talk {
    async fn run(mut self) {
        let draining = self.api.core.draining().clone();
        while !draining.is_cancelled() {
            let request = match self.waiting.pop_front() {
                Some(request) => Ok(request),
                None => tokio::select! {
                    () = draining.cancelled() => break,
                    request = self.next() => request,
                },
            };
            let Ok(request) = request else { return };
            match begin(&self.api, self.thread, &request).await {
                Ok((feed, run)) => {
                    if self.tell(feed, run).await.is_err() {
                        return;
                    }
                }
                Err(fail) => {
                    let data = object! { "error" => fail.status.canonical_reason().unwrap_or_default(), "message" => fail.detail };
                    if self.send("error", "", data.into(), None).await.is_err() {
                        return;
                    }
                }
            }
        }
        self.close(1012, "the server is going down; come back").await;
    }

    /// The next request. Says from time to time that this end is there.
    async fn next(&mut self) -> Result<Value, Gone> {
        loop {
            match tokio::time::timeout(self.api.options.heartbeat, self.socket.recv()).await {
                Err(_) => self.put(Message::Ping(Default::default())).await?,
                Ok(message) => {
                    if let Some(request) = self.read(message).await? {
                        return Ok(request);
                    }
                }
            }
        }
    }

    /// A message as a request; none where it is something else.
    async fn read(&mut self, message: Option<Result<Message, axum::Error>>) -> Result<Option<Value>, Gone> {
        let read = match &message {
            None | Some(Ok(Message::Close(_))) => return Err(Gone),
            Some(Err(error)) => {
                self.close(code_of(error), &error.to_string()).await;
                return Err(Gone);
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => return Ok(None),
            Some(Ok(Message::Text(text))) => Value::parse(text).map_err(|error| format!("not JSON: {error}")),
            Some(Ok(Message::Binary(bytes))) => match std::str::from_utf8(bytes) {
                Ok(text) => Value::parse(text).map_err(|error| format!("not JSON: {error}")),
                Err(_) => Err("not JSON: it is not UTF-8".to_owned()),
            },
        };
        match read {
            Ok(request) => Ok(Some(request)),
            Err(message) => {
                let data = object! { "error" => "Unprocessable Entity", "message" => message };
                self.send("error", "", data.into(), None).await?;
                Ok(None)
            }
        }
    }

    /// Says why this end closes the connection, as far as that can still be said.
    async fn close(&mut self, code: u16, reason: &str) {
        // A close frame holds 123 bytes of reason.
        let reason: String = reason.chars().take(60).collect();
        let frame = CloseFrame { code, reason: reason.into() };
        let _ = tokio::time::timeout(PATIENCE, self.socket.send(Message::Close(Some(frame)))).await;
    }

    /// Tells a run to its end. Requests that come meanwhile wait; a cancel does not.
    async fn tell(&mut self, mut feed: Feed, run: RunId) -> Result<(), Gone> {
        loop {
            tokio::select! {
                told = feed.next() => match told {
                    None => return Ok(()),
                    Some(Ok(told)) => {
                        let Kinded { kind, name, data, id } = told.into();
                        self.send(&kind, &name, data, Some(id)).await?;
                    }
                    Some(Err(error)) if error.reason == Reason::ServerDraining => return Ok(()),
                    Some(Err(error)) => {
                        self.send("error", "", error_object(&error), None).await?;
                        return self.send("end", "", Value::Null, None).await;
                    }
                },
                message = self.socket.recv() => {
                    let Some(request) = self.read(message).await? else { continue };
                    if request.get_str("type") == Some("cancel") {
                        let by = "GET /ws/threads/{thread_id}".into();
                        if let Err(error) = self.api.core.cancel_run(run, CancelAction::Interrupt, by, false).await {
                            tracing::debug!(%run, %error, "not cancelled");
                        }
                    } else if self.waiting.len() < WAITING {
                        self.waiting.push_back(request);
                    } else {
                        let message = format!("{WAITING} requests wait already; send it again later");
                        let data: Object = object! { "error" => "Too Many Requests", "message" => message };
                        self.send("error", "", data.into(), None).await?;
                    }
                },
                () = tokio::time::sleep(self.api.options.heartbeat) => self.put(Message::Ping(Default::default())).await?,
            }
        }
    }

    async fn send(&mut self, kind: &str, name: &str, data: Value, id: Option<String>) -> Result<(), Gone> {
        let mut o = object! { "type" => kind, "name" => name, "data" => data };
        if let Some(id) = id {
            o.insert("id", id);
        }
        let text = String::from_utf8(text(&Value::Object(o))).unwrap_or_default();
        self.put(Message::Text(text.into())).await
    }

    async fn put(&mut self, message: Message) -> Result<(), Gone> {
        match tokio::time::timeout(PATIENCE, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Gone),
        }
    }
}

/// The code of a breach of the protocol: too large, no UTF-8, or another.
fn code_of(error: &axum::Error) -> u16 {
    // The kind of the error is that of a library's that is not ours to name: its words have to do.
    let text = error.to_string().to_ascii_lowercase();
    match text {
        text if text.contains("too long") || text.contains("too big") || text.contains("space limit") => 1009,
        text if text.contains("utf-8") => 1007,
        _ => 1002,
    }
}

/// Makes the run that is asked for, or joins the one that is named.
async fn begin(api: &Api, thread: ThreadId, request: &Value) -> Result<(Feed, RunId), Fail> {
    let fields = Fields::of(request)?;
    if fields.text("type")? == Some("cancel") {
        return Err(Fail::new(StatusCode::CONFLICT, "no run is under way here"));
    }
    if let (Some(id), false) = (fields.uuid("run_id", "run ID")?, fields.has("assistant_id")) {
        let run = find(api, thread, RunId(id)).await?;
        let place = Place::read(fields.text("last_event_id")?)?;
        let modes = records::modes(&RunSpec::of(&run));
        let feed = Feed::open(&api.core, &run, modes, place, &FilterSpec::default()).await?;
        return Ok((feed, run.id));
    }
    let mut body = request.as_object().cloned().unwrap_or_default();
    if fields.value("stream_mode").is_none() {
        body.insert("stream_mode", StreamMode::Events.name());
    }
    let asked = Asked::read(&Value::Object(body), Some(thread))?;
    let modes = asked.modes.clone();
    let run = make(&api.core, asked).await?;
    let feed = Feed::open(&api.core, &run, modes, Place::default(), &FilterSpec::default()).await?;
    Ok((feed, run.id))
}
