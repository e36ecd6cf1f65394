//! Cancelling: a run that waits ends at once, one that is under way is stopped and ends by its own hand.

use std::{sync::Arc, time::Duration};

use runloom_engine::{RunId, model::Usage};
use runloom_store::{Attempt, CancelAction, Canceller, Multitask, Run, RunEnd, RunStatus, TenantId};

use super::{StoredRequest, usage::kept_usage};
use crate::{
    Core, Error, Reason, Result,
    log::{Cancellation, End, Live, LogWriter, Origin},
};

impl Core {
    /// Cancels a run: the request is on disk when this answers, and with `wait` the run is over. A run that is over is
    /// answered as it is. The run's end says who asked.
    pub async fn cancel_run(&self, id: RunId, action: CancelAction, by: Canceller, wait: bool) -> Result<Run> {
        // A caller that goes away now must not leave a run that is to end and is not told.
        let core = self.clone();
        let asked = tokio::spawn(async move {
            let run = core.inner.store.request_cancel(&TenantId::default(), id, action, by).await?;
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

    /// Makes a run that is to be cancelled stop. Gives it where it ended here and now.
    async fn end_cancelled(&self, run: &Run) -> Result<Option<Run>> {
        if let Some(active) = self.inner.runner.active(run.id) {
            active.stop.cancel();
            return Ok(None);
        }
        if run.status != RunStatus::Pending {
            // A server that is gone left it running: the thread's turn ends it.
            self.poke(run.thread);
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
        let attempt: Attempt = run.current();
        let live = self.inner.runner.logs.open(run.id);
        let bounds = self.inner.store.log_bounds(&TenantId::default(), run.id).await?;
        // One that cannot be read is cancelled all the same.
        let spec = StoredRequest::of(run).map(|stored| stored.spec).unwrap_or_default();
        let codec = self.codec_of(run, &spec.options).await?;
        let store = self.inner.store.clone();
        // The one number that its end needs; an attempt that begins meanwhile fences this off.
        let numbers = (bounds.next, u64::MAX);
        let mut log = LogWriter::new(live, store.clone(), attempt, codec, self.inner.clock.clone(), numbers);
        let used = kept_usage(run);
        let end = cancelled(run, used);
        let error = end.error.as_ref().map(Error::to_value);
        let delivery = self.delivery(run, &spec.delivery, &end).await;
        let is_posted = delivery.is_some();
        let (record, records) = log.last(Origin::default(), end.into()).await?;
        let expires_at = run.stateless.then(|| self.inner.clock.now() + self.inner.options.stateless_ttl);
        let usage = runloom_engine::to_value(&used).ok();
        let status = RunStatus::Cancelled;
        let end = RunEnd { status, error, usage, records, expires_at, delivery, ..RunEnd::default() };
        let ended = store.finish_run(attempt, end).await?;
        if is_posted {
            self.inner.post.filled();
        }
        let is_rollback = run.cancel.as_ref().is_some_and(|c| c.action == CancelAction::Rollback);
        let taken = if is_rollback { self.take_back(&ended).await } else { Ok(()) };
        log.shown(record);
        self.inner.runner.logs.close(run.id);
        self.inner.runner.logs.moved(run.thread);
        taken.map(|()| ended)
    }

    /// For a new run that does not wait for the others: cancels those of its thread that came before it.
    pub(crate) async fn make_way(&self, new: &Run) -> Result<()> {
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
