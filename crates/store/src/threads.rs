//! Threads: what is kept of one, and what can be done with them.

use std::{fmt, str::FromStr, time::SystemTime};

use async_trait::async_trait;
use runloom_engine::{Object, ThreadId, Value};

use crate::{
    AssistantId, Direction, Page, PageRequest, Result, Run, TenantId, contains,
    filter::merge,
    page::{Key, order_tag},
    time::nanos,
};

/// A thread: a state that runs follow one another on. The state itself is in its checkpoints.
#[derive(Clone, Debug, PartialEq)]
pub struct Thread {
    /// Its id.
    pub id: ThreadId,
    /// Whose it is.
    pub tenant: TenantId,
    /// When it was made.
    pub created_at: SystemTime,
    /// When anything of this record last changed.
    pub updated_at: SystemTime,
    /// When its state last changed: the end of its last run, or an update by hand.
    pub state_updated_at: Option<SystemTime>,
    /// What its users say of it.
    pub metadata: Object,
    /// What it does now.
    pub status: ThreadStatus,
    /// The graph of the run that began last.
    pub graph: Option<String>,
    /// The assistant of the run that began last.
    pub assistant: Option<AssistantId>,
    /// The configuration of the run that began last.
    pub config: Object,
    /// Why its last run failed, where it did.
    pub error: Option<Value>,
    /// The open questions, in the form in which the caller gave them.
    pub interrupts: Option<Value>,
    /// True for the thread of a stateless run: it is not listed, and goes some time after its run.
    pub stateless: bool,
    /// When it goes, where it was made for a time.
    pub expiry: Option<Expiry>,
    /// How many events its ended runs had, whatever became of the runs since. None for a thread with runs that began before
    /// events were counted: its readers count on the logs.
    pub events: Option<u64>,
}

/// When a thread goes, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// When.
    pub at: SystemTime,
    /// True where only its old checkpoints go, once: the thread and its latest state stay.
    pub keep_latest: bool,
}

/// What a thread does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ThreadStatus {
    /// It waits for a run.
    #[default]
    Idle,
    /// A run is under way.
    Busy,
    /// Its last run waits for an answer, or stopped at a breakpoint.
    Interrupted,
    /// Its last run failed.
    Error,
}

impl ThreadStatus {
    /// All states; a stored number is an index into this table, which only grows at its end.
    pub const ALL: [Self; 4] = [Self::Idle, Self::Busy, Self::Interrupted, Self::Error];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Busy => "busy",
            Self::Interrupted => "interrupted",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for ThreadStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ThreadStatus {
    type Err = String;
    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|s| s.name() == name)
            .ok_or_else(|| format!("there is no thread status `{name}`; there are idle, busy, interrupted, error"))
    }
}

/// What to do where the id is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IfExists {
    /// Answer [`AlreadyExists`](crate::Error::AlreadyExists).
    #[default]
    Refuse,
    /// Leave the existing one as it is, and answer with it.
    Keep,
}

/// A thread to be made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewThread {
    /// Its id; a new one where there is none.
    pub id: Option<ThreadId>,
    /// What to do where the id is taken.
    pub if_exists: IfExists,
    /// What its users say of it.
    pub metadata: Object,
    /// True for the thread of a stateless run.
    pub stateless: bool,
    /// When it goes.
    pub expiry: Option<Expiry>,
}

/// A change to a thread. What is `None` stays.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ThreadUpdate {
    /// Merged into the metadata, key by key, at the top level; a `null` takes the key away.
    pub metadata: Option<Object>,
    /// What it does now.
    pub status: Option<ThreadStatus>,
    /// Of which run it is to be, where the one that began last has been taken back.
    pub last_run: Option<LastRun>,
    /// Why its last run failed; `null` clears it.
    pub error: Option<Value>,
    /// The open questions; `null` clears them.
    pub interrupts: Option<Value>,
    /// True where its state has changed: sets `state_updated_at`.
    pub state_changed: bool,
    /// When it goes; or that it stays.
    pub expiry: Option<Option<Expiry>>,
}

/// What a thread notes of the run that began last; nothing where none did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LastRun {
    /// Its graph.
    pub graph: Option<String>,
    /// Its assistant.
    pub assistant: Option<AssistantId>,
    /// Its configuration.
    pub config: Object,
}

/// Which threads. Every condition must hold; an empty one holds for all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ThreadFilter {
    /// Only these.
    pub ids: Option<Vec<ThreadId>>,
    /// Only in this state.
    pub status: Option<ThreadStatus>,
    /// Only those whose metadata [`contains`] this.
    pub metadata: Object,
    /// Also the threads of stateless runs.
    pub stateless: bool,
}

/// By what threads are sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ThreadSort {
    /// When they were made.
    #[default]
    Created,
    /// When they last changed.
    Updated,
    /// When their state last changed; those whose state never did come as the oldest.
    StateUpdated,
    /// Their id.
    Id,
    /// What they do.
    Status,
}

/// Threads.
#[async_trait]
pub trait Threads: Send + Sync {
    /// Makes a thread.
    async fn create_thread(&self, tenant: &TenantId, new: NewThread) -> Result<Thread>;

    /// A thread.
    async fn get_thread(&self, tenant: &TenantId, id: ThreadId) -> Result<Thread>;

    /// Changes a thread, and answers with what it is then. What a run changes of its thread goes with
    /// [`finish_run`](crate::Claims::finish_run) instead.
    async fn update_thread(&self, tenant: &TenantId, id: ThreadId, update: ThreadUpdate) -> Result<Thread>;

    /// Deletes a thread with its runs, their logs and its checkpoints. A run under way finds itself
    /// [`Superseded`](crate::Error::Superseded) at its next write.
    async fn delete_thread(&self, tenant: &TenantId, id: ThreadId) -> Result<()>;

    /// Threads by filter, a page at a time.
    async fn list_threads(
        &self,
        tenant: &TenantId,
        filter: ThreadFilter,
        sort: (ThreadSort, Direction),
        page: PageRequest,
    ) -> Result<Page<Thread>>;

    /// How many threads a filter holds for.
    async fn count_threads(&self, tenant: &TenantId, filter: ThreadFilter) -> Result<u64>;

    /// Copies a thread with its checkpoints in all namespaces, and without its runs, to a new id (made where none is
    /// given). The copy of a busy thread is idle, at the last checkpoint that was kept.
    async fn copy_thread(&self, tenant: &TenantId, from: ThreadId, to: Option<ThreadId>) -> Result<Thread>;
}

impl Thread {
    /// The thread of a request.
    pub fn new(tenant: TenantId, id: ThreadId, new: NewThread, now: SystemTime) -> Self {
        Self {
            id,
            tenant,
            created_at: now,
            updated_at: now,
            state_updated_at: None,
            metadata: merge(Object::default(), &new.metadata),
            status: ThreadStatus::Idle,
            graph: None,
            assistant: None,
            config: Object::default(),
            error: None,
            interrupts: None,
            stateless: new.stateless,
            expiry: new.expiry,
            events: Some(0),
        }
    }

    /// A copy under another id: without runs, and idle where this one is busy.
    pub fn copied(&self, id: ThreadId, now: SystemTime) -> Self {
        let mut copy = Self { id, created_at: now, updated_at: now, stateless: false, expiry: None, ..self.clone() };
        copy.events = Some(0);
        if copy.status == ThreadStatus::Busy {
            copy.status = ThreadStatus::Idle;
        }
        copy
    }

    /// A run of it, which began after `before` events, has ended with `events`.
    pub fn ended(&mut self, before: Option<u64>, events: u64) {
        self.events = before.map(|before| before.saturating_add(events)).or(self.events);
    }

    /// A run of it has begun.
    pub fn begun(&mut self, run: &Run, config: Object, now: SystemTime) {
        self.status = ThreadStatus::Busy;
        self.graph = Some(run.graph.clone());
        self.assistant = run.assistant;
        self.config = config;
        self.updated_at = now;
    }

    /// Applies an update.
    pub fn apply(&mut self, update: ThreadUpdate, now: SystemTime) {
        let some = |v: Value| if v.is_null() { None } else { Some(v) };
        if let Some(metadata) = &update.metadata {
            self.metadata = merge(std::mem::take(&mut self.metadata), metadata);
        }
        self.status = update.status.unwrap_or(self.status);
        if let Some(last) = update.last_run {
            (self.graph, self.assistant, self.config) = (last.graph, last.assistant, last.config);
        }
        if let Some(error) = update.error {
            self.error = some(error);
        }
        if let Some(interrupts) = update.interrupts {
            self.interrupts = some(interrupts);
        }
        if let Some(expiry) = update.expiry {
            self.expiry = expiry;
        }
        if update.state_changed {
            self.state_updated_at = Some(now);
        }
        self.updated_at = now;
    }
}

impl ThreadSort {
    /// The sort key of a thread.
    pub fn key(self, thread: &Thread, ordinal: i64) -> Key {
        match self {
            Self::Created => Key::Int(ordinal),
            Self::Updated => Key::Int(nanos(thread.updated_at)),
            Self::StateUpdated => Key::Int(thread.state_updated_at.map_or(i64::MIN, nanos)),
            Self::Id => Key::Bytes(thread.id.0.as_bytes().to_vec()),
            Self::Status => Key::Int(thread.status as i64),
        }
    }

    /// Names the order in page tokens.
    pub fn tag(self, direction: Direction) -> u8 {
        order_tag(1, self as u8, direction)
    }
}

impl ThreadFilter {
    /// True where a thread is one of those meant.
    pub fn matches(&self, thread: &Thread) -> bool {
        (self.stateless || !thread.stateless)
            && self.ids.as_ref().is_none_or(|ids| ids.contains(&thread.id))
            && self.status.is_none_or(|status| thread.status == status)
            && contains(&thread.metadata, &self.metadata)
    }
}
