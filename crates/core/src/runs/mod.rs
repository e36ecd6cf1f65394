//! Runs: how they are made, queued, driven, cancelled, taken up again.

mod admit;
mod attempt;
mod cancel;
mod coalesce;
mod create;
mod ending;
mod observe;
mod request;
mod rollback;
mod runner;
mod takeup;
mod usage;

pub use create::{Attending, PreparedRun};
pub(crate) use ending::open_questions;
pub use observe::{OpenStream, Queue, describe_metrics};
pub(crate) use request::StoredRequest;
pub use request::{
    CommandSpec, Delivery, FilterSpec, Notes, Recording, RunOptions, RunRequest, RunSpec, Selector, Start, Target,
};
pub(crate) use runner::Runner;
