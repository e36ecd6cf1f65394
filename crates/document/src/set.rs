//! Documents that refer to each other, loaded together.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
    sync::Arc,
};

use runloom_engine::{Graph, graph::MAX_NESTED, model::ChatModel};
use runloom_models::{Allowed, ModelAccess};
use runloom_retrievers::{Retriever, VectorTables};
use runloom_tools::{HttpClient, McpServers};
use runloom_workers::Workers;

use crate::{
    document::Document,
    error::{Error, Problem},
    suggest::or_known,
    tree::on_large_stack,
    written::Written,
};

/// What the program brings along, for documents to use: graphs as subgraphs, models by name, what they may call outside.
#[derive(Clone, Default)]
pub struct Registry {
    pub(crate) graphs: BTreeMap<Arc<str>, Graph>,
    pub(crate) models: BTreeMap<Arc<str>, Arc<dyn ChatModel>>,
    pub(crate) http: HttpClient,
    pub(crate) mcp: Option<McpServers>,
    pub(crate) workers: Workers,
    registered: BTreeSet<Arc<str>>,
    allowed: Arc<[Allowed]>,
    pub(crate) retrievers: BTreeMap<Arc<str>, Retriever>,
    pub(crate) vectors: Option<Arc<dyn VectorTables>>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("graphs", &self.graphs.keys()).field("models", &self.models.keys()).finish()
    }
}

impl Registry {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// With a graph that documents may run as a subgraph, under its own name.
    #[must_use]
    pub fn graph(mut self, graph: Graph) -> Self {
        self.graphs.insert(graph.name().clone(), graph);
        self
    }

    /// With a model that documents may call. A model that a document declares itself stands above it.
    #[must_use]
    pub fn model(mut self, name: impl Into<Arc<str>>, model: Arc<dyn ChatModel>) -> Self {
        self.models.insert(name.into(), model);
        self
    }

    /// With who makes their calls over HTTP. Without it they go to the public internet only, and without secrets.
    #[must_use]
    pub fn http(mut self, client: HttpClient) -> Self {
        self.http = client;
        self
    }

    /// With a retriever that documents may ask. One that a document declares itself stands above it.
    #[must_use]
    pub fn retriever(mut self, name: impl Into<Arc<str>>, retriever: Retriever) -> Self {
        self.retrievers.insert(name.into(), retriever);
        self
    }

    /// With a database whose tables documents may search by vectors.
    #[must_use]
    pub fn vectors(mut self, tables: Arc<dyn VectorTables>) -> Self {
        self.vectors = Some(tables);
        self
    }

    /// With the MCP servers whose tools documents may call. Without it such tools are read, with a warning, and fail.
    #[must_use]
    pub fn mcp(mut self, servers: McpServers) -> Self {
        self.mcp = Some(servers);
        self
    }

    /// The workers that run nodes and tools of documents. Clones of the registry have the same.
    pub fn workers(&self) -> &Workers {
        &self.workers
    }

    /// With a document, by the name of its file, that a caller registered: its models may use the usual keys at their
    /// providers' own addresses, and what is [allowed](Self::allow_models) beside. Every other document is the operator's own.
    #[must_use]
    pub fn registered(mut self, file: impl Into<Arc<str>>) -> Self {
        self.registered.insert(file.into());
        self
    }

    /// With addresses that models of registered documents may name, and the keys that may go there.
    #[must_use]
    pub fn allow_models(mut self, allowed: Arc<[Allowed]>) -> Self {
        self.allowed = allowed;
        self
    }

    /// What a document may name.
    pub(crate) fn access(&self, file: &str) -> ModelAccess {
        if self.registered.contains(file) { ModelAccess::Caller(self.allowed.clone()) } else { ModelAccess::Operator }
    }
}

/// Loads one document. `file` is what its errors call it.
pub fn load(text: &str, file: &str, registry: &Registry) -> Result<Document, Error> {
    let set = DocumentSet::from_texts([(file, text)], registry)?;
    set.documents.into_values().next().ok_or_else(|| Error::Invalid(Vec::new()))
}

/// Documents by the names of their graphs.
#[derive(Clone, Debug, Default)]
pub struct DocumentSet {
    documents: BTreeMap<Arc<str>, Document>,
}

impl DocumentSet {
    /// Loads the documents of a folder: its `.yaml`, `.yml` and `.json` files. One that has a fault fails all.
    pub fn load_dir(path: impl AsRef<Path>, registry: &Registry) -> Result<Self, Error> {
        Self::from_texts(read_dir(path.as_ref())?, registry)
    }

    /// Loads what of a folder can be loaded; the faults of the rest are beside it.
    pub fn read_dir(path: impl AsRef<Path>, registry: &Registry) -> Result<(Self, Vec<Problem>), Error> {
        Ok(Self::read(read_dir(path.as_ref())?, registry))
    }

    /// Loads documents, each by its file's name and its text. One that has a fault fails all.
    pub fn from_texts(
        texts: impl IntoIterator<Item = (impl AsRef<str>, impl Into<String>)>,
        registry: &Registry,
    ) -> Result<Self, Error> {
        let (set, problems) = Self::read(texts, registry);
        if problems.is_empty() { Ok(set) } else { Err(Error::Invalid(problems)) }
    }

    /// Loads what can be loaded; the faults of the rest are beside it, in the order of files and lines.
    pub fn read(
        texts: impl IntoIterator<Item = (impl AsRef<str>, impl Into<String>)>,
        registry: &Registry,
    ) -> (Self, Vec<Problem>) {
        let texts: Vec<(Arc<str>, String)> = texts.into_iter().map(|(f, t)| (f.as_ref().into(), t.into())).collect();
        let first = texts.first().map(|(file, _)| file.clone());
        let loaded = on_large_stack(|| {
            let mut load = Load::new(registry);
            texts.into_iter().for_each(|(file, text)| load.add(file, text));
            load.finish()
        });
        loaded.unwrap_or_else(|| {
            let message = "the documents could not be read".to_owned();
            let problem =
                Problem { file: first.unwrap_or_default(), line: 0, column: 0, place: String::new(), message };
            (Self::default(), vec![problem])
        })
    }

    /// A document by its graph's name.
    pub fn get(&self, name: &str) -> Option<&Document> {
        self.documents.get(name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Document> {
        self.documents.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.documents.len()
    }

    /// True without any.
    pub fn is_empty(&self) -> bool {
        self.documents.is_empty()
    }
}

impl IntoIterator for DocumentSet {
    type Item = Document;
    type IntoIter = std::collections::btree_map::IntoValues<Arc<str>, Document>;

    fn into_iter(self) -> Self::IntoIter {
        self.documents.into_values()
    }
}

fn read_dir(path: &Path) -> Result<Vec<(String, String)>, Error> {
    let unreadable = |path: &Path, error: std::io::Error| Error::Unreadable {
        path: path.display().to_string(),
        message: error.to_string(),
    };
    let mut texts = Vec::new();
    for entry in std::fs::read_dir(path).map_err(|e| unreadable(path, e))? {
        let file = entry.map_err(|e| unreadable(path, e))?.path();
        let is_document = file.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json");
        let name = file.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        if !is_document || name.starts_with('.') || !file.is_file() {
            continue;
        }
        texts.push((name, std::fs::read_to_string(&file).map_err(|e| unreadable(&file, e))?));
    }
    texts.sort();
    Ok(texts)
}

/// A set on its way: documents as they are written, in the order of what they need.
struct Load<'r> {
    registry: &'r Registry,
    written: BTreeMap<Arc<str>, Written>,
    /// What may be run as a subgraph so far.
    graphs: BTreeMap<Arc<str>, Graph>,
    documents: BTreeMap<Arc<str>, Document>,
    problems: Vec<Problem>,
    /// Documents that have been looked at, whatever came of it, with how deep graphs run inside each.
    seen: BTreeMap<Arc<str>, usize>,
}

impl<'r> Load<'r> {
    fn new(registry: &'r Registry) -> Self {
        Self {
            registry,
            written: BTreeMap::new(),
            graphs: registry.graphs.clone(),
            documents: BTreeMap::new(),
            problems: Vec::new(),
            seen: BTreeMap::new(),
        }
    }

    fn add(&mut self, file: Arc<str>, text: String) {
        let (written, problems) = Written::read(file, text);
        let Some(written) = written else { return self.problems.extend(problems) };
        if !problems.is_empty() {
            self.problems.extend(problems);
            self.problems.extend(written.compile(&self.graphs, self.registry).err().unwrap_or_default());
            return;
        }
        if let Some(first) = self.written.get(&written.name) {
            let message = format!("graph `{}` is in {} already", written.name, first.file);
            self.problems.push(problem(&written, written.name_at, String::new(), message));
            return;
        }
        self.written.insert(written.name.clone(), written);
    }

    fn finish(mut self) -> (DocumentSet, Vec<Problem>) {
        let names: Vec<Arc<str>> = self.written.keys().cloned().collect();
        let written = std::mem::take(&mut self.written);
        for name in &names {
            self.visit(&written, name, &mut Vec::new());
        }
        self.problems.sort();
        self.problems.dedup();
        (DocumentSet { documents: self.documents }, self.problems)
    }

    /// Compiles a document after those it runs inside. `path` are the documents on the way here.
    fn visit(&mut self, written: &BTreeMap<Arc<str>, Written>, name: &Arc<str>, path: &mut Vec<Arc<str>>) {
        let Some(document) = written.get(name) else { return };
        if self.seen.contains_key(name) {
            return;
        }
        self.seen.insert(name.clone(), 0);
        path.push(name.clone());
        let (mut holds, mut depth) = (true, 0);
        for (inner, at, place) in document.references() {
            if let Some(start) = path.iter().position(|p| *p == inner) {
                let round: Vec<&str> = path[start..].iter().chain([&inner]).map(|n| &**n).collect();
                let message = format!("a graph cannot run inside itself: {}", round.join(" → "));
                self.problems.push(problem(document, at, place, message));
                holds = false;
                continue;
            }
            // Beyond the limit nothing is looked at from here; those further in are on their own.
            if path.len() <= MAX_NESTED {
                self.visit(written, &inner, path);
            }
            let within = match self.registry.graphs.get(&inner) {
                Some(graph) if !written.contains_key(&inner) => Some(graph.nested()),
                // One that was not looked at is beyond the limit.
                _ => written.contains_key(&inner).then(|| self.seen.get(&inner).copied().unwrap_or(MAX_NESTED)),
            };
            depth = depth.max(within.map_or(0, |levels| levels + 1));
            if within.is_some_and(|levels| levels >= MAX_NESTED) {
                let message = format!("graphs run inside each other deeper than {MAX_NESTED}");
                self.problems.push(problem(document, at, place, message));
                holds = false;
                continue;
            }
            if let Some(other) = written.get(&inner) {
                if !self.documents.contains_key(&inner) {
                    let message = format!("graph `{inner}` ({}) has faults of its own", other.file);
                    self.problems.push(problem(document, at, place, message));
                    holds = false;
                }
            } else if !self.registry.graphs.contains_key(&inner) {
                let known: BTreeSet<&str> =
                    written.keys().chain(self.registry.graphs.keys()).map(|n| &**n).filter(|n| *n != &**name).collect();
                let message = format!("there is no graph `{inner}`{}", or_known(&inner, known));
                self.problems.push(problem(document, at, place, message));
                holds = false;
            }
        }
        path.pop();
        self.seen.insert(name.clone(), depth);
        match document.compile(&self.graphs, self.registry) {
            Ok(compiled) if holds => {
                self.graphs.insert(name.clone(), compiled.graph.clone());
                self.documents.insert(name.clone(), compiled);
            }
            Ok(_) => {}
            Err(problems) => self.problems.extend(problems),
        }
    }
}

fn problem(document: &Written, at: crate::tree::At, place: String, message: String) -> Problem {
    Problem { file: document.file.clone(), line: at.line, column: at.column, place, message }
}
