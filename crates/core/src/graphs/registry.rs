//! The graphs that are served, by name, and their older revisions for the runs that keep them.

use std::{sync::Arc, time::Duration};

use parking_lot::RwLock;
use runloom_document::Document;
use runloom_engine::{Graph, Runtime};
use runloom_store::{AssistantId, RegisteredGraph, Store, TenantId};

use super::{
    documents::{Bundle, Given, Read, all, warning},
    served::{GraphSource, Served, is_visible},
    table::{Table, Texts},
};
use crate::{CoreOptions, Error, Reason, Result};

/// The name in the store of a folder's document, so that runs find its older revisions after a restart. No graph that
/// is registered can be called so.
pub(super) const FOLDER: &str = "folder:";

/// The graphs that are served.
pub(crate) struct Registry {
    pub(super) table: RwLock<Table>,
    /// Held by whoever changes what is served.
    pub(super) changing: tokio::sync::Mutex<()>,
    runtime: Runtime,
    /// What the program brings along for documents.
    pub(super) brought: runloom_document::Registry,
}

impl Registry {
    /// Loads the program's graphs, the folder's documents, and what was registered; and makes the default assistants.
    pub async fn load(options: &CoreOptions) -> Result<Self> {
        let store = &options.store;
        let runtime = Runtime {
            checkpointer: None,
            items: Some(store.items(&TenantId::default())),
            cache: Some(store.node_cache(&TenantId::default())),
            clock: options.clock.clone(),
            check_answer: Some(crate::graphs::check::check_answer),
        };
        let registry = Self {
            table: RwLock::default(),
            changing: tokio::sync::Mutex::default(),
            runtime,
            brought: options.brought.clone(),
        };
        let mut ready: Vec<Served> = Vec::new();
        for (name, graph) in &options.graphs {
            if ready.iter().any(|other| *other.name == **name) {
                return Err(taken(name, "the program", GraphSource::Program, "the program again"));
            }
            ready.push(registry.ready(name, graph, GraphSource::Program)?);
        }
        let mut given: Vec<Given> = options.documents.iter().map(|(file, text)| Given::folder(file, text)).collect();
        let mut kept = store.list_graphs(&TenantId::default()).await?;
        kept.retain(|graph| !graph.name.starts_with(FOLDER));
        given.extend(kept.iter().map(|graph| Given::registered(&graph.name, &Bundle::read(&graph.text).text)));

        let Read { good, mut faults } =
            Read::together(given, options.graphs.iter().map(|(_, graph)| graph.clone()).collect(), &registry.brought)
                .await?;
        for (document, given) in good {
            let name = &**document.name();
            if options.graphs.iter().any(|(program, _)| program == name) {
                return Err(taken(name, "the program", GraphSource::Program, &given.origin()));
            }
            if given.source == GraphSource::Folder && kept.iter().any(|graph| graph.name == name) {
                return Err(taken(name, &given.origin(), GraphSource::Folder, "a registration"));
            }
            match registry.ready_document(&document, &given) {
                Ok(served) => ready.push(served),
                Err(error) => drop(faults.insert(given.label, error)),
            }
        }
        let mut table = Table::default();
        for graph in &kept {
            if let Some(error) = faults.remove(&Given::registered(&graph.name, "").label) {
                tracing::error!(graph = graph.name, %error, "a registered graph cannot be loaded");
                table.broken.insert(graph.name.clone(), error);
            }
        }
        if let Some(error) = all(faults.into_values()) {
            return Err(error);
        }
        registry.serve(store, &mut table, ready).await?;
        registry.forget_defaults(store, &table).await?;
        *registry.table.write() = table;
        Ok(registry)
    }

    /// See [`crate::Core::workers`].
    pub fn workers(&self) -> &runloom_workers::Workers {
        self.brought.workers()
    }

    /// The latest revision of a graph that runs can be asked of. Hidden ones are not among them.
    pub fn latest(&self, tenant: &TenantId, name: &str) -> Result<Arc<Served>> {
        let table = self.table.read();
        match table.graphs.get(name).filter(|served| is_visible(tenant, served)) {
            Some(served) if !served.hidden => Ok(served.clone()),
            _ => Err(table.unknown(tenant, name, false)),
        }
    }

    /// The latest revision of a graph, be it hidden.
    pub fn any(&self, tenant: &TenantId, name: &str) -> Result<Arc<Served>> {
        let table = self.table.read();
        let found = table.graphs.get(name).filter(|served| is_visible(tenant, served)).cloned();
        found.ok_or_else(|| table.unknown(tenant, name, true))
    }

    /// The graph whose default assistant has this id.
    pub fn is_default(&self, tenant: &TenantId, id: AssistantId) -> Option<String> {
        let table = self.table.read();
        let name = table.defaults.get(&id)?;
        table.graphs.get(name).filter(|served| is_visible(tenant, served)).map(|_| name.clone())
    }

    /// A revision of a graph, also one that is not served any more. None where nobody knows it.
    ///
    /// A store that does not answer is asked again for some seconds: a run whose revision is not known ends.
    pub async fn revision(&self, name: &str, revision: &str, store: &Arc<dyn Store>) -> Option<Arc<Served>> {
        if let Some(served) = self.table.read().at(name, revision) {
            return Some(served);
        }
        let mut pause = Duration::from_millis(50);
        loop {
            match self.read_revision(name, revision, store).await {
                Ok(found) => {
                    let served = Arc::new(found?);
                    self.table.write().keep(served.clone());
                    return Some(served);
                }
                Err(error) if error.reason == Reason::StoreUnavailable && pause < Duration::from_secs(5) => {
                    tracing::warn!(graph = name, revision, %error, "cannot look for a revision; trying again");
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                Err(error) => {
                    tracing::error!(graph = name, revision, %error, "an older revision of a graph cannot be loaded");
                    return None;
                }
            }
        }
    }

    async fn read_revision(&self, name: &str, revision: &str, store: &Arc<dyn Store>) -> Result<Option<Served>> {
        for (key, source) in
            [(name.to_owned(), GraphSource::Registered), (format!("{FOLDER}{name}"), GraphSource::Folder)]
        {
            let kept = match store.get_graph(&TenantId::default(), &key, Some(revision)).await {
                Ok(kept) => kept,
                Err(runloom_store::Error::NotFound { .. }) => continue,
                Err(error) => return Err(error.into()),
            };
            let bundle = Bundle::read(&kept.text);
            let source_of = |n| if bundle.own.contains(n) { GraphSource::Folder } else { GraphSource::Registered };
            let used = bundle.within.iter();
            let mut given: Vec<Given> =
                used.map(|(n, text)| Given { source: source_of(n), ..Given::registered(n, text) }).collect();
            given.push(Given { source, ..Given::registered(name, &bundle.text) });
            // What it used then; and where that was not kept, what is served now.
            let graphs: Vec<Graph> = {
                let table = self.table.read();
                let others =
                    table.graphs.values().filter(|g| *g.name != *name && !bundle.within.contains_key(&*g.name));
                others.map(|g| g.graph.clone()).collect()
            };
            let Read { good, faults } = Read::together(given, graphs, &self.brought).await?;
            let Some((document, given)) = good.into_iter().find(|(document, _)| **document.name() == *name) else {
                return all(faults.into_values()).map_or(Ok(None), Err);
            };
            let mut served = self.ready_document(&document, &given)?;
            if *served.revision != *revision {
                tracing::warn!(graph = name, revision, now = %served.revision, "an older revision hashes otherwise now");
                served.revision = revision.into();
            }
            (served.file, served.created_at, served.updated_at) = (None, kept.created_at, kept.created_at);
            return Ok(Some(served));
        }
        Ok(None)
    }

    /// Makes a graph ready to be served.
    fn ready(&self, name: &str, graph: &Graph, source: GraphSource) -> Result<Served> {
        Served::new(name, graph.with_runtime(self.runtime.clone()), source, self.runtime.clock.now())
    }

    /// Makes a document ready to be served.
    pub(super) fn ready_document(&self, document: &Document, given: &Given) -> Result<Served> {
        let mut served = self.ready(document.name(), document.graph(), given.source)?;
        served.file = given.file();
        served.hidden = document.is_hidden();
        served.warnings = document.warnings().iter().map(warning).collect();
        served.text = Some(given.text.as_str().into());
        served.uses = document.subgraphs().to_vec();
        Ok(served)
    }

    /// Serves graphs from a table: their documents are kept under their revisions, and their default assistants made.
    pub(super) async fn serve(&self, store: &Arc<dyn Store>, table: &mut Table, ready: Vec<Served>) -> Result<()> {
        let mut texts = table.texts();
        ready.iter().for_each(|served| texts.add(served));
        for mut served in ready {
            self.keep(store, &texts, &mut served).await?;
            table.serve(Arc::new(served));
        }
        Ok(())
    }

    async fn keep(&self, store: &Arc<dyn Store>, texts: &Texts, served: &mut Served) -> Result<()> {
        if let Some(bundle) = texts.bundle(&served.name) {
            let key = match served.source {
                GraphSource::Folder => format!("{FOLDER}{}", served.name),
                _ => served.name.to_string(),
            };
            served.updated_at = put_latest(store, &key, &served.revision, &bundle).await?.created_at;
        }
        served.created_at = served.created_at.min(served.updated_at);
        if served.hidden {
            return self.drop_default(store, &served.name).await;
        }
        match self.default_of(store, &TenantId::default(), &served.name).await {
            Ok(assistant) => served.created_at = assistant.created_at,
            Err(error) if error.reason == Reason::AssistantExists => {
                tracing::error!(graph = %served.name, %error, "a graph has no default assistant");
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Puts a revision in the store, unless it is the latest there.
async fn put_latest(store: &Arc<dyn Store>, key: &str, revision: &str, text: &str) -> Result<RegisteredGraph> {
    match store.get_graph(&TenantId::default(), key, None).await {
        Ok(latest) if latest.revision == revision && latest.text == text => Ok(latest),
        Ok(_) | Err(runloom_store::Error::NotFound { .. }) => {
            Ok(store.put_graph(&TenantId::default(), key, revision, text).await?)
        }
        Err(error) => Err(error.into()),
    }
}

/// A name that two sources claim.
pub(super) fn taken(name: &str, holder: &str, source: GraphSource, other: &str) -> Error {
    let message = format!(
        "graph `{name}` comes from {holder}, and from {other}: a name has one source. Give one of them another name, or \
         take it away"
    );
    let mut error = Error::new(Reason::GraphNameTaken, message).with("graph", name).with("source", source);
    error.fields.push(("name".to_owned(), format!("`{name}` is the name of a graph from {holder}")));
    error
}
