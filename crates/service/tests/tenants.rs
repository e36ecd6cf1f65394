//! Every RPC, called by a tenant on what belongs to another: it answers as if that did not exist.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    future::Future,
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use prost::Message;
use runloom::v1::{
    self, Assistant, Cron, Json, RunSpec, Thread, assistants_client::AssistantsClient, crons_client::CronsClient,
    graphs_client::GraphsClient, runs_client::RunsClient, store_client::StoreClient, threads_client::ThreadsClient,
};
use runloom_core::{Caller, Session};
use runloom_service::{Handle, Options, Server, listen};
use runloom_testing::tenants::{Ids, MINE, World, fill, plain};
use serde_json::json;
use tonic::{Response, Status, Streaming, transport::Channel};
use tonic_types::StatusExt;

/// The clients of one tenant.
#[derive(Clone)]
struct Api {
    threads: ThreadsClient<Channel>,
    runs: RunsClient<Channel>,
    assistants: AssistantsClient<Channel>,
    crons: CronsClient<Channel>,
    graphs: GraphsClient<Channel>,
    store: StoreClient<Channel>,
}

/// The ids of A's objects as text.
#[derive(Clone)]
struct Names {
    thread: String,
    run: String,
    waiting: String,
    asking: String,
    assistant: String,
    cron: String,
    checkpoint: String,
}

impl From<&Ids> for Names {
    fn from(ids: &Ids) -> Self {
        Self {
            thread: ids.thread.to_string(),
            run: ids.run.id.to_string(),
            waiting: ids.waiting.to_string(),
            asking: ids.asking.to_string(),
            assistant: ids.assistant.to_string(),
            cron: ids.cron.to_string(),
            checkpoint: ids.checkpoint.to_string(),
        }
    }
}

/// Serves a core for one caller.
async fn serve(session: &Session) -> (Handle, Api) {
    let caller = Caller { peer: None, ..session.caller().clone() };
    let server = Server::over(session.core(), Options { caller, ..Options::default() }).await;
    let handle = server.spawn(listen("127.0.0.1:0").await.unwrap()).unwrap();
    let channel = Channel::from_shared(format!("http://{}", handle.address())).unwrap().connect().await.unwrap();
    let api = Api {
        threads: ThreadsClient::new(channel.clone()),
        runs: RunsClient::new(channel.clone()),
        assistants: AssistantsClient::new(channel.clone()),
        crons: CronsClient::new(channel.clone()),
        graphs: GraphsClient::new(channel.clone()),
        store: StoreClient::new(channel),
    };
    (handle, api)
}

fn failed(status: &Status) -> String {
    let details = status.get_error_details();
    let info = details.error_info().map(|info| (&info.reason, info.metadata.iter().collect::<BTreeMap<_, _>>()));
    format!("{:?} {} {info:?} {:?}", status.code(), status.message(), details.bad_request())
}

async fn one<T: Debug>(call: impl Future<Output = Result<Response<T>, Status>>) -> String {
    match call.await {
        Ok(answer) => format!("{:?}", answer.into_inner()),
        Err(status) => failed(&status),
    }
}

/// What a stream gives at once.
async fn begun<T: Debug>(call: impl Future<Output = Result<Response<Streaming<T>>, Status>>) -> String {
    let mut stream = match call.await {
        Ok(answer) => answer.into_inner(),
        Err(status) => return failed(&status),
    };
    let mut all = String::new();
    loop {
        match tokio::time::timeout(Duration::from_millis(100), stream.message()).await {
            Ok(Ok(Some(part))) => all += &format!("{part:?}\n"),
            Ok(Ok(None)) | Err(_) => return all,
            Ok(Err(status)) => return all + &failed(&status),
        }
    }
}

fn echo() -> RunSpec {
    RunSpec::graph("echo").with_input(json!({"q": 1}))
}

fn on(thread: &str) -> Option<RunSpec> {
    Some(echo().with_thread(thread))
}

type Call = fn(Api, Names) -> BoxFuture<'static, String>;

macro_rules! calls {
    ($($service:literal $field:ident { $($rpc:literal $method:ident $how:ident |$n:ident| $request:expr;)* })*) => {
        /// Every RPC, on what is A's.
        #[allow(unused_mut)]
        const CALLS: &[(&str, Call)] = &[$($(
            (concat!($service, "/", $rpc), |mut api: Api, $n: Names| {
                async move {
                    let _ = &$n;
                    $how(api.$field.$method($request)).await
                }
                .boxed()
            }),
        )*)*];
    };
}

calls! {
    "Threads" threads {
        "CreateThread" create_thread one |n| v1::CreateThreadRequest { thread_id: n.thread, ..Default::default() };
        "GetThread" get_thread one |n| v1::GetThreadRequest { thread_id: n.thread, include_values: true, ..Default::default() };
        "UpdateThread" update_thread one |n| v1::UpdateThreadRequest {
            thread: Some(Thread { thread_id: n.thread, metadata: Some(Json::text(&json!({"b": 1}))), ..Default::default() }),
            ..Default::default()
        };
        "DeleteThread" delete_thread one |n| v1::DeleteThreadRequest { thread_id: n.thread };
        "ListThreads" list_threads one |n| v1::ListThreadsRequest::default();
        "CopyThread" copy_thread one |n| v1::CopyThreadRequest { thread_id: n.thread, ..Default::default() };
        "GetState" get_state one |n| v1::GetStateRequest { thread_id: n.thread, checkpoint_id: n.checkpoint, ..Default::default() };
        "UpdateState" update_state one |n| v1::UpdateStateRequest {
            thread_id: n.thread,
            values: Some(Json::text(&json!({"a": 1}))),
            as_node: "say".into(),
            graph_name: "echo".into(),
            ..Default::default()
        };
        "ListCheckpoints" list_checkpoints one |n| v1::ListCheckpointsRequest { thread_id: n.thread, ..Default::default() };
        "StreamThread" stream_thread begun |n| v1::StreamThreadRequest { thread_id: n.asking, ..Default::default() };
    }
    "Runs" runs {
        "StreamRun" stream_run begun |n| v1::StreamRunRequest { run: on(&n.thread), ..Default::default() };
        "CreateRun" create_run one |n| v1::CreateRunRequest { run: on(&n.thread), ..Default::default() };
        "WaitRun" wait_run one |n| v1::WaitRunRequest { target: Some(v1::wait_run_request::Target::RunId(n.run)), ..Default::default() };
        "JoinRun" join_run begun |n| v1::JoinRunRequest { run_id: n.run, ..Default::default() };
        "GetRun" get_run one |n| v1::GetRunRequest { run_id: n.run, ..Default::default() };
        "ListRuns" list_runs one |n| v1::ListRunsRequest { thread_id: n.thread, ..Default::default() };
        "CancelRun" cancel_run one |n| v1::CancelRunRequest { run_id: n.waiting, ..Default::default() };
        "DeleteRun" delete_run one |n| v1::DeleteRunRequest { run_id: n.run };
    }
    "Assistants" assistants {
        "CreateAssistant" create_assistant one |n| v1::CreateAssistantRequest {
            assistant_id: n.assistant,
            graph_name: "echo".into(),
            ..Default::default()
        };
        "GetAssistant" get_assistant one |n| v1::GetAssistantRequest { assistant_id: n.assistant, ..Default::default() };
        "UpdateAssistant" update_assistant one |n| v1::UpdateAssistantRequest {
            assistant: Some(Assistant { assistant_id: n.assistant, name: "b".into(), ..Default::default() }),
            ..Default::default()
        };
        "DeleteAssistant" delete_assistant one |n| v1::DeleteAssistantRequest { assistant_id: n.assistant };
        "ListAssistants" list_assistants one |n| v1::ListAssistantsRequest::default();
        "ListAssistantVersions" list_assistant_versions one |n| v1::ListAssistantVersionsRequest {
            assistant_id: n.assistant,
            ..Default::default()
        };
        "SetLatestAssistantVersion" set_latest_assistant_version one |n| v1::SetLatestAssistantVersionRequest {
            assistant_id: n.assistant,
            version: 1,
            ..Default::default()
        };
        "GetAssistantGraph" get_assistant_graph one |n| v1::GetAssistantGraphRequest { assistant_id: n.assistant, ..Default::default() };
        "GetAssistantSchemas" get_assistant_schemas one |n| v1::GetAssistantSchemasRequest {
            assistant_id: n.assistant,
            ..Default::default()
        };
    }
    "Crons" crons {
        "CreateCron" create_cron one |n| v1::CreateCronRequest {
            cron: Some(Cron { cron_id: n.cron, schedule: "0 0 1 1 *".into(), run: on(&n.thread), ..Default::default() }),
            ..Default::default()
        };
        "GetCron" get_cron one |n| v1::GetCronRequest { cron_id: n.cron, ..Default::default() };
        "UpdateCron" update_cron one |n| v1::UpdateCronRequest {
            cron: Some(Cron { cron_id: n.cron, schedule: "0 0 2 2 *".into(), ..Default::default() }),
            ..Default::default()
        };
        "DeleteCron" delete_cron one |n| v1::DeleteCronRequest { cron_id: n.cron };
        "ListCrons" list_crons one |n| v1::ListCronsRequest::default();
    }
    "Graphs" graphs {
        "ListGraphs" list_graphs one |n| v1::ListGraphsRequest { include_hidden: true, ..Default::default() };
        "RegisterGraph" register_graph one |n| v1::RegisterGraphRequest { document: MINE.into(), ..Default::default() };
        "DeleteGraph" delete_graph one |n| v1::DeleteGraphRequest { name: "mine".into() };
    }
    "Store" store {
        "PutItem" put_item one |n| v1::PutItemRequest {
            namespace: vec!["ns".into()],
            key: "key".into(),
            value: Some(Json::text(&json!({"b": 1}))),
            ..Default::default()
        };
        "GetItem" get_item one |n| v1::GetItemRequest { namespace: vec!["ns".into()], key: "key".into(), ..Default::default() };
        "DeleteItem" delete_item one |n| v1::DeleteItemRequest { namespace: vec!["ns".into()], key: "key".into() };
        "SearchItems" search_items one |n| v1::SearchItemsRequest::default();
        "ListNamespaces" list_namespaces one |n| v1::ListNamespacesRequest::default();
    }
}

/// RPCs that answer the same whether there was something or not.
const BLIND: [&str; 2] = ["Store/PutItem", "Store/DeleteItem"];
/// RPCs about the server's own workers, which belong to no tenant; and those about keys, whose test is that of authentication.
const WORKERS: [&str; 6] =
    ["Workers/Attach", "Workers/ListWorkers", "Workers/GetWorker", "Keys/CreateKey", "Keys/ListKeys", "Keys/RevokeKey"];

// G39
#[tokio::test]
async fn every_rpc_answers_as_if_the_objects_of_another_tenant_did_not_exist() {
    for (name, call) in CALLS {
        let (with, without) = (World::new().await, World::new().await);
        let ids = fill(&with.a).await;
        let names = Names::from(&ids);
        let mut answers = Vec::new();
        for session in [&with.b, &without.b, &with.a, &without.a] {
            let (_handle, api) = serve(session).await;
            answers.push(plain(&call(api, names.clone()).await, &ids));
        }
        assert_eq!(answers[0], answers[1], "{name} shows B something of A's");
        if !BLIND.contains(name) {
            assert_ne!(answers[2], answers[3], "{name} does not look at what is A's");
        }
    }
}

#[test]
fn every_rpc_is_called() {
    let files = prost_types::FileDescriptorSet::decode(runloom::FILE_DESCRIPTOR_SET).unwrap().file;
    let services = files.iter().filter(|file| file.package() == "runloom.v1").flat_map(|file| &file.service);
    let found = services
        .flat_map(|service| service.method.iter().map(move |method| format!("{}/{}", service.name(), method.name())));
    let found: BTreeSet<String> = found.filter(|name| !WORKERS.contains(&name.as_str())).collect();
    let called: BTreeSet<String> = CALLS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(found, called, "list each RPC in this test, with a call on what is A's");
}
