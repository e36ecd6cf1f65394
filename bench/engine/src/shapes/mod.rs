//! The shapes by name: a compiled graph and the input of a run. `bench/README.md` says what is the same on both sides, and what is not.

mod fanout;
mod react_agent;
mod sequential;
mod wide_state;

use runloom_engine::{Error, Graph, Value};

/// A graph and its input.
pub struct Shape {
    /// The graph, without a checkpointer.
    pub graph: Graph,
    /// What each run is given.
    pub input: Value,
}

/// A shape by its name: `sequential_N`, `react_agent_Nx`, `fanout_to_subgraph_Nx`, `wide_state_25xN`.
pub fn of(name: &str) -> Result<Shape, Box<dyn std::error::Error>> {
    let unknown = || format!("there is no shape `{name}`");
    let (kind, size) = name.rsplit_once('_').ok_or_else(unknown)?;
    let size = size.trim_end_matches('x');
    let size = size.rsplit('x').next().unwrap_or(size).parse::<usize>().map_err(|_| unknown())?;
    let make: fn(usize) -> Result<Shape, Error> = match kind {
        "sequential" => sequential::shape,
        "react_agent" => react_agent::shape,
        "fanout_to_subgraph" => fanout::shape,
        "wide_state" => wide_state::shape,
        _ => return Err(unknown().into()),
    };
    Ok(make(size)?)
}

/// The letters of a seed: the same on both sides, so that no random number is in what is compared.
pub fn letters(seed: usize, count: usize) -> impl Iterator<Item = char> {
    (0..count).map(move |i| char::from(b'a' + ((i * 7 + seed * 11 + i / 26) % 26) as u8))
}
