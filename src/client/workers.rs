//! The unary methods of service Workers.

use super::{Client, present, repeated};
use crate::{
    Error,
    v1::{GetWorkerRequest, ListWorkersRequest, ListWorkersResponse, Worker},
};

impl Client {
    /// Lists attached workers, a page at a time, and the queues with the first page.
    pub async fn list_workers(&self, request: ListWorkersRequest) -> Result<ListWorkersResponse, Error> {
        repeated!(self, workers.list_workers(request))
    }

    /// Returns a worker with its tasks.
    pub async fn get_worker(&self, worker_id: impl Into<String>) -> Result<Worker, Error> {
        let request = GetWorkerRequest { worker_id: worker_id.into() };
        present(repeated!(self, workers.get_worker(request))?.worker, "worker")
    }
}
