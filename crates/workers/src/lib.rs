//! Tasks for workers: programs in any language that execute nodes, tools, routes and reducers of graphs.
//!
//! ```text
//! types      what a worker and the server say to each other, without a protocol
//! queue      the tasks that wait for a worker of one queue, fair between runs
//! state      workers, queues and tasks of this server, under one lock
//! session    the server's end of a worker's connection
//! call       a call of a handler by a node: waits, emits, asks, ends
//! emit       parts that a worker sends, as parts of the run's stream
//! turn       whose turn it is to ask, among calls side by side
//! node       nodes, tools and routes that run in a worker
//! versions   channel values that a worker has, so that a task is sent what changed
//! ```
//!
//! [`Workers`] is the handle. An API attaches workers to it ([`Workers::attach`]); graphs call handlers through it
//! ([`Workers::call`], [`WorkerNode`]).

mod call;
mod emit;
mod info;
mod node;
mod queue;
mod recent;
mod session;
mod state;
mod turn;
mod types;
mod versions;

use std::{fmt, sync::Arc};

use parking_lot::Mutex;

pub use self::{
    call::Call,
    info::{QueueInfo, RunningTask, WorkerInfo},
    node::{WorkerNode, WorkerRoute, WorkerTool, output},
    session::{Outbox, Session},
    turn::{Turn, Turns},
    types::{
        Assignment, CancelReason, Closed, Event, Failure, Handler, HandlerKind, Hello, Input, Lane, Message, Outcome,
        Part, Question, Retryable, TaskPlace, Token, ToolOutcome, WorkerId,
    },
    versions::{ChannelState, ChannelValue, Versions},
};

/// The longest name of a queue or a handler, in bytes.
pub const MAX_NAME_BYTES: usize = 128;

/// The workers of this server, and the tasks for them. Cheap to clone; clones share everything.
#[derive(Clone, Default)]
pub struct Workers {
    state: Arc<Mutex<state::State>>,
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers").finish_non_exhaustive()
    }
}

impl Workers {
    /// Without workers.
    pub fn new() -> Self {
        Self::default()
    }
}
