//! Graphs of nodes over a shared state, run in supersteps, checkpointed, and streamed while they run.

pub mod channel;
pub mod checkpoint;
pub mod command;
mod config;
mod error;
pub mod graph;
mod ids;
pub mod items;
pub mod message;
pub mod model;
pub mod retriever;
mod run;
pub mod stream;
pub mod trace;
pub mod value;

pub use channel::{ChannelSpec, Reducer};
pub use command::{Answer, Command, END, Goto, Output, START, Update, overwrite};
pub use config::{Breakpoints, DEFAULT_RECURSION_LIMIT, Input, Limits, RunConfig};
pub use error::{CheckpointError, Error, MAX_FAILURE_BYTES, NodeError, NodeFailure};
pub use graph::{
    CachePolicy, FromState, Graph, GraphBuilder, Node, NodeSpec, RefreshOn, RetryPolicy, Route, Runtime, State,
    StateGraph, StateView, node,
};
pub use ids::{CheckpointId, Clock, RunId, SystemClock, TaskId, ThreadId};
pub use run::{
    ChunkSource, Context, Finished, HandledError, MapInput, MapOutput, NestedEvent, RunStream, StateUpdate,
    SubgraphNode, is_question_id, subgraph,
};
pub use runloom_engine_macros::State;
pub use value::{List, Object, Value, from_value, to_value};

#[doc(hidden)]
pub use serde_json::json as __json;
