//! Reading `retrievers`, and who asks them: the `retrieve` action, the `retriever` of a tool.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::{BoxFuture, FutureExt, ready};
use runloom_engine::{
    Value,
    retriever::{Document, Embeddings, RetrieveError, Search, VectorIndex},
    value,
};
use runloom_models::{ModelAccess, ProviderEmbeddings};
use runloom_retrievers::{DEFAULT_K, Distance, EmbeddedIndex, HashedEmbeddings, MAX_K, Retriever, VectorTable};

use super::{
    Fields, Reader,
    given::{Scope, Sees},
};
use crate::{
    run::Retrieve,
    set::Registry,
    suggest::or_known,
    tree::{At, Data, Tree},
};

/// The dimensions that vectors may have: as many as Postgres takes.
const MAX_DIMENSIONS: u64 = 16_000;

/// What is said where no database was named.
const NO_DATABASE: &str = "no database of vectors is known here: --pgvector postgres://… names one";

/// What a table is where no database was named.
struct NoDatabase;

impl VectorIndex for NoDatabase {
    fn search(&self, _: Search) -> BoxFuture<'static, Result<Vec<Document>, RetrieveError>> {
        ready(Err(RetrieveError::lasting(NO_DATABASE))).boxed()
    }
}

impl Reader<'_> {
    /// The retrievers, by name.
    pub fn retrievers(&mut self, tree: &Tree, registry: &Registry) -> BTreeMap<Arc<str>, Retriever> {
        let access = registry.access(self.file);
        let mut retrievers = BTreeMap::new();
        for (key, retriever) in self.entries(tree) {
            let read =
                self.within(format!("retriever `{}`", key.name), |r| r.one_retriever(retriever, registry, &access));
            // One that cannot be read is known all the same, so that what refers to it is no fault too.
            let read = read.unwrap_or_else(|| {
                let embeddings: Arc<dyn Embeddings> = Arc::new(HashedEmbeddings::default());
                let index = Arc::new(EmbeddedIndex::new(Vec::new(), embeddings.clone()));
                Retriever { embeddings, index, k: DEFAULT_K }
            });
            retrievers.insert(key.name.clone(), read);
        }
        retrievers
    }

    fn one_retriever(&mut self, tree: &Tree, registry: &Registry, access: &ModelAccess) -> Option<Retriever> {
        let fields = self.fields(tree, &["embeddings", "index", "k"]);
        let embeddings = match fields.get("embeddings") {
            Some(tree) => self.within("embeddings", |r| r.embeddings(tree, access)),
            None => {
                self.fault(tree.at, "a retriever needs `embeddings`: `{hash: {}}` needs no key");
                None
            }
        };
        let index = match fields.get("index") {
            Some(tree) => self.within("index", |r| r.index(tree, embeddings.clone(), registry)),
            None => {
                self.fault(
                    tree.at,
                    "a retriever needs an `index`: `{embedded: {documents: […]}}` or `{pgvector: {table}}`",
                );
                None
            }
        };
        let k = self.field(&fields, "k", |r, t| r.k(t)).unwrap_or(DEFAULT_K);
        Some(Retriever { embeddings: embeddings?, index: index?, k })
    }

    fn k(&mut self, tree: &Tree) -> Option<usize> {
        let k = self.integer(tree, 1)?;
        match usize::try_from(k) {
            Ok(k) if k <= MAX_K => Some(k),
            _ => {
                self.fault(tree.at, format!("at most {MAX_K} documents may be asked for, not {k}"));
                None
            }
        }
    }

    fn embeddings(&mut self, tree: &Tree, access: &ModelAccess) -> Option<Arc<dyn Embeddings>> {
        if tree.get("provider").is_some() {
            return self.provider_embeddings(tree, access).map(|made| Arc::new(made) as Arc<dyn Embeddings>);
        }
        let fields = self.fields(tree, &["hash"]);
        let Some(hash) = fields.raw("hash") else {
            self.fault(tree.at, "embeddings are `{hash: {dimensions}}`, or `{provider, model}`");
            return None;
        };
        if hash.is_null() {
            return Some(Arc::new(HashedEmbeddings::default()));
        }
        let fields = self.fields(hash, &["dimensions"]);
        let dimensions = self.dimensions(&fields);
        Some(Arc::new(dimensions.map_or_else(HashedEmbeddings::default, HashedEmbeddings::new)))
    }

    fn dimensions(&mut self, fields: &Fields<'_>) -> Option<usize> {
        self.field(fields, "dimensions", |r, t| {
            let dimensions = r.integer(t, 1)?;
            if dimensions > MAX_DIMENSIONS {
                r.fault(t.at, format!("vectors have at most {MAX_DIMENSIONS} dimensions, not {dimensions}"));
                return None;
            }
            usize::try_from(dimensions).ok()
        })
    }

    /// Embeddings of a provider, as far as whoever wrote the document may name it.
    fn provider_embeddings(&mut self, tree: &Tree, access: &ModelAccess) -> Option<ProviderEmbeddings> {
        let known =
            ["provider", "model", "dimensions", "base_url", "api_key_env", "api_key_file", "max_retries", "timeout_ms"];
        let faults = self.problems.len();
        let fields = self.fields(tree, &known);
        let mut config = self.provider_place(&fields)?;
        if let Some(ms) = self.field(&fields, "timeout_ms", |r, t| r.integer(t, 1)) {
            config.waits.first_token = Duration::from_millis(ms);
        }
        if let Some(tries) = self.field(&fields, "max_retries", Self::tries) {
            config.max_retries = tries;
        }
        let dimensions = self.dimensions(&fields);
        if let Err((field, why)) = access.check(&config) {
            self.within(field, |r| r.fault(fields.place(field), why));
        }
        if self.problems.len() > faults {
            return None;
        }
        ProviderEmbeddings::new(config, dimensions)
            .map_err(|error| self.fault(fields.place("provider"), error.to_string()))
            .ok()
    }

    fn index(
        &mut self,
        tree: &Tree,
        embeddings: Option<Arc<dyn Embeddings>>,
        registry: &Registry,
    ) -> Option<Arc<dyn VectorIndex>> {
        let fields = self.fields(tree, &["embedded", "pgvector"]);
        match (fields.get("embedded"), fields.get("pgvector")) {
            (Some(embedded), None) => self.within("embedded", |r| {
                let fields = r.fields(embedded, &["documents"]);
                let documents = match fields.get("documents").map(|d| (d, &d.data)) {
                    Some((_, Data::List(items))) => items
                        .iter()
                        .enumerate()
                        .filter_map(|(i, item)| r.within(format!("document {}", i + 1), |r| r.kept_document(item)))
                        .collect(),
                    _ => {
                        r.fault(fields.place("documents"), "an embedded index needs `documents`, a list");
                        return None;
                    }
                };
                Some(Arc::new(EmbeddedIndex::new(documents, embeddings?)) as Arc<dyn VectorIndex>)
            }),
            (None, Some(table)) => self.within("pgvector", |r| {
                let described = r.vector_table(table)?;
                match &registry.vectors {
                    Some(tables) => Some(tables.table(described)),
                    None => {
                        r.warn(table.at, format!("{NO_DATABASE}; a search fails"));
                        Some(Arc::new(NoDatabase) as Arc<dyn VectorIndex>)
                    }
                }
            }),
            _ => {
                self.fault(tree.at, "an index is one of `embedded` and `pgvector`");
                None
            }
        }
    }

    /// A document that is found later: a text, or `{id, page_content, metadata}`.
    fn kept_document(&mut self, tree: &Tree) -> Option<Document> {
        if let Some(text) = tree.as_text() {
            return Some(Document { page_content: text.to_string(), ..Document::default() });
        }
        let fields = self.fields(tree, &["id", "page_content", "metadata"]);
        let id = fields.get("id").and_then(|id| self.text(id)).map(ToString::to_string);
        let metadata = match fields.get("metadata").map(|m| (m, m.to_value())) {
            None => Default::default(),
            Some((_, Value::Object(metadata))) => metadata,
            Some((tree, other)) => {
                self.fault(tree.at, format!("`metadata` is a map, not {}", other.kind()));
                return None;
            }
        };
        let Some(content) = fields.get("page_content") else {
            self.fault(tree.at, "a document needs a `page_content`");
            return None;
        };
        let page_content = self.text(content)?.to_string();
        Some(Document { id, page_content, metadata })
    }

    fn vector_table(&mut self, tree: &Tree) -> Option<VectorTable> {
        let columns = ["id", "content", "metadata", "embedding"];
        let fields = self.fields(tree, &["table", "id", "content", "metadata", "embedding", "distance"]);
        let Some(name) = fields.get("table") else {
            self.fault(tree.at, "`pgvector` needs a `table`");
            return None;
        };
        let mut table = VectorTable::new(&**self.text(name)?);
        let is_name = |text: &str| !text.is_empty() && text.len() <= 63 && !text.contains(['\0', '"']);
        if table.table.split('.').count() > 2 || !table.table.split('.').all(is_name) {
            self.fault(name.at, format!("`{}` is no name of a table", table.table));
        }
        for column in columns {
            let Some(tree) = fields.get(column) else { continue };
            let text = self.text(tree)?.to_string();
            if !is_name(&text) {
                self.fault(tree.at, format!("`{text}` is no name of a column"));
            }
            match column {
                "id" => table.id = text,
                "content" => table.content = text,
                "metadata" => table.metadata = text,
                _ => table.embedding = text,
            }
        }
        if let Some(tree) = fields.get("distance") {
            let known = ["cosine", "euclidean", "inner_product"];
            table.distance = match &**self.text(tree)? {
                "cosine" => Distance::Cosine,
                "euclidean" => Distance::Euclidean,
                "inner_product" => Distance::InnerProduct,
                other => {
                    self.fault(tree.at, format!("there is no distance `{other}`{}", or_known(other, known)));
                    return None;
                }
            };
        }
        Some(table)
    }

    /// A retriever that is declared.
    pub(super) fn named_retriever(&mut self, name: &Arc<str>, at: At, scope: &Scope<'_>) -> Option<Retriever> {
        self.known("retriever", name, at, scope.retrievers.keys());
        scope.retrievers.get(name).cloned()
    }

    /// The `retrieve` action, but for what it binds.
    pub(super) fn retrieve(&mut self, tree: &Tree, scope: &Scope<'_>, sees: Sees<'_>) -> Option<Retrieve> {
        let fields = self.fields(tree, &["retriever", "query", "k", "filter", "write", "as"]);
        let given =
            |r: &mut Self, name: &str| fields.get(name).map(|tree| r.within(name, |r| r.given(tree, scope, sees)));
        let (query, filter, k) = (given(self, "query"), given(self, "filter"), given(self, "k"));
        let write = fields.get("write").and_then(|tree| {
            let channel = self.text(tree)?.clone();
            self.known("channel", &channel, tree.at, scope.channels.iter().map(|c| &c.name)).then_some(channel)
        });
        let Some(name) = fields.get("retriever") else {
            self.fault(tree.at, "`retrieve` needs a `retriever`, one of the document's `retrievers`");
            return None;
        };
        if query.is_none() {
            self.fault(tree.at, "`retrieve` needs a `query`: what is looked for");
        }
        let text = self.text(name)?.clone();
        let retriever = self.named_retriever(&text, name.at, scope)?;
        Some(Retrieve { name: text, retriever, query: query?, k, filter, write })
    }
}

/// What a tool that asks a retriever takes, where it does not say.
pub(super) fn parameters() -> Value {
    value!({
        "type": "object",
        "properties": {"query": {"type": "string", "description": "What to look for"}},
        "required": ["query"],
    })
}
