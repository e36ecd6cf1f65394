//! Assistants: made, read, changed, listed, in versions; the default one of each graph; and what a run takes of one.

use std::sync::Arc;

use runloom_engine::{Object, Value};
use runloom_store::{
    Assistant, AssistantFilter, AssistantId, AssistantSort, AssistantUpdate, Direction, IfExists, NewAssistant, Page,
    PageRequest, Thread,
};

use crate::{
    Error, Reason, Result, Session,
    graphs::{Served, default_assistant_id},
    runs::{RunRequest, RunSpec, Target},
    threads::replacing,
};

impl Session {
    /// Makes an assistant, at version 1. Its context has to fit its graph; an empty one is none.
    pub async fn create_assistant(&self, mut new: NewAssistant) -> Result<Assistant> {
        if let (Some(id), IfExists::Keep) = (new.id, new.if_exists)
            && let Ok(known) = self.get_assistant(id).await
        {
            return Ok(known);
        }
        let served = self.inner.registry.latest(self.tenant(), &new.graph)?;
        self.check_sizes(&new.config, &new.context, &new.metadata)?;
        check_config(&new.config)?;
        new.context = assistant_context(&served, &new.context)?;
        if new.name.trim().is_empty() {
            new.name = "Untitled".to_owned();
        }
        // The default assistant of this id may not have been made yet.
        if let Some(id) = new.id
            && self.inner.registry.is_default(self.tenant(), id).is_some()
        {
            self.get_assistant(id).await?;
        }
        Ok(self.inner.store.create_assistant(self.tenant(), new).await?)
    }

    /// An assistant, in its latest version. The default one of a graph is always there.
    pub async fn get_assistant(&self, id: AssistantId) -> Result<Assistant> {
        match (
            self.inner.store.get_assistant(self.tenant(), id).await,
            self.inner.registry.is_default(self.tenant(), id),
        ) {
            (Err(runloom_store::Error::NotFound { .. }), Some(graph)) => self
                .inner
                .registry
                .default_of(&self.inner.store, self.tenant(), &graph)
                .await
                .map(|made| self.described(made)),
            (found, _) => Ok(self.described(found?)),
        }
    }

    /// A default assistant that nobody has described is described by its graph, as the graph is now.
    fn described(&self, mut assistant: Assistant) -> Assistant {
        let is_plain = assistant.description.is_none() && assistant.id == default_assistant_id(&assistant.graph);
        if is_plain && let Ok(served) = self.inner.registry.latest(self.tenant(), &assistant.graph) {
            assistant.description = Some(served.graph.description().to_owned()).filter(|text| !text.is_empty());
        }
        assistant
    }

    /// Makes a version after the highest, and makes it the latest. Metadata is merged; a null takes a key away.
    pub async fn update_assistant(&self, id: AssistantId, mut update: AssistantUpdate) -> Result<Assistant> {
        let old = self.get_assistant(id).await?;
        let graph = update.graph.as_ref().unwrap_or(&old.graph);
        if *graph != old.graph && id == default_assistant_id(&old.graph) {
            let what = format!(
                "assistant {id} is the default one of graph `{}`, and stays with it; make another assistant for graph \
                 `{graph}`",
                old.graph
            );
            return Err(Error::field("graph", what).with("assistant_id", id));
        }
        let served = self.inner.registry.latest(self.tenant(), graph)?;
        let (config, context) = (update.config.clone().unwrap_or_default(), update.context.clone().unwrap_or_default());
        self.check_sizes(&config, &context, &update.metadata.clone().unwrap_or_default())?;
        check_config(&config)?;
        if update.context.is_some() {
            update.context = Some(assistant_context(&served, &context)?);
        } else if update.graph.is_some() {
            assistant_context(&served, &old.context)?;
        }
        if update.name.as_ref().is_some_and(|name| name.trim().is_empty()) {
            update.name = Some("Untitled".to_owned());
        }
        Ok(self.described(self.inner.store.update_assistant(self.tenant(), id, update).await?))
    }

    /// The same, but the metadata given, if any, is put in place of the assistant's.
    pub async fn replace_assistant(&self, id: AssistantId, mut update: AssistantUpdate) -> Result<Assistant> {
        if let Some(metadata) = update.metadata.take() {
            update.metadata = Some(replacing(&self.get_assistant(id).await?.metadata, metadata));
        }
        self.update_assistant(id, update).await
    }

    /// Deletes an assistant with its versions. Its runs and threads stay. A graph's default one is not deleted.
    pub async fn delete_assistant(&self, id: AssistantId) -> Result<()> {
        if let Some(graph) = self.inner.registry.is_default(self.tenant(), id) {
            let message = format!(
                "assistant {id} is the default one of graph `{graph}`, and lives as long as the graph; update it, or set \
                 its version 1 as the latest to have it as it was"
            );
            return Err(Error::new(Reason::AssistantIsDefault, message).with("assistant_id", id).with("graph", graph));
        }
        Ok(self.inner.store.delete_assistant(self.tenant(), id).await?)
    }

    /// Assistants by filter, each in its latest version, a page at a time.
    pub async fn list_assistants(
        &self,
        filter: AssistantFilter,
        sort: (AssistantSort, Direction),
        page: PageRequest,
    ) -> Result<Page<Assistant>> {
        let found = self.inner.store.list_assistants(self.tenant(), filter, sort, page).await?;
        Ok(Page { items: found.items.into_iter().map(|a| self.described(a)).collect(), ..found })
    }

    /// How many assistants a filter holds for.
    pub async fn count_assistants(&self, filter: AssistantFilter) -> Result<u64> {
        Ok(self.inner.store.count_assistants(self.tenant(), filter).await?)
    }

    /// The versions of an assistant, the highest first, of those whose metadata contains this.
    pub async fn list_assistant_versions(
        &self,
        id: AssistantId,
        metadata: Object,
        page: PageRequest,
    ) -> Result<Page<Assistant>> {
        self.get_assistant(id).await?;
        let found = self.inner.store.list_versions(self.tenant(), id, metadata, page).await?;
        Ok(Page { items: found.items.into_iter().map(|a| self.described(a)).collect(), ..found })
    }

    /// Makes a version the latest, whole: name, config, context and metadata.
    pub async fn set_latest_assistant(&self, id: AssistantId, version: u32) -> Result<Assistant> {
        self.get_assistant(id).await?;
        match self.inner.store.set_latest(self.tenant(), id, version).await {
            Err(runloom_store::Error::NotFound { what: runloom_store::What::Version, .. }) => {
                let versions =
                    self.inner.store.list_versions(self.tenant(), id, Object::default(), PageRequest::first(1)).await?;
                let highest = versions.items.first().map_or(1, |v| v.version);
                let message = format!("assistant {id} has no version {version}; it has versions 1 to {highest}");
                Err(Error::new(Reason::AssistantVersionNotFound, message)
                    .with("assistant_id", id)
                    .with("version", version))
            }
            done => Ok(self.described(done?)),
        }
    }

    /// What a run's target names: the assistant and its graph.
    pub(crate) async fn resolve_target(&self, target: &Target) -> Result<(Assistant, Arc<Served>)> {
        match target {
            Target::Graph(name) if name.is_empty() => {
                Err(Error::field("target", "name a graph, or give the id of an assistant"))
            }
            Target::Graph(name) => {
                let served = self.latest_graph(name).await?;
                Ok((self.inner.registry.default_of(&self.inner.store, self.tenant(), name).await?, served))
            }
            Target::Assistant(id) => {
                let assistant = self.get_assistant(*id).await?;
                let served = self.inner.registry.latest(self.tenant(), &assistant.graph).map_err(|mut error| {
                    error.message = format!("assistant {id} runs a graph that is not there: {}", error.message);
                    error.with("assistant_id", id)
                })?;
                Ok((assistant, served))
            }
        }
    }

    /// What a run is really to go by: its own settings laid over its assistant's, and its metadata over its thread's
    /// and its assistant's. The context is checked against the graph.
    pub(crate) fn effective(
        &self,
        request: &RunRequest,
        thread: Option<&Thread>,
        assistant: &Assistant,
    ) -> Result<RunSpec> {
        let mut spec = request.spec.clone();
        let served = self.inner.registry.latest(self.tenant(), &assistant.graph)?;
        let context = if spec.options.context.is_null() { &assistant.context } else { &spec.options.context };
        spec.options.context = served.check_context(context)?;
        let config = Config::of(&assistant.config)?;
        if spec.options.recursion_limit == 0 {
            spec.options.recursion_limit = config.recursion_limit;
        }
        if spec.options.max_concurrency == 0 {
            spec.options.max_concurrency = config.max_concurrency;
        }
        let own = std::mem::replace(&mut spec.options.tags, config.tags);
        for tag in own {
            if !spec.options.tags.contains(&tag) {
                spec.options.tags.push(tag);
            }
        }
        let own = std::mem::replace(&mut spec.options.configurable, config.configurable);
        own.iter().for_each(|(key, value)| spec.options.configurable.insert(key.clone(), value.clone()));
        let none = Object::default();
        let of_thread = thread.map_or(&none, |thread| &thread.metadata);
        spec.options.metadata = merged([&assistant.metadata, of_thread, &spec.options.metadata]);
        spec.options.metadata.insert("graph_id", assistant.graph.as_str());
        spec.options.metadata.insert("assistant_id", assistant.id.to_string());
        self.check_sizes(&spec.options.configurable, &spec.options.context, &spec.options.metadata)?;
        self.check_size("command", &Value::Object(spec.notes.all().clone()))?;
        Ok(spec)
    }

    fn check_sizes(&self, config: &Object, context: &Value, metadata: &Object) -> Result<()> {
        self.check_size("config", &Value::Object(config.clone()))?;
        self.check_size("context", context)?;
        self.check_size("metadata", &Value::Object(metadata.clone()))
    }
}

/// An assistant's context, checked; an empty one is none, and is not held to what the graph requires.
fn assistant_context(served: &Served, context: &Value) -> Result<Value> {
    match context {
        Value::Null => Ok(Value::object()),
        Value::Object(fields) if fields.is_empty() => Ok(Value::object()),
        given => served.check_context(given),
    }
}

/// What an assistant's config says, in the form that LangGraph gives it.
#[derive(Debug, Default)]
struct Config {
    recursion_limit: u32,
    max_concurrency: u32,
    tags: Vec<String>,
    configurable: Object,
}

impl Config {
    /// Reads it. All that is wrong is in the error.
    fn of(config: &Object) -> Result<Self> {
        let mut faults: Vec<(String, String)> = Vec::new();
        let mut fault = |key: &str, needs: &str, found: &Value| {
            faults.push((format!("config.{key}"), format!("it is {needs}, not {}", found.kind())));
        };
        let mut read = Self::default();
        for (key, into) in
            [("recursion_limit", &mut read.recursion_limit), ("max_concurrency", &mut read.max_concurrency)]
        {
            match config.get(key) {
                None | Some(Value::Null) => {}
                Some(value) => match whole(value).and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0) {
                    Some(n) => *into = n,
                    None => fault(key, "an integer from 1", value),
                },
            }
        }
        match config.get("tags") {
            None | Some(Value::Null) => {}
            Some(Value::List(tags)) if tags.iter().all(|tag| tag.as_str().is_some()) => {
                read.tags = tags.iter().filter_map(Value::as_str).map(str::to_owned).collect();
            }
            Some(other) => fault("tags", "a list of texts", other),
        }
        match config.get("configurable") {
            None | Some(Value::Null) => {}
            Some(Value::Object(fields)) => read.configurable = fields.clone(),
            Some(other) => fault("configurable", "an object", other),
        }
        let Some((path, what)) = faults.first() else { return Ok(read) };
        let mut error = Error::new(Reason::FieldInvalid, format!("{path}: {what}"));
        error.fields = faults;
        Err(error)
    }
}

fn check_config(config: &Object) -> Result<()> {
    Config::of(config).map(drop)
}

/// A whole number, also one that came as a double.
fn whole(value: &Value) -> Option<u64> {
    match value {
        Value::Float(f) if f.fract() == 0.0 && (0.0..9e15).contains(f) => Some(*f as u64),
        other => other.as_u64(),
    }
}

/// Metadata laid over each other, key by key, the last on top; a null takes a key away.
fn merged<const N: usize>(layers: [&Object; N]) -> Object {
    let mut all = Object::default();
    for (key, value) in layers.into_iter().flat_map(Object::iter) {
        if value.is_null() {
            all.remove(key);
        } else {
            all.insert(key.clone(), value.clone());
        }
    }
    all
}
