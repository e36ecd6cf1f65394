//! Runs: how they are created, queued, driven, cancelled, recovered.

mod admit;
mod attempt;
mod cancel;
mod coalesce;
mod create;
mod ending;
mod lease;
mod observe;
mod recover;
mod request;
mod rollback;
mod runner;
mod schedule;
mod usage;

pub use create::{Attending, PreparedRun};
pub(crate) use ending::open_questions;
pub(crate) use lease::Lease;
pub use observe::{OpenStream, Queue, describe_metrics};
pub(crate) use request::StoredRequest;
pub use request::{
    CommandSpec, Delivery, FilterSpec, Notes, Recording, RunOptions, RunRequest, RunSpec, Selector, Start, Target,
};
pub(crate) use runner::Runner;
pub(crate) use usage::stored_usage;
