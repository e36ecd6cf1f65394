//! Watches the folder of the graph documents, and reloads it when it changes.

use std::{collections::BTreeSet, path::Path};

use runloom_core::Core;

use super::Watch;
use crate::{failure::Result, graph};

/// Watches a folder of graph documents until the watch is dropped. Changes are applied to the core.
pub fn start(folder: &Path, core: Core) -> Result<Watch> {
    let at = folder.to_owned();
    super::folders(&BTreeSet::from([folder.to_owned()]), move || {
        let (folder, core) = (at.clone(), core.clone());
        async move { reload(&folder, &core).await }
    })
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
