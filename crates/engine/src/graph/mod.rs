//! Graphs: how they are built, what they are once compiled, how they are drawn.

mod builder;
mod compiled;
mod draw;
mod node;
mod typed;

pub use builder::GraphBuilder;
pub use compiled::{Graph, Runtime};
pub(crate) use compiled::{ChannelId, CompiledNode, NodeId, Out, nearest};
pub use draw::{DrawnEdge, DrawnNode, Drawing};
pub use node::{CachePolicy, FromState, Node, NodeSpec, RetryPolicy, Route, StateView, node};
pub use typed::{IntoGoto, State, StateGraph, read_field};
