//! Serves the graph documents of a folder over HTTP, for tests: `serve FOLDER [ADDRESS] [DATA]`. Without a data folder
//! everything is kept in memory.

use std::{error::Error, fs, sync::Arc};

use runloom_core::{Core, CoreOptions, store::Store};
use runloom_gateway::{Cors, Options, serve};
use runloom_store_memory::MemoryStore;
use runloom_store_sqlite::{OpenOptions, SqliteStore};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("serve FOLDER [ADDRESS] [DATA]")?;
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8123".to_owned());
    let store: Arc<dyn Store> = match arguments.next() {
        Some(data) => Arc::new(SqliteStore::open(OpenOptions::new(data))?),
        None => Arc::new(MemoryStore::new()),
    };
    let mut documents = Vec::new();
    for file in fs::read_dir(folder)? {
        let file = file?;
        documents.push((file.file_name().to_string_lossy().into_owned(), fs::read_to_string(file.path())?));
    }
    documents.sort();
    let core = Core::start(CoreOptions { documents, ..CoreOptions::new(store) }).await?;
    let listener = TcpListener::bind(&address).await?;
    println!("http://{}", listener.local_addr()?);
    let options = Options { cors: Cors::Loopback, ..Options::default() };
    let shutdown = async { drop(tokio::signal::ctrl_c().await) };
    serve(listener, core, options, shutdown).await;
    Ok(())
}
