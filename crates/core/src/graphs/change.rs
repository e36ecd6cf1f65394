//! What changes while the server runs: graphs registered and deleted over the API, documents of a watched folder.

use std::{collections::BTreeMap, sync::Arc};

use runloom_engine::Graph;
use runloom_store::{
    AssistantFilter, AssistantSort, Direction, PageRequest, RegisteredGraph, RunFilter, RunStatus, Store, TenantId,
};

use super::{
    documents::{Bundle, DOCUMENT, Given, Read, all},
    registry::{FOLDER, Registry, taken},
    served::{GraphInfo, GraphSource, Served, default_assistant_id},
    table::Table,
};
use crate::{Error, Reason, Result};

/// A graph that was registered.
#[derive(Clone, Debug, PartialEq)]
pub struct Registration {
    /// The graph, with what is odd in it.
    pub graph: GraphInfo,
    /// Whether anything changed: false where this revision was there already, and where it was only to be checked.
    pub changed: bool,
}

/// What came of a document of the folder.
#[derive(Clone, Debug, PartialEq)]
pub struct Reloaded {
    /// The file.
    pub file: String,
    /// The graph that is served under its name now; none where there is none.
    pub graph: Option<GraphInfo>,
    /// Whether another revision is served than before.
    pub changed: bool,
    /// Why the document could not be loaded, where it could not: what was served before still is.
    pub error: Option<Error>,
}

impl Registry {
    /// Registers a document, or a new revision of one; or only checks it.
    pub async fn register(&self, store: &Arc<dyn Store>, text: &str, check_only: bool) -> Result<Registration> {
        let _turn = self.changing.lock().await;
        let mut table = self.table.read().clone();
        let given = Given { label: DOCUMENT.to_owned(), ..Given::registered("", text) };
        let Read { mut good, faults } =
            Read::together(vec![given.clone()], graphs_but(&table, &[]), &self.brought).await?;
        let Some((document, _)) = good.pop() else {
            let none = || Error::new(Reason::GraphInvalid, "the document holds no graph");
            return Err(all(faults.into_values()).unwrap_or_else(none));
        };
        let name = document.name().clone();
        if let Some(held) = table.graphs.get(&*name).filter(|held| held.source != GraphSource::Registered) {
            return Err(taken(&name, &held.origin(), held.source, "this registration"));
        }
        let users = table.users(&name);
        let mut ready = vec![self.ready_document(&document, &given)?];
        if !users.is_empty() {
            ready = self.with_users(&table, given, &name, &users).await?;
        }
        let changed = table.graphs.get(&*name).is_none_or(|held| held.revision != ready[0].revision);
        if !check_only {
            self.serve(store, &mut table, ready).await?;
            *self.table.write() = table.clone();
        } else {
            table.serve(Arc::new(ready.swap_remove(0)));
        }
        let graph = table.graphs.get(&*name).map(|served| served.info());
        let graph = graph.ok_or_else(|| Error::new(Reason::Internal, format!("graph `{name}` was lost")))?;
        Ok(Registration { graph, changed: changed && !check_only })
    }

    /// A new document and all that use it, which have to take it.
    async fn with_users(&self, table: &Table, new: Given, name: &str, users: &[Arc<str>]) -> Result<Vec<Served>> {
        let mut given = vec![new];
        for user in users.iter().filter_map(|user| table.graphs.get(&**user)) {
            if let Some(again) = given_again(user) {
                given.push(again);
            }
        }
        let Read { good, mut faults } = Read::together(given, graphs_but(table, users), &self.brought).await?;
        if let Some(error) = faults.remove(DOCUMENT) {
            // What it says of the others is said by their own faults.
            return Err(all([error].into_iter().chain(faults.into_values()))
                .unwrap_or_else(|| Error::new(Reason::GraphInvalid, format!("graph `{name}` cannot be loaded"))));
        }
        if let Some(mut error) = all(faults.into_values()) {
            error.message = format!("graph `{name}` is used by graphs that would not load with it: {}", error.message);
            return Err(error.with("graph", name));
        }
        let mut ready = Vec::new();
        for (document, given) in good {
            ready.push(self.ready_document(&document, &given)?);
        }
        ready.sort_by_key(|served| *served.name != *name);
        Ok(ready)
    }

    /// Deletes a registered graph with its revisions and its default assistant.
    pub async fn delete(&self, store: &Arc<dyn Store>, name: &str) -> Result<()> {
        let _turn = self.changing.lock().await;
        let mut table = self.table.read().clone();
        match table.graphs.get(name) {
            None if table.broken.contains_key(name) => {}
            None => return Err(table.unknown(&TenantId::default(), name, true)),
            Some(served) if served.source == GraphSource::Registered => {}
            Some(served) => {
                let how = match &served.file {
                    Some(file) => format!("comes from the folder; remove its file, {file}"),
                    None => "is built into the program, and goes with a build without it".to_owned(),
                };
                return Err(Error::new(Reason::GraphNotRegistered, format!("graph `{name}` {how}"))
                    .with("graph", name)
                    .with("source", served.source));
            }
        }
        self.check_unused(store, &table, name).await?;
        match store.delete_graph(&TenantId::default(), name).await {
            Ok(()) | Err(runloom_store::Error::NotFound { .. }) => {}
            // A run was made meanwhile.
            Err(runloom_store::Error::InUse { by, .. }) => {
                return Err(in_use(name, &by).with("runs", by.trim_start_matches("run ")));
            }
            Err(error) => return Err(error.into()),
        }
        match store.delete_assistant(&TenantId::default(), default_assistant_id(name)).await {
            Ok(()) | Err(runloom_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        table.remove(name);
        *self.table.write() = table;
        Ok(())
    }

    /// Refuses where runs that are not over, assistants beside the default one, or other graphs use a graph.
    async fn check_unused(&self, store: &Arc<dyn Store>, table: &Table, name: &str) -> Result<()> {
        let (mut by, mut error) = (Vec::new(), Error::new(Reason::GraphInUse, ""));
        let filter =
            RunFilter { graph: Some(name.to_owned()), status: RunStatus::UNFINISHED.to_vec(), ..RunFilter::default() };
        let runs = store.list_runs(&TenantId::default(), filter, Direction::Ascending, PageRequest::first(10)).await?;
        if !runs.items.is_empty() {
            let ids: Vec<String> = runs.items.iter().map(|run| run.id.to_string()).collect();
            by.push(format!("runs that are not over ({})", ids.join(", ")));
            error = error.with("runs", ids.join(","));
        }
        let filter = AssistantFilter { graph: Some(name.to_owned()), ..AssistantFilter::default() };
        let sort = (AssistantSort::Created, Direction::Ascending);
        let assistants =
            store.list_assistants(&TenantId::default(), filter, sort, PageRequest::first(11)).await?.items.into_iter();
        let ids = assistants.filter(|a| a.id != default_assistant_id(name)).take(10).map(|a| a.id.to_string());
        let ids: Vec<String> = ids.collect();
        if !ids.is_empty() {
            by.push(format!("assistants ({})", ids.join(", ")));
            error = error.with("assistants", ids.join(","));
        }
        let users = table.users(name);
        if !users.is_empty() {
            by.push(format!("graphs that run it inside ({})", users.join(", ")));
            error = error.with("graphs", users.join(","));
        }
        if by.is_empty() {
            return Ok(());
        }
        error.message = in_use(name, &by.join(" and ")).message;
        Err(error.with("graph", name))
    }

    /// Serves what is registered now, by whichever server.
    pub async fn refresh(&self, store: &Arc<dyn Store>) -> Result<()> {
        let _turn = self.changing.lock().await;
        let mut table = self.table.read().clone();
        let mut stored = store.list_graphs(&TenantId::default()).await?;
        stored.retain(|graph| !graph.name.starts_with(FOLDER));
        let is_served = |graph: &RegisteredGraph| match table.graphs.get(&graph.name) {
            // A name that the folder or the program has is theirs here.
            Some(served) => served.source != GraphSource::Registered || *served.revision == *graph.revision,
            None => table.broken.contains_key(&graph.name),
        };
        let is_gone = |served: &&Arc<Served>| {
            served.source == GraphSource::Registered && stored.iter().all(|graph| *graph.name != *served.name)
        };
        let gone: Vec<Arc<str>> = table.graphs.values().filter(is_gone).map(|served| served.name.clone()).collect();
        if gone.is_empty() && stored.iter().all(is_served) {
            return Ok(());
        }
        let fresh: Vec<&RegisteredGraph> = stored.iter().filter(|graph| !is_served(graph)).collect();
        let is_fresh = |name: &str| fresh.iter().any(|graph| graph.name == name);
        let documents = table.graphs.values().filter(|g| g.source != GraphSource::Program && !is_fresh(&g.name));
        let mut given: Vec<Given> =
            documents.filter(|g| !gone.contains(&g.name)).filter_map(|served| given_again(served)).collect();
        given.extend(fresh.iter().map(|graph| Given::registered(&graph.name, &Bundle::read(&graph.text).text)));
        let Read { good, faults } = Read::together(given, table.program(), &self.brought).await?;
        for (label, error) in &faults {
            tracing::error!(document = label, %error, "a graph that another server registered does not load here");
        }
        let mut ready = Vec::new();
        for (document, given) in good.iter().filter(|(document, _)| is_fresh(document.name())) {
            ready.push(self.ready_document(document, given)?);
        }
        ready.into_iter().for_each(|served| table.serve(Arc::new(served)));
        gone.iter().for_each(|name| table.remove(name));
        *self.table.write() = table;
        Ok(())
    }

    /// Serves the documents of a folder as they are now: all of them, each by its file's name and text. One that cannot
    /// be loaded leaves served what was, and one that is not there any more takes its graph with it.
    pub async fn reload(&self, store: &Arc<dyn Store>, documents: Vec<(String, String)>) -> Result<Vec<Reloaded>> {
        let _turn = self.changing.lock().await;
        let mut table = self.table.read().clone();
        let registered = table.graphs.values().filter(|g| g.source == GraphSource::Registered);
        let registered: Vec<Given> = registered.filter_map(|served| given_again(served)).collect();
        let mut folder: Vec<Given> = documents.iter().map(|(file, text)| Given::folder(file, text)).collect();
        let mut errors: BTreeMap<String, Error> = BTreeMap::new();
        let good = loop {
            let given: Vec<Given> = folder.iter().chain(&registered).cloned().collect();
            let Read { good, faults } = Read::together(given, table.program(), &self.brought).await?;
            // A document that takes another source's name is left out, and all is read again as if it were not there.
            let claims: BTreeMap<String, Error> = good
                .iter()
                .filter(|(_, given)| given.source == GraphSource::Folder)
                .filter_map(|(document, given)| {
                    let held = table.graphs.get(&**document.name()).filter(|h| h.source != GraphSource::Folder)?;
                    Some((given.label.clone(), taken(document.name(), &held.origin(), held.source, &given.origin())))
                })
                .collect();
            if claims.is_empty() {
                errors.extend(faults);
                break good;
            }
            folder.retain(|given| !claims.contains_key(&given.label));
            errors.extend(claims);
        };

        let (mut ready, mut changed, mut loaded) = (Vec::new(), Vec::new(), Vec::new());
        for (document, given) in good {
            loaded.push(document.name().clone());
            let before = table.graphs.get(&**document.name());
            let is_same = |b: &Arc<Served>| b.text.as_deref() == Some(&*given.text) && b.file == given.file();
            if before.is_some_and(|b| b.revision == *document.revision() && is_same(b)) {
                continue;
            }
            match self.ready_document(&document, &given) {
                Ok(served) => {
                    if before.is_none_or(|before| before.revision != served.revision) {
                        changed.push(served.name.clone());
                    }
                    ready.push(served);
                }
                Err(error) => drop(errors.insert(given.label, error)),
            }
        }
        let is_broken = |file: Option<&str>| file.is_some_and(|file| errors.contains_key(file));
        let is_gone = |graph: &&Arc<Served>| {
            let is_there = loaded.contains(&graph.name) || is_broken(graph.file.as_deref());
            graph.source == GraphSource::Folder && !is_there
        };
        let gone: Vec<Arc<Served>> = table.graphs.values().filter(is_gone).cloned().collect();
        self.serve(store, &mut table, ready).await?;
        for graph in &gone {
            table.remove(&graph.name);
            self.drop_default(store, &graph.name).await?;
        }
        *self.table.write() = table.clone();
        for (label, error) in errors.iter().filter(|(label, _)| documents.iter().all(|(file, _)| file != *label)) {
            tracing::error!(document = label, %error, "a registered graph would not load now; it is served as it was");
        }
        let served = |file: &str| table.graphs.values().find(|graph| graph.file.as_deref() == Some(file));
        let mut outcomes: Vec<Reloaded> = documents
            .into_iter()
            .map(|(file, _)| {
                let graph = served(&file);
                Reloaded {
                    changed: graph.is_some_and(|graph| changed.contains(&graph.name)),
                    graph: graph.map(|graph| graph.info()),
                    error: errors.remove(&file),
                    file,
                }
            })
            .collect();
        outcomes.extend(gone.iter().filter_map(|graph| {
            let file = graph.file.as_ref()?.to_string();
            Some(Reloaded { file, graph: None, changed: true, error: None })
        }));
        Ok(outcomes)
    }
}

/// The document of a graph that is served, to be read again.
fn given_again(served: &Served) -> Option<Given> {
    let text = served.text.as_ref()?;
    Some(match &served.file {
        Some(file) => Given::folder(file, text),
        None => Given::registered(&served.name, text),
    })
}

/// All graphs that are served, but for these.
fn graphs_but(table: &Table, names: &[Arc<str>]) -> Vec<Graph> {
    table.graphs.values().filter(|graph| !names.contains(&graph.name)).map(|graph| graph.graph.clone()).collect()
}

fn in_use(name: &str, by: &str) -> Error {
    let message = format!("graph `{name}` is in use by {by}; end or delete those first");
    Error::new(Reason::GraphInUse, message).with("graph", name)
}
