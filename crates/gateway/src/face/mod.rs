//! What every endpoint shares: the request as it came, the answer, the error, the stream.

mod call;
mod cors;
mod fail;
mod fields;
mod gzip;
mod reply;
mod sse;

use std::sync::Arc;

use runloom_core::Core;

pub(crate) use call::Call;
pub(crate) use cors::{guard, is_allowed};
pub(crate) use fail::{Fail, Reply};
pub(crate) use fields::{Fields, MOST_MINUTES, uuid};
pub(crate) use gzip::squeeze;
pub(crate) use reply::{chosen, empty, json, paged, selected, text, with_location};
pub(crate) use sse::{Told, sse, until_told};

use crate::Options;

/// What every endpoint has at hand.
#[derive(Clone)]
pub(crate) struct Api {
    pub core: Core,
    pub options: Arc<Options>,
    /// How far the runs of threads reach, for numbered events.
    pub threads: crate::protocol::ThreadLogs,
}
