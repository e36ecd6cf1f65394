//! Watches the folder of the graph documents, and reloads it when it changes.

use std::{path::Path, sync::Arc, time::Duration};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use runloom_core::Core;
use tokio::{sync::Notify, task::JoinHandle};

use crate::{
    failure::{Failure, Result},
    graph,
};

/// How long the folder must be unchanged before it is read: editors write a file in several steps.
const SETTLE: Duration = Duration::from_millis(100);

/// Watches a folder until it is dropped.
pub struct Watch {
    _watcher: RecommendedWatcher,
    reader: JoinHandle<()>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Starts watching a folder. Changes are applied to the core.
pub fn start(folder: &Path, core: Core) -> Result<Watch> {
    let changed = Arc::new(Notify::new());
    let notify = changed.clone();
    let on_event = move |event: notify::Result<notify::Event>| match event {
        // Reading is not a change.
        Ok(event) if event.kind.is_access() => {}
        Ok(_) => notify.notify_one(),
        Err(error) => tracing::warn!(%error, "cannot watch the folder of the graphs; a change may be missed"),
    };
    let cannot = |error: notify::Error| Failure::failed(format!("cannot watch {}: {error}", folder.display()));
    let mut watcher = notify::recommended_watcher(on_event).map_err(cannot)?;
    watcher.watch(folder, RecursiveMode::NonRecursive).map_err(cannot)?;
    let folder = folder.to_owned();
    let reader = tokio::spawn(async move {
        loop {
            changed.notified().await;
            while tokio::time::timeout(SETTLE, changed.notified()).await.is_ok() {}
            reload(&folder, &core).await;
        }
    });
    Ok(Watch { _watcher: watcher, reader })
}

/// Reloads the folder, and logs what changed and what could not be loaded.
async fn reload(folder: &Path, core: &Core) {
    let at = folder.to_owned();
    let texts = match tokio::task::spawn_blocking(move || graph::texts(&at)).await {
        Ok(Ok(texts)) => texts,
        Ok(Err(failure)) => {
            return tracing::warn!("cannot reload the graphs; they stay unchanged: {}", failure.message());
        }
        Err(error) => return tracing::warn!(%error, "cannot reload the graphs; they stay unchanged"),
    };
    let outcomes = match core.reload_documents(texts).await {
        Ok(outcomes) => outcomes,
        Err(error) => return tracing::error!(%error, "cannot reload the graphs; they stay unchanged"),
    };
    for outcome in outcomes {
        for fault in outcome.error.iter().flat_map(|error| error.message.lines()) {
            tracing::error!("{fault}");
        }
        match (outcome.error, outcome.graph) {
            (Some(_), Some(graph)) => {
                tracing::warn!(
                    graph = graph.name,
                    revision = graph.revision,
                    "invalid document; the previous revision stays in service"
                );
            }
            (Some(_), None) => tracing::warn!(file = outcome.file, "invalid document; not served"),
            (None, Some(graph)) if outcome.changed => {
                for warning in &graph.warnings {
                    tracing::warn!(graph = graph.name, file = outcome.file, line = warning.line, "{}", warning.message);
                }
                tracing::info!(graph = graph.name, revision = graph.revision, file = outcome.file, "loaded");
            }
            (None, None) if outcome.changed => {
                tracing::info!(file = outcome.file, "file removed; its graph is no longer served")
            }
            (None, _) => {}
        }
    }
}
