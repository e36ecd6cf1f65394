//! Service Crons over a real socket, and webhooks as the contract has them.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{sync::Arc, time::Duration};

use runloom::{
    Client, Error,
    v1::{
        Cron, ErrorReason, Json, ListCronsRequest, ListRunsRequest, MultitaskStrategy, OnRunCompleted, RunSpec,
        StreamMode, UpdateCronRequest, Webhook, run_spec::Start,
    },
};
use runloom_core::{Posted, Webhooks};
use runloom_service::{Handle, Server, listen};
use runloom_store::{Delivery, Run};
use serde_json::{Value, json};
use tokio::sync::mpsc;

const GRAPH: &str = r#"
runloom: v1
name: count
state: { n: { schema: { type: integer } } }
nodes: { one: { update: { n: 'state.n + 1' } } }
edges: [ { from: START, to: one } ]
"#;

/// Who posts nothing, and tells what it was to post.
struct Told(mpsc::UnboundedSender<Delivery>);

#[tonic::async_trait]
impl Webhooks for Told {
    fn check(&self, url: &str) -> Result<(), String> {
        if url.contains("private") { Err("is private".into()) } else { Ok(()) }
    }

    fn body(&self, run: &Run, _: Option<&runloom_engine::Value>, _: Option<&runloom_core::Error>) -> String {
        run.id.to_string()
    }

    async fn post(&self, delivery: &Delivery) -> Posted {
        self.0.send(delivery.clone()).unwrap();
        Posted::Taken
    }
}

async fn start() -> (Handle, Client, mpsc::UnboundedReceiver<Delivery>) {
    let (posts, told) = mpsc::unbounded_channel();
    let builder = Server::builder().document("count.yaml", GRAPH);
    let server = builder.core(|core| core.webhooks = Some(Arc::new(Told(posts)))).start().await.unwrap();
    let handle = server.spawn(listen("127.0.0.1:0").await.unwrap()).unwrap();
    let client = Client::connect(handle.address().to_string()).await.unwrap();
    (handle, client, told)
}

fn cron(schedule: &str) -> Cron {
    Cron {
        schedule: schedule.to_owned(),
        metadata: Some(Json::text(&json!({"team": "red"}))),
        run: Some(RunSpec::graph("count").with_input(json!({"n": 1}))),
        ..Cron::default()
    }
}

fn decoded(json: Option<Json>) -> Value {
    json.unwrap().decode().unwrap()
}

fn fields(error: &Error) -> Vec<&str> {
    error.violations().iter().map(|violation| violation.field.as_str()).collect()
}

#[tokio::test]
async fn a_cron_is_made_read_changed_listed_and_deleted() {
    let (server, client, _told) = start().await;
    let asked = Cron {
        time_zone: "Europe/Vienna".into(),
        on_run_completed: OnRunCompleted::Keep.into(),
        end_time: Some(prost_types::Timestamp { seconds: 32_503_680_000, nanos: 0 }),
        run: Some(RunSpec {
            stream_modes: vec![StreamMode::Updates.into()],
            multitask_strategy: MultitaskStrategy::Reject.into(),
            interrupt_after: vec!["one".into()],
            webhook: Some(Webhook { url: "https://example.org".into() }),
            ..cron("").run.unwrap()
        }),
        ..cron("0 9 * * MON")
    };
    let made = client.create_cron(asked.clone()).await.unwrap();
    let run = made.run.clone().unwrap();
    assert_eq!((&made.schedule, &made.time_zone, made.end_time), (&asked.schedule, &asked.time_zone, asked.end_time));
    assert_eq!((made.on_run_completed(), made.disabled), (OnRunCompleted::Keep, false));
    assert!(made.next_run_time.is_some() && made.last_run_time.is_none());
    let Some(Start::Input(input)) = run.start else { panic!("no input: {run:?}") };
    assert_eq!(input.decode().unwrap(), json!({"n": 1}));
    assert_eq!(run.stream_modes, [StreamMode::Updates as i32]);
    assert_eq!(run.multitask_strategy, MultitaskStrategy::Reject as i32);
    assert_eq!((run.interrupt_after, run.webhook.unwrap().url), (vec!["one".to_owned()], "https://example.org".into()));
    assert_eq!(client.get_cron(made.cron_id.as_str()).await.unwrap(), made);
    let again = client.create_cron(Cron { cron_id: made.cron_id.clone(), ..cron("@daily") }).await.unwrap();
    assert_eq!(again, made, "the same id is the same cron");

    let update = async |paths: &[&str], cron: Cron| {
        let cron = Some(Cron { cron_id: made.cron_id.clone(), ..cron });
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        let update_mask = Some(prost_types::FieldMask { paths });
        client.update_cron(UpdateCronRequest { cron, update_mask, ..UpdateCronRequest::default() }).await
    };
    let merged = Cron { metadata: Some(Json::text(&json!({"n": 1}))), disabled: true, ..Cron::default() };
    let changed = update(&[], merged).await.unwrap();
    assert_eq!(decoded(changed.metadata), json!({"team": "red", "n": 1}));
    assert!(changed.disabled && changed.schedule == made.schedule);
    let changed = update(&["end_time", "time_zone", "metadata", "on_run_completed"], Cron::default()).await.unwrap();
    assert_eq!((changed.end_time, &*changed.time_zone), (None, ""));
    assert_eq!((decoded(changed.metadata), changed.on_run_completed), (json!({}), OnRunCompleted::Delete as i32));
    let run = Some(RunSpec::default().with_input(json!({"n": 5})));
    let changed = update(&["run", "schedule"], Cron { run, ..cron("@hourly") }).await.unwrap();
    let run = changed.run.unwrap();
    assert_eq!((&run.target, run.webhook), (&made.run.as_ref().unwrap().target, None), "its target stays");
    assert_eq!((&*changed.schedule, changed.disabled), ("@hourly", true));
    assert_eq!(fields(&update(&["owner"], Cron::default()).await.unwrap_err()), ["update_mask.paths[0]"]);
    assert_eq!(fields(&update(&["schedule"], cron("x")).await.unwrap_err()), ["cron.schedule"]);

    client.create_cron(cron("@daily")).await.unwrap();
    let list = |disabled, page_size, page_token| {
        client.list_crons(ListCronsRequest { disabled, page_size, page_token, ..ListCronsRequest::default() })
    };
    let first = list(None, 1, String::new()).await.unwrap();
    assert_eq!(first.crons[0].schedule, "@daily", "the newest first");
    let second = list(None, 1, first.next_page_token).await.unwrap();
    assert_eq!((second.crons[0].cron_id.as_str(), &*second.next_page_token), (made.cron_id.as_str(), ""));
    assert_eq!(list(Some(true), 0, String::new()).await.unwrap().crons.len(), 1);
    client.delete_cron(made.cron_id.as_str()).await.unwrap();
    let gone = client.get_cron(made.cron_id.as_str()).await.unwrap_err();
    assert_eq!(gone.reason(), Some(ErrorReason::CronNotFound));
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_wrong_cron_is_refused_with_all_its_fields() {
    let (server, client, _told) = start().await;
    let refused = async |cron| client.create_cron(cron).await.unwrap_err();
    let wrong = Cron {
        schedule: String::new(),
        metadata: Some(Json::text(&json!([]))),
        run: None,
        on_run_completed: 9,
        ..cron("")
    };
    let error = refused(wrong).await;
    let mut all = fields(&error);
    all.sort_unstable();
    assert_eq!(all, ["cron.metadata", "cron.on_run_completed", "cron.run", "cron.schedule"]);
    assert_eq!(fields(&refused(cron("every day")).await), ["cron.schedule"]);
    assert_eq!(fields(&refused(Cron { time_zone: "Mars".into(), ..cron("@daily") }).await), ["cron.time_zone"]);
    let with = |change: fn(&mut RunSpec)| {
        let mut cron = cron("@daily");
        change(cron.run.as_mut().unwrap());
        cron
    };
    assert_eq!(fields(&refused(with(|run| run.request_id = "x".into())).await), ["cron.run.request_id"]);
    let bad_input = with(|run| run.start = Some(Start::Input(Json::text(&json!({"n": "x"})))));
    assert_eq!(fields(&refused(bad_input).await), ["cron.run.input.n"]);
    let private = with(|run| run.webhook = Some(Webhook { url: "http://private".into() }));
    assert_eq!(fields(&refused(private).await), ["cron.run.webhook.url"]);
    let nowhere = with(|run| run.thread_id = uuid::Uuid::nil().to_string());
    assert_eq!(refused(nowhere).await.reason(), Some(ErrorReason::ThreadNotFound));
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_cron_makes_its_runs_and_each_calls_its_webhook() {
    let (server, client, mut told) = start().await;
    let mut every_second = cron("* * * * * *");
    every_second.run.as_mut().unwrap().webhook = Some(Webhook { url: "https://example.org".into() });
    let made = client.create_cron(every_second).await.unwrap();
    let first = tokio::time::timeout(Duration::from_secs(10), told.recv()).await.expect("it does not fire").unwrap();
    let second = tokio::time::timeout(Duration::from_secs(10), told.recv()).await.expect("it fires once").unwrap();
    assert_ne!(first.run, second.run);
    let fired = client.get_cron(made.cron_id.as_str()).await.unwrap();
    assert!(fired.last_run_time.is_some() && fired.last_error.is_empty());
    client.delete_cron(made.cron_id.as_str()).await.unwrap();
    let runs = client.list_runs(ListRunsRequest::default()).await.unwrap().runs;
    let found = runs.iter().find(|run| run.run_id == first.run.to_string()).expect("its run is listed");
    assert_eq!(decoded(found.metadata.clone())["team"], "red");

    let refused = RunSpec { webhook: Some(Webhook { url: "http://private".into() }), ..RunSpec::graph("count") };
    let error = client.create_run(refused.with_input(json!({"n": 1}))).await.unwrap_err();
    assert_eq!(fields(&error), ["run.webhook.url"]);
    server.shutdown().await.unwrap();
}
