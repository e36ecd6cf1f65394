//! Crons: what is kept of one, and how it fires: once for each time that it is due.

use std::time::SystemTime;

use async_trait::async_trait;
use runloom_engine::{Object, RunId, ThreadId, Value};

use crate::{
    AssistantId, CronId, Direction, NewRun, Page, PageRequest, Result, TenantId, contains,
    filter::merge,
    page::{Key, Position, order_tag},
    time::nanos,
};

/// A run that is made again and again, on a schedule.
#[derive(Clone, Debug, PartialEq)]
pub struct Cron {
    /// Its id.
    pub id: CronId,
    /// Whose it is.
    pub tenant: TenantId,
    /// The assistant of its runs.
    pub assistant: AssistantId,
    /// The thread of its runs; none where each has one of its own.
    pub thread: Option<ThreadId>,
    /// When it fires, as a cron expression.
    pub schedule: String,
    /// Where the schedule's clock hangs: `Europe/Vienna`; none is UTC.
    pub timezone: Option<String>,
    /// After which it does not fire any more.
    pub end_at: Option<SystemTime>,
    /// Whether it fires.
    pub enabled: bool,
    /// Whether the threads of its runs stay, where each has one of its own.
    pub keep: bool,
    /// What its users say of it.
    pub metadata: Object,
    /// All that is asked of each run.
    pub request: Value,
    /// When it is due; none where it is not again.
    pub next_at: Option<SystemTime>,
    /// When it fired last.
    pub fired_at: Option<SystemTime>,
    /// The run that it made last.
    pub last_run: Option<RunId>,
    /// Why its last firing made no run, where it made none.
    pub error: Option<String>,
    /// When it was made.
    pub created_at: SystemTime,
    /// When it last changed, other than by firing.
    pub updated_at: SystemTime,
}

/// A cron to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct NewCron {
    /// Its id; a new one where there is none.
    pub id: Option<CronId>,
    /// The assistant of its runs.
    pub assistant: AssistantId,
    /// The thread of its runs, which must be there; none where each has one of its own.
    pub thread: Option<ThreadId>,
    /// When it fires, as a cron expression.
    pub schedule: String,
    /// Where the schedule's clock hangs; none is UTC.
    pub timezone: Option<String>,
    /// After which it does not fire any more.
    pub end_at: Option<SystemTime>,
    /// Whether it fires.
    pub enabled: bool,
    /// Whether the threads of its runs stay.
    pub keep: bool,
    /// What its users say of it.
    pub metadata: Object,
    /// All that is asked of each run.
    pub request: Value,
    /// When it is due.
    pub next_at: Option<SystemTime>,
}

/// What changes of a cron. What is `None` stays.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CronUpdate {
    /// When it fires.
    pub schedule: Option<String>,
    /// Where the schedule's clock hangs.
    pub timezone: Option<Option<String>>,
    /// After which it does not fire any more.
    pub end_at: Option<Option<SystemTime>>,
    /// Whether it fires.
    pub enabled: Option<bool>,
    /// Whether the threads of its runs stay.
    pub keep: Option<bool>,
    /// Merged into the metadata; a `null` takes a key away.
    pub metadata: Option<Object>,
    /// In place of what is asked of each run.
    pub request: Option<Value>,
    /// When it is due.
    pub next_at: Option<Option<SystemTime>>,
}

/// Which crons. Every condition must hold; an empty one holds for all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CronFilter {
    /// Only of this assistant.
    pub assistant: Option<AssistantId>,
    /// Only on this thread.
    pub thread: Option<ThreadId>,
    /// Only those that fire, or do not.
    pub enabled: Option<bool>,
    /// Only those whose metadata [`contains`] this.
    pub metadata: Object,
}

/// By what crons are sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CronSort {
    /// When they were made.
    #[default]
    Created,
    /// When they last changed.
    Updated,
    /// Their id.
    Id,
    /// Their assistant.
    Assistant,
    /// Their thread.
    Thread,
    /// When they are due.
    Next,
    /// When they end.
    End,
}

/// That a cron fires.
#[derive(Clone, Debug, PartialEq)]
pub struct Firing {
    /// Whose the cron is.
    pub tenant: TenantId,
    /// The cron.
    pub cron: CronId,
    /// When it was due, as the caller saw it: of two that saw the same one fires it.
    pub due: SystemTime,
    /// When it is due again.
    pub next: Option<SystemTime>,
    /// The run that it makes, or why it makes none.
    pub run: Result<NewRun, String>,
}

/// Crons.
#[async_trait]
pub trait Crons: Send + Sync {
    /// Makes a cron.
    async fn create_cron(&self, tenant: &TenantId, new: NewCron) -> Result<Cron>;

    /// A cron.
    async fn get_cron(&self, tenant: &TenantId, id: CronId) -> Result<Cron>;

    /// Changes a cron.
    async fn update_cron(&self, tenant: &TenantId, id: CronId, update: CronUpdate) -> Result<Cron>;

    /// Deletes a cron. The runs that it made stay. Crons on a thread go with it.
    async fn delete_cron(&self, tenant: &TenantId, id: CronId) -> Result<()>;

    /// Crons by filter, a page at a time.
    async fn list_crons(
        &self,
        tenant: &TenantId,
        filter: CronFilter,
        sort: (CronSort, Direction),
        page: PageRequest,
    ) -> Result<Page<Cron>>;

    /// How many crons a filter holds for.
    async fn count_crons(&self, tenant: &TenantId, filter: CronFilter) -> Result<u64>;
}

impl Cron {
    /// The cron of a request.
    pub fn new(tenant: TenantId, id: CronId, new: NewCron, now: SystemTime) -> Self {
        Self {
            id,
            tenant,
            assistant: new.assistant,
            thread: new.thread,
            schedule: new.schedule,
            timezone: new.timezone,
            end_at: new.end_at,
            enabled: new.enabled,
            keep: new.keep,
            metadata: merge(Object::default(), &new.metadata),
            request: new.request,
            next_at: new.next_at,
            fired_at: None,
            last_run: None,
            error: None,
            created_at: now,
            updated_at: now,
        }
    }

    /// Applies an update.
    pub fn apply(&mut self, update: CronUpdate, now: SystemTime) {
        if let Some(schedule) = update.schedule {
            self.schedule = schedule;
        }
        if let Some(timezone) = update.timezone {
            self.timezone = timezone;
        }
        if let Some(end_at) = update.end_at {
            self.end_at = end_at;
        }
        if let Some(enabled) = update.enabled {
            self.enabled = enabled;
        }
        if let Some(keep) = update.keep {
            self.keep = keep;
        }
        if let Some(metadata) = &update.metadata {
            self.metadata = merge(std::mem::take(&mut self.metadata), metadata);
        }
        if let Some(request) = update.request {
            self.request = request;
        }
        if let Some(next_at) = update.next_at {
            self.next_at = next_at;
        }
        self.updated_at = now;
    }

    /// Whether it is due as a firing saw it.
    pub fn is_due(&self, firing: &Firing) -> bool {
        self.enabled && self.next_at.is_some_and(|at| nanos(at) == nanos(firing.due))
    }

    /// Records a firing: the run, or why there is none.
    pub fn fired(&mut self, next: Option<SystemTime>, run: Result<RunId, String>, now: SystemTime) {
        self.next_at = next;
        self.fired_at = Some(now);
        match run {
            Ok(run) => {
                self.last_run = Some(run);
                self.error = None;
            }
            Err(why) => self.error = Some(why),
        }
    }
}

impl CronSort {
    /// Names the order in page tokens.
    pub fn tag(self, direction: Direction) -> u8 {
        order_tag(5, self as u8, direction)
    }

    /// Where a cron stands in a list.
    pub fn position(self, cron: &Cron, ordinal: i64) -> Position {
        let at = |time: Option<SystemTime>| Key::Int(time.map_or(i64::MIN, nanos));
        let key = match self {
            Self::Created => Key::Int(ordinal),
            Self::Updated => Key::Int(nanos(cron.updated_at)),
            Self::Id => Key::Bytes(cron.id.0.as_bytes().to_vec()),
            Self::Assistant => Key::Bytes(cron.assistant.0.as_bytes().to_vec()),
            Self::Thread => Key::Bytes(cron.thread.map(|t| t.0.as_bytes().to_vec()).unwrap_or_default()),
            Self::Next => at(cron.next_at),
            Self::End => at(cron.end_at),
        };
        Position { key, ordinal }
    }
}

impl CronFilter {
    /// True where a cron is one of those meant.
    pub fn matches(&self, cron: &Cron) -> bool {
        self.assistant.is_none_or(|assistant| cron.assistant == assistant)
            && self.thread.is_none_or(|thread| cron.thread == Some(thread))
            && self.enabled.is_none_or(|enabled| cron.enabled == enabled)
            && contains(&cron.metadata, &self.metadata)
    }
}
