//! Checkpoints: the engine's checkpointers, and what is done with a thread's checkpoints beside a run.

use std::sync::Arc;

use async_trait::async_trait;
use runloom_engine::{CheckpointId, Object, RunId, ThreadId, checkpoint::Checkpointer};

use crate::{Attempt, Error, Result, TenantId};

/// The latest checkpoint of the graph itself (of the empty namespace) that an update by hand starts from; none on a thread
/// without checkpoints.
pub type SeenCheckpoint = Option<CheckpointId>;

/// Checkpoints of threads. How they are kept, and when a snapshot is: [`delta`](crate::delta).
#[async_trait]
pub trait Checkpoints: Send + Sync {
    /// A checkpointer for an attempt. Its writes are refused with
    /// [`Superseded`](runloom_engine::CheckpointError::Superseded) once the attempt does not hold the run any more, or
    /// the run is over; it reads any thread of the tenant.
    ///
    /// What a run records of a task is stored beside what earlier runs recorded of the same one, and is what is read;
    /// [`delete_run_checkpoints`](Self::delete_run_checkpoints) brings the earlier record back.
    fn checkpointer(&self, tenant: &TenantId, attempt: Attempt) -> Arc<dyn Checkpointer>;

    /// A checkpointer for updates by hand, and for reading. Its writes are refused with
    /// [`Unavailable`](runloom_engine::CheckpointError::Unavailable) while a run of the thread is running, and, where
    /// `seen` is given, with [`Moved`](runloom_engine::CheckpointError::Moved) unless the latest checkpoint of the
    /// graph itself is the one seen, or one that this checkpointer put since.
    fn checkpointer_by_hand(&self, tenant: &TenantId, seen: Option<SeenCheckpoint>) -> Arc<dyn Checkpointer>;

    /// Deletes what a run wrote: its checkpoints in every namespace, and its records of tasks. Tells how many
    /// checkpoints. Ones that others made on top of them stay, whole, without a parent.
    async fn delete_run_checkpoints(&self, tenant: &TenantId, run: RunId) -> Result<u64>;

    /// Keeps the newest `keep` checkpoints of each namespace of a thread (at least one), and deletes the others with
    /// their tasks; what remains reads as before, but that the oldest has no parent, and is kept whole: this writes its
    /// state, so it is for now and then, not for after every run. A namespace of a task goes whole
    /// with the checkpoint of the graph itself in whose step it ran. Tells how many were deleted.
    async fn prune_checkpoints(&self, tenant: &TenantId, thread: ThreadId, keep: usize) -> Result<u64>;
}

/// The checkpoint of the graph itself in whose step a task's namespace was made.
///
/// None for a namespace that is no task's: one that ends in a name without a task's id lives on from run to run.
pub fn made_in(ns: &str, metadata: &Object) -> Option<CheckpointId> {
    ns.rsplit('|').next().filter(|last| last.contains(':'))?;
    metadata.get("parents")?.get_str("")?.parse().ok()
}

/// Refuses to write to another thread than the run's.
pub fn wrong_thread(attempt: Attempt, named: ThreadId) -> Error {
    Error::Invalid(format!("run {} is on another thread, and does not write to thread {named}", attempt.run))
}
