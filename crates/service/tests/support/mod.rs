//! A server with a graph that does what its input says, at gates that the test opens; and clients of it.
#![allow(dead_code, missing_docs, clippy::unwrap_used)]

pub mod worker;

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{StreamExt, stream::BoxStream};
use runloom::{
    Client, ClientOptions, RetryPolicy, RunStream,
    v1::{
        self, RunSpec, StreamMode, StreamRunResponse, assistants_client::AssistantsClient, graphs_client::GraphsClient,
        runs_client::RunsClient, stream_run_response::Payload, threads_client::ThreadsClient,
    },
};
use runloom_engine::{
    ChannelSpec, Context, Graph, GraphBuilder, NodeError, NodeSpec, Output, Reducer, START, StateView, Update, Value,
    graph::Node,
    model::{ChatModel, ChatRequest, Delta, ModelError, ModelInfo, ToolCallDelta, Usage},
};
use runloom_service::{Builder, Handle, Options, Server, listen};
use serde_json::json;
use tokio::sync::{Notify, Semaphore};
use tonic::{Status, transport::Channel};
use tonic_types::StatusExt;

/// Gates that nodes wait at, and who has come to one.
#[derive(Default)]
pub struct Gates {
    open: Mutex<HashMap<String, Arc<Semaphore>>>,
    seen: Mutex<Vec<String>>,
    came: Notify,
}

impl Gates {
    fn gate(&self, name: &str) -> Arc<Semaphore> {
        self.open.lock().unwrap().entry(name.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(0))).clone()
    }

    async fn pass(&self, name: &str) {
        self.seen.lock().unwrap().push(name.to_owned());
        self.came.notify_waiters();
        self.gate(name).acquire().await.unwrap().forget();
    }

    /// Waits until a node has come to a gate.
    pub async fn arrived(&self, name: &str) {
        loop {
            let came = self.came.notified();
            if self.seen.lock().unwrap().iter().any(|seen| seen == name) {
                return;
            }
            soon(came).await;
        }
    }

    /// Lets one node through.
    pub fn open(&self, name: &str) {
        self.gate(name).add_permits(1);
    }
}

/// A model that says its tokens.
struct Talker(Vec<Delta>);

impl ChatModel for Talker {
    fn name(&self) -> &str {
        "Talker"
    }

    fn info(&self) -> ModelInfo {
        ModelInfo { provider: "test".into(), model: "talker-1".into() }
    }

    fn stream(&self, _: ChatRequest) -> BoxStream<'static, Result<Delta, ModelError>> {
        futures_util::stream::iter(self.0.clone().into_iter().map(Ok)).boxed()
    }
}

/// Does what the channel `do` says, in order:
/// `{"emit": x}`, `{"say": [tokens]}`, `{"ask": x}`, `{"gate": name}`, `{"fail": text}`, `{"set": x}`, `{"blob": bytes}`,
/// `{"flood": n}` (custom data, n times), `{"panic": text}`.
struct Act(Arc<Gates>);

impl Node for Act {
    fn call(
        &self,
        state: StateView,
        cx: Context,
    ) -> futures_util::future::BoxFuture<'static, Result<Output, NodeError>> {
        let gates = self.0.clone();
        Box::pin(async move {
            let mut update = Update::new();
            let todo = state.get("do").cloned().unwrap_or_default();
            for step in todo.as_list().into_iter().flat_map(|list| list.iter()) {
                let Some((what, with)) = step.as_object().and_then(|step| step.iter().next()) else { continue };
                match &**what {
                    "emit" => cx.emit(with.clone()),
                    "flood" => {
                        for n in 0..with.as_u64().unwrap() {
                            cx.emit(n);
                            cx.breathe().await;
                        }
                    }
                    "say" => {
                        let tokens = with.as_list().unwrap().iter().map(|t| Delta::text(t.as_str().unwrap()));
                        let mut deltas: Vec<Delta> = tokens.collect();
                        deltas.push(Delta {
                            usage: Some(Usage { input_tokens: 3, output_tokens: 4, ..Usage::default() }),
                            tool_calls: vec![ToolCallDelta {
                                index: 0,
                                id: Some("c1".into()),
                                name: Some("add".into()),
                                args: "{}".into(),
                            }],
                            ..Delta::default()
                        });
                        deltas.push(Delta::end());
                        let message = cx.chat(&Talker(deltas), ChatRequest::default(), &["spoken".into()]).await?;
                        update = update.set("messages", Value::from(vec![message]));
                    }
                    "ask" => update = update.set("log", Value::from(vec![cx.interrupt(with.clone())?])),
                    "gate" => {
                        gates.pass(with.as_str().unwrap()).await;
                        cx.emit("through");
                    }
                    "set" => update = update.set("value", with.clone()),
                    "blob" => update = update.set("value", "x".repeat(with.as_u64().unwrap() as usize)),
                    "fail" => return Err(NodeError::new("TestError", with.as_str().unwrap())),
                    "panic" => panic!("{}", with.as_str().unwrap()),
                    other => return Err(NodeError::new("TestError", format!("cannot {other}"))),
                }
            }
            Ok(update.set("log", vec!["acted"]).into())
        })
    }
}

/// `act` does what it is told; `note` notes that it did.
pub fn graph(name: &str, gates: &Arc<Gates>) -> Graph {
    let mut graph = GraphBuilder::new(name);
    graph
        .description("Does what it is told.")
        .add_channel(ChannelSpec::new("do"))
        .add_channel(ChannelSpec::new("value"))
        .add_channel(ChannelSpec::new("log").reducer(Reducer::Append))
        .add_channel(ChannelSpec::new("messages").reducer(Reducer::Messages))
        .output(["value", "log", "messages"])
        .add_node("act", NodeSpec::new(Act(gates.clone())).tag("busy"))
        .add_node(
            "note",
            runloom_engine::node(|_: StateView, _: Context| async move { Ok(Update::new().set("log", vec!["noted"])) }),
        )
        .add_edge(START, "act")
        .add_edge("act", "note");
    graph.compile().unwrap()
}

/// A running server and what a test needs of it.
pub struct Test {
    pub server: Server,
    pub handle: Option<Handle>,
    pub gates: Arc<Gates>,
    pub client: Client,
    pub channel: Channel,
}

/// A server with the graph `work`.
pub async fn start() -> Test {
    start_with(|builder| builder).await
}

/// The same, built otherwise.
pub async fn start_with(change: impl FnOnce(Builder) -> Builder) -> Test {
    let gates = Arc::new(Gates::default());
    let builder = Server::builder().graph("work", graph("work", &gates));
    let server = change(builder).start().await.unwrap();
    let handle = server.spawn(listen("127.0.0.1:0").await.unwrap()).unwrap();
    let client = Client::connect_with(handle.address().to_string(), patient()).await.unwrap();
    let channel = channel(&handle).await;
    Test { server, handle: Some(handle), gates, client, channel }
}

/// A client that tries again quickly.
pub fn patient() -> ClientOptions {
    let retry =
        RetryPolicy { max_retries: 100, initial_delay: Duration::from_millis(2), max_delay: Duration::from_millis(50) };
    ClientOptions { retry, ..ClientOptions::default() }
}

/// A connection of its own.
pub async fn channel(handle: &Handle) -> Channel {
    Channel::from_shared(format!("http://{}", handle.address())).unwrap().tcp_nodelay(true).connect().await.unwrap()
}

impl Test {
    pub fn runs(&self) -> RunsClient<Channel> {
        RunsClient::new(self.channel.clone())
    }

    pub fn threads(&self) -> ThreadsClient<Channel> {
        ThreadsClient::new(self.channel.clone())
    }

    pub fn assistants(&self) -> AssistantsClient<Channel> {
        AssistantsClient::new(self.channel.clone())
    }

    pub fn graphs(&self) -> GraphsClient<Channel> {
        GraphsClient::new(self.channel.clone())
    }

    pub async fn thread(&self) -> String {
        self.client.create_thread(v1::CreateThreadRequest::default()).await.unwrap().thread_id
    }

    pub fn address(&self) -> String {
        self.handle.as_ref().unwrap().address().to_string()
    }
}

/// A run of `work` that does these things.
pub fn run(todo: serde_json::Value) -> RunSpec {
    RunSpec::graph("work").with_input(json!({ "do": todo }))
}

/// All modes.
pub fn all_modes() -> [StreamMode; 8] {
    use StreamMode as M;
    [M::Values, M::Updates, M::Messages, M::Custom, M::Tasks, M::Checkpoints, M::Debug, M::Events]
}

/// What a test waits for comes soon, or it fails.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what).await.expect("it did not come")
}

/// All parts of a stream of the client.
pub async fn read(mut stream: RunStream) -> Vec<StreamRunResponse> {
    let mut parts = Vec::new();
    while let Some(part) = soon(stream.next()).await {
        parts.push(part.unwrap());
    }
    parts
}

/// All parts of a raw stream, and how it broke off if it did.
pub async fn read_raw(mut stream: tonic::Streaming<StreamRunResponse>) -> (Vec<StreamRunResponse>, Option<Status>) {
    let mut parts = Vec::new();
    loop {
        match soon(stream.message()).await {
            Ok(Some(part)) => parts.push(part),
            Ok(None) => return (parts, None),
            Err(status) => return (parts, Some(status)),
        }
    }
}

/// What a part is.
pub fn kind(part: &StreamRunResponse) -> &'static str {
    match part.payload.as_ref().unwrap() {
        Payload::Metadata(_) => "metadata",
        Payload::Event(_) => "event",
        Payload::Update(_) => "update",
        Payload::Value(_) => "value",
        Payload::MessageChunk(_) => "message",
        Payload::Custom(_) => "custom",
        Payload::Task(_) => "task",
        Payload::Checkpoint(_) => "checkpoint",
        Payload::Progress(_) => "progress",
        Payload::End(_) => "end",
    }
}

/// The end of a run.
pub fn end(parts: &[StreamRunResponse]) -> &v1::End {
    match parts.last().and_then(|part| part.payload.as_ref()) {
        Some(Payload::End(end)) => end,
        other => panic!("no end, but {other:?}"),
    }
}

/// What an error says for programs: its reason and metadata, and the fields that are wrong.
pub fn details(status: &Status) -> (String, HashMap<String, String>, Vec<String>) {
    let details = status.get_error_details();
    let info = details.error_info().unwrap_or_else(|| panic!("no ErrorInfo: {status:?}"));
    assert_eq!(info.domain, "runloom.dev");
    let fields = details.bad_request().map(|bad| bad.field_violations.iter().map(|v| v.field.clone()).collect());
    (info.reason.clone(), info.metadata.clone(), fields.unwrap_or_default())
}

/// The reason alone.
pub fn reason(status: &Status) -> String {
    details(status).0
}

/// Options with these changes.
pub fn options(change: impl FnOnce(&mut Options)) -> Options {
    let mut options = Options::default();
    change(&mut options);
    options
}
