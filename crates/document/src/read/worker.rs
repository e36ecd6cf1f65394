//! Reading what runs in a worker: `{queue, handler, schedule_to_start_ms}`.

use std::{sync::Arc, time::Duration};

use runloom_workers::{MAX_NAME_BYTES, WorkerNode, WorkerRoute, WorkerTool};

use super::{Reader, given::Scope};
use crate::{run::Step, tree::Tree};

/// A handler of workers.
#[derive(Clone, Debug)]
pub(crate) struct WorkerRef {
    pub queue: Arc<str>,
    pub handler: Arc<str>,
    pub schedule_to_start: Option<Duration>,
}

impl Reader<'_> {
    /// A handler by its queue and name; `name` is its name where the document has none.
    pub(in crate::read) fn worker(&mut self, tree: &Tree, name: Option<&Arc<str>>) -> Option<WorkerRef> {
        let fields = self.fields(tree, &["queue", "handler", "schedule_to_start_ms"]);
        let schedule_to_start = self.field(&fields, "schedule_to_start_ms", |r, t| r.integer(t, 1));
        let queue = self.field(&fields, "queue", |r, t| r.worker_name(t));
        if fields.get("queue").is_none() && matches!(tree.data, crate::tree::Data::Map(_)) {
            self.fault(tree.at, "a `worker` needs a `queue`: the name under which workers attach");
        }
        let handler = match (fields.get("handler"), name) {
            (Some(handler), _) => self.within("handler", |r| r.worker_name(handler)),
            (None, Some(name)) => Some(name.clone()),
            (None, None) => {
                self.fault(
                    tree.at,
                    "a `worker` needs a `handler` here: the name of one that workers of the queue have",
                );
                None
            }
        };
        Some(WorkerRef {
            queue: queue?,
            handler: handler?,
            schedule_to_start: schedule_to_start.map(Duration::from_millis),
        })
    }

    /// The action of a node.
    pub(super) fn worker_step(&mut self, tree: &Tree, scope: &Scope<'_>, to: &[Arc<str>]) -> Option<Step> {
        let worker = self.worker(tree, None)?;
        // Its commands may go anywhere.
        self.may_send |= to.is_empty();
        Some(Step::Worker(Box::new(worker.node(scope))))
    }

    fn worker_name(&mut self, tree: &Tree) -> Option<Arc<str>> {
        let text = self.text(tree)?.clone();
        if text.is_empty() || text.len() > MAX_NAME_BYTES {
            self.fault(tree.at, format!("a name has 1 to {MAX_NAME_BYTES} bytes, this has {}", text.len()));
            return None;
        }
        Some(text)
    }
}

impl WorkerRef {
    /// The tool that runs there.
    pub fn tool(self, name: &Arc<str>, scope: &Scope<'_>) -> WorkerTool {
        WorkerTool {
            workers: scope.workers.clone(),
            queue: self.queue,
            handler: self.handler,
            name: name.clone(),
            schedule_to_start: self.schedule_to_start,
        }
    }

    /// The route that is decided there.
    pub fn route(self, scope: &Scope<'_>) -> WorkerRoute {
        WorkerRoute {
            workers: scope.workers.clone(),
            queue: self.queue,
            handler: self.handler,
            schedule_to_start: self.schedule_to_start,
        }
    }

    /// The node that runs there.
    pub fn node(self, scope: &Scope<'_>) -> WorkerNode {
        WorkerNode {
            workers: scope.workers.clone(),
            queue: self.queue,
            handler: self.handler,
            schedule_to_start: self.schedule_to_start,
            timeout: None,
            idle_timeout: None,
        }
    }
}
