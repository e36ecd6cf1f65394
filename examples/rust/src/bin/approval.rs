//! A graph with a question, served over gRPC: a run stops at it, and goes on when somebody has answered, be it next year.

use runloom_engine::{Context, Error, Graph, START, State, StateGraph, node, value};
use runloom_service::{Server, listen};
use serde::{Deserialize, Serialize};

#[derive(State, Serialize, Deserialize)]
struct Approval {
    topic: String,
    draft: String,
    status: String,
}

fn graph() -> Result<Graph, Error> {
    let write = node(|state: Approval, cx: Context| async move {
        cx.emit(value!({"status": "Writing…"}));
        Ok(Approval::update().draft(format!("Today we publish {}.", state.topic)).status("waiting".to_owned()))
    });
    let ask = node(|state: Approval, cx: Context| async move {
        // Without an answer the run stops here; with one this node runs again from its start, and this call gives it.
        let answer = cx.interrupt(value!({"question": "Publish this?", "draft": state.draft}))?;
        let status = if answer.as_str() == Some("yes") { "published" } else { "kept back" };
        Ok(Approval::update().status(status.to_owned()))
    });
    StateGraph::<Approval>::new("agent")
        .description("Writes a draft and asks before it publishes it.")
        .input(["topic"])
        .add_node("write", write)
        .add_node("ask", ask)
        .add_edge(START, "write")
        .add_edge("write", "ask")
        .compile()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:50051".to_owned());
    let listener = listen(&address).await?;
    // Kept in memory: `.data("./data")` keeps threads and runs in a folder.
    let server = Server::builder().graph("agent", graph()?).start().await?;
    let address = listener.local_addr()?;
    println!("serving on {address}; try: runloom run agent tea --addr {address}");
    let stop = async { drop(tokio::signal::ctrl_c().await) };
    server.serve(listener, stop).await;
    Ok(())
}
