//! Workers, queues and tasks as they are shown.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use runloom_engine::TaskId;

use crate::{
    Workers,
    state::{Phase, State, Worker},
    types::{Handler, HandlerKind, TaskPlace, WorkerId},
};

/// A worker that is attached.
#[derive(Clone, Debug)]
pub struct WorkerInfo {
    /// Its id.
    pub worker_id: WorkerId,
    /// Its queue.
    pub queue: Arc<str>,
    /// Its SDK.
    pub sdk: String,
    /// The version of its SDK.
    pub sdk_version: String,
    /// Host and process.
    pub description: String,
    /// Its network address.
    pub peer: String,
    /// What it can execute.
    pub handlers: Vec<Handler>,
    /// How many more tasks it can take.
    pub credit: u32,
    /// How many it executes at once, at most.
    pub max_tasks: u32,
    /// Whether it takes no more tasks.
    pub draining: bool,
    /// When it attached.
    pub attached: SystemTime,
    /// Its tasks.
    pub tasks: Vec<RunningTask>,
}

/// A task that a worker executes.
#[derive(Clone, Debug)]
pub struct RunningTask {
    /// Where it stands.
    pub place: Arc<TaskPlace>,
    /// Its handler.
    pub handler: Arc<str>,
    /// When the worker was given it.
    pub since: SystemTime,
    /// Its last sign of life.
    pub beat: SystemTime,
}

/// A queue of tasks.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueInfo {
    /// Its name.
    pub name: Arc<str>,
    /// How many tasks wait for a worker.
    pub waiting: usize,
    /// How many workers execute.
    pub running: usize,
    /// How long the oldest has waited.
    pub oldest_wait: Option<Duration>,
    /// How many workers are attached.
    pub workers: usize,
    /// Handlers that tasks wait for and no worker has.
    pub missing: Vec<(HandlerKind, Arc<str>)>,
}

impl Workers {
    /// The workers, by queue and id; those of one queue, or all.
    pub fn list(&self, queue: Option<&str>) -> Vec<WorkerInfo> {
        let state = self.state.lock();
        let wanted = state.workers.values().filter(|w| queue.is_none_or(|queue| *w.hello.queue == *queue));
        let mut workers: Vec<_> = wanted.map(|worker| info(&state, worker)).collect();
        workers.sort_by(|a, b| (&a.queue, a.worker_id).cmp(&(&b.queue, b.worker_id)));
        workers
    }

    /// A worker.
    pub fn get(&self, id: WorkerId) -> Option<WorkerInfo> {
        let state = self.state.lock();
        state.workers.get(&id).map(|worker| info(&state, worker))
    }

    /// The queues, by name; one, or all.
    pub fn queues(&self, queue: Option<&str>) -> Vec<QueueInfo> {
        let state = self.state.lock();
        let wanted = state.queues.iter().filter(|(name, _)| queue.is_none_or(|queue| ***name == *queue));
        wanted
            .map(|(name, line)| {
                let workers: Vec<&Worker> = line.workers.iter().filter_map(|id| state.workers.get(id)).collect();
                let lanes = line.queue.lanes();
                let missing = lanes.filter(|lane| !workers.iter().any(|worker| worker.handlers.contains_key(lane)));
                QueueInfo {
                    name: name.clone(),
                    waiting: line.queue.len(),
                    running: line.running,
                    oldest_wait: line.queue.oldest().map(|since| since.elapsed()),
                    workers: workers.len(),
                    missing: missing.cloned().collect(),
                }
            })
            .collect()
    }

    /// The tasks that wait for a worker, with their queues.
    pub fn waiting(&self) -> HashMap<TaskId, Arc<str>> {
        let state = self.state.lock();
        if state.queues.values().all(|line| line.queue.len() == 0) {
            return HashMap::new();
        }
        let waiting = state.tasks.values().filter(|entry| matches!(entry.phase, Phase::Waiting(_)));
        waiting.map(|entry| (entry.key.task, entry.queue.clone())).collect()
    }
}

fn info(state: &State, worker: &Worker) -> WorkerInfo {
    let mut tasks: Vec<RunningTask> = worker
        .tasks
        .iter()
        .filter_map(|token| {
            let entry = state.tasks.get(token)?;
            let Phase::Running { since, .. } = entry.phase else { return None };
            Some(RunningTask {
                place: entry.assignment.place.clone(),
                handler: entry.assignment.lane.1.clone(),
                since,
                beat: entry.beat,
            })
        })
        .collect();
    tasks.sort_by_key(|task| (task.since, task.place.task));
    let hello = &worker.hello;
    WorkerInfo {
        worker_id: hello.worker_id,
        queue: hello.queue.clone(),
        sdk: hello.sdk.clone(),
        sdk_version: hello.sdk_version.clone(),
        description: hello.description.clone(),
        peer: hello.peer.clone(),
        handlers: hello.handlers.clone(),
        credit: worker.credit,
        max_tasks: hello.max_tasks,
        draining: worker.draining,
        attached: worker.attached,
        tasks,
    }
}
