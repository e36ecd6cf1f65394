//! A worker that a test drives message by message.
#![allow(dead_code, missing_docs, clippy::unwrap_used)]

use std::time::Duration;

use prost::bytes::Bytes;
use runloom::v1::{
    AttachRequest, AttachResponse, CancelTask, ChannelValue, Done, Emit, Handler, HandlerKind, Hello, Interrupts, Json,
    NodeUpdate, Question, Ready, WorkerFailure, WorkerTask, attach_request::Message as In,
    attach_response::Message as Out, channel_value::Value as Held, done::Outcome, emit::Part,
    workers_client::WorkersClient,
};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Status, Streaming, transport::Channel};

use super::soon;

/// A worker of one connection.
pub struct Worker {
    pub id: String,
    pub sender: mpsc::UnboundedSender<AttachRequest>,
    pub received: Streaming<AttachResponse>,
    /// The bytes of the tasks received.
    pub task_bytes: usize,
}

/// What a worker says of itself.
pub fn hello(queue: &str, nodes: &[&str]) -> Hello {
    let handlers = nodes.iter().map(|name| Handler {
        name: (*name).to_owned(),
        kind: HandlerKind::Node.into(),
        ..Handler::default()
    });
    Hello {
        worker_id: uuid::Uuid::new_v4().to_string(),
        sdk: "test".to_owned(),
        queue: queue.to_owned(),
        handlers: handlers.collect(),
        max_tasks: 10,
        ..Hello::default()
    }
}

impl Worker {
    /// Attaches, and has been welcomed.
    pub async fn attach(channel: &Channel, hello: Hello) -> Self {
        let mut worker = Self::connect(channel, hello).await;
        match soon(worker.received.message()).await.unwrap().unwrap().message {
            Some(Out::Welcome(_)) => worker,
            other => panic!("no welcome, but {other:?}"),
        }
    }

    /// Attaches.
    pub async fn connect(channel: &Channel, hello: Hello) -> Self {
        let id = hello.worker_id.clone();
        let (sender, receiver) = mpsc::unbounded_channel();
        sender.send(AttachRequest { message: Some(In::Hello(hello)) }).unwrap();
        let mut client = WorkersClient::new(channel.clone()).max_decoding_message_size(1 << 30);
        let received = client.attach(UnboundedReceiverStream::new(receiver)).await.unwrap().into_inner();
        Self { id, sender, received, task_bytes: 0 }
    }

    /// Attaches with credit for tasks.
    pub async fn ready(channel: &Channel, queue: &str, nodes: &[&str], tasks: u32) -> Self {
        let worker = Self::attach(channel, hello(queue, nodes)).await;
        worker.send(In::Ready(Ready { tasks }));
        worker
    }

    pub fn send(&self, message: In) {
        let _ = self.sender.send(AttachRequest { message: Some(message) });
    }

    /// The next message, but for signs of life.
    pub async fn next(&mut self) -> Result<Out, Status> {
        loop {
            match soon(self.received.message()).await?.map(|message| message.message) {
                Some(Some(Out::Welcome(_))) => {}
                Some(Some(message)) => return Ok(message),
                Some(None) | None => return Err(Status::ok("the stream has ended")),
            }
        }
    }

    /// The next task.
    pub async fn task(&mut self) -> WorkerTask {
        match self.next().await.unwrap() {
            Out::Task(task) => {
                self.task_bytes += prost::Message::encoded_len(&task);
                task
            }
            other => panic!("no task, but {other:?}"),
        }
    }

    /// Waits for a task to be cancelled.
    pub async fn cancelled(&mut self) -> CancelTask {
        match self.next().await.unwrap() {
            Out::Cancel(cancel) => cancel,
            other => panic!("no cancel, but {other:?}"),
        }
    }

    /// Waits until an outcome is stored.
    pub async fn stored(&mut self, task: &WorkerTask) {
        match self.next().await.unwrap() {
            Out::Stored(stored) => assert_eq!(stored.token, task.token),
            other => panic!("not stored, but {other:?}"),
        }
    }

    /// Waits until an outcome is refused, and why.
    pub async fn refused(&mut self, token: &Bytes) -> String {
        match self.next().await.unwrap() {
            Out::Refused(refused) => {
                assert_eq!(refused.token, *token);
                refused.message
            }
            other => panic!("not refused, but {other:?}"),
        }
    }

    pub fn done(&self, task: &WorkerTask, outcome: Outcome) {
        self.send(In::Done(Done { token: task.token.clone(), outcome: Some(outcome) }));
    }

    /// Ends a task with an update.
    pub fn update(&self, task: &WorkerTask, update: Value) {
        self.done(task, Outcome::Update(NodeUpdate { update: Some(Json::text(&update)), ..NodeUpdate::default() }));
    }

    /// Ends a task with questions, numbered from one on.
    pub fn ask(&self, task: &WorkerTask, first: u32, questions: &[&str]) {
        let questions = (first..).zip(questions).map(|(index, text)| Question {
            index,
            value: Some(Json::text(&json!(text))),
            response_schema: None,
        });
        self.done(task, Outcome::Interrupts(Interrupts { questions: questions.collect() }));
    }

    /// Ends a task with a failure.
    pub fn fail(&self, task: &WorkerTask, kind: &str, message: &str) {
        let failure =
            WorkerFailure { r#type: kind.to_owned(), message: message.to_owned(), ..WorkerFailure::default() };
        self.done(task, Outcome::Failure(failure));
    }

    pub fn emit(&self, task: &WorkerTask, part: Part) {
        self.send(In::Emit(Emit { token: task.token.clone(), part: Some(part) }));
    }

    pub fn custom(&self, task: &WorkerTask, data: Value) {
        self.emit(task, Part::Custom(Json::text(&data)));
    }
}

/// A state that was sent whole.
pub fn state(task: &WorkerTask) -> Value {
    let whole = |channel: &ChannelValue| match channel.value.as_ref().unwrap() {
        Held::Whole(json) => (channel.channel.clone(), json.decode().unwrap()),
        other => panic!("{} is not whole: {other:?}", channel.channel),
    };
    Value::Object(task.state.iter().map(whole).collect::<Map<_, _>>())
}

pub fn decoded(json: &Option<Json>) -> Value {
    json.as_ref().map(|json| json.decode().unwrap()).unwrap_or_default()
}

/// Waits for a condition that has no signal.
pub async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    soon(async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
