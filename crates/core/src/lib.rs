//! Threads, runs, assistants, graphs, items, crons: every operation once, whatever face asks; the runner and the log of each run.
//!
//! [`Core`] is the handle. Data goes one way: a face checks a request and makes it a [`RunRequest`]; the runner takes the
//! run, one at a time per thread; the engine steps and tells; each part is numbered, appended to the run's log, and wakes
//! its readers; [`events`] are what a thread's readers receive, numbered; each face turns [`Record`]s into its own dialect.

mod assistants;
mod claims;
mod core;
mod crons;
mod error;
pub mod events;
mod graphs;
mod items;
mod keys;
mod log;
mod runs;
pub mod scopes;
mod session;
mod state;
mod threads;
mod timer;
mod webhooks;

pub use core::{Core, CoreOptions};
pub use crons::{CronPatch, CronRequest, CronRun};
pub use error::{Error, Reason, Result};
pub use graphs::{GraphInfo, GraphSource, GraphWarning, Registration, Reloaded, Schemas, default_assistant_id};
pub use keys::NewKey;
pub use log::{Body, Cancellation, End, Opening, Outcome, ReadOptions, Record, RunReader, ThreadPart, ThreadReader};
pub use runs::{Attending, CommandSpec, Delivery, FilterSpec, Notes, PreparedRun, Recording, RunOptions, RunRequest};
pub use runs::{OpenStream, Queue, RunSpec, Selector, Start, Target, describe_metrics};
pub use session::{Caller, Session};
pub use state::{StateQuery, StateUpdateRequest};
pub use webhooks::{Posted, Webhooks};

pub use runloom_document as document;
pub use runloom_engine as engine;
pub use runloom_store as store;
