//! The contract of a store: types, traits, the rules that every store applies, and the suite that every store passes.
//!
//! [`Store`] is the whole, as a trait object; each table has a trait of its own. Implementations are crates of their own
//! and pass the suite in `testing` (feature `testing`). No method asks for more than one transaction, every write of a
//! run names the [`Attempt`] that makes it, and a run is begun by comparing and setting that attempt, so that of several
//! servers one does.

pub mod assistants;
pub mod checkpoints;
mod claims;
mod crons;
mod deliveries;
pub mod delta;
pub mod dump;
mod error;
pub mod filter;
pub mod graphs;
mod ids;
pub mod items;
pub mod keys;
pub mod log;
pub mod page;
mod run_status;
pub mod runs;
mod schedules;
pub mod stats;
mod tenant;
#[cfg(feature = "testing")]
pub mod testing;
mod threads;
pub mod time;
pub mod transitions;
mod watch;

use std::sync::Arc;

use async_trait::async_trait;
use runloom_engine::items::{ItemStore, NodeCache};
use tokio::sync::watch as channel;

pub use assistants::{Assistant, AssistantFilter, AssistantSort, AssistantUpdate, Assistants, NewAssistant};
pub use checkpoints::{Checkpoints, SeenCheckpoint};
pub use claims::{Claims, Job, ServerId, SweepKind, Unfinished};
pub use crons::{Cron, CronFilter, CronSort, CronUpdate, Crons, Firing, NewCron};
pub use deliveries::{Delivery, NewDelivery};
pub use error::{Error, Result, What};
pub use filter::contains;
pub use graphs::{Graphs, RegisteredGraph};
pub use ids::{AssistantId, Attempt, CronId};
pub use items::check_item_filter;
pub use keys::{ApiKey, ApiKeys};
pub use log::{Ack, FIRST_SEQ, LogBounds, LogRecord, Logs, MAX_SEQ, ReadLimit};
pub use page::{Direction, Page, PageRequest};
pub use run_status::{Multitask, RunStatus};
pub use runs::{
    Begun, BegunAt, CancelAction, CancelRequest, Canceller, CreatedRun, NewRun, RequestKey, Run, RunEnd, RunFilter,
    RunThread, Runs,
};
pub use schedules::{Schedules, Swept};
pub use stats::StoreStats;
pub use tenant::TenantId;
pub use threads::{
    Expiry, IfExists, LastRun, NewThread, Thread, ThreadFilter, ThreadSort, ThreadStatus, ThreadUpdate, Threads,
};
pub use watch::{Hub, Topic, Watch};

/// Everything that is stored. Held as `Arc<dyn Store>`.
///
/// A write is durable when its future resolves. A future that is dropped before may or may not have its write kept;
/// nothing is ever kept by half.
#[async_trait]
pub trait Store:
    Threads + Runs + Assistants + Graphs + Crons + Logs + Checkpoints + Claims + Schedules + ApiKeys + Send + Sync + 'static
{
    /// A tenant's items, for nodes and for the API.
    fn items(&self, tenant: &TenantId) -> Arc<dyn ItemStore>;

    /// A tenant's cached results of nodes.
    fn node_cache(&self, tenant: &TenantId) -> Arc<dyn NodeCache>;

    /// Watches a topic. Subscribe first, then read: what is committed after the subscription gives a hint.
    fn watch(&self, topic: Topic) -> Watch;

    /// Resolves when the queue of writes has room. Methods that are `async` wait for it themselves.
    async fn room(&self);

    /// Resolves when every write that began before is durable, or has failed.
    async fn flush(&self) -> Result<()>;

    /// Writes what waits and closes what is open: the last call of a server that stops. Later calls are refused. A store
    /// that is dropped without it is left as by a crash, which the next start repairs.
    async fn close(&self) -> Result<()> {
        self.flush().await
    }

    /// Makes a small durable write, and so tells whether writes work now.
    async fn ping(&self) -> Result<()>;

    /// Whether writes work, as it changes. A store whose writes fail tries again by itself twice a second, and says so
    /// when they work again, whether or not anybody writes.
    fn health(&self) -> channel::Receiver<Health>;

    /// What was written since the store was opened.
    fn stats(&self) -> StoreStats;
}

/// Whether a store's writes work.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// They do.
    #[default]
    Serving,
    /// The last ones failed, for this reason.
    Failing(Arc<str>),
}

impl Health {
    /// True where writes work.
    pub fn is_serving(&self) -> bool {
        *self == Self::Serving
    }
}
