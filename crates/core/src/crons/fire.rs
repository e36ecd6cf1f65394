//! Crons fire: the run is made in the transaction that notes when the cron is due again, so that each time it is due
//! makes one run, whatever crashes when. Times that passed while no server ran are made up for by one run, at the start.

use std::time::Duration;

use runloom_engine::ThreadId;
use runloom_store::{Cron, Error as StoreError, Firing, Job, Topic};

use super::{CronRun, Schedule, request_of};
use crate::{Core, Error, Reason, Result, RunRequest, Session, timer};

/// How many crons are looked at together.
const LOOK: usize = 1000;
/// How long to wait before the store is asked again after a failure.
const RETRY: Duration = Duration::from_secs(5);

impl Core {
    /// Fires crons, each at its time.
    pub(crate) async fn keep_crons(&self) {
        let clock = &*self.inner.clock;
        let mut hints = self.inner.store.watch(Topic::Schedules);
        loop {
            let now = clock.now();
            let next = match self.inner.store.waiting_crons(LOOK).await {
                Ok(crons) => {
                    let (mut next, mut fired, mut failed) = (None, false, false);
                    for cron in crons {
                        if let Some(at) = cron.next_at.filter(|at| *at > now) {
                            next = Some(at);
                            break;
                        }
                        match self.claim_and_fire(&cron).await {
                            Ok(true) => fired = true,
                            // Another server is at it.
                            Ok(false) => failed = true,
                            Err(error) => {
                                tracing::warn!(cron = %cron.id, %error, "a cron cannot fire now; trying again");
                                failed = true;
                            }
                        }
                    }
                    if failed {
                        Some(next.map_or(now + RETRY, |next| next.min(now + RETRY)))
                    } else if fired {
                        // Those that fired have a next time; behind many that were due there may be more.
                        Some(now)
                    } else {
                        next
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot read crons; trying again");
                    Some(now + RETRY)
                }
            };
            timer::until(clock, next, &mut hints).await;
        }
    }

    /// Fires a cron, unless another server does.
    async fn claim_and_fire(&self, cron: &Cron) -> Result<bool> {
        let session = self.of_tenant(&cron.tenant);
        let fired = self.claimed(Job::Cron(cron.tenant.clone(), cron.id), session.fire(cron)).await?;
        fired.map_or(Ok(false), |fired| fired.map(|()| true))
    }
}

impl Session {
    /// Makes the run of a cron that is due. An error is one that may pass: nothing was done.
    async fn fire(&self, cron: &Cron) -> Result<()> {
        let now = self.inner.clock.now();
        let Some(due) = cron.next_at else { return Ok(()) };
        let next = Schedule::parse(&cron.schedule, cron.timezone.as_deref())
            .map_or(None, |schedule| schedule.next(now, cron.end_at));
        let firing = |run| Firing { tenant: cron.tenant.clone(), cron: cron.id, due, next, run };
        let why = if cron.end_at.is_some_and(|end| end < now) {
            "its end came while no server ran".to_owned()
        } else {
            let prepared = match run_of(cron) {
                Ok(request) => self.prepare(&request).await,
                Err(error) => Err(error),
            };
            match prepared {
                Ok(prepared) => {
                    let (mark, spec) = (prepared.mark, prepared.spec);
                    match self.inner.store.fire_cron(firing(Ok(prepared.new))).await {
                        Ok(None) => return Ok(()),
                        Ok(Some(run)) => {
                            tracing::debug!(cron = %cron.id, run = %run.id, "a cron fired");
                            self.mark_thread(mark).await;
                            self.begin_made(&run, &spec).await;
                            return Ok(());
                        }
                        Err(error @ StoreError::Unavailable(_)) => return Err(error.into()),
                        Err(error) => error.to_string(),
                    }
                }
                Err(error) if is_passing(&error) => return Err(error),
                Err(error) => error.to_string(),
            }
        };
        tracing::warn!(cron = %cron.id, %why, "a cron was due and made no run");
        self.inner.store.fire_cron(firing(Err(why))).await?;
        Ok(())
    }
}

fn is_passing(error: &Error) -> bool {
    matches!(error.reason, Reason::StoreUnavailable | Reason::ServerDraining)
}

/// The run that a cron makes: it has the cron's metadata, and its nodes know which cron made it.
fn run_of(cron: &Cron) -> Result<RunRequest> {
    let mut request = request_of(cron, CronRun::read(cron)?);
    if cron.keep && cron.thread.is_none() {
        request.thread_id = Some(ThreadId(uuid::Uuid::now_v7()));
        request.create_thread = true;
    }
    let own = std::mem::replace(&mut request.spec.options.metadata, cron.metadata.clone());
    own.iter().for_each(|(key, value)| request.spec.options.metadata.insert(key.clone(), value.clone()));
    request.spec.options.configurable.insert("cron_id", cron.id.to_string());
    Ok(request)
}
