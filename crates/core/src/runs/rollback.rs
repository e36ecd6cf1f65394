//! Taking a run back: what it did goes, and so does the run; its thread is as it was before.

use runloom_engine::{Object, Value, model::Usage};
use runloom_store::{Direction, LastRun, PageRequest, Run, RunFilter, RunStatus, Thread, ThreadStatus, ThreadUpdate};

use super::{attempt::thread_config, cancel::cancelled, request::StoredRequest};
use crate::{Error, Result, Session};

impl Session {
    /// Takes a run back that has ended.
    pub(crate) async fn roll_back(&self, run: &Run) -> Result<()> {
        let store = &self.inner.store;
        store.delete_run_checkpoints(self.tenant(), run.id).await?;
        let thread = store.get_thread(self.tenant(), run.thread).await?;
        // Where another run is under way, that one says how the thread stands.
        let was_last = run.attempt > 0 && thread.status != ThreadStatus::Busy;
        let mut update = if was_last { self.without(run).await? } else { ThreadUpdate::default() };
        // What another run of the graph says of the thread is still so.
        update.metadata = if self.is_alone(run).await? { unmarked(run, &thread) } else { None };
        if update != ThreadUpdate::default() {
            store.update_thread(self.tenant(), run.thread, update).await?;
        }
        Ok(store.delete_run(self.tenant(), run.id).await?)
    }

    /// What the thread of a run that has begun is without it: as the run before left it, or a write by hand.
    async fn without(&self, run: &Run) -> Result<ThreadUpdate> {
        let Some(before) = self.begun_before(run).await? else {
            let none = ThreadUpdate {
                status: Some(ThreadStatus::Idle),
                last_run: Some(LastRun::default()),
                error: Some(Value::Null),
                interrupts: Some(Value::Null),
                state_changed: true,
                ..ThreadUpdate::default()
            };
            let Some(saved) = self.saved(run.thread, None).await? else { return Ok(none) };
            let by_hand = saved
                .checkpoint
                .metadata
                .get_str("graph_id")
                .and_then(|name| self.inner.registry.latest(self.tenant(), name).ok());
            let Some(served) = by_hand else { return Ok(none) };
            let noted = self.noted_state(run.thread, &served).await?;
            return Ok(ThreadUpdate { last_run: none.last_run, ..noted });
        };
        let mut end = cancelled(&before, Usage::default());
        (end.status, end.error) = (before.status, before.error.as_ref().map(Error::from_value));
        if matches!(end.status, RunStatus::Succeeded | RunStatus::AwaitingInput) {
            end.error = None;
        }
        let last = LastRun {
            graph: Some(before.graph.clone()),
            assistant: before.assistant,
            config: thread_config(&StoredRequest::or_empty(&before).spec.options),
        };
        Ok(ThreadUpdate { last_run: Some(last), ..self.thread_after(&before, &mut end).await })
    }

    /// Whether the thread has no other run of its graph, begun or not.
    async fn is_alone(&self, run: &Run) -> Result<bool> {
        let filter = RunFilter { thread: Some(run.thread), ..RunFilter::default() };
        let mut page = PageRequest::first(100);
        loop {
            let found = self.inner.store.list_runs(self.tenant(), filter.clone(), Direction::Descending, page).await?;
            if found.items.iter().any(|other| other.id != run.id && other.graph == run.graph) {
                return Ok(false);
            }
            match found.next {
                Some(token) => page = PageRequest::after(100, token),
                None => return Ok(true),
            }
        }
    }

    /// The run of the same thread that began last before this one.
    async fn begun_before(&self, run: &Run) -> Result<Option<Run>> {
        let filter = RunFilter { thread: Some(run.thread), ..RunFilter::default() };
        let mut page = PageRequest::first(100);
        loop {
            let found = self.inner.store.list_runs(self.tenant(), filter.clone(), Direction::Descending, page).await?;
            let mut begun = found.items.into_iter().filter(|other| other.id != run.id && other.status.is_end());
            if let Some(before) = begun.find(|other| other.started_at.is_some()) {
                return Ok(Some(before));
            }
            match found.next {
                Some(token) => page = PageRequest::after(100, token),
                None => return Ok(None),
            }
        }
    }
}

/// The keys by which a thread says of which graph it is, as they were before the run was made; none where they are not its.
fn unmarked(run: &Run, thread: &Thread) -> Option<Object> {
    let replaced = StoredRequest::of(run).ok()?.marks.replaced_metadata?;
    (thread.metadata.get_str("graph_id") == Some(&*run.graph)).then_some(replaced)
}
