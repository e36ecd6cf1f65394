//! Cancelling: a run that waits ends at once, one that is under way is stopped and ends by its own hand.

use std::{sync::Arc, time::Duration};

use runloom_engine::{RunId, model::Usage};
use runloom_store::{CancelAction, Canceller, Multitask, Run, RunStatus};

use super::{StoredRequest, usage::stored_usage};
use crate::{
    Error, Reason, Result, Session,
    log::{Cancellation, End, Live},
};

impl Session {
    /// Cancels a run: the request is on disk when this answers, and with `wait` the run is over. A run that is over is
    /// answered as it is. The run's end says who asked.
    pub async fn cancel_run(&self, id: RunId, action: CancelAction, by: Canceller, wait: bool) -> Result<Run> {
        // A caller that goes away now must not leave a run that is to end and is not told.
        let core = self.clone();
        let asked = tokio::spawn(async move {
            let run = core.inner.store.request_cancel(core.tenant(), id, action, by).await?;
            if run.status.is_end() {
                return Ok((run, true));
            }
            Ok(match core.end_cancelled(&run).await? {
                Some(ended) => (ended, true),
                None => (run, false),
            })
        });
        let asked: Result<(Run, bool)> =
            asked.await.map_err(|_| Error::new(Reason::Internal, "the server is going down"))?;
        let (run, is_over) = asked?;
        if wait && !is_over {
            return match self.wait_run(id).await {
                Ok(outcome) => Ok(outcome.run),
                // It was rolled back before it could be waited for.
                Err(error) if error.reason == Reason::RunNotFound && action == CancelAction::Rollback => {
                    Ok(Run { status: RunStatus::Cancelled, ..run })
                }
                Err(error) => Err(error),
            };
        }
        Ok(run)
    }

    /// Stops a run. Returns it if it has already ended.
    async fn end_cancelled(&self, run: &Run) -> Result<Option<Run>> {
        if let Some(active) = self.inner.runner.active(run.id) {
            active.stop.cancel();
            return Ok(None);
        }
        if run.status != RunStatus::Pending {
            // Another server drives it, and has a hint from the store; or it is recovered, to be stopped.
            return Ok(None);
        }
        match self.finish_waiting(run).await {
            Ok(ended) => Ok(Some(ended)),
            // It began in this moment: then it is stopped as one that is under way.
            Err(error) if error.reason == Reason::RunActive => {
                if let Some(active) = self.inner.runner.active(run.id) {
                    active.stop.cancel();
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Ends a run that has not begun.
    async fn finish_waiting(&self, run: &Run) -> Result<Run> {
        let request = StoredRequest::or_empty(run);
        let used = stored_usage(run)?;
        self.finish_without_attempt(run, &request, cancelled(run, used)).await
    }

    /// For a new run that does not wait for the others: cancels those of its thread that came before it.
    pub(crate) async fn cancel_predecessors(&self, new: &Run) -> Result<()> {
        let action = match new.multitask {
            Multitask::Interrupt => CancelAction::Interrupt,
            Multitask::Rollback => CancelAction::Rollback,
            Multitask::Enqueue | Multitask::Reject => return Ok(()),
        };
        let others = self.unfinished(new.thread).await?;
        for other in others.into_iter().take_while(|r| r.id != new.id) {
            match self.cancel_run(other.id, action, Canceller::NewerRun(new.id), false).await {
                Ok(_) => {}
                Err(error) if error.reason == Reason::RunNotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Cancels a run once its last reader has been gone for the grace; watches until the run is over.
    pub(crate) fn watch_readers(&self, live: Arc<Live>, grace: Duration) {
        if !live.is_first_watch() {
            return;
        }
        let core = self.clone();
        tokio::spawn(async move {
            let mut readers = live.readers();
            loop {
                let alone = readers.wait_for(|r| r.over || (r.now == 0 && r.left.is_some())).await.map(|r| *r);
                let left = match alone {
                    Ok(now) if !now.over => now.left,
                    _ => return,
                };
                let until = left.map_or_else(std::time::Instant::now, |l| l + grace);
                let back = tokio::time::timeout_at(until.into(), readers.wait_for(|r| r.over || r.now > 0));
                if back.await.map(drop).is_ok() {
                    continue;
                }
                if let Err(error) = core.cancel_run(live.run, CancelAction::Interrupt, Canceller::Readers, false).await
                {
                    tracing::warn!(run = %live.run, %error, "cannot cancel a run whose readers left");
                }
                return;
            }
        });
    }
}

/// The end of a run that was cancelled.
pub(crate) fn cancelled(run: &Run, usage: Usage) -> End {
    let cancellation = Cancellation::of(run);
    let words = match &cancellation {
        Some(Cancellation { by, .. }) => format!("the run was cancelled by {by}"),
        None => "the run was cancelled".to_owned(),
    };
    let requester = cancellation.as_ref().map(|c| c.by.requester()).filter(|by| !by.is_empty());
    let error = Error::new(Reason::Cancelled, words);
    let mut error = requester.map_or_else(|| error.clone(), |by| error.clone().with("requester", by));
    error.kind = Some("UserInterrupt".to_owned());
    End {
        status: RunStatus::Cancelled,
        error: Some(error),
        usage,
        interrupts: Vec::new(),
        cancellation,
        checkpoint_id: None,
        values: None,
    }
}
