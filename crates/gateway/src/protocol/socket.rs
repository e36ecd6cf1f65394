//! The protocol over a WebSocket: commands in, answers and events out, with as many subscriptions as the client likes.

use std::time::Duration;

use axum::{
    extract::{
        FromRequestParts, Request, WebSocketUpgrade,
        ws::{CloseFrame, Message, WebSocket},
    },
    response::{IntoResponse, Response},
};
use http::StatusCode;
use runloom_core::Error;
use runloom_engine::{Object, ThreadId, Value};

use super::{
    commands::{Answer, Command, Refused, execute, run_of, unknown_subscription},
    event::Numbered,
    log::ThreadLog,
    subscription::Subscription,
};
use crate::face::{Api, Fail, is_allowed, text, uuid};

/// How long a client may take to accept what is sent.
const SEND_TIMEOUT: Duration = Duration::from_secs(60);
/// How many subscriptions a connection may have.
const SUBSCRIPTIONS: usize = 64;

/// `GET /threads/{thread_id}/stream/events`, upgraded to a WebSocket.
pub(crate) async fn socket(api: Api, request: Request) -> Response {
    open(api, request).await.unwrap_or_else(IntoResponse::into_response)
}

async fn open(api: Api, request: Request) -> Result<Response, Fail> {
    let (mut parts, _) = request.into_parts();
    let not_allowed = || Fail::new(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    if !parts.headers.contains_key(http::header::UPGRADE) {
        return Err(not_allowed());
    }
    // Browsers let any page open one: who may is checked here.
    if !is_allowed(&api.options, &parts.headers) {
        return Err(Fail::new(StatusCode::FORBIDDEN, "pages of this origin may not use this server"));
    }
    let id = parts.uri.path().split('/').nth(2).unwrap_or_default();
    let thread = ThreadId(uuid(id, "thread ID")?);
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &api)
        .await
        .map_err(|e| Fail::new(StatusCode::UPGRADE_REQUIRED, format!("this is a WebSocket: {}", e.body_text())))?;
    let most = api.options.max_body_bytes;
    Ok(upgrade.max_message_size(most).on_upgrade(move |socket| async move {
        let connection = Connection { api, thread, socket, subscriptions: Vec::new(), log: None, seq: 0 };
        connection.run().await;
    }))
}

struct Connection {
    api: Api,
    thread: ThreadId,
    socket: WebSocket,
    subscriptions: Vec<(String, Subscription)>,
    /// Opened by the first subscription.
    log: Option<ThreadLog>,
    /// The last event that was read: what comes later is not sent yet.
    seq: u64,
}

/// The other end is gone, or this connection has been closed.
struct Closed;

enum Next {
    Event(Option<Result<Numbered, Error>>),
    Message(Option<Result<Message, axum::Error>>),
    Silence,
    Draining,
    Aged,
}

impl Connection {
    async fn run(mut self) {
        let draining = self.api.core.draining().clone();
        let mut closing = std::pin::pin!(self.api.connection.closing());
        loop {
            let next = tokio::select! {
                next = next_event(&mut self.log) => Next::Event(next),
                message = self.socket.recv() => Next::Message(message),
                () = tokio::time::sleep(self.api.options.heartbeat) => Next::Silence,
                () = draining.cancelled() => Next::Draining,
                () = closing.as_mut() => Next::Aged,
            };
            let done = match next {
                Next::Event(Some(Ok(event))) => self.deliver(&event).await,
                Next::Event(Some(Err(error))) => self.close(1012, &error.message).await,
                Next::Event(None) => self.close(1000, "the thread was deleted").await,
                Next::Message(message) => self.receive(message).await,
                Next::Silence => self.put(Message::Ping(Default::default())).await,
                Next::Aged => self.close(1012, "the connection is old enough; connect again").await,
                Next::Draining => self.close(1012, "the server is going down; connect again").await,
            };
            if done.is_err() {
                return;
            }
        }
    }

    /// Sends an event once, however many subscriptions want it.
    async fn deliver(&mut self, next: &Numbered) -> Result<(), Closed> {
        self.seq = next.seq;
        if self.subscriptions.iter().any(|(_, s)| s.wants(next)) {
            return self.send(next.to_value()).await;
        }
        Ok(())
    }

    async fn receive(&mut self, message: Option<Result<Message, axum::Error>>) -> Result<(), Closed> {
        let text = match &message {
            None | Some(Ok(Message::Close(_)) | Err(_)) => return Err(Closed),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => return Ok(()),
            Some(Ok(Message::Text(text))) => text.as_str(),
            Some(Ok(Message::Binary(bytes))) => std::str::from_utf8(bytes).unwrap_or_default(),
        };
        let envelope = Value::parse(text).unwrap_or_default();
        match Command::read(&envelope) {
            Err(answer) => self.send(answer.into()).await,
            Ok(command) => self.answer(&command).await,
        }
    }

    async fn answer(&mut self, command: &Command<'_>) -> Result<(), Closed> {
        let mut replay = Vec::new();
        let answer = match command.method {
            "subscription.subscribe" => self.subscribe(command, &mut replay).await,
            "subscription.unsubscribe" => self.unsubscribe(command),
            "subscription.reconnect" => self.reconnect(command).await,
            _ => execute(&self.api, self.thread, command).await,
        };
        self.send(command.answer(answer, self.seq).into()).await?;
        for event in replay {
            self.send(event).await?;
        }
        Ok(())
    }

    /// Adds a subscription. The first one receives the thread from its beginning, or from `since`; a later one first what the
    /// connection is past and no other subscription has received.
    async fn subscribe(&mut self, command: &Command<'_>, replay: &mut Vec<Value>) -> Answer {
        let subscription =
            Subscription::read(command.given).map_err(|fail| Refused::new("invalid_argument", fail.detail))?;
        if self.subscriptions.len() >= SUBSCRIPTIONS {
            let what = format!("a connection has at most {SUBSCRIPTIONS} subscriptions; unsubscribe from one");
            return Err(Refused::new("invalid_argument", what));
        }
        let since = command.params.number("since", 0..=u64::MAX).ok().flatten().unwrap_or_default();
        match self.log {
            None => {
                self.seq = since;
                self.log = Some(ThreadLog::open(&self.api.core, self.thread, since).await?);
            }
            Some(_) if since < self.seq => {
                let mut past = ThreadLog::open(&self.api.core, self.thread, since).await?;
                let mut at = since;
                while at < self.seq
                    && let Some(next) = past.next().await
                {
                    let next = next?;
                    at = next.seq;
                    let is_new = !self.subscriptions.iter().any(|(_, s)| s.wants(&next));
                    if at <= self.seq && is_new && subscription.wants(&next) {
                        replay.push(next.to_value());
                    }
                }
            }
            Some(_) => {}
        }
        let id = uuid::Uuid::new_v4().to_string();
        self.subscriptions.push((id.clone(), subscription));
        Ok(object! { "subscription_id" => id, "replayed_events" => replay.len() as u64 })
    }

    fn unsubscribe(&mut self, command: &Command<'_>) -> Answer {
        let id = command.params.text("subscription_id")?;
        let before = self.subscriptions.len();
        self.subscriptions.retain(|(known, _)| Some(known.as_str()) != id);
        if self.subscriptions.len() == before {
            return Err(unknown_subscription(&command.params));
        }
        Ok(Object::default())
    }

    /// Goes on after an event that the client names by its `seq`. Subscriptions end with their connection, so those of an
    /// earlier one are not restored.
    async fn reconnect(&mut self, command: &Command<'_>) -> Answer {
        let params = &command.params;
        let run = params.uuid("run_id", "run ID")?.map(runloom_engine::RunId);
        run_of(&self.api, self.thread, run).await?;
        let known = |id: &String| self.subscriptions.iter().any(|(known, _)| known == id);
        let restored = params.texts("subscriptions")?.unwrap_or_default().iter().all(known);
        if let Some(since) = params.text("last_event_id")?.and_then(|id| id.parse().ok()) {
            self.log = Some(ThreadLog::open(&self.api.core, self.thread, since).await?);
            self.seq = since;
        }
        Ok(object! { "restored" => restored })
    }

    async fn send(&mut self, value: Value) -> Result<(), Closed> {
        let text = String::from_utf8(text(&value)).unwrap_or_default();
        self.put(Message::Text(text.into())).await
    }

    async fn put(&mut self, message: Message) -> Result<(), Closed> {
        match tokio::time::timeout(SEND_TIMEOUT, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Closed),
        }
    }

    /// Closes the connection, with a reason as far as it fits.
    async fn close(&mut self, code: u16, reason: &str) -> Result<(), Closed> {
        let reason: String = reason.chars().take(60).collect();
        let _ = self.put(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await;
        Err(Closed)
    }
}

/// The next event; never, where nothing is subscribed to.
async fn next_event(log: &mut Option<ThreadLog>) -> Option<Result<Numbered, Error>> {
    match log {
        Some(log) => log.next().await,
        None => std::future::pending().await,
    }
}
