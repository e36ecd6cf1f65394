//! N nodes in a row that do nothing, over a list of messages.

use runloom_engine::{END, Error, START, State, StateGraph, StateView, Value, node, value};
use serde::{Deserialize, Serialize};

use super::Shape;

#[derive(State, Serialize, Deserialize)]
struct Talk {
    #[state(messages)]
    messages: Value,
}

/// The nodes read [`StateView`], as LangGraph's are handed a dict of references.
pub fn shape(nodes: usize) -> Result<Shape, Error> {
    let mut graph = StateGraph::<Talk>::new("sequential");
    let mut before = START.to_owned();
    for i in 0..nodes {
        let name = format!("node_{i}");
        graph = graph
            .add_node(name.as_str(), node(|_: StateView, _| async { Ok(()) }))
            .add_edge(before.as_str(), name.as_str());
        before = name;
    }
    let graph = graph.add_edge(before, END).compile()?;
    Ok(Shape { graph, input: value!({"messages": []}) })
}
