//! Watching a store: hints that something changed.
//!
//! A hint says that rows of a topic may have changed. It carries nothing, may be lost, and may come without a change: the
//! rows are the truth. Whoever watches subscribes first, then reads, and reads again at each hint and, rarely, without one.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;
use runloom_engine::{RunId, ThreadId};
use tokio::sync::watch;

use crate::ServerId;

/// What can be watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// The log and the state of a run.
    Run(RunId),
    /// A thread: its record, and its runs being made, begun, ended, deleted.
    Thread(ThreadId),
    /// Runs that this server drives and that are to be cancelled.
    Cancels(ServerId),
    /// Runs that wait for a server: created, given back, or free to begin because the one before has ended.
    Pending,
    /// Registered graphs.
    Graphs,
    /// Whatever is due at a time: crons, runs with a start time, expiries of threads and items.
    Schedules,
    /// Deliveries.
    Deliveries,
}

/// The watchers of one process, for every store: a store in the process publishes to it after each commit, a store over a
/// network at each notice that it receives.
#[derive(Default)]
pub struct Hub {
    topics: Mutex<HashMap<Topic, Entry>>,
    /// How many there are, so that publishing costs one load while nobody watches.
    watchers: AtomicUsize,
}

struct Entry {
    sender: watch::Sender<()>,
    watchers: usize,
}

impl Hub {
    /// Watches a topic. The state of a topic exists only while it is watched.
    pub fn watch(self: &Arc<Self>, topic: Topic) -> Watch {
        let mut topics = self.topics.lock();
        let entry = topics.entry(topic).or_insert_with(|| Entry { sender: watch::Sender::new(()), watchers: 0 });
        entry.watchers += 1;
        self.watchers.fetch_add(1, Relaxed);
        Watch { hints: entry.sender.subscribe(), topic, hub: self.clone() }
    }

    /// Wakes the watchers of some topics.
    pub fn publish(&self, topics: &[Topic]) {
        if topics.is_empty() || self.watchers.load(Relaxed) == 0 {
            return;
        }
        let watched = self.topics.lock();
        for topic in topics {
            if let Some(entry) = watched.get(topic) {
                entry.sender.send_replace(());
            }
        }
    }

    /// Wakes all watchers: anything may have changed.
    pub fn publish_all(&self) {
        for entry in self.topics.lock().values() {
            entry.sender.send_replace(());
        }
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("topics", &self.topics.lock().len()).finish_non_exhaustive()
    }
}

/// A subscription to a topic. Hints that come together are one.
pub struct Watch {
    hints: watch::Receiver<()>,
    topic: Topic,
    hub: Arc<Hub>,
}

impl Watch {
    /// Resolves at the next hint; at once where one came since the last.
    pub async fn changed(&mut self) {
        if self.hints.changed().await.is_err() {
            // The sender lives as long as this subscription.
            std::future::pending::<()>().await;
        }
    }

    /// Takes a hint that has come, if there is one.
    pub fn take(&mut self) -> bool {
        let has_hint = self.hints.has_changed().unwrap_or_default();
        let _ = self.hints.borrow_and_update();
        has_hint
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut topics = self.hub.topics.lock();
        if let Some(entry) = topics.get_mut(&self.topic) {
            entry.watchers -= 1;
            if entry.watchers == 0 {
                topics.remove(&self.topic);
            }
        }
        self.hub.watchers.fetch_sub(1, Relaxed);
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("topic", &self.topic).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_topic_exists_while_it_is_watched_and_hints_come_together() {
        let hub = Arc::new(Hub::default());
        hub.publish(&[Topic::Graphs]);
        let (mut first, mut second) = (hub.watch(Topic::Graphs), hub.watch(Topic::Graphs));
        let mut other = hub.watch(Topic::Deliveries);
        assert!(first.changed().now_or_never().is_none(), "what came before the watch is not a hint");
        hub.publish(&[Topic::Graphs, Topic::Graphs]);
        assert!(first.changed().now_or_never().is_some() && first.changed().now_or_never().is_none());
        assert!(second.take() && !second.take() && !other.take());
        drop((first, second));
        assert_eq!(hub.topics.lock().len(), 1);
        drop(other);
        assert_eq!((hub.topics.lock().len(), hub.watchers.load(Relaxed)), (0, 0));
    }
}
