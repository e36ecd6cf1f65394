//! The end of an attempt: what is kept of it in one transaction, and how it leaves its thread.

use std::sync::Arc;

use runloom_engine::{NodeFailure, Object, Value, checkpoint::CheckpointView, stream::SnapshotRef};
use runloom_store::{Attempt, CancelAction, Run, RunEnd, RunStatus, ThreadStatus, ThreadUpdate};

use super::{Delivery, StoredRequest, attempt::Work, cancel::cancelled, observe};
use crate::{
    Error, Reason, Result, Session,
    log::{End, LogWriter, Origin},
};

/// How a run ends.
struct Ending {
    end: End,
    /// The state that the end refers to.
    state: Option<SnapshotRef>,
    thread: ThreadUpdate,
    is_rollback: bool,
}

impl Session {
    /// Keeps the run's end, and shows it once it is on disk.
    pub(super) async fn finish(
        &self,
        work: &Work<'_>,
        end: End,
        state: Option<SnapshotRef>,
        log: &mut LogWriter,
    ) -> Result<()> {
        let (run, attempt) = (work.run, work.attempt);
        let latest = self.inner.store.get_run(self.tenant(), run.id).await?;
        let is_rollback = latest.cancel.as_ref().is_some_and(|c| c.action == CancelAction::Rollback);
        log.flush().await?;
        log.settle().await?;
        let (mut end, state) = if is_rollback { (cancelled(&latest, end.usage), None) } else { (end, state) };
        if let Some(error) = &mut end.error {
            self.place(run, error).await;
        }
        let thread = if is_rollback { ThreadUpdate::default() } else { self.thread_after(run, &mut end).await };
        let ending = Ending { end, state, thread, is_rollback };
        self.commit_end(run, &work.request.spec.delivery, attempt, ending, log).await.map(drop)
    }

    /// Ends a run that no attempt drives: one that waits, or one whose attempts are used up.
    pub(super) async fn finish_without_attempt(&self, run: &Run, request: &StoredRequest, mut end: End) -> Result<Run> {
        let live = self.inner.runner.logs.open(run.id);
        let bounds = self.inner.store.log_bounds(self.tenant(), run.id).await?;
        let codec = self.codec_of(run, &request.spec.options).await?;
        // The one number that its end needs; an attempt that begins meanwhile fences this off.
        let numbers = (bounds.next, u64::MAX);
        let (store, clock) = (self.inner.store.clone(), self.inner.clock.clone());
        let counted = self.count_events(run, run.attempt, &request.spec, &codec).await;
        let mut log = LogWriter::new(live, store, run.current(), codec, clock, numbers);
        log.count_from(counted);
        let is_rollback = run.cancel.as_ref().is_some_and(|c| c.action == CancelAction::Rollback);
        let has_begun = run.status == RunStatus::Running && !is_rollback;
        let thread = if has_begun { self.thread_after(run, &mut end).await } else { ThreadUpdate::default() };
        let ending = Ending { end, state: None, thread, is_rollback };
        self.commit_end(run, &request.spec.delivery, run.current(), ending, &mut log).await
    }

    async fn commit_end(
        &self,
        run: &Run,
        asked: &Delivery,
        attempt: Attempt,
        ending: Ending,
        log: &mut LogWriter,
    ) -> Result<Run> {
        let Ending { end, state, thread, is_rollback } = ending;
        let (status, usage) = (end.status, runloom_engine::to_value(&end.usage).ok());
        let error = end.error.as_ref().map(Error::to_value);
        let delivery = self.delivery(run, asked, &end).await;
        let outcome = observe::Outcome::of(&end);
        let origin = Origin { base: state, ..Origin::default() };
        let (record, records) = log.last(origin, end.into()).await?;
        let events = log.events();
        let expires_at = run.stateless.then(|| self.inner.clock.now() + self.inner.options.stateless_ttl);
        let stored = RunEnd { status, error, usage, expires_at, records, thread, delivery, events };
        let ended = self.inner.store.finish_run(attempt, stored).await?;
        observe::ended(run, &outcome, self.inner.clock.now());
        // Who sees the end finds the thread as it was, and writes to it without being written over.
        let restored = if is_rollback { self.roll_back(&ended).await } else { Ok(()) };
        if self.inner.overdue.lock().remove(&self.key(run.thread)) {
            self.inner.expiring.notify_one();
        }
        log.shown(record);
        self.inner.runner.logs.close(run.id);
        if let (false, Some(at)) = (is_rollback, ended.ended_at) {
            let revision: Arc<str> = run.revision.as_str().into();
            self.inner.runner.fits.lock().put(self.key(run.thread), revision, at);
        }
        restored.map(|()| ended)
    }

    /// What the thread is after the run: what stands open on it, and what its users see.
    pub(super) async fn thread_after(&self, run: &Run, end: &mut End) -> ThreadUpdate {
        let view = match self.view_of_thread(run, false).await {
            Ok(view) => Some(view),
            Err(error) => {
                tracing::warn!(thread = %run.thread, %error, "cannot look at the thread after its run");
                None
            }
        };
        end.checkpoint_id = view.as_ref().and_then(|v| v.config.as_ref()?.id);
        let pending = view.as_ref().is_some_and(|v| !v.next.is_empty());
        let status = match end.status {
            RunStatus::Failed | RunStatus::TimedOut => ThreadStatus::Error,
            RunStatus::AwaitingInput => ThreadStatus::Interrupted,
            _ if pending => ThreadStatus::Interrupted,
            _ => ThreadStatus::Idle,
        };
        ThreadUpdate {
            status: Some(status),
            error: Some(end.error.as_ref().map_or(Value::Null, Error::to_value)),
            interrupts: Some(view.map_or(Value::Null, |v| open_questions(&v))),
            state_changed: true,
            ..ThreadUpdate::default()
        }
    }

    /// Where in its graphs a task failed: its id and namespace, the innermost that is known.
    async fn place(&self, run: &Run, error: &mut Error) {
        if !matches!(error.reason, Reason::NodeFailed | Reason::NodeTimeout) {
            return;
        }
        let Ok(view) = self.view_of_thread(run, true).await else { return };
        if let Some((task, namespace)) = failed_task(&view) {
            error.metadata.insert("task_id", task);
            error.metadata.insert("namespace", namespace);
        }
    }

    pub(crate) async fn view_of_thread(&self, run: &Run, subgraphs: bool) -> Result<CheckpointView> {
        let served = self.inner.registry.revision(&run.graph, &run.revision, &self.inner.store).await;
        let served = served.ok_or_else(|| Error::new(Reason::GraphUnknown, "the graph is not served any more"))?;
        let graph = served.graph.with_checkpointer(self.inner.store.checkpointer_by_hand(self.tenant(), None));
        Ok(crate::state::latest_state(&graph, run.thread, "", subgraphs).await?)
    }
}

/// The open questions of a thread by task id: `{task_id: [{value, id}]}`.
pub(crate) fn open_questions(view: &CheckpointView) -> Value {
    let by_task = view.tasks.iter().filter(|t| !t.interrupts.is_empty()).map(|t| {
        let questions: Vec<Value> = t.interrupts.iter().map(runloom_engine::stream::Interrupt::to_value).collect();
        (t.id.to_string(), Value::from(questions))
    });
    Value::Object(by_task.collect::<Object>())
}

/// The task that failed, and the namespace it is in.
fn failed_task(view: &CheckpointView) -> Option<(String, String)> {
    let failed = |error: &NodeFailure| &*error.kind != "CancelledError";
    let task = view.tasks.iter().find(|task| task.error.as_ref().is_some_and(failed))?;
    let within = task.state.as_ref().and_then(|state| failed_task(state));
    within.or_else(|| Some((task.id.to_string(), view.config.as_ref()?.ns.to_string())))
}
