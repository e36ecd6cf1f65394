//! The services of the contract: each RPC checks its request, asks the core, and turns the answer around.

mod assistants;
mod crons;
mod graphs;
mod keys;
mod runs;
mod store;
mod threads;
mod workers;

use std::{sync::Arc, time::Duration};

use runloom::{json::NotExact, v1::JsonEncoding};
use runloom_core::{Caller, Core, Error, Session};
use runloom_engine::Object;
use tonic::{Request, Response, Status};

use crate::{
    check::Check,
    connection::Connection,
    shared::Sharing,
    status::{not_exact, status},
};

/// What all services share.
#[derive(Clone)]
pub(crate) struct Api {
    pub core: Core,
    /// The caller of calls that carry none in their extensions.
    pub caller: Caller,
    pub sharing: Arc<Sharing>,
    /// How long a stream may be silent.
    pub patience: Duration,
}

impl Api {
    /// The operations, for the caller of a call: the one that a layer around the services has put into its extensions, or
    /// that of the options. The only place of this API where a caller comes from.
    fn session<T>(&self, request: &Request<T>) -> Session {
        let known = request.extensions().get::<Caller>().cloned();
        let peer = request.extensions().get::<Connection>().and_then(Connection::peer).map(|peer| peer.ip());
        let caller = known.unwrap_or_else(|| self.caller.clone());
        self.core.session(Caller { peer: caller.peer.or(peer), ..caller })
    }
}

/// The answer of an RPC.
type Answer<T> = Result<Response<T>, Status>;

/// The encoding that a request asks for.
fn encoding(check: &mut Check, number: i32) -> JsonEncoding {
    check.one_of("json_encoding", number)
}

/// What turns into statuses by `?`, here only: the core's errors, and answers that an encoding cannot hold.
trait OrStatus<T> {
    fn or_status(self) -> Result<T, Status>;
}

impl<T> OrStatus<T> for Result<T, Error> {
    fn or_status(self) -> Result<T, Status> {
        self.map_err(status)
    }
}

impl<T> OrStatus<T> for Result<T, NotExact> {
    fn or_status(self) -> Result<T, Status> {
        self.map_err(not_exact)
    }
}

/// The keys of metadata that an update mask names, with their new values: null takes one away.
fn metadata_keys(paths: &[String], new: Option<&Object>) -> Object {
    let keys = paths.iter().filter_map(|path| path.strip_prefix("metadata."));
    keys.map(|key| (key, new.and_then(|new| new.get(key)).cloned().unwrap_or_default())).collect()
}

/// Refuses paths of a mask that name nothing which can be changed.
fn check_mask(check: &mut Check, paths: &[String], known: &[&str]) {
    for (at, path) in paths.iter().enumerate() {
        let is_key = path.strip_prefix("metadata.").is_some_and(|key| !key.is_empty());
        if !is_key && !known.contains(&path.as_str()) {
            let what = format!(
                "`{}` cannot be changed; there are {}, and metadata.KEY",
                crate::check::short(path),
                known.join(", ")
            );
            check.fail(format!("update_mask.paths[{at}]"), what);
        }
    }
}
