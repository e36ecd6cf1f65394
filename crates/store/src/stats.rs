//! Counters of what a store wrote.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! stats {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// What a store has written since it was opened. The bytes are those of what was kept, without the overhead of
        /// the file's pages. The memory store, which serialises nothing, counts writes and leaves the bytes of
        /// checkpoints at 0.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct StoreStats {
            $($(#[$doc])* pub $name: u64,)*
        }

        /// The counters themselves.
        #[derive(Debug, Default)]
        pub struct Counters {
            $(#[allow(missing_docs)] pub $name: AtomicU64,)*
        }

        impl Counters {
            /// Their values now.
            pub fn read(&self) -> StoreStats {
                StoreStats { $($name: self.$name.load(Relaxed),)* }
            }

            /// Adds those of writes that have been committed.
            pub fn add(&self, more: &StoreStats) {
                $(if more.$name != 0 { self.$name.fetch_add(more.$name, Relaxed); })*
            }
        }
    };
}

stats! {
    /// Checkpoints kept.
    checkpoints,
    /// Bytes of their changes, with what is to run next and their metadata.
    checkpoint_bytes,
    /// Snapshots of a whole state among them.
    snapshots,
    /// Bytes of those snapshots, beside `checkpoint_bytes`.
    snapshot_bytes,
    /// Records of tasks kept.
    tasks,
    /// Their bytes.
    task_bytes,
    /// Log records kept.
    log_records,
    /// Their bytes.
    log_bytes,
    /// Writes that were answered.
    writes,
    /// Transactions in which they were committed.
    commits,
    /// Transactions that failed.
    failed_commits,
}
