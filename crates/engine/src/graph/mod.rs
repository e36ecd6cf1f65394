//! Graphs: how they are built, what they are once compiled, how they are drawn.

mod builder;
mod check;
mod compiled;
mod draw;
mod node;
mod typed;

pub use builder::GraphBuilder;
pub(crate) use check::{nearest, too_deep};
pub use compiled::{AnswerCheck, Graph, MAX_NESTED, Runtime};
pub(crate) use compiled::{ChannelId, CompiledNode, NodeId, Out};
pub use draw::{Drawing, DrawnEdge, DrawnNode};
pub use node::{CachePolicy, FromState, Node, NodeSpec, RefreshOn, RetryPolicy, Route, StateView, node};
pub use typed::{IntoGoto, State, StateGraph, read_field};
