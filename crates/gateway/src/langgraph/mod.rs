//! LangGraph's dialect: stream parts, messages, states, as its server writes them.

mod messages;
mod parts;
mod state;
mod time;

pub use messages::{chunk, partial};
pub use parts::{Dialect, Event, StreamMode, error_object};
pub use state::{history, state};
pub use time::iso;
