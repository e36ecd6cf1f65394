//! The tasks of a step: planned, taken over from an earlier stop, run side by side.

use std::{
    collections::{HashMap, VecDeque},
    slice,
    sync::Arc,
};

use futures_util::stream::{FuturesUnordered, StreamExt};

use super::{Ended, Superstep, Task, TaskWrites, Written};
use crate::{
    Error, NodeError, NodeFailure, TaskId,
    checkpoint::{Outcome, TaskRecord},
    graph::StateView,
    run::{
        task,
        taskscope::{HandledError, TaskPath},
    },
    stream::SnapshotRef,
};

impl Superstep {
    /// The tasks of the coming step: the Sends in their order, then the triggered nodes by name.
    pub fn plan(&self) -> Result<Vec<Task>, NodeError> {
        let inner = &self.graph().inner;
        let mut tasks = Vec::with_capacity(self.next.sends.len() + self.next.triggered.len());
        for (at, (node, input)) in self.next.sends.iter().enumerate() {
            let path = TaskPath::push(at);
            let id = self.task_id(&inner.nodes[*node].name, path);
            let input = StateView::Input(input.clone());
            let repeats = self.repeats(*node, path);
            tasks.push(Task { checkpoint: self.saver.current, repeats, ..Task::new(*node, path, id, input) });
        }
        for node in &self.next.triggered {
            let path = TaskPath::pull(*node);
            let id = self.task_id(&inner.nodes[*node].name, path);
            let state = StateView::State(self.channels.snapshot().clone());
            let repeats = self.repeats(*node, path);
            tasks.push(Task { checkpoint: self.saver.current, repeats, ..Task::new(*node, path, id, state) });
        }
        if !self.replaying {
            let handlers: Vec<Task> = tasks.iter().filter_map(|task| self.open_handler(task)).collect();
            tasks.extend(handlers);
        }
        Ok(tasks)
    }

    /// The error handler of a task that had failed when the step stopped.
    fn open_handler(&self, task: &Task) -> Option<Task> {
        match &self.records.iter().find(|record| record.task == task.id)?.outcome {
            Some(Outcome::Handled(failure)) => self.handler(task, failure),
            _ => None,
        }
    }

    /// The task that handles the error of another.
    fn handler(&self, task: &Task, failure: &NodeFailure) -> Option<Task> {
        let inner = &self.graph().inner;
        let node = inner.nodes[task.node].handler?;
        let path = task.path.handler();
        let handled = HandledError { node: inner.nodes[task.node].name.clone(), failure: failure.clone() };
        let id = self.task_id(&inner.nodes[node].name, path);
        Some(Task {
            checkpoint: self.saver.current,
            handles: Some(Arc::new(handled)),
            repeats: self.repeats(node, path),
            ..Task::new(node, path, id, task.input.clone())
        })
    }

    /// Hands finished tasks of an earlier stop what they wrote, and the others the answers they have had.
    pub(super) fn reuse(&mut self, tasks: &mut [Task]) {
        // A try that a crash cut off left no record: each attempt at the run has tried the task once at least.
        let cut_off = if self.resuming { self.level.run.config.attempt.saturating_sub(1) } else { 0 };
        if self.records.is_empty() && cut_off == 0 {
            return;
        }
        let graph = self.level.graph.clone();
        let records: HashMap<TaskId, &TaskRecord> = self.records.iter().map(|r| (r.task, r)).collect();
        for task in tasks {
            task.tries = 1 + cut_off;
            let Some(record) = records.get(&task.id).copied() else { continue };
            task.tries = 1 + cut_off.max(record.tries);
            match &record.outcome {
                Some(Outcome::Done(writes)) if !self.replaying => {
                    task.ended = Some(Ended::Done(TaskWrites::restore(&graph, Some(task.node), writes)));
                    task.cached = true;
                }
                Some(Outcome::Handled(failure)) if !self.replaying => {
                    task.ended = Some(Ended::Handled(failure.clone()));
                    task.cached = true;
                }
                None if !self.replaying && !self.is_answered(record) => {
                    task.ended = Some(Ended::Asked(record.interrupts.clone()));
                    task.cached = true;
                }
                _ if !self.replaying || !self.resuming => task.earlier = Some(record.clone()),
                _ => task.earlier = Some(TaskRecord { answers: Vec::new(), ..record.clone() }),
            }
        }
    }

    /// Whether a task that stopped at questions is to run again. Where the run answers questions by their ids, one that got
    /// no answer stays stopped; without an answer by id, all of them run again, and ask again.
    fn is_answered(&self, record: &TaskRecord) -> bool {
        let answers = &self.level.run.answers.by_id;
        answers.is_empty()
            || record.interrupts.is_empty()
            || record.interrupts.iter().any(|q| answers.iter().any(|(id, _)| *id == q.id))
    }

    /// Runs the tasks that have not ended, side by side, and the error handlers of those that fail. An error that no
    /// handler takes cancels the others.
    pub(super) async fn execute(&mut self, mut tasks: Vec<Task>) -> Result<Vec<Task>, NodeError> {
        let base = self.channels.snapshot().clone();
        // Cached ones are told first, as they were: in the order of the step.
        for task in tasks.iter().filter(|t| t.ended.is_some()) {
            self.tell_end(task, &base);
            self.pacer.pause().await;
        }
        self.written = Written::default();
        let mut waiting: VecDeque<usize> = (0..tasks.len()).filter(|i| tasks[*i].ended.is_none()).collect();
        if let [only] = waiting.make_contiguous() {
            let only = *only;
            let ended = task::run(&self.level, &tasks[only], self.step, &base, self.resuming).await;
            waiting.clear();
            waiting.extend(self.settle(&mut tasks, only, ended, &base).await?);
        }
        let limit = self.level.run.config.max_concurrency.unwrap_or(usize::MAX).max(1);
        let mut running = FuturesUnordered::new();
        let level = self.level.clone();
        let (step, resuming) = (self.step, self.resuming);
        let start = |i: usize, task: &Task| {
            let (level, task, base) = (level.clone(), task.clone(), base.clone());
            async move { (i, task::run(&level, &task, step, &base, resuming).await) }
        };
        loop {
            while running.len() < limit
                && let Some(i) = waiting.pop_front()
            {
                running.push(start(i, &tasks[i]));
            }
            let Some((i, ended)) = running.next().await else { return Ok(tasks) };
            // Dropping `running` on an error cancels the siblings.
            if let Some(handler) = self.settle(&mut tasks, i, ended, &base).await? {
                waiting.push_front(handler);
            }
            self.pacer.pause().await;
        }
    }

    /// A task has ended: its record is stored and its end emitted, at once. Returns the index of the task that handles its
    /// error, where one does.
    async fn settle(
        &mut self,
        tasks: &mut Vec<Task>,
        at: usize,
        ended: task::Finished,
        base: &SnapshotRef,
    ) -> Result<Option<usize>, NodeError> {
        let task = &mut tasks[at];
        let (ended, record, hooks) = ended;
        task.tries = task.tries.max(record.tries);
        self.saver.put_task_then(&self.level, record, hooks);
        task.ended = Some(ended);
        self.tell_end(task, base);
        let graph = &self.level.graph;
        let node = &graph.inner.nodes[task.node].name;
        match &task.ended {
            Some(Ended::Done(writes)) => {
                self.written.add(graph, &self.level.run.config.limits, node, writes)?;
                Ok(None)
            }
            Some(Ended::Failed(failure)) => Err(match failure.share() {
                NodeError::Failed(error) => {
                    Error::Node { graph: graph.name().to_string(), node: node.to_string(), error }.into()
                }
                other => other,
            }),
            Some(Ended::Handled(failure)) => {
                let Some(handler) = self.handler(task, failure) else { return Ok(None) };
                self.tell_starts(slice::from_ref(&handler)).await;
                tasks.push(handler);
                Ok(Some(tasks.len() - 1))
            }
            _ => Ok(None),
        }
    }
}
