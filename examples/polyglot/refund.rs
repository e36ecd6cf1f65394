//! The server of the example `examples/polyglot`, with its node in Rust: a graph of the program, which the document has as a subgraph.

use std::time::Duration;

use runloom_engine::{Context, Error, Graph, START, State, StateGraph, node, value};
use runloom_service::{Server, listen};
use serde::{Deserialize, Serialize};

#[derive(State, Serialize, Deserialize)]
struct Refund {
    amount: f64,
    receipt: String,
}

/// How long each node of the example works, so that there is time to watch, or to kill it.
fn delay() -> Duration {
    let text = std::env::var("POLYGLOT_DELAY_MS").unwrap_or_default();
    Duration::from_millis(text.parse().unwrap_or(300))
}

fn graph() -> Result<Graph, Error> {
    let pay = node(|state: Refund, cx: Context| async move {
        cx.emit(value!({"status": format!("Refunding {} …", state.amount), "language": "Rust"}));
        tokio::time::sleep(delay()).await;
        // A payment would have this as its idempotency key: it is the same when the task is executed again.
        let receipt = format!("R-{}", &cx.task_id().to_string()[..8]);
        Ok(Refund::update().receipt(receipt))
    });
    StateGraph::<Refund>::new("refund").input(["amount"]).add_node("pay", pay).add_edge(START, "pay").compile()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:50051".to_owned());
    let data = arguments.next().unwrap_or_else(|| "data".to_owned());
    let listener = listen(&address).await?;
    let server = Server::builder()
        .graph("refund", graph()?)
        .document("support.yaml", include_str!("support.yaml"))
        .data(data)
        .start()
        .await?;
    println!("the server and its node in Rust: {}", listener.local_addr()?);
    let stop = async { drop(tokio::signal::ctrl_c().await) };
    server.serve(listener, stop).await;
    Ok(())
}
