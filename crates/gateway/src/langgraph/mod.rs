//! LangGraph's dialect: stream parts, messages, states, as its server writes them.

mod activity;
mod messages;
mod mode;
mod parts;
pub mod records;
mod state;
mod time;

pub use messages::{chunk, partial};
pub use mode::StreamMode;
pub(crate) use parts::task;
pub use parts::{CANCEL_CALL, CANCEL_MANY, Dialect, Event, error_object};
pub use state::{history, interrupts as state_interrupts, state};
pub use time::{iso, read_iso};
