//! Graphs: where they come from, which revision is served, what they take and give, and whether a checkpoint fits.

mod change;
pub(crate) mod check;
mod compat;
mod defaults;
mod documents;
mod input;
mod registry;
mod schemas;
mod served;
mod table;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use runloom_engine::graph::Drawing;
use runloom_store::{Page, PageRequest, Topic};

pub use change::{Registration, Reloaded};
pub(crate) use input::check_nodes;
pub(crate) use registry::Registry;
pub use schemas::Schemas;
pub(crate) use served::Served;
pub use served::{GraphInfo, GraphSource, GraphWarning, default_assistant_id};

use self::served::is_visible;
use crate::{Core, Error, Reason, Result, Session, runs::Target};

/// How often registered graphs are looked at without a hint.
const REFRESH: Duration = Duration::from_secs(30);

impl Session {
    /// The graphs, by name, a page at a time; the hidden ones too where asked for.
    pub async fn list_graphs(&self, hidden_too: bool, page: PageRequest) -> Result<Page<GraphInfo>> {
        let after = match &page.token {
            None => None,
            Some(token) => Some(token.strip_prefix("after:").ok_or_else(|| {
                let message = "the page token is not one that a list of graphs gave; start at the first page";
                Error::new(Reason::PageTokenInvalid, message)
            })?),
        };
        let size = if page.size == 0 { 100 } else { page.size.min(1000) };
        let table = self.inner.registry.table.read();
        let mut graphs = table
            .graphs
            .values()
            .filter(|graph| is_visible(self.tenant(), graph))
            .filter(|graph| (hidden_too || !graph.hidden) && after.is_none_or(|after| &*graph.name > after))
            .skip(page.skip);
        let items: Vec<GraphInfo> = graphs.by_ref().take(size).map(|graph| graph.info()).collect();
        let next = graphs.next().and_then(|_| Some(format!("after:{}", items.last()?.name)));
        Ok(Page { items, next })
    }

    /// What is known of a graph, be it hidden.
    pub async fn get_graph(&self, name: &str) -> Result<GraphInfo> {
        Ok(self.inner.registry.any(self.tenant(), name)?.info())
    }

    /// Registers a graph document, or a new revision of one that was registered; with `check_only`, only says whether it
    /// could be. New runs take the new revision, those that are under way keep theirs. Graphs that run it inside take it
    /// too.
    pub async fn register_graph(&self, document: &str, check_only: bool) -> Result<Registration> {
        let most = self.inner.options.max_json_bytes.min(runloom_document::MAX_BYTES);
        if document.len() > most {
            let message = format!("the document is {} bytes, and the server takes {most}", document.len());
            let mut error = Error::new(Reason::InputTooLarge, message.clone());
            error.fields.push(("document".to_owned(), message));
            return Err(error.with("size_bytes", document.len()).with("maximum_bytes", most));
        }
        self.check_registers()?;
        self.inner.registry.register(&self.inner.store, document, check_only).await
    }

    /// Deletes a graph that was registered, with its default assistant. One that runs, assistants or other graphs use is
    /// not deleted.
    pub async fn delete_graph(&self, name: &str) -> Result<()> {
        self.inner.registry.any(self.tenant(), name).map(drop).or_else(|error| {
            // One that cannot be loaded can be deleted by the tenant whose it is.
            if self.tenant().is_default() { Ok(()) } else { Err(error) }
        })?;
        self.inner.registry.delete(&self.inner.store, name).await
    }

    /// The latest revision of a graph, which another server may have registered just now.
    pub(crate) async fn latest_graph(&self, name: &str) -> Result<Arc<Served>> {
        let registry = &self.inner.registry;
        match registry.latest(self.tenant(), name) {
            Err(error) if error.reason == Reason::GraphUnknown => {
                registry.refresh(&self.inner.store).await?;
                registry.latest(self.tenant(), name)
            }
            found => found,
        }
    }

    fn check_registers(&self) -> Result<()> {
        if self.tenant().is_default() {
            return Ok(());
        }
        let message = "graphs are registered for the default tenant only; put the document into the server's folder";
        Err(Error::new(Reason::NotSupported, message).with("feature", "register_graph"))
    }

    /// The graph of a target as nodes and edges; subgraphs are drawn out through so many levels.
    pub async fn draw(&self, target: &Target, depth: usize) -> Result<Drawing> {
        Ok(self.resolve_target(target).await?.1.graph.draw(depth))
    }

    /// What the graph of a target takes and gives.
    pub async fn schemas(&self, target: &Target) -> Result<Schemas> {
        Ok(self.resolve_target(target).await?.1.schemas.clone())
    }

    /// What the graphs inside the graph of a target take and give, by node; with `deep`, of all levels, by the nodes'
    /// names joined with `|`.
    pub async fn subgraph_schemas(&self, target: &Target, deep: bool) -> Result<BTreeMap<String, Schemas>> {
        Ok(Schemas::within(&self.resolve_target(target).await?.1.graph, deep))
    }
}

impl Core {
    /// Serves the documents of the watched folder as they are now: all of them, each by its file's name and text. One
    /// that cannot be loaded leaves served what was; one that is not there any more takes its graph with it. Returns what
    /// came of each, and of those that are gone.
    pub async fn reload_documents(&self, documents: Vec<(String, String)>) -> Result<Vec<Reloaded>> {
        self.inner.registry.reload(&self.inner.store, documents).await
    }

    /// Serves what other servers register.
    pub(crate) async fn keep_graphs(&self) {
        let mut hints = self.inner.store.watch(Topic::Graphs);
        loop {
            // A hint may be lost.
            drop(tokio::time::timeout(REFRESH, hints.changed()).await);
            if let Err(error) = self.inner.registry.refresh(&self.inner.store).await {
                tracing::warn!(%error, "cannot read which graphs are registered; trying again");
            }
        }
    }
}
