//! Crons: runs that are made again and again, on a schedule. The operations are here; when a cron is due says
//! [`schedule`], and [`fire`] makes its runs.

mod fire;
mod schedule;

use std::time::SystemTime;

use runloom_engine::{Object, Value};
use runloom_store::{Cron, CronFilter, CronId, CronSort, CronUpdate, Direction, Multitask, NewCron, Page, PageRequest};

use self::schedule::Schedule;
use crate::{Error, Reason, Result, RunRequest, RunSpec, Session, Target, runs::StoredRequest, threads::replacing};

/// A cron that is asked for.
#[derive(Clone, Debug, Default)]
pub struct CronRequest {
    /// Its id; a new one where there is none. A cron that has it already is answered as it is.
    pub id: Option<CronId>,
    /// When it fires: five fields, or six with the seconds last, or a name such as `@daily`.
    pub schedule: String,
    /// Where the schedule's clock hangs, as the IANA names it; UTC where there is none.
    pub timezone: Option<String>,
    /// After which it does not fire any more.
    pub end_time: Option<SystemTime>,
    /// Makes it one that does not fire until it is enabled.
    pub disabled: bool,
    /// Whether the threads of its runs stay, where the run names no thread; otherwise they are stateless.
    pub keep: bool,
    /// What its users say of it; its runs have it too.
    pub metadata: Object,
    /// The run that it makes. Its thread must be there.
    pub run: RunRequest,
}

/// What changes of a cron. What is `None` stays.
#[derive(Clone, Debug, Default)]
pub struct CronPatch {
    /// When it fires.
    pub schedule: Option<String>,
    /// Where the schedule's clock hangs.
    pub timezone: Option<Option<String>>,
    /// After which it does not fire any more.
    pub end_time: Option<Option<SystemTime>>,
    /// Whether it fires. A time that passed while it did not is not made up for.
    pub enabled: Option<bool>,
    /// Whether the threads of its runs stay.
    pub keep: Option<bool>,
    /// Merged into the metadata; a `null` takes a key away.
    pub metadata: Option<Object>,
    /// Has `metadata` stand in place of what there was.
    pub replace_metadata: bool,
    /// In place of what is asked of each run.
    pub run: Option<CronRun>,
}

/// What a cron requests of each run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CronRun {
    /// The run.
    pub spec: RunSpec,
    multitask: Multitask,
}

impl CronRun {
    /// A run, and what happens where its thread is busy.
    pub fn new(spec: RunSpec, multitask: Multitask) -> Self {
        Self { spec, multitask }
    }

    /// What a cron requests, for APIs that show it. Where that cannot be read this is empty: the cron then makes no run and
    /// says why.
    pub fn of(cron: &Cron) -> Self {
        Self::read(cron).unwrap_or_else(|error| {
            tracing::warn!(cron = %cron.id, %error, "a cron is shown without its request");
            Self::default()
        })
    }

    /// What a cron requests.
    pub(crate) fn read(cron: &Cron) -> Result<Self> {
        let read = || {
            let spec = StoredRequest::parse(cron.request.get("spec").unwrap_or(&Value::Null))?.spec;
            let multitask = match cron.request.get_str("multitask").unwrap_or_default() {
                "" => Multitask::default(),
                name => name.parse().map_err(|_| format!("multitask: unknown strategy `{name}`"))?,
            };
            Ok(Self { spec, multitask })
        };
        read().map_err(|what: String| {
            let message = format!("the stored request of cron {} cannot be read: {what}", cron.id);
            Error::new(Reason::Internal, message).with("cron_id", cron.id)
        })
    }

    /// What happens where the thread is busy.
    pub fn multitask(&self) -> Multitask {
        self.multitask
    }

    fn to_value(&self) -> Result<Value> {
        let mut stored = Object::default();
        stored.insert("spec", StoredRequest { spec: self.spec.clone(), ..StoredRequest::default() }.to_value()?);
        stored.insert("multitask", self.multitask.name());
        Ok(Value::Object(stored))
    }
}

impl Session {
    /// Makes a cron, once its schedule and its run have been checked as if the run were made now.
    pub async fn create_cron(&self, request: CronRequest) -> Result<Cron> {
        let CronRequest { id, schedule, timezone, end_time, disabled, keep, metadata, run } = request;
        let next_at = Schedule::parse(&schedule, timezone.as_deref())?.next(self.inner.clock.now(), end_time);
        self.check_size("metadata", &Value::Object(metadata.clone()))?;
        check_run(&run)?;
        let assistant = self.prepare(&run).await?.new.assistant;
        let assistant = assistant.ok_or_else(|| Error::field("assistant_id", "is required"))?;
        let new = NewCron {
            id,
            assistant,
            thread: run.thread_id,
            schedule,
            timezone,
            end_at: end_time,
            enabled: !disabled,
            keep: keep && run.thread_id.is_none(),
            metadata,
            request: CronRun::new(run.spec, run.multitask).to_value()?,
            next_at,
        };
        let made = match (self.inner.store.create_cron(self.tenant(), new).await, id) {
            (Err(runloom_store::Error::AlreadyExists { .. }), Some(id)) => return self.get_cron(id).await,
            (made, _) => made?,
        };
        Ok(made)
    }

    /// A cron.
    pub async fn get_cron(&self, id: CronId) -> Result<Cron> {
        Ok(self.inner.store.get_cron(self.tenant(), id).await?)
    }

    /// Changes a cron. Its next time is reckoned anew, from now, where anything changes that it depends on.
    pub async fn update_cron(&self, id: CronId, patch: CronPatch) -> Result<Cron> {
        let old = self.get_cron(id).await?;
        if let Some(run) = &patch.run {
            let request = request_of(&old, run.clone());
            check_run(&request)?;
            self.prepare(&request).await?;
        }
        let schedule = patch.schedule.as_ref().unwrap_or(&old.schedule);
        let timezone = patch.timezone.as_ref().unwrap_or(&old.timezone);
        let end_at = patch.end_time.unwrap_or(old.end_at);
        let is_enabled = patch.enabled == Some(true) && !old.enabled;
        let is_other = patch.schedule.is_some() || patch.timezone.is_some() || patch.end_time.is_some();
        let next_at = if is_enabled || is_other {
            Some(Schedule::parse(schedule, timezone.as_deref())?.next(self.inner.clock.now(), end_at))
        } else {
            None
        };
        let metadata = match patch.metadata {
            Some(new) if patch.replace_metadata => Some(replacing(&old.metadata, new)),
            merged => merged,
        };
        self.check_size("metadata", &metadata.clone().map_or(Value::Null, Value::Object))?;
        let update = CronUpdate {
            schedule: patch.schedule,
            timezone: patch.timezone,
            end_at: patch.end_time,
            enabled: patch.enabled,
            keep: patch.keep.filter(|_| old.thread.is_none()),
            metadata,
            request: patch.run.map(|run| run.to_value()).transpose()?,
            next_at,
        };
        let changed = self.inner.store.update_cron(self.tenant(), id, update).await?;
        Ok(changed)
    }

    /// Deletes a cron. The runs that it made stay.
    pub async fn delete_cron(&self, id: CronId) -> Result<()> {
        Ok(self.inner.store.delete_cron(self.tenant(), id).await?)
    }

    /// Crons by filter, a page at a time.
    pub async fn list_crons(
        &self,
        filter: CronFilter,
        sort: (CronSort, Direction),
        page: PageRequest,
    ) -> Result<Page<Cron>> {
        Ok(self.inner.store.list_crons(self.tenant(), filter, sort, page).await?)
    }

    /// How many crons a filter holds for.
    pub async fn count_crons(&self, filter: CronFilter) -> Result<u64> {
        Ok(self.inner.store.count_crons(self.tenant(), filter).await?)
    }
}

/// What only one run can have, and not each of many.
fn check_run(run: &RunRequest) -> Result<()> {
    let wrong = [
        ("run.start_time", run.start_time.is_some()),
        ("run.request_id", run.request_id.is_some()),
        ("run.checkpoint_id", run.spec.options.checkpoint_id.is_some()),
        ("run.command.expected_checkpoint_id", run.expected_checkpoint_id.is_some()),
    ];
    match wrong.into_iter().find(|(_, is_set)| *is_set) {
        Some((field, _)) => Err(Error::field(field, "a cron makes many runs, and this is for one; leave it out")),
        None => Ok(()),
    }
}

/// The run that a cron requests.
fn request_of(cron: &Cron, run: CronRun) -> RunRequest {
    RunRequest {
        thread_id: cron.thread,
        target: Target::Assistant(cron.assistant),
        multitask: run.multitask,
        spec: run.spec,
        ..RunRequest::default()
    }
}
