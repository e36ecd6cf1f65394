//! Running a graph: supersteps, tasks, questions, checkpoints, and the stream that pulls them.

mod calls;
mod channels;
mod context;
mod control;
mod finish;
mod host;
mod leave;
mod limits;
mod pending;
mod replay;
mod resume;
mod scope;
mod shared;
mod start;
mod stream;
mod subgraph;
mod superstep;
mod task;
mod taskscope;
mod tell;
mod tools;
mod update;
mod view;
mod writes;

pub use context::Context;
pub use host::{ChunkSource, NestedEvent};
pub(crate) use scope::Level;
pub use scope::is_question_id;
pub use stream::{Finished, RunStream};
pub use subgraph::{MapInput, MapOutput, SubgraphNode, subgraph};
pub use taskscope::HandledError;
pub(crate) use taskscope::TaskPath;
pub use update::StateUpdate;
