//! Runs: what is kept of one, and what can be done with them.

use std::{fmt, time::SystemTime};

use async_trait::async_trait;
use runloom_engine::{RunId, ThreadId, Value};
use serde::{Deserialize, Serialize};

use crate::{
    AssistantId, Attempt, Direction, LogRecord, Multitask, NewDelivery, NewThread, Page, PageRequest, Result,
    RunStatus, ServerId, TenantId, ThreadUpdate, page::order_tag,
};

/// A run of a graph on a thread.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// The thread it is on.
    pub thread: ThreadId,
    /// Whose it is: that of its thread.
    pub tenant: TenantId,
    /// The assistant it was asked of, where it was one.
    pub assistant: Option<AssistantId>,
    /// The graph's name.
    pub graph: String,
    /// The revision of the graph: the same through every attempt.
    pub revision: String,
    /// Its state.
    pub status: RunStatus,
    /// How many attempts have begun.
    pub attempt: u32,
    /// The server that drives it, while it is running.
    pub server: Option<ServerId>,
    /// How many of them were given back by a server that drained.
    pub given_back: u32,
    /// What happens where the thread is busy.
    pub multitask: Multitask,
    /// When it was asked for.
    pub created_at: SystemTime,
    /// When this record last changed.
    pub updated_at: SystemTime,
    /// When the first attempt began.
    pub started_at: Option<SystemTime>,
    /// When it ended.
    pub ended_at: Option<SystemTime>,
    /// Before which it does not begin.
    pub start_at: Option<SystemTime>,
    /// All that was asked, enough to take it up again.
    pub request: Value,
    /// The request's id and hash, where it had an id.
    pub request_key: Option<RequestKey>,
    /// Why it failed, where it did.
    pub error: Option<Value>,
    /// The tokens it used.
    pub usage: Option<Value>,
    /// The last number of its log, once it has ended; 0 before.
    pub last_seq: u64,
    /// How many events its thread had when it began. None until then, and on a thread that does not count them.
    pub events_before: Option<u64>,
    /// That somebody has asked for its end, and who.
    pub cancel: Option<CancelRequest>,
    /// True where its thread is its own and goes with it.
    pub stateless: bool,
    /// When a stateless run goes, with its thread.
    pub expires_at: Option<SystemTime>,
}

impl Run {
    /// The attempt that holds it now.
    pub fn current(&self) -> Attempt {
        Attempt::new(self.id, self.attempt)
    }
}

/// By what a request is known when it comes again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestKey {
    /// The id that the client gave it; unique within a tenant.
    pub id: String,
    /// A hash of all that was asked.
    pub hash: Vec<u8>,
}

/// That a run is to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CancelRequest {
    /// How.
    pub action: CancelAction,
    /// Who asked.
    pub by: Canceller,
    /// When it was first asked.
    pub at: SystemTime,
}

/// Who asked for a run's end, or what led to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Canceller {
    /// A caller, as the server knows them.
    Caller(String),
    /// Its readers left, and none came back within the grace.
    Readers,
    /// A newer run of the thread took its place.
    NewerRun(RunId),
    /// Its thread was deleted.
    ThreadDeleted,
}

impl Canceller {
    /// Who asked, where that is somebody: the caller, or the newer run's id.
    pub fn requester(&self) -> String {
        match self {
            Self::Caller(by) => by.clone(),
            Self::NewerRun(run) => run.to_string(),
            Self::Readers | Self::ThreadDeleted => String::new(),
        }
    }
}

impl fmt::Display for Canceller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Caller(by) => f.write_str(by),
            Self::Readers => f.write_str("its readers, who left and did not come back in time"),
            Self::NewerRun(run) => write!(f, "run {run}, which took its place"),
            Self::ThreadDeleted => f.write_str("the deletion of its thread"),
        }
    }
}

impl From<&str> for Canceller {
    fn from(by: &str) -> Self {
        Self::Caller(by.to_owned())
    }
}

impl From<String> for Canceller {
    fn from(by: String) -> Self {
        Self::Caller(by)
    }
}

/// How a run is cancelled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CancelAction {
    /// It stops; what it did stays.
    #[default]
    Interrupt,
    /// It stops; what it did is taken back.
    Rollback,
}

/// A run to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct NewRun {
    /// Its id; a new one where there is none.
    pub id: Option<RunId>,
    /// The thread it is on.
    pub thread: RunThread,
    /// The assistant it was asked of.
    pub assistant: Option<AssistantId>,
    /// The graph's name.
    pub graph: String,
    /// The graph's revision.
    pub revision: String,
    /// What happens where the thread is busy.
    pub multitask: Multitask,
    /// Before which it does not begin.
    pub start_at: Option<SystemTime>,
    /// All that was asked.
    pub request: Value,
    /// The request's id and hash, where it has an id.
    pub request_key: Option<RequestKey>,
    /// True where its thread goes with it.
    pub stateless: bool,
}

/// On which thread a run is to be.
#[derive(Clone, Debug, PartialEq)]
pub enum RunThread {
    /// On this one, which must be there.
    Existing(ThreadId),
    /// On this one, which is made in the same transaction where it is not there, and is left as it is where it is.
    Create(NewThread),
}

/// A run that was asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct CreatedRun {
    /// The run.
    pub run: Run,
    /// False where the same request had made it before.
    pub new: bool,
}

/// An attempt that has begun.
#[derive(Clone, Debug, PartialEq)]
pub struct Begun {
    /// The run as it is now.
    pub run: Run,
    /// The attempt, for every write to come.
    pub attempt: Attempt,
    /// The first number that the attempt may use in the log: past all that are in it, and all that were reserved.
    pub first_seq: u64,
    /// Numbers below this one are reserved.
    pub reserved: u64,
}

/// How a run ends. All of it is kept in one transaction, or nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunEnd {
    /// One of the states that are an end.
    pub status: RunStatus,
    /// Why it failed.
    pub error: Option<Value>,
    /// The tokens it used.
    pub usage: Option<Value>,
    /// When a stateless run goes.
    pub expires_at: Option<SystemTime>,
    /// The last records of its log.
    pub records: Vec<LogRecord>,
    /// How many events of its thread the run's log gives. Ignored for a run that has not begun.
    pub events: u64,
    /// What changes of its thread. A thread left busy by this becomes idle.
    pub thread: ThreadUpdate,
    /// What is to be posted now that it has ended.
    pub delivery: Option<NewDelivery>,
}

/// Which runs. Every condition must hold; an empty one holds for all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunFilter {
    /// Only on this thread.
    pub thread: Option<ThreadId>,
    /// Only in one of these states; in any where there is none.
    pub status: Vec<RunStatus>,
    /// Only of this assistant.
    pub assistant: Option<AssistantId>,
    /// Only of this graph.
    pub graph: Option<String>,
}

/// A place among the runs of a thread that have begun, or ended without having begun, in that order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BegunAt {
    /// When the run began, or ended without having begun.
    pub at: SystemTime,
    /// The run; it need not exist any more.
    pub run: RunId,
}

impl BegunAt {
    /// The place of a run; none where it has neither begun nor ended.
    pub fn of(run: &Run) -> Option<Self> {
        Some(Self { at: run.started_at.or(run.ended_at)?, run: run.id })
    }
}

/// Runs of a tenant. How they are driven: [`Claims`](crate::Claims).
#[async_trait]
pub trait Runs: Send + Sync {
    /// Creates a run, and its thread where that is requested. A request with a key that has created a run already is
    /// answered with that run, or with [`RequestReused`](crate::Error::RequestReused) where the hash is another.
    async fn create_run(&self, tenant: &TenantId, new: NewRun) -> Result<CreatedRun>;

    /// A run.
    async fn get_run(&self, tenant: &TenantId, id: RunId) -> Result<Run>;

    /// Runs by filter, in the order in which they were made or the reverse, a page at a time.
    async fn list_runs(
        &self,
        tenant: &TenantId,
        filter: RunFilter,
        order: Direction,
        page: PageRequest,
    ) -> Result<Page<Run>>;

    /// How many runs a filter matches.
    async fn count_runs(&self, tenant: &TenantId, filter: RunFilter) -> Result<u64>;

    /// The run that a request created.
    async fn find_request(&self, tenant: &TenantId, request_id: &str) -> Result<Option<Run>>;

    /// Up to `limit` runs of a thread that have begun, or ended without having begun, in that order or the reverse, from
    /// the one next to `from` on. Costs what it returns, whatever the number of runs on the thread.
    async fn begun_runs(
        &self,
        tenant: &TenantId,
        thread: ThreadId,
        from: Option<BegunAt>,
        order: Direction,
        limit: usize,
    ) -> Result<Vec<Run>>;

    /// Requests that a run ends. No attempt is named: anybody may. Requesting again keeps the first requester, and can turn
    /// an interrupt into a rollback, not back. A run that has ended is answered as it is.
    async fn request_cancel(&self, tenant: &TenantId, run: RunId, action: CancelAction, by: Canceller) -> Result<Run>;

    /// Deletes a run that is not running, with its log. Its checkpoints stay.
    async fn delete_run(&self, tenant: &TenantId, id: RunId) -> Result<()>;
}

/// Names the order of a list of runs in its page tokens.
pub fn order_of_runs(order: Direction) -> u8 {
    order_tag(2, 0, order)
}
