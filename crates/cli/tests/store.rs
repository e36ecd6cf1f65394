//! `runloom store`: checks, migrations and backups, on SQLite and on a real Postgres.
#![allow(missing_docs, clippy::unwrap_used)]
#![cfg(unix)]

#[path = "support/server.rs"]
mod server;

use std::process::{Command, Output};

use runloom::{
    Client, ClientOptions,
    v1::{CreateThreadRequest, ListThreadsRequest},
};
use runloom_store_postgres::testing;
use server::{Server, folder, free_port};

fn runloom(arguments: &[&str]) -> (bool, String) {
    let Output { status, stdout, stderr } =
        Command::new(env!("CARGO_BIN_EXE_runloom")).args(arguments).output().unwrap();
    (status.success(), String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap())
}

async fn client(port: u16) -> Client {
    Client::connect_with(format!("127.0.0.1:{port}"), ClientOptions::default()).await.unwrap()
}

#[tokio::test]
async fn a_data_folder_is_checked_and_backed_up_while_it_is_served() {
    let (place, port) = (folder(&[]), free_port());
    let _server = Server::start(place.path(), port, &[]);
    client(port).await.create_thread(CreateThreadRequest::default()).await.unwrap();
    let data = place.path().join("data").display().to_string();
    let (ok, said) = runloom(&["store", "check", "--data", &data]);
    assert!(ok && said.contains("this program knows") && said.ends_with("ok\n"), "{said}");

    // The copy is a data folder of its own.
    let copy = folder(&[]);
    std::fs::create_dir(copy.path().join("data")).unwrap();
    let file = copy.path().join("data/runloom.db").display().to_string();
    let (ok, said) = runloom(&["store", "backup", "--data", &data, "--to", &file]);
    assert!(ok && said.contains("bytes"), "{said}");
    let (ok, said) = runloom(&["store", "backup", "--data", &data, "--to", &file]);
    assert!(!ok && said.contains("exists already"), "{said}");
    let port = free_port();
    let _restored = Server::start(copy.path(), port, &[]);
    let listed = client(port).await.list_threads(ListThreadsRequest::default()).await.unwrap();
    assert_eq!(listed.threads.len(), 1);
}

#[tokio::test]
async fn a_database_is_checked_and_migrated() {
    let Some(postgres) = testing::server() else {
        eprintln!("skipped: RUNLOOM_POSTGRES is not set; ./test rust sets it");
        return;
    };
    let url = postgres.url(&postgres.database().await);
    let (ok, said) = runloom(&["store", "check", "--store", &url]);
    assert!(ok && said.contains("none yet"), "{said}");
    let (ok, said) = runloom(&["store", "migrate", "--dry-run", "--store", &url]);
    assert!(ok && said.contains("CREATE TABLE runloom.threads"), "{said}");
    let (_, said) = runloom(&["store", "check", "--store", &url]);
    assert!(said.contains("none yet"), "a dry run changed something: {said}");
    let (ok, said) = runloom(&["store", "migrate", "--store", &url]);
    assert!(ok && said.starts_with("from version 0 to version"), "{said}");
    let (ok, said) = runloom(&["store", "check", "--store", &url]);
    assert!(ok && said.ends_with("ok\n"), "{said}");
    let (ok, said) = runloom(&["store", "migrate", "--dry-run", "--store", &url]);
    assert!(ok && said.contains("nothing to do"), "{said}");
}

#[test]
fn a_server_that_cannot_open_its_database_says_why() {
    let nobody = free_port();
    for (url, says) in [
        (format!("postgres://me:s3cret@127.0.0.1:{nobody}/db"), "cannot open the database db at 127.0.0.1"),
        ("mysql://me:s3cret@127.0.0.1/db".to_owned(), "postgres://user:password@host"),
    ] {
        let (ok, said) = runloom(&["serve", "--grpc", "127.0.0.1:0", "--http", "off", "--store", &url]);
        assert!(!ok && said.contains(says) && !said.contains("s3cret"), "{said}");
    }
}
