//! What every endpoint shares: the request as it came, the answer, the error, the stream.

mod auth;
mod call;
mod cors;
mod fail;
mod fields;
mod gzip;
mod reply;
mod session;
mod sse;

pub(crate) use auth::{Needs, admit};
pub(crate) use call::Call;
pub(crate) use cors::{guard, is_allowed};
pub(crate) use fail::{Fail, Reply};
pub(crate) use fields::{Fields, MOST_MINUTES, uuid};
pub(crate) use gzip::squeeze;
pub(crate) use reply::{chosen, empty, json, paged, selected, text, with_location};
pub(crate) use session::{Api, Shared};
pub(crate) use sse::{Told, sse, until_told};
