//! Several servers on one database, each with connections of its own.
#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;

use futures_util::FutureExt;
use runloom_store::Store;
use runloom_store_postgres::{OpenOptions, PostgresStore, testing::server};
use runloom_testing::Shared;

async fn open() -> Option<Shared> {
    let server = server()?;
    let url = server.url(&server.database().await);
    let open = move || {
        let url = url.clone();
        async move {
            let options = OpenOptions { connections: 4, ..OpenOptions::new(url) };
            Arc::new(PostgresStore::open(options).await.unwrap()) as Arc<dyn Store>
        }
        .boxed()
    };
    Some(Shared::new(Arc::new(open), ()))
}

runloom_testing::servers!(open);
