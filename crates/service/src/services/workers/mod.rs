//! Service Workers: the stream of a worker, and what is shown of workers.

mod attach;
mod decode;
mod encode;
mod hello;
mod list;

use std::{pin::Pin, time::Duration};

use futures_core::Stream;
use runloom::v1::{
    AttachRequest, AttachResponse, GetWorkerRequest, GetWorkerResponse, ListWorkersRequest, ListWorkersResponse,
    workers_server::Workers,
};
use tonic::{Request, Response, Status, Streaming};

use runloom_core::{Error, Reason, Session};

use super::{Answer, Api};
use crate::{connection::Call, status::status};

/// The largest Emit, in bytes.
pub(super) const MAX_EMIT_BYTES: usize = 1 << 20;
/// The largest outcome, in bytes.
pub(super) const MAX_DONE_BYTES: usize = 16 << 20;
/// The most bytes of a heartbeat's details, and of a failure's.
pub(super) const MAX_DETAILS_BYTES: usize = 64 << 10;
/// How long the server is silent at most.
pub(super) const SIGN_OF_LIFE: Duration = Duration::from_secs(10);
/// After which silence of the server a worker may give its connection up.
pub(super) const SERVER_TIMEOUT: Duration = Duration::from_secs(30);

#[tonic::async_trait]
impl Workers for Api {
    type AttachStream = Pin<Box<dyn Stream<Item = Result<AttachResponse, Status>> + Send>>;

    async fn attach(&self, request: Request<Streaming<AttachRequest>>) -> Answer<Self::AttachStream> {
        let call = Call::of(&request);
        let permit = call.open_stream()?;
        let session = operators(self.session(&request))?;
        let messages = attach::attach(self.clone(), session, call.caller(), request.into_inner(), permit);
        Ok(Response::new(Box::pin(messages)))
    }

    async fn list_workers(&self, request: Request<ListWorkersRequest>) -> Answer<ListWorkersResponse> {
        operators(self.session(&request))?;
        self.list_workers_of(request.into_inner())
    }

    async fn get_worker(&self, request: Request<GetWorkerRequest>) -> Answer<GetWorkerResponse> {
        operators(self.session(&request))?;
        self.get_worker_by_id(request.into_inner())
    }
}

/// A session of the default tenant. A queue of workers serves the runs of all tenants, so that only the operator's workers may see its tasks.
fn operators(session: Session) -> Result<Session, Status> {
    if session.caller().tenant.is_default() {
        return Ok(session);
    }
    let message = "workers belong to the operator: use a key of the default tenant";
    Err(status(Error::new(Reason::ScopeMissing, message).with("scope", "workers")))
}
