//! The folder of the graph documents, read again whenever it changes.

use std::{path::Path, sync::Arc, time::Duration};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use runloom_core::Core;
use tokio::{sync::Notify, task::JoinHandle};

use crate::{
    failure::{Failure, Result},
    graph,
};

/// Editors write in several steps: this long after the last of them the folder is read.
const SETTLE: Duration = Duration::from_millis(100);

/// A folder that is watched, until this is dropped.
pub struct Watch {
    _watcher: RecommendedWatcher,
    reader: JoinHandle<()>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Watches a folder for a core.
pub fn start(folder: &Path, core: Core) -> Result<Watch> {
    let changed = Arc::new(Notify::new());
    let tell = changed.clone();
    let heard = move |event: notify::Result<notify::Event>| match event {
        // That somebody reads is no change.
        Ok(event) if event.kind.is_access() => {}
        Ok(_) => tell.notify_one(),
        Err(error) => tracing::warn!(%error, "a change of the graphs' folder may have been missed"),
    };
    let cannot = |error: notify::Error| Failure::failed(format!("cannot watch {}: {error}", folder.display()));
    let mut watcher = notify::recommended_watcher(heard).map_err(cannot)?;
    watcher.watch(folder, RecursiveMode::NonRecursive).map_err(cannot)?;
    let folder = folder.to_owned();
    let reader = tokio::spawn(async move {
        loop {
            changed.notified().await;
            while tokio::time::timeout(SETTLE, changed.notified()).await.is_ok() {}
            read(&folder, &core).await;
        }
    });
    Ok(Watch { _watcher: watcher, reader })
}

/// Reads the folder, serves what has changed, and says what could not be loaded.
async fn read(folder: &Path, core: &Core) {
    let at = folder.to_owned();
    let texts = match tokio::task::spawn_blocking(move || graph::texts(&at)).await {
        Ok(Ok(texts)) => texts,
        Ok(Err(failure)) => return tracing::warn!("graphs stay as they are: {}", failure.message()),
        Err(error) => return tracing::warn!(%error, "graphs stay as they are"),
    };
    let outcomes = match core.reload_documents(texts).await {
        Ok(outcomes) => outcomes,
        Err(error) => return tracing::error!(%error, "graphs stay as they are"),
    };
    for outcome in outcomes {
        for fault in outcome.error.iter().flat_map(|error| error.message.lines()) {
            tracing::error!("{fault}");
        }
        match (outcome.error, outcome.graph) {
            (Some(_), Some(graph)) => {
                tracing::warn!(graph = graph.name, revision = graph.revision, "the revision before stays");
            }
            (Some(_), None) => tracing::warn!(file = outcome.file, "not served"),
            (None, Some(graph)) if outcome.changed => {
                for warning in &graph.warnings {
                    tracing::warn!(graph = graph.name, file = outcome.file, line = warning.line, "{}", warning.message);
                }
                tracing::info!(graph = graph.name, revision = graph.revision, file = outcome.file, "loaded");
            }
            (None, None) if outcome.changed => tracing::info!(file = outcome.file, "gone, and its graph with it"),
            (None, _) => {}
        }
    }
}
