//! A data folder of an earlier release: it opens, what it holds reads as before, and its runs go on.
//!
//! `data/schema_3` was made by `make.py` there, with the release whose database has schema 3. Its server was killed in the middle of a run.
#![allow(missing_docs, clippy::unwrap_used)]
#![cfg(unix)]

#[path = "support/server.rs"]
mod server;

use std::{path::Path, time::Duration};

use futures_util::StreamExt;
use runloom::{
    Client, ClientOptions,
    v1::{
        Command, GetAssistantRequest, GetCronRequest, GetItemRequest, GetStateRequest, GetThreadRequest,
        JoinRunRequest, Json, ListCheckpointsRequest, RunSpec, RunState, StreamRunResponse, WaitRunRequest,
        WaitRunResponse, run_spec::Start, stream_run_response::Payload, wait_run_request::Target,
    },
};
use serde_json::{Value, json};
use server::{Server, folder, free_port};

struct Old {
    ids: Value,
    client: Client,
    _server: Server,
    _folder: tempfile::TempDir,
}

impl Old {
    async fn open(data: &Path) -> Self {
        let folder = folder(&[]);
        std::fs::create_dir(folder.path().join("data")).unwrap();
        std::fs::copy(data.join("runloom.db"), folder.path().join("data/runloom.db")).unwrap();
        for graph in std::fs::read_dir(data.join("graphs")).unwrap() {
            let graph = graph.unwrap();
            std::fs::copy(graph.path(), folder.path().join("graphs").join(graph.file_name())).unwrap();
        }
        let port = free_port();
        let server = Server::start(folder.path(), port, &[]);
        let client = Client::connect_with(format!("127.0.0.1:{port}"), ClientOptions::default()).await.unwrap();
        let ids = serde_json::from_slice(&std::fs::read(data.join("ids.json")).unwrap()).unwrap();
        Self { ids, client, _server: server, _folder: folder }
    }

    fn id(&self, path: &str) -> String {
        self.ids.pointer(path).unwrap().as_str().unwrap().to_owned()
    }

    async fn join(&self, run_id: String) -> Vec<StreamRunResponse> {
        let stream = self.client.join_run(JoinRunRequest { run_id, ..JoinRunRequest::default() });
        let parts = stream.map(Result::unwrap).collect();
        tokio::time::timeout(Duration::from_secs(60), parts).await.expect("it hangs")
    }

    async fn wait(&self, target: Target) -> WaitRunResponse {
        self.client.wait_run(WaitRunRequest { target: Some(target), ..WaitRunRequest::default() }).await.unwrap()
    }
}

fn end(parts: &[StreamRunResponse]) -> RunState {
    match parts.last().and_then(|part| part.payload.as_ref()) {
        Some(Payload::End(end)) => end.state(),
        other => panic!("no end, but {other:?}"),
    }
}

fn decode(json: &Option<Json>) -> Value {
    json.as_ref().unwrap().decode().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_folder_of_schema_3_opens_and_goes_on() {
    let old = Old::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/schema_3")).await;

    // The log of a run that had ended.
    let parts = old.join(old.id("/chat/run_id")).await;
    assert_eq!(end(&parts), RunState::Succeeded);
    let text = |part: &StreamRunResponse| match &part.payload {
        Some(Payload::MessageChunk(chunk)) => {
            let texts = chunk.content.iter().filter_map(|block| block.block.as_ref());
            texts.map(|block| format!("{block:?}")).collect::<String>()
        }
        _ => String::new(),
    };
    let spoken: String = parts.iter().map(text).collect();
    assert!(spoken.contains("Hello") && spoken.contains("help"), "{spoken}");
    let kinds = |is: fn(&Payload) -> bool| parts.iter().filter(|part| part.payload.as_ref().is_some_and(is)).count();
    assert!(kinds(|p| matches!(p, Payload::Event(_))) > 5 && kinds(|p| matches!(p, Payload::Value(_))) > 0);

    // Its thread's state and history.
    let thread = old.id("/chat/thread_id");
    let state = GetStateRequest { thread_id: thread.clone(), ..GetStateRequest::default() };
    let state = old.client.get_state(state).await.unwrap().checkpoint.unwrap();
    let messages = decode(&state.values)["messages"].clone();
    assert_eq!(messages[0]["content"], "Hi");
    assert_eq!(messages[1]["content"], "Hello, I am here to help.");
    let list = ListCheckpointsRequest { thread_id: thread, include_values: true, ..Default::default() };
    assert_eq!(old.client.list_checkpoints(list).await.unwrap().checkpoints.len(), 3);

    // The run that the kill cut off goes on: each of its steps counts once.
    let run = old.id("/count/run_id");
    let counted = old.wait(Target::RunId(run.clone())).await;
    assert_eq!(counted.end.as_ref().unwrap().state(), RunState::Succeeded, "{counted:?}");
    let values = decode(&counted.values);
    assert_eq!(values["n"], 40);
    assert_eq!(values["log"], json!((0..40).collect::<Vec<_>>()));
    let parts = old.join(run).await;
    assert_eq!(end(&parts), RunState::Succeeded);
    let seqs: Vec<_> = parts.iter().map(|part| part.seq).filter(|seq| *seq > 0).collect();
    assert!(seqs.windows(2).all(|pair| pair[0] < pair[1]), "{seqs:?}");
    assert!(parts.iter().any(|part| part.attempt == 1) && parts.iter().any(|part| part.attempt == 2));

    // The question is open, and takes its answer.
    let thread = old.id("/ask/thread_id");
    let asking = old.client.get_thread(GetThreadRequest::from(thread.as_str())).await.unwrap();
    assert_eq!(decode(&asking.interrupts[0].value), json!({"question": "Who are you?"}));
    let command = Command { resume: Some(Json::text(&json!("Ada"))), ..Command::default() };
    let spec = RunSpec { thread_id: thread, start: Some(Start::Command(command)), ..RunSpec::graph("ask") };
    let answered = old.wait(Target::Run(spec)).await;
    assert_eq!(decode(&answered.values)["answer"], "Ada");

    // What is beside the threads.
    let item =
        GetItemRequest { namespace: vec!["users".into(), "ada".into()], key: "likes".into(), ..Default::default() };
    let item = old.client.get_item(item).await.unwrap().unwrap();
    assert_eq!(decode(&item.value), json!({"tea": true}));
    let cron = GetCronRequest { cron_id: old.id("/cron_id"), ..GetCronRequest::default() };
    let cron = old.client.get_cron(cron).await.unwrap();
    assert!(cron.schedule == "0 3 1 1 *" && cron.next_run_time.is_some() && cron.run.is_some());
    let assistant = GetAssistantRequest { assistant_id: old.id("/assistant_id"), ..GetAssistantRequest::default() };
    assert_eq!(old.client.get_assistant(assistant).await.unwrap().name, "Second");
}
