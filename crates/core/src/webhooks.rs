//! Webhooks: what is posted when a run has ended. It is kept with the run's end, in one transaction, and deleted once it
//! was taken or given up: a server that goes down in between posts it when it is back. How it is posted is not the
//! core's business: see [`Webhooks`].

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use parking_lot::Mutex;
use runloom_engine::{RunId, Value};
use runloom_store::{Delivery, Job, NewDelivery, Run, Topic};
use tokio::sync::{Notify, Semaphore};
use tokio_util::task::TaskTracker;

use crate::{Core, Delivery as Recipients, Error, Reason, Result, Session, log::End, timer};

/// How many are under way at once.
const AT_ONCE: usize = 32;
/// How many are looked at together.
const LOOK: usize = 1000;
/// How long after the first failure it is tried again; twice as long after each further one, up to an hour.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60 * 60);
/// How long to wait before the store is asked again after a failure.
const RETRY: Duration = Duration::from_secs(5);
/// How long those under way have when the core drains.
const SETTLE: Duration = Duration::from_secs(5);

/// Who posts. A server without one refuses runs with a webhook.
#[async_trait]
pub trait Webhooks: Send + Sync + 'static {
    /// What is wrong with an address, as far as it shows before it is called.
    fn check(&self, url: &str) -> Result<(), String>;

    /// What is posted: a JSON object as text. `values` is the state in which the run left its thread, where it left one.
    fn body(&self, run: &Run, values: Option<&Value>, error: Option<&Error>) -> String;

    /// Posts.
    async fn post(&self, delivery: &Delivery) -> Posted;
}

/// What came of a post.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Posted {
    /// It was taken.
    Taken,
    /// It failed in a way that may pass, for this reason.
    Failed(String),
    /// It cannot be posted, for this reason.
    Refused(String),
}

/// What posts, and what is under way.
pub(crate) struct Post {
    pub by: Option<Arc<dyn Webhooks>>,
    /// For how long a delivery that fails is tried again.
    pub retry_window: Duration,
    /// A delivery that was under way here is not any more.
    ended: Notify,
    under_way: Mutex<HashSet<RunId>>,
    /// Deliveries that are left alone until a time: another server has claimed them.
    deferred: Mutex<HashMap<RunId, SystemTime>>,
    places: Arc<Semaphore>,
    tasks: TaskTracker,
}

impl Post {
    pub fn new(by: Option<Arc<dyn Webhooks>>, retry_window: Duration) -> Self {
        Self {
            by,
            retry_window,
            ended: Notify::new(),
            under_way: Mutex::default(),
            deferred: Mutex::default(),
            places: Arc::new(Semaphore::new(AT_ONCE)),
            tasks: TaskTracker::new(),
        }
    }

    /// Lets what is under way come to its end.
    pub async fn settle(&self) {
        self.tasks.close();
        if tokio::time::timeout(SETTLE, self.tasks.wait()).await.is_err() {
            tracing::warn!("webhooks that were not answered in time are called again after the restart");
        }
    }
}

/// A delivery that is under way, until this is dropped.
struct UnderWay {
    core: Core,
    run: RunId,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let post = &self.core.inner.post;
        post.under_way.lock().remove(&self.run);
        post.ended.notify_one();
    }
}

impl Session {
    /// Refuses a run whose webhook this server cannot call.
    pub(crate) fn check_webhook(&self, delivery: &Recipients) -> Result<()> {
        let Some(url) = &delivery.webhook else { return Ok(()) };
        match &self.inner.post.by {
            None => {
                let text = "this server does not call webhooks; wait for the run, or join it";
                Err(Error::new(Reason::NotSupported, text).with("feature", "webhook"))
            }
            Some(webhooks) => webhooks.check(url).map_err(|what| Error::field("webhook.url", what)),
        }
    }

    /// What is to be posted when a run ends so.
    pub(crate) async fn delivery(&self, run: &Run, asked: &Recipients, end: &End) -> Option<NewDelivery> {
        let (url, webhooks) = (asked.webhook.clone()?, self.inner.post.by.as_ref()?);
        let now = self.inner.clock.now();
        let ended = Run { status: end.status, ended_at: Some(now), updated_at: now, ..run.clone() };
        let left = match &end.values {
            Some(values) => Some(values.clone()),
            None => self
                .view_of_thread(run, false)
                .await
                .ok()
                .filter(|v| v.config.is_some())
                .map(|v| v.values.to_object().into()),
        };
        Some(NewDelivery { url, body: webhooks.body(&ended, left.as_ref(), end.error.as_ref()) })
    }
}

impl Core {
    /// Posts what waits for it, each at its time.
    pub(crate) async fn keep_posting(&self) {
        let (post, clock) = (&self.inner.post, &*self.inner.clock);
        let mut hints = self.inner.store.watch(Topic::Deliveries);
        if post.by.is_none() {
            return;
        }
        loop {
            let now = clock.now();
            let waiting = self.inner.store.waiting_deliveries(LOOK).await;
            let next = match waiting {
                Err(error) => {
                    tracing::warn!(%error, "cannot read which webhooks are to be called; trying again");
                    Some(now + RETRY)
                }
                Ok(waiting) => {
                    let mut next = None;
                    let mut deferred = std::mem::take(&mut *post.deferred.lock());
                    deferred.retain(|_, until| *until > now);
                    for (run, at) in waiting {
                        if post.under_way.lock().contains(&run) {
                            continue;
                        }
                        let at = at.max(deferred.get(&run).copied().unwrap_or(at));
                        if at > now {
                            next = Some(next.map_or(at, |next: SystemTime| next.min(at)));
                            continue;
                        }
                        let Ok(place) = post.places.clone().acquire_owned().await else { return };
                        post.under_way.lock().insert(run);
                        let held = UnderWay { core: self.clone(), run };
                        post.tasks.spawn(async move {
                            held.core.claim_and_post(held.run).await;
                            drop((place, held));
                        });
                    }
                    post.deferred.lock().extend(deferred);
                    next
                }
            };
            tokio::select! {
                () = timer::until(clock, next, &mut hints) => {}
                () = post.ended.notified() => {}
            }
        }
    }

    /// Posts what waits for a run, unless another server does.
    async fn claim_and_post(&self, run: RunId) {
        let pause = match self.claimed(Job::Delivery(run), self.post(run)).await {
            Ok(Some(())) => return,
            // Should that server go, its claim goes with it.
            Ok(None) => self.inner.runner.lease.ttl,
            Err(error) => {
                tracing::warn!(%run, %error, "cannot claim a webhook; trying again");
                RETRY
            }
        };
        self.inner.post.deferred.lock().insert(run, self.inner.clock.now() + pause);
    }

    /// Posts what waits for a run, and notes what came of it.
    async fn post(&self, run: RunId) {
        let (Some(webhooks), store) = (&self.inner.post.by, &self.inner.store) else { return };
        let delivery = match store.get_delivery(run).await {
            Ok(Some(delivery)) => delivery,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(%run, %error, "cannot read what is to be posted; trying again");
                return tokio::time::sleep(RETRY).await;
            }
        };
        let again = match webhooks.post(&delivery).await {
            Posted::Taken => {
                tracing::debug!(%run, host = host(&delivery.url), "a webhook was called");
                None
            }
            Posted::Refused(why) => {
                tracing::error!(%run, host = host(&delivery.url), why, "a webhook cannot be called, and is given up");
                None
            }
            Posted::Failed(why) => {
                let now = self.inner.clock.now();
                let next = now + pause(delivery.attempts);
                if next > delivery.created_at + self.inner.post.retry_window {
                    tracing::error!(%run, host = host(&delivery.url), why, "a webhook failed for too long, and is given up");
                    None
                } else {
                    tracing::warn!(%run, host = host(&delivery.url), why, "a webhook failed; it is called again");
                    Some((next, why))
                }
            }
        };
        // What was posted must not be posted again because the store was away for a moment.
        while let Err(error) = self.note(run, again.clone()).await {
            tracing::warn!(%run, %error, "cannot note what came of a webhook; trying again");
            tokio::select! {
                () = tokio::time::sleep(RETRY) => {}
                () = self.inner.closing.cancelled() => return,
            }
        }
    }

    async fn note(&self, run: RunId, again: Option<(SystemTime, String)>) -> Result<(), runloom_store::Error> {
        match again {
            None => self.inner.store.delete_delivery(run).await,
            Some((next, why)) => self.inner.store.postpone_delivery(run, next, why).await,
        }
    }
}

/// The host of an address, for the log: the rest may be a secret.
fn host(url: &str) -> &str {
    url.split('/').nth(2).unwrap_or_default()
}

/// How long to wait after so many failures and one more.
fn pause(failures: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << failures.min(16)).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_an_hour() {
        assert_eq!([0, 1, 5].map(pause), [1, 2, 32].map(Duration::from_secs));
        assert_eq!(pause(u32::MAX), LONGEST_PAUSE);
    }
}
