//! Watches files, and runs an action when they change.

pub mod graphs;

use std::{collections::BTreeSet, future::Future, path::PathBuf, sync::Arc, time::Duration};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::{sync::Notify, task::JoinHandle};

use crate::failure::{Failure, Result};

/// How long folders must be unchanged before they are read: editors write a file in several steps.
const SETTLE: Duration = Duration::from_millis(100);

/// Watches folders until it is dropped.
pub struct Watch {
    _watcher: RecommendedWatcher,
    reader: JoinHandle<()>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Runs `on_change` after each change in one of the folders. Folders are watched rather than files: a file is often replaced by a rename, or by the
/// change of a symbolic link beside it, as in a volume of Kubernetes.
pub fn folders<F>(folders: &BTreeSet<PathBuf>, mut on_change: impl FnMut() -> F + Send + 'static) -> Result<Watch>
where
    F: Future<Output = ()> + Send,
{
    let changed = Arc::new(Notify::new());
    let notify = changed.clone();
    let on_event = move |event: notify::Result<notify::Event>| match event {
        // Reading is not a change.
        Ok(event) if event.kind.is_access() => {}
        Ok(_) => notify.notify_one(),
        Err(error) => tracing::warn!(%error, "cannot watch a folder; a change may be missed"),
    };
    let cannot = |error: notify::Error| Failure::failed(format!("cannot watch files: {error}"));
    let mut watcher = notify::recommended_watcher(on_event).map_err(cannot)?;
    for folder in folders {
        let cannot = |error: notify::Error| Failure::failed(format!("cannot watch {}: {error}", folder.display()));
        watcher.watch(folder, RecursiveMode::NonRecursive).map_err(cannot)?;
    }
    let reader = tokio::spawn(async move {
        loop {
            changed.notified().await;
            while tokio::time::timeout(SETTLE, changed.notified()).await.is_ok() {}
            on_change().await;
        }
    });
    Ok(Watch { _watcher: watcher, reader })
}
