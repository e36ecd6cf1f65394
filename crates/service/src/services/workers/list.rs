//! What is shown of workers.

use runloom::v1::{self, GetWorkerRequest, GetWorkerResponse, ListWorkersRequest, ListWorkersResponse};
use runloom_core::{Error, Reason};
use runloom_workers::{QueueInfo, WorkerInfo};
use tonic::Response;

use super::{
    super::{Answer, Api, OrStatus},
    attach::duration,
    encode::kind,
};
use crate::{check::Check, convert::timestamp, pages::Pages};

impl Api {
    pub(super) fn list_workers_of(&self, request: ListWorkersRequest) -> Answer<ListWorkersResponse> {
        let (pages, page) = Pages::of(&request, 50).or_status()?;
        let queue = Some(request.queue.as_str()).filter(|queue| !queue.is_empty());
        let workers = self.core.workers();
        // A page begins after the worker that its token names.
        let place = |worker: &WorkerInfo| format!("{} {}", worker.queue, worker.worker_id);
        let is_first = page.token.is_none();
        let after = page.token.unwrap_or_default();
        let mut list: Vec<WorkerInfo> =
            workers.list(queue).into_iter().filter(|worker| is_first || place(worker) > after).collect();
        let has_more = list.len() > page.size;
        list.truncate(page.size);
        let next = list.last().filter(|_| has_more).map(place);
        let queues = if is_first { workers.queues(queue) } else { Vec::new() };
        Ok(Response::new(ListWorkersResponse {
            workers: list.iter().map(|worker| self.worker(worker)).collect(),
            queues: queues.into_iter().map(self::queue).collect(),
            next_page_token: pages.next(next),
        }))
    }

    pub(super) fn get_worker_by_id(&self, request: GetWorkerRequest) -> Answer<GetWorkerResponse> {
        let mut check = Check::default();
        let id: uuid::Uuid = check.id("worker_id", &request.worker_id);
        check.done()?;
        let worker = self.core.workers().get(id).ok_or_else(|| {
            let message = format!("no worker {id} is attached to this server; ListWorkers shows those that are");
            Error::new(Reason::WorkerNotFound, message).with("worker_id", id)
        });
        Ok(Response::new(GetWorkerResponse { worker: Some(self.worker(&worker.or_status()?)) }))
    }

    fn worker(&self, worker: &WorkerInfo) -> v1::Worker {
        v1::Worker {
            worker_id: worker.worker_id.to_string(),
            queue: worker.queue.to_string(),
            sdk: worker.sdk.clone(),
            sdk_version: worker.sdk_version.clone(),
            description: worker.description.clone(),
            peer: worker.peer.clone(),
            server_id: self.core.server().to_string(),
            handlers: worker
                .handlers
                .iter()
                .map(|handler| v1::Handler {
                    name: handler.name.to_string(),
                    kind: kind(handler.kind).into(),
                    description: handler.description.clone(),
                    input_schema: None,
                    output_schema: None,
                })
                .collect(),
            credit: worker.credit,
            max_tasks: worker.max_tasks,
            draining: worker.draining,
            attach_time: Some(timestamp(worker.attached)),
            tasks: worker
                .tasks
                .iter()
                .map(|task| v1::RunningTask {
                    task_id: task.place.task.to_string(),
                    run_id: task.place.run.to_string(),
                    thread_id: task.place.thread.map(|thread| thread.to_string()).unwrap_or_default(),
                    graph_name: task.place.graph.to_string(),
                    node: task.place.node.to_string(),
                    handler: task.handler.to_string(),
                    r#try: task.place.tries,
                    start_time: Some(timestamp(task.since)),
                    heartbeat_time: Some(timestamp(task.beat)),
                })
                .collect(),
        }
    }
}

fn queue(queue: QueueInfo) -> v1::WorkerQueue {
    v1::WorkerQueue {
        name: queue.name.to_string(),
        waiting: queue.waiting as u64,
        running: queue.running as u64,
        oldest_wait: queue.oldest_wait.map(duration),
        workers: u32::try_from(queue.workers).unwrap_or(u32::MAX),
        missing_handlers: queue.missing.iter().map(|(_, name)| name.to_string()).collect(),
    }
}
