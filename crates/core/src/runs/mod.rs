//! Runs: how they are made, queued, driven, cancelled, taken up again.

mod admit;
mod attempt;
mod cancel;
mod coalesce;
mod create;
mod request;
mod rollback;
mod runner;
mod takeup;
mod usage;

pub(crate) use attempt::open_questions;
pub use create::Attending;
pub use request::{CommandSpec, FilterSpec, RunRequest, RunSpec, Selector, Start, Target};
pub(crate) use runner::Runner;
