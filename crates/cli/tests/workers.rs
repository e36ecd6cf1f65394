//! `runloom workers` against a real server with a real worker.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::{Server, run};
use futures_util::{StreamExt, stream};
use runloom::v1::{
    AttachRequest, Handler, HandlerKind, Hello, Ready, attach_request::Message, workers_client::WorkersClient,
};
use serde_json::Value;

#[test]
fn workers_and_queues_are_shown() {
    let server = Server::start(&["--data", ":memory:"]);
    let address = &server.address;
    let at = |arguments: &[&str]| run(&[arguments, &["--addr", address]].concat());
    assert_eq!(at(&["workers", "list"]).out, "");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let id = "7d9c3c1e-53a1-4a47-9d8b-4a5e0d1f6b52";
    let hello = Hello {
        worker_id: id.to_owned(),
        sdk: "test".to_owned(),
        sdk_version: "1".to_owned(),
        queue: "orders".to_owned(),
        handlers: vec![Handler { name: "look_up".to_owned(), kind: HandlerKind::Node.into(), ..Handler::default() }],
        max_tasks: 4,
        description: "orders-1/test 1".to_owned(),
        ..Hello::default()
    };
    let messages = [Message::Hello(hello), Message::Ready(Ready { tasks: 4 })];
    let requests = messages.map(|message| AttachRequest { message: Some(message) });
    let _worker = runtime.block_on(async {
        let mut client = WorkersClient::connect(format!("http://{address}")).await.unwrap();
        let stream = stream::iter(requests).chain(stream::pending());
        let mut received = client.attach(stream).await.unwrap().into_inner();
        received.message().await.unwrap().unwrap();
        received
    });
    let list = at(&["workers", "list"]);
    let row: Vec<&str> = list.out.trim_end().split('\t').collect();
    let [shown, "orders", "0/4", _, "test 1", _, "orders-1/test 1"] = row[..] else { panic!("{list:?}") };
    assert_eq!(shown, id);
    let queues: Value = serde_json::from_str(&at(&["workers", "queues", "--json"]).out).unwrap();
    assert_eq!(queues["name"], "orders");
    assert_eq!(queues["workers"], 1);
    let worker = at(&["workers", "show", id]);
    assert!(worker.out.contains("look_up"), "{worker:?}");
    let unknown = at(&["workers", "show", "7d9c3c1e-53a1-4a47-9d8b-4a5e0d1f6b53"]);
    assert!(unknown.err.contains("no worker") && unknown.code == Some(1), "{unknown:?}");
}
